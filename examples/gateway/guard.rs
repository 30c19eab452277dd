//! The stack that holds the gateway up: retry, circuit breaker, timeout and bulkhead, outermost first.
//!
//! The only module of the gateway that knows the library.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use buttress::{
    Advice, Backoff, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, Event, Exchange, Held, Outcome,
    Policy, PolicyKind, RejectedKind, RetryConfig, Stack, State, TimeoutConfig, What, find_rejected,
};
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};

use crate::message::{Answer, Outgoing};

/// A service that forwards a request to the upstream, guarded or not.
pub(crate) type Forward = BoxCloneSyncService<Outgoing, Answer, BoxError>;

/// The policies' name, in errors and events.
const NAME: &str = "upstream";

/// Twice what the slow upstream needs, twenty times what the healthy one does. No retry begins later either: after
/// an attempt that hung another would hang as well.
const ATTEMPT: Duration = Duration::from_millis(500);

/// The longest that the circuit breaker lets a recovered upstream wait for its probes.
pub(crate) const LONGEST_OPEN: Duration = Duration::from_millis(500);

/// What stands between the gateway and its upstream.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Option<Policies>);

#[derive(Clone, Debug)]
struct Policies {
    stack: Stack,
    breaker: CircuitBreaker,
    counts: Arc<Counts>,
}

/// What events add up to. What is the case now, snapshots tell.
#[derive(Debug, Default)]
struct Counts {
    retries: AtomicU64,
    saved: AtomicU64,
    cut_off: AtomicU64,
    openings: AtomicU64,
}

impl Counts {
    fn count(&self, event: &Event) {
        let counter = match (event.policy, &event.what) {
            (_, What::Retrying { .. }) => &self.retries,
            (_, What::Recovered { .. }) => &self.saved,
            (PolicyKind::Timeout, What::Rejected(_)) => &self.cut_off,
            (_, What::Transition { to: State::Open, .. }) => &self.openings,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the stack reports of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readings {
    /// Retries decided on; the circuit breaker may still refuse one.
    pub(crate) retries: u64,
    /// Calls that failed at first and succeeded when they were retried.
    pub(crate) saved: u64,
    /// Attempts that the timeout cut off.
    pub(crate) cut_off: u64,
    /// How often the circuit breaker opened, also after probes that failed.
    pub(crate) openings: u64,
}

/// An answer of the gateway's own, for a call that the stack rejected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) retry_after: Option<Duration>,
}

impl Guard {
    /// Nothing: calls pass as they are.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// The stack of four. [`describe`](Self::describe) says the same in words.
    pub(crate) fn stack() -> Result<Self, BoxError> {
        let retry = RetryConfig::new()
            .max_attempts(3)
            .max_elapsed(ATTEMPT)
            .backoff(Backoff::exponential(
                Duration::from_millis(25),
                2.0,
                Duration::from_millis(100),
            ))
            .build(NAME)?;
        let breaker = CircuitBreakerConfig::new()
            .count_window(50)
            .minimum_calls(20)
            .failure_rate(0.5)
            .open_wait(Duration::from_millis(250))
            .open_growth(2.0, LONGEST_OPEN)
            .probes(3)
            .build(NAME)?;
        let timeout = TimeoutConfig::new(ATTEMPT).build(NAME)?;
        let bulkhead = BulkheadConfig::new(16).build(NAME)?;

        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        let observer = Arc::new(move |event: &Event| counting.count(event));
        retry.observe(observer.clone());
        breaker.observe(observer.clone());
        timeout.observe(observer);

        let stack = Stack::builder()
            .retry(retry)
            .circuit_breaker(breaker.clone())
            .timeout(timeout)
            .bulkhead(bulkhead)
            .build()?;
        Ok(Self(Some(Policies {
            stack,
            breaker,
            counts,
        })))
    }

    /// The policies in words, outermost first.
    pub(crate) const fn describe(&self) -> &'static [&'static str] {
        if self.0.is_none() {
            return &[];
        }
        &[
            "retry: up to 3 attempts, where the method may be repeated, none begun later than 500 ms after\n    \
             the call; in all, at most as many retries as 20 % of the calls and 3 a second",
            "circuit breaker: opens when half of the last 50 attempts failed (an error, a 5xx or a\n    \
             timeout); after 250 ms, and then every 500 ms, 3 probes decide whether it closes again",
            "timeout: 500 ms for each attempt",
            "bulkhead: 16 attempts at a time; what comes on top is refused at once",
        ]
    }

    /// `inner` behind the guard.
    pub(crate) fn wrap<S>(&self, inner: S) -> Forward
    where
        S: Service<Outgoing, Response = Answer, Error = BoxError, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        match &self.0 {
            None => BoxCloneSyncService::new(inner),
            Some(policies) => BoxCloneSyncService::new(
                ServiceBuilder::new()
                    .layer(policies.stack.clone().exchange(Http))
                    .service(inner),
            ),
        }
    }

