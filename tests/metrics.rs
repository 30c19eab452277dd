//! What is published for a recorder: names, units, labels, counts.

use std::{collections::BTreeMap, io, time::Duration};

use buttress::{
    BulkheadConfig, By, CircuitBreakerConfig, Clock, Command, Fallback, KeyedConfig, Metrics, Registry,
    RetryBudgetConfig, RetryConfig, Settings, Stack, StackConfig, State, TimeoutConfig,
};
use metrics::Unit;
use metrics_util::{
    MetricKind,
    debugging::{DebugValue, DebuggingRecorder},
};

/// What a recorder has after one publication.
struct Seen(BTreeMap<String, Series>);

struct Series {
    kind: MetricKind,
    unit: Option<Unit>,
    described: bool,
    value: DebugValue,
}

/// Publishes for a recorder that has seen nothing before: it might have been installed a moment ago. The second time
/// brings nothing new, and must count nothing again.
fn publish(metrics: &mut Metrics) -> Seen {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        metrics.publish();
        metrics.publish();
    });
    let series = recorder.snapshotter().snapshot().into_vec().into_iter();
    let series = series.map(|(key, unit, meaning, value)| {
        let mut labels: Vec<String> = key
            .key()
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        labels.sort();
        let name = format!("{}{{{}}}", key.key().name(), labels.join(","));
        let series = Series {
            kind: key.kind(),
            unit,
            described: meaning.is_some(),
            value,
        };
        (name, series)
    });
    Seen(series.collect())
}

impl Seen {
    #[track_caller]
    fn get(&self, series: &str) -> &Series {
        let known = || self.0.keys().map(String::as_str).collect::<Vec<_>>().join("\n");
        self.0
            .get(series)
            .unwrap_or_else(|| panic!("no {series} in\n{}", known()))
    }

