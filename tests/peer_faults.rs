//! Faults that users of other libraries met, each as a test of what happens here instead. The headings say who
//! had the fault.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/lab.rs"]
mod lab;

use std::{
    collections::BTreeMap,
    future::{Future, Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Advice, Backoff, BoxError, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerLayer, Clock, Event, Exchange, Held, Jitter, OpenCause, Outcome, Policy, Predicate, Rate,
    Rejected, RejectedKind, Replay, Retry, RetryBudgetConfig, RetryConfig, RetryLayer, Rules, Stack, State,
    TimeoutConfig, TimeoutLayer, Timestamp, Verdict, What, find_rejected,
};
use lab::{Call, Events, Lab, Order, advance, ms, paused};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimit, service_fn};

fn build(config: CircuitBreakerConfig) -> CircuitBreaker {
    config.build("inventory").unwrap()
}

#[track_caller]
fn settle(breaker: &CircuitBreaker, verdict: Verdict, calls: u32) {
    for _ in 0..calls {
        let permit = breaker.try_acquire().unwrap();
        permit.settle_after(verdict, Duration::ZERO);
    }
}

/// Retries that nothing but their number stops.
fn eager(attempts: u32) -> RetryConfig {
    RetryConfig::new()
        .max_attempts(attempts)
        .backoff(Backoff::fixed(ms(10)))
        .jitter(Jitter::None)
        .no_budget()
}

// ---- 1. A window that never slides, that keeps and scans every call, a minimum without effect (tower-resilience).

#[test]
fn a_million_successes_do_not_outweigh_the_last_hundred_calls() {
    let (clock, _) = Clock::manual();
    let breaker = build(CircuitBreakerConfig::new().clock(clock));
    settle(&breaker, Verdict::Success, 1_000_000);
    settle(&breaker, Verdict::Failure, 49);
    assert_eq!(breaker.state(), State::Closed);
    settle(&breaker, Verdict::Failure, 1);
    assert_eq!(breaker.state(), State::Open, "half of the last hundred failed");
}

#[test]
fn a_time_window_takes_calls_as_fast_when_it_holds_a_million() {
    // Looking at each call that it holds at each call would take hours here.
    let (clock, hand) = Clock::manual();
    let settings = CircuitBreakerConfig::new().time_window(Duration::from_secs(100));
    let breaker = build(settings.clock(clock));
    for _ in 0..100 {
        settle(&breaker, Verdict::Success, 9_000);
        settle(&breaker, Verdict::Failure, 1_000);
        hand.advance(Duration::from_secs(1));
    }
    let shown = breaker.snapshot();
    assert_eq!((shown.calls, shown.failed), (990_000, 99_000));
    hand.advance(Duration::from_secs(98));
    assert_eq!(breaker.snapshot().calls, 10_000);
    hand.advance(Duration::from_secs(1));
    assert_eq!(breaker.snapshot().calls, 0);
}

#[test]
fn a_minimum_below_the_windows_size_has_effect() {
    let breaker = build(CircuitBreakerConfig::new().count_window(100).minimum_calls(5));
    settle(&breaker, Verdict::Failure, 4);
    assert_eq!(breaker.state(), State::Closed);
    settle(&breaker, Verdict::Failure, 1);
    assert_eq!(breaker.state(), State::Open);
}