    /// The circuit breaker's state, in a word.
    pub(crate) fn breaker(&self) -> &'static str {
        match self.0.as_ref().map(|policies| policies.breaker.snapshot().state) {
            None => "-",
            Some(State::Closed) => "closed",
            Some(State::Open) => "open",
            Some(State::HalfOpen) => "half-open",
            // Only a command leads there, and this program gives none.
            Some(_) => "commanded",
        }
    }

    /// Why the circuit breaker is open, if it is.
    pub(crate) fn why_open(&self) -> Option<String> {
        let shown = self.0.as_ref()?.breaker.snapshot();
        let (cause, until) = (shown.cause?, shown.until?);
        let then = if until.is_zero() {
            "the next calls are probes".to_owned()
        } else {
            format!("probes again in {} ms", until.as_millis())
        };
        Some(format!("{cause}; {then}"))
    }

    pub(crate) fn readings(&self) -> Readings {
        let Some(Policies { counts, .. }) = &self.0 else {
            return Readings::default();
        };
        Readings {
            retries: counts.retries.load(Ordering::Relaxed),
            saved: counts.saved.load(Ordering::Relaxed),
            cut_off: counts.cut_off.load(Ordering::Relaxed),
            openings: counts.openings.load(Ordering::Relaxed),
        }
    }
}

/// What a request and its answer mean to the policies: a 5xx is a failure, although the client gets it as it is,
/// and only a request that may be repeated (RFC 9110, section 9.2.2) is retried.
#[derive(Clone, Copy, Debug)]
struct Http;

impl Exchange<Outgoing, Answer, BoxError> for Http {
    /// Whether the request may be repeated.
    type Facts = bool;
    type Response<P: Policy> = Answer;

    fn facts(&self, request: &Outgoing) -> bool {
        request.method.is_idempotent()
    }

    fn judge<'a>(&self, repeatable: &bool, result: Result<&'a Answer, &'a BoxError>) -> Outcome<'a> {
        let outcome = match result {
            Ok(answer) if answer.status().is_server_error() => {
                let advice = retry_after(answer.headers()).map_or(Advice::Retry, Advice::RetryAfter);
                Outcome::failure().with_advice(advice)
            }
            Ok(_) => Outcome::success(),
            Err(error) => Outcome::of_error(error),
        };
        let status = result.map(|answer| answer.status().as_u16());
        status
            .map_or(outcome, |status| outcome.with_status(status))
            .with_repeatable(*repeatable)
    }

    fn give<P: Policy>(&self, _: &bool, response: Answer) -> Answer {
        response
    }

    fn carry<P: Policy>(&self, repeatable: &bool, response: Answer, held: Held<P>) -> Answer {
        // Not asked for: every verdict is final at the head.
        held.settle(&self.judge(repeatable, Ok(&response)));
        response
    }
}

/// When the upstream wants to be asked again. The form with a date is not understood.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What to answer when `error` is a rejection by the stack; `None` for any other error.
pub(crate) fn refusal(error: &BoxError) -> Option<Refusal> {
    let rejected = find_rejected(&**error)?;
    let (status, kind) = match rejected.kind() {
        RejectedKind::CircuitOpen => (StatusCode::SERVICE_UNAVAILABLE, "circuit-open"),
        RejectedKind::BulkheadFull => (StatusCode::SERVICE_UNAVAILABLE, "bulkhead-full"),
        RejectedKind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "timed-out"),
        // The gateway's own fault, and not the upstream's.
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "not-ready"),
    };
    Some(Refusal {
        status,
        kind,
        retry_after: rejected.retry_after(),
    })
}
