//! Keyed policies: a policy of its own for each key, in a bounded table that forgets.

#![allow(clippy::unwrap_used)]

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, Clock, ClockHand, Event, Keyed,
    KeyedConfig, KeyedLayer, Observer, Predicate, Rejected, RejectedKind, RetryConfig, Stack, State,
    TimeoutConfig, What, find_rejected,
};
use proptest::prelude::*;
use tokio::time::{advance, sleep};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Job {
    tenant: &'static str,
    fails: bool,
}

fn job(tenant: &'static str) -> Job {
    Job { tenant, fails: false }
}

fn bad_job(tenant: &'static str) -> Job {
    Job { tenant, fails: true }
}

#[allow(clippy::unnecessary_wraps)]
fn tenant(job: &Job) -> Cow<'_, str> {
    job.tenant.into()
}

async fn work(job: Job) -> Result<&'static str, BoxError> {
    if job.fails {
        Err("broken".into())
    } else {
        Ok(job.tenant)
    }
}

fn breaker_settings() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .count_window(4)
        .minimum_calls(2)
        .open_wait(5 * SECOND)
        .open_jitter(0.0)
}

fn breakers(config: KeyedConfig) -> Keyed<CircuitBreaker> {
    config.build(breaker_settings().build("jobs").unwrap()).unwrap()
}

fn trip(breaker: &CircuitBreaker) {
    for _ in 0..2 {
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.state(), State::Open);
}

fn rejected(result: &Result<&'static str, BoxError>) -> Rejected {
    find_rejected(&**result.as_ref().unwrap_err()).unwrap().clone()
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Event>>>);

impl Seen {
    fn observer(&self) -> Arc<dyn Observer> {
        let seen = Arc::clone(&self.0);
        Arc::new(move |event: &Event| seen.lock().unwrap().push(event.clone()))
    }

    fn names(&self, is: impl Fn(&What) -> bool) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter(|e| is(&e.what))
            .map(|e| e.name.to_string())
            .collect()
    }
}

// Isolation, names, sharing

#[tokio::test(start_paused = true)]
async fn a_broken_tenant_opens_its_own_breaker_and_no_other() {
    let tenants = breakers(KeyedConfig::new());
    let mut service = ServiceBuilder::new()
        .layer(KeyedLayer::circuit_breaker(tenants.clone(), tenant))
        .service(service_fn(work));
    for _ in 0..2 {
        service
            .ready()
            .await
            .unwrap()
            .call(bad_job("acme"))
            .await
            .unwrap_err();
    }
    let refused = rejected(&service.ready().await.unwrap().call(job("acme")).await);
    assert_eq!(refused.kind(), RejectedKind::CircuitOpen);
    assert_eq!(refused.policy(), "jobs[acme]");
    assert!(refused.to_string().contains("`jobs[acme]`"), "{refused}");
    assert_eq!(
        service.ready().await.unwrap().call(job("other")).await.unwrap(),
        "other"
    );
    assert_eq!(tenants.peek("acme").unwrap().state(), State::Open);
    assert_eq!(tenants.peek("other").unwrap().state(), State::Closed);
    assert_eq!(
        tenants.each().snapshot().calls,
        0,
        "the one they are made from is called by nobody"
    );
}

#[tokio::test(start_paused = true)]
async fn every_layering_shares_the_policies() {
    let layer = KeyedLayer::circuit_breaker(breakers(KeyedConfig::new()), tenant);
    for _ in 0..2 {
        let service = ServiceBuilder::new()
            .layer(layer.clone())
            .service(service_fn(work));
        service.oneshot(bad_job("acme")).await.unwrap_err();
    }
    let service = ServiceBuilder::new().layer(layer).service(service_fn(work));
    assert_eq!(
        rejected(&service.oneshot(job("acme")).await).kind(),
        RejectedKind::CircuitOpen
    );
}

