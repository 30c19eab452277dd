//! Stacks by name, and other settings for them while calls are under way.

#![allow(clippy::disallowed_methods, reason = "a test measures how long it took")]

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    BoxError, BulkheadConfig, CircuitBreakerConfig, Clock, Error, Event, KeyedConfig, KeyedLayer, Observer,
    PolicyKind, Predicate, Registry, RejectedKind, RetryConfig, Settings, StackConfig, State, TimeoutConfig,
    What,
};
use proptest::prelude::*;
use tokio::sync::oneshot;
use tower::{Layer, Service, service_fn};

fn breaker() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().count_window(10).minimum_calls(4)
}

fn payments() -> StackConfig {
    StackConfig::new()
        .stage("circuit_breaker", breaker())
        .stage("bulkhead", BulkheadConfig::new(2))
}

fn registry(stack: StackConfig) -> Registry {
    Registry::builder()
        .build(Settings::new().stack("payments", stack))
        .unwrap()
}

async fn fail(stack: &buttress::Stack) -> Error<io::Error> {
    stack
        .run(|| async { Err::<(), _>(io::Error::other("down")) })
        .await
        .unwrap_err()
}

#[derive(Default)]
struct Seen(Mutex<Vec<(PolicyKind, String, What)>>);

impl Observer for Seen {
    fn on_event(&self, event: &Event) {
        let seen = (event.policy, event.name.to_string(), event.what.clone());
        self.0.lock().unwrap().push(seen);
    }
}

