//! The paths that are counted.

use std::{hint::black_box, time::Duration};

use buttress::{
    BoxError, Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerLayer, Retry, RetryBudgetConfig, RetryConfig, RetryLayer, Stack, Timeout, TimeoutConfig,
    TimeoutLayer,
};
use tower::{Layer, Service, ServiceBuilder};

use crate::{
    path, service,
    services::{Down, Echo, Fails, Late},
    until_done,
};

/// Longer than any run.
const HOUR: Duration = Duration::from_hours(1);

/// Counts all of them.
pub(crate) fn all() {
    bare();
    breakers();
    service("retry", Some(true), RetryLayer::new(retry()).layer(Echo));
    service("timeout", Some(true), TimeoutLayer::new(timeout()).layer(Echo));
    service(
        "timeout-pending",
        Some(true),
        TimeoutLayer::new(timeout()).layer(Late),
    );
    service("bulkhead", Some(true), BulkheadLayer::new(bulkhead()).layer(Echo));
    stacks();
    rejections();
    functions();
}

/// What driving a call costs by itself.
fn bare() {
    service("bare", Some(true), Echo);
    service("bare-failing", None, Fails);
    service("bare-pending", Some(true), Late);
}

fn breakers() {
    let shapes = [
        ("count", CircuitBreakerConfig::new()),
        ("slow", CircuitBreakerConfig::new().slow_calls(HOUR, 0.9)),
        (
            "time",
            CircuitBreakerConfig::new().time_window_in(10 * HOUR, HOUR),
        ),
    ];
    for (shape, config) in shapes {
        // Half of the calls fail in some, and it is to stay closed.
        let layer = || CircuitBreakerLayer::new(built(config.clone().failure_rate(0.9)));
        service(&format!("breaker-{shape}"), Some(true), layer().layer(Echo));
        service(&format!("breaker-{shape}-failing"), None, layer().layer(Fails));
        service(
            &format!("breaker-{shape}-pending"),
            Some(true),
            layer().layer(Late),
        );
    }
}

fn stacks() {
    service("stack-static", Some(true), nested(Echo));
    service("stack-static-pending", Some(true), nested(Late));
    service("stack-runtime", Some(true), listed().layer(Echo));
    service("stack-runtime-pending", Some(true), listed().layer(Late));
}

fn rejections() {
    let open = built(CircuitBreakerConfig::new().open_wait(HOUR));
    open.open();
    service(
        "reject-open",
        Some(false),
        CircuitBreakerLayer::new(open).layer(Fails),
    );
    let forced = built(CircuitBreakerConfig::new());
    forced.force_open();
    service(
        "reject-forced",
        Some(false),
        CircuitBreakerLayer::new(forced).layer(Fails),
    );
    let full = BulkheadConfig::new(1).build("bench").expect("a valid bulkhead");
    let held = full.try_acquire();
    service("reject-full", Some(false), BulkheadLayer::new(full).layer(Fails));
    drop(held);
}

/// Async functions without a service.
fn functions() {
    let breaker = built(CircuitBreakerConfig::new());
    path("run-breaker", |number| {
        assert!(until_done(breaker.run(async || Ok::<_, Down>(black_box(number)))).is_ok());
    });
    let stack = listed();
    path("run-stack", |number| {
        assert!(until_done(stack.run(async || Ok::<_, Down>(black_box(number)))).is_ok());
    });
}

/// The stack of four, nested by Tower.
fn nested<S>(inner: S) -> impl Service<u64>
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + Sync + 'static,
{
    ServiceBuilder::new()
        .layer(RetryLayer::new(retry()))
        .layer(CircuitBreakerLayer::new(built(CircuitBreakerConfig::new())))
        .layer(TimeoutLayer::new(timeout()))
        .layer(BulkheadLayer::new(bulkhead()))
        .service(inner)
}

/// The same in one list.
fn listed() -> Stack {
    Stack::builder()
        .retry(retry())
        .circuit_breaker(built(CircuitBreakerConfig::new()))
        .timeout(timeout())
        .bulkhead(bulkhead())
        .build()
        .expect("a valid stack")
}

fn built(config: CircuitBreakerConfig) -> CircuitBreaker {
    config.seed(1).build("bench").expect("a valid circuit breaker")
}

fn retry() -> Retry {
    RetryConfig::new()
        .budget(RetryBudgetConfig::new().window(10 * HOUR))
        .seed(1)
        .build("bench")
        .expect("a valid retry")
}

fn timeout() -> Timeout {
    TimeoutConfig::new(HOUR).build("bench").expect("a valid timeout")
}

fn bulkhead() -> Bulkhead {
    BulkheadConfig::new(256).build("bench").expect("a valid bulkhead")
}
