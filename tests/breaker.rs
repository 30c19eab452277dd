//! The circuit breaker: what opens it, how long it waits, how it closes, what it shows and tells.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/lab.rs"]
mod lab;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use buttress::{
    CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer, Clock, ClockHand, Event, Observer, OpenCause,
    Permit, Rate, Reason, RejectedKind, State, StayEnd, Timestamp, Verdict, What,
};
use lab::{Call, Events, Lab, Order, advance, ms};
use tower::Layer;

const ALL: [State; 6] = [
    State::Closed,
    State::Open,
    State::HalfOpen,
    State::ForcedOpen,
    State::Disabled,
    State::MetricsOnly,
];

/// Judges four calls, and has no jitter.
fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .count_window(4)
        .minimum_calls(4)
        .open_wait(ms(1000))
        .open_growth(1.0, ms(1000))
        .open_jitter(0.0)
        .probes(2)
}

/// On a clock that stands still until the hand moves it.
fn build(config: CircuitBreakerConfig) -> (CircuitBreaker, ClockHand) {
    let (clock, hand) = Clock::manual();
    (config.clock(clock).build("inventory").unwrap(), hand)
}

#[track_caller]
fn call(breaker: &CircuitBreaker, verdict: Verdict) {
    let permit = breaker.try_acquire().unwrap();
    permit.settle_after(verdict, Duration::ZERO);
}

#[track_caller]
fn succeed(breaker: &CircuitBreaker, calls: u32) {
    (0..calls).for_each(|_| call(breaker, Verdict::Success));
}

#[track_caller]
fn fail(breaker: &CircuitBreaker, calls: u32) {
    (0..calls).for_each(|_| call(breaker, Verdict::Failure));
}

/// The transitions among the events.
fn transitions(events: &Events) -> Vec<(State, State)> {
    events.pick(|what| match what {
        What::Transition { from, to, .. } => Some((*from, *to)),
        _ => None,
    })
}

// ---- What opens it.

#[test]
fn it_opens_when_the_failure_rate_reaches_its_threshold() {
    let (breaker, _) = build(config().count_window(10).minimum_calls(10).failure_rate(0.3));
    succeed(&breaker, 7);
    fail(&breaker, 2);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed, "20 % of 10");
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open, "30 % of the last 10");
    let cause = OpenCause::FailureRate {
        rate: Rate::percent(30.0),
        calls: 10,
    };
    assert_eq!(breaker.snapshot().cause, Some(cause));
}

#[test]
fn it_judges_nothing_before_there_are_minimum_calls() {
    let (breaker, _) = build(config().count_window(100).minimum_calls(20));
    fail(&breaker, 19);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failure_rate, None);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_success_can_open_it() {
    let (breaker, _) = build(config());
    fail(&breaker, 2);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed, "three calls are too few to judge");
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Open, "half of four failed");
}

#[test]
fn calls_are_slow_that_take_longer_than_the_limit_whatever_their_result() {
    let (breaker, _) = build(config().failure_rate(1.0).slow_calls(ms(50), 0.75));
    let settle = |verdict, duration| breaker.try_acquire().unwrap().settle_after(verdict, duration);
    settle(Verdict::Success, ms(50));
    let over = Duration::from_nanos(50_000_001);
    settle(Verdict::Success, over);
    settle(Verdict::Failure, over);
    let shown = breaker.snapshot();
    assert_eq!(
        (shown.calls, shown.failed, shown.slow, shown.slow_failed),
        (3, 1, 2, 1)
    );
    settle(Verdict::Success, over);
    assert_eq!(breaker.state(), State::Open);
    let cause = OpenCause::SlowCallRate {
        rate: Rate::percent(75.0),
        calls: 4,
    };
    assert_eq!(breaker.snapshot().cause, Some(cause));
}

#[test]
fn an_ignored_call_is_never_slow() {
    let (breaker, _) = build(config().slow_calls(ms(50), 0.1));
    for _ in 0..8 {
        let permit = breaker.try_acquire().unwrap();
        permit.settle_after(Verdict::Ignored, ms(1000));
    }
    assert_eq!(breaker.snapshot().calls, 0);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_slow_on_tokios_clock() {
    let (lab, events) = (Lab::new(), Events::new());
    let breaker = config().slow_calls(ms(1000), 1.0).build("inventory").unwrap();
    breaker.observe(events.observer());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    for (number, takes) in [(1, 900), (2, 1_100)] {
        let mut call = Call::pending(&mut service, number);
        advance(takes).await;
        lab.order(number, Order::Succeed);
        call.poll().succeeded();
    }
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().slow), (2, 1));
    let took = events.pick(|what| match what {
        What::Recorded { duration, .. } => *duration,
        _ => None,
    });
    assert!(took[0] >= ms(900) && took[1] >= ms(1_100), "{took:?}");
}

