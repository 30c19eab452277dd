//! What there is to see of a registry at one moment.

#![recursion_limit = "256"]

use std::time::Duration;

use buttress::{
    BulkheadConfig, By, CircuitBreakerConfig, Clock, ClockHand, Command, KeyedConfig, PolicySnapshot,
    Registry, RegistrySnapshot, RetryConfig, Settings, StackConfig, StageSnapshot, State, TimeoutConfig,
    WindowConfig,
};
use tokio::time::sleep;

fn cells(stage: &StageSnapshot) -> Vec<[u64; 4]> {
    let PolicySnapshot::CircuitBreaker(breaker) = &stage.snapshot else {
        panic!("{stage:?}")
    };
    let cells = breaker.window.cells.iter();
    cells
        .map(|cell| [cell.calls, cell.failed, cell.slow, cell.slow_failed])
        .collect()
}

fn one(breaker: CircuitBreakerConfig) -> (Registry, ClockHand) {
    let (clock, hand) = Clock::manual();
    let stack = StackConfig::new().stage("breaker", breaker);
    let registry = Registry::builder()
        .clock(clock)
        .build(Settings::new().stack("one", stack))
        .unwrap();
    (registry, hand)
}

fn stage(snapshot: &RegistrySnapshot) -> &StageSnapshot {
    &snapshot.stacks[0].stages[0]
}