    #[track_caller]
    fn counter(&self, series: &str) -> u64 {
        match self.get(series).value {
            DebugValue::Counter(count) => count,
            ref other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "those that are asked for are small"
    )]
    fn gauge(&self, series: &str) -> i64 {
        match self.get(series).value {
            DebugValue::Gauge(value) => (value.into_inner() * 1000.0).round() as i64 / 1000,
            ref other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn ratio(&self, series: &str) -> f64 {
        match self.get(series).value {
            DebugValue::Gauge(value) => value.into_inner(),
            ref other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn histogram(&self, series: &str) -> Vec<f64> {
        match &self.get(series).value {
            DebugValue::Histogram(values) => values.iter().map(|value| value.into_inner()).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// The states of a breaker whose series is not 0.
    fn states(&self, name: &str) -> Vec<(State, i64)> {
        [
            (State::Closed, "closed"),
            (State::Open, "open"),
            (State::HalfOpen, "half_open"),
            (State::ForcedOpen, "forced_open"),
            (State::Disabled, "disabled"),
            (State::MetricsOnly, "metrics_only"),
        ]
        .into_iter()
        .map(|(state, word)| {
            let series =
                format!("buttress_circuit_breaker_state{{name={name},policy=circuit_breaker,state={word}}}");
            (state, self.gauge(&series))
        })
        .filter(|(_, value)| *value != 0)
        .collect()
    }
}

async fn succeed(stack: &Stack) {
    let answer = stack.run(|| async { Ok::<_, io::Error>(()) }).await;
    answer.unwrap();
}

async fn fail(stack: &Stack) {
    let answer = stack
        .run(|| async { Err::<(), _>(io::Error::other("down")) })
        .await;
    answer.unwrap_err();
}

fn breaker() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().count_window(10).minimum_calls(4)
}

fn retry() -> RetryConfig {
    RetryConfig::new().max_attempts(3)
}

fn four() -> Stack {
    Stack::builder()
        .retry(retry().build("pay").unwrap())
        .circuit_breaker(breaker().build("pay").unwrap())
        .timeout(TimeoutConfig::new(Duration::from_secs(1)).build("pay").unwrap())
        .bulkhead(BulkheadConfig::new(4).build("pay").unwrap())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_policy_counts_its_calls_by_outcome() {
    let stack = four();
    let mut metrics = Metrics::new().stack(&stack);
    for _ in 0..3 {
        succeed(&stack).await;
    }
    fail(&stack).await;
    let seen = publish(&mut metrics);
    let calls = |policy: &str, outcome: &str| {
        seen.counter(&format!(
            "buttress_calls_total{{name=pay,outcome={outcome},policy={policy}}}"
        ))
    };
    assert_eq!(
        (
            calls("retry", "success"),
            calls("retry", "failure"),
            calls("retry", "dropped")
        ),
        (3, 1, 0)
    );
    // The failing call made three attempts.
    assert_eq!(
        (
            calls("circuit_breaker", "success"),
            calls("circuit_breaker", "failure")
        ),
        (3, 3)
    );
    assert_eq!(
        (calls("timeout", "completed"), calls("bulkhead", "admitted")),
        (6, 6)
    );
    assert_eq!(
        seen.counter("buttress_retry_retries_total{name=pay,policy=retry}"),
        2
    );
    assert_eq!(
        seen.counter("buttress_retry_gave_up_total{name=pay,policy=retry,reason=attempts}"),
        1
    );
    let failed = "{name=pay,outcome=failure,policy=retry}";
    assert_eq!(seen.histogram(&format!("buttress_retry_attempts{failed}")), [3.0]);
    assert_eq!(
        seen.gauge("buttress_circuit_breaker_window_failures{name=pay,policy=circuit_breaker}"),
        3
    );
    let ratio = seen.ratio("buttress_circuit_breaker_failure_ratio{name=pay,policy=circuit_breaker}");
    assert!((ratio - 0.5).abs() < 1e-9, "{ratio}");
}

#[tokio::test(start_paused = true)]
async fn names_units_and_labels_follow_the_conventions() {
    let stack = four();
    let mut metrics = Metrics::new()
        .prefix("acme_")
        .stack(&stack)
        .fallback(&Fallback::new("pay"));
    fail(&stack).await;
    let seen = publish(&mut metrics);
    for (name, series) in &seen.0 {
        let (name, labels) = name.split_once('{').unwrap();
        assert!(name.starts_with("acme_"), "{name}");
        assert!(series.described, "{name} has no description");
        assert_eq!(
            series.kind == MetricKind::Counter,
            name.ends_with("_total"),
            "{name}"
        );
        let seconds = series.unit == Some(Unit::Seconds);
        assert_eq!(seconds, name.ends_with("_seconds"), "{name}");
        assert!(
            labels.contains("policy=") && labels.contains("name=pay"),
            "{name} {labels}"
        );
    }
}

#[tokio::test]
async fn the_page_for_operators_explains_each_word_of_each_label() {
    let page = include_str!("../docs/metrics.md");
    let stack = four();
    let mut metrics = Metrics::new().stack(&stack).fallback(&Fallback::new("pay"));
    let seen = publish(&mut metrics);
    for series in seen.0.keys() {
        let labels = series.split_once('{').unwrap().1.trim_end_matches('}');
        for (label, word) in labels.split(',').filter_map(|label| label.split_once('=')) {
            assert!(
                page.contains(&format!("`{label}`")),
                "the label {label} of {series}"
            );
            assert!(
                label == "name" || page.contains(&format!("`{word}`")),
                "{label}={word} of {series}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_is_installed_late_has_all_counts() {
    let stack = four();
    let mut metrics = Metrics::new().stack(&stack);
    succeed(&stack).await;
    // Nobody hears this.
    metrics.publish();
    succeed(&stack).await;
    let series = "buttress_calls_total{name=pay,outcome=success,policy=retry}";
    assert_eq!(publish(&mut metrics).counter(series), 2);
    // Another one after it.
    succeed(&stack).await;
    assert_eq!(publish(&mut metrics).counter(series), 3);
}

#[tokio::test(start_paused = true)]
async fn a_histogram_gets_each_call_once() {
    let (clock, hand) = Clock::manual();
    let breaker = breaker().clock(clock).build("db").unwrap();
    let mut metrics = Metrics::new().circuit_breaker(&breaker);
    let call = |millis| {
        let permit = breaker.try_acquire().unwrap();
        hand.advance(Duration::from_millis(millis));
        permit.success();
    };
    call(20);
    call(300);
    let series = "buttress_call_duration_seconds{name=db,outcome=success,policy=circuit_breaker}";
    let seen = publish(&mut metrics).histogram(series);
    assert_eq!(seen.len(), 2);
    assert!(
        (seen[0] / 0.02 - 1.0).abs() < 0.07 && (seen[1] / 0.3 - 1.0).abs() < 0.07,
        "{seen:?}"
    );
    call(20);
    assert_eq!(publish(&mut metrics).histogram(series).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_state_has_one_series_and_the_old_one_goes_back_to_zero() {
    let breaker = breaker()
        .open_wait(Duration::from_secs(5))
        .automatic_half_open(true)
        .build("db")
        .unwrap();
    let mut metrics = Metrics::new().circuit_breaker(&breaker);
    assert_eq!(publish(&mut metrics).states("db"), [(State::Closed, 1)]);
    breaker.force_open();
    assert_eq!(publish(&mut metrics).states("db"), [(State::ForcedOpen, 1)]);
    breaker.close();
    let seen = publish(&mut metrics);
    assert_eq!(seen.states("db"), [(State::Closed, 1)]);
    let transitions = "buttress_circuit_breaker_transitions_total{name=db,policy=circuit_breaker,to=";
    assert_eq!(seen.counter(&format!("{transitions}forced_open}}")), 1);
    assert_eq!(seen.counter(&format!("{transitions}closed}}")), 1);
}

#[test]
fn publishing_makes_the_transitions_that_time_makes_due() {
    let (clock, hand) = Clock::manual();
    // Without a runtime no task wakes the breaker, and no call comes to it.
    let breaker = breaker()
        .open_wait(Duration::from_secs(5))
        .open_jitter(0.0)
        .automatic_half_open(true)
        .clock(clock)
        .build("db")
        .unwrap();
    breaker.open();
    let mut metrics = Metrics::new().circuit_breaker(&breaker);
    assert_eq!(publish(&mut metrics).states("db"), [(State::Open, 1)]);
    hand.advance(Duration::from_secs(6));
    assert_eq!(publish(&mut metrics).states("db"), [(State::HalfOpen, 1)]);
}

#[test]
fn publishing_ends_what_was_commanded_for_a_while() {
    let (clock, hand) = Clock::manual();
    let stack = StackConfig::new().stage("circuit_breaker", breaker());
    let registry = Registry::builder()
        .clock(clock)
        .build(Settings::new().stack("payments", stack))
        .unwrap();
    let mut metrics = Metrics::new().registry(&registry);
    let by = By::new("anna", "upstream is being moved");
    let while_it_lasts = Some(Duration::from_secs(5));
    registry
        .command("payments", Command::ForceOpen, by, while_it_lasts)
        .unwrap();
    let state = || registry.circuit_breaker("payments").unwrap().state();
    hand.advance(Duration::from_secs(4));
    publish(&mut metrics);
    assert_eq!(state(), State::ForcedOpen);
    hand.advance(Duration::from_secs(2));
    publish(&mut metrics);
    assert_eq!(state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_reason() {
    let stack = four();
    let mut metrics = Metrics::new().stack(&stack);
    let breaker = breaker().build("db").unwrap();
    metrics = metrics.circuit_breaker(&breaker);
    breaker.open();
    for _ in 0..3 {
        breaker.try_acquire().unwrap_err();
    }
    breaker.force_open();
    breaker.try_acquire().unwrap_err();
    let bulkhead = BulkheadConfig::new(1).build("db").unwrap();
    metrics = metrics.bulkhead(&bulkhead);
    let slot = bulkhead.try_acquire().unwrap();
    bulkhead.try_acquire().unwrap_err();
    let seen = publish(&mut metrics);
    let refused = |policy: &str, kind: &str, reason: &str| {
        seen.counter(&format!(
            "buttress_rejections_total{{kind={kind},name=db,policy={policy},reason={reason}}}"
        ))
    };
    assert_eq!(refused("circuit_breaker", "circuit_open", "open"), 3);
    assert_eq!(refused("circuit_breaker", "circuit_open", "forced_open"), 1);
    assert_eq!(refused("bulkhead", "bulkhead_full", "full"), 1);
    assert_eq!(bulkhead.snapshot().rejected, 1);
    assert_eq!(
        seen.counter("buttress_calls_total{name=db,outcome=rejected,policy=circuit_breaker}"),
        4
    );
    assert_eq!(
        seen.gauge("buttress_bulkhead_in_flight{name=db,policy=bulkhead}"),
        1
    );
    assert_eq!(
        seen.gauge("buttress_bulkhead_occupancy_ratio{name=db,policy=bulkhead}"),
        1
    );
    drop(slot);
    let seen = publish(&mut metrics);
    assert_eq!(
        seen.gauge("buttress_bulkhead_in_flight{name=db,policy=bulkhead}"),
        0
    );
    assert_eq!(seen.gauge("buttress_bulkhead_limit{name=db,policy=bulkhead}"), 1);
}

#[test]
fn the_window_and_its_rates_are_gauges() {
    let (clock, hand) = Clock::manual();
    let config = CircuitBreakerConfig::new()
        .count_window(10)
        .minimum_calls(4)
        .failure_rate(0.9)
        .slow_calls(Duration::from_millis(100), 0.9);
    let breaker = config.clock(clock).build("db").unwrap();
    let mut metrics = Metrics::new().circuit_breaker(&breaker);
    let call = |millis, fails| {
        let permit = breaker.try_acquire().unwrap();
        hand.advance(Duration::from_millis(millis));
        if fails {
            permit.failure();
        } else {
            permit.success();
        }
    };
    call(1, true);
    call(500, false);
    call(500, true);
    let values = |seen: &Seen| {
        let place = "{name=db,policy=circuit_breaker}";
        let window = ["calls", "failures", "slow_calls"]
            .map(|what| seen.gauge(&format!("buttress_circuit_breaker_window_{what}{place}")));
        let rates = ["failure", "slow_call"]
            .map(|what| seen.ratio(&format!("buttress_circuit_breaker_{what}_ratio{place}")));
        (window, rates)
    };
    assert_eq!(
        values(&publish(&mut metrics)),
        ([3, 2, 2], [0.0, 0.0]),
        "too few calls to judge"
    );
    call(500, false);
    assert_eq!(values(&publish(&mut metrics)), ([4, 2, 3], [0.5, 0.75]));
}

#[tokio::test(start_paused = true)]
async fn what_a_retry_saved_and_what_is_left_of_its_budget_is_published() {
    let budget = RetryBudgetConfig::new()
        .min_per_second(1)
        .window(Duration::from_secs(10));
    let retry = retry().max_attempts(2).budget(budget).build("pay").unwrap();
    let mut metrics = Metrics::new().retry(&retry);
    let left = "buttress_retry_budget_left{name=pay,policy=retry}";
    let saved = "buttress_retry_recovered_total{name=pay,policy=retry}";
    let seen = publish(&mut metrics);
    assert_eq!((seen.gauge(left), seen.counter(saved)), (10, 0));
    let mut attempts = 0;
    let flaky = retry.run(|| {
        attempts += 1;
        std::future::ready(if attempts < 2 {
            Err(io::Error::other("no"))
        } else {
            Ok(())
        })
    });
    flaky.await.unwrap();
    let seen = publish(&mut metrics);
    assert_eq!((seen.gauge(left), seen.counter(saved)), (9, 1));
}

#[tokio::test(start_paused = true)]
async fn the_table_of_keys_is_published() {
    let keyed = KeyedConfig::new()
        .max_keys(2)
        .idle(Duration::from_secs(60))
        .build(BulkheadConfig::new(1).build("tenants").unwrap())
        .unwrap();
    let mut metrics = Metrics::new().keyed_bulkhead(&keyed);
    let mut values = || {
        let seen = publish(&mut metrics);
        let place = "{name=tenants,policy=keyed}";
        (
            seen.gauge(&format!("buttress_keys{place}")),
            seen.gauge(&format!("buttress_keys_limit{place}")),
            seen.counter(&format!("buttress_keys_overflowed_total{place}")),
            seen.counter(&format!("buttress_keys_forgotten_total{place}")),
        )
    };
    for key in ["a", "b", "c"] {
        drop(keyed.get(key));
    }
    assert_eq!(values(), (2, 2, 1, 0));
    tokio::time::sleep(Duration::from_secs(70)).await;
    keyed.sweep();
    assert_eq!(values(), (0, 2, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_the_queue_is_measured_and_a_timeout_counted() {
    let stack = Stack::builder()
        .timeout(TimeoutConfig::new(Duration::from_secs(2)).build("job").unwrap())
        .bulkhead(
            BulkheadConfig::new(1)
                .max_wait(Duration::from_secs(10))
                .build("job")
                .unwrap(),
        )
        .queued()
        .build()
        .unwrap();
    let mut metrics = Metrics::new().stack(&stack);
    let sleep = |millis| {
        stack.run(move || async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok::<_, io::Error>(())
        })
    };
    // The second waits 500 ms for the first, and then takes longer than it may.
    let queued = "buttress_bulkhead_queued{name=job,policy=bulkhead}";
    let look = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(publish(&mut metrics).gauge(queued), 1);
    };
    let (first, second, ()) = tokio::join!(sleep(500), sleep(5_000), look);
    assert!(first.is_ok() && second.is_err());
    let seen = publish(&mut metrics);
    assert_eq!(seen.gauge(queued), 0);
    let waits = seen.histogram("buttress_bulkhead_wait_duration_seconds{name=job,policy=bulkhead}");
    assert_eq!(waits.len(), 1);
    assert!((waits[0] / 0.5 - 1.0).abs() < 0.07, "{waits:?}");
    let outcome = |outcome: &str| {
        seen.counter(&format!(
            "buttress_calls_total{{name=job,outcome={outcome},policy=timeout}}"
        ))
    };
    assert_eq!(
        (outcome("completed"), outcome("rejected"), outcome("dropped")),
        (1, 1, 0)
    );
    let timed_out = "buttress_rejections_total{kind=timed_out,name=job,policy=timeout,reason=timed_out}";
    assert_eq!(seen.counter(timed_out), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_never_becomes_a_label() {
    let each = Stack::builder()
        .circuit_breaker(breaker().build("tenants").unwrap())
        .bulkhead(BulkheadConfig::new(2).build("tenants").unwrap())
        .build()
        .unwrap();
    let keyed = KeyedConfig::new().build_stack(each.cloned()).unwrap();
    // Half of the keys are there before anybody counts, half come later.
    let call = async |keys: std::ops::Range<u32>| {
        for key in keys {
            succeed(&keyed.get(&format!("tenant-{key}"))).await;
        }
    };
    call(0..500).await;
    let mut metrics = Metrics::new().keyed_stack(&keyed);
    let before = publish(&mut metrics).0.len();
    call(0..1000).await;
    let seen = publish(&mut metrics);
    assert_eq!(seen.0.len(), before, "more keys make no more series");
    assert!(seen.0.keys().all(|series| !series.contains("tenant-")));
    let succeeded = "buttress_calls_total{name=tenants,outcome=success,policy=circuit_breaker}";
    assert_eq!(
        seen.counter(succeeded),
        1000,
        "of all keys, since it was asked for"
    );
    // The breakers of the keys, and the one of those that find no place.
    assert_eq!(seen.states("tenants"), [(State::Closed, 1001)]);
    assert_eq!(seen.gauge("buttress_keys{name=tenants,policy=keyed}"), 1000);
}

#[tokio::test(start_paused = true)]
async fn the_policies_of_keys_count_together_from_before_and_after_a_reload() {
    let keyed =
        |stack: StackConfig| Settings::new().stack("hosts", stack.keyed("authority", KeyedConfig::new()));
    let one = StackConfig::new().stage("circuit_breaker", breaker());
    let registry = Registry::builder().build(keyed(one.clone())).unwrap();
    let mut metrics = Metrics::new().registry(&registry);
    let stack = registry.keyed_stack("hosts").unwrap();
    succeed(&stack.get("a")).await;
    registry
        .apply(keyed(one.stage("bulkhead", BulkheadConfig::new(2))))
        .unwrap();
    metrics.publish();
    succeed(&stack.get("a")).await;
    succeed(&stack.get("b")).await;
    let seen = publish(&mut metrics);
    let calls = |policy: &str, outcome: &str| {
        let name = format!("hosts/{policy}");
        seen.counter(&format!(
            "buttress_calls_total{{name={name},outcome={outcome},policy={policy}}}"
        ))
    };
    assert_eq!(calls("circuit_breaker", "success"), 3);
    assert_eq!(calls("bulkhead", "admitted"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_registry_says_what_became_of_its_settings() {
    let stack = |limit| StackConfig::new().stage("bulkhead", BulkheadConfig::new(limit));
    let registry = Registry::builder()
        .build(Settings::new().stack("pay", stack(2)))
        .unwrap();
    let mut metrics = Metrics::new().registry(&registry);
    registry
        .apply(Settings::new().stack("pay", stack(0)))
        .unwrap_err();
    let seen = publish(&mut metrics);
    assert_eq!(seen.gauge("buttress_config_generation{}"), 1);
    assert_eq!(seen.counter("buttress_config_reload_failures_total{}"), 1);
    assert_eq!(seen.gauge("buttress_config_reload_failing{}"), 1);
    registry.apply(Settings::new().stack("pay", stack(7))).unwrap();
    let seen = publish(&mut metrics);
    assert_eq!(seen.gauge("buttress_config_generation{}"), 2);
    assert_eq!(seen.counter("buttress_config_reloads_total{}"), 2);
    assert_eq!(seen.gauge("buttress_config_reload_failing{}"), 0);
    assert_eq!(
        seen.gauge("buttress_bulkhead_limit{name=pay/bulkhead,policy=bulkhead}"),
        7
    );
    // Gone from the settings, it goes on, and so do its series.
    registry.apply(Settings::new()).unwrap();
    succeed(&registry.stack("pay").unwrap()).await;
    let seen = publish(&mut metrics);
    assert_eq!(seen.gauge("buttress_config_orphaned_stacks{}"), 1);
    assert_eq!(
        seen.counter("buttress_calls_total{name=pay/bulkhead,outcome=admitted,policy=bulkhead}"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn gauges_of_what_is_gone_go_to_zero_and_its_counts_stay() {
    let breaker = breaker().build("db").unwrap();
    let mut metrics = Metrics::new().circuit_breaker(&breaker);
    breaker.force_open();
    breaker.try_acquire().unwrap_err();
    assert_eq!(publish(&mut metrics).states("db"), [(State::ForcedOpen, 1)]);
    breaker.try_acquire().unwrap_err();
    drop(breaker);
    for _ in 0..2 {
        let seen = publish(&mut metrics);
        assert_eq!(seen.states("db"), []);
        let refused = "buttress_calls_total{name=db,outcome=rejected,policy=circuit_breaker}";
        assert_eq!(seen.counter(refused), 2, "what came last is in it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_a_reload_takes_away_leaves_no_stale_gauge() {
    let stack = || StackConfig::new().stage("circuit_breaker", breaker());
    let both = stack().stage("bulkhead", BulkheadConfig::new(2));
    let registry = Registry::builder()
        .build(Settings::new().stack("pay", both))
        .unwrap();
    let mut metrics = Metrics::new().registry(&registry);
    let limit = "buttress_bulkhead_limit{name=pay/bulkhead,policy=bulkhead}";
    assert_eq!(publish(&mut metrics).gauge(limit), 2);
    registry.apply(Settings::new().stack("pay", stack())).unwrap();
    assert_eq!(publish(&mut metrics).gauge(limit), 0);
}

#[tokio::test(start_paused = true)]
async fn policies_of_one_name_are_one_series() {
    let one = BulkheadConfig::new(2).build("db").unwrap();
    let other = BulkheadConfig::new(3).build("db").unwrap();
    let mut metrics = Metrics::new().bulkhead(&one).bulkhead(&other);
    let _slots = [one.try_acquire().unwrap(), other.try_acquire().unwrap()];
    let seen = publish(&mut metrics);
    let admitted = "buttress_calls_total{name=db,outcome=admitted,policy=bulkhead}";
    assert_eq!(seen.counter(admitted), 2);
    assert_eq!(seen.gauge("buttress_bulkhead_limit{name=db,policy=bulkhead}"), 5);
}

#[tokio::test(start_paused = true)]
async fn the_task_publishes_until_it_is_let_go() {
    // The local recorder of this thread is that of the runtime's only thread.
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let stack = four();
    let publishing = Metrics::new().stack(&stack).spawn().unwrap();
    succeed(&stack).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(!snapshotter.snapshot().into_vec().is_empty());
    drop(publishing);
    tokio::task::yield_now().await;
    succeed(&stack).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let counts = snapshotter.snapshot().into_vec();
    let changed = |value: &DebugValue| matches!(value, DebugValue::Counter(count) if *count > 0);
    assert!(!counts.iter().any(|(_, _, _, value)| changed(value)));
}
