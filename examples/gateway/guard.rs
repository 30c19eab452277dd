//! The policies that hold the gateway up, at both of its ends.
//!
//! Before the router stands one layer with a stack of its own, which answers its rejections as responses; around the
//! HTTP client stands another stack, of which the handler in `proxy.rs` gets rejections as errors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use buttress::{
    Backoff, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, Event, PolicyKind, Predicate, RetryConfig,
    Stack, State, TimeoutConfig, What,
    axum::PolicyLayer,
    http::{HttpExchange, ReplayBodies},
};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};

/// A service that forwards a request to the upstream, guarded or not.
pub(crate) type Forward = BoxCloneSyncService<Request, Response, BoxError>;

/// The name of the policies around the client, in errors and events.
const UPSTREAM: &str = "upstream";

/// The name of those before the router.
const GATEWAY: &str = "gateway";

/// Twice what the slow upstream needs, twenty times what the healthy one does. No retry begins later either: after
/// an attempt that hung another would hang as well.
const ATTEMPT: Duration = Duration::from_millis(500);

/// For a call through the gateway, whatever happens in it.
const CALL: Duration = Duration::from_secs(1);

/// A body that stands still for so long is cut off. Unlike a limit for the whole of it that lets large ones pass.
const BODY_IDLE: Duration = Duration::from_secs(5);

/// The longest that the circuit breaker lets a recovered upstream wait for its probes.
pub(crate) const LONGEST_OPEN: Duration = Duration::from_millis(500);

/// What stands between the gateway and its upstream.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Option<Policies>);

#[derive(Clone, Debug)]
struct Policies {
    layer: PolicyLayer,
    stack: Stack,
    exchange: HttpExchange,
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

impl Guard {
    /// Nothing: calls pass as they are.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Both stacks. [`describe`](Self::describe) says the same in words.
    pub(crate) fn stack() -> Result<Self, BoxError> {
        let retry = RetryConfig::new()
            .max_attempts(3)
            .max_elapsed(ATTEMPT)
            .backoff(Backoff::exponential(
                Duration::from_millis(25),
                2.0,
                Duration::from_millis(100),
            ))
            .build(UPSTREAM)?;
        let breaker = CircuitBreakerConfig::new()
            .count_window(50)
            .minimum_calls(20)
            .failure_rate(0.5)
            .open_wait(Duration::from_millis(250))
            .open_growth(2.0, LONGEST_OPEN)
            .probes(3)
            .build(UPSTREAM)?;
        let timeout = TimeoutConfig::new(ATTEMPT).build(UPSTREAM)?;
        let bulkhead = BulkheadConfig::new(16).build(UPSTREAM)?;

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
        let exchange = HttpExchange::client()
            // A plain 500 is not retried by default, as it often follows from the request. Here it tells the health.
            .retry_statuses("408, 425, 429, 500, 502..504".parse()?)
            .never_connected(Predicate::error_if(Error::is_connect))
            .idle_limit(BODY_IDLE)?;
        let before = Stack::builder()
            .timeout(TimeoutConfig::new(CALL).build(GATEWAY)?)
            .bulkhead(BulkheadConfig::new(64).build(GATEWAY)?)
            .build()?;
        Ok(Self(Some(Policies {
            layer: PolicyLayer::new(before),
            stack,
            exchange,
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
            "timeout: 1 s for a call through the gateway, retries and waits included",
            "bulkhead: 64 calls in the gateway at a time",
            "retry: up to 3 attempts, where the method may be repeated, none begun later than 500 ms after\n    \
             the call; in all, at most as many retries as 20 % of the calls and 3 a second",
            "circuit breaker: opens when half of the last 50 attempts failed (an error, a timeout, a\n    \
             429, a 5xx but 501); after 250 ms, and then every 500 ms, 3 probes decide whether it closes again",
            "timeout: 500 ms for each attempt up to its head; a body may stand still for 5 s",
            "bulkhead: 16 attempts at a time; what comes on top is refused at once",
        ]
    }

    /// `router` behind the gateway's own policies, if it has any.
    pub(crate) fn before(&self, router: Router) -> Router {
        match &self.0 {
            None => router,
            Some(policies) => router.layer(policies.layer.clone()),
        }
    }

    /// `client` behind the policies for the upstream, if there are any.
    pub(crate) fn around<S>(&self, client: S) -> Forward
    where
        S: Service<Request, Response = Response<Incoming>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let client = ServiceBuilder::new().map_err(S::Error::into).service(client);
        match &self.0 {
            None => BoxCloneSyncService::new(
                ServiceBuilder::new()
                    .map_response(|answer: Response<_>| answer.map(Body::new))
                    .service(client),
            ),
            Some(Policies { stack, exchange, .. }) => BoxCloneSyncService::new(
                ServiceBuilder::new()
                    .map_response(|answer: Response<_>| answer.map(Body::new))
                    .layer(
                        stack
                            .clone()
                            .prepare(ReplayBodies::new().wrapped(Body::new))
                            .exchange(exchange.clone()),
                    )
                    .service(client),
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