#[tokio::test(start_paused = true)]
async fn events_carry_the_key_also_of_keys_that_come_later() {
    let tenants = breakers(KeyedConfig::new());
    let before = tenants.get("before");
    let seen = Seen::default();
    let observer = seen.observer();
    tenants.observe(&observer);
    tenants.observe(&observer);
    trip(&before);
    trip(&tenants.get("after"));
    let opened = seen.names(|what| matches!(what, What::Transition { to: State::Open, .. }));
    assert_eq!(opened, ["jobs[before]", "jobs[after]"], "each is told once");
}

#[tokio::test(start_paused = true)]
async fn a_predicate_of_the_layer_judges_for_every_key() {
    let tenants = breakers(KeyedConfig::new());
    let layer = KeyedLayer::circuit_breaker(tenants.clone(), tenant).ignore(Predicate::new(|_| true));
    for _ in 0..5 {
        let service = ServiceBuilder::new()
            .layer(layer.clone())
            .service(service_fn(work));
        service.oneshot(bad_job("acme")).await.unwrap_err();
    }
    assert_eq!(tenants.get("acme").snapshot().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_not_polled_ready_is_not_called() {
    let mut service = ServiceBuilder::new()
        .layer(KeyedLayer::circuit_breaker(breakers(KeyedConfig::new()), tenant))
        .service(service_fn(|_: Job| async {
            panic!("it was called") as Result<&'static str, BoxError>
        }));
    assert_eq!(
        rejected(&service.call(job("acme")).await).kind(),
        RejectedKind::NotReady
    );
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_for_each_key_lets_its_own_calls_wait() {
    let each = BulkheadConfig::new(1).max_wait(SECOND).build("jobs").unwrap();
    let tenants = KeyedConfig::new().build(each).unwrap();
    let service = ServiceBuilder::new()
        .layer(KeyedLayer::bulkhead(tenants.clone(), tenant))
        .service(service_fn(|job: Job| async move {
            sleep(Duration::from_millis(600)).await;
            work(job).await
        }));
    let began = Clock::tokio().now();
    let (first, second, third, other) = tokio::join!(
        service.clone().oneshot(job("acme")),
        service.clone().oneshot(job("acme")),
        service.clone().oneshot(job("acme")),
        service.clone().oneshot(job("other")),
    );
    assert!(first.is_ok() && second.is_ok() && other.is_ok());
    let refused = rejected(&third);
    assert_eq!(
        (refused.kind(), refused.policy()),
        (RejectedKind::BulkheadFull, "jobs[acme]")
    );
    assert_eq!(Clock::tokio().now().since(began), Duration::from_millis(1200));
    assert_eq!(tenants.get("acme").snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stack_for_each_key_retries_under_the_breaker_of_its_key() {
    let each = Stack::builder()
        .retry(
            RetryConfig::new()
                .max_attempts(2)
                .no_budget()
                .build("jobs")
                .unwrap(),
        )
        .circuit_breaker(breaker_settings().build("jobs").unwrap())
        .timeout(TimeoutConfig::new(SECOND).build("jobs").unwrap())
        .bulkhead(BulkheadConfig::new(4).build("jobs").unwrap())
        .build()
        .unwrap();
    let tenants = KeyedConfig::new().build_stack(each).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let service = {
        let calls = Arc::clone(&calls);
        ServiceBuilder::new()
            .layer(KeyedLayer::stack(tenants.clone(), tenant))
            .service(service_fn(move |job: Job| {
                calls.fetch_add(1, Ordering::Relaxed);
                async move {
                    if job.tenant == "hangs" {
                        std::future::pending::<()>().await;
                    }
                    work(job).await
                }
            }))
    };
    service.clone().oneshot(bad_job("acme")).await.unwrap_err();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let refused = rejected(&service.clone().oneshot(job("acme")).await);
    assert_eq!(
        (refused.kind(), refused.policy()),
        (RejectedKind::CircuitOpen, "jobs[acme]")
    );
    let timed_out = rejected(&service.clone().oneshot(job("hangs")).await);
    assert_eq!(
        (timed_out.kind(), timed_out.policy()),
        (RejectedKind::TimedOut, "jobs[hangs]")
    );
    assert_eq!(service.oneshot(job("other")).await.unwrap(), "other");
    let run = tenants.get("acme").run_flat(|| work(job("acme"))).await;
    assert_eq!(
        rejected(&run).kind(),
        RejectedKind::CircuitOpen,
        "the same stack guards a function"
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_budget_of_its_own_is_one_for_each_key() {
    use buttress::{Backoff, RetryBudgetConfig};
    let budget = RetryBudgetConfig::new()
        .ratio(0.0)
        .min_per_second(1)
        .window(SECOND);
    let retry = RetryConfig::new()
        .max_attempts(10)
        .backoff(Backoff::fixed(Duration::from_millis(1)))
        .budget(budget);
    let each = Stack::builder()
        .retry(retry.build("jobs").unwrap())
        .build()
        .unwrap();
    let tenants = KeyedConfig::new().build_stack(each).unwrap();
    for tenant in ["one", "two"] {
        let mut calls = 0;
        let failed = tenants.get(tenant).run_flat(|| {
            calls += 1;
            async { Err::<(), BoxError>("broken".into()) }
        });
        failed.await.unwrap_err();
        assert_eq!(calls, 2, "{tenant}: the one retry that its budget pays for");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_stack_without_policies_are_told_apart() {
    let stacks = KeyedConfig::new()
        .build_stack(Stack::builder().build().unwrap())
        .unwrap();
    assert_eq!(
        stacks
            .get("a")
            .run(|| async { Ok::<_, std::io::Error>(1) })
            .await
            .unwrap(),
        1
    );
    stacks.get("b");
    stacks.get("a");
    let mut keys: Vec<_> = stacks
        .stages()
        .entries()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    keys.sort();
    assert_eq!(keys, ["a".into(), "b".into()]);
}

#[tokio::test(start_paused = true)]
async fn keys_of_any_length_are_told_apart_and_have_their_names() {
    let tenants = breakers(KeyedConfig::new());
    let each = Stack::builder()
        .bulkhead(BulkheadConfig::new(4).build("jobs").unwrap())
        .build()
        .unwrap();
    let stacks = KeyedConfig::new().build_stack(each).unwrap();
    let keys: Vec<String> = (0..100)
        .chain([255, 256, 1023, 1024])
        .map(|len| "é".repeat(len / 2) + &"x".repeat(len % 2))
        .collect();
    for key in &keys {
        trip(&tenants.get(key));
        stacks.get(key);
    }
    for key in &keys {
        let breaker = tenants.peek(key).unwrap();
        assert_eq!(breaker.name(), format!("jobs[{key}]"));
        assert_eq!(breaker.try_acquire().unwrap_err().policy(), breaker.name());
        let stages = stacks.stages().peek(key).unwrap();
        assert_eq!(stages.iter().next().unwrap().1, format!("jobs[{key}]"));
    }
    assert!(tenants.peek(&"x".repeat(40)).is_none());
    let mut found: Vec<_> = tenants.entries().into_iter().map(|(key, _)| key).collect();
    found.sort_by_key(|key| key.len());
    assert!(found.iter().map(|key| &**key).eq(keys.iter()));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_made_from_that_of_a_key_has_both_keys_in_its_name() {
    let regions = breakers(KeyedConfig::new());
    let tenants = KeyedConfig::new().build(regions.get("north")).unwrap();
    assert_eq!(tenants.get("acme").name(), "jobs[north][acme]");
    assert_eq!(tenants.entries()[0].0, "acme".into());
}

// The bound

#[tokio::test(start_paused = true)]
async fn keys_past_the_bound_share_one_policy_and_say_so() {
    let tenants = breakers(KeyedConfig::new().max_keys(2));
    let seen = Seen::default();
    tenants.observe(&seen.observer());
    tenants.get("a");
    tenants.get("b");
    let (third, fourth) = (tenants.get("c"), tenants.get("d"));
    assert_eq!(third.name(), "jobs[*]");
    trip(&third);
    assert_eq!(fourth.state(), State::Open, "they share one");
    assert_eq!(tenants.get("a").state(), State::Closed);
    assert_eq!(tenants.get("b").name(), "jobs[b]");
    let snapshot = tenants.snapshot();
    assert_eq!((snapshot.keys, snapshot.max_keys, snapshot.overflowed), (2, 2, 2));
    let full = seen.names(|what| matches!(what, What::KeysFull { max_keys: 2 }));
    assert_eq!(full, ["jobs[*]"], "it is told once");
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_place_gets_one_when_another_is_forgotten() {
    let tenants = breakers(KeyedConfig::new().max_keys(1).idle(60 * SECOND));
    let seen = Seen::default();
    tenants.observe(&seen.observer());
    tenants.get("a");
    assert_eq!(tenants.get("b").name(), "jobs[*]");
    advance(62 * SECOND).await;
    assert_eq!(tenants.get("b").name(), "jobs[b]");
    assert_eq!(seen.names(|what| *what == What::KeyForgotten), ["jobs[a]"]);
    assert_eq!(tenants.get("a").name(), "jobs[*]");
    let full = seen.names(|what| matches!(what, What::KeysFull { .. }));
    assert_eq!(full.len(), 2, "there was a place in between");
}

#[tokio::test(start_paused = true)]
async fn a_huge_key_takes_no_place() {
    let tenants = breakers(KeyedConfig::new());
    assert_eq!(tenants.get(&"x".repeat(1025)).name(), "jobs[*]");
    assert_eq!(tenants.get(&"x".repeat(1024)).name().len(), "jobs[]".len() + 1024);
    assert_eq!((tenants.snapshot().keys, tenants.snapshot().overflowed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_higher_bound_takes_effect_at_once() {
    let tenants = breakers(KeyedConfig::new().max_keys(1));
    tenants.get("a");
    assert_eq!(tenants.get("b").name(), "jobs[*]");
    tenants.reconfigure(&KeyedConfig::new().max_keys(2)).unwrap();
    assert_eq!(tenants.get("b").name(), "jobs[b]");
    assert_eq!(tenants.get("c").name(), "jobs[*]");
}

#[tokio::test(start_paused = true)]
async fn a_shorter_idle_takes_effect_at_once() {
    let tenants = breakers(KeyedConfig::new().max_keys(1));
    tenants.get("a");
    advance(10 * SECOND).await;
    tenants
        .reconfigure(&KeyedConfig::new().max_keys(1).idle(5 * SECOND))
        .unwrap();
    assert_eq!(tenants.get("b").name(), "jobs[b]");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let build = |config: KeyedConfig| {
        config
            .build(breaker_settings().build("jobs").unwrap())
            .unwrap_err()
    };
    let error = build(KeyedConfig::new().max_keys(0));
    assert_eq!((error.field(), error.value()), ("max_keys", "0"));
    let error = build(KeyedConfig::new().max_keys(10_000_001));
    assert_eq!(
        error.to_string(),
        "keyed `jobs`: max_keys = 10000001: accepted: from 1 to 10000000"
    );
    assert_eq!(build(KeyedConfig::new().idle(Duration::ZERO)).field(), "idle");
    let tenants = breakers(KeyedConfig::new());
    assert_eq!(
        tenants
            .reconfigure(&KeyedConfig::new().max_keys(0))
            .unwrap_err()
            .field(),
        "max_keys"
    );
    assert_eq!(tenants.snapshot().max_keys, 1024, "and nothing changed");
}

// Forgetting

#[tokio::test(start_paused = true)]
async fn an_idle_key_is_forgotten_and_begins_anew() {
    let tenants = breakers(KeyedConfig::new().idle(60 * SECOND));
    tenants.get("acme").try_acquire().unwrap().failure();
    advance(59 * SECOND).await;
    assert_eq!(tenants.sweep(), 0);
    assert_eq!(
        tenants.get("acme").snapshot().calls,
        1,
        "being asked for keeps it"
    );
    advance(59 * SECOND).await;
    assert_eq!(tenants.sweep(), 0);
    advance(4 * SECOND).await;
    assert_eq!(tenants.sweep(), 1);
    assert_eq!((tenants.snapshot().keys, tenants.snapshot().forgotten), (0, 1));
    assert_eq!(tenants.get("acme").snapshot().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_where_no_idle_is_set() {
    let tenants = breakers(KeyedConfig::new().no_idle());
    tenants.get("acme").try_acquire().unwrap().failure();
    advance(Duration::from_secs(86_400 * 365)).await;
    assert_eq!(tenants.sweep(), 0);
    assert_eq!(tenants.get("acme").snapshot().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_not_forgotten_before_its_wait_is_over() {
    let each = breaker_settings().open_wait(300 * SECOND).build("jobs").unwrap();
    let tenants = KeyedConfig::new().idle(SECOND).build(each).unwrap();
    trip(&tenants.get("acme"));
    advance(299 * SECOND).await;
    assert_eq!(tenants.sweep(), 0);
    assert_eq!(tenants.peek("acme").unwrap().state(), State::Open);
    advance(2 * SECOND).await;
    assert_eq!(tenants.sweep(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_breaker_is_not_forgotten_before_its_longest_stay_is_over() {
    let each = breaker_settings().max_half_open_stay(300 * SECOND, buttress::StayEnd::Open);
    let tenants = KeyedConfig::new()
        .idle(SECOND)
        .build(each.build("jobs").unwrap())
        .unwrap();
    tenants.get("acme").half_open();
    advance(299 * SECOND).await;
    assert_eq!(tenants.sweep(), 0);
    advance(2 * SECOND).await;
    assert_eq!(tenants.sweep(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_outlives_any_idleness() {
    let tenants = breakers(KeyedConfig::new().idle(SECOND));
    tenants.get("forced").force_open();
    tenants.get("off").disable();
    tenants.get("watched").metrics_only();
    advance(1000 * SECOND).await;
    assert_eq!(tenants.sweep(), 0);
    assert_eq!(tenants.get("forced").state(), State::ForcedOpen);
    tenants.get("off").close();
    advance(1000 * SECOND).await;
    assert_eq!(tenants.sweep(), 1, "but for the one that was closed");
}

#[tokio::test(start_paused = true)]
async fn breakers_that_begin_disabled_do_not_fill_the_table() {
    let each = breaker_settings()
        .initial_state(State::Disabled)
        .build("jobs")
        .unwrap();
    let tenants = KeyedConfig::new().idle(SECOND).build(each).unwrap();
    tenants.get("acme");
    advance(2 * SECOND).await;
    assert_eq!(tenants.sweep(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_with_a_call_in_flight_is_never_forgotten() {
    let each = BulkheadConfig::new(1).build("jobs").unwrap();
    let tenants = KeyedConfig::new().max_keys(1).idle(SECOND).build(each).unwrap();
    let service = ServiceBuilder::new()
        .layer(KeyedLayer::bulkhead(tenants.clone(), tenant))
        .service(service_fn(|job: Job| async move {
            sleep(1000 * SECOND).await;
            work(job).await
        }));
    let call = tokio::spawn(service.clone().oneshot(job("acme")));
    sleep(500 * SECOND).await;
    assert_eq!(tenants.sweep(), 0);
    assert_eq!(tenants.get("other").name(), "jobs[*]", "there is no place for it");
    let refused = rejected(&service.clone().oneshot(job("acme")).await);
    assert_eq!(refused.policy(), "jobs[acme]", "its one slot is taken");
    call.await.unwrap().unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(tenants.sweep(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stack_is_forgotten_when_each_of_its_policies_may_be() {
    let each = Stack::builder()
        .timeout(TimeoutConfig::new(SECOND).build("jobs").unwrap())
        .circuit_breaker(breaker_settings().open_wait(50 * SECOND).build("jobs").unwrap())
        .bulkhead(BulkheadConfig::new(4).build("jobs").unwrap())
        .build()
        .unwrap();
    let tenants = KeyedConfig::new().idle(SECOND).build_stack(each).unwrap();
    for _ in 0..2 {
        tenants
            .get("acme")
            .run_flat(|| work(bad_job("acme")))
            .await
            .unwrap_err();
    }
    tenants.get("well").run_flat(|| work(job("well"))).await.unwrap();
    advance(40 * SECOND).await;
    assert_eq!(tenants.stages().sweep(), 1);
    assert!(tenants.stages().peek("acme").is_some() && tenants.stages().peek("well").is_none());
    advance(11 * SECOND).await;
    assert_eq!(tenants.stages().sweep(), 1);
}

// Against a naive model

#[derive(Clone, Debug)]
enum Act {
    Ask(u8),
    Trip(u8),
    Hold(u8),
    Release,
    Sweep,
    Wait(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..8_u8).prop_map(Act::Ask),
        1 => (0..8_u8).prop_map(Act::Trip),
        1 => (0..8_u8).prop_map(Act::Hold),
        1 => Just(Act::Release),
        1 => Just(Act::Sweep),
        4 => (1..800_u16).prop_map(Act::Wait),
    ]
}

/// What a table of keys should do, found by looking at every key each time.
#[derive(Default)]
struct Model {
    now: u64,
    keys: HashMap<u8, Key>,
}

#[derive(Clone, Copy, Default)]
struct Key {
    asked: u64,
    open_until: u64,
    held: u32,
    released: u64,
    /// Told apart from an earlier one of the same name by its recorded calls.
    calls: u64,
}

const IDLE: u64 = 1000;
const OPEN: u64 = 2500;
const KEYS: usize = 4;

impl Model {
    /// Whether the key may be forgotten; `late` milliseconds ago already.
    fn may_go(&self, key: &Key, late: u64) -> bool {
        let due = (key.asked + IDLE).max(key.open_until + 1).max(key.released);
        key.held == 0 && self.now >= due + late
    }
}

fn run_model(acts: &[Act]) -> Result<(), TestCaseError> {
    let (clock, hand): (Clock, ClockHand) = Clock::manual();
    let each = CircuitBreakerConfig::new()
        .count_window(1_000)
        .minimum_calls(1_000)
        .open_wait(Duration::from_millis(OPEN))
        .open_growth(1.0, Duration::from_millis(OPEN))
        .open_jitter(0.0)
        .clock(clock)
        .build("model")
        .unwrap();
    let config = KeyedConfig::new().max_keys(4).idle(Duration::from_millis(IDLE));
    let keyed = config.build(each).unwrap();
    let mut model = Model::default();
    let mut holding: Vec<(u8, CircuitBreaker)> = Vec::new();
    for act in acts {
        match *act {
            Act::Wait(millis) => {
                hand.advance(Duration::from_millis(millis.into()));
                model.now += u64::from(millis);
            }
            Act::Release => {
                if let Some((key, _)) = holding.pop() {
                    let key = model.keys.get_mut(&key).unwrap();
                    key.held -= 1;
                    key.released = model.now;
                }
            }
            Act::Sweep => {
                keyed.sweep();
                // A sweep is exact but for the step in which times of use are told.
                for (name, key) in model.keys.clone() {
                    let there = keyed.peek(&name.to_string()).is_some();
                    prop_assert!(there || model.may_go(&key, 0), "{name} was forgotten too early");
                    prop_assert!(
                        !there || !model.may_go(&key, 2 * IDLE / 64),
                        "{name} should be gone"
                    );
                }
                model
                    .keys
                    .retain(|name, _| keyed.peek(&name.to_string()).is_some());
            }
            Act::Ask(name) | Act::Trip(name) | Act::Hold(name) => {
                let before = model.keys.get(&name).copied();
                let breaker = keyed.get(&name.to_string());
                let own = breaker.name() == format!("model[{name}]");
                // Others may have gone to make room, but only those that may.
                let now = model.now;
                for (other, key) in model.keys.clone() {
                    if other != name && keyed.peek(&other.to_string()).is_none() {
                        prop_assert!(model.may_go(&key, 0), "{other} was forgotten too early");
                        model.keys.remove(&other);
                    }
                }
                if !own {
                    prop_assert_eq!(breaker.name(), "model[*]");
                    prop_assert!(
                        before.is_none_or(|key| model.may_go(&key, 0)),
                        "a known key lost its place"
                    );
                    model.keys.remove(&name);
                    prop_assert_eq!(model.keys.len(), KEYS, "there was a place");
                    let room = model.keys.values().any(|key| model.may_go(key, 3 * IDLE / 64));
                    prop_assert!(!room, "one of the others should have gone");
                    continue;
                }
                let calls = breaker.snapshot().calls;
                match before {
                    Some(key) if calls != key.calls => {
                        prop_assert!(
                            calls == 0 && model.may_go(&key, 0),
                            "{} calls, not {}",
                            calls,
                            key.calls
                        );
                        model.keys.remove(&name);
                    }
                    None => prop_assert_eq!(calls, 0, "it begins anew"),
                    Some(_) => {}
                }
                let key = model.keys.entry(name).or_default();
                key.asked = now;
                key.calls = calls;
                if breaker.state() == State::Closed {
                    breaker.try_acquire().unwrap().success();
                    key.calls += 1;
                }
                if matches!(act, Act::Trip(_)) {
                    breaker.open();
                    key.open_until = now + OPEN;
                }
                if matches!(act, Act::Hold(_)) {
                    key.held += 1;
                    holding.push((name, breaker));
                }
            }
        }
        prop_assert!(model.keys.len() <= KEYS);
        prop_assert_eq!(keyed.snapshot().keys as usize, keyed.entries().len());
        prop_assert!(keyed.snapshot().keys as usize <= KEYS);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_is_forgotten_and_what_is_kept_agrees_with_a_naive_model(acts in prop::collection::vec(act(), 1..80)) {
        run_model(&acts)?;
    }
}

// Many threads

#[test]
fn no_bulkhead_is_exceeded_while_keys_come_and_go_on_many_threads() {
    const LIMIT: usize = 2;
    let (clock, hand) = Clock::manual();
    let each = BulkheadConfig::new(2).clock(clock).build("jobs").unwrap();
    let keyed = KeyedConfig::new()
        .max_keys(6)
        .idle(Duration::from_millis(1))
        .build(each)
        .unwrap();
    let inside: Vec<AtomicUsize> = (0..8).map(|_| AtomicUsize::new(0)).collect();
    let (done, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4_usize)
            .map(|seed| {
                let (keyed, inside, admitted) = (&keyed, &inside, &admitted);
                scope.spawn(move || {
                    let mut random = seed as u64 * 0x9E37_79B9 + 1;
                    for _ in 0..20_000 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let at = (random >> 60) as usize % 8;
                        let bulkhead = keyed.get(&at.to_string());
                        let own = bulkhead.name() == format!("jobs[{at}]");
                        let Ok(slot) = bulkhead.try_acquire() else {
                            continue;
                        };
                        drop(bulkhead);
                        if own {
                            let others = inside[at].fetch_add(1, Ordering::SeqCst);
                            assert!(others < LIMIT, "{others} others are inside");
                            admitted.fetch_add(1, Ordering::Relaxed);
                            std::thread::yield_now();
                            inside[at].fetch_sub(1, Ordering::SeqCst);
                        }
                        drop(slot);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                hand.advance(Duration::from_micros(100));
                keyed.sweep();
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let snapshot = keyed.snapshot();
    assert!(admitted.load(Ordering::Relaxed) > 1000);
    assert!(snapshot.forgotten > 10, "{snapshot:?}");
    assert_eq!(snapshot.keys as usize, keyed.entries().len());
}

#[test]
fn callers_that_come_at_once_with_a_new_key_get_the_same_policy() {
    for round in 0..200 {
        let keyed = breakers(KeyedConfig::new());
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    keyed.get("new").try_acquire().unwrap().success();
                });
            }
        });
        assert_eq!(keyed.get("new").snapshot().calls, 4, "round {round}");
        assert_eq!(keyed.snapshot().keys, 1);
    }
}
