//! Tower's contract, kept by every layer: what is called was polled ready, a clone is polled itself, readiness and its
//! errors are passed on, and nobody who waits holds a readiness that others need.

#[path = "support/inner.rs"]
mod inner;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    AdaptLayer, Backoff, Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerLayer, Clock, Cloned, Error, Fallback, FallbackLayer, Jitter, NoAnswer, Predicate,
    RejectedKind, Retry, RetryConfig, RetryLayer, Stack, StackBuilder, State, Timeout, TimeoutConfig,
    TimeoutLayer, Timestamp, find_rejected,
};
use inner::{Broken, Failing, Gated, Late, Reply, Serves, Strict};
use tokio::sync::Semaphore;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::ServiceList,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
    load::Constant,
    util::BoxService,
};

const MS: Duration = Duration::from_millis(1);
const BACKOFF: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(600);

fn a_breaker() -> CircuitBreaker {
    CircuitBreakerConfig::new()
        .count_window(10)
        .minimum_calls(10)
        .failure_rate(1.0)
        .build("breaker")
        .unwrap()
}

/// Three attempts, [`BACKOFF`] between them, no budget.
fn a_retry() -> Retry {
    RetryConfig::new()
        .backoff(Backoff::fixed(BACKOFF))
        .jitter(Jitter::None)
        .no_budget()
        .build("retry")
        .unwrap()
}

fn a_timeout() -> Timeout {
    TimeoutConfig::new(LONG).build("timeout").unwrap()
}

/// One slot, with a queue.
fn a_bulkhead() -> Bulkhead {
    BulkheadConfig::new(1).max_wait(LONG).build("bulkhead").unwrap()
}

/// One slot, without a queue.
fn without_a_queue() -> Bulkhead {
    BulkheadConfig::new(1).build("bulkhead").unwrap()
}

