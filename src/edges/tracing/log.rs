//! What policies do, as log lines.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::vocabulary::{
    clock::{Clock, Timestamp},
    event::{Event, Observer, PolicyKind, What},
    rejected::{Rejected, RejectedKind},
    state::State,
};

/// Logs what policies do, under the target `buttress`, at levels that do not flood.
///
/// | level | what |
/// |---|---|
/// | error | new settings were wrong, and are not taken |
/// | warn | a circuit breaker opened, or was forced open; a stack is gone from the settings; there is no place for more keys |
/// | info | other transitions, new settings, emptied windows, and how many calls open breakers and full bulkheads refused |
/// | debug | each rejection, retry and call that was given up |
///
/// So a breaker that refuses 10 000 calls a second logs its transitions, one line for all that it refused every ten
/// seconds, and one when it stops.
///
/// ```
/// use std::sync::Arc;
///
/// use buttress::{CircuitBreaker, TracingObserver};
///
/// let breaker = CircuitBreaker::with_defaults("payments")?;
/// breaker.observe(Arc::new(TracingObserver::new()));
/// # Ok::<(), buttress::ConfigError>(())
/// ```
pub struct TracingObserver {
    every: Duration,
    clock: Clock,
    refused: Mutex<HashMap<Place, Refused>>,
}

type Place = (PolicyKind, Arc<str>);

/// Calls that were refused and not told of so far.
struct Refused {
    calls: u64,
    since: Timestamp,
}

impl Default for TracingObserver {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            clock: Clock::tokio(),
            refused: Mutex::default(),
        }
    }
}

impl TracingObserver {
    /// One that tells every ten seconds how many calls were refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells how many calls a policy refused at most that often. Default: 10 s.
    #[must_use]
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Reads the time from this clock. Default: Tokio's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Counts a refusal. What there is to tell when it is time for that.
    fn count(&self, event: &Event) -> Option<(u64, Duration)> {
        let now = self.clock.now();
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (event.policy, Arc::clone(&event.name));
        let refused = all.entry(place).or_insert(Refused { calls: 0, since: now });
        refused.calls += 1;
        let over = now.since(refused.since);
        if over < self.every {
            return None;
        }
        let told = (refused.calls, over);
        *refused = Refused { calls: 0, since: now };
        Some(told)
    }

    /// What was counted since it was told last. Nothing is kept of that policy then.
    fn take(&self, event: &Event) -> Option<(u64, Duration)> {
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = all.remove(&(event.policy, Arc::clone(&event.name)))?;
        (refused.calls > 0).then(|| (refused.calls, self.clock.now().since(refused.since)))
    }

    fn rejected(&self, event: &Event, rejected: &Rejected) {
        let (policy, name) = (event.policy, &*event.name);
        let reason = rejected.reason();
        tracing::debug!(target: "buttress", %policy, name, %reason, "call rejected");
        let refuses = matches!(
            rejected.kind(),
            RejectedKind::CircuitOpen | RejectedKind::BulkheadFull
        );
        if refuses && let Some(told) = self.count(event) {
            tell(event, told);
        }
    }

    fn transition(&self, event: &Event, from: State, to: State, why: Option<impl fmt::Display>) {
        let (policy, name) = (event.policy, &*event.name);
        let cause = why.map(|cause| cause.to_string()).unwrap_or_default();
        match to {
            State::Open | State::ForcedOpen => {
                tracing::warn!(target: "buttress", %policy, name, %from, %to, cause, "circuit breaker opened");
            }
            _ => {
                tracing::info!(target: "buttress", %policy, name, %from, %to, "circuit breaker changed state");
            }
        }
        if matches!(to, State::Closed | State::Disabled | State::MetricsOnly)
            && let Some(told) = self.take(event)
        {
            tell(event, told);
        }
    }
}

fn tell(event: &Event, (calls, over): (u64, Duration)) {
    let (policy, name) = (event.policy, &*event.name);
    let seconds = over.as_secs_f64().round();
    tracing::info!(
        target: "buttress", %policy, name, calls, seconds,
        "{calls} calls refused in the last {seconds} s"
    );
}

impl Observer for TracingObserver {
    fn on_event(&self, event: &Event) {
        let (policy, name) = (event.policy, &*event.name);
        match &event.what {
            What::Transition { from, to, cause } => self.transition(event, *from, *to, *cause),
            What::Rejected(rejected) => self.rejected(event, rejected),
            What::ReloadFailed { errors } => {
                tracing::error!(target: "buttress", %errors, "settings are wrong and not taken");
            }
            What::Reloaded { generation } => {
                tracing::info!(target: "buttress", generation, "settings taken");
            }
            What::Orphaned => {
                tracing::warn!(target: "buttress", name, "stack is gone from the settings and goes on");
            }
            What::Restacked => tracing::info!(target: "buttress", name, "stack has other stages"),
            What::WindowEmptied => tracing::info!(target: "buttress", %policy, name, "window emptied"),
            What::KeysFull { max_keys } => {
                tracing::warn!(target: "buttress", %policy, name, max_keys, "no place for more keys");
            }
            What::KeyForgotten => {
                self.take(event);
                tracing::debug!(target: "buttress", %policy, name, "key forgotten");
            }
            What::Reconfigured => tracing::debug!(target: "buttress", %policy, name, "settings changed"),
            What::Retrying {
                attempt,
                after,
                failure,
            } => {
                let reason = &**failure;
                tracing::debug!(
                    target: "buttress", %policy, name, attempt, ?after, reason, "attempt failed, retrying"
                );
            }
            What::Recovered { attempts } => {
                tracing::debug!(target: "buttress", %policy, name, attempts, "saved by a retry");
            }
            What::GaveUp { attempts, why } => {
                let why = why.word();
                tracing::debug!(target: "buttress", %policy, name, attempts, why, "gave up");
            }
            What::Answered { hidden, .. } => {
                tracing::debug!(target: "buttress", %policy, name, ?hidden, "fallback answered");
            }
            What::Queued => tracing::trace!(target: "buttress", %policy, name, "call waits for a slot"),
            What::Abandoned(why) => {
                tracing::trace!(target: "buttress", %policy, name, ?why, "call abandoned");
            }
            What::Commanded { command, by, ttl } => {
                let (who, why) = (&*by.label, &*by.reason);
                tracing::warn!(target: "buttress", %policy, name, ?command, who, why, ?ttl, "commanded");
            }
            What::OverrideEnded { command, by, end } => {
                let who = &*by.label;
                tracing::info!(target: "buttress", %policy, name, ?command, who, ?end, "command is over");
            }
            // One for each call: a log is no place for it. Rejections are counted above.
            What::Recorded { .. } | What::Rejections { .. } => {}
        }
    }
}

impl fmt::Debug for TracingObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracingObserver")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}