#[test]
fn the_picture_of_a_count_window_shows_each_call_oldest_first() {
    let (registry, hand) = one(CircuitBreakerConfig::new()
        .count_window(4)
        .minimum_calls(4)
        .slow_calls(Duration::from_secs(1), 1.0)
        .failure_rate(1.0));
    let breaker = registry.circuit_breaker("one").unwrap();
    let call = |ok: bool, seconds: u64| {
        let permit = breaker.try_acquire().unwrap();
        hand.advance(Duration::from_secs(seconds));
        if ok { permit.success() } else { permit.failure() }
    };
    call(true, 0);
    call(false, 0);
    assert_eq!(cells(stage(&registry.snapshot())), [[1, 0, 0, 0], [1, 1, 0, 0]]);
    call(true, 2);
    call(false, 2);
    call(true, 0);
    assert_eq!(
        cells(stage(&registry.snapshot())),
        [[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    );
}

#[test]
fn the_picture_of_a_long_window_has_a_hundred_cells_at_most() {
    let (registry, _hand) = one(CircuitBreakerConfig::new()
        .count_window(1_000_000)
        .minimum_calls(1_000));
    let breaker = registry.circuit_breaker("one").unwrap();
    for at in 0..25_000 {
        let permit = breaker.try_acquire().unwrap();
        if at < 10_000 {
            permit.success();
        } else {
            permit.ignore();
        }
    }
    assert_eq!(cells(stage(&registry.snapshot())), [[10_000, 0, 0, 0]]);
}

#[test]
fn the_picture_of_a_time_window_shows_its_buckets_with_what_no_lock_counted() {
    let (registry, hand) = one(CircuitBreakerConfig::new()
        .time_window(Duration::from_secs(3))
        .minimum_calls(100));
    let breaker = registry.circuit_breaker("one").unwrap();
    hand.advance(Duration::from_secs(10));
    for _ in 0..5 {
        breaker.try_acquire().unwrap().success();
    }
    breaker.try_acquire().unwrap().failure();
    hand.advance(Duration::from_secs(1));
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().success();
    let snapshot = registry.snapshot();
    assert_eq!(cells(stage(&snapshot)), [[0; 4], [6, 1, 0, 0], [2, 0, 0, 0]]);
    let PolicySnapshot::CircuitBreaker(seen) = &stage(&snapshot).snapshot else {
        panic!()
    };
    assert_eq!(
        seen.window.shape,
        Some(WindowConfig::Time {
            duration: Duration::from_secs(3),
            bucket: Duration::from_secs(1)
        })
    );
    assert_eq!((seen.snapshot.calls, seen.thresholds.minimum_calls), (8, 100));
    assert_eq!(seen.snapshot.failure_rate, None, "there are too few calls");
    hand.advance(Duration::from_secs(2));
    assert_eq!(cells(stage(&registry.snapshot())), [[2, 0, 0, 0], [0; 4], [0; 4]]);
}

#[test]
fn half_open_shows_its_probes_and_open_the_window_of_before() {
    let (registry, hand) = one(CircuitBreakerConfig::new()
        .count_window(8)
        .minimum_calls(2)
        .probes(3));
    let breaker = registry.circuit_breaker("one").unwrap();
    for _ in 0..2 {
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(cells(stage(&registry.snapshot())), [[1, 1, 0, 0]; 2]);
    hand.advance(Duration::from_secs(6));
    let probe = breaker.try_acquire().unwrap();
    let _under_way = breaker.try_acquire().unwrap();
    probe.success();
    let snapshot = registry.snapshot();
    let PolicySnapshot::CircuitBreaker(seen) = &stage(&snapshot).snapshot else {
        panic!()
    };
    assert_eq!(seen.snapshot.state, State::HalfOpen);
    assert_eq!((seen.probes_under_way, seen.thresholds.probes), (1, 3));
    assert_eq!(seen.window.shape, Some(WindowConfig::Calls(3)));
    assert_eq!(seen.window.cells.len(), 1);
    breaker.disable();
    let snapshot = registry.snapshot();
    let PolicySnapshot::CircuitBreaker(seen) = &stage(&snapshot).snapshot else {
        panic!()
    };
    assert_eq!((seen.window.shape, seen.window.cells.len()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn stacks_are_shown_in_their_order_with_what_stands_by_command() {
    let payments = StackConfig::new()
        .stage("total", TimeoutConfig::new(Duration::from_secs(3)))
        .stage("retry", RetryConfig::new().max_attempts(4))
        .stage("breaker", CircuitBreakerConfig::new())
        .stage(
            "slots",
            BulkheadConfig::new(8).max_wait(Duration::from_millis(50)),
        );
    let registry = Registry::builder()
        .build(Settings::new().stack("payments", payments))
        .unwrap();
    let _slot = registry.bulkhead("payments").unwrap().try_acquire().unwrap();
    let ttl = Some(Duration::from_secs(60));
    registry
        .command("payments", Command::Disable, By::new("anna", "a drill"), ttl)
        .unwrap();
    sleep(Duration::from_secs(20)).await;
    let mut settings = (*registry.settings()).clone();
    settings.stacks.clear();
    registry.apply(settings).unwrap();

    let snapshot = registry.snapshot();
    assert_eq!(snapshot.generation, 2);
    let stack = &snapshot.stacks[0];
    assert!(stack.orphaned && stack.keys.is_none());
    let names: Vec<_> = stack
        .stages
        .iter()
        .map(|stage| (&*stage.name, &*stage.policy))
        .collect();
    assert_eq!(
        names,
        [
            ("total", "payments/total"),
            ("retry", "payments/retry"),
            ("breaker", "payments/breaker"),
            ("slots", "payments/slots")
        ]
    );
    let overridden: Vec<_> = stack
        .stages
        .iter()
        .filter_map(|stage| stage.overridden.as_ref())
        .collect();
    assert_eq!(overridden.len(), 1);
    assert_eq!(overridden[0].command, Command::Disable);
    assert_eq!(overridden[0].by, By::new("anna", "a drill"));
    assert_eq!(overridden[0].left, Some(Duration::from_secs(40)));
    let PolicySnapshot::Bulkhead(slots) = &stack.stages[3].snapshot else {
        panic!()
    };
    assert_eq!((slots.limit, slots.in_flight), (8, 1));
    let PolicySnapshot::Retry(retry) = &stack.stages[1].snapshot else {
        panic!()
    };
    assert_eq!(retry.max_attempts, 4);
    assert!(retry.budget.is_some());

    registry.circuit_breaker("payments").unwrap().close();
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.stacks[0].stages[2].overridden, None);
}

#[test]
fn keys_that_need_a_look_come_first_and_a_hundred_are_shown() {
    let each = StackConfig::new()
        .stage("breaker", CircuitBreakerConfig::new())
        .stage("slots", BulkheadConfig::new(1));
    let stack = each.keyed("tenant", KeyedConfig::new().max_keys(150));
    let registry = Registry::builder()
        .key("tenant")
        .build(Settings::new().stack("tenants", stack))
        .unwrap();
    let keyed = registry.keyed_stack("tenants").unwrap();
    for key in 0..150 {
        keyed.get(&format!("{key:03}"));
    }
    let breaker = |key: &str| {
        registry
            .circuit_breaker(&format!("tenants/breaker[{key}]"))
            .unwrap()
    };
    breaker("149").force_open();
    breaker("120").open();
    let full = registry.bulkhead("tenants/slots[140]").unwrap();
    let _slot = full.try_acquire().unwrap();
    let snapshot = registry.snapshot();
    let keys = snapshot.stacks[0].keys.as_ref().unwrap();
    let shown: Vec<&str> = keys.shown.iter().map(|key| key.key.as_str()).collect();
    assert_eq!(shown[..5], ["120", "149", "140", "000", "001"]);
    assert_eq!((shown.len(), shown[99], keys.hidden), (100, "096", 50));
    assert_eq!((keys.per.as_str(), keys.counts.keys), ("tenant", 150));
    assert_eq!(&*keys.shown[0].stages[0].policy, "tenants/breaker[120]");

    keyed.get("one more");
    let snapshot = registry.snapshot();
    assert_eq!(
        snapshot.stacks[0].keys.as_ref().unwrap().hidden,
        51,
        "with that of keys without a place"
    );
}

/// What each stage has counted, in the order of the stages.
fn counts(registry: &Registry, stack: &str) -> Vec<Option<Vec<(&'static str, u64)>>> {
    let snapshot = registry.snapshot();
    let stack = snapshot.stacks.iter().find(|shown| shown.name == stack).unwrap();
    let counts = stack.stages.iter().map(|stage| stage.calls.as_ref());
    counts.map(|calls| Some(calls?.iter().collect())).collect()
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_outcome_from_when_that_is_asked_for() {
    let stages = StackConfig::new()
        .stage("retry", RetryConfig::new().max_attempts(2))
        .stage("circuit_breaker", CircuitBreakerConfig::new())
        .stage("timeout", TimeoutConfig::new(Duration::from_secs(1)))
        .stage("bulkhead", BulkheadConfig::new(1));
    let registry = Registry::builder()
        .build(Settings::new().stack("payments", stages.clone()))
        .unwrap();
    let stack = registry.stack("payments").unwrap();
    let fails = async || Err::<(), _>(std::io::Error::other("no"));
    stack.run(fails).await.unwrap_err();
    assert_eq!(counts(&registry, "payments"), vec![None; 4]);

    registry.count_calls();
    stack.run(async || Ok::<_, std::io::Error>(())).await.unwrap();
    stack.run(fails).await.unwrap_err();
    let slot = registry.bulkhead("payments").unwrap().try_acquire().unwrap();
    stack.run(fails).await.unwrap_err();
    drop(slot);
    stack
        .run(std::future::pending::<Result<(), std::io::Error>>)
        .await
        .unwrap_err();
    assert_eq!(
        counts(&registry, "payments"),
        [
            Some(vec![
                ("success", 1),
                ("failure", 2),
                ("ignored", 1),
                ("dropped", 0)
            ]),
            Some(vec![
                ("success", 1),
                ("failure", 4),
                ("ignored", 1),
                ("rejected", 0)
            ]),
            Some(vec![("completed", 4), ("rejected", 2), ("dropped", 0)]),
            Some(vec![("admitted", 6), ("rejected", 1), ("dropped", 0)]),
        ]
    );
    let snapshot = registry.snapshot();
    let calls = snapshot.stacks[0].stages[1].calls.clone().unwrap();
    assert_eq!(
        (calls.total(), calls.of("failure"), calls.of("dropped")),
        (6, 4, 0)
    );

    // A stage that comes later counts from the next time.
    let more = stages.stage("total", TimeoutConfig::new(Duration::from_secs(9)));
    registry.apply(Settings::new().stack("payments", more)).unwrap();
    assert_eq!(counts(&registry, "payments")[4], None);
    registry.count_calls();
    assert!(counts(&registry, "payments")[4].is_some());
}

#[tokio::test]
async fn the_calls_of_keys_are_counted_together_and_none_alone() {
    let stages = StackConfig::new()
        .stage("bulkhead", BulkheadConfig::new(1))
        .keyed("tenant", KeyedConfig::new().max_keys(2));
    let registry = Registry::builder()
        .key("tenant")
        .build(Settings::new().stack("tenants", stages))
        .unwrap();
    let tenants = registry.keyed_stack("tenants").unwrap();
    let call = async |key| tenants.get(key).run(async || Ok::<_, std::io::Error>(())).await;
    call("early").await.unwrap();
    registry.count_calls();
    for key in ["early", "late", "without a place"] {
        call(key).await.unwrap();
    }
    let counted = vec![("admitted", 3), ("rejected", 0), ("dropped", 0)];
    assert_eq!(counts(&registry, "tenants"), [Some(counted)]);
    let snapshot = registry.snapshot();
    for key in &snapshot.stacks[0].keys.as_ref().unwrap().shown {
        assert_eq!(key.stages[0].calls, None, "{}", key.key);
    }
    let alone = registry.policy_snapshot("tenants/bulkhead[early]").unwrap();
    assert_eq!(alone.calls, None);
}

#[cfg(feature = "serde")]
#[test]
fn a_snapshot_as_json_keeps_its_words() {
    let (clock, hand) = Clock::manual();
    let stack = StackConfig::new()
        .stage("retry", RetryConfig::new())
        .stage(
            "circuit_breaker",
            CircuitBreakerConfig::new().count_window(10).minimum_calls(2),
        )
        .stage("timeout", TimeoutConfig::new(Duration::from_millis(250)))
        .stage("bulkhead", BulkheadConfig::new(8));
    let registry = Registry::builder()
        .clock(clock)
        .build(Settings::new().stack("payments", stack))
        .unwrap();
    let breaker = registry.circuit_breaker("payments").unwrap();
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().failure();
    breaker.try_acquire().unwrap_err();
    hand.advance(Duration::from_millis(1_500));
    let resize = Command::Resize { max_concurrent: 4 };
    registry
        .command("payments", resize, By::new("anna", "load"), None)
        .unwrap();
    let mut json = serde_json::to_value(registry.snapshot()).unwrap();
    let at = json.as_object_mut().unwrap().remove("at").unwrap();
    assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
    assert_eq!(
        json,
        serde_json::json!({
            "generation": 1,
            "failed_reloads": 0,
            "stacks": [{
                "name": "payments",
                "orphaned": false,
                "keys": null,
                "stages": [
                    {
                        "name": "retry", "policy": "payments/retry", "kind": "retry", "override": null, "calls": null,
                        "snapshot": {
                            "max_attempts": 3,
                            "budget": {"calls": 0, "retries": 0, "left": 30},
                        },
                    },
                    {
                        "name": "circuit_breaker", "policy": "payments/circuit_breaker",
                        "kind": "circuit_breaker", "override": null, "calls": null,
                        "snapshot": {
                            "state": "open", "generation": 2, "since_seconds": 1.5, "until_seconds": 3.5,
                            "cause": {
                                "code": "failure_rate", "rate": 0.5, "calls": 2,
                                "text": "failure rate 50 % of 2 calls",
                            },
                            "calls": 2, "failed": 1, "slow": 0, "slow_failed": 0,
                            "failure_rate": 0.5, "slow_call_rate": 0.0,
                            "not_permitted": 1, "rejected": 1, "openings": 1,
                            "thresholds": {
                                "minimum_calls": 2, "failure_rate": 0.5, "slow_call_rate": null,
                                "slow_call_longer_than_seconds": null, "consecutive_failures": null, "probes": 3,
                            },
                            "failures_in_a_row": null, "probes_under_way": 0,
                            "window": {
                                "kind": "calls", "size": 10, "per_cell": 1, "cells": [[1, 0, 0, 0], [1, 1, 0, 0]],
                            },
                        },
                    },
                    {
                        "name": "timeout", "policy": "payments/timeout", "kind": "timeout", "override": null, "calls": null,
                        "snapshot": {"limit_seconds": 0.25, "timed_out": 0},
                    },
                    {
                        "name": "bulkhead", "policy": "payments/bulkhead", "kind": "bulkhead",
                        "calls": null, "override": {
                            "command": "resize", "max_concurrent": 4,
                            "by": {"label": "anna", "reason": "load"}, "left_seconds": null,
                        },
                        "snapshot": {
                            "limit": 4, "in_flight": 0, "queued": 0, "max_queue": 1024,
                            "max_wait_seconds": 0.0, "rejected": 0,
                        },
                    },
                ],
            }],
        })
    );
}