/// Answers no error of a service.
fn a_fallback() -> Fallback {
    Fallback::on("fallback", Predicate::new(|outcome| outcome.rejected().is_some()))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what the layer asks for")]
fn give_back(_: &(), hidden: Result<u32, BoxError>) -> Result<u32, BoxError> {
    hidden
}

fn a_stack() -> Stack {
    Stack::builder()
        .retry(a_retry())
        .circuit_breaker(a_breaker())
        .timeout(a_timeout())
        .bulkhead(a_bulkhead())
        .build()
        .unwrap()
}

fn now() -> Timestamp {
    Clock::tokio().now()
}

fn flat(error: Error<BoxError>) -> BoxError {
    match error {
        Error::Rejected(rejected) => rejected.into(),
        Error::Service(error) => error,
    }
}

fn kind(error: &BoxError) -> Option<RejectedKind> {
    find_rejected(&**error).map(buttress::Rejected::kind)
}

fn broken(error: &BoxError) -> Option<Broken> {
    error.downcast_ref().copied()
}

/// Looks at readiness once, without waiting for it.
fn poll_ready<S: Service<u32>>(service: &mut S) -> Poll<Result<(), S::Error>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// Looks at a future once, without waiting for it.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs each test once for each layer of a kind.
macro_rules! for_every {
    // Layers that hold a policy.
    (guard: $($test:ident)*) => { $(
        mod $test {
            use super::*;
            for_every! { @guards $test }
        }
    )* };
    // These, and the adapter, which is none.
    (layer: $($test:ident)*) => { $(
        mod $test {
            use super::*;
            for_every! { @guards $test }
            for_every! { @each $test:
                adapter = ServiceBuilder::new().map_err(flat).layer(AdaptLayer::new()),
            }
        }
    )* };
    // Layers that make another attempt.
    (retry: $($test:ident)*) => { $(
        mod $test {
            use super::*;
            for_every! { @retries $test }
        }
    )* };
    // Layers with this breaker somewhere in them.
    (breaker: $($test:ident)*) => { $(
        mod $test {
            use super::*;
            for_every! { @breakers $test, a_breaker() }
        }
    )* };
    (@guards $test:ident) => {
        for_every! { @retries $test }
        for_every! { @each $test:
            breaker = CircuitBreakerLayer::new(a_breaker()),
            retry_once = RetryLayer::new(a_retry()).once(),
            timeout = TimeoutLayer::new(a_timeout()),
            bulkhead = BulkheadLayer::new(a_bulkhead()),
            bulkhead_without_a_queue = BulkheadLayer::new(a_bulkhead()).once(),
            fallback = FallbackLayer::answer_by(a_fallback(), give_back),
            stack_queued = Stack::builder().bulkhead(a_bulkhead()).queued().build().unwrap(),
            stack_once = a_stack().once(),
            stack_of_none = Stack::builder().build().unwrap(),
        }
    };
    (@retries $test:ident) => {
        for_every! { @each $test:
            retry = RetryLayer::new(a_retry()),
            retry_copying = RetryLayer::new(a_retry()).copy_by(|request: &u32| Some(*request)),
            nest = ServiceBuilder::new()
                .layer(RetryLayer::new(a_retry()))
                .layer(CircuitBreakerLayer::new(a_breaker()))
                .layer(FallbackLayer::answer_by(a_fallback(), give_back))
                .layer(TimeoutLayer::new(a_timeout()))
                .layer(BulkheadLayer::new(a_bulkhead())),
            nest_turned = ServiceBuilder::new()
                .layer(BulkheadLayer::new(a_bulkhead()))
                .layer(TimeoutLayer::new(a_timeout()))
                .layer(CircuitBreakerLayer::new(a_breaker()))
                .layer(RetryLayer::new(a_retry())),
            over_the_adapter = ServiceBuilder::new()
                .map_err(flat)
                .layer(AdaptLayer::new())
                .layer(RetryLayer::new(a_retry())),
            stack = a_stack(),
            stack_turned = Stack::builder()
                .bulkhead(a_bulkhead())
                .timeout(a_timeout())
                .circuit_breaker(a_breaker())
                .fallback(a_fallback(), NoAnswer)
                .retry(a_retry())
                .build()
                .unwrap(),
        }
    };
    (@breakers $test:ident, $breaker:expr) => {
        for_every! { @with $test, $breaker, breaker:
            alone = CircuitBreakerLayer::new(breaker),
            below_a_retry = ServiceBuilder::new()
                .layer(RetryLayer::new(a_retry()))
                .layer(CircuitBreakerLayer::new(breaker)),
            below_a_timeout = ServiceBuilder::new()
                .layer(TimeoutLayer::new(a_timeout()))
                .layer(CircuitBreakerLayer::new(breaker)),
            below_a_bulkhead = ServiceBuilder::new()
                .layer(BulkheadLayer::new(a_bulkhead()))
                .layer(CircuitBreakerLayer::new(breaker)),
            below_a_fallback = ServiceBuilder::new()
                .layer(FallbackLayer::answer_by(a_fallback(), give_back))
                .layer(CircuitBreakerLayer::new(breaker)),
            above_all = ServiceBuilder::new()
                .layer(CircuitBreakerLayer::new(breaker))
                .layer(RetryLayer::new(a_retry()))
                .layer(TimeoutLayer::new(a_timeout()))
                .layer(BulkheadLayer::new(a_bulkhead())),
            stack_of_one = Stack::builder().circuit_breaker(breaker).build().unwrap(),
            stack_below_a_retry = Stack::builder()
                .retry(a_retry())
                .circuit_breaker(breaker)
                .timeout(a_timeout())
                .bulkhead(a_bulkhead())
                .build()
                .unwrap(),
            stack_below_a_bulkhead = Stack::builder()
                .bulkhead(a_bulkhead())
                .circuit_breaker(breaker)
                .retry(a_retry())
                .build()
                .unwrap(),
            stack_below_another_breaker = Stack::builder()
                .circuit_breaker(CircuitBreaker::with_defaults("another").unwrap())
                .circuit_breaker(breaker)
                .build()
                .unwrap(),
            stack_below_seven = Stack::builder()
                .retry(a_retry())
                .timeout(a_timeout())
                .timeout(a_timeout())
                .timeout(a_timeout())
                .timeout(a_timeout())
                .timeout(a_timeout())
                .timeout(a_timeout())
                .circuit_breaker(breaker)
                .build()
                .unwrap(),
            stack_below_a_fallback = Stack::builder()
                .fallback(a_fallback(), NoAnswer)
                .circuit_breaker(breaker)
                .build()
                .unwrap(),
        }
    };
    (@with $test:ident, $handle:expr, $name:ident: $($case:ident = $layer:expr,)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $case() {
            let handle = $handle;
            let $name = handle.clone();
            super::$test($layer, handle).await;
        }
    )* };
    (@each $test:ident: $($case:ident = $layer:expr,)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $case() {
            super::$test($layer).await;
        }
    )* };
}

// What is called was polled ready.

for_every! { layer:
    what_it_calls_was_polled_ready
    what_it_calls_was_polled_ready_also_after_a_wait
}

async fn what_it_calls_was_polled_ready<L: Layer<Strict, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::replying(|n| {
        if n % 3 == 0 {
            Reply::Err
        } else {
            Reply::OkAfter(MS)
        }
    });
    let mut service = layer.layer(strict);
    for request in 0..6 {
        let results = [
            service.clone().oneshot(request).await,
            service.ready().await.unwrap().call(request).await,
        ];
        for result in results {
            match result {
                Ok(answer) => assert_eq!(answer, request),
                Err(error) => assert!(broken(&error).is_some(), "{error}"),
            }
        }
    }
    assert!(seen.calls() >= 12, "{} calls", seen.calls());
}

async fn what_it_calls_was_polled_ready_also_after_a_wait<L: Layer<Strict, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::replying(|n| {
        if n % 3 == 0 {
            Reply::ErrAfter(MS)
        } else {
            Reply::OkAfter(MS)
        }
    });
    let ended = call_at_once(&layer.layer(strict), 8).await;
    assert!(
        ended > 0 && seen.calls() >= ended,
        "{ended} of 8 ended by the service"
    );
}

