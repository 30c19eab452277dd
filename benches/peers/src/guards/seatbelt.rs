//! seatbelt, through Tower. Its breaker has a time window only, and it has no bulkhead.

use std::time::Duration;

use ::seatbelt::{
    RecoveryInfo, ResilienceContext,
    breaker::{Breaker, BreakerLayer},
    retry::Retry,
    timeout::Timeout,
    typestates::Set,
};
use buttress::BoxError;
use tick::Clock;
use tower::{Layer, ServiceBuilder};

use super::{LIMIT, WINDOW};
use crate::services::{Fault, Guarded, Inner};

type Answer<E> = Result<u64, E>;

fn context<E>() -> ResilienceContext<u64, Answer<E>> {
    ResilienceContext::new(Clock::new_tokio())
}

/// The breaker, with the same settings as the others where it has them.
pub(crate) fn breaker_layer<E: Send + 'static>(
    context: &ResilienceContext<u64, Answer<E>>,
    window: Duration,
    refuse: impl Fn() -> E + Send + Sync + 'static,
) -> BreakerLayer<u64, Answer<E>, Set, Set> {
    Breaker::layer("bench", context)
        .recovery_with(|result: &Answer<E>, _| judge(result))
        .rejected_input_error(move |_, _| refuse())
        .failure_threshold(0.5)
        .min_throughput(20)
        .sampling_duration(window)
        .break_duration(super::HOUR)
}

fn judge<E>(result: &Answer<E>) -> RecoveryInfo {
    match result {
        Ok(_) => RecoveryInfo::never(),
        Err(_) => RecoveryInfo::retry(),
    }
}

fn refuse() -> BoxError {
    Fault::Refused.into()
}

pub(crate) fn breaker<S: Inner>(window: Duration, inner: S) -> impl Guarded + use<S> {
    breaker_layer(&context(), window, refuse).layer(inner)
}

/// Over a service that always fails: open after a while.
pub(crate) fn breaker_over<S, E>(
    refuse: impl Fn() -> E + Send + Sync + 'static,
    inner: S,
) -> Breaker<u64, Answer<E>, S>
where
    E: Send + 'static,
{
    breaker_layer(&context(), WINDOW, refuse).layer(inner)
}

pub(crate) fn timeout<S: Inner>(inner: S) -> impl Guarded + use<S> {
    Timeout::layer("bench", &context())
        .timeout_error(|_| refuse())
        .timeout(LIMIT)
        .layer(inner)
}

pub(crate) fn retry<S: Inner>(inner: S) -> impl Guarded + use<S> {
    Retry::layer("bench", &context())
        .clone_input()
        .recovery_with(|result: &Answer<BoxError>, _| judge(result))
        .layer(inner)
}

/// retry(breaker(timeout)).
pub(crate) fn stack_of_three<S: Inner>(inner: S) -> impl Guarded + use<S> {
    let context = context();
    ServiceBuilder::new()
        .layer(
            Retry::layer("bench", &context)
                .clone_input()
                .recovery_with(|result: &Answer<BoxError>, _| judge(result)),
        )
        .layer(breaker_layer(&context, WINDOW, refuse))
        .layer(
            Timeout::layer("bench", &context)
                .timeout_error(|_| refuse())
                .timeout(LIMIT),
        )
        .service(inner)
}