#[test]
fn it_opens_on_failures_in_a_row_whatever_the_minimum_says() {
    let (breaker, _) = build(
        config()
            .count_window(100)
            .minimum_calls(100)
            .consecutive_failures(3),
    );
    fail(&breaker, 2);
    call(&breaker, Verdict::Ignored);
    succeed(&breaker, 1);
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Closed);
    call(&breaker, Verdict::Ignored);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(
        breaker.snapshot().cause,
        Some(OpenCause::ConsecutiveFailures { failures: 3 })
    );
}

#[test]
fn failures_in_a_row_are_counted_anew_in_each_state() {
    let (breaker, _) = build(config().minimum_calls(4).consecutive_failures(3));
    fail(&breaker, 2);
    breaker.close();
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn failures_in_a_row_are_counted_past_successes_that_take_the_fast_path() {
    // A window full of successes lets further successes by without a look.
    for time_window in [false, true] {
        let config = config().no_failure_rate().consecutive_failures(2);
        let (breaker, _) = build(if time_window {
            config.time_window(Duration::from_secs(10))
        } else {
            config
        });
        succeed(&breaker, 10);
        for _ in 0..5 {
            fail(&breaker, 1);
            succeed(&breaker, 1);
        }
        assert_eq!(breaker.state(), State::Closed, "never two in a row");
        succeed(&breaker, 10);
        fail(&breaker, 2);
        assert_eq!(breaker.state(), State::Open);
    }
}

#[test]
fn without_a_failure_rate_only_what_is_set_opens_it() {
    let (breaker, _) = build(config().no_failure_rate().slow_calls(ms(50), 1.0));
    fail(&breaker, 50);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failure_rate, Some(Rate::percent(100.0)));
}

#[test]
fn old_calls_leave_a_time_window() {
    let (breaker, hand) = build(config().time_window(Duration::from_secs(3)));
    fail(&breaker, 3);
    hand.advance(ms(2_999));
    assert_eq!(breaker.snapshot().failed, 3);
    hand.advance(ms(1));
    assert_eq!(breaker.snapshot().calls, 0);
    fail(&breaker, 3);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

// ---- How long it waits.

/// The waits of so many openings in a row.
fn waits(breaker: &CircuitBreaker, hand: &ClockHand, openings: u32) -> Vec<Duration> {
    let wait = |_| {
        let wait = breaker.snapshot().until.unwrap();
        hand.advance(wait);
        assert!(
            breaker.try_acquire().is_err(),
            "more than the wait must have passed"
        );
        hand.advance(Duration::from_nanos(1));
        fail(breaker, 2);
        assert_eq!(breaker.state(), State::Open, "its probes failed");
        wait
    };
    breaker.open();
    (0..openings).map(wait).collect()
}

#[test]
fn it_stays_open_until_more_than_the_wait_has_passed() {
    let (breaker, hand) = build(config());
    assert_eq!(waits(&breaker, &hand, 3), [ms(1000); 3]);
}

#[test]
fn the_wait_grows_with_each_opening_up_to_its_cap() {
    let (breaker, hand) = build(config().open_growth(2.0, ms(6000)));
    let grown = [1000, 2000, 4000, 6000, 6000].map(ms);
    assert_eq!(waits(&breaker, &hand, 5), grown);
    assert_eq!(breaker.snapshot().openings, 6);
    breaker.close();
    assert_eq!(waits(&breaker, &hand, 2), grown[..2], "closing begins it anew");
}

#[test]
fn it_begins_to_grow_anew_when_probes_have_closed_it() {
    let (breaker, hand) = build(config().open_growth(2.0, ms(6000)));
    waits(&breaker, &hand, 3);
    hand.advance(ms(6001));
    succeed(&breaker, 2);
    assert_eq!((breaker.state(), breaker.snapshot().openings), (State::Closed, 0));
    fail(&breaker, 4);
    assert_eq!(breaker.snapshot().until, Some(ms(1000)));
}

#[test]
fn jitter_spreads_the_waits_after_the_first_below_their_cap() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let settings = config().open_growth(2.0, ms(4000)).open_jitter(0.25).seed(seed);
        let (breaker, hand) = build(settings.clone());
        let jittered = waits(&breaker, &hand, 5);
        assert_eq!(jittered[0], ms(1000), "the first is exact");
        for (wait, longest) in jittered[1..].iter().zip([2000, 4000, 4000, 4000]) {
            assert!(*wait <= ms(longest), "{wait:?} of {longest} ms");
            assert!(*wait >= ms(longest).mul_f64(0.75), "{wait:?} of {longest} ms");
        }
        seen.insert(jittered[4]);
        let (breaker, hand) = build(settings);
        assert_eq!(waits(&breaker, &hand, 5), jittered, "a seed repeats itself");
    }
    assert!(
        seen.len() >= 190,
        "{} different waits of 200, at the cap",
        seen.len()
    );
    let mean = seen.iter().sum::<Duration>().as_secs_f64() / seen.len() as f64;
    assert!(
        (mean - 3.5).abs() < 0.1,
        "evenly spread between 3 s and 4 s: {mean}"
    );
}