/// Makes so many calls at once; each must end, by the service or by a full bulkhead. How many did by the service.
async fn call_at_once<S: Serves>(service: &S, calls: u32) -> usize {
    let calls: Vec<_> = (0..calls)
        .map(|request| (request, tokio::spawn(service.clone().oneshot(request))))
        .collect();
    let mut ended = 0;
    for (request, call) in calls {
        let result = tokio::time::timeout(LONG, call)
            .await
            .unwrap_or_else(|_| panic!("call {request} does not end"));
        match result.unwrap() {
            Ok(answer) => assert_eq!(answer, request),
            Err(error) if kind(&error) == Some(RejectedKind::BulkheadFull) => continue,
            Err(error) => assert!(broken(&error).is_some(), "{error}"),
        }
        ended += 1;
    }
    ended
}

// Who calls without having polled gets a rejection that says so, and nothing is called.

for_every! { guard:
    a_call_without_poll_ready_is_refused
    one_readiness_is_good_for_one_call
    a_clone_is_polled_itself
}

async fn a_call_without_poll_ready_is_refused<L: Layer<Strict, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::echo();
    let error = layer.layer(strict).call(1).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::NotReady), "{error}");
    assert_eq!((seen.polls(), seen.calls()), (0, 0));
}

async fn one_readiness_is_good_for_one_call<L: Layer<Strict, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::echo();
    let mut service = layer.layer(strict);
    assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 1);
    let error = service.call(2).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::NotReady), "{error}");
    assert_eq!(seen.calls(), 1);
    assert_eq!(service.ready().await.unwrap().call(3).await.unwrap(), 3);
}

async fn a_clone_is_polled_itself<L: Layer<Strict, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::echo();
    let mut service = layer.layer(strict);
    service.ready().await.unwrap();
    let mut clone = service.clone();
    let error = clone.call(1).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::NotReady), "{error}");
    assert_eq!(seen.calls(), 0);
    assert_eq!(
        service.call(2).await.unwrap(),
        2,
        "the one that was polled is ready still"
    );
    assert_eq!(clone.ready().await.unwrap().call(3).await.unwrap(), 3);
}

// Readiness is passed on, late or failed.

for_every! { layer:
    a_service_that_is_ready_late_is_waited_for
    an_error_of_readiness_is_passed_on
    a_balancer_sees_the_readiness_below
}

async fn a_service_that_is_ready_late_is_waited_for<L: Layer<Late<Strict>, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::echo();
    let mut service = layer.layer(Late::new(strict, 7 * MS));
    assert!(poll_ready(&mut service).is_pending());
    let began = now();
    service.ready().await.unwrap();
    assert_eq!(now().since(began), 7 * MS);
    assert_eq!(seen.polls(), 1);
    assert_eq!(service.call(1).await.unwrap(), 1);
    assert!(
        poll_ready(&mut service).is_pending(),
        "another call needs another readiness"
    );
}

async fn an_error_of_readiness_is_passed_on<L: Layer<Failing<Strict>, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::echo();
    let mut service = layer.layer(Failing::after(1, strict));
    assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 1);
    let error = service.ready().await.map(|_| ()).unwrap_err();
    assert_eq!(
        broken(&error),
        Some(Broken("broken in poll_ready")),
        "as it is: {error}"
    );
    let error = service.oneshot(2).await.unwrap_err();
    assert_eq!(
        broken(&error),
        Some(Broken("broken in poll_ready")),
        "as it is: {error}"
    );
    assert_eq!(seen.calls(), 1);
}

async fn a_balancer_sees_the_readiness_below<L: Layer<Gated<Strict>, Service: Serves>>(layer: L) {
    let ((near, seen_near), (far, seen_far)) = (Strict::echo(), Strict::echo());
    let ((near, near_gate), (far, far_gate)) = (Gated::new(near), Gated::new(far));
    let endpoints = [near, far].map(|endpoint| Constant::new(layer.layer(endpoint), 1.0));
    let mut balance = Balance::new(ServiceList::new(endpoints));
    let called = || (seen_near.calls(), seen_far.calls());

    assert!(poll_ready(&mut balance).is_pending());
    near_gate.open();
    for request in 0..10 {
        assert_eq!(
            balance.ready().await.unwrap().call(request).await.unwrap(),
            request
        );
    }
    assert_eq!(called(), (10, 0));
    near_gate.shut();
    far_gate.open();
    for request in 0..10 {
        assert_eq!(
            balance.ready().await.unwrap().call(request).await.unwrap(),
            request
        );
    }
    assert_eq!(called(), (10, 10));
}

// Another attempt drives a fresh clone ready first.

for_every! { retry:
    another_attempt_waits_for_readiness
    an_error_of_readiness_ends_the_attempts
}

async fn another_attempt_waits_for_readiness<L: Layer<Late<Strict>, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::replying(|n| if n == 0 { Reply::Err } else { Reply::Ok });
    let mut service = layer.layer(Late::new(strict, 7 * MS));
    service.ready().await.unwrap();
    let began = now();
    assert_eq!(service.call(1).await.unwrap(), 1);
    assert_eq!(now().since(began), BACKOFF + 7 * MS);
    assert_eq!(seen.calls(), 2);
}

