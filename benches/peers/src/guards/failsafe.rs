//! failsafe: a breaker that trips on consecutive failures or on the success rate of the last while, around futures.

use std::task::{Context, Poll};

use ::failsafe::{
    Any, Config, Error, FailurePolicy, Instrument, StateMachine, backoff, failure_policy,
    futures::{CircuitBreaker, ResponseFuture},
};
use tower::Service;

use super::HOUR;

/// A service whose futures it guards.
#[derive(Clone)]
pub(crate) struct Failsafe<S, B> {
    inner: S,
    breaker: B,
}

impl<S, B> Service<u64> for Failsafe<S, B>
where
    S: Service<u64>,
    B: CircuitBreaker,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future, B::FailurePolicy, B::Instrument, Any>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        self.breaker.call(self.inner.call(request))
    }
}

/// The default: a time window of 30 s, or five failures in a row.
pub(crate) fn breaker<S>(inner: S) -> Failsafe<S, impl CircuitBreaker + Clone + Send + 'static + use<S>> {
    Failsafe {
        inner,
        breaker: Config::new().build(),
    }
}

/// Opens at the first failure, for long.
pub(crate) fn fragile<S>(
    inner: S,
) -> Failsafe<
    S,
    StateMachine<impl FailurePolicy + Send + Sync + use<S>, impl Instrument + Send + Sync + use<S>>,
> {
    let policy = failure_policy::consecutive_failures(1, backoff::constant(HOUR));
    Failsafe {
        inner,
        breaker: Config::new().failure_policy(policy).build(),
    }
}