// ---- 2. New state for each `Layer::layer` (tower-resilience, seatbelt).

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_applied_for_each_connection_shares_its_breaker() {
    let failing = service_fn(|_: u32| ready(Err::<u32, BoxError>("down".into())));
    let layer = CircuitBreakerLayer::new(build(CircuitBreakerConfig::new()));
    let stack = Stack::builder().circuit_breaker(layer.policy().clone());
    let stack = stack.build().unwrap();
    for _ in 0..10 {
        layer.layer(failing).oneshot(1).await.unwrap_err();
        stack.layer(failing).oneshot(1).await.unwrap_err();
    }
    let error = layer.clone().layer(failing).oneshot(1).await.unwrap_err();
    assert_eq!(
        find_rejected(&*error).map(Rejected::kind),
        Some(RejectedKind::CircuitOpen)
    );
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_applied_for_each_connection_shares_its_slots_and_its_budget() {
    let lab = Lab::new();
    let layer = BulkheadLayer::new(BulkheadConfig::new(2).build("db").unwrap());
    let _inside = [1, 2].map(|call| Call::pending(&mut layer.layer(lab.clone()), call));
    let third = Call::begin(&mut layer.layer(lab.clone()), 3).poll().rejected();
    assert_eq!(third.kind(), RejectedKind::BulkheadFull);

    let failing = service_fn(|_: u32| ready(Err::<u32, BoxError>("down".into())));
    let budget = RetryBudgetConfig::new()
        .ratio(1.0)
        .min_per_second(0)
        .window(Duration::from_secs(60));
    let retry = eager(3).budget(budget).build("again").unwrap();
    let layer = RetryLayer::new(retry.clone());
    for _ in 0..10 {
        layer.layer(failing).oneshot(1).await.unwrap_err();
    }
    let shown = retry.budget().unwrap().snapshot();
    assert_eq!(
        (shown.calls, shown.retries),
        (10, 10),
        "two each without a budget"
    );
}

// ---- 3. A call that was admitted while closed decides half-open (tower-resilience, resilience4j).

#[tokio::test(start_paused = true)]
async fn a_call_from_before_the_outage_does_not_stand_in_for_a_probe() {
    let lab = Lab::new();
    for order in [Order::Succeed, Order::Fail] {
        let breaker = build(CircuitBreakerConfig::new().probes(1));
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
        let mut slow = Call::pending(&mut service, 1);
        settle(&breaker, Verdict::Failure, 20);
        advance(5_001).await;
        let mut probe = Call::pending(&mut service, 2);
        lab.order(1, order);
        assert!(!slow.poll().is_pending());
        let shown = breaker.snapshot();
        assert_eq!((shown.state, shown.calls), (State::HalfOpen, 0));
        lab.order(2, Order::Succeed);
        probe.poll().succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }
}

// ---- 4. Cancelled and panicking calls are not recorded (tower-resilience); a probe that never reports leaves the
// ---- breaker half-open for ever (resilience4j, recloser, nora).

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_does_not_blind_the_breaker_to_a_hanging_upstream() {
    let breaker = build(CircuitBreakerConfig::new());
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(
            TimeoutConfig::new(ms(100)).build("total").unwrap(),
        ))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(Lab::new());
    for _ in 0..20 {
        assert_eq!(breaker.state(), State::Closed);
        service.clone().oneshot(1).await.unwrap_err();
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn nor_does_a_timeout_of_another_maker_once_it_is_long_enough() {
    let breaker = build(CircuitBreakerConfig::new().dropped_after(ms(1_000)));
    let guarded = CircuitBreakerLayer::new(breaker.clone()).layer(Lab::new());
    let service = tower::timeout::Timeout::new(guarded, ms(1_000));
    for _ in 0..20 {
        assert_eq!(breaker.state(), State::Closed);
        service.clone().oneshot(1).await.unwrap_err();
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn probes_that_never_report_do_not_leave_it_half_open_for_ever() {
    let lab = Lab::new();
    let breaker = build(CircuitBreakerConfig::new());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    breaker.half_open();
    let _hung: Vec<Call> = (0..3).map(|call| Call::pending(&mut service, call)).collect();
    assert!(breaker.try_acquire().is_err());
    advance(30_001).await;
    lab.order_next(Order::Succeed);
    for call in 3..6 {
        Call::begin(&mut service, call).poll().succeeded();
    }
    assert_eq!(breaker.state(), State::Closed);
}

// ---- 5. A clock that `tokio::time::pause` does not move, two clocks mixed (tower-resilience).

#[test]
fn tokios_paused_clock_moves_every_policy_and_an_hour_passes_at_once() {
    paused(async {
        let lab = Lab::new();
        let breaker = build(CircuitBreakerConfig::new().time_window(Duration::from_secs(60)));
        let bulkhead = BulkheadConfig::new(1).max_wait(ms(60_000)).build("db").unwrap();
        let timeout = TimeoutConfig::new(ms(300_000)).build("total").unwrap();
        let retry = eager(2)
            .backoff(Backoff::fixed(ms(60_000)))
            .build("again")
            .unwrap();
        let began = Clock::tokio().now();
        let took = |since: Timestamp| Clock::tokio().now().since(since).as_secs();

        // The window, and the wait.
        settle(&breaker, Verdict::Failure, 19);
        advance(60_000).await;
        assert_eq!(breaker.snapshot().calls, 0);
        settle(&breaker, Verdict::Failure, 20);
        advance(5_001).await;
        settle(&breaker, Verdict::Success, 3);
        assert_eq!(breaker.state(), State::Closed);

        // The queue of the bulkhead, the backoff, the timeout: a call that waits for them moves the clock.
        let slot = bulkhead.try_acquire().unwrap();
        let waits = BulkheadLayer::new(bulkhead.clone()).layer(lab.clone());
        let now = Clock::tokio().now();
        waits.oneshot(1).await.unwrap_err();
        assert_eq!(took(now), 60);
        drop(slot);

        lab.order_next(Order::Fail);
        let now = Clock::tokio().now();
        RetryLayer::new(retry)
            .layer(lab.clone())
            .oneshot(1)
            .await
            .unwrap_err();
        assert_eq!(took(now), 60);

        lab.order_next(Order::Wait);
        let now = Clock::tokio().now();
        TimeoutLayer::new(timeout)
            .layer(lab)
            .oneshot(1)
            .await
            .unwrap_err();
        assert_eq!(took(now), 300);
        assert!(took(began) > 480);
    });
}

// ---- 6. A full bulkhead is called a timeout, a state gauge never clears the old state, the open error has neither
// ---- name nor time (tower-resilience).

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_is_full_and_never_a_timeout() {
    for (max_wait, text) in [
        (0, "bulkhead `db` is full: all 1 slots in use"),
        (50, "bulkhead `db` is full: all 1 slots in use, waited 50ms"),
    ] {
        let bulkhead = BulkheadConfig::new(1).max_wait(ms(max_wait)).build("db").unwrap();
        let _slot = bulkhead.try_acquire().unwrap();
        let error = BulkheadLayer::new(bulkhead)
            .layer(Lab::new())
            .oneshot(1)
            .await
            .unwrap_err();
        let rejected = find_rejected(&*error).unwrap();
        assert_eq!(rejected.kind(), RejectedKind::BulkheadFull);
        assert_eq!(rejected.waited().is_some(), max_wait > 0);
        assert!(!rejected.may_have_reached_service());
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_gauge_made_from_events_shows_one_state_at_a_time_and_the_right_one() {
    let (clock, hand) = Clock::manual();
    let breaker = build(CircuitBreakerConfig::new().clock(clock));
    let gauge = Arc::new(Mutex::new(BTreeMap::from([("closed".to_owned(), 1)])));
    let seen = Arc::clone(&gauge);
    breaker.observe(Arc::new(move |event: &Event| {
        if let What::Transition { from, to, .. } = event.what {
            let mut gauge = seen.lock().unwrap();
            *gauge.entry(from.to_string()).or_default() -= 1;
            *gauge.entry(to.to_string()).or_default() += 1;
        }
    }));
    let check = || {
        let gauge = gauge.lock().unwrap();
        let shown: Vec<_> = gauge.iter().filter(|(_, value)| **value != 0).collect();
        assert_eq!(shown, [(&breaker.state().to_string(), &1)]);
    };
    settle(&breaker, Verdict::Failure, 20);
    check();
    hand.advance(ms(5_001));
    settle(&breaker, Verdict::Failure, 1);
    check();
    settle(&breaker, Verdict::Failure, 2);
    check();
    for state in [
        State::ForcedOpen,
        State::ForcedOpen,
        State::Disabled,
        State::MetricsOnly,
        State::HalfOpen,
        State::Closed,
        State::Closed,
    ] {
        breaker.transition_to(state);
        check();
    }
}

/// At the end of its wait itself an open breaker still refuses, so it says to come back just after.
fn just_after(wait: Duration) -> Duration {
    wait + Duration::from_nanos(1)
}

#[test]
fn an_open_breaker_says_its_name_why_and_when_to_come_back() {
    let (clock, hand) = Clock::manual();
    let breaker = build(CircuitBreakerConfig::new().clock(clock));
    settle(&breaker, Verdict::Success, 8);
    settle(&breaker, Verdict::Failure, 12);
    hand.advance(ms(1_000));
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.policy(), "inventory");
    assert_eq!(rejected.retry_after(), Some(just_after(ms(4_000))));
    assert_eq!(
        rejected.to_string(),
        "circuit breaker `inventory` refused the call: failure rate 60 % of 20 calls; retry in 4s"
    );
}

// ---- 7. Retry demands `Clone` (tower-resilience and others); a streaming body errors before the first attempt, POST
// ---- is retried, `Retry-After` is ignored (reqwest-middleware).

/// A request whose body can be sent once.
#[derive(Debug)]
struct Streaming {
    method: &'static str,
    body: Option<&'static str>,
}

fn streaming(method: &'static str, body: Option<&'static str>) -> Streaming {
    Streaming { method, body }
}

/// Fails so many times, then succeeds; counts.
#[derive(Clone, Default)]
struct Shaky {
    fails: u32,
    seen: Arc<AtomicU32>,
}

impl Service<Streaming> for Shaky {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Streaming) -> Self::Future {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        ready(if seen < self.fails {
            Err("shaky".into())
        } else {
            Ok(seen + 1)
        })
    }
}

fn shaky(fails: u32) -> Shaky {
    Shaky {
        fails,
        ..Shaky::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_clone_needs_one_word() {
    let retry = eager(3).build("again").unwrap();
    let once = RetryLayer::new(retry.clone()).once().layer(shaky(1));
    assert!(once.oneshot(streaming("GET", None)).await.is_err(), "sent once");
    let stack = Stack::builder().retry(retry).build().unwrap().once();
    assert!(
        stack
            .layer(shaky(1))
            .oneshot(streaming("GET", None))
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again_is_sent_once_and_not_refused() {
    let copy = |request: &Streaming| {
        let copied = streaming(request.method, None);
        request.body.is_none().then_some(copied)
    };
    let events = Events::new();
    let retry = eager(3).build("again").unwrap();
    retry.observe(events.observer());
    let layer = RetryLayer::new(retry).copy_by(copy);
    let replayed = layer
        .layer(shaky(2))
        .oneshot(streaming("PUT", None))
        .await
        .unwrap();
    assert_eq!(replayed, 3);
    events.take();

    let service = shaky(1);
    let seen = Arc::clone(&service.seen);
    let error = layer
        .layer(service)
        .oneshot(streaming("PUT", Some("stream")))
        .await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "shaky",
        "the service's own error, unchanged"
    );
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    let why = buttress::GaveUp::NotRepeatable;
    assert_eq!(events.take(), [What::GaveUp { attempts: 1, why }]);
    let sent = layer
        .layer(shaky(0))
        .oneshot(streaming("PUT", Some("stream")))
        .await;
    assert_eq!(sent.unwrap(), 1);
}

/// Makes a request that can be replayed of one that cannot: another type is sent.
#[derive(Clone)]
struct Buffering;

impl Replay<Streaming> for Buffering {
    type Sent = String;
    type Kept = String;

    fn first(&self, request: Streaming) -> (String, String) {
        let buffered = format!("{} {}", request.method, request.body.unwrap_or_default());
        (buffered.clone(), buffered)
    }

    fn can_repeat(&self, _kept: &String) -> bool {
        true
    }

    fn again(&self, kept: &mut String) -> Option<String> {
        Some(kept.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_may_send_another_type_that_can_be_replayed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inner = {
        let seen = Arc::clone(&seen);
        service_fn(move |request: String| {
            seen.lock().unwrap().push(request);
            ready(Err::<u32, BoxError>("down".into()))
        })
    };
    let retry = eager(3).build("again").unwrap();
    let service = RetryLayer::new(retry).prepare(Buffering).layer(inner);
    service
        .oneshot(streaming("PUT", Some("stream")))
        .await
        .unwrap_err();
    assert_eq!(*seen.lock().unwrap(), ["PUT stream"; 3]);
}

/// Knows of methods, and obeys a server's hint.
#[derive(Clone)]
struct Http {
    hint: Duration,
}

impl<Err: buttress::HoldsRejected> Exchange<Streaming, u32, Err> for Http {
    type Facts = &'static str;
    type Response<P: Policy> = u32;

    fn facts(&self, request: &Streaming) -> &'static str {
        request.method
    }

    fn judge<'a>(&self, method: &&'static str, result: Result<&'a u32, &'a Err>) -> Outcome<'a> {
        let outcome = Outcome::of(result).with_repeatable(*method != "POST");
        if outcome.verdict() == Verdict::Failure {
            outcome.with_advice(Advice::RetryAfter(self.hint))
        } else {
            outcome
        }
    }

    fn give<P: Policy>(&self, _method: &&'static str, response: u32) -> u32 {
        response
    }

    fn carry<P: Policy>(&self, _method: &&'static str, response: u32, _held: Held<P>) -> u32 {
        response
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_once_and_a_get_again() {
    let retry = eager(3).build("again").unwrap();
    let layer = RetryLayer::new(retry).copy_by(|request: &Streaming| Some(streaming(request.method, None)));
    let layer = layer.exchange(Http { hint: ms(10) });
    assert!(
        layer
            .layer(shaky(1))
            .oneshot(streaming("POST", None))
            .await
            .is_err()
    );
    assert_eq!(
        layer
            .layer(shaky(1))
            .oneshot(streaming("GET", None))
            .await
            .unwrap(),
        2
    );
}

/// How long a call takes that is retried once, when the server hints at `hint`.
async fn hinted(config: RetryConfig, hint: Duration) -> Duration {
    let layer = RetryLayer::new(config.build("again").unwrap())
        .copy_by(|request: &Streaming| Some(streaming(request.method, None)));
    let began = Clock::tokio().now();
    let service = layer.exchange(Http { hint }).layer(shaky(1));
    assert_eq!(service.oneshot(streaming("GET", None)).await.unwrap(), 2);
    Clock::tokio().now().since(began)
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_the_server_is_obeyed() {
    assert_eq!(hinted(eager(2), ms(7_000)).await, ms(7_000));
}

// ---- 8. The cap is applied after the jitter (Polly, tower, linkerd); seconds and nanoseconds are cut apart (tower).

/// The waits of a call that is retried as often as may be.
fn waits(config: RetryConfig) -> Vec<Duration> {
    paused(async {
        let events = Events::new();
        let retry = config.build("again").unwrap();
        retry.observe(events.observer());
        let failing = service_fn(|_: u32| ready(Err::<u32, BoxError>("down".into())));
        let _ = RetryLayer::new(retry).layer(failing).oneshot(1).await;
        events.pick(|what| match what {
            What::Retrying { after, .. } => Some(*after),
            _ => None,
        })
    })
}

#[test]
fn clients_do_not_march_in_step_once_they_are_at_the_cap() {
    let backoff = Backoff::exponential(ms(100), 2.0, ms(5_000));
    for jitter in [Jitter::Full, Jitter::Equal] {
        let mut seventh: Vec<_> = (0..100)
            .map(|seed| {
                let config = eager(8).backoff(backoff.clone()).jitter(jitter).seed(seed);
                waits(config)[6]
            })
            .collect();
        assert!(seventh.iter().all(|wait| *wait <= ms(5_000)));
        seventh.sort_unstable();
        seventh.dedup();
        assert!(seventh.len() >= 95, "{jitter:?}: {} of 100 differ", seventh.len());
    }
}

#[test]
fn a_wait_just_below_a_second_stays_below_it() {
    for seed in 0..200 {
        for wait in waits(
            eager(5)
                .backoff(Backoff::fixed(ms(999)))
                .jitter(Jitter::Equal)
                .seed(seed),
        ) {
            assert!(wait >= Duration::from_micros(499_500), "{wait:?}");
            assert!(wait <= ms(999), "{wait:?}");
        }
    }
}

// ---- 9. seatbelt.

#[tokio::test(start_paused = true)]
async fn a_retry_drives_the_service_ready_again_over_a_concurrency_limit() {
    let lab = Lab::new();
    lab.order_next(Order::Fail);
    let limited = ConcurrencyLimit::new(lab.clone(), 1);
    let service = RetryLayer::new(eager(3).build("again").unwrap()).layer(limited);
    service.oneshot(1).await.unwrap_err();
    assert_eq!(lab.made(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hung_in_one_half_open_period_does_not_close_the_next() {
    let lab = Lab::new();
    let breaker = build(CircuitBreakerConfig::new().probes(2));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    breaker.half_open();
    let mut hung = Call::pending(&mut service, 1);
    breaker.open();
    advance(5_001).await;
    let _probe = Call::pending(&mut service, 2);
    assert_eq!(breaker.state(), State::HalfOpen);
    lab.order(1, Order::Succeed);
    hung.poll().succeeded();
    assert_eq!((breaker.state(), breaker.snapshot().calls), (State::HalfOpen, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_panicking_calls_are_a_hundred_failures() {
    let lab = Lab::new();
    let breaker = build(CircuitBreakerConfig::new());
    breaker.metrics_only();
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    lab.order_next(Order::Panic);
    for call in 0..50 {
        Call::begin(&mut service, call).poll().panicked();
        assert!(Call::begin_panicking(&mut service, &lab, call).is_none());
    }
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failed), (100, 100));
}

#[test]
fn settings_that_would_panic_later_are_refused_where_they_are_built() {
    let error = CircuitBreakerConfig::new()
        .failure_rate(7.5)
        .build("inventory")
        .unwrap_err();
    assert_eq!((error.field(), error.value()), ("failure_rate", "7.5"));
    let error = CircuitBreakerConfig::new()
        .time_window(Duration::ZERO)
        .build("inventory")
        .unwrap_err();
    assert_eq!(error.field(), "window.time");
    assert!(CircuitBreakerConfig::new().probes(0).build("inventory").is_err());
    assert!(BulkheadConfig::new(0).build("db").is_err());
    assert!(TimeoutConfig::new(Duration::ZERO).build("total").is_err());
    assert!(RetryConfig::new().max_attempts(0).build("again").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_an_hour_is_cut_to_the_longest_that_is_set() {
    let hour = Duration::from_secs(3600);
    assert_eq!(hinted(eager(2).max_hint(ms(1_000)), hour).await, ms(1_000));
    assert_eq!(
        hinted(eager(2), hour).await,
        ms(10_000),
        "ten seconds where nothing is set"
    );
    assert_eq!(hinted(eager(2).max_hint(Duration::ZERO), hour).await, ms(0));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_closes_within_its_wait_and_a_few_calls_after_the_upstream_is_well() {
    let lab = Lab::new();
    let breaker = build(CircuitBreakerConfig::new());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    lab.order_next(Order::Fail);
    let mut number = 0..;
    // A hundred calls a second.
    while breaker.state() == State::Closed {
        Call::begin(&mut service, number.next().unwrap()).poll().failed();
        advance(10).await;
    }
    lab.order_next(Order::Succeed);
    let well = Clock::tokio().now();
    while breaker.state() != State::Closed {
        let _ = Call::begin(&mut service, number.next().unwrap()).poll();
        advance(10).await;
    }
    let took = Clock::tokio().now().since(well);
    assert!(took <= ms(5_050), "{took:?}");
}

// ---- 10. resilience4j: windows when the clock steps back, a forced transition without a wait, lists that add up.

#[test]
fn a_clock_that_steps_back_evicts_nothing_and_loses_no_call() {
    let (clock, hand) = Clock::manual();
    let settings = CircuitBreakerConfig::new()
        .time_window(Duration::from_secs(10))
        .minimum_calls(1_000);
    let breaker = build(settings.clock(clock));
    let at = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
    let calls = || (breaker.snapshot().calls, breaker.snapshot().failed);
    hand.set(at(20_500));
    settle(&breaker, Verdict::Success, 10);
    settle(&breaker, Verdict::Failure, 5);
    for back in [19_000, 12_345, 500, 0] {
        hand.set(at(back));
        assert_eq!(calls(), (15, 5));
        settle(&breaker, Verdict::Success, 2);
        settle(&breaker, Verdict::Failure, 1);
        assert_eq!(calls(), (18, 6), "at {back} ms");
        breaker.close();
        hand.set(at(20_500));
        settle(&breaker, Verdict::Success, 10);
        settle(&breaker, Verdict::Failure, 5);
    }
    hand.set(at(1_000));
    settle(&breaker, Verdict::Failure, 1);
    hand.set(at(29_999));
    assert_eq!(calls(), (16, 6), "all are in the window of the newest time");
    hand.set(at(30_000));
    assert_eq!(calls(), (0, 0));
}

#[test]
fn a_clock_that_steps_back_does_not_wedge_an_open_or_half_open_breaker() {
    let (clock, hand) = Clock::manual();
    let breaker = build(CircuitBreakerConfig::new().clock(clock).probes(1));
    let at = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
    hand.set(at(100_000));
    breaker.open();
    hand.set(at(98_000));
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.retry_after(), Some(just_after(ms(7_000))));
    assert_eq!(breaker.snapshot().since, Duration::ZERO);
    hand.set(at(105_001));
    let hung = breaker.try_acquire().unwrap();
    hand.set(at(50_000));
    assert!(breaker.try_acquire().is_err());
    hand.set(at(135_002));
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
    drop(hung);
}

#[test]
fn a_forced_transition_leads_on_to_every_other_state() {
    let (clock, hand) = Clock::manual();
    let breaker = build(CircuitBreakerConfig::new().clock(clock));
    breaker.force_open();
    breaker.open();
    assert!(breaker.try_acquire().is_err());
    assert_eq!(
        breaker.snapshot().until.map(just_after),
        breaker.try_acquire().unwrap_err().retry_after()
    );
    hand.advance(Duration::from_secs(60));
    settle(&breaker, Verdict::Success, 3);
    assert_eq!(breaker.state(), State::Closed);
    breaker.force_open();
    breaker.half_open();
    settle(&breaker, Verdict::Success, 3);
    assert_eq!(breaker.state(), State::Closed);
    breaker.force_open();
    breaker.close();
    settle(&breaker, Verdict::Success, 1);
}

#[tokio::test(start_paused = true)]
async fn lists_of_one_layer_do_not_add_to_those_of_another() {
    let breaker = build(CircuitBreakerConfig::new());
    breaker.metrics_only();
    let base = CircuitBreakerLayer::new(breaker.clone()).record(Predicate::error::<lab::Failed>());
    let strict = base.clone().ignore(Predicate::any_error());
    let failing = {
        let lab = Lab::new();
        lab.order_next(Order::Fail);
        lab
    };
    strict.layer(failing.clone()).oneshot(1).await.unwrap_err();
    assert_eq!(breaker.snapshot().calls, 0);
    base.layer(failing.clone()).oneshot(1).await.unwrap_err();
    assert_eq!(breaker.snapshot().failed, 1);
    let other = Rules::new().record(Predicate::error::<std::fmt::Error>());
    let stack = Stack::builder().circuit_breaker_with(breaker.clone(), other);
    let stack = stack.build().unwrap();
    stack.layer(failing).oneshot(1).await.unwrap_err();
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failed), (2, 1));
}

// ---- 11. A reload of the configuration throws the windows away, or orphans the observers (Polly, resilience4j).

#[test]
fn new_settings_keep_window_and_observers() {
    let (clock, _) = Clock::manual();
    let breaker = build(CircuitBreakerConfig::new().clock(clock));
    let events = Events::new();
    breaker.observe(events.observer());
    settle(&breaker, Verdict::Success, 10);
    settle(&breaker, Verdict::Failure, 9);
    let before = breaker.snapshot();
    breaker
        .reconfigure(&CircuitBreakerConfig::new().failure_rate(0.4))
        .unwrap();
    assert_eq!(breaker.snapshot(), before);
    events.take();
    settle(&breaker, Verdict::Failure, 1);
    let cause = OpenCause::FailureRate {
        rate: Rate::fraction(0.5),
        calls: 20,
    };
    let opened = What::Transition {
        from: State::Closed,
        to: State::Open,
        cause: Some(cause),
    };
    assert!(events.take().contains(&opened));
}

#[tokio::test(start_paused = true)]
async fn new_settings_keep_observers_and_counts_of_every_policy() {
    let events = Events::new();
    let heard = |what: What| assert!(events.take().contains(&what));

    let bulkhead = BulkheadConfig::new(1).build("db").unwrap();
    bulkhead.observe(events.observer());
    let _slot = bulkhead.try_acquire().unwrap();
    let refused = bulkhead.try_acquire().unwrap_err();
    heard(What::Rejected(refused));
    bulkhead
        .reconfigure(&BulkheadConfig::new(2).max_wait(ms(10)))
        .unwrap();
    heard(What::Reconfigured);
    let shown = bulkhead.snapshot();
    assert_eq!((shown.limit, shown.in_flight, shown.rejected), (2, 1, 1));
    let _second = bulkhead.try_acquire().unwrap();
    let refused = bulkhead.try_acquire().unwrap_err();
    heard(What::Rejected(refused));

    let timeout = TimeoutConfig::new(ms(10)).build("total").unwrap();
    timeout.observe(events.observer());
    let layered = TimeoutLayer::new(timeout.clone()).layer(Lab::new());
    timeout.reconfigure(&TimeoutConfig::new(ms(20))).unwrap();
    heard(What::Reconfigured);
    let error = layered.oneshot(1).await.unwrap_err();
    heard(What::Rejected(find_rejected(&*error).unwrap().clone()));

    let retry = Retry::with_defaults("again").unwrap();
    retry.observe(events.observer());
    let failing = service_fn(|_: u32| ready(Err::<u32, BoxError>("down".into())));
    let layered = RetryLayer::new(retry.clone()).layer(failing);
    layered.clone().oneshot(1).await.unwrap_err();
    retry.reconfigure(&RetryConfig::new().max_attempts(5)).unwrap();
    heard(What::Reconfigured);
    layered.oneshot(1).await.unwrap_err();
    let why = buttress::GaveUp::Attempts;
    heard(What::GaveUp { attempts: 5, why });
    let budget = retry.budget().unwrap().snapshot();
    assert_eq!(
        (budget.calls, budget.retries),
        (2, 6),
        "the counts of before are there"
    );
}

// ---- 12. Three attempts within a millisecond (reqwest).

#[test]
fn attempts_are_spread_out_where_nothing_is_set() {
    let mut all: Vec<Duration> = (0..200)
        .map(|seed| waits(RetryConfig::new().seed(seed)).iter().sum())
        .collect();
    all.sort_unstable();
    let median = all[100];
    assert!(
        median > ms(120) && median < ms(180),
        "full jitter of 100 and 200 ms: {median:?}"
    );
    assert!(all[3] > ms(10), "{:?}", all[3]);
}

// ---- What a future must be for all that: it can be sent to another thread.

#[test]
fn guarded_calls_are_send() {
    fn is_send<T: Send>(_: &T) {}
    let service = RetryLayer::new(Retry::with_defaults("again").unwrap()).layer(Lab::new());
    let call = service.oneshot(1);
    is_send(&call);
    let _: &dyn Future<Output = _> = &call;
}