async fn an_error_of_readiness_ends_the_attempts<L: Layer<Failing<Strict>, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::replying(|_| Reply::Err);
    let error = layer
        .layer(Failing::after(1, strict))
        .oneshot(1)
        .await
        .unwrap_err();
    assert_eq!(
        broken(&error),
        Some(Broken("broken in poll_ready")),
        "as it is: {error}"
    );
    assert_eq!(seen.calls(), 1);
}

/// The service that a fallback asks is polled ready as well.
#[tokio::test(start_paused = true)]
async fn a_fallback_polls_the_service_that_answers() {
    let (strict, _) = Strict::replying(|_| Reply::Err);
    let (spare, seen) = Strict::echo();
    let fallback = FallbackLayer::service(
        Fallback::new("fallback"),
        Late::new(spare, MS),
        |request: &u32| *request,
    );
    let service = fallback.layer(strict);
    for request in 0..3 {
        assert_eq!(service.clone().oneshot(request).await.unwrap(), request);
    }
    assert_eq!(seen.calls(), 3);
}

// Over Tower's own services that hold something while they are ready.

for_every! { layer:
    over_a_concurrency_limit
    over_a_buffer
    over_a_balancer
}

async fn over_a_concurrency_limit<L: Layer<ConcurrencyLimit<Strict>, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::replying(|n| {
        if n % 3 == 0 {
            Reply::ErrAfter(MS)
        } else {
            Reply::OkAfter(MS)
        }
    });
    let permits = Arc::new(Semaphore::new(2));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    let service = layer.layer(limit.layer(strict));
    assert!(call_at_once(&service, 12).await > 0);
    assert!(seen.most() <= 2);
    assert_eq!(permits.available_permits(), 2, "nobody keeps a permit");
}

async fn over_a_buffer<L: Layer<Buffer<u32, inner::Replying>, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::replying(|n| {
        if n % 3 == 0 {
            Reply::ErrAfter(MS)
        } else {
            Reply::OkAfter(MS)
        }
    });
    let service = layer.layer(Buffer::new(Late::new(strict, MS), 1));
    assert!(call_at_once(&service, 12).await > 0);
    assert!(seen.calls() > 0);
}

async fn over_a_balancer<L: Layer<Buffer<u32, inner::Replying>, Service: Serves>>(layer: L) {
    let (strict, seen) = Strict::replying(|n| {
        if n % 3 == 0 {
            Reply::ErrAfter(MS)
        } else {
            Reply::OkAfter(MS)
        }
    });
    let endpoints = [0; 3].map(|_| Constant::new(ConcurrencyLimit::new(strict.clone(), 1), 1.0));
    let balance = Balance::new(ServiceList::new(endpoints));
    let service = layer.layer(Buffer::new(BoxService::new(balance), 1));
    assert!(call_at_once(&service, 12).await > 0);
    assert!(seen.calls() > 0 && seen.most() <= 3);
}

/// Not `Clone`.
type Endpoints = Balance<ServiceList<Vec<Constant<Strict, f64>>>, u32>;

#[tokio::test(start_paused = true)]
async fn what_neither_waits_nor_repeats_guards_a_service_that_is_not_clone() {
    async fn answers(layer: impl Layer<Endpoints, Service: Service<u32, Response = u32, Error = BoxError>>) {
        let (strict, seen) = Strict::echo();
        let endpoints = vec![Constant::new(strict.clone(), 1.0), Constant::new(strict, 1.0)];
        let mut service = layer.layer(Balance::new(ServiceList::new::<u32>(endpoints)));
        for request in 0..5 {
            assert_eq!(
                service.ready().await.unwrap().call(request).await.unwrap(),
                request
            );
        }
        assert_eq!(seen.calls(), 5);
    }

    answers(CircuitBreakerLayer::new(a_breaker())).await;
    answers(RetryLayer::new(a_retry()).once()).await;
    answers(TimeoutLayer::new(a_timeout())).await;
    answers(BulkheadLayer::new(a_bulkhead()).once()).await;
    answers(FallbackLayer::answer_by(a_fallback(), give_back)).await;
    answers(a_stack().once()).await;
    let without_a_retry = Stack::builder()
        .circuit_breaker(a_breaker())
        .timeout(a_timeout())
        .bulkhead(without_a_queue());
    answers(without_a_retry.build().unwrap()).await;
}

// Who refuses anyway does not wait for readiness, and then refuses, whatever it would say by then.

for_every! { breaker:
    an_open_breaker_does_not_wait_for_the_service
    a_half_open_breaker_without_a_probe_left_does_not_wait_for_the_service
    a_breaker_that_was_open_refuses_though_it_was_closed_meanwhile
    a_breaker_that_opened_after_it_was_ready_refuses
    polling_a_half_open_breaker_takes_no_probe
}

