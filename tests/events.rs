//! Events as streams: what is told, to whom, and what a slow reader loses.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, Clock, Event, EventKind, EventKinds, Events,
    KeyedConfig, Observer, Registry, RetryConfig, Settings, Stack, StackConfig, State, Subscribe,
    TimeoutConfig, What,
};

fn breaker() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().count_window(10).minimum_calls(4)
}

fn payments() -> StackConfig {
    StackConfig::new()
        .stage("circuit_breaker", breaker())
        .stage("bulkhead", BulkheadConfig::new(2))
}

fn registry() -> Registry {
    let search = StackConfig::new().stage("circuit_breaker", breaker());
    let tenants = StackConfig::new()
        .stage("circuit_breaker", breaker())
        .keyed("tenant", KeyedConfig::new());
    let settings = Settings::new()
        .stack("payments", payments())
        .stack("search", search)
        .stack("tenants", tenants);
    Registry::builder().key("tenant").build(settings).unwrap()
}

/// What is there by now: names and texts.
fn read(events: &mut Events) -> Vec<(String, String)> {
    let all = std::iter::from_fn(|| events.try_recv());
    all.map(|told| (told.event.name.to_string(), told.event.what.to_string()))
        .collect()
}

fn names(events: &mut Events) -> Vec<String> {
    read(events).into_iter().map(|(name, _)| name).collect()
}

fn fail(breaker: &CircuitBreaker) {
    breaker.try_acquire().unwrap().failure();
}

#[test]
fn a_slow_reader_loses_the_oldest_and_learns_how_many() {
    let breaker = breaker().build("payments").unwrap();
    let mut events = breaker.subscribe(Subscribe::new().capacity(4));
    for _ in 0..5 {
        breaker.force_open();
        breaker.close();
    }
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv()).collect();
    let numbers: Vec<_> = told.iter().map(|told| (told.seq, told.lost)).collect();
    assert_eq!(numbers, [(7, 6), (8, 0), (9, 0), (10, 0)]);
    breaker.force_open();
    let next = events.try_recv().unwrap();
    assert_eq!((next.seq, next.lost), (11, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_the_next_and_learns_of_the_end() {
    let breaker = breaker().build("payments").unwrap();
    let mut events = breaker.subscribe(EventKind::Transition);
    let handle = breaker.clone();
    let teller = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        handle.force_open();
    });
    let told = events.recv().await.unwrap();
    assert_eq!(
        told.event.what,
        What::Transition {
            from: State::Closed,
            to: State::ForcedOpen,
            cause: None
        }
    );
    teller.await.unwrap();
    drop(breaker);
    assert!(events.recv().await.is_none(), "nobody is left to tell anything");
}

#[test]
fn by_default_an_open_breaker_under_load_fills_no_stream() {
    let breaker = breaker().build("payments").unwrap();
    let mut events = breaker.subscribe(Subscribe::default());
    let mut all = breaker.subscribe(Subscribe::new().kinds(EventKinds::all()).capacity(1 << 16));
    for _ in 0..4 {
        fail(&breaker);
    }
    for _ in 0..10_000 {
        breaker.try_acquire().unwrap_err();
    }
    assert_eq!(
        read(&mut events),
        [(
            "payments".to_owned(),
            "closed to open: failure rate 100 % of 4 calls".to_owned()
        )]
    );
    assert_eq!(read(&mut all).len(), 4 + 1 + 10_000);
}

/// Counts what it is told, and wants transitions alone.
#[derive(Default)]
struct Transitions(AtomicU32);

