//! Linting of stacks: their worst cases, and warnings of orders and values that defeat themselves.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long it took")]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress::{
    Advice, Backoff, BulkheadConfig, CircuitBreakerConfig, Exchange, Held, HoldsRejected, Issue, Jitter,
    KeyedConfig, LintReport, Origin, Outcome, Place, Policy, PolicyConfig, RetryConfig, Settings, Severity,
    Stack, StackConfig, StayEnd, TimeoutConfig, Verdict,
};
use proptest::prelude::*;
use tower::{BoxError, Layer, service_fn};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn timeout(limit: Duration) -> TimeoutConfig {
    TimeoutConfig::new(limit)
}

fn breaker() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
}

/// Retries that wait for a second each, and for hints not at all.
fn retry(attempts: u32) -> RetryConfig {
    RetryConfig::new()
        .max_attempts(attempts)
        .backoff(Backoff::fixed(secs(1)))
        .jitter(Jitter::None)
        .max_hint(Duration::ZERO)
}

/// A stack whose stages are called after what they are.
fn stack<const N: usize>(stages: [(&str, PolicyConfig); N]) -> StackConfig {
    stages
        .into_iter()
        .fold(StackConfig::new(), |stack, (name, policy)| {
            stack.stage(name, policy)
        })
}

/// Calls each stage by its kind: `stages!(timeout(secs(1)), retry(3))` are `timeout0` and `retry1`.
macro_rules! stages {
    ($($stage:expr),* $(,)?) => {{
        let policies: Vec<PolicyConfig> = vec![$($stage.into()),*];
        policies.into_iter().enumerate().fold(StackConfig::new(), |stack, (at, policy)| {
            let kind = policy.kind().to_string().replace(' ', "_");
            stack.stage(&format!("{kind}{at}"), policy)
        })
    }};
}

#[track_caller]
fn costs(stack: &StackConfig, wait: Option<Duration>, calls: u64) {
    let report = stack.lint();
    assert_eq!(
        (report.worst_wait, report.worst_calls),
        (wait, calls),
        "{report:#?}"
    );
}

fn lines(report: &LintReport, from: Severity) -> Vec<String> {
    let issues = report.issues.iter().filter(|issue| issue.severity >= from);
    issues.map(Issue::to_string).collect()
}

#[track_caller]
fn warns(stack: &StackConfig, expected: &[&str]) {
    assert_eq!(lines(&stack.lint(), Severity::Warning), expected);
}

#[track_caller]
fn notes(stack: &StackConfig, expected: &[&str]) {
    assert_eq!(lines(&stack.lint(), Severity::Note), expected);
}

// ---- The longest wait and the most calls.

#[test]
fn without_a_timeout_a_wait_has_no_limit() {
    costs(&stages!(), None, 1);
    costs(&stages!(breaker()), None, 1);
    costs(&stages!(BulkheadConfig::new(1).max_wait(secs(5))), None, 1);
    costs(&stages!(retry(3), breaker()), None, 3);
    assert_eq!(
        stages!(retry(3)).lint().why,
        "no timeout limits how long the service may take"
    );
    // A limit of the retry's own begins no attempt after it, and ends none.
    costs(&stages!(retry(3).max_elapsed(secs(5))), None, 3);
}

#[test]
fn the_shortest_timeout_limits_a_call() {
    costs(&stages!(timeout(secs(2))), Some(secs(2)), 1);
    costs(&stages!(timeout(secs(2)), timeout(secs(3))), Some(secs(2)), 1);
    costs(
        &stages!(timeout(secs(3)), breaker(), timeout(secs(2))),
        Some(secs(2)),
        1,
    );
    assert_eq!(
        stages!(timeout(secs(3)), breaker(), timeout(secs(2))).lint().why,
        "`timeout2` ends it after 2s"
    );
}

#[test]
fn attempts_and_the_waits_between_them_add_up() {
    costs(&stages!(retry(1), timeout(secs(2))), Some(secs(2)), 1);
    costs(&stages!(retry(4), timeout(secs(2))), Some(secs(4 * 2 + 3)), 4);
    costs(&stages!(retry(4), breaker(), timeout(secs(2))), Some(secs(11)), 4);
    assert_eq!(
        stages!(retry(4), timeout(secs(2))).lint().why,
        "`retry0` makes 4 attempts of up to 2s, and waits up to 3s between them"
    );
    // Outside of the retry nothing adds up.
    costs(
        &stages!(timeout(secs(5)), retry(4), timeout(secs(2))),
        Some(secs(5)),
        4,
    );
    // Inside it does.
    let queued = BulkheadConfig::new(1).max_wait(ms(50));
    costs(
        &stages!(retry(4), queued.clone(), timeout(secs(2))),
        Some(secs(11) + ms(200)),
        4,
    );
    costs(
        &stages!(queued, retry(4), timeout(secs(2))),
        Some(secs(11) + ms(50)),
        4,
    );
}