async fn an_open_breaker_does_not_wait_for_the_service<L>(layer: L, breaker: CircuitBreaker)
where
    L: Layer<Gated<Strict>, Service: Serves>,
{
    let (strict, seen) = Strict::echo();
    let (gated, _shut) = Gated::new(strict);
    let service = layer.layer(gated);
    for state in [State::Open, State::ForcedOpen] {
        breaker.transition_to(state);
        let mut service = service.clone();
        assert!(matches!(poll_ready(&mut service), Poll::Ready(Ok(()))), "{state}");
        let error = service.call(1).await.unwrap_err();
        assert_eq!(kind(&error), Some(RejectedKind::CircuitOpen), "{state}: {error}");
        assert_eq!(breaker.snapshot().not_permitted, 1, "{state}");
    }
    breaker.close();
    assert!(poll_ready(&mut service.clone()).is_pending());
    assert_eq!((seen.polls(), seen.calls()), (0, 0));
}

async fn a_half_open_breaker_without_a_probe_left_does_not_wait_for_the_service<L>(
    layer: L,
    breaker: CircuitBreaker,
) where
    L: Layer<Gated<Strict>, Service: Serves>,
{
    let (strict, seen) = Strict::echo();
    let (gated, _shut) = Gated::new(strict);
    let mut service = layer.layer(gated);
    breaker.half_open();
    assert!(poll_ready(&mut service).is_pending());
    let probes: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    assert!(poll_ready(&mut service).is_ready());
    let error = service.call(1).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::CircuitOpen), "{error}");
    drop(probes);
    assert!(poll_ready(&mut service).is_pending());
    assert_eq!(seen.calls(), 0);
}

async fn a_breaker_that_was_open_refuses_though_it_was_closed_meanwhile<L>(layer: L, breaker: CircuitBreaker)
where
    L: Layer<Gated<Strict>, Service: Serves>,
{
    let (strict, seen) = Strict::echo();
    let (gated, gate) = Gated::new(strict);
    let mut service = layer.layer(gated);
    breaker.force_open();
    assert!(poll_ready(&mut service).is_ready());
    breaker.close();
    let error = service.call(1).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::CircuitOpen), "{error}");
    let rejected = find_rejected(&*error).unwrap();
    assert_eq!(rejected.policy(), "breaker");
    assert!(
        rejected.retry_after().is_none_or(|after| after < LONG),
        "nothing is waited for: {rejected}"
    );
    assert_eq!((seen.polls(), seen.calls()), (0, 0));

    // The next call asks the service again.
    assert!(poll_ready(&mut service).is_pending());
    gate.open();
    assert_eq!(service.ready().await.unwrap().call(2).await.unwrap(), 2);
}

async fn a_breaker_that_opened_after_it_was_ready_refuses<L>(layer: L, breaker: CircuitBreaker)
where
    L: Layer<Strict, Service: Serves>,
{
    let (strict, seen) = Strict::echo();
    let mut service = layer.layer(strict);
    service.ready().await.unwrap();
    breaker.force_open();
    let error = service.call(1).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::CircuitOpen), "{error}");
    assert_eq!(seen.calls(), 0);
}

async fn polling_a_half_open_breaker_takes_no_probe<L>(layer: L, breaker: CircuitBreaker)
where
    L: Layer<Strict, Service: Serves>,
{
    let (strict, _) = Strict::echo();
    let service = layer.layer(strict);
    breaker.half_open();
    let mut idle: Vec<_> = (0..10).map(|_| service.clone()).collect();
    for idle in &mut idle {
        idle.ready().await.unwrap();
    }
    for request in 0..3 {
        assert_eq!(service.clone().oneshot(request).await.unwrap(), request);
    }
    assert_eq!(breaker.state(), State::Closed);
}

/// The layers with a bulkhead that refuses at once, somewhere in them.
macro_rules! over_a_full_bulkhead {
    ($($test:ident)*) => { $(
        mod $test {
            use super::*;

            for_every! { @with $test, without_a_queue(), bulkhead:
                alone = BulkheadLayer::new(bulkhead),
                once = BulkheadLayer::new(bulkhead).once(),
                with_a_queue_that_is_never_used = BulkheadLayer::new({
                    bulkhead.reconfigure(&BulkheadConfig::new(1).max_wait(LONG).max_queue(0)).unwrap();
                    bulkhead
                }),
                with_a_queue_but_no_clone = BulkheadLayer::new({
                    bulkhead.reconfigure(&BulkheadConfig::new(1).max_wait(LONG)).unwrap();
                    bulkhead
                })
                .once(),
                below_all = ServiceBuilder::new()
                    .layer(RetryLayer::new(a_retry()))
                    .layer(CircuitBreakerLayer::new(a_breaker()))
                    .layer(TimeoutLayer::new(a_timeout()))
                    .layer(BulkheadLayer::new(bulkhead)),
                above_all = ServiceBuilder::new()
                    .layer(BulkheadLayer::new(bulkhead))
                    .layer(CircuitBreakerLayer::new(a_breaker()))
                    .layer(RetryLayer::new(a_retry())),
                stack_of_one = Stack::builder().bulkhead(bulkhead).build().unwrap(),
                stack_below_all = Stack::builder()
                    .retry(a_retry())
                    .circuit_breaker(a_breaker())
                    .timeout(a_timeout())
                    .bulkhead(bulkhead)
                    .build()
                    .unwrap(),
                stack_above_all = Stack::builder()
                    .bulkhead(bulkhead)
                    .circuit_breaker(a_breaker())
                    .retry(a_retry())
                    .build()
                    .unwrap(),
            }
        }
    )* };
}

