//! What time makes due, and nobody asks for.

use std::{
    collections::HashMap,
    future::Future,
    mem,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::{task::JoinHandle, time::MissedTickBehavior};

use super::{Registry, stack::Policies};
use crate::{
    drivers::stack::AnyPolicy,
    vocabulary::{clock::Timestamp, event::What, rejected::Reason, state::State},
};

/// How often time is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// When rejections that go on are told again, for each policy: first, and from then on.
const TELLS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// What is remembered from one look to the next.
pub(super) struct House {
    /// When rejections were last counted.
    looked: Timestamp,
    /// Rejections so far, by the names of the policies that have any, those of keys too.
    rejected: HashMap<Arc<str>, u64>,
    /// By the names of stages.
    untold: HashMap<Arc<str>, Untold>,
}

/// Rejections of a stage that are not told yet.
struct Untold {
    count: u64,
    since: Timestamp,
    /// When some were last told, and how long to wait from there.
    told: Option<(Timestamp, Duration)>,
}

impl Registry {
    /// Does once what [housekeeping](Self::housekeeping) does every second.
    pub fn tick(&self) {
        let policies = self.in_use();
        for policy in &policies {
            if let AnyPolicy::CircuitBreaker(breaker) = &policy.of_calls
                && matches!(breaker.state(), State::Open | State::HalfOpen)
            {
                breaker.tick();
            }
        }
        let now = self.0.clock.now();
        self.end_overrides(now);
        self.tell_rejections(&policies, now);
    }

    /// Does every second what time makes due, until the last handle on the registry is gone:
    ///
    /// - makes the transitions that are due by time: out of a half-open that overstayed, and out of open where the
    ///   circuit breaker is set to go half-open by itself;
    /// - ends what commands with a [time to live](Self::command) brought about;
    /// - tells [`What::Rejections`] for policies that refused or cut off calls: at once for the first, after ten seconds
    ///   and then every minute while it goes on. Of a keyed stack it is told for all keys together.
    ///
    /// It keeps no registry alive. Where more than one does it, each thing is still done once.
    ///
    /// ```no_run
    /// # async fn serve() {}
    /// # async fn run(registry: buttress::Registry) {
    /// tokio::select! {
    ///     () = registry.housekeeping() => {}
    ///     () = serve() => {}
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time.
    pub fn housekeeping(&self) -> impl Future<Output = ()> + Send + 'static {
        let registry = Arc::downgrade(&self.0);
        async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match Weak::upgrade(&registry) {
                    Some(shared) => Self(shared).tick(),
                    None => return,
                }
            }
        }
    }

    /// Lets a task of its own do the [housekeeping](Self::housekeeping).
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, as [`tokio::spawn`] does.
    pub fn spawn_housekeeping(&self) -> JoinHandle<()> {
        tokio::spawn(self.housekeeping())
    }

    /// All policies that calls may be using.
    fn in_use(&self) -> Vec<InUse> {
        let state = self.state();
        let mut all = Vec::new();
        for named in state.stacks.values() {
            match named.policies() {
                Policies::One(stages) => all.extend(stages.list().iter().map(|stage| InUse {
                    stage: stage.policy.clone(),
                    of_calls: stage.policy.clone(),
                })),
                Policies::Keyed(keyed) => {
                    let each = keyed.each().newest();
                    for (_, stages) in keyed.all_entries() {
                        let stages = stages.newest();
                        // Stage for stage they are the same.
                        let pairs = each.list().iter().zip(stages.list());
                        all.extend(pairs.map(|(stage, of_calls)| InUse {
                            stage: stage.policy.clone(),
                            of_calls: of_calls.policy.clone(),
                        }));
                    }
                }
            }
        }
        all
    }

    fn tell_rejections(&self, policies: &[InUse], now: Timestamp) {
        let due: Vec<(&AnyPolicy, What)> = {
            let mut house = self.0.house.lock().unwrap_or_else(PoisonError::into_inner);
            house.count(policies, now);
            policies
                .iter()
                .filter_map(|policy| house.due(policy, now))
                .collect()
        };
        // Without the lock: observers are told.
        for (stage, what) in due {
            stage.tell_observers(what);
        }
    }
}

/// A policy in use, and the one that stands for it in its stack: another one where there is one for each key.
struct InUse {
    stage: AnyPolicy,
    of_calls: AnyPolicy,
}

impl House {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            looked: now,
            rejected: HashMap::new(),
            untold: HashMap::new(),
        }
    }

    fn count(&mut self, policies: &[InUse], now: Timestamp) {
        let before = mem::take(&mut self.rejected);
        let since = mem::replace(&mut self.looked, now);
        for InUse { stage, of_calls } in policies {
            let rejected = rejected_by(of_calls);
            if rejected == 0 {
                continue;
            }
            // One that counts from the beginning again is another one under that name.
            let known = before.get(of_calls.name()).copied().unwrap_or(0);
            let more = rejected.checked_sub(known).unwrap_or(rejected);
            self.rejected.insert(Arc::clone(of_calls.name()), rejected);
            if more > 0 {
                let untold = self.untold.entry(Arc::clone(stage.name())).or_insert(Untold {
                    count: 0,
                    since,
                    told: None,
                });
                if untold.count == 0 {
                    untold.since = since;
                }
                untold.count += more;
            }
        }
    }

    /// What to tell of the stage of that policy now.
    fn due<'a>(&mut self, policy: &'a InUse, now: Timestamp) -> Option<(&'a AnyPolicy, What)> {
        let untold = self.untold.get_mut(policy.stage.name())?;
        if untold.count == 0 {
            return None;
        }
        let [first, later] = TELLS;
        let wait = match untold.told {
            // A look that comes a little early is the one that is meant.
            Some((told, wait)) if now.since(told) + EVERY / 2 < wait => return None,
            // They go on.
            Some((told, wait)) if now.since(told) < wait * 2 => later,
            _ => first,
        };
        untold.told = Some((now, wait));
        let what = What::Rejections {
            count: mem::take(&mut untold.count),
            over: now.since(untold.since),
            reason: reason_of(&policy.of_calls),
        };
        Some((&policy.stage, what))
    }
}

/// Calls that it refused or cut off since it was built.
fn rejected_by(policy: &AnyPolicy) -> u64 {
    match policy {
        AnyPolicy::CircuitBreaker(policy) => policy.rejected(),
        AnyPolicy::Bulkhead(policy) => policy.snapshot().rejected,
        AnyPolicy::Timeout(policy) => policy.snapshot().timed_out,
        AnyPolicy::Retry(_) | AnyPolicy::Fallback(_) => 0,
    }
}

/// Why it does so now.
fn reason_of(policy: &AnyPolicy) -> Option<Reason> {
    match policy {
        AnyPolicy::CircuitBreaker(policy) => policy.refuses_because(),
        AnyPolicy::Bulkhead(policy) => {
            let now = policy.snapshot();
            (now.in_flight >= now.limit).then_some(Reason::Full { limit: now.limit })
        }
        AnyPolicy::Timeout(policy) => Some(Reason::TimedOut {
            limit: policy.limit(),
        }),
        AnyPolicy::Retry(_) | AnyPolicy::Fallback(_) => None,
    }
}
