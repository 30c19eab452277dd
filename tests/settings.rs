//! Settings: the defaults, and what is refused with which words.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use buttress::{
    AnswerWith, Backoff, Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, Clock, ConfigError,
    Fallback, Rate, Retry, RetryBudgetConfig, RetryConfig, Stack, State, StayEnd, Timeout, TimeoutConfig,
};

const ZERO: Duration = Duration::ZERO;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[track_caller]
fn refused<T>(built: Result<T, ConfigError>, message: &str) {
    let error = built
        .err()
        .unwrap_or_else(|| panic!("accepted; expected `{message}`"));
    assert_eq!(error.to_string(), message);
    // The parts are what the message is made of.
    let parts = format!("{} = {}: {}", error.field(), error.value(), error.accepted());
    assert!(message.ends_with(&parts), "{parts}");
}

// ---- Defaults.

#[test]
fn the_defaults_of_a_circuit_breaker() {
    assert_eq!(
        format!("{:#?}", CircuitBreakerConfig::new()),
        "\
CircuitBreakerConfig {
    window: Calls(
        100,
    ),
    minimum_calls: 20,
    failure_rate: Some(
        Rate(
            0.5,
        ),
    ),
    slow_call: None,
    consecutive_failures: None,
    open: OpenConfig {
        wait: 5s,
        factor: 2.0,
        max: 60s,
        jitter: 0.1,
        automatic_half_open: false,
    },
    half_open: HalfOpenConfig {
        probes: 3,
        max_probe_age: 30s,
        max_stay: None,
        stay_end: Open,
    },
    dropped_after: 10s,
    initial_state: Closed,
    record: [],
    ignore: [],
    seed: None,
    clock: Clock::tokio,
}"
    );
}

#[test]
fn the_defaults_of_a_retry() {
    assert_eq!(
        format!("{:#?}", RetryConfig::new()),
        "\
RetryConfig {
    max_attempts: 3,
    max_elapsed: None,
    backoff: Exponential {
        initial: 100ms,
        factor: 2.0,
        max: 5s,
    },
    jitter: Full,
    max_hint: 10s,
    budget: Own(
        RetryBudgetConfig {
            ratio: Rate(
                0.2,
            ),
            min_per_second: 3,
            window: 10s,
            clock: Clock::tokio,
        },
    ),
    on: [],
    never_on: [],
    seed: None,
    clock: Clock::tokio,
}"
    );
}

#[test]
fn the_defaults_of_a_timeout() {
    assert_eq!(
        format!("{:?}", TimeoutConfig::default()),
        "TimeoutConfig { limit: 10s, clock: Clock::tokio }"
    );
}

#[test]
fn the_defaults_of_a_bulkhead() {
    assert_eq!(
        format!("{:?}", BulkheadConfig::default()),
        "BulkheadConfig { max_concurrent: 256, max_wait: 0ns, max_queue: 1024, clock: Clock::tokio }"
    );
}

#[test]
fn the_defaults_build() {
    CircuitBreaker::with_defaults("a").unwrap();
    Retry::with_defaults("a").unwrap();
    Timeout::with_defaults("a").unwrap();
    Bulkhead::with_defaults("a").unwrap();
    RetryBudgetConfig::new().build().unwrap();
}