over_a_full_bulkhead! {
    a_full_bulkhead_that_refuses_does_not_wait_for_the_service
    a_bulkhead_that_was_full_refuses_though_it_has_room_meanwhile
    an_idle_readiness_takes_no_slot
}

async fn a_full_bulkhead_that_refuses_does_not_wait_for_the_service<L>(layer: L, bulkhead: Bulkhead)
where
    L: Layer<Gated<Strict>, Service: Serves>,
{
    let (strict, seen) = Strict::echo();
    let (gated, _shut) = Gated::new(strict);
    let mut service = layer.layer(gated);
    assert!(poll_ready(&mut service).is_pending());
    let slot = bulkhead.try_acquire().unwrap();
    assert!(poll_ready(&mut service).is_ready());
    let error = service.call(1).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::BulkheadFull), "{error}");
    assert_eq!(bulkhead.snapshot().rejected, 1);
    drop(slot);
    assert!(poll_ready(&mut service).is_pending());
    assert_eq!(seen.calls(), 0);
}

async fn a_bulkhead_that_was_full_refuses_though_it_has_room_meanwhile<L>(layer: L, bulkhead: Bulkhead)
where
    L: Layer<Gated<Strict>, Service: Serves>,
{
    let (strict, seen) = Strict::echo();
    let (gated, gate) = Gated::new(strict);
    let mut service = layer.layer(gated);
    let slot = bulkhead.try_acquire().unwrap();
    assert!(poll_ready(&mut service).is_ready());
    drop(slot);
    let error = service.call(1).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::BulkheadFull), "{error}");
    assert_eq!(find_rejected(&*error).unwrap().policy(), "bulkhead");
    assert_eq!((seen.polls(), seen.calls()), (0, 0));
    assert_eq!(bulkhead.snapshot().in_flight, 0);
    gate.open();
    assert_eq!(service.ready().await.unwrap().call(2).await.unwrap(), 2);
}

async fn an_idle_readiness_takes_no_slot<L>(layer: L, bulkhead: Bulkhead)
where
    L: Layer<Strict, Service: Serves>,
{
    let (strict, _) = Strict::echo();
    let service = layer.layer(strict);
    let mut idle: Vec<_> = (0..10).map(|_| service.clone()).collect();
    for idle in &mut idle {
        idle.ready().await.unwrap();
    }
    assert_eq!(bulkhead.snapshot().in_flight, 0);
    assert_eq!(service.oneshot(1).await.unwrap(), 1);
    for idle in &mut idle {
        assert_eq!(idle.call(2).await.unwrap(), 2);
    }
}

/// Layers in which a breaker lies below a retry.
macro_rules! breaker_below_a_retry {
    ($($test:ident)*) => { $(
        mod $test {
            use super::*;

            for_every! { @with $test, a_breaker(), breaker:
                nest = ServiceBuilder::new()
                    .layer(RetryLayer::new(a_retry()))
                    .layer(CircuitBreakerLayer::new(breaker)),
                nest_with_a_bulkhead_between = ServiceBuilder::new()
                    .layer(RetryLayer::new(a_retry()))
                    .layer(BulkheadLayer::new(a_bulkhead()))
                    .layer(CircuitBreakerLayer::new(breaker)),
                stack = a_stack_below_a_retry(|stack| stack.circuit_breaker(breaker)),
                stack_with_a_bulkhead_between =
                    a_stack_below_a_retry(|stack| stack.bulkhead(a_bulkhead()).circuit_breaker(breaker)),
            }
        }
    )* };
}

fn a_stack_below_a_retry(add: impl FnOnce(StackBuilder<Cloned>) -> StackBuilder<Cloned>) -> Stack<Cloned> {
    add(Stack::builder().retry(a_retry())).build().unwrap()
}

breaker_below_a_retry! {
    another_attempt_does_not_wait_for_the_service_when_the_breaker_opened
}

async fn another_attempt_does_not_wait_for_the_service_when_the_breaker_opened<L>(
    layer: L,
    breaker: CircuitBreaker,
) where
    L: Layer<Gated<Strict>, Service: Serves>,
{
    let (strict, seen) = Strict::replying(|_| Reply::Err);
    let (gated, gate) = Gated::new(strict);
    gate.open();
    let mut service = layer.layer(gated);
    let began = now();
    let mut call = Box::pin(service.ready().await.unwrap().call(1));
    assert!(poll(&mut call).is_pending());
    gate.shut();
    breaker.force_open();
    let error = tokio::time::timeout(LONG, call)
        .await
        .expect("it ends")
        .unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::CircuitOpen), "{error}");
    assert_eq!(find_rejected(&*error).unwrap().attempts(), 2);
    assert_eq!(now().since(began), BACKOFF);
    assert_eq!((seen.polls(), seen.calls()), (1, 1));
}

