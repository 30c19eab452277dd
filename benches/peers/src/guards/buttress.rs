//! This crate.

use std::time::Duration;

use ::buttress::{
    Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer,
    Metrics, Retry, RetryConfig, RetryLayer, Stack, Timeout, TimeoutConfig, TimeoutLayer,
};
use tower::{Layer, ServiceBuilder};

use super::{CONCURRENT, LIMIT, MANY, WINDOW};
use crate::services::{Guarded, Inner};

pub(crate) fn count_config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
}

pub(crate) fn slow_config() -> CircuitBreakerConfig {
    count_config().slow_calls(Duration::from_secs(1), 0.5)
}

pub(crate) fn time_config() -> CircuitBreakerConfig {
    count_config().time_window(WINDOW)
}

pub(crate) fn breaker<S: Inner>(config: CircuitBreakerConfig, inner: S) -> impl Guarded + use<S> {
    CircuitBreakerLayer::new(config.build("bench").unwrap()).layer(inner)
}

pub(crate) fn retry<S: Inner>(inner: S) -> impl Guarded + use<S> {
    RetryLayer::new(Retry::with_defaults("bench").unwrap()).layer(inner)
}

pub(crate) fn timeout<S: Inner>(inner: S) -> impl Guarded + use<S> {
    TimeoutLayer::new(limit()).layer(inner)
}

pub(crate) fn bulkhead<S: Inner>(inner: S) -> impl Guarded + use<S> {
    BulkheadLayer::new(slots()).layer(inner)
}

/// The default order, nested by Tower.
pub(crate) fn stack_static<S: Inner>(inner: S) -> impl Guarded + use<S> {
    nested(Retry::with_defaults("bench").unwrap(), slots(), inner)
}

/// The default order, in one list.
pub(crate) fn stack_runtime<S: Inner>(inner: S) -> impl Guarded + use<S> {
    stack().layer(inner)
}

/// The same, counting what metrics publish. That is done by a task, every second, and no call waits for it.
pub(crate) fn stack_metrics<S: Inner>(inner: S) -> impl Guarded + use<S> {
    let stack = stack();
    drop(Metrics::new().stack(&stack));
    stack.layer(inner)
}

/// For a service that fails now and then. A retry would wait, and a task that waits measures nothing: so it gives up
/// after the first attempt. All else of a failed call is done.
pub(crate) fn stack_static_giving_up<S: Inner>(inner: S) -> impl Guarded + use<S> {
    nested(giving_up(), slots(), inner)
}

pub(crate) fn stack_runtime_giving_up<S: Inner>(inner: S) -> impl Guarded + use<S> {
    listed(giving_up(), slots()).layer(inner)
}

/// With room for more calls than any bulkhead has by default.
pub(crate) fn stack_static_wide<S: Inner>(inner: S) -> impl Guarded + use<S> {
    nested(Retry::with_defaults("bench").unwrap(), many_slots(), inner)
}

pub(crate) fn stack_runtime_wide<S: Inner>(inner: S) -> impl Guarded + use<S> {
    listed(Retry::with_defaults("bench").unwrap(), many_slots()).layer(inner)
}

fn nested<S: Inner>(retry: Retry, bulkhead: Bulkhead, inner: S) -> impl Guarded + use<S> {
    ServiceBuilder::new()
        .layer(RetryLayer::new(retry))
        .layer(CircuitBreakerLayer::new(
            CircuitBreaker::with_defaults("bench").unwrap(),
        ))
        .layer(TimeoutLayer::new(limit()))
        .layer(BulkheadLayer::new(bulkhead))
        .service(inner)
}

/// The stack of four as it is given to the integrations too.
pub(crate) fn stack() -> Stack {
    listed(Retry::with_defaults("bench").unwrap(), slots())
}

fn listed(retry: Retry, bulkhead: Bulkhead) -> Stack {
    Stack::builder()
        .retry(retry)
        .circuit_breaker(CircuitBreaker::with_defaults("bench").unwrap())
        .timeout(limit())
        .bulkhead(bulkhead)
        .build()
        .unwrap()
}

fn giving_up() -> Retry {
    RetryConfig::new().max_attempts(1).build("bench").unwrap()
}

fn limit() -> Timeout {
    TimeoutConfig::new(LIMIT).build("bench").unwrap()
}

fn slots() -> Bulkhead {
    admitting(CONCURRENT)
}

fn many_slots() -> Bulkhead {
    admitting(MANY)
}

fn admitting(calls: usize) -> Bulkhead {
    BulkheadConfig::new(u32::try_from(calls).unwrap())
        .build("bench")
        .unwrap()
}