impl Observer for Transitions {
    fn on_event(&self, event: &Event) {
        assert_eq!(event.what.kind(), EventKind::Transition);
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn kinds(&self) -> EventKinds {
        EventKind::Transition.into()
    }
}

#[test]
fn an_observer_is_told_what_it_wants_beside_one_that_wants_all() {
    let breaker = breaker().build("payments").unwrap();
    let (few, all) = (Arc::new(Transitions::default()), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&all);
    breaker.observe(Arc::clone(&few) as Arc<dyn Observer>);
    breaker.observe(Arc::new(move |event: &Event| {
        seen.lock().unwrap().push(event.what.kind());
    }));
    fail(&breaker);
    breaker.reconfigure(&self::breaker().minimum_calls(1)).unwrap();
    fail(&breaker);
    assert_eq!(few.0.load(Ordering::Relaxed), 1);
    let kinds = [
        EventKind::Recorded,
        EventKind::Reconfigured,
        EventKind::Transition,
        EventKind::Recorded,
    ];
    assert_eq!(*all.lock().unwrap(), kinds);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_tells_what_calls_do_where_it_asks_for_that() {
    let stack = StackConfig::new()
        .stage("retry", RetryConfig::new().max_attempts(2))
        .stage("timeout", TimeoutConfig::new(Duration::from_secs(1)));
    let registry = Registry::builder()
        .build(Settings::new().stack("payments", stack))
        .unwrap();
    let mut events = registry.subscribe(EventKinds::per_call());
    let call = registry
        .stack("payments")
        .unwrap()
        .run(|| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok::<_, io::Error>(())
        })
        .await;
    assert!(call.is_err());
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_recv())
        .map(|told| told.event.what.kind())
        .collect();
    let attempt = EventKind::Rejected;
    assert_eq!(kinds, [attempt, EventKind::Retrying, attempt, EventKind::GaveUp]);
}

#[test]
fn a_subscription_to_a_name_tells_of_that_name_alone() {
    let registry = registry();
    let mut stack = registry.subscribe_to("payments", EventKinds::all()).unwrap();
    let mut policy = registry
        .subscribe_to("payments/circuit_breaker", EventKinds::all())
        .unwrap();
    let mut all = registry.subscribe(EventKinds::all());
    registry.circuit_breaker("payments").unwrap().force_open();
    registry.circuit_breaker("search").unwrap().force_open();
    registry.bulkhead("payments").unwrap().resize(3).unwrap();
    assert_eq!(
        names(&mut stack),
        ["payments/circuit_breaker", "payments/bulkhead"]
    );
    assert_eq!(names(&mut policy), ["payments/circuit_breaker"]);
    assert_eq!(names(&mut all).len(), 3);

    let error = registry.subscribe_to("payment", EventKinds::all()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no stack or policy `payment`: there is `payments`, `search`, `tenants`"
    );
}

#[tokio::test]
async fn a_subscription_to_keyed_policies_tells_of_all_keys_also_of_later_ones() {
    let keyed = KeyedConfig::new()
        .build(breaker().build("tenants").unwrap())
        .unwrap();
    keyed.get("early").force_open();
    let mut events = keyed.subscribe(EventKind::Transition);
    keyed.get("early").close();
    keyed.get("late").force_open();
    assert_eq!(
        read(&mut events),
        [
            ("tenants[early]", "forced_open to closed"),
            ("tenants[late]", "closed to forced_open"),
        ]
        .map(|(name, what)| (name.to_owned(), what.to_owned()))
    );
    // It may go, and the keys tell others or nobody.
    let mut other = keyed.subscribe(EventKind::Transition);
    drop(events);
    keyed.get("late").close();
    assert_eq!(names(&mut other), ["tenants[late]"]);

    let stack = Stack::builder()
        .circuit_breaker(breaker().build("tenants").unwrap())
        .build()
        .unwrap();
    let stacks = KeyedConfig::new().build_stack(stack).unwrap();
    let mut events = stacks.subscribe(EventKind::Transition);
    for _ in 0..4 {
        let fails = async || Err::<(), _>(io::Error::other("no"));
        stacks.get("acme").run(fails).await.unwrap_err();
    }
    assert_eq!(names(&mut events), ["tenants[acme]"]);
}