// Who waits holds no readiness.

/// Two permits, and who has them.
fn two_permits() -> (GlobalConcurrencyLimitLayer, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(2));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    (limit, permits)
}

/// A bulkhead of one, around a retry.
macro_rules! bulkhead_around_a_retry {
    ($($test:ident)*) => { $(
        mod $test {
            use super::*;

            for_every! { @with $test, a_bulkhead(), bulkhead:
                nest = ServiceBuilder::new()
                    .layer(BulkheadLayer::new(bulkhead))
                    .layer(RetryLayer::new(a_retry())),
                nest_of_four = ServiceBuilder::new()
                    .layer(TimeoutLayer::new(a_timeout()))
                    .layer(BulkheadLayer::new(bulkhead))
                    .layer(CircuitBreakerLayer::new(a_breaker()))
                    .layer(RetryLayer::new(a_retry())),
                stack = Stack::builder().bulkhead(bulkhead).retry(a_retry()).build().unwrap(),
                stack_of_four = Stack::builder()
                    .timeout(a_timeout())
                    .bulkhead(bulkhead)
                    .circuit_breaker(a_breaker())
                    .retry(a_retry())
                    .build()
                    .unwrap(),
                stack_in_a_bulkhead = ServiceBuilder::new()
                    .layer(BulkheadLayer::new(bulkhead))
                    .layer(Stack::builder().retry(a_retry()).build().unwrap()),
                bulkhead_around_a_retry_in_a_stack = ServiceBuilder::new()
                    .layer(Stack::builder().bulkhead(bulkhead).queued().build().unwrap())
                    .layer(RetryLayer::new(a_retry())),
            }
        }
    )* };
}

bulkhead_around_a_retry! {
    queue_and_backoff_hold_no_readiness
    calls_beyond_the_permits_do_not_deadlock
    a_call_that_is_dropped_in_the_queue_leaves_nothing_behind
}

async fn queue_and_backoff_hold_no_readiness<L>(layer: L, bulkhead: Bulkhead)
where
    L: Layer<ConcurrencyLimit<Strict>, Service: Serves>,
{
    let (strict, seen) = Strict::replying(|n| if n == 0 { Reply::Err } else { Reply::Ok });
    let (limit, permits) = two_permits();
    let service = layer.layer(limit.layer(strict));
    let (mut first, mut second) = (service.clone(), service.clone());
    first.ready().await.unwrap();
    second.ready().await.unwrap();
    assert_eq!(
        permits.available_permits(),
        0,
        "both hold one while they are ready"
    );

    let mut in_backoff = Box::pin(first.call(1));
    assert!(poll(&mut in_backoff).is_pending());
    assert_eq!((seen.calls(), seen.running()), (1, 0));
    assert_eq!(permits.available_permits(), 1, "the backoff holds none");

    let mut queued = Box::pin(second.call(2));
    assert_eq!(permits.available_permits(), 2, "nor does the queue");
    assert!(poll(&mut queued).is_pending());
    assert_eq!(permits.available_permits(), 2);
    assert_eq!(bulkhead.snapshot().queued, 1);

    let (in_backoff, queued) = tokio::join!(in_backoff, queued);
    assert_eq!((in_backoff.unwrap(), queued.unwrap()), (1, 2));
    assert_eq!(permits.available_permits(), 2);
}

async fn calls_beyond_the_permits_do_not_deadlock<L>(layer: L, bulkhead: Bulkhead)
where
    L: Layer<ConcurrencyLimit<Strict>, Service: Serves>,
{
    // Each first attempt fails.
    let (strict, seen) = Strict::replying(|n| {
        if n % 2 == 0 {
            Reply::ErrAfter(MS)
        } else {
            Reply::OkAfter(MS)
        }
    });
    let (limit, permits) = two_permits();
    let service = layer.layer(limit.layer(strict));
    let mut calls = Vec::new();
    for request in 0..5 {
        // Ready one after the other, then called one after the other, as the permits allow.
        let mut service = service.clone();
        let ready = tokio::time::timeout(LONG, service.ready()).await;
        let call = ready
            .expect("the permits of those who wait are free")
            .unwrap()
            .call(request);
        calls.push((request, tokio::spawn(call)));
        // So that it is polled.
        tokio::task::yield_now().await;
    }
    assert_eq!(bulkhead.snapshot().queued, 4);
    for (request, call) in calls {
        let answer = tokio::time::timeout(LONG, call).await.expect("it ends");
        assert_eq!(answer.unwrap().unwrap(), request);
    }
    assert_eq!((seen.calls(), seen.most()), (10, 1));
    assert_eq!(permits.available_permits(), 2);
}