impl Seen {
    fn by_registry(&self) -> Vec<(String, What)> {
        let all = self.0.lock().unwrap();
        let by_registry = all.iter().filter(|(kind, ..)| *kind == PolicyKind::Registry);
        by_registry
            .map(|(_, name, what)| (name.clone(), what.clone()))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn asking_twice_for_a_stack_gives_the_same_state() {
    let registry = registry(payments());
    for _ in 0..4 {
        fail(&registry.stack("payments").unwrap()).await;
    }
    let again = registry.stack("payments").unwrap();
    let error = fail(&again).await;
    assert_eq!(error.as_rejected().unwrap().kind(), RejectedKind::CircuitOpen);
    assert_eq!(error.as_rejected().unwrap().policy(), "payments/circuit_breaker");
    assert_eq!(registry.circuit_breaker("payments").unwrap().state(), State::Open);
    assert_eq!(
        registry
            .circuit_breaker("payments/circuit_breaker")
            .unwrap()
            .state(),
        State::Open
    );
}

#[test]
fn what_it_does_not_have_is_told_with_what_it_has() {
    let registry = registry(payments());
    let told = |error: buttress::NotFound| error.to_string();
    assert_eq!(
        told(registry.stack("payment").unwrap_err()),
        "no stack `payment`: there is `payments`"
    );
    assert_eq!(
        told(registry.retry("payments").unwrap_err()),
        "no retry `payments`: there is none"
    );
    assert_eq!(
        told(registry.bulkhead("search").unwrap_err()),
        "no bulkhead `search`: there is `payments/bulkhead`"
    );
    assert_eq!(
        told(registry.keyed_stack("payments").unwrap_err()),
        "no keyed stack `payments`: it has no `per`; ask for it by `stack`"
    );
}

#[test]
fn all_that_is_wrong_is_told_and_nothing_changes() {
    let registry = registry(payments());
    let wrong = StackConfig::new()
        .stage("circuit_breaker", breaker().minimum_calls(0).record("5xy"))
        .stage("bulkhead", BulkheadConfig::new(0))
        .stage("bulkhead", BulkheadConfig::new(7));
    let settings = Settings::new()
        .stack("payments", wrong)
        .stack("search", StackConfig::new().keyed("tenant", KeyedConfig::new()));
    let seen = Arc::new(Seen::default());
    registry.observe(&(Arc::clone(&seen) as Arc<dyn Observer>));

    let errors = registry.apply(settings).unwrap_err();

    let paths: Vec<&str> = errors.issues().iter().map(|issue| issue.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "stacks.payments.circuit_breaker.minimum_calls",
            "stacks.payments.circuit_breaker.record",
            "stacks.payments.bulkhead.max_concurrent",
            "stacks.payments.bulkhead",
            "stacks.search.per",
        ]
    );
    assert_eq!(registry.bulkhead("payments").unwrap().snapshot().limit, 2);
    assert_eq!((registry.generation(), registry.failed_reloads()), (1, 1));
    assert!(registry.stack("search").is_err());
    assert_eq!(
        seen.by_registry(),
        [(
            "registry".to_owned(),
            What::ReloadFailed {
                errors: errors.to_string().into()
            }
        )]
    );
}

#[test]
fn a_registry_of_settings_has_nothing_to_reload_from() {
    let error = registry(payments()).reload().unwrap_err();
    assert!(error.to_string().contains("`apply`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn thresholds_change_in_place_and_the_window_stays() {
    let registry = registry(payments());
    let stack = registry.stack("payments").unwrap();
    for _ in 0..3 {
        fail(&stack).await;
    }
    let lenient = StackConfig::new()
        .stage("circuit_breaker", breaker().minimum_calls(6))
        .stage("bulkhead", BulkheadConfig::new(9));

    let reload = registry
        .apply(Settings::new().stack("payments", lenient))
        .unwrap();

    assert_eq!(reload.changed, ["payments"]);
    assert!(reload.restacked.is_empty() && reload.emptied.is_empty());
    assert_eq!(registry.bulkhead("payments").unwrap().snapshot().limit, 9);
    for _ in 0..2 {
        fail(&stack).await;
    }
    let breaker = registry.circuit_breaker("payments").unwrap();
    assert_eq!((breaker.state(), breaker.snapshot().calls), (State::Closed, 5));
    fail(&stack).await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn another_shape_of_a_window_empties_it_and_says_so() {
    let registry = registry(payments());
    fail(&registry.stack("payments").unwrap()).await;
    let wider = StackConfig::new().stage("circuit_breaker", breaker().count_window(20));
    let reload = registry.apply(Settings::new().stack("payments", wider)).unwrap();
    assert_eq!(reload.emptied, ["payments/circuit_breaker"]);
    assert_eq!(registry.circuit_breaker("payments").unwrap().snapshot().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn settings_that_say_the_same_change_nothing() {
    let registry = registry(payments());
    let seen = Arc::new(Seen::default());
    registry.observe(&(Arc::clone(&seen) as Arc<dyn Observer>));
    let reload = registry
        .apply(Settings::new().stack("payments", payments()))
        .unwrap();
    assert!(reload.is_unchanged());
    assert_eq!(reload.generation, 2);
    let told = seen.0.lock().unwrap().clone();
    assert_eq!(
        told,
        [(
            PolicyKind::Registry,
            "registry".to_owned(),
            What::Reloaded { generation: 2 }
        )]
    );
}

#[tokio::test(start_paused = true)]
async fn stages_come_and_go_from_the_next_call_on() {
    let registry = registry(payments());
    let stack = registry.stack("payments").unwrap();
    let (release, released) = oneshot::channel::<()>();
    let mut released = Some(released);
    let under_way = tokio::spawn(stack.run(move || {
        let released = released.take();
        async move {
            released.unwrap().await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok::<_, io::Error>("late")
        }
    }));
    tokio::task::yield_now().await;
    assert_eq!(registry.bulkhead("payments").unwrap().snapshot().in_flight, 1);

    let timed = StackConfig::new()
        .stage("timeout", TimeoutConfig::new(Duration::from_secs(1)))
        .stage("circuit_breaker", breaker());
    let reload = registry.apply(Settings::new().stack("payments", timed)).unwrap();

    assert_eq!(reload.restacked, ["payments"]);
    let error = stack
        .run(std::future::pending::<Result<(), io::Error>>)
        .await
        .unwrap_err();
    assert_eq!(error.as_rejected().unwrap().kind(), RejectedKind::TimedOut);
    // The call from before has no timeout, and gives its slot back to the bulkhead that is gone.
    release.send(()).unwrap();
    assert_eq!(under_way.await.unwrap().unwrap(), "late");
    assert!(registry.bulkhead("payments").is_err());
    // Its success is recorded by the breaker that stayed.
    let counts = registry.circuit_breaker("payments").unwrap().snapshot();
    assert_eq!((counts.calls, counts.failed), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_keep_the_limits_that_they_began_with() {
    let timed = |limit| StackConfig::new().stage("timeout", TimeoutConfig::new(Duration::from_secs(limit)));
    let registry = registry(timed(10));
    let stack = registry.stack("payments").unwrap();
    let began = tokio::time::Instant::now();
    let under_way = tokio::spawn(stack.run(std::future::pending::<Result<(), io::Error>>));
    tokio::task::yield_now().await;
    registry
        .apply(Settings::new().stack("payments", timed(1)))
        .unwrap();
    stack
        .run(std::future::pending::<Result<(), io::Error>>)
        .await
        .unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    under_way.await.unwrap().unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_is_gone_from_the_settings_goes_on_and_says_so() {
    let registry = registry(payments());
    let seen = Arc::new(Seen::default());
    registry.observe(&(Arc::clone(&seen) as Arc<dyn Observer>));
    let reload = registry.apply(Settings::new()).unwrap();
    assert_eq!(reload.orphaned, ["payments"]);
    assert_eq!(seen.by_registry()[0], ("payments".to_owned(), What::Orphaned));
    assert!(registry.stacks()[0].orphaned);
    let stack = registry.stack("payments").unwrap();
    for _ in 0..4 {
        fail(&stack).await;
    }
    assert_eq!(registry.circuit_breaker("payments").unwrap().state(), State::Open);
    // It is told once, and comes back with its state.
    assert!(registry.apply(Settings::new()).unwrap().is_unchanged());
    registry
        .apply(Settings::new().stack("payments", payments()))
        .unwrap();
    assert!(!registry.stacks()[0].orphaned);
    assert_eq!(registry.circuit_breaker("payments").unwrap().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn names_of_predicates_mean_what_the_program_says_and_can_change() {
    let registry = Registry::builder()
        .predicate(
            "business",
            Predicate::error_if(|error: &io::Error| error.kind() == io::ErrorKind::Other),
        )
        .build(Settings::new().stack(
            "payments",
            StackConfig::new().stage("circuit_breaker", breaker().record("io").ignore("business")),
        ))
        .unwrap();
    let stack = registry.stack("payments").unwrap();
    fail(&stack).await;
    let breaker_handle = registry.circuit_breaker("payments").unwrap();
    assert_eq!(breaker_handle.snapshot().calls, 0);
    registry
        .apply(Settings::new().stack(
            "payments",
            StackConfig::new().stage("circuit_breaker", breaker().record("io")),
        ))
        .unwrap();
    fail(&stack).await;
    assert_eq!(breaker_handle.snapshot().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_only_ever_cloned_follows_the_settings() {
    let registry = registry(payments());
    let inner = service_fn(|(): ()| std::future::pending::<Result<(), BoxError>>());
    // As those in a router: each call is made by a clone of it.
    let original = registry.stack("payments").unwrap().once().layer(inner);
    for limit in 1..4 {
        let timed = StackConfig::new().stage("timeout", TimeoutConfig::new(Duration::from_secs(limit)));
        // Another list of stages each time.
        let timed = timed.stage(&format!("bulkhead_{limit}"), BulkheadConfig::new(1));
        registry.apply(Settings::new().stack("payments", timed)).unwrap();
        for _ in 0..2 {
            let began = tokio::time::Instant::now();
            original.clone().oneshot(()).await.unwrap_err();
            assert_eq!(began.elapsed(), Duration::from_secs(limit));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_polled_ready_makes_that_call_under_the_old_stages() {
    let registry = registry(StackConfig::new().stage("bulkhead", BulkheadConfig::new(1)));
    let inner = service_fn(|(): ()| std::future::ready(Ok::<_, BoxError>(())));
    let mut service = registry.stack("payments").unwrap().once().layer(inner);
    let bulkhead = registry.bulkhead("payments").unwrap();
    let slot = bulkhead.try_acquire().unwrap();
    // It is ready to refuse.
    Service::<()>::poll_ready(
        &mut service,
        &mut std::task::Context::from_waker(std::task::Waker::noop()),
    )
    .is_ready();
    registry
        .apply(Settings::new().stack(
            "payments",
            StackConfig::new().stage("timeout", TimeoutConfig::new(Duration::from_secs(1))),
        ))
        .unwrap();
    let error = service.call(()).await.unwrap_err();
    let rejected = buttress::find_rejected(&*error).unwrap();
    assert_eq!(rejected.kind(), RejectedKind::BulkheadFull);
    drop(slot);
    service.ready().await.unwrap().call(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_keep_their_state_and_take_other_settings() {
    let tenants = |minimum| {
        StackConfig::new()
            .stage("circuit_breaker", breaker().minimum_calls(minimum))
            .keyed("tenant", KeyedConfig::new().max_keys(2))
    };
    let registry = Registry::builder()
        .key("tenant")
        .build(Settings::new().stack("payments", tenants(4)))
        .unwrap();
    assert!(registry.stack("payments").is_err());
    let keyed = registry.keyed_stack("payments").unwrap();
    for _ in 0..3 {
        fail(&keyed.get("acme")).await;
    }
    let before = keyed.get("acme");

    registry
        .apply(Settings::new().stack("payments", tenants(5)))
        .unwrap();
    fail(&keyed.get("acme")).await;
    let (_, state) = keyed_state(&fail(&keyed.get("acme")).await);
    assert_eq!(state, None, "the fifth failure opens it");
    let (name, state) = keyed_state(&fail(&before).await);
    assert_eq!(
        (name.as_str(), state),
        ("payments/circuit_breaker[acme]", Some(RejectedKind::CircuitOpen))
    );

    // Another list of stages, for keys that are there and those to come, and for those that find no place.
    let full = tenants(5).stage("bulkhead", BulkheadConfig::new(1));
    let reload = registry.apply(Settings::new().stack("payments", full)).unwrap();
    assert_eq!(reload.restacked, ["payments"]);
    let (_, state) = keyed_state(&fail(&keyed.get("acme")).await);
    assert_eq!(state, Some(RejectedKind::CircuitOpen));
    for key in ["zeta", "no place", "none either"] {
        let stages = keyed.get(key);
        let names: Vec<String> = stages.stages().iter().map(|(_, name)| name.to_owned()).collect();
        let key = if key == "zeta" { key } else { "*" };
        assert_eq!(
            names,
            [
                format!("payments/circuit_breaker[{key}]"),
                format!("payments/bulkhead[{key}]")
            ]
        );
    }
}

fn keyed_state(error: &Error<io::Error>) -> (String, Option<RejectedKind>) {
    error.as_rejected().map_or((String::new(), None), |rejected| {
        (rejected.policy().to_owned(), Some(rejected.kind()))
    })
}

#[tokio::test(start_paused = true)]
async fn a_keyed_layer_of_a_registry_follows_the_settings() {
    let limited = |limit: u64| {
        StackConfig::new()
            .stage("timeout", TimeoutConfig::new(Duration::from_secs(limit)))
            .stage(&format!("bulkhead_{limit}"), BulkheadConfig::new(1))
            .keyed("authority", KeyedConfig::new())
    };
    let registry = registry(limited(1));
    let layer = KeyedLayer::stack(registry.keyed_stack("payments").unwrap(), |host: &String| {
        host.as_str().into()
    });
    let service = layer.layer(service_fn(|_: String| {
        std::future::pending::<Result<(), BoxError>>()
    }));
    for limit in [1, 5, 2] {
        registry
            .apply(Settings::new().stack("payments", limited(limit)))
            .unwrap();
        let began = tokio::time::Instant::now();
        service.clone().oneshot("a".to_owned()).await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::from_secs(limit));
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_ask_the_registry_while_it_reloads() {
    let registry = registry(payments());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (of, into) = (registry.clone(), Arc::clone(&asked));
    let observer: Arc<dyn Observer> = Arc::new(move |_: &Event| {
        into.lock().unwrap().push(of.stacks().len());
    });
    registry.observe(&observer);
    let other = payments().stage("timeout", TimeoutConfig::default());
    registry
        .apply(
            Settings::new()
                .stack("payments", other)
                .stack("search", payments()),
        )
        .unwrap();
    assert!(asked.lock().unwrap().contains(&2));
}

/// What a program may do to a stack while calls are under way.
#[derive(Clone, Debug)]
enum Act {
    Begin,
    /// The oldest call that is under way succeeds or fails.
    End(bool),
    /// The oldest call that is under way is dropped.
    Drop,
    Edit {
        limit: u32,
        breaker_outside: bool,
        timeouts: usize,
        consecutive: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Begin),
        2 => any::<bool>().prop_map(Act::End),
        1 => Just(Act::Drop),
        3 => (1_u32..6, any::<bool>(), 0_usize..3, any::<bool>()).prop_map(
            |(limit, breaker_outside, timeouts, consecutive)| Act::Edit { limit, breaker_outside, timeouts, consecutive }
        ),
    ]
}

fn edited(limit: u32, breaker_outside: bool, timeouts: usize, consecutive: bool) -> Settings {
    let mut breaker = CircuitBreakerConfig::new().count_window(1000).minimum_calls(1000);
    if consecutive {
        breaker = breaker.consecutive_failures(1000);
    }
    let mut stages = vec![
        buttress::StageConfig::new("circuit_breaker", breaker),
        buttress::StageConfig::new("bulkhead", BulkheadConfig::new(limit)),
    ];
    if !breaker_outside {
        stages.reverse();
    }
    for at in 0..timeouts {
        let timeout = TimeoutConfig::new(Duration::from_secs(3600));
        stages.insert(at, buttress::StageConfig::new(&format!("timeout_{at}"), timeout));
    }
    let mut stack = StackConfig::new();
    stack.stages = stages;
    Settings::new().stack("payments", stack)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_under_load_lose_no_permit_and_no_window(acts in prop::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let registry = Registry::builder().build(edited(2, true, 0, false)).unwrap();
            let (stack, bulkhead, breaker) = (
                registry.stack("payments").unwrap(),
                registry.bulkhead("payments").unwrap(),
                registry.circuit_breaker("payments").unwrap(),
            );
            let mut limit = 2;
            let (mut recorded, mut failed) = (0, 0);
            let mut under_way = std::collections::VecDeque::new();
            for act in acts {
                match act {
                    Act::Begin => {
                        let (end, ended) = oneshot::channel::<bool>();
                        let mut ended = Some(ended);
                        let call = tokio::spawn(stack.run(move || {
                            let ended = ended.take();
                            async move {
                                match ended.unwrap().await {
                                    Ok(true) => Ok(()),
                                    _ => Err(io::Error::other("down")),
                                }
                            }
                        }));
                        tokio::task::yield_now().await;
                        let full = under_way.len() >= limit as usize;
                        assert_eq!(call.is_finished(), full, "{} of {limit} under way", under_way.len());
                        if !full {
                            under_way.push_back((end, call));
                        }
                    }
                    Act::End(succeeds) => {
                        if let Some((end, call)) = under_way.pop_front() {
                            end.send(succeeds).unwrap();
                            assert_eq!(call.await.unwrap().is_ok(), succeeds);
                            recorded += 1;
                            failed += u64::from(!succeeds);
                        }
                    }
                    Act::Drop => {
                        if let Some((_end, call)) = under_way.pop_front() {
                            call.abort();
                            assert!(call.await.unwrap_err().is_cancelled());
                        }
                    }
                    Act::Edit { limit: new, breaker_outside, timeouts, consecutive } => {
                        let reload = registry.apply(edited(new, breaker_outside, timeouts, consecutive)).unwrap();
                        assert!(reload.emptied.is_empty());
                        limit = new;
                    }
                }
                assert_eq!(bulkhead.snapshot().in_flight as usize, under_way.len());
                assert_eq!(bulkhead.snapshot().limit, limit);
                let counts = breaker.snapshot();
                assert_eq!((counts.calls, counts.failed), (recorded, failed));
            }
            drop(under_way);
        });
    }
}

#[test]
fn a_clock_of_the_program_moves_all_policies() {
    let (clock, hand) = Clock::manual();
    let registry = Registry::builder()
        .clock(clock)
        .build(Settings::new().stack(
            "payments",
            StackConfig::new().stage("circuit_breaker", breaker().open_wait(Duration::from_secs(5))),
        ))
        .unwrap();
    let breaker = registry.circuit_breaker("payments").unwrap();
    breaker.open();
    assert!(breaker.try_acquire().is_err());
    hand.advance(Duration::from_secs(6));
    assert!(breaker.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_registry_loads_its_settings_anew() {
    let limit = Arc::new(Mutex::new(3));
    let loaded = Arc::clone(&limit);
    let registry = Registry::builder()
        .build_from(move |_| match *loaded.lock().unwrap() {
            0 => Err(buttress::Issue::error("stacks", "the disk is gone").into()),
            limit => Ok(Settings::new().stack(
                "payments",
                StackConfig::new().stage("bulkhead", BulkheadConfig::new(limit)),
            )),
        })
        .unwrap();
    let bulkhead = registry.bulkhead("payments").unwrap();
    *limit.lock().unwrap() = 5;
    assert_eq!(registry.reload().unwrap().changed, ["payments"]);
    assert_eq!(bulkhead.snapshot().limit, 5);
    *limit.lock().unwrap() = 0;
    assert_eq!(
        registry.reload().unwrap_err().to_string(),
        "stacks: the disk is gone"
    );
    assert_eq!((bulkhead.snapshot().limit, registry.failed_reloads()), (5, 1));
    *limit.lock().unwrap() = 6;
    registry.reload().unwrap();
    assert_eq!((bulkhead.snapshot().limit, registry.generation()), (6, 3));
}

#[tokio::test(start_paused = true)]
async fn a_retry_by_name_repeats_what_its_list_names() {
    let registry =
        registry(StackConfig::new().stage("retry", RetryConfig::new().on("reset").max_attempts(3)));
    let stack = registry.stack("payments").unwrap();
    for (kind, attempts) in [(io::ErrorKind::ConnectionReset, 3), (io::ErrorKind::Other, 1)] {
        let made = Arc::new(Mutex::new(0));
        let count = Arc::clone(&made);
        let result: Result<Infallible, _> = stack
            .run(move || {
                *count.lock().unwrap() += 1;
                std::future::ready(Err(io::Error::from(kind)))
            })
            .await;
        result.unwrap_err();
        assert_eq!(*made.lock().unwrap(), attempts, "{kind}");
    }
}
