//! Calls that are dropped or panic, in every state and for every layer: no permit is lost, none is invented, and
//! the circuit breaker learns what it should.
//!
//! The random interleavings are in `interleavings.rs`.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/lab.rs"]
mod lab;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    Backoff, BoxError, Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerLayer, Fallback, FallbackLayer, Reason, RejectedKind, Retry, RetryConfig, RetryLayer,
    Stack, State, Timeout, TimeoutConfig, TimeoutLayer,
};
use lab::{Boxed, Call, Events, Lab, Order, advance, ms};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

fn breaker() -> CircuitBreaker {
    patient(CircuitBreakerConfig::new())
}

/// A breaker that none of these tests opens by accident.
fn patient(config: CircuitBreakerConfig) -> CircuitBreaker {
    config
        .count_window(100)
        .minimum_calls(100)
        .open_wait(ms(1000))
        .open_growth(1.0, ms(1000))
        .open_jitter(0.0)
        .build("inventory")
        .unwrap()
}

/// A breaker that is half-open with so many probes, and judges when all of them have a result.
fn half_open(probes: u32) -> CircuitBreaker {
    let breaker = patient(CircuitBreakerConfig::new().probes(probes));
    breaker.half_open();
    breaker
}

fn bulkhead(limit: u32, max_wait: u64) -> Bulkhead {
    BulkheadConfig::new(limit)
        .max_wait(ms(max_wait))
        .build("db")
        .unwrap()
}

fn timeout(limit: u64) -> Timeout {
    TimeoutConfig::new(ms(limit)).build("attempt").unwrap()
}

fn retry(wait: u64) -> Retry {
    RetryConfig::new()
        .backoff(Backoff::fixed(ms(wait)))
        .jitter(buttress::Jitter::None)
        .no_budget()
        .build("again")
        .unwrap()
}

/// Calls in the window, and failures, slow calls and slow failures of them.
fn counts(breaker: &CircuitBreaker) -> (u64, u64, u64, u64) {
    let shown = breaker.snapshot();
    (shown.calls, shown.failed, shown.slow, shown.slow_failed)
}

/// How many permits can be had now. They are given back at once.
fn permits_left(breaker: &CircuitBreaker) -> usize {
    let permits: Vec<_> = std::iter::from_fn(|| breaker.try_acquire().ok())
        .take(50)
        .collect();
    permits.len()
}