#[test]
fn nested_retries_multiply() {
    // Two times (two attempts of 2 s and a second between them), and a second between those.
    costs(
        &stages!(retry(2), retry(2), timeout(secs(2))),
        Some(secs(2 * (2 * 2 + 1) + 1)),
        4,
    );
    costs(&stages!(retry(10), retry(10), retry(10)), None, 1000);
    let deep = (0..32).fold(StackConfig::new(), |stack, _| stack.stage("retry", retry(1000)));
    costs(&deep, None, u64::MAX);
}

#[test]
fn the_longest_backoff_counts_whatever_the_jitter() {
    let exponential = Backoff::exponential(ms(100), 2.0, ms(500));
    for (backoff, jitter, waits) in [
        (Backoff::fixed(ms(300)), Jitter::None, 4 * 300),
        (Backoff::fixed(ms(300)), Jitter::Equal, 4 * 300),
        (Backoff::fixed(ms(300)), Jitter::Full, 4 * 300),
        (exponential.clone(), Jitter::None, 100 + 200 + 400 + 500),
        (exponential, Jitter::Full, 100 + 200 + 400 + 500),
        // From 100 ms up to three times the wait before.
        (
            Backoff::decorrelated(ms(100), ms(2_000)),
            Jitter::Full,
            300 + 900 + 2_000 + 2_000,
        ),
    ] {
        let retry = retry(5).backoff(backoff).jitter(jitter);
        costs(&stages!(retry, timeout(ms(10))), Some(ms(5 * 10 + waits)), 5);
    }
    let closure = retry(5).backoff(Backoff::function(|_, _| ms(1)));
    let stack = stages!(closure, timeout(ms(10)));
    costs(&stack, None, 5);
    assert_eq!(
        stack.lint().why,
        "a closure says how long `retry0` waits, so it may be any time"
    );
}

#[test]
fn a_hint_may_take_the_place_of_each_wait() {
    let hinted = retry(3).max_hint(secs(10));
    costs(&stages!(hinted, timeout(secs(2))), Some(secs(3 * 2 + 2 * 10)), 3);
    // A backoff that is longer stays the longest.
    let hinted = retry(3).backoff(Backoff::fixed(secs(20))).max_hint(secs(10));
    costs(&stages!(hinted, timeout(secs(2))), Some(secs(3 * 2 + 2 * 20)), 3);
}

#[test]
fn no_attempt_begins_after_max_elapsed_but_the_last_one_takes_its_time() {
    let stack = stages!(retry(10).max_elapsed(secs(7)), timeout(secs(2)));
    costs(&stack, Some(secs(7 + 2)), 10);
    assert_eq!(
        stack.lint().why,
        "`retry0` begins its last attempt within 7s, which takes up to 2s"
    );
    // Where the attempts are over before, it changes nothing.
    costs(
        &stages!(retry(2).max_elapsed(secs(7)), timeout(secs(2))),
        Some(secs(5)),
        2,
    );
    // It also limits a closure.
    let closure = retry(5)
        .backoff(Backoff::function(|_, _| ms(1)))
        .max_elapsed(secs(7));
    costs(&stages!(closure, timeout(secs(2))), Some(secs(9)), 5);
}

#[test]
fn a_queue_that_nobody_may_enter_takes_no_time() {
    let none = BulkheadConfig::new(1).max_wait(secs(1)).max_queue(0);
    costs(&stages!(none, timeout(secs(2))), Some(secs(2)), 1);
}

#[test]
fn each_stage_has_its_own_worst_case() {
    let report = stack([
        ("total", timeout(secs(8)).into()),
        ("retry", retry(3).into()),
        ("circuit_breaker", breaker().into()),
        ("timeout", timeout(secs(2)).into()),
        ("bulkhead", BulkheadConfig::new(64).max_wait(ms(50)).into()),
    ])
    .lint();
    let stages: Vec<_> = report
        .stages
        .iter()
        .map(|worst| (worst.stage.as_str(), worst.wait, worst.calls))
        .collect();
    assert_eq!(
        stages,
        [
            ("total", Some(secs(8)), 3),
            ("retry", Some(secs(8)), 3),
            ("circuit_breaker", Some(secs(2)), 1),
            ("timeout", Some(secs(2)), 1),
            ("bulkhead", None, 1),
        ]
    );
}