#[test]
fn what_the_documentation_calls_the_ends_of_a_range_is_accepted() {
    let breaker = CircuitBreakerConfig::new;
    for config in [
        breaker().count_window(1).minimum_calls(1),
        breaker().count_window(1_000_000).minimum_calls(u32::MAX),
        breaker().failure_rate(1.0),
        breaker().failure_rate(1e-9),
        breaker().open_wait(Duration::from_nanos(1)),
        breaker().open_wait(Duration::MAX),
        breaker().open_growth(1.0, secs(5)),
        breaker().open_growth(1e300, Duration::MAX),
        breaker().open_jitter(1.0),
        breaker().open_jitter(0.0),
        breaker().probes(1),
        breaker().probes(10_000),
        breaker().max_probe_age(Duration::from_nanos(1)),
        breaker().max_half_open_stay(Duration::from_nanos(1), StayEnd::Open),
        breaker().dropped_after(ZERO),
        breaker().dropped_after(Duration::MAX),
        breaker().time_window_in(Duration::from_millis(1), Duration::from_millis(1)),
        breaker().time_window_in(secs(10_000), secs(1)),
        breaker().slow_calls(Duration::from_nanos(1), 1.0),
        breaker().no_failure_rate().consecutive_failures(1),
    ] {
        config.build("a").unwrap();
    }
    let retry = RetryConfig::new;
    for config in [
        retry().max_attempts(1),
        retry().max_attempts(1000),
        retry().max_elapsed(Duration::from_nanos(1)),
        retry().max_hint(ZERO),
        retry().backoff(Backoff::fixed(ZERO)),
        retry().backoff(Backoff::exponential(ZERO, 1.0, ZERO)),
        retry().backoff(Backoff::decorrelated(secs(1), secs(1))),
        retry().budget(RetryBudgetConfig::new().ratio(0.0)),
        retry().budget(RetryBudgetConfig::new().ratio(1.0).min_per_second(0)),
        retry().budget(RetryBudgetConfig::new().window(Duration::from_millis(100))),
    ] {
        config.build("a").unwrap();
    }
    TimeoutConfig::new(Duration::from_nanos(1)).build("a").unwrap();
    TimeoutConfig::new(Duration::MAX).build("a").unwrap();
    BulkheadConfig::new(1).max_queue(0).build("a").unwrap();
    BulkheadConfig::new(1_000_000)
        .max_wait(Duration::MAX)
        .max_queue(u32::MAX)
        .build("a")
        .unwrap();
}

// ---- What is refused.