async fn a_call_that_is_dropped_in_the_queue_leaves_nothing_behind<L>(layer: L, bulkhead: Bulkhead)
where
    L: Layer<ConcurrencyLimit<Strict>, Service: Serves>,
{
    let (strict, _) = Strict::replying(|n| if n == 0 { Reply::Never } else { Reply::Ok });
    let (limit, permits) = two_permits();
    let service = layer.layer(limit.layer(strict));
    let (mut first, mut second) = (service.clone(), service.clone());
    let mut under_way = Box::pin(first.ready().await.unwrap().call(1));
    let mut queued = Box::pin(second.ready().await.unwrap().call(2));
    assert!(poll(&mut under_way).is_pending() && poll(&mut queued).is_pending());
    drop(queued);
    assert_eq!(bulkhead.snapshot().queued, 0);
    assert_eq!(permits.available_permits(), 1);
    drop(under_way);
    assert_eq!(bulkhead.snapshot().in_flight, 0);
    assert_eq!(permits.available_permits(), 2);
    assert_eq!(service.oneshot(3).await.unwrap(), 3);
}

/// A bulkhead of one, below a retry.
macro_rules! bulkhead_below_a_retry {
    ($($test:ident)*) => { $(
        mod $test {
            use super::*;

            for_every! { @with $test, a_bulkhead(), bulkhead:
                nest = ServiceBuilder::new()
                    .layer(RetryLayer::new(a_retry()))
                    .layer(BulkheadLayer::new(bulkhead)),
                stack = Stack::builder().retry(a_retry()).bulkhead(bulkhead).build().unwrap(),
                stack_of_four = Stack::builder()
                    .timeout(a_timeout())
                    .retry(a_retry())
                    .circuit_breaker(a_breaker())
                    .bulkhead(bulkhead)
                    .build()
                    .unwrap(),
            }
        }
    )* };
}

bulkhead_below_a_retry! {
    another_attempt_that_is_queued_holds_no_readiness
}

async fn another_attempt_that_is_queued_holds_no_readiness<L>(layer: L, bulkhead: Bulkhead)
where
    L: Layer<ConcurrencyLimit<Strict>, Service: Serves>,
{
    let (strict, seen) = Strict::replying(|n| if n == 0 { Reply::Err } else { Reply::Ok });
    let (limit, permits) = two_permits();
    let call = tokio::spawn(layer.layer(limit.layer(strict)).oneshot(1));
    tokio::time::sleep(BACKOFF / 2).await;
    assert_eq!(seen.calls(), 1);
    let slot = bulkhead.try_acquire().unwrap();
    tokio::time::sleep(BACKOFF).await;
    assert_eq!((bulkhead.snapshot().queued, seen.calls()), (1, 1));
    assert_eq!(permits.available_permits(), 2);
    drop(slot);
    assert_eq!(call.await.unwrap().unwrap(), 1);
    assert_eq!(permits.available_permits(), 2);
}

/// A permit that comes free in the backoff is somebody else's for as long as that one needs it.
#[tokio::test(start_paused = true)]
async fn a_backoff_lets_others_through_a_limit_of_one() {
    let (strict, seen) = Strict::replying(|n| match n {
        0 => Reply::Err,
        1 => Reply::OkAfter(5 * BACKOFF),
        _ => Reply::Ok,
    });
    let service = RetryLayer::new(a_retry()).layer(ConcurrencyLimit::new(strict, 1));
    let began = now();
    let waiting = tokio::spawn(service.clone().oneshot(1));
    tokio::task::yield_now().await;
    assert_eq!(seen.calls(), 1);
    assert_eq!(service.oneshot(2).await.unwrap(), 2);
    assert_eq!(now().since(began), 5 * BACKOFF);
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    assert_eq!(now().since(began), 5 * BACKOFF);
}

/// A bulkhead's queue gives up the place in the channel that a ready `Buffer` holds.
#[tokio::test(start_paused = true)]
async fn a_queue_holds_no_place_in_a_buffer() {
    let (strict, _) = Strict::replying(|_| Reply::OkAfter(MS));
    let bulkhead = a_bulkhead();
    let service = BulkheadLayer::new(bulkhead.clone()).layer(Buffer::new(strict, 1));
    let slot = bulkhead.try_acquire().unwrap();
    let calls: Vec<_> = (0..4)
        .map(|request| tokio::spawn(service.clone().oneshot(request)))
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bulkhead.snapshot().queued, 4);
    drop(slot);
    for (request, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), request);
    }
}

/// The adapter adds nothing to readiness and takes nothing from it.
#[tokio::test]
async fn the_adapter_turns_errors_and_leaves_the_rest_alone() {
    let mut service = AdaptLayer::new().layer(tower::service_fn(|request: u32| async move {
        if request == 0 {
            Err(Broken("zero"))
        } else {
            Ok::<_, Broken>(request)
        }
    }));
    assert_eq!(service.ready().await.unwrap().call(1).await, Ok(1));
    assert_eq!(
        service.ready().await.unwrap().call(0).await,
        Err(Error::Service(Broken("zero")))
    );
}