#[test]
fn extremes_neither_overflow_nor_panic() {
    let longest = stages!(
        retry(1000)
            .backoff(Backoff::exponential(Duration::MAX, 1e300, Duration::MAX))
            .max_hint(Duration::MAX)
            .max_elapsed(Duration::MAX),
        BulkheadConfig::new(1).max_wait(Duration::MAX).max_queue(u32::MAX),
        breaker().time_window(secs(1)),
        timeout(Duration::MAX),
    );
    costs(&longest, Some(Duration::MAX), 1000);
    // What no policy could be built with is no reason to panic either.
    let refused = stages!(
        timeout(Duration::ZERO),
        retry(0),
        breaker()
            .time_window_in(Duration::ZERO, Duration::ZERO)
            .minimum_calls(0),
        BulkheadConfig::new(0),
        retry(2).backoff(Backoff::exponential(secs(3), f64::NAN, secs(1))),
        timeout(Duration::ZERO),
    );
    refused.lint();
}

// ---- What really happens stays within it.

/// Every failure comes with a hint, where there is one.
#[derive(Clone)]
struct Hinting(Option<Duration>);

impl<Req, Res, Err: HoldsRejected> Exchange<Req, Res, Err> for Hinting {
    type Facts = ();
    type Response<P: Policy> = Res;

    fn facts(&self, _request: &Req) {}

    fn judge<'a>(&self, (): &(), result: Result<&'a Res, &'a Err>) -> Outcome<'a> {
        let outcome = Outcome::of(result);
        match (outcome.verdict(), self.0) {
            (Verdict::Failure, Some(hint)) => outcome.with_advice(Advice::RetryAfter(hint)),
            _ => outcome,
        }
    }

    fn give<P: Policy>(&self, (): &(), response: Res) -> Res {
        response
    }

    fn carry<P: Policy>(&self, (): &(), response: Res, _held: Held<P>) -> Res {
        response
    }
}

/// Fails after so long, or never ends; one after the other, and the last one from then on.
#[derive(Clone, Debug)]
struct Service(Vec<Option<u64>>);