// ---- The circuit breaker.

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_early_is_not_recorded() {
    let (lab, breaker) = (Lab::new(), breaker());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    let call = Call::pending(&mut service, 1);
    advance(9_999).await;
    drop(call);
    assert_eq!(counts(&breaker), (0, 0, 0, 0));
    assert_eq!(lab.inside(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_after_it_was_pending_for_long_is_a_failure() {
    let (lab, breaker) = (Lab::new(), breaker());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    let call = Call::pending(&mut service, 1);
    advance(10_000).await;
    drop(call);
    assert_eq!(counts(&breaker), (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_counts_is_how_long_the_call_was_pending_not_how_long_ago_it_was_made() {
    let (lab, breaker) = (Lab::new(), breaker());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    let never_polled = Call::begin(&mut service, 1);
    let mut polled_late = Call::begin(&mut service, 2);
    advance(60_000).await;
    drop(never_polled);
    assert!(polled_late.poll().is_pending());
    advance(9_999).await;
    drop(polled_late);
    assert_eq!(counts(&breaker), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_beyond_the_slow_call_duration_is_a_slow_failure() {
    let breaker = patient(CircuitBreakerConfig::new().slow_calls(ms(2_000), 1.0));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(Lab::new());
    let early = Call::pending(&mut service, 1);
    advance(1_900).await;
    drop(early);
    assert_eq!(counts(&breaker), (0, 0, 0, 0));
    let slow = Call::pending(&mut service, 2);
    advance(2_100).await;
    drop(slow);
    assert_eq!(counts(&breaker), (1, 1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn dropped_after_zero_makes_every_dropped_call_a_failure_that_was_pending() {
    let breaker = patient(CircuitBreakerConfig::new().dropped_after(Duration::ZERO));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(Lab::new());
    drop(Call::begin(&mut service, 1));
    assert_eq!(counts(&breaker), (0, 0, 0, 0));
    drop(Call::pending(&mut service, 2));
    assert_eq!(counts(&breaker), (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_wherever_it_is_caught() {
    let (lab, breaker) = (Lab::new(), breaker());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    // Caught around the poll: the call is dropped when nothing panics any more.
    let mut call = Call::pending(&mut service, 1);
    lab.order(1, Order::Panic);
    call.poll().panicked();
    assert_eq!(counts(&breaker), (1, 1, 0, 0));
    // Caught further out: the call is dropped while the panic unwinds.
    let mut call = Call::pending(&mut service, 2);
    lab.order(2, Order::Panic);
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = std::pin::Pin::new(&mut call).poll(&mut cx);
    }));
    assert!(unwound.is_err());
    assert_eq!(counts(&breaker), (2, 2, 0, 0));
    // In the service's `call`.
    assert!(Call::begin_panicking(&mut service, &lab, 3).is_none());
    assert_eq!(counts(&breaker), (3, 3, 0, 0));
    // In a task, where Tokio catches it.
    let call = Call::pending(&mut service, 4);
    lab.order(4, Order::Panic);
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    assert_eq!(counts(&breaker), (4, 4, 0, 0));
    assert_eq!(lab.inside(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_goes_on_after_its_call_panicked() {
    let (lab, breaker) = (Lab::new(), breaker());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    assert!(Call::begin_panicking(&mut service, &lab, 1).is_none());
    lab.order_next(Order::Succeed);
    Call::begin(&mut service, 2).poll().succeeded();
    assert_eq!(counts(&breaker), (2, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_permit_back_at_once() {
    let (lab, breaker) = (Lab::new(), half_open(2));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    let unpolled = Call::begin(&mut service, 1);
    let pending = Call::pending(&mut service, 2);
    assert_eq!(permits_left(&breaker), 0);
    drop(unpolled);
    assert_eq!(permits_left(&breaker), 1);
    drop(pending);
    assert_eq!(permits_left(&breaker), 2);
    assert_eq!(counts(&breaker), (0, 0, 0, 0));
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_has_a_result_and_its_permit_is_used() {
    let (lab, breaker) = (Lab::new(), half_open(3));
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    let mut call = Call::pending(&mut service, 1);
    lab.order(1, Order::Panic);
    call.poll().panicked();
    assert!(Call::begin_panicking(&mut service, &lab, 2).is_none());
    assert_eq!(counts(&breaker), (2, 2, 0, 0));
    assert_eq!(permits_left(&breaker), 1);
}

#[tokio::test(start_paused = true)]
async fn a_permit_in_hand_is_returned_as_a_call_is() {
    let breaker = half_open(1);
    drop(breaker.try_acquire().unwrap());
    assert_eq!(permits_left(&breaker), 1);
    assert_eq!(counts(&breaker), (0, 0, 0, 0));
    let permit = breaker.try_acquire().unwrap();
    advance(10_000).await;
    drop(permit);
    assert_eq!(breaker.state(), State::Open, "a failure was the only probe");
    breaker.half_open();
    let permit = breaker.try_acquire().unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _permit = permit;
        std::panic::resume_unwind(Box::new("as ordered"));
    }));
    assert!(unwound.is_err());
    assert_eq!(breaker.state(), State::Open, "so is a panic");
}

#[tokio::test(start_paused = true)]
async fn a_hung_probe_is_given_up_and_its_late_result_changes_nothing() {
    for (late, dropped_after) in [
        (Some(Order::Succeed), 10_000),
        (Some(Order::Fail), 10_000),
        (Some(Order::Panic), 10_000),
        (None, 10_000),
        (None, 60_000),
    ] {
        let config = CircuitBreakerConfig::new()
            .probes(1)
            .dropped_after(ms(dropped_after));
        let (lab, breaker) = (Lab::new(), patient(config));
        breaker.half_open();
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
        let mut hung = Call::pending(&mut service, 1);
        advance(30_000).await;
        let refused = Call::begin(&mut service, 2).poll().rejected();
        assert_eq!(refused.reason(), &Reason::ProbesTaken { probes: 1 });
        advance(1).await;
        let mut next = Call::pending(&mut service, 3);
        let before = breaker.snapshot();
        match late {
            Some(order) => {
                lab.order(1, order);
                assert!(!hung.poll().is_pending());
            }
            None => drop(hung),
        }
        assert_eq!(breaker.snapshot(), before, "{late:?}");
        assert_eq!(
            permits_left(&breaker),
            0,
            "its slot was returned before: {late:?}"
        );
        lab.order(3, Order::Succeed);
        next.poll().succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_probe_that_is_too_old_is_not_looked_at_though_nobody_asked_meanwhile() {
    for late in [Some(Order::Succeed), Some(Order::Fail), Some(Order::Panic), None] {
        let (lab, breaker) = (Lab::new(), half_open(2));
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
        let mut hung = Call::pending(&mut service, 1);
        advance(30_001).await;
        match late {
            Some(order) => {
                lab.order(1, order);
                assert!(!hung.poll().is_pending());
            }
            None => drop(hung),
        }
        assert_eq!(counts(&breaker), (0, 0, 0, 0), "{late:?}");
        assert_eq!(permits_left(&breaker), 2, "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_result_from_before_the_outage_changes_nothing() {
    for late in [Some(Order::Succeed), Some(Order::Fail), Some(Order::Panic), None] {
        let (lab, breaker) = (Lab::new(), patient(CircuitBreakerConfig::new().probes(1)));
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
        let mut from_closed = Call::pending(&mut service, 1);
        breaker.open();
        advance(1_001).await;
        let mut from_half_open = Call::pending(&mut service, 2);
        breaker.open();
        advance(9_001).await;
        let mut probe = Call::pending(&mut service, 3);
        assert_eq!(breaker.state(), State::HalfOpen);
        let before = breaker.snapshot();
        for (number, call) in [(1, &mut from_closed), (2, &mut from_half_open)] {
            if let Some(order) = late {
                lab.order(number, order);
                assert!(!call.poll().is_pending());
            }
        }
        drop((from_closed, from_half_open));
        assert_eq!(breaker.snapshot(), before, "{late:?}");
        assert_eq!(permits_left(&breaker), 0, "{late:?}");
        lab.order(3, Order::Succeed);
        probe.poll().succeeded();
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_from_before_a_state_was_begun_afresh_changes_nothing() {
    let all = [
        State::Closed,
        State::HalfOpen,
        State::MetricsOnly,
        State::Disabled,
    ];
    for state in all {
        let (lab, breaker) = (Lab::new(), patient(CircuitBreakerConfig::new().probes(1)));
        breaker.transition_to(state);
        let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
        let mut call = Call::pending(&mut service, 1);
        breaker.transition_to(state);
        let before = breaker.snapshot();
        lab.order(1, Order::Fail);
        call.poll().failed();
        assert_eq!(breaker.snapshot(), before, "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_by_a_timeout_is_a_failure_for_every_breaker_inside_it() {
    let lab = Lab::new();
    let (a, b) = (breaker(), breaker());
    let nest = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout(100)))
        .layer(CircuitBreakerLayer::new(a.clone()))
        .layer(CircuitBreakerLayer::new(b.clone()))
        .service(lab.clone());
    let stack = Stack::builder()
        .timeout(timeout(100))
        .circuit_breaker(a.clone())
        .circuit_breaker(b.clone())
        .build()
        .unwrap();
    let stacks_in_a_nest = ServiceBuilder::new()
        .layer(Stack::builder().timeout(timeout(100)).build().unwrap())
        .layer(CircuitBreakerLayer::new(a.clone()))
        .layer(Stack::builder().circuit_breaker(b.clone()).build().unwrap())
        .service(lab.clone());
    let services = [
        Boxed::new(nest),
        Boxed::new(stack.layer(lab.clone())),
        Boxed::new(stacks_in_a_nest),
    ];
    for (mut service, so_many) in services.into_iter().zip(1..) {
        let mut call = Call::pending(&mut service, 1);
        advance(99).await;
        assert!(call.poll().is_pending());
        advance(1).await;
        assert_eq!(call.poll().rejected().kind(), RejectedKind::TimedOut);
        assert_eq!(lab.inside(), 0, "the inner call is dropped at once");
        assert_eq!(counts(&a), (so_many, so_many, 0, 0));
        assert_eq!(counts(&b), (so_many, so_many, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_outside_of_the_timeout_counts_it_once() {
    let (lab, breaker) = (Lab::new(), breaker());
    let nest = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(timeout(100)))
        .service(lab.clone());
    let stack = Stack::builder()
        .circuit_breaker(breaker.clone())
        .timeout(timeout(100))
        .build()
        .unwrap();
    for (mut service, so_many) in [Boxed::new(nest), Boxed::new(stack.layer(lab.clone()))]
        .into_iter()
        .zip(1..)
    {
        let mut call = Call::pending(&mut service, 1);
        advance(100).await;
        assert_eq!(call.poll().rejected().kind(), RejectedKind::TimedOut);
        assert_eq!(counts(&breaker), (so_many, so_many, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_probe_is_a_failure_and_its_permit_is_used() {
    let lab = Lab::new();
    for walked in [false, true] {
        let breaker = half_open(2);
        let mut service = if walked {
            let stack = Stack::builder()
                .timeout(timeout(100))
                .circuit_breaker(breaker.clone());
            Boxed::new(stack.build().unwrap().layer(lab.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(TimeoutLayer::new(timeout(100)))
                    .layer(CircuitBreakerLayer::new(breaker.clone()))
                    .service(lab.clone()),
            )
        };
        let mut call = Call::pending(&mut service, 1);
        advance(100).await;
        call.poll().rejected();
        assert_eq!(counts(&breaker), (1, 1, 0, 0));
        assert_eq!(permits_left(&breaker), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_over_a_queue_is_a_failure_for_a_breaker_between_them_and_leaves_the_queue() {
    let lab = Lab::new();
    for walked in [false, true] {
        let (breaker, bulkhead) = (breaker(), bulkhead(1, 1_000));
        let mut service = if walked {
            let stack = Stack::builder()
                .timeout(timeout(100))
                .circuit_breaker(breaker.clone())
                .bulkhead(bulkhead.clone())
                .queued();
            Boxed::new(stack.build().unwrap().layer(lab.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(TimeoutLayer::new(timeout(100)))
                    .layer(CircuitBreakerLayer::new(breaker.clone()))
                    .layer(BulkheadLayer::new(bulkhead.clone()))
                    .service(lab.clone()),
            )
        };
        let slot = bulkhead.try_acquire().unwrap();
        let mut call = Call::pending(&mut service, 1);
        assert_eq!(bulkhead.snapshot().queued, 1);
        advance(100).await;
        assert_eq!(call.poll().rejected().kind(), RejectedKind::TimedOut);
        assert_eq!(bulkhead.snapshot().queued, 0);
        assert_eq!(counts(&breaker), (1, 1, 0, 0));
        drop(slot);
        assert_eq!(bulkhead.snapshot().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_another_maker_is_a_drop_like_any_other() {
    let (lab, breaker) = (Lab::new(), breaker());
    let guarded = CircuitBreakerLayer::new(breaker.clone()).layer(lab);
    let limited = |limit| tower::timeout::Timeout::new(guarded.clone(), ms(limit));
    assert!(limited(9_999).oneshot(1).await.is_err());
    assert_eq!(
        counts(&breaker),
        (0, 0, 0, 0),
        "the caller was impatient, for all we know"
    );
    assert!(limited(10_000).oneshot(1).await.is_err());
    assert_eq!(counts(&breaker), (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_loses_a_race_is_a_drop_like_any_other() {
    let breaker = patient(CircuitBreakerConfig::new().slow_calls(ms(2_000), 1.0));
    let guarded = CircuitBreakerLayer::new(breaker.clone()).layer(Lab::new());
    for (patience, recorded) in [(1_900, (0, 0, 0, 0)), (2_100, (1, 1, 1, 1))] {
        tokio::select! {
            reply = guarded.clone().oneshot(1) => panic!("{reply:?}"),
            () = tokio::time::sleep(ms(patience)) => {}
        }
        assert_eq!(counts(&breaker), recorded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_after_a_timeout_ran_out_is_a_drop_like_any_other() {
    let (lab, breaker) = (Lab::new(), breaker());
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout(100)))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(lab);
    let mut timed_out = Call::pending(&mut service, 1);
    let dropped = Call::pending(&mut service, 2);
    advance(100).await;
    timed_out.poll().rejected();
    drop(dropped);
    assert_eq!(counts(&breaker), (1, 1, 0, 0));
}

// ---- The bulkhead.

#[tokio::test(start_paused = true)]
async fn a_call_gives_its_slot_back_however_it_ends() {
    let (lab, bulkhead) = (Lab::new(), bulkhead(3, 0));
    let mut service = BulkheadLayer::new(bulkhead.clone()).layer(lab.clone());
    let in_flight = || bulkhead.snapshot().in_flight;

    drop(Call::begin(&mut service, 1));
    assert_eq!(in_flight(), 0);
    drop(Call::pending(&mut service, 1));
    assert_eq!(in_flight(), 0);
    for order in [Order::Succeed, Order::Fail, Order::Panic] {
        let mut call = Call::pending(&mut service, 1);
        assert_eq!(in_flight(), 1);
        lab.order(1, order);
        assert!(!call.poll().is_pending());
        assert_eq!(in_flight(), 0, "{order:?}");
    }
    assert!(Call::begin_panicking(&mut service, &lab, 1).is_none());
    assert_eq!(in_flight(), 0);
    drop(bulkhead.try_acquire().unwrap());
    assert_eq!(in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_in_the_queue_leaves_it() {
    let (lab, bulkhead) = (Lab::new(), bulkhead(1, 1_000));
    let mut service = BulkheadLayer::new(bulkhead.clone()).layer(lab.clone());
    let inside = Call::pending(&mut service, 1);
    let unpolled = Call::begin(&mut service, 2);
    let waiting = Call::pending(&mut service, 3);
    let mut last = Call::pending(&mut service, 4);
    assert_eq!(bulkhead.snapshot().queued, 3);
    drop(waiting);
    drop(unpolled);
    assert_eq!(bulkhead.snapshot().queued, 1);
    drop(inside);
    assert_eq!(
        (bulkhead.snapshot().in_flight, bulkhead.snapshot().queued),
        (1, 0)
    );
    assert!(last.poll().is_pending());
    assert_eq!(lab.inside(), 1);
    drop(last);
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_with_a_slot_that_it_does_not_know_of_passes_it_on() {
    let (lab, bulkhead) = (Lab::new(), bulkhead(1, 1_000));
    let mut service = BulkheadLayer::new(bulkhead.clone()).layer(lab.clone());
    let inside = Call::pending(&mut service, 1);
    let granted = Call::pending(&mut service, 2);
    let mut next = Call::pending(&mut service, 3);
    drop(inside);
    assert_eq!(
        (bulkhead.snapshot().in_flight, bulkhead.snapshot().queued),
        (1, 1)
    );
    drop(granted);
    assert_eq!(
        (bulkhead.snapshot().in_flight, bulkhead.snapshot().queued),
        (1, 0)
    );
    assert!(next.poll().is_pending());
    assert_eq!(lab.inside(), 1);
    drop(next);
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_after_it_waited_gives_its_slot_to_the_next() {
    let (lab, bulkhead) = (Lab::new(), bulkhead(1, 1_000));
    let mut service = BulkheadLayer::new(bulkhead.clone()).layer(lab.clone());
    let inside = Call::pending(&mut service, 1);
    let mut panics = Call::pending(&mut service, 2);
    let mut next = Call::pending(&mut service, 3);
    drop(inside);
    lab.panic_in_call(true);
    panics.poll().panicked();
    lab.panic_in_call(false);
    assert_eq!(
        (bulkhead.snapshot().in_flight, bulkhead.snapshot().queued),
        (1, 0)
    );
    assert!(next.poll().is_pending());
    lab.order(3, Order::Succeed);
    next.poll().succeeded();
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

/// What `bulkhead` says to be in flight whenever an attempt is about to go.
fn watch(lab: &Lab, bulkhead: &Bulkhead) -> Arc<Mutex<Vec<u32>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (seen_by, bulkhead) = (Arc::clone(&seen), bulkhead.clone());
    lab.at_drop(move || seen_by.lock().unwrap().push(bulkhead.snapshot().in_flight));
    seen
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_gone_before_its_slot_is_free() {
    // A pool with as many connections as the bulkhead has slots: whoever gets the slot finds a connection.
    let (lab, bulkhead) = (Lab::new(), bulkhead(1, 0));
    let seen = watch(&lab, &bulkhead);
    let alone = BulkheadLayer::new(bulkhead.clone()).layer(lab.clone());
    let nest = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout(100)))
        .layer(BulkheadLayer::new(bulkhead.clone()))
        .service(lab.clone());
    let stack = Stack::builder()
        .timeout(timeout(100))
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap()
        .layer(lab.clone());
    for mut service in [
        Boxed::new(alone),
        Boxed::new(nest.clone()),
        Boxed::new(stack.clone()),
    ] {
        drop(Call::pending(&mut service, 1));
        assert_eq!(
            std::mem::take(&mut *seen.lock().unwrap()),
            [1],
            "dropped by the caller"
        );
    }
    for mut service in [Boxed::new(nest), Boxed::new(stack)] {
        let mut call = Call::pending(&mut service, 1);
        advance(100).await;
        call.poll().rejected();
        assert_eq!(
            std::mem::take(&mut *seen.lock().unwrap()),
            [1],
            "dropped by a timeout"
        );
    }
}

// ---- The retry.

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_dropped_makes_no_other_attempt() {
    let lab = Lab::new();
    let mut service = RetryLayer::new(retry(50)).layer(lab.clone());
    let in_attempt = Call::pending(&mut service, 1);
    let mut in_backoff = Call::pending(&mut service, 2);
    lab.order(2, Order::Fail);
    assert!(in_backoff.poll().is_pending());
    assert_eq!(
        (lab.made(), lab.inside()),
        (2, 1),
        "no attempt is inside while one waits"
    );
    drop(in_attempt);
    drop(in_backoff);
    assert_eq!(lab.inside(), 0);
    advance(1_000).await;
    assert_eq!(lab.made(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_not_retried_and_passes_on() {
    let lab = Lab::new();
    let breaker = breaker();
    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry(50)))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(lab.clone());
    let mut call = Call::pending(&mut service, 1);
    lab.order(1, Order::Fail);
    assert!(call.poll().is_pending());
    advance(50).await;
    assert!(call.poll().is_pending());
    assert_eq!(lab.made(), 2);
    lab.order(1, Order::Panic);
    call.poll().panicked();
    assert_eq!((lab.made(), lab.inside()), (2, 0));
    assert_eq!(counts(&breaker), (2, 2, 0, 0));
    // In the `call` of a second attempt.
    let mut call = Call::pending(&mut service, 2);
    lab.order(2, Order::Fail);
    assert!(call.poll().is_pending());
    advance(50).await;
    lab.panic_in_call(true);
    call.poll().panicked();
    assert_eq!(counts(&breaker), (4, 4, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_outside_of_a_retry_keeps_its_slot_during_the_backoff_and_one_inside_does_not() {
    let lab = Lab::new();
    for walked in [false, true] {
        let (outer, inner) = (bulkhead(1, 0), bulkhead(1, 0));
        let mut service = if walked {
            let stack = Stack::builder()
                .bulkhead(outer.clone())
                .retry(retry(50))
                .bulkhead(inner.clone());
            Boxed::new(stack.build().unwrap().layer(lab.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(BulkheadLayer::new(outer.clone()))
                    .layer(RetryLayer::new(retry(50)))
                    .layer(BulkheadLayer::new(inner.clone()))
                    .service(lab.clone()),
            )
        };
        let in_flight = || (outer.snapshot().in_flight, inner.snapshot().in_flight);
        let mut call = Call::pending(&mut service, 1);
        assert_eq!(in_flight(), (1, 1));
        lab.order(1, Order::Fail);
        assert!(call.poll().is_pending());
        assert_eq!(in_flight(), (1, 0));
        drop(call);
        assert_eq!(in_flight(), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_during_the_backoff_is_no_failure_of_the_service() {
    let lab = Lab::new();
    for walked in [false, true] {
        let breaker = breaker();
        let mut service = if walked {
            let stack = Stack::builder()
                .timeout(timeout(100))
                .retry(retry(500))
                .circuit_breaker(breaker.clone());
            Boxed::new(stack.build().unwrap().layer(lab.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(TimeoutLayer::new(timeout(100)))
                    .layer(RetryLayer::new(retry(500)))
                    .layer(CircuitBreakerLayer::new(breaker.clone()))
                    .service(lab.clone()),
            )
        };
        let mut call = Call::pending(&mut service, 1);
        lab.order(1, Order::Fail);
        assert!(call.poll().is_pending());
        assert_eq!(counts(&breaker), (1, 1, 0, 0));
        advance(100).await;
        assert_eq!(call.poll().rejected().kind(), RejectedKind::TimedOut);
        assert_eq!(counts(&breaker), (1, 1, 0, 0));
    }
}

// ---- The timeout and the fallback.

#[tokio::test(start_paused = true)]
async fn a_timeout_that_is_dropped_drops_the_inner_call_at_once() {
    let lab = Lab::new();
    let mut service = TimeoutLayer::new(timeout(100)).layer(lab.clone());
    drop(Call::begin(&mut service, 1));
    drop(Call::pending(&mut service, 1));
    assert_eq!(lab.inside(), 0);
    let mut call = Call::pending(&mut service, 2);
    lab.order(2, Order::Panic);
    call.poll().panicked();
    assert_eq!(lab.inside(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_under_a_timeout_reaches_breaker_and_bulkhead_on_both_sides_of_it() {
    let lab = Lab::new();
    for walked in [false, true] {
        let (a, b, limit) = (breaker(), breaker(), bulkhead(1, 0));
        let mut service = if walked {
            let stack = Stack::builder()
                .bulkhead(limit.clone())
                .circuit_breaker(a.clone())
                .timeout(timeout(100))
                .circuit_breaker(b.clone());
            Boxed::new(stack.build().unwrap().layer(lab.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(BulkheadLayer::new(limit.clone()))
                    .layer(CircuitBreakerLayer::new(a.clone()))
                    .layer(TimeoutLayer::new(timeout(100)))
                    .layer(CircuitBreakerLayer::new(b.clone()))
                    .service(lab.clone()),
            )
        };
        let mut call = Call::pending(&mut service, 1);
        lab.order(1, Order::Panic);
        call.poll().panicked();
        assert!(Call::begin_panicking(&mut service, &lab, 2).is_none());
        assert_eq!((counts(&a), counts(&b)), ((2, 2, 0, 0), (2, 2, 0, 0)));
        assert_eq!(limit.snapshot().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_or_panics_while_a_fallback_answers_returns_what_it_holds() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (limit, breaker) = (bulkhead(1, 0), breaker());
    let fallback = FallbackLayer::service(Fallback::new("other"), other.clone(), |call: &u32| *call);
    let mut service = ServiceBuilder::new()
        .layer(BulkheadLayer::new(limit.clone()))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(fallback)
        .service(lab.clone());
    for (call, order) in [(1, None), (2, Some(Order::Panic)), (3, Some(Order::Succeed))] {
        let mut answered = Call::pending(&mut service, call);
        lab.order(call, Order::Fail);
        assert!(answered.poll().is_pending());
        assert_eq!((lab.inside(), other.inside()), (0, 1));
        assert_eq!(limit.snapshot().in_flight, 1);
        if let Some(order) = order {
            other.order(call, order);
            assert!(!answered.poll().is_pending());
        }
        drop(answered);
        assert_eq!(other.inside(), 0);
        assert_eq!(limit.snapshot().in_flight, 0);
    }
    assert_eq!(
        counts(&breaker),
        (2, 1, 0, 0),
        "a panic and an answer; the drop was early"
    );
}

// ---- Closures of the user that panic.

#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_costs_no_permit() {
    let (lab, limit, breaker) = (Lab::new(), bulkhead(1, 0), half_open(2));
    let judged = CircuitBreakerLayer::new(breaker.clone()).judge_by(
        |_: Result<&u32, &BoxError>| -> buttress::Verdict {
            std::panic::resume_unwind(Box::new("as ordered"))
        },
    );
    let mut service = ServiceBuilder::new()
        .layer(BulkheadLayer::new(limit.clone()))
        .layer(judged)
        .service(lab.clone());
    let mut call = Call::pending(&mut service, 1);
    lab.order(1, Order::Succeed);
    call.poll().panicked();
    assert_eq!(limit.snapshot().in_flight, 0);
    let shown = breaker.snapshot();
    assert_eq!(
        permits_left(&breaker) as u64 + shown.calls,
        2,
        "its permit is used or returned"
    );
}

/// A call that is never ready, and panics when it is dropped.
struct PanicsWhenDropped;

impl Future for PanicsWhenDropped {
    type Output = Result<u32, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("as ordered"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_while_it_is_dropped_costs_no_permit() {
    async fn panics<S>(limit: &Bulkhead, breaker: &CircuitBreaker, mut service: S)
    where
        S: Service<u32, Response = u32, Error = BoxError>,
    {
        let mut call = Box::pin(service.ready().await.unwrap().call(1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert_eq!(limit.snapshot().in_flight, 1);
        let unwound = catch_unwind(AssertUnwindSafe(|| drop(call)));
        assert!(unwound.is_err(), "it panicked when it was dropped");
        assert_eq!(limit.snapshot().in_flight, 0, "its slot");
        assert_eq!(
            breaker.state(),
            State::Open,
            "a panic is a failure, of a probe too"
        );
    }

    let never = || tower::service_fn(|_: u32| PanicsWhenDropped);
    let (limit, breaker) = (bulkhead(1, 0), half_open(1));
    let layers = ServiceBuilder::new()
        .layer(BulkheadLayer::new(limit.clone()))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(never());
    panics(&limit, &breaker, layers).await;

    let (limit, breaker) = (bulkhead(1, 0), half_open(1));
    let stack = Stack::builder()
        .bulkhead(limit.clone())
        .circuit_breaker(breaker.clone())
        .build()
        .unwrap()
        .once();
    panics(&limit, &breaker, stack.layer(never())).await;
}

/// A service that never answers, and panics when it is cloned or asked whether it is ready, as ordered.
#[derive(Default)]
struct Fragile {
    ordered: Arc<AtomicBool>,
}

impl Fragile {
    fn touch(&self) {
        if self.ordered.load(Relaxed) {
            std::panic::resume_unwind(Box::new("as ordered"));
        }
    }
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        self.touch();
        let ordered = Arc::clone(&self.ordered);
        Self { ordered }
    }
}

impl Service<u32> for Fragile {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Pending<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.touch();
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        std::future::pending()
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_while_its_call_begins_to_wait_leaves_no_ghost_in_the_queue() {
    let (service, limit) = (Fragile::default(), bulkhead(1, 1000));
    let ordered = Arc::clone(&service.ordered);
    let mut service = BulkheadLayer::new(limit.clone()).layer(service);
    let first = service.ready().await.unwrap().call(1);
    service.ready().await.unwrap();
    ordered.store(true, Relaxed);
    let unwound = catch_unwind(AssertUnwindSafe(|| drop(service.call(2))));
    assert!(
        unwound.is_err(),
        "it was cloned, so that it can be had after the wait"
    );
    ordered.store(false, Relaxed);
    assert_eq!(limit.snapshot().queued, 0);
    drop(first);
    assert_eq!(limit.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panicked_when_it_was_asked_is_not_ready_any_more() {
    let service = Fragile::default();
    let ordered = Arc::clone(&service.ordered);
    let mut service = TimeoutLayer::new(timeout(1000)).layer(service);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    ordered.store(true, Relaxed);
    let unwound = catch_unwind(AssertUnwindSafe(|| service.poll_ready(&mut cx).is_ready()));
    assert!(unwound.is_err());
    ordered.store(false, Relaxed);
    let error = service.call(1).await.unwrap_err();
    let rejected = error.downcast_ref::<buttress::Rejected>().unwrap();
    assert_eq!(rejected.reason(), &Reason::NotPolledReady);
}

#[tokio::test(start_paused = true)]
async fn a_backoff_that_panics_costs_no_permit() {
    let lab = Lab::new();
    for walked in [false, true] {
        let (outer, breaker) = (bulkhead(1, 0), breaker());
        let retry = RetryConfig::new()
            .backoff(Backoff::function(|_, _| {
                std::panic::resume_unwind(Box::new("as ordered"))
            }))
            .build("again")
            .unwrap();
        let mut service = if walked {
            let stack = Stack::builder()
                .bulkhead(outer.clone())
                .retry(retry)
                .circuit_breaker(breaker.clone());
            Boxed::new(stack.build().unwrap().layer(lab.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(BulkheadLayer::new(outer.clone()))
                    .layer(RetryLayer::new(retry))
                    .layer(CircuitBreakerLayer::new(breaker.clone()))
                    .service(lab.clone()),
            )
        };
        let mut call = Call::pending(&mut service, 1);
        lab.order(1, Order::Fail);
        call.poll().panicked();
        assert_eq!(outer.snapshot().in_flight, 0);
        assert_eq!(counts(&breaker), (1, 1, 0, 0));
    }
}

// ---- Guarded functions.

/// Calls the service right away, so that a panic of its `call` is one of the guarded function.
fn call_now(lab: &Lab, call: u32) -> lab::Attempt {
    let mut lab = lab.clone();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(lab.poll_ready(&mut cx).is_ready());
    lab.call(call)
}

#[tokio::test(start_paused = true)]
async fn a_guarded_function_that_is_dropped_or_panics_returns_what_it_holds() {
    let lab = Lab::new();
    let (limit, breaker) = (bulkhead(1, 1_000), half_open(4));
    let stack = Stack::builder()
        .bulkhead(limit.clone())
        .circuit_breaker(breaker.clone())
        .queued()
        .build()
        .unwrap();
    let begin = |call| {
        let lab = lab.clone();
        let stack = stack.clone();
        Call::of(async move { stack.run_flat(|| lab.clone().oneshot(call)).await })
    };
    let unpolled = begin(1);
    assert_eq!(limit.snapshot().in_flight, 0, "nothing of it has begun");
    drop(unpolled);
    let mut inside = begin(2);
    assert!(inside.poll().is_pending());
    let mut queued = begin(3);
    assert!(queued.poll().is_pending());
    assert_eq!((limit.snapshot().in_flight, limit.snapshot().queued), (1, 1));
    assert_eq!(permits_left(&breaker), 3);
    drop(inside);
    assert_eq!((limit.snapshot().in_flight, limit.snapshot().queued), (1, 0));
    assert_eq!(permits_left(&breaker), 4);
    assert!(queued.poll().is_pending());
    lab.order(3, Order::Panic);
    queued.poll().panicked();
    assert_eq!(limit.snapshot().in_flight, 0);
    assert_eq!(counts(&breaker), (1, 1, 0, 0));
    lab.panic_in_call(true);
    let mut panics_at_once = Call::of(async move { stack.run_flat(|| call_now(&lab, 4)).await });
    panics_at_once.poll().panicked();
    assert_eq!(limit.snapshot().in_flight, 0);
    assert_eq!(counts(&breaker), (2, 2, 0, 0));
}

// ---- What is told.

#[tokio::test(start_paused = true)]
async fn observers_hear_how_a_call_was_abandoned() {
    use buttress::{Abandoned, What};
    let (lab, breaker, events) = (Lab::new(), breaker(), Events::new());
    breaker.observe(events.observer());
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(timeout(100)))
        .layer(CircuitBreakerLayer::new(breaker))
        .service(lab.clone());
    drop(Call::pending(&mut service, 1));
    let mut panics = Call::pending(&mut service, 2);
    lab.order(2, Order::Panic);
    panics.poll().panicked();
    let mut hangs = Call::pending(&mut service, 3);
    advance(100).await;
    hangs.poll().rejected();
    let abandoned = events.pick(|what| match what {
        What::Abandoned(why) => Some(*why),
        _ => None,
    });
    assert_eq!(
        abandoned,
        [Abandoned::Dropped, Abandoned::Panicked, Abandoned::TimedOut]
    );
}
