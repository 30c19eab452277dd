//! tower-resilience.

use std::time::Duration;

use ::tower_resilience::{
    bulkhead::BulkheadLayer,
    circuitbreaker::{CircuitBreakerLayer, SlidingWindowType},
    retry::{RetryBudgetBuilder, RetryLayer},
    timelimiter::TimeLimiterLayer,
};
use tower::{Layer, ServiceBuilder};

use super::{CONCURRENT, LIMIT, MANY};
use crate::services::{Guarded, Inner};

pub(crate) fn breaker_count<S: Inner>(inner: S) -> impl Guarded + use<S> {
    CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .build()
        .unwrap()
        .layer(inner)
}

pub(crate) fn breaker_slow<S: Inner>(inner: S) -> impl Guarded + use<S> {
    CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .slow_call_duration_threshold(Duration::from_secs(1))
        .slow_call_rate_threshold(0.5)
        .build()
        .unwrap()
        .layer(inner)
}

pub(crate) fn breaker_time<S: Inner>(window: Duration, inner: S) -> impl Guarded + use<S> {
    CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(window)
        .minimum_number_of_calls(20)
        .build()
        .unwrap()
        .layer(inner)
}

pub(crate) fn bulkhead<S: Inner>(inner: S) -> impl Guarded + use<S> {
    slots(CONCURRENT).layer(inner)
}

pub(crate) fn time_limiter<S: Inner>(inner: S) -> impl Guarded + use<S> {
    TimeLimiterLayer::builder()
        .timeout_duration(LIMIT)
        .build()
        .layer(inner)
}

pub(crate) fn retry<S: Inner>(inner: S) -> impl Guarded + use<S> {
    retrying().layer(inner)
}

/// retry(breaker(time limiter(bulkhead))).
pub(crate) fn stack_of_four<S: Inner>(inner: S) -> impl Guarded + use<S> {
    four(CONCURRENT, inner)
}

/// The same with room for more calls.
pub(crate) fn stack_of_four_wide<S: Inner>(inner: S) -> impl Guarded + use<S> {
    four(MANY, inner)
}

fn four<S: Inner>(concurrent: usize, inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new()
        .layer(retrying())
        .layer(
            CircuitBreakerLayer::builder()
                .failure_rate_threshold(0.5)
                .sliding_window_size(100)
                .build()
                .unwrap(),
        )
        .layer(TimeLimiterLayer::builder().timeout_duration(LIMIT).build())
        .layer(slots(concurrent))
        .service(inner)
}

fn slots(concurrent: usize) -> BulkheadLayer {
    BulkheadLayer::builder()
        .max_concurrent_calls(concurrent)
        .reject_when_full()
        .build()
        .unwrap()
}

/// With the budget that its documentation shows.
fn retrying<E>() -> RetryLayer<u64, u64, E> {
    let budget = RetryBudgetBuilder::new()
        .token_bucket()
        .tokens_per_second(10.0)
        .max_tokens(100)
        .build()
        .unwrap();
    RetryLayer::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(100))
        .budget(budget)
        .build()
}
