//! Commands with who, why and for how long, and what time makes due without being asked.

use std::{io, sync::Arc, time::Duration};

use buttress::{
    BoxError, BulkheadConfig, By, CircuitBreakerConfig, Clock, Command, CommandError, Event, EventKind,
    Events, KeyedConfig, Registry, Settings, StackConfig, State, StayEnd, Subscribe, TimeoutConfig, What,
};
use tokio::time::sleep;

fn breaker() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().count_window(10).minimum_calls(4)
}

fn payments() -> StackConfig {
    StackConfig::new()
        .stage("circuit_breaker", breaker())
        .stage("bulkhead", BulkheadConfig::new(8))
}

fn registry() -> Registry {
    let tenants = payments().keyed("tenant", KeyedConfig::new());
    let settings = Settings::new()
        .stack("payments", payments())
        .stack("tenants", tenants);
    Registry::builder().key("tenant").build(settings).unwrap()
}

fn anna() -> By {
    By::new("anna", "the upstream is being moved")
}

#[allow(clippy::unnecessary_wraps, reason = "a time to live may be none")]
fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn state(registry: &Registry) -> State {
    registry.circuit_breaker("payments").unwrap().state()
}

fn texts(events: &mut Events) -> Vec<String> {
    std::iter::from_fn(|| events.try_recv())
        .map(|told| told.event.to_string())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_command_brings_its_state() {
    let registry = registry();
    for (command, expected) in [
        (Command::ForceOpen, State::ForcedOpen),
        (Command::Disable, State::Disabled),
        (Command::MetricsOnly, State::MetricsOnly),
        (Command::Open, State::Open),
        (Command::HalfOpen, State::HalfOpen),
        (Command::Close, State::Closed),
        (Command::Reset, State::Closed),
    ] {
        let done = registry.command("payments", command, anna(), None).unwrap();
        assert_eq!(&*done.name, "payments/circuit_breaker");
        assert_eq!(state(&registry), expected, "{command}");
    }
    let resize = Command::Resize { max_concurrent: 3 };
    registry
        .command("payments/bulkhead", resize, anna(), None)
        .unwrap();
    assert_eq!(registry.bulkhead("payments").unwrap().snapshot().limit, 3);
}

#[tokio::test(start_paused = true)]
async fn a_command_is_told_with_who_what_and_why() {
    let registry = registry();
    let mut events = registry.subscribe(Subscribe::default());
    let mut of_handle = registry
        .circuit_breaker("payments")
        .unwrap()
        .subscribe(EventKind::Commanded);
    registry
        .command("payments", Command::ForceOpen, anna(), seconds(300))
        .unwrap();
    let commanded = "circuit breaker `payments/circuit_breaker`: commanded: force_open for 300s, by anna: the upstream is being moved";
    assert_eq!(
        texts(&mut events),
        [
            commanded,
            "circuit breaker `payments/circuit_breaker`: closed to forced_open"
        ]
    );
    assert_eq!(texts(&mut of_handle), [commanded]);
}

#[tokio::test(start_paused = true)]
async fn after_its_time_to_live_an_override_ends_and_the_breaker_closes() {
    let registry = registry();
    registry.spawn_housekeeping();
    let mut events = registry.subscribe(EventKind::OverrideEnded);
    for command in [Command::ForceOpen, Command::Disable, Command::MetricsOnly] {
        registry
            .command("payments", command, anna(), seconds(30))
            .unwrap();
        sleep(Duration::from_secs(29)).await;
        assert_ne!(state(&registry), State::Closed, "{command}");
        sleep(Duration::from_secs(2)).await;
        assert_eq!(state(&registry), State::Closed, "{command}");
        assert_eq!(
            texts(&mut events),
            [format!(
                "circuit breaker `payments/circuit_breaker`: command over (expired): {command}, by anna: the upstream is being moved"
            )]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_override_that_was_left_otherwise_ends_without_touching_the_breaker() {
    let registry = registry();
    registry.spawn_housekeeping();
    let mut events = registry.subscribe(EventKind::OverrideEnded);
    registry
        .command("payments", Command::ForceOpen, anna(), seconds(30))
        .unwrap();
    // By the handle: into the same state anew, which is not what the command brought about.
    registry.circuit_breaker("payments").unwrap().force_open();
    sleep(Duration::from_secs(2)).await;
    let told = texts(&mut events);
    assert!(told.len() == 1 && told[0].contains("(left)"), "{told:?}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(state(&registry), State::ForcedOpen);
    assert_eq!(texts(&mut events), [""; 0]);
}

#[test]
fn what_is_over_and_was_left_at_once_is_not_touched() {
    let (clock, hand) = Clock::manual();
    let registry = Registry::builder()
        .clock(clock)
        .build(Settings::new().stack("payments", payments()))
        .unwrap();
    let mut events = registry.subscribe(EventKind::OverrideEnded);
    let resize = Command::Resize { max_concurrent: 2 };
    for command in [Command::ForceOpen, resize] {
        registry
            .command("payments", command, anna(), seconds(30))
            .unwrap();
    }
    hand.advance(Duration::from_secs(31));
    registry.circuit_breaker("payments").unwrap().disable();
    registry.bulkhead("payments").unwrap().resize(3).unwrap();
    registry.tick();
    assert_eq!(state(&registry), State::Disabled);
    assert_eq!(registry.bulkhead("payments").unwrap().snapshot().limit, 3);
    let told = texts(&mut events);
    assert!(told.iter().all(|text| text.contains("(left)")), "{told:?}");
    assert_eq!(told.len(), 2);
}

#[test]
fn an_override_of_a_policy_that_is_gone_from_its_stack_is_over() {
    let registry = registry();
    let mut events = registry.subscribe(Subscribe::default());
    let resize = Command::Resize { max_concurrent: 2 };
    let bulkhead = registry.bulkhead("payments").unwrap();
    registry.command("payments", resize, anna(), seconds(30)).unwrap();
    let mut settings = (*registry.settings()).clone();
    settings.stacks.get_mut("payments").unwrap().stages.pop();
    registry.apply(settings).unwrap();
    registry.tick();
    // Its policy's own events still reach who subscribed while it was there.
    let told = texts(&mut events);
    assert!(told.last().unwrap().contains("command over (left)"), "{told:?}");
    assert_eq!(bulkhead.snapshot().limit, 2);
}

/// Where two commands meet, the one that the policy obeyed last stands, also when the other is noted later.
#[test]
fn a_command_that_comes_while_another_is_carried_out_stands() {
    let (clock, hand) = Clock::manual();
    let registry = Registry::builder()
        .clock(clock)
        .build(Settings::new().stack("payments", payments()))
        .unwrap();
    let weak = registry.clone();
    registry
        .circuit_breaker("payments")
        .unwrap()
        .observe(Arc::new(move |event: &Event| {
            let forced = matches!(
                event.what,
                What::Transition {
                    to: State::ForcedOpen,
                    ..
                }
            );
            if forced {
                let by = By::new("ben", "no, let it pass");
                weak.command("payments", Command::Disable, by, seconds(30))
                    .unwrap();
            }
        }));
    registry
        .command("payments", Command::ForceOpen, anna(), seconds(600))
        .unwrap();
    assert_eq!(state(&registry), State::Disabled);
    hand.advance(Duration::from_secs(31));
    registry.tick();
    assert_eq!(state(&registry), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_later_command_takes_the_place_of_an_override() {
    let registry = registry();
    registry.spawn_housekeeping();
    let mut events = registry.subscribe(EventKind::OverrideEnded);
    registry
        .command("payments", Command::ForceOpen, anna(), seconds(30))
        .unwrap();
    registry
        .command(
            "payments",
            Command::ForceOpen,
            By::new("ben", "longer"),
            seconds(90),
        )
        .unwrap();
    let told = texts(&mut events);
    assert!(
        told.len() == 1 && told[0].contains("(replaced): force_open, by anna"),
        "{told:?}"
    );
    sleep(Duration::from_secs(60)).await;
    assert_eq!(state(&registry), State::ForcedOpen);
    registry
        .command("payments", Command::Close, By::new("ben", "done"), None)
        .unwrap();
    let told = texts(&mut events);
    assert!(
        told.len() == 1 && told[0].contains("(replaced): force_open, by ben"),
        "{told:?}"
    );
    registry
        .command("payments", Command::Disable, By::new("ben", "for good"), None)
        .unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(state(&registry), State::Disabled, "it was given no time");
    assert_eq!(texts(&mut events), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_goes_back_to_the_limit_of_its_settings() {
    let registry = registry();
    registry.spawn_housekeeping();
    let limit = || registry.bulkhead("payments").unwrap().snapshot().limit;
    for max_concurrent in [2, 5] {
        registry
            .command(
                "payments",
                Command::Resize { max_concurrent },
                anna(),
                seconds(10),
            )
            .unwrap();
        assert_eq!(limit(), max_concurrent);
    }
    sleep(Duration::from_secs(12)).await;
    assert_eq!(limit(), 8);

    registry
        .command(
            "payments",
            Command::Resize { max_concurrent: 5 },
            anna(),
            seconds(10),
        )
        .unwrap();
    registry.bulkhead("payments").unwrap().resize(6).unwrap();
    sleep(Duration::from_secs(12)).await;
    assert_eq!(limit(), 6, "somebody else resized it meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_key_can_be_commanded_alone() {
    let registry = registry();
    registry.spawn_housekeeping();
    let keyed = registry.keyed_stack("tenants").unwrap();
    keyed.get("acme");
    keyed.get("umbrella");
    let name = "tenants/circuit_breaker[acme]";
    registry
        .command(name, Command::ForceOpen, anna(), seconds(5))
        .unwrap();
    let state = |key: &str| {
        let name = format!("tenants/circuit_breaker[{key}]");
        registry.circuit_breaker(&name).unwrap().state()
    };
    assert_eq!(
        (state("acme"), state("umbrella")),
        (State::ForcedOpen, State::Closed)
    );
    let resize = Command::Resize { max_concurrent: 1 };
    registry
        .command("tenants/bulkhead[acme]", resize, anna(), seconds(5))
        .unwrap();
    sleep(Duration::from_secs(7)).await;
    assert_eq!(state("acme"), State::Closed);
    let bulkhead = registry.bulkhead("tenants/bulkhead[acme]").unwrap();
    assert_eq!(bulkhead.snapshot().limit, 8);

    let overflow = "tenants/circuit_breaker[*]";
    registry
        .command(overflow, Command::Disable, anna(), None)
        .unwrap();
    assert_eq!(state("*"), State::Disabled);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_commanded_is_refused_with_its_field_and_changes_nothing() {
    let registry = registry();
    let mut events = registry.subscribe(Subscribe::default());
    let field = |name: &str, command, by, ttl| match registry.command(name, command, by, ttl) {
        Err(CommandError::Refused(error)) => error.field().to_owned(),
        other => panic!("{other:?}"),
    };
    let open = Command::ForceOpen;
    assert_eq!(field("payments", open, By::new("anna", " "), None), "reason");
    assert_eq!(field("payments", open, By::new("", "why"), None), "label");
    assert_eq!(field("payments", open, anna(), seconds(0)), "ttl");
    assert_eq!(field("payments", Command::Close, anna(), seconds(9)), "ttl");
    let resize = Command::Resize { max_concurrent: 0 };
    assert_eq!(field("payments", resize, anna(), None), "max_concurrent");
    for unknown in [
        "payment",
        "tenants",
        "tenants/circuit_breaker",
        "tenants/circuit_breaker[nobody]",
        "payments/bulkhead",
        "",
    ] {
        let error = registry.command(unknown, open, anna(), None).unwrap_err();
        assert!(matches!(error, CommandError::NotFound(_)), "{unknown}: {error}");
    }
    assert_eq!(texts(&mut events), [""; 0]);
    assert_eq!(state(&registry), State::Closed);
}

#[test]
fn a_reload_by_command_says_who_and_what_came_of_it() {
    let registry = Registry::builder()
        .build_from(|_| Ok(Settings::new().stack("payments", payments())))
        .unwrap();
    let mut events = registry.subscribe(Subscribe::default());
    let done = registry
        .command("registry", Command::Reload, anna(), None)
        .unwrap();
    assert_eq!(done.reload.map(|reload| reload.generation), Some(2));
    assert_eq!(
        texts(&mut events),
        [
            "registry `registry`: commanded: reload, by anna: the upstream is being moved",
            "registry `registry`: took settings number 2"
        ]
    );
    let elsewhere = registry.command("payments", Command::Reload, anna(), None);
    assert!(matches!(elsewhere, Err(CommandError::NotFound(_))));
    let without = self::registry().command("registry", Command::Reload, anna(), None);
    assert!(matches!(without, Err(CommandError::Reload(_))));
}

#[tokio::test(start_paused = true)]
async fn housekeeping_makes_the_transitions_that_time_makes_due() {
    let overstays = breaker().max_half_open_stay(Duration::from_secs(20), StayEnd::Close);
    let stack = StackConfig::new().stage("circuit_breaker", overstays);
    let registry = Registry::builder()
        .key("tenant")
        .build(
            Settings::new()
                .stack("payments", stack.clone())
                .stack("tenants", stack.keyed("tenant", KeyedConfig::new())),
        )
        .unwrap();
    let housekeeping = registry.spawn_housekeeping();
    registry.keyed_stack("tenants").unwrap().get("acme");
    let mut events = registry.subscribe(EventKind::Transition);
    for name in ["payments", "tenants/circuit_breaker[acme]"] {
        registry.circuit_breaker(name).unwrap().half_open();
    }
    events.recv().await.unwrap();
    events.recv().await.unwrap();
    sleep(Duration::from_secs(22)).await;
    // Nobody asked the breakers.
    let told = texts(&mut events);
    assert_eq!(
        told,
        [
            "circuit breaker `payments/circuit_breaker`: half_open to closed",
            "circuit breaker `tenants/circuit_breaker[acme]`: half_open to closed"
        ]
    );
    drop(registry);
    sleep(Duration::from_secs(2)).await;
    assert!(housekeeping.is_finished(), "it keeps no registry alive");
    housekeeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rejections_are_told_at_once_then_after_ten_seconds_then_every_minute() {
    let registry = registry();
    registry.spawn_housekeeping();
    sleep(Duration::from_millis(1_500)).await;
    let mut events = registry.subscribe(Subscribe::default());
    let breaker = registry.circuit_breaker("payments").unwrap();
    breaker.force_open();
    texts(&mut events);
    for _ in 0..1_400 {
        for _ in 0..40 {
            breaker.try_acquire().unwrap_err();
        }
        sleep(Duration::from_millis(100)).await;
    }
    let told = texts(&mut events);
    let about = |text: &str| text.contains("forced open by command");
    assert!(told.iter().all(|text| about(text)), "{told:?}");
    let counts: Vec<u32> = told.iter().map(|text| count(text)).collect();
    // At 400 a second.
    assert!(
        matches!(counts[..], [first, second, third, fourth] if first <= 400
            && (3_900..=4_100).contains(&second)
            && (23_900..=24_100).contains(&third)
            && (23_900..=24_100).contains(&fourth)),
        "{told:?}"
    );

    // What is left comes when its minute is over, and then there is nothing more to tell.
    sleep(Duration::from_secs(200)).await;
    let rest = texts(&mut events);
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(counts.iter().sum::<u32>() + count(&rest[0]), 56_000);

    // After a pause they are news again.
    breaker.try_acquire().unwrap_err();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(texts(&mut events).len(), 1);
    breaker.try_acquire().unwrap_err();
    sleep(Duration::from_secs(9)).await;
    assert_eq!(texts(&mut events), [""; 0]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(texts(&mut events).len(), 1);
}

fn count(text: &str) -> u32 {
    let rest = text.split("rejected ").nth(1).unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn rejections_of_keys_are_told_together_and_timeouts_count() {
    let stack = payments().stage("timeout", TimeoutConfig::new(Duration::from_millis(10)));
    let registry = Registry::builder()
        .key("tenant")
        .build(Settings::new().stack("tenants", stack.keyed("tenant", KeyedConfig::new())))
        .unwrap();
    let keyed = registry.keyed_stack("tenants").unwrap();
    let mut events = registry.subscribe(EventKind::Rejections);
    for (key, times) in [("acme", 3), ("umbrella", 4)] {
        let stack = keyed.get(key);
        for _ in 0..times {
            let slow = async || {
                sleep(Duration::from_secs(1)).await;
                Ok::<_, io::Error>(())
            };
            let _: Result<(), _> = stack.run(slow).await.map_err(BoxError::from);
        }
        let name = format!("tenants/circuit_breaker[{key}]");
        let breaker = registry.circuit_breaker(&name).unwrap();
        breaker.force_open();
        for _ in 0..times {
            breaker.try_acquire().unwrap_err();
        }
    }
    registry.tick();
    assert_eq!(
        texts(&mut events),
        [
            "circuit breaker `tenants/circuit_breaker`: rejected 7 calls in 70.0ms: forced open by command",
            "timeout `tenants/timeout`: rejected 7 calls in 70.0ms: not done within 10ms"
        ]
    );
}