/// How long a call takes and how many calls it makes of the service. Every bulkhead is full for as long as `held` says.
async fn observe(
    config: &StackConfig,
    service: Service,
    hint: Option<Duration>,
    held: Duration,
) -> (Duration, u64) {
    // A retry makes it a stack that can clone the service; with one attempt it does nothing else.
    let mut builder = Stack::builder().retry(retry(1).build("none").unwrap());
    for stage in &config.stages {
        let name = &stage.name;
        builder = match stage.policy.clone() {
            PolicyConfig::CircuitBreaker(config) => builder.circuit_breaker(config.build(name).unwrap()),
            PolicyConfig::Retry(config) => builder.retry(config.build(name).unwrap()),
            PolicyConfig::Timeout(config) => builder.timeout(config.build(name).unwrap()),
            PolicyConfig::Bulkhead(config) => {
                let bulkhead = config.build(name).unwrap();
                let slots: Vec<_> = std::iter::from_fn(|| bulkhead.try_acquire().ok()).collect();
                tokio::spawn(async move {
                    tokio::time::sleep(held).await;
                    drop(slots);
                });
                builder.bulkhead(bulkhead)
            }
            other => panic!("{other:?}"),
        };
    }
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let inner = service_fn(move |()| {
        let at = usize::try_from(counted.fetch_add(1, Ordering::SeqCst)).unwrap();
        let takes = service.0[at.min(service.0.len() - 1)];
        async move {
            match takes {
                Some(takes) => tokio::time::sleep(ms(takes)).await,
                None => pending().await,
            }
            Err::<(), BoxError>("it failed".into())
        }
    });
    let guarded = builder.build().unwrap().exchange(Hinting(hint)).layer(inner);
    let began = tokio::time::Instant::now();
    guarded.oneshot(()).await.unwrap_err();
    (began.elapsed(), calls.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_reaches_the_worst_case() {
    let unbudgeted = |attempts| retry(attempts).no_budget();
    let hinted = |attempts| unbudgeted(attempts).max_hint(secs(4));
    let exponential = Backoff::exponential(ms(100), 2.0, ms(250));
    let hint = Some(secs(9));
    for (config, hint) in [
        (stages!(timeout(secs(2))), None),
        (stages!(unbudgeted(4), timeout(secs(2))), None),
        (stages!(hinted(4), timeout(secs(2))), hint),
        (stages!(unbudgeted(4).backoff(exponential), timeout(ms(30))), None),
        (stages!(unbudgeted(3), unbudgeted(2), timeout(secs(2))), None),
        (stages!(hinted(3), hinted(2), timeout(secs(2))), hint),
        (stages!(timeout(secs(5)), unbudgeted(4), timeout(secs(2))), None),
        // Attempts begin at 0, 3 and 6 s; the next would at 9 s.
        (
            stages!(unbudgeted(10).max_elapsed(secs(6)), timeout(secs(2))),
            None,
        ),
    ] {
        let report = config.lint();
        let (took, _) = observe(&config, Service(vec![None]), hint, Duration::ZERO).await;
        assert_eq!(Some(took), report.worst_wait, "{config:#?}");
        let at_once = Some(Duration::ZERO);
        let (_, calls) = observe(&config, Service(vec![Some(0)]), at_once, Duration::ZERO).await;
        assert_eq!(calls, report.worst_calls, "{config:#?}");
    }
}

fn any_stage() -> impl Strategy<Value = PolicyConfig> {
    let wait = prop_oneof![Just(0_u64), 1..400_u64];
    let backoff = prop_oneof![
        wait.clone().prop_map(|wait| Backoff::fixed(ms(wait))),
        // Whole milliseconds grow to whole ones: Tokio's timer knows no others.
        (1..100_u64, 1..5_u32, 100..500_u64).prop_map(|(initial, factor, max)| Backoff::exponential(
            ms(initial),
            f64::from(factor),
            ms(max)
        )),
        (1..100_u64, 100..500_u64).prop_map(|(base, max)| Backoff::decorrelated(ms(base), ms(max))),
    ];
    let jitter = prop_oneof![Just(Jitter::None), Just(Jitter::Equal), Just(Jitter::Full)];
    let retry = (
        1..5_u32,
        backoff,
        jitter,
        proptest::option::of(1..2_000_u64),
        wait.clone(),
        any::<u64>(),
    )
        .prop_map(|(attempts, backoff, jitter, elapsed, hint, seed)| {
            let mut retry = RetryConfig::new()
                .max_attempts(attempts)
                .backoff(backoff)
                .jitter(jitter)
                .max_hint(ms(hint))
                .seed(seed)
                .no_budget();
            retry.max_elapsed = elapsed.map(ms);
            retry
        });
    prop_oneof![
        3 => (1..1_500_u64).prop_map(|limit| PolicyConfig::from(timeout(ms(limit)))),
        3 => retry.prop_map(PolicyConfig::from),
        2 => (1..3_u32, wait)
            .prop_map(|(size, wait)| PolicyConfig::from(BulkheadConfig::new(size).max_wait(ms(wait)))),
        1 => Just(PolicyConfig::from(breaker().minimum_calls(1_000_000).count_window(1_000_000))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_call_takes_longer_or_makes_more_calls_than_the_worst_case(
        policies in proptest::collection::vec(any_stage(), 0..5),
        takes in proptest::collection::vec(proptest::option::of(0..600_u64), 1..6),
        hint in proptest::option::of(0..500_u64),
        held in 0..300_u64,
    ) {
        let config = policies
            .into_iter()
            // At the bottom, so that every call ends.
            .chain([timeout(ms(700)).into()])
            .enumerate()
            .fold(StackConfig::new(), |stack, (at, policy)| stack.stage(&format!("stage{at}"), policy));
        let report = config.lint();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (took, calls) = runtime.block_on(observe(&config, Service(takes), hint.map(ms), ms(held)));
        prop_assert!(took <= report.worst_wait.unwrap(), "{took:?}: {report:#?}");
        prop_assert!(calls <= report.worst_calls, "{calls}: {report:#?}");
    }
}

// ---- Orders and values that defeat themselves.

#[test]
fn a_sound_stack_gets_notes_and_no_warning() {
    let sound = stack([
        ("total", timeout(secs(8)).into()),
        (
            "retry",
            RetryConfig::new()
                .max_attempts(3)
                .backoff(Backoff::exponential(ms(100), 2.0, secs(2)))
                .into(),
        ),
        (
            "circuit_breaker",
            breaker().slow_calls(ms(1500), 0.8).probes(3).into(),
        ),
        ("timeout", timeout(secs(2)).into()),
        ("bulkhead", BulkheadConfig::new(64).max_wait(ms(50)).into()),
    ]);
    notes(
        &sound,
        &["note: circuit_breaker: it lies inside of `retry`, so it sees every attempt"],
    );
    for defaults in [
        stages!(
            RetryConfig::new(),
            breaker(),
            TimeoutConfig::default(),
            BulkheadConfig::default()
        ),
        stages!(
            breaker(),
            RetryConfig::new(),
            TimeoutConfig::default(),
            BulkheadConfig::default()
        ),
        stages!(
            breaker().time_window(secs(60)),
            RetryConfig::new(),
            TimeoutConfig::default()
        ),
    ] {
        warns(&defaults, &[]);
    }
}

#[test]
fn a_breaker_says_whether_it_sees_calls_or_attempts() {
    notes(
        &stages!(breaker(), retry(3)),
        &[
            "note: circuit_breaker0: it lies outside of `retry1`, so it sees calls and not attempts: a call that a retry \
             saved is a success",
        ],
    );
    notes(
        &stages!(retry(3), breaker()),
        &["note: circuit_breaker1: it lies inside of `retry0`, so it sees every attempt"],
    );
    notes(&stages!(breaker(), timeout(secs(1))), &[]);
    // A retry that makes one attempt changes nothing.
    notes(
        &stages!(retry(1), breaker()),
        &["note: retry0.max_attempts = 1: 1 attempt is no retry"],
    );
}

#[test]
fn a_stack_without_stages_guards_nothing() {
    warns(
        &stages!(),
        &["warning: it has no stage, so that it guards nothing"],
    );
}

#[test]
fn a_timeout_inside_of_a_shorter_one_never_ends_a_call() {
    warns(
        &stages!(timeout(secs(2)), timeout(secs(3))),
        &["warning: timeout1.limit = 3s: `timeout0` around it ends a call earlier, after 2s"],
    );
    warns(
        &stages!(timeout(secs(2)), retry(2), timeout(secs(3))),
        &[
            "warning: timeout2.limit = 3s: `timeout0` around it ends a call earlier, after 2s, so that an attempt that \
             hangs is never retried",
        ],
    );
    // The shortest around it is the one to name, and a retry outside of that one does not matter.
    warns(
        &stages!(timeout(secs(9)), retry(2), timeout(secs(2)), timeout(secs(3))),
        &["warning: timeout3.limit = 3s: `timeout2` around it ends a call earlier, after 2s"],
    );
    warns(&stages!(timeout(secs(2)), timeout(secs(2))), &[]);
    warns(&stages!(timeout(secs(3)), timeout(secs(2))), &[]);
}

#[test]
fn attempts_have_to_fit_into_a_timeout_around_them() {
    // Three attempts of 2 s and two waits of 1 s are 8 s.
    warns(&stages!(timeout(secs(8)), retry(3), timeout(secs(2))), &[]);
    warns(
        &stages!(timeout(ms(7_999)), retry(3), timeout(secs(2))),
        &[
            "warning: retry1.max_attempts = 3: of 3 attempts only 2 fit into `timeout0` (7.999s), when each of them takes \
             2s and the waits between them at least 2s",
        ],
    );
    warns(
        &stages!(timeout(ms(4_999)), retry(3), timeout(secs(2))),
        &[
            "warning: retry1.max_attempts = 3: of 3 attempts only 1 fits into `timeout0` (4.999s), when each of them takes \
             2s and the waits between them at least 2s",
        ],
    );
    // Waits that may be nothing are taken as nothing.
    let full = retry(3).jitter(Jitter::Full);
    warns(&stages!(timeout(secs(6)), full.clone(), timeout(secs(2))), &[]);
    warns(
        &stages!(timeout(secs(5)), full, timeout(secs(2))),
        &[
            "warning: retry1.max_attempts = 3: of 3 attempts only 2 fit into `timeout0` (5s), when each of them takes 2s",
        ],
    );
    let half = retry(3).jitter(Jitter::Equal);
    warns(&stages!(timeout(secs(7)), half.clone(), timeout(secs(2))), &[]);
    assert_eq!(
        stages!(timeout(ms(6_999)), half, timeout(secs(2)))
            .lint()
            .warnings()
            .count(),
        1
    );
    // Queues and hints may take time, and need not.
    let hinted = retry(3).max_hint(secs(60));
    let queued = BulkheadConfig::new(1).max_wait(secs(1));
    warns(&stages!(timeout(secs(8)), hinted, queued, timeout(secs(2))), &[]);
}

#[test]
fn a_retry_whose_attempts_have_no_limit_is_looked_at_by_its_waits() {
    notes(
        &stages!(timeout(secs(2)), retry(3)),
        &[
            "note: retry1: no timeout inside of it limits an attempt: one that hangs uses up all of `timeout0` (2s) and is \
             not retried",
        ],
    );
    warns(
        &stages!(timeout(ms(1_999)), retry(3)),
        &[
            "warning: retry1.max_attempts: of 3 attempts only 2 can begin within `timeout0` (1.999s): the waits between \
             them take longer",
        ],
    );
}

#[test]
fn a_nested_retry_multiplies() {
    warns(
        &stages!(retry(4), breaker(), retry(3)),
        &[
            "warning: retry0: each of its 4 attempts is up to 3 attempts of `retry2`, a retry inside of it: 12 together",
        ],
    );
    warns(&stages!(retry(4), retry(1)), &[]);
    warns(&stages!(retry(1), retry(4)), &[]);
    // Its attempts are what has to fit: 3 times (2 times 2 s and 1 s) and 2 s.
    let nested = |total| stages!(timeout(total), retry(3), retry(2), timeout(secs(2)));
    assert_eq!(nested(secs(17)).lint().warnings().count(), 1);
    warns(
        &nested(secs(16)),
        &[
            "warning: retry1: each of its 3 attempts is up to 2 attempts of `retry2`, a retry inside of it: 6 together",
            "warning: retry1.max_attempts = 3: of 3 attempts only 2 fit into `timeout0` (16s), when each of them takes 5s \
             and the waits between them at least 2s",
        ],
    );
    warns(
        &nested(secs(4)),
        &[
            "warning: retry1: each of its 3 attempts is up to 2 attempts of `retry2`, a retry inside of it: 6 together",
            "warning: retry1.max_attempts = 3: not even 1 of 3 attempts fits into `timeout0` (4s), when each of them takes \
             5s and the waits between them at least 2s",
            "warning: retry2.max_attempts = 2: of 2 attempts only 1 fits into `timeout0` (4s), when each of them takes 2s \
             and the waits between them at least 1s",
        ],
    );
}

#[test]
fn a_max_elapsed_has_to_leave_time_for_retries() {
    let retry = |elapsed| retry(3).max_elapsed(elapsed);
    // The second attempt begins after 2 s and a wait of 1 s.
    warns(&stages!(retry(secs(3)), timeout(secs(2))), &[]);
    warns(
        &stages!(retry(ms(2_999)), timeout(secs(2))),
        &[
            "warning: retry0.max_elapsed = 2.999s: an attempt that hangs is never retried: it takes 2s, and the next one \
             would begin later than that",
        ],
    );
    warns(&stages!(retry(secs(2))), &[]);
    warns(
        &stages!(retry(ms(1_999))),
        &[
            "warning: retry0.max_elapsed = 1.999s: of 3 attempts only 2 can begin by then: the waits between them take \
             longer",
        ],
    );
    warns(
        &stages!(timeout(secs(9)), retry(secs(9)), timeout(secs(2))),
        &["warning: retry1.max_elapsed = 9s: it has no effect: `timeout0` ends a call after 9s"],
    );
    warns(
        &stages!(timeout(secs(9)), retry(ms(8_999)), timeout(secs(2))),
        &[],
    );
}

#[test]
fn a_queue_is_not_longer_than_the_caller_waits() {
    let queued = |wait| BulkheadConfig::new(8).max_wait(wait);
    warns(&stages!(timeout(secs(2)), queued(secs(2))), &[]);
    warns(
        &stages!(timeout(secs(2)), queued(ms(2_001))),
        &[
            "warning: bulkhead1.max_wait = 2.001s: a call that waits is ended by `timeout0` after 2s, before its wait is over",
        ],
    );
    warns(
        &stages!(timeout(secs(9)), retry(2), timeout(secs(2)), queued(secs(3))),
        &[
            "warning: bulkhead3.max_wait = 3s: a call that waits is ended by `timeout2` after 2s, before its wait is over",
        ],
    );
    warns(&stages!(queued(secs(3)), timeout(secs(2))), &[]);
    warns(
        &stages!(queued(secs(3)).max_queue(0)),
        &["warning: bulkhead0.max_wait = 3s: it has no effect: with a max_queue of 0 no call may wait"],
    );
}

#[test]
fn a_bulkhead_inside_of_one_that_is_not_larger_is_never_full() {
    let bulkhead = BulkheadConfig::new;
    warns(&stages!(bulkhead(9), retry(2), bulkhead(8)), &[]);
    warns(
        &stages!(bulkhead(8), retry(2), bulkhead(8)),
        &["warning: bulkhead2.max_concurrent = 8: it is never full: `bulkhead0` around it lets 8 calls in"],
    );
}

#[test]
fn a_window_is_longer_than_a_call_that_hangs() {
    let timed = |window| breaker().time_window(window);
    let message = |kind: &str, window, hang| {
        format!(
            "warning: {kind}.window.time = {window}: a call that hangs takes {hang}, longer than the window: what one caller \
             sees is forgotten before its next result"
        )
    };
    // Whether the timeout lies inside,
    warns(&stages!(timed(secs(2)), timeout(secs(2))), &[]);
    let inside = stages!(timed(secs(1)), timeout(secs(2)));
    warns(&inside, &[&message("circuit_breaker0", "1s", "2s")]);
    // outside,
    let outside = stages!(timeout(secs(2)), timed(secs(1)));
    warns(&outside, &[&message("circuit_breaker1", "1s", "2s")]);
    // or there is a retry between: three times 2 s and twice 1 s.
    let retried = |window| stages!(timed(window), retry(3), timeout(secs(2)));
    warns(&retried(secs(8)), &[]);
    warns(&retried(secs(7)), &[&message("circuit_breaker0", "7s", "8s")]);
    // Attempts that `max_elapsed` does not let begin take no time: 2 s, 1 s, 2 s.
    let limited = stages!(timed(secs(5)), retry(3).max_elapsed(secs(5)), timeout(secs(2)));
    warns(&limited, &[]);
    // A window of calls has no length.
    warns(&stages!(breaker().count_window(10), timeout(secs(2))), &[]);
    // What no timeout ends, no window can be compared with.
    warns(&stages!(timed(secs(1))), &[]);
}

#[test]
fn a_time_window_can_see_as_many_calls_that_hang_as_it_takes_to_judge() {
    // In 10 s each slot ends a call of 2 s at 0, 2, 4, 6, 8 and 10 s.
    let timed = |minimum| breaker().time_window(secs(10)).minimum_calls(minimum);
    let narrow = BulkheadConfig::new(3);
    warns(&stages!(timed(18), timeout(secs(2)), narrow.clone()), &[]);
    let message = "calls that hang never open it: `bulkhead2` lets 3 in, each takes 2s, so that at most 18 end within the \
                   window of 10s";
    warns(
        &stages!(timed(19), timeout(secs(2)), narrow.clone()),
        &[&format!(
            "warning: circuit_breaker0.minimum_calls = 19: {message}"
        )],
    );
    let message = message.replace("bulkhead2", "bulkhead0");
    warns(
        &stages!(narrow.clone(), timed(19), timeout(secs(2))),
        &[&format!(
            "warning: circuit_breaker1.minimum_calls = 19: {message}"
        )],
    );
    // Failures in a row open it nevertheless.
    warns(
        &stages!(
            timed(19).consecutive_failures(5),
            timeout(secs(2)),
            narrow.clone()
        ),
        &[],
    );
    // Calls that wait for their next attempt hold no slot.
    warns(&stages!(timed(19), retry(2), timeout(secs(2)), narrow), &[]);
}

#[test]
fn a_minimum_above_the_window_is_told_and_what_a_full_window_does_anyway() {
    notes(
        &stages!(breaker().count_window(10).minimum_calls(20)),
        &["note: circuit_breaker0.minimum_calls = 20: the window holds 10 calls, so 10 is used"],
    );
    warns(
        &stages!(breaker().count_window(20).consecutive_failures(20)),
        &[
            "warning: circuit_breaker0.consecutive_failures = 20: it has no effect: so many failures fill the window of 20 \
             calls, and the failure rate opens",
        ],
    );
    warns(&stages!(breaker().count_window(20).consecutive_failures(19)), &[]);
    let alone = breaker()
        .count_window(20)
        .no_failure_rate()
        .consecutive_failures(20);
    warns(&stages!(alone), &[]);
}

#[test]
fn a_slow_call_is_shorter_than_the_longest_one() {
    let slow = |longer_than, rate| breaker().slow_calls(longer_than, rate);
    let message = "no call is slow: none takes longer than 2s, as the timeouts are";
    warns(&stages!(slow(secs(2), 0.3), timeout(secs(2))), &[]);
    for stack in [
        stages!(slow(secs(3), 0.3), timeout(secs(2))),
        stages!(timeout(secs(2)), slow(secs(3), 0.3)),
    ] {
        let report = stack.lint();
        let issue = report.warnings().next().unwrap();
        assert_eq!(
            (issue.message.as_str(), issue.value.as_deref()),
            (message, Some("3s"))
        );
        assert!(issue.path.ends_with(".slow_call.longer_than"));
    }
    // What waits in a queue is slow too.
    let queued = BulkheadConfig::new(1).max_wait(secs(1));
    warns(&stages!(slow(secs(3), 0.3), queued, timeout(secs(2))), &[]);
    warns(&stages!(slow(secs(3), 0.3)), &[]);
    // Where it would have opened by then for failures, the timeouts do what was meant.
    let note =
        format!("note: circuit_breaker0.slow_call.longer_than = 3s: {message}; what they end has failed");
    notes(&stages!(slow(secs(3), 0.5), timeout(secs(2))), &[&note]);
    notes(&stages!(slow(secs(3), 1.0), timeout(secs(2))), &[]);
    let unseen = slow(secs(3), 0.5).record("io").record("other");
    notes(&stages!(unseen, timeout(secs(2))), &[&note]);
    let warnings = |breaker: CircuitBreakerConfig| {
        let stack: StackConfig = stages!(breaker, timeout(secs(2)));
        stack
            .lint()
            .warnings()
            .map(|issue| issue.message.clone())
            .collect::<Vec<_>>()
    };
    assert!(warnings(slow(secs(3), 1.0).record("io")).contains(&message.to_owned()));
    let rows = slow(secs(3), 1.0).no_failure_rate();
    assert!(warnings(rows).contains(&message.to_owned()));
}

#[test]
fn timeouts_that_a_list_of_failures_leaves_out_are_told_of() {
    let listed = |names: &[&str]| {
        let breaker = names
            .iter()
            .fold(breaker(), |breaker, name| breaker.record(*name));
        stages!(breaker, retry(2), timeout(secs(2)))
    };
    warns(
        &listed(&["io", "5xx"]),
        &[
            "warning: circuit_breaker0.record = [\"io\", \"5xx\"]: a call that `timeout2` ends counts as a success: no name \
             in the list is about timeouts",
        ],
    );
    for names in [
        &["io", "timeout"][..],
        &["error"],
        &["failure", "429"],
        &["io", "a name of the program's"],
        &[],
    ] {
        warns(&listed(names), &[]);
    }
    // What a timeout around it ends is a failure whatever the list says.
    warns(&stages!(timeout(secs(2)), breaker().record("io")), &[]);
}

#[test]
fn a_probe_that_hangs_is_judged() {
    let aged = |age| breaker().max_probe_age(age);
    warns(&stages!(aged(secs(2)), timeout(secs(2))), &[]);
    warns(
        &stages!(aged(ms(1_999)), timeout(secs(2))),
        &[
            "warning: circuit_breaker0.half_open.max_probe_age = 1.999s: a probe that hangs takes 2s, and is given up \
             before: it is never judged",
        ],
    );
    let stays = |stay, end| breaker().max_half_open_stay(stay, end);
    warns(&stages!(stays(secs(2), StayEnd::Close), timeout(secs(2))), &[]);
    warns(&stages!(stays(ms(1_999), StayEnd::Open), timeout(secs(2))), &[]);
    warns(
        &stages!(stays(ms(1_999), StayEnd::Close), timeout(secs(2))),
        &[
            "warning: circuit_breaker0.half_open.max_stay = 1.999s: it closes while probes that hang, for 2s, are not \
             judged so far",
        ],
    );
}

#[test]
fn a_key_is_not_forgotten_before_its_window() {
    let keyed =
        |idle| stages!(breaker().time_window(secs(60))).keyed("authority", KeyedConfig::new().idle(idle));
    warns(&keyed(secs(60)), &[]);
    warns(
        &keyed(secs(59)),
        &[
            "warning: circuit_breaker0.window.time: a key that is idle for 59s is forgotten, and what its window of 60s \
             holds with it",
        ],
    );
}

#[test]
fn a_name_that_another_list_wins_over_has_no_effect() {
    warns(&stages!(breaker().record("io").record("5xx").ignore("404")), &[]);
    warns(&stages!(breaker().record("5xx").ignore("503")), &[]);
    warns(
        &stages!(breaker().record("io").record("503").ignore("io").ignore("5xx")),
        &[
            "warning: circuit_breaker0.record = io: it has no effect: ignore has `io`, and wins",
            "warning: circuit_breaker0.record = 503: it has no effect: ignore has `5xx`, and wins",
        ],
    );
    warns(
        &stages!(retry(3).on("502..504").on("timeout").never_on("502, 503, 504")),
        &["warning: retry0.on = 502..504: it has no effect: never_on has `502, 503, 504`, and wins"],
    );
}

// ---- All the stacks of a program.

#[test]
fn what_is_said_of_settings_has_its_path_and_its_place() {
    let place = |line| Place {
        source: "stacks.toml".into(),
        line_column: Some((line, 5)),
    };
    let mut settings = Settings::default();
    let stack = stack([
        ("total", timeout(secs(2)).into()),
        ("the attempt", timeout(secs(3)).into()),
        ("circuit_breaker", breaker().count_window(10).into()),
    ]);
    settings
        .stacks
        .insert("payments".to_owned(), stack.stage("retry", retry(2)));
    settings.stacks.insert("none".to_owned(), StackConfig::new());
    for (path, line) in [
        ("stacks.payments.\"the attempt\".limit", 7),
        ("stacks.payments.circuit_breaker.window.calls", 10),
        ("stacks.payments.circuit_breaker.failure_rate", 9),
        ("stacks.payments.circuit_breakers.failure_rate", 1),
    ] {
        settings
            .origins
            .insert(path.to_owned(), Origin::Written(place(line)));
    }
    let reports = settings.lint();
    assert_eq!(reports["payments"].worst_wait, Some(secs(2)));
    assert_eq!(
        lines(&reports["none"], Severity::Note),
        ["warning: stacks.none: it has no stage, so that it guards nothing"]
    );
    assert_eq!(
        lines(&reports["payments"], Severity::Note),
        [
            "stacks.toml:7:5: warning: stacks.payments.\"the attempt\".limit = 3s: `total` around it ends a call earlier, \
             after 2s",
            "stacks.toml:9:5: note: stacks.payments.circuit_breaker: it lies outside of `retry`, so it sees calls and not \
             attempts: a call that a retry saved is a success",
            "note: stacks.payments.circuit_breaker.minimum_calls = 20: the window holds 10 calls, so 10 is used",
            "note: stacks.payments.retry: no timeout inside of it limits an attempt: one that hangs uses up all of `total` \
             (2s) and is not retried",
        ]
    );
}