/// Puts one setting out of its range, and the message that follows.
type Case<Config> = (fn(Config) -> Config, &'static str);

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_circuit_breaker_is_refused_for_each_setting_out_of_its_range() {
    let cases: [Case<CircuitBreakerConfig>; 27] = [
        (
            |config| config.count_window(0),
            "circuit breaker `payments`: window.calls = 0: accepted: from 1 to 1000000",
        ),
        (
            |config| config.count_window(1_000_001),
            "circuit breaker `payments`: window.calls = 1000001: accepted: from 1 to 1000000",
        ),
        (
            |config| config.time_window(ZERO),
            "circuit breaker `payments`: window.time = 0ns: accepted: from 1 to 10000 times window.bucket (1s), a whole multiple",
        ),
        (
            |config| config.time_window(Duration::from_millis(1500)),
            "circuit breaker `payments`: window.time = 1.5s: accepted: from 1 to 10000 times window.bucket (1s), a whole multiple",
        ),
        (
            |config| config.time_window(secs(10_001)),
            "circuit breaker `payments`: window.time = 10001s: accepted: from 1 to 10000 times window.bucket (1s), a whole multiple",
        ),
        (
            |config| config.time_window_in(secs(1), Duration::from_micros(999)),
            "circuit breaker `payments`: window.bucket = 999µs: accepted: 1ms or more",
        ),
        (
            |config| config.minimum_calls(0),
            "circuit breaker `payments`: minimum_calls = 0: accepted: 1 or more",
        ),
        (
            |config| config.failure_rate(0.0),
            "circuit breaker `payments`: failure_rate = 0: accepted: above 0, at most 1 (a fraction)",
        ),
        (
            |config| config.failure_rate(-0.5),
            "circuit breaker `payments`: failure_rate = -0.5: accepted: above 0, at most 1 (a fraction)",
        ),
        (
            |config| config.failure_rate(f64::NAN),
            "circuit breaker `payments`: failure_rate = NaN: accepted: above 0, at most 1 (a fraction)",
        ),
        (
            |config| config.failure_rate(7.5),
            "circuit breaker `payments`: failure_rate = 7.5: accepted: above 0, at most 1 (a fraction); for 7.5 percent write Rate::percent(7.5)",
        ),
        (
            |config| config.failure_rate(Rate::percent(20_000.0)),
            "circuit breaker `payments`: failure_rate = 200: accepted: above 0, at most 1 (a fraction)",
        ),
        (
            |config| config.slow_calls(ZERO, 0.5),
            "circuit breaker `payments`: slow_call.longer_than = 0ns: accepted: above zero",
        ),
        (
            |config| config.slow_calls(secs(1), 80.0),
            "circuit breaker `payments`: slow_call.rate = 80: accepted: above 0, at most 1 (a fraction); for 80 percent write Rate::percent(80.0)",
        ),
        (
            |config| config.consecutive_failures(0),
            "circuit breaker `payments`: consecutive_failures = 0: accepted: 1 or more",
        ),
        (
            CircuitBreakerConfig::no_failure_rate,
            "circuit breaker `payments`: failure_rate = None: nothing could ever open it; set failure_rate, slow_call or consecutive_failures",
        ),
        (
            |config| config.open_wait(ZERO),
            "circuit breaker `payments`: open.wait = 0ns: accepted: above zero",
        ),
        (
            |config| config.open_growth(0.9, secs(60)),
            "circuit breaker `payments`: open.factor = 0.9: accepted: 1 or more; 1 is a fixed wait",
        ),
        (
            |config| config.open_growth(f64::NAN, secs(60)),
            "circuit breaker `payments`: open.factor = NaN: accepted: 1 or more; 1 is a fixed wait",
        ),
        (
            |config| config.open_growth(f64::INFINITY, secs(60)),
            "circuit breaker `payments`: open.factor = inf: accepted: 1 or more; 1 is a fixed wait",
        ),
        (
            |config| config.open_growth(2.0, secs(1)),
            "circuit breaker `payments`: open.max = 1s: accepted: open.wait (5s) or more",
        ),
        (
            |config| config.open_jitter(1.1),
            "circuit breaker `payments`: open.jitter = 1.1: accepted: from 0 to 1",
        ),
        (
            |config| config.open_jitter(f64::NAN),
            "circuit breaker `payments`: open.jitter = NaN: accepted: from 0 to 1",
        ),
        (
            |config| config.probes(0),
            "circuit breaker `payments`: half_open.probes = 0: accepted: from 1 to 10000",
        ),
        (
            |config| config.probes(10_001),
            "circuit breaker `payments`: half_open.probes = 10001: accepted: from 1 to 10000",
        ),
        (
            |config| config.max_probe_age(ZERO),
            "circuit breaker `payments`: half_open.max_probe_age = 0ns: accepted: above zero",
        ),
        (
            |config| config.max_half_open_stay(ZERO, StayEnd::Close),
            "circuit breaker `payments`: half_open.max_stay = 0ns: accepted: above zero; leave it out for no limit",
        ),
    ];
    let running = CircuitBreaker::with_defaults("payments").unwrap();
    for (set, message) in cases {
        refused(set(CircuitBreakerConfig::new()).build("payments"), message);
        refused(running.reconfigure(&set(CircuitBreakerConfig::new())), message);
    }
}

#[test]
fn a_retry_is_refused_for_each_setting_out_of_its_range() {
    let cases: [Case<RetryConfig>; 16] = [
        (
            |config| config.max_attempts(0),
            "retry `payments`: max_attempts = 0: accepted: from 1 to 1000; 1 is no retry",
        ),
        (
            |config| config.max_attempts(1001),
            "retry `payments`: max_attempts = 1001: accepted: from 1 to 1000; 1 is no retry",
        ),
        (
            |config| config.max_elapsed(ZERO),
            "retry `payments`: max_elapsed = 0ns: accepted: above zero; or leave it out",
        ),
        (
            |config| config.backoff(Backoff::exponential(secs(1), 0.5, secs(2))),
            "retry `payments`: backoff.factor = 0.5: accepted: 1 or more",
        ),
        (
            |config| config.backoff(Backoff::exponential(secs(1), f64::NAN, secs(2))),
            "retry `payments`: backoff.factor = NaN: accepted: 1 or more",
        ),
        (
            |config| config.backoff(Backoff::exponential(secs(1), f64::INFINITY, secs(2))),
            "retry `payments`: backoff.factor = inf: accepted: 1 or more",
        ),
        (
            |config| config.backoff(Backoff::exponential(secs(3), 2.0, secs(2))),
            "retry `payments`: backoff.max = 2s: accepted: backoff.initial (3s) or more",
        ),
        (
            |config| config.backoff(Backoff::decorrelated(ZERO, secs(2))),
            "retry `payments`: backoff.base = 0ns: accepted: above zero",
        ),
        (
            |config| config.backoff(Backoff::decorrelated(secs(3), secs(2))),
            "retry `payments`: backoff.max = 2s: accepted: backoff.base (3s) or more",
        ),
        (
            |config| config.budget(RetryBudgetConfig::new().ratio(-0.1)),
            "retry `payments`: budget.ratio = -0.1: accepted: from 0 to 1 (a fraction of the calls)",
        ),
        (
            |config| config.budget(RetryBudgetConfig::new().ratio(20.0)),
            "retry `payments`: budget.ratio = 20: accepted: from 0 to 1 (a fraction of the calls)",
        ),
        (
            |config| config.budget(RetryBudgetConfig::new().ratio(f64::NAN)),
            "retry `payments`: budget.ratio = NaN: accepted: from 0 to 1 (a fraction of the calls)",
        ),
        (
            |config| config.budget(RetryBudgetConfig::new().window(Duration::from_millis(99))),
            "retry `payments`: budget.window = 99ms: accepted: from 100ms to one day",
        ),
        (
            |config| config.budget(RetryBudgetConfig::new().window(ZERO)),
            "retry `payments`: budget.window = 0ns: accepted: from 100ms to one day",
        ),
        (
            |config| config.budget(RetryBudgetConfig::new().window(secs(86_401))),
            "retry `payments`: budget.window = 86401s: accepted: from 100ms to one day",
        ),
        (
            |config| config.budget(RetryBudgetConfig::new().ratio(0.0).min_per_second(0)),
            "retry `payments`: budget.min_per_second = 0: with a ratio of 0 no retry could ever be made; raise one of them",
        ),
    ];
    let running = Retry::with_defaults("payments").unwrap();
    for (set, message) in cases {
        refused(set(RetryConfig::new()).build("payments"), message);
        refused(running.reconfigure(&set(RetryConfig::new())), message);
    }
}

#[test]
fn a_retry_is_refused_another_budget_than_it_has() {
    let other = RetryBudgetConfig::new().build().unwrap();
    let own = Retry::with_defaults("payments").unwrap();
    let message = "retry `payments`: budget = another one: a retry keeps the budget that it was built with; \
                   reconfigure that budget by its own handle";
    refused(
        own.reconfigure(&RetryConfig::new().shared_budget(&other)),
        message,
    );
    let shares = RetryConfig::new()
        .shared_budget(&other)
        .build("payments")
        .unwrap();
    refused(shares.reconfigure(&RetryConfig::new()), message);
    shares
        .reconfigure(&RetryConfig::new().shared_budget(&other))
        .unwrap();
}

#[test]
fn a_timeout_and_a_bulkhead_are_refused_for_each_setting_out_of_its_range() {
    let message = "timeout `payments`: limit = 0ns: accepted: above zero";
    refused(TimeoutConfig::new(ZERO).build("payments"), message);
    let running = Timeout::with_defaults("payments").unwrap();
    refused(running.reconfigure(&TimeoutConfig::new(ZERO)), message);

    let running = Bulkhead::with_defaults("payments").unwrap();
    for calls in [0, 1_000_001] {
        let message = format!("bulkhead `payments`: max_concurrent = {calls}: accepted: from 1 to 1000000");
        refused(BulkheadConfig::new(calls).build("payments"), &message);
        refused(running.reconfigure(&BulkheadConfig::new(calls)), &message);
        refused(running.resize(calls), &message);
    }
    assert_eq!(running.snapshot().limit, 256);
}

#[test]
fn a_stack_is_refused_a_queue_that_nobody_can_wait_in() {
    let bulkhead = BulkheadConfig::new(1)
        .max_wait(Duration::from_millis(50))
        .build("db")
        .unwrap();
    let builder = Stack::builder().bulkhead(bulkhead);
    refused(
        builder.clone().build(),
        "bulkhead `db`: max_wait = 50ms: a call that waits needs a clone of the service; write `.queued().build()`",
    );
    builder.queued().build().unwrap();
}

#[test]
fn every_message_begins_with_what_it_is_about() {
    let timeout = Timeout::with_defaults("a").unwrap();
    let tall = (0..33).fold(Stack::builder(), |builder, _| builder.timeout(timeout.clone()));
    let budget = RetryBudgetConfig::new().build().unwrap();
    let none = RetryBudgetConfig::new().ratio(2.0);
    for error in [
        tall.build().unwrap_err(),
        budget.reconfigure(&none).unwrap_err(),
        none.build().unwrap_err(),
    ] {
        let message = error.to_string();
        assert!(
            message.starts_with(|first: char| first.is_alphabetic()),
            "`{message}`"
        );
    }
}

#[test]
fn a_stack_is_refused_handles_with_different_clocks() {
    let second = TimeoutConfig::new(secs(1));
    let of_tokio = second.clone().build("total").unwrap();
    let by_hand = Clock::manual().0;
    let breaker = CircuitBreakerConfig::new()
        .clock(by_hand.clone())
        .build("db")
        .unwrap();
    let retry = RetryConfig::new().clock(by_hand.clone()).build("db").unwrap();
    let bulkhead = BulkheadConfig::new(1)
        .clock(Clock::manual().0)
        .build("db")
        .unwrap();

    let mixed = Stack::builder()
        .timeout(of_tokio.clone())
        .circuit_breaker(breaker.clone());
    let because = "the handles of a stack are driven by one clock; build them with clones of one";
    refused(
        mixed.build(),
        &format!(
            "circuit breaker `db`: clock = Clock::manual: accepted: Clock::tokio, which timeout `total` has: {because}"
        ),
    );
    let mixed = Stack::builder().retry(retry.clone()).timeout(of_tokio.clone());
    refused(
        mixed.build(),
        &format!(
            "timeout `total`: clock = Clock::tokio: accepted: Clock::manual, which retry `db` has: {because}"
        ),
    );
    // Two that are moved by hand are two.
    let mixed = Stack::builder()
        .circuit_breaker(breaker.clone())
        .bulkhead(bulkhead);
    refused(
        mixed.clone().build(),
        &format!(
            "bulkhead `db`: clock = another Clock::manual: accepted: Clock::manual, which circuit breaker `db` has: \
             {because}"
        ),
    );
    assert!(mixed.queued().build().is_err());

    let by_hand = second.clock(by_hand).build("attempt").unwrap();
    // A fallback looks at no clock.
    let one = Stack::builder().fallback(Fallback::new("db"), AnswerWith(0));
    one.circuit_breaker(breaker)
        .retry(retry)
        .timeout(by_hand)
        .build()
        .unwrap();
    let defaults = Stack::builder()
        .timeout(of_tokio)
        .retry(Retry::with_defaults("db").unwrap());
    defaults.build().unwrap();
}

#[test]
fn as_many_policies_as_a_stack_may_have_are_accepted() {
    let timeout = Timeout::with_defaults("a").unwrap();
    let builder = (0..32).fold(Stack::builder(), |builder, _| builder.timeout(timeout.clone()));
    assert_eq!(builder.build().unwrap().stages().len(), 32);
}

#[test]
fn a_wait_above_the_default_cap_raises_the_cap() {
    let breaker = CircuitBreakerConfig::new()
        .open_wait(secs(300))
        .build("a")
        .unwrap();
    breaker.open();
    let left = breaker.snapshot().until.unwrap();
    assert!(left > secs(299), "{left:?}");
    assert_eq!(breaker.state(), State::Open);
}