#[test]
fn the_registrys_own_events_reach_those_who_subscribed_to_all_or_to_that_stack() {
    let registry = registry();
    let mut all = registry.subscribe(Subscribe::default());
    let mut payments = registry.subscribe_to("payments", Subscribe::default()).unwrap();
    let mut search = registry.subscribe_to("search", Subscribe::default()).unwrap();
    let mut settings = (*registry.settings()).clone();
    settings.stacks.remove("payments");
    registry.apply(settings).unwrap();
    assert_eq!(names(&mut all), ["payments", "registry"]);
    assert_eq!(names(&mut payments), ["payments"]);
    assert_eq!(names(&mut search), [""; 0]);
}

#[test]
fn keys_and_stages_that_come_later_are_told_of_too() {
    let registry = registry();
    let mut all = registry.subscribe(EventKind::Transition);
    let mut tenants = registry
        .subscribe_to("tenants/circuit_breaker", EventKind::Transition)
        .unwrap();
    let mut acme = registry
        .subscribe_to("tenants/circuit_breaker[acme]", EventKind::Transition)
        .unwrap();
    let keyed = registry.keyed_stack("tenants").unwrap();
    keyed.get("acme");
    keyed.get("umbrella");
    for key in ["acme", "umbrella"] {
        let name = format!("tenants/circuit_breaker[{key}]");
        registry.circuit_breaker(&name).unwrap().force_open();
    }
    let both = [
        "tenants/circuit_breaker[acme]",
        "tenants/circuit_breaker[umbrella]",
    ];
    assert_eq!(names(&mut all), both);
    assert_eq!(names(&mut tenants), both);
    assert_eq!(names(&mut acme), [both[0]]);

    let mut settings = (*registry.settings()).clone();
    let more = payments().stage("inner", breaker());
    settings.stacks.insert("payments".to_owned(), more);
    registry.apply(settings).unwrap();
    registry.circuit_breaker("payments/inner").unwrap().force_open();
    assert_eq!(names(&mut all), ["payments/inner"]);
}

#[test]
fn who_subscribes_after_a_keyed_stack_was_given_another_stage_is_told_of_it() {
    let registry = registry();
    let mut settings = (*registry.settings()).clone();
    let tenants = settings.stacks.get_mut("tenants").unwrap();
    *tenants = tenants.clone().stage("inner", breaker());
    registry.apply(settings).unwrap();
    let mut events = registry.subscribe(EventKind::Transition);
    registry.keyed_stack("tenants").unwrap().get("acme");
    registry
        .circuit_breaker("tenants/inner[acme]")
        .unwrap()
        .force_open();
    assert_eq!(names(&mut events), ["tenants/inner[acme]"]);
}

#[test]
fn subscriptions_may_come_and_go_while_settings_do() {
    let registry = registry();
    let stop = Arc::new(AtomicU32::new(0));
    let reloads = {
        let (registry, stop) = (registry.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let with = (*registry.settings()).clone();
            let mut without = with.clone();
            let search = without.stacks.get_mut("search").unwrap();
            *search = search.clone().stage("inner", breaker());
            while stop.load(Ordering::Relaxed) == 0 {
                registry.apply(without.clone()).unwrap();
                registry.apply(with.clone()).unwrap();
            }
        })
    };
    for _ in 0..200 {
        let mut events = registry.subscribe(EventKind::Transition);
        let breaker = registry.circuit_breaker("search/circuit_breaker").unwrap();
        breaker.force_open();
        assert!(names(&mut events).contains(&"search/circuit_breaker".to_owned()));
        breaker.close();
    }
    stop.store(1, Ordering::Relaxed);
    reloads.join().unwrap();
}

#[test]
fn a_manual_clock_does_not_move_the_time_of_day() {
    let (clock, hand) = Clock::manual();
    let breaker = breaker().clock(clock).build("payments").unwrap();
    let mut events = breaker.subscribe(Subscribe::default());
    breaker.force_open();
    hand.advance(Duration::from_secs(86_400 * 365));
    breaker.close();
    let (first, second) = (events.try_recv().unwrap(), events.try_recv().unwrap());
    let apart = second.at.duration_since(first.at).unwrap_or_default();
    assert!(apart < Duration::from_secs(3_600), "{apart:?}");
}