#[test]
fn extreme_waits_do_not_panic() {
    let longest = Duration::MAX;
    for (wait, factor, max, jitter) in [
        (Duration::from_nanos(1), 1e300, longest, 0.0),
        (longest, 1e300, longest, 0.0),
        (longest, 1.0, longest, 1.0),
        (longest, f64::MAX, longest, 1e-20),
        (Duration::from_nanos(1), 1.0, Duration::from_nanos(1), 1.0),
    ] {
        let settings = config()
            .open_wait(wait)
            .open_growth(factor, max)
            .open_jitter(jitter);
        let (breaker, hand) = build(settings.seed(1));
        hand.set(Timestamp::from_nanos(u64::MAX / 2));
        for _ in 0..1100 {
            breaker.open();
        }
        assert_eq!(breaker.snapshot().openings, 1100);
        hand.set(Timestamp::MAX);
        let _ = breaker.try_acquire();
        breaker.close();
        succeed(&breaker, 1);
    }
}

#[test]
fn who_comes_back_when_told_to_is_admitted() {
    let (breaker, hand) = build(config());
    breaker.open();
    hand.advance(ms(300));
    let told = breaker.try_acquire().unwrap_err().retry_after().unwrap();
    assert!(told >= ms(700), "{told:?}");
    assert!(told <= ms(701), "{told:?}");
    hand.advance(told);
    assert!(breaker.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn it_goes_half_open_by_itself_where_that_is_set() {
    let events = Events::new();
    let breaker = config().automatic_half_open(true).build("inventory").unwrap();
    breaker.observe(events.observer());
    breaker.open();
    advance(1_000).await;
    assert_eq!(breaker.state(), State::Open);
    tokio::time::sleep(ms(2)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Open);
    tokio::time::sleep(ms(1_002)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    succeed(&breaker, 2);
    assert_eq!(
        transitions(&events),
        [
            (State::Closed, State::Open),
            (State::Open, State::HalfOpen),
            (State::HalfOpen, State::Open),
            (State::Open, State::HalfOpen),
            (State::HalfOpen, State::Closed),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn it_stays_open_without_a_call_where_that_is_not_set() {
    let breaker = config().build("inventory").unwrap();
    breaker.open();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().state, State::Open);
    assert_eq!(breaker.snapshot().until, Some(Duration::ZERO));
    breaker.tick();
    assert_eq!(breaker.state(), State::Open);
    let _probe = breaker.try_acquire().unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_earlier_wait_does_not_end_a_later_one() {
    let breaker = config().automatic_half_open(true).build("inventory").unwrap();
    breaker.open();
    tokio::time::sleep(ms(600)).await;
    breaker.close();
    breaker.open();
    tokio::time::sleep(ms(600)).await;
    assert_eq!(breaker.state(), State::Open);
    tokio::time::sleep(ms(402)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn outside_of_a_runtime_it_goes_half_open_when_it_is_looked_at() {
    let (breaker, hand) = build(config().automatic_half_open(true));
    breaker.open();
    hand.advance(ms(1001));
    assert_eq!(breaker.snapshot().state, State::HalfOpen);
    breaker.open();
    hand.advance(ms(1001));
    breaker.tick();
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_begins_open_goes_half_open_by_itself_too() {
    let breaker = config()
        .automatic_half_open(true)
        .initial_state(State::Open)
        .build("inventory")
        .unwrap();
    tokio::time::sleep(ms(1_002)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_told_so_while_it_is_open_goes_half_open_by_itself() {
    let breaker = config().build("inventory").unwrap();
    breaker.open();
    breaker.reconfigure(&config().automatic_half_open(true)).unwrap();
    tokio::time::sleep(ms(1_002)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
}

// ---- Half-open.

#[test]
fn half_open_admits_exactly_its_probes_and_closes_when_they_succeed() {
    let (breaker, _) = build(config().probes(3));
    breaker.half_open();
    let probes: Vec<Permit> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!(refused.reason(), &Reason::ProbesTaken { probes: 3 });
    assert_eq!(refused.retry_after(), None);
    for probe in probes {
        assert_eq!(breaker.state(), State::HalfOpen);
        probe.success();
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().calls, 0, "closed begins with an empty window");
}

#[test]
fn half_open_judges_as_soon_as_its_minimum_has_a_result() {
    let (breaker, _) = build(config().probes(4).minimum_calls(2));
    breaker.half_open();
    let held = breaker.try_acquire().unwrap();
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::HalfOpen);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Open, "half of two failed");
    held.success();
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn slow_probes_open_it_again() {
    let (breaker, _) = build(config().slow_calls(ms(50), 0.5).probes(1));
    breaker.half_open();
    let probe = breaker.try_acquire().unwrap();
    probe.settle_after(Verdict::Success, ms(60));
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn probes_that_all_fail_open_it_again_where_only_failures_in_a_row_are_looked_at() {
    let (breaker, _) = build(config().no_failure_rate().consecutive_failures(10).probes(2));
    breaker.half_open();
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn an_ignored_probe_gives_its_permit_back() {
    let (breaker, _) = build(config().probes(1));
    breaker.half_open();
    for _ in 0..10 {
        breaker.try_acquire().unwrap().ignore();
    }
    assert_eq!(breaker.state(), State::HalfOpen);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn half_open_lasts_as_long_as_it_takes_where_no_longest_stay_is_set() {
    let (breaker, hand) = build(config());
    breaker.half_open();
    hand.advance(Duration::from_secs(1_000_000));
    succeed(&breaker, 1);
    hand.advance(Duration::from_secs(1_000_000));
    assert_eq!(breaker.snapshot().state, State::HalfOpen);
    assert_eq!(breaker.snapshot().until, None);
}

#[test]
fn a_stay_in_half_open_that_is_too_long_ends_as_it_is_set() {
    for (end, state) in [(StayEnd::Open, State::Open), (StayEnd::Close, State::Closed)] {
        let looks: [fn(&CircuitBreaker); 3] = [
            |breaker| drop(breaker.try_acquire()),
            |breaker| {
                breaker.snapshot();
            },
            CircuitBreaker::tick,
        ];
        for look in looks {
            let (breaker, hand) = build(config().max_half_open_stay(ms(500), end));
            breaker.half_open();
            assert_eq!(breaker.snapshot().until, Some(ms(500)));
            hand.advance(ms(500));
            look(&breaker);
            assert_eq!(breaker.state(), State::HalfOpen, "it may last that long");
            hand.advance(ms(1));
            look(&breaker);
            assert_eq!(breaker.state(), state);
            if state == State::Open {
                let shown = breaker.snapshot();
                assert_eq!(shown.cause, Some(OpenCause::HalfOpenOverstayed));
                assert_eq!(shown.until, Some(ms(1000)));
                assert_eq!(shown.openings, 1);
            }
        }
    }
}

#[test]
fn a_result_that_comes_after_the_longest_stay_decides_nothing() {
    for (end, state) in [(StayEnd::Open, State::Open), (StayEnd::Close, State::Closed)] {
        for verdict in [Verdict::Success, Verdict::Failure] {
            let (breaker, hand) = build(config().probes(1).max_half_open_stay(ms(500), end));
            breaker.half_open();
            let probe = breaker.try_acquire().unwrap();
            hand.advance(ms(501));
            probe.settle(verdict);
            assert_eq!(breaker.snapshot().state, state, "{verdict:?}");
            assert_eq!(breaker.snapshot().calls, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stay_that_is_too_long_ends_by_itself_where_waits_do() {
    for (end, state) in [(StayEnd::Open, State::Open), (StayEnd::Close, State::Closed)] {
        let settings = config()
            .max_half_open_stay(ms(500), end)
            .automatic_half_open(true);
        let breaker = settings.build("inventory").unwrap();
        breaker.half_open();
        tokio::time::sleep(ms(502)).await;
        assert_eq!(breaker.state(), state);
    }
}

// ---- States and commands.

#[test]
fn it_begins_in_the_state_that_is_set() {
    for state in ALL {
        let (breaker, hand) = build(config().initial_state(state));
        let shown = breaker.snapshot();
        assert_eq!((breaker.state(), shown.state), (state, state));
        assert_eq!((shown.since, shown.calls), (Duration::ZERO, 0));
        let opened = state == State::Open;
        assert_eq!(shown.cause, opened.then_some(OpenCause::Command));
        assert_eq!(shown.until, opened.then_some(ms(1000)));
        let refuses = matches!(state, State::Open | State::ForcedOpen);
        assert_eq!(breaker.try_acquire().is_err(), refuses, "{state}");
        hand.advance(ms(1001));
        assert_eq!(
            breaker.try_acquire().is_err(),
            state == State::ForcedOpen,
            "{state}"
        );
    }
}

#[test]
fn every_command_works_in_every_state_and_begins_it_afresh() {
    type Command = fn(&CircuitBreaker);
    let commands: [(Command, State); 7] = [
        (CircuitBreaker::close, State::Closed),
        (CircuitBreaker::reset, State::Closed),
        (CircuitBreaker::open, State::Open),
        (CircuitBreaker::half_open, State::HalfOpen),
        (CircuitBreaker::force_open, State::ForcedOpen),
        (CircuitBreaker::disable, State::Disabled),
        (CircuitBreaker::metrics_only, State::MetricsOnly),
    ];
    for from in ALL {
        for (command, to) in commands {
            let (breaker, hand) = build(config());
            let events = Events::new();
            breaker.observe(events.observer());
            breaker.transition_to(from);
            let held = breaker.try_acquire().ok();
            if let Ok(permit) = breaker.try_acquire() {
                permit.failure();
            }
            let before = breaker.snapshot();
            hand.advance(ms(10));
            command(&breaker);
            let shown = breaker.snapshot();
            assert_eq!(shown.state, to);
            assert_eq!(shown.generation, before.generation + 1, "{from} to {to}");
            assert_eq!(shown.since, Duration::ZERO);
            let kept = if to == State::Open { before.calls } else { 0 };
            assert_eq!(
                shown.calls, kept,
                "{from} to {to}: only open shows the window before it"
            );
            let openings = match to {
                State::Open | State::ForcedOpen => before.openings + 1,
                State::HalfOpen => before.openings,
                State::Closed | State::Disabled | State::MetricsOnly => 0,
            };
            assert_eq!(shown.openings, openings, "{from} to {to}");
            assert_eq!(transitions(&events).last(), Some(&(from, to)));
            drop(held);
            assert_eq!(
                breaker.snapshot(),
                shown,
                "{from} to {to}: what was held before has no say"
            );
        }
    }
}

#[test]
fn forced_open_refuses_until_another_command() {
    let (breaker, hand) = build(config());
    breaker.force_open();
    hand.advance(Duration::from_secs(1_000_000));
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!(refused.reason(), &Reason::ForcedOpen);
    assert_eq!(refused.retry_after(), None);
    assert_eq!(breaker.snapshot().until, None);
}

#[test]
fn disabled_admits_all_and_records_nothing() {
    let (breaker, _) = build(config().consecutive_failures(1));
    breaker.disable();
    fail(&breaker, 100);
    let shown = breaker.snapshot();
    assert_eq!(
        (shown.state, shown.calls, shown.failure_rate),
        (State::Disabled, 0, None)
    );
}

#[test]
fn metrics_only_records_and_opens_on_nothing() {
    let (breaker, _) = build(config().consecutive_failures(1));
    breaker.metrics_only();
    fail(&breaker, 100);
    let shown = breaker.snapshot();
    assert_eq!((shown.state, shown.calls), (State::MetricsOnly, 4));
    assert_eq!(shown.failure_rate, Some(Rate::percent(100.0)));
}

// ---- What it shows.

#[test]
fn a_snapshot_shows_counts_rates_since_until_and_cause() {
    let (breaker, hand) = build(config().slow_calls(ms(50), 0.9).failure_rate(0.75));
    hand.advance(ms(40));
    let shown = breaker.snapshot();
    assert_eq!((shown.since, shown.until, shown.cause), (ms(40), None, None));
    let generation = shown.generation;
    let settle = |verdict, millis| breaker.try_acquire().unwrap().settle_after(verdict, ms(millis));
    settle(Verdict::Failure, 60);
    settle(Verdict::Success, 60);
    settle(Verdict::Failure, 10);
    let shown = breaker.snapshot();
    assert_eq!((shown.failure_rate, shown.slow_call_rate), (None, None));
    settle(Verdict::Success, 10);
    let shown = breaker.snapshot();
    assert_eq!(
        (shown.calls, shown.failed, shown.slow, shown.slow_failed),
        (4, 2, 2, 1)
    );
    assert_eq!(shown.failure_rate, Some(Rate::percent(50.0)));
    assert_eq!(shown.slow_call_rate, Some(Rate::percent(50.0)));
    settle(Verdict::Failure, 10);
    settle(Verdict::Failure, 10);
    hand.advance(ms(300));
    assert!(breaker.try_acquire().is_err());
    assert!(breaker.try_acquire().is_err());
    let shown = breaker.snapshot();
    assert_eq!(shown.state, State::Open);
    assert_eq!((shown.since, shown.until), (ms(300), Some(ms(700))));
    assert_eq!((shown.not_permitted, shown.openings), (2, 1));
    assert_eq!(shown.generation, generation + 1);
    assert_eq!(
        (shown.calls, shown.failed),
        (4, 3),
        "open shows the window that opened it"
    );
    let cause = OpenCause::FailureRate {
        rate: Rate::percent(75.0),
        calls: 4,
    };
    assert_eq!(shown.cause, Some(cause));
    hand.advance(ms(5000));
    assert_eq!(breaker.snapshot().until, Some(Duration::ZERO));
    breaker.close();
    assert_eq!(breaker.snapshot().not_permitted, 0);
}

#[test]
fn its_name_and_state_are_in_its_debug_output() {
    let (breaker, _) = build(config());
    breaker.open();
    assert_eq!(
        format!("{breaker:?}"),
        r#"CircuitBreaker { name: "inventory", state: Open }"#
    );
}

#[test]
fn a_rejection_says_name_rates_and_when() {
    let (breaker, hand) = build(config().slow_calls(ms(50), 1.0).consecutive_failures(100));
    let text = |breaker: &CircuitBreaker| breaker.try_acquire().unwrap_err().to_string();
    fail(&breaker, 3);
    succeed(&breaker, 1);
    hand.advance(ms(250));
    assert_eq!(
        text(&breaker),
        "circuit breaker `inventory` refused the call: failure rate 75 % of 4 calls; retry in 750ms"
    );
    breaker.close();
    for _ in 0..4 {
        let permit = breaker.try_acquire().unwrap();
        permit.settle_after(Verdict::Success, ms(51));
    }
    assert_eq!(
        text(&breaker),
        "circuit breaker `inventory` refused the call: slow call rate 100 % of 4 calls; retry in 1s"
    );
    breaker.open();
    assert_eq!(
        text(&breaker),
        "circuit breaker `inventory` refused the call: opened by command; retry in 1s"
    );
    breaker.force_open();
    assert_eq!(
        text(&breaker),
        "circuit breaker `inventory` refused the call: forced open by command"
    );
    breaker.half_open();
    let held = [breaker.try_acquire(), breaker.try_acquire()];
    assert_eq!(
        text(&breaker),
        "circuit breaker `inventory` refused the call: half-open with all 2 probes taken"
    );
    drop(held);

    let (breaker, _) = build(config().consecutive_failures(2));
    fail(&breaker, 2);
    assert_eq!(
        text(&breaker),
        "circuit breaker `inventory` refused the call: 2 failures in a row; retry in 1s"
    );
    let (breaker, hand) = build(config().max_half_open_stay(ms(10), StayEnd::Open));
    breaker.half_open();
    hand.advance(ms(11));
    assert_eq!(
        text(&breaker),
        "circuit breaker `inventory` refused the call: half-open for too long without a verdict; retry in 1s"
    );
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.kind(), RejectedKind::CircuitOpen);
    assert_eq!(rejected.policy(), "inventory");
    assert!(!rejected.may_have_reached_service());
}

// ---- New settings.

#[test]
fn new_thresholds_apply_to_the_window_that_there_is() {
    for timed in [false, true] {
        let wide = || {
            let config = config().count_window(100).minimum_calls(10);
            if timed {
                config.time_window(Duration::from_secs(10))
            } else {
                config
            }
        };
        let (breaker, _) = build(wide());
        succeed(&breaker, 14);
        fail(&breaker, 6);
        let before = breaker.snapshot();
        breaker.reconfigure(&wide().failure_rate(0.3)).unwrap();
        assert_eq!(
            breaker.snapshot(),
            before,
            "nothing is judged before the next record"
        );
        succeed(&breaker, 1);
        assert_eq!(breaker.state(), State::Closed, "6 of 21");
        breaker.reconfigure(&wide().failure_rate(0.27)).unwrap();
        assert_eq!(breaker.state(), State::Closed);
        succeed(&breaker, 1);
        assert_eq!(breaker.state(), State::Open, "6 of 22");
    }
}

#[test]
fn new_settings_apply_to_calls_under_way() {
    let (breaker, _) = build(config());
    let under_way = breaker.try_acquire().unwrap();
    breaker.reconfigure(&config().slow_calls(ms(50), 1.0)).unwrap();
    under_way.settle_after(Verdict::Success, ms(60));
    assert_eq!(breaker.snapshot().slow, 1);
}

#[test]
fn failures_in_a_row_are_kept_by_new_settings() {
    let wide = |failures| {
        config()
            .count_window(100)
            .minimum_calls(100)
            .consecutive_failures(failures)
    };
    let (breaker, _) = build(wide(10));
    fail(&breaker, 3);
    breaker.reconfigure(&wide(4)).unwrap();
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn only_another_shape_of_the_window_empties_it() {
    let counted = || config().count_window(50).minimum_calls(50);
    let timed = || counted().time_window(Duration::from_secs(10));
    let finer = || counted().time_window_in(Duration::from_secs(10), ms(500));
    for state in [State::Closed, State::MetricsOnly] {
        for (from, to, emptied) in [
            (counted(), counted().minimum_calls(7), false),
            (counted(), counted().count_window(51), true),
            (counted(), timed(), true),
            (timed(), timed().failure_rate(0.9), false),
            (timed(), finer(), true),
            (timed(), counted(), true),
        ] {
            let (breaker, _) = build(from.initial_state(state));
            let events = Events::new();
            breaker.observe(events.observer());
            succeed(&breaker, 3);
            fail(&breaker, 2);
            let before = breaker.snapshot();
            events.take();
            breaker.reconfigure(&to).unwrap();
            let shown = breaker.snapshot();
            assert_eq!((shown.state, shown.generation), (state, before.generation));
            if emptied {
                assert_eq!((shown.calls, shown.failed), (0, 0));
                assert_eq!(events.take(), [What::Reconfigured, What::WindowEmptied]);
            } else {
                assert_eq!((shown.calls, shown.failed), (5, 2));
                assert_eq!(events.take(), [What::Reconfigured]);
            }
            succeed(&breaker, 1);
            assert_eq!(breaker.snapshot().calls, shown.calls + 1);
        }
    }
}

#[test]
fn an_outage_goes_on_under_new_settings() {
    let (breaker, hand) = build(config());
    fail(&breaker, 4);
    hand.advance(ms(400));
    let before = breaker.snapshot();
    breaker
        .reconfigure(&config().open_wait(ms(9000)).count_window(7))
        .unwrap();
    assert_eq!(
        breaker.snapshot(),
        before,
        "the wait under way, its window and its cause stay"
    );
    hand.advance(ms(601));
    fail(&breaker, 2);
    assert_eq!(breaker.snapshot().until, Some(ms(9000)), "the next one is new");
}

#[test]
fn probes_under_way_go_on_under_new_settings() {
    let (breaker, _) = build(config().probes(2));
    breaker.half_open();
    let probes = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
    breaker
        .reconfigure(&config().probes(5).failure_rate(1.0))
        .unwrap();
    assert!(breaker.try_acquire().is_err(), "this stay has two");
    let [first, second] = probes;
    first.success();
    second.failure();
    assert_eq!(
        breaker.state(),
        State::Closed,
        "half of two is not all, as it is set now"
    );
}

#[test]
fn settings_that_are_refused_change_nothing() {
    let (breaker, _) = build(config());
    let events = Events::new();
    breaker.observe(events.observer());
    fail(&breaker, 3);
    let before = breaker.snapshot();
    events.take();
    let error = breaker
        .reconfigure(&config().count_window(7).failure_rate(7.5))
        .unwrap_err();
    assert_eq!(error.field(), "failure_rate");
    assert_eq!(breaker.snapshot(), before);
    assert_eq!(events.take(), []);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn name_clock_and_initial_state_are_not_reconfigured() {
    let (breaker, hand) = build(config());
    let (other, _) = Clock::manual();
    let settings = config().clock(other).initial_state(State::ForcedOpen);
    breaker.reconfigure(&settings).unwrap();
    assert_eq!(breaker.state(), State::Closed);
    hand.advance(ms(5));
    assert_eq!(breaker.snapshot().since, ms(5));
}

// ---- What it tells.

#[test]
fn observers_hear_everything_in_order_with_name_and_kind() {
    let (breaker, hand) = build(config());
    let events = Events::new();
    breaker.clone().observe(events.observer());
    succeed(&breaker, 2);
    fail(&breaker, 2);
    let rejected = breaker.try_acquire().unwrap_err();
    hand.advance(ms(1001));
    succeed(&breaker, 2);
    let cause = OpenCause::FailureRate {
        rate: Rate::percent(50.0),
        calls: 4,
    };
    let recorded = |verdict| What::Recorded {
        verdict,
        duration: Some(Duration::ZERO),
    };
    let changed = |from, to, cause| What::Transition { from, to, cause };
    let all = events.events();
    assert!(
        all.iter()
            .all(|event| event.policy == buttress::PolicyKind::CircuitBreaker)
    );
    assert!(all.iter().all(|event| &*event.name == "inventory"));
    let told: Vec<_> = all
        .into_iter()
        .map(|event| event.what)
        .filter(|what| !matches!(what, What::Recorded { .. }))
        .collect();
    assert_eq!(
        told,
        [
            changed(State::Closed, State::Open, Some(cause)),
            What::Rejected(rejected),
            changed(State::Open, State::HalfOpen, None),
            changed(State::HalfOpen, State::Closed, None),
        ]
    );
    let recorded_calls = events
        .all()
        .into_iter()
        .filter(|what| matches!(what, What::Recorded { .. }));
    let (success, failure) = (recorded(Verdict::Success), recorded(Verdict::Failure));
    let expected = [&success, &success, &failure, &failure, &success, &success];
    assert!(recorded_calls.eq(expected.into_iter().cloned()));
}

#[test]
fn a_result_that_changes_nothing_is_not_told_as_recorded() {
    let (breaker, _) = build(config());
    let events = Events::new();
    let late = breaker.try_acquire().unwrap();
    breaker.disable();
    breaker.observe(events.observer());
    late.failure();
    assert_eq!(events.take(), []);
}

#[test]
fn an_observer_may_use_the_breaker_and_add_observers() {
    let (breaker, _) = build(config());
    let (events, used) = (Events::new(), Arc::new(Mutex::new(Vec::new())));
    let observer = {
        let (breaker, events, used) = (breaker.clone(), events.clone(), Arc::clone(&used));
        move |event: &Event| {
            if let What::Transition { to, .. } = event.what {
                used.lock().unwrap().push((to, breaker.snapshot().state));
                breaker.observe(events.observer());
                let _ = breaker.try_acquire();
                breaker.reconfigure(&config()).unwrap();
            }
        }
    };
    breaker.observe(Arc::new(observer));
    breaker.open();
    breaker.force_open();
    let used = used.lock().unwrap().clone();
    assert_eq!(
        used,
        [(State::Open, State::Open), (State::ForcedOpen, State::ForcedOpen)]
    );
    assert!(transitions(&events).contains(&(State::Open, State::ForcedOpen)));
}

/// Commands the breaker in its callback, once.
struct Meddler(CircuitBreaker);

impl Observer for Meddler {
    fn on_event(&self, event: &Event) {
        if let What::Transition { to: State::Open, .. } = event.what {
            self.0.disable();
        }
    }
}

#[test]
fn transitions_are_heard_in_order_though_an_observer_makes_one_in_its_callback() {
    let (breaker, _) = build(config());
    let events = Events::new();
    breaker.observe(Arc::new(Meddler(breaker.clone())));
    breaker.observe(events.observer());
    breaker.open();
    assert_eq!(
        transitions(&events),
        [(State::Closed, State::Open), (State::Open, State::Disabled)]
    );
}

#[test]
fn transitions_are_heard_in_order_though_many_threads_make_them() {
    // What a gauge shows in the end is where the breaker is.
    let (breaker, _) = build(config());
    let events = Events::new();
    let hesitant = {
        let events = events.clone();
        move |event: &Event| {
            thread::yield_now();
            events.on_event(event);
        }
    };
    breaker.observe(Arc::new(hesitant));
    thread::scope(|scope| {
        for number in 0..4 {
            let breaker = &breaker;
            scope.spawn(move || {
                for round in 0..500 {
                    breaker.transition_to(ALL[(number + round) % ALL.len()]);
                }
            });
        }
    });
    let heard = transitions(&events);
    assert_eq!(heard.len(), 2000);
    let broken = heard.windows(2).find(|pair| pair[0].1 != pair[1].0);
    assert_eq!(broken, None, "each begins where the one before ended");
    assert_eq!(heard.last().unwrap().1, breaker.state());
}
