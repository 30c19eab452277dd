//! Guarded calls can be awaited where a future must be `Send`, whatever the error of the service is.
//!
//! What is shown here is that this compiles: within an async block the compiler forgets the lifetime in a `BoxError`, and
//! a bound on that error then fails (rust-lang/rust#110338).

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use buttress::{
    BoxError, Bulkhead, BulkheadLayer, CircuitBreaker, CircuitBreakerLayer, Guard, KeyedConfig, KeyedLayer,
    Retry, RetryLayer, Stack, Timeout, TimeoutLayer,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

fn retry() -> Retry {
    Retry::with_defaults("send").unwrap()
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::with_defaults("send").unwrap()
}

fn timeout() -> Timeout {
    Timeout::with_defaults("send").unwrap()
}

fn bulkhead() -> Bulkhead {
    Bulkhead::with_defaults("send").unwrap()
}

fn stack() -> Stack {
    Stack::builder()
        .retry(retry())
        .circuit_breaker(breaker())
        .timeout(timeout())
        .bulkhead(bulkhead())
        .build()
        .unwrap()
}

/// An answer that comes later, and an error that is any.
async fn answer(request: u32) -> Result<u32, BoxError> {
    tokio::task::yield_now().await;
    Ok(request)
}

#[tokio::test]
async fn a_call_by_one_layer() {
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout()))
        .service(service_fn(answer));
    let call = tokio::spawn(async move { service.ready().await?.call(1).await });
    assert_eq!(call.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_call_by_all_layers() {
    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry()))
        .layer(CircuitBreakerLayer::new(breaker()))
        .layer(TimeoutLayer::new(timeout()))
        .layer(BulkheadLayer::new(bulkhead()))
        .service(service_fn(answer));
    let call = tokio::spawn(async move { service.ready().await?.call(1).await });
    assert_eq!(call.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_call_by_a_stack() {
    let mut service = ServiceBuilder::new()
        .layer(stack())
        .service(service_fn(async |request: u32| Ok::<_, BoxError>(request)));
    let call = tokio::spawn(async move {
        for _ in 0..2 {
            Guard::ready::<u32>(&mut service).await?.call(1).await?;
        }
        service.ready().await?.call(1).await
    });
    assert_eq!(call.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_oneshot_by_all_layers() {
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry()))
        .layer(CircuitBreakerLayer::new(breaker()))
        .service(service_fn(answer));
    let call = tokio::spawn(async move { service.clone().oneshot(1).await });
    assert_eq!(call.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_oneshot_by_a_stack() {
    let service = ServiceBuilder::new().layer(stack()).service(service_fn(answer));
    let call = tokio::spawn(async move { service.oneshot(1).await });
    assert_eq!(call.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_call_by_keyed_policies() {
    let tenants = KeyedConfig::new().build(breaker()).unwrap();
    let service = ServiceBuilder::new()
        .layer(KeyedLayer::circuit_breaker(tenants, |request: &u32| {
            request.to_string().into()
        }))
        .layer(TimeoutLayer::new(timeout()))
        .service(service_fn(answer));
    let call = tokio::spawn(async move {
        let mut again = service.clone();
        ServiceExt::<u32>::ready(&mut again).await?.call(1).await?;
        service.oneshot(1).await
    });
    assert_eq!(call.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_function_by_a_stack() {
    let stack = stack();
    let call = tokio::spawn(async move { stack.run_flat(async || answer(1).await).await });
    assert_eq!(call.await.unwrap().unwrap(), 1);
}
