//! Group 7: a million calls through an outage and back.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ::buttress::{
    CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer, Clock, ClockHand, Event, Observer, State, What,
};
use tower::{Layer, Service};

use crate::{
    effort::Effort,
    guards::buttress,
    meter::Meter,
    report::{Line, Spread, compare},
    rounds::task,
    services::Ailing,
};

pub(crate) const NAME: &str = "outage";

const CALLS: u64 = 1_000_000;
/// Between two calls, so that all take ten seconds.
const STEP: Duration = Duration::from_micros(10);
/// The inner service fails from this call to that one.
const SICK: std::ops::Range<u64> = 300_000..500_000;

/// What happened, in order.
const COURSE: [State; 4] = [State::Closed, State::Open, State::HalfOpen, State::Closed];

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    let rounds = effort.rounds(31);
    let mut lines = vec![
        repeated("bare", rounds, || (Ailing::new(SICK), Clock::manual().1)),
        guarded("buttress/outage-count", rounds, buttress::count_config),
        guarded("buttress/outage-time", rounds, || {
            buttress::count_config().time_window(Duration::from_secs(2))
        }),
        guarded("buttress/outage-slow", rounds, buttress::slow_config),
    ];
    compare(&mut lines);
    lines
}

fn guarded(name: &str, rounds: usize, config: fn() -> CircuitBreakerConfig) -> Line {
    let seen = course(config());
    assert_eq!(seen, COURSE, "{name} takes another course");
    let line = repeated(name, rounds, || {
        let (breaker, hand) = manual(config());
        (CircuitBreakerLayer::new(breaker).layer(Ailing::new(SICK)), hand)
    });
    let total = line.ns().unwrap_or(f64::NAN) * CALLS as f64 / 1e6;
    line.note(format!("{total:.1} ms in all, {} transitions", seen.len() - 1))
}

fn manual(config: CircuitBreakerConfig) -> (CircuitBreaker, ClockHand) {
    let (clock, hand) = Clock::manual();
    (config.clock(clock).build("bench").unwrap(), hand)
}

fn repeated<S: Service<u64>>(name: &str, rounds: usize, build: impl Fn() -> (S, ClockHand)) -> Line {
    let times = (0..rounds)
        .map(|_| {
            let (service, hand) = build();
            let mut meter = Meter::time();
            meter.of(|| go(service, &hand));
            match meter {
                Meter::Time(time) => time.as_nanos() as f64 / CALLS as f64,
                Meter::Heap(_) => f64::NAN,
            }
        })
        .collect();
    let (service, hand) = build();
    let heap = allocation_counter::measure(|| go(service, &hand));
    Line::new(NAME, name, "bare").times(Spread::of(times)).heap(
        heap.count_total as f64 / CALLS as f64,
        heap.bytes_total as f64 / CALLS as f64,
    )
}

fn go<S: Service<u64>>(mut service: S, hand: &ClockHand) {
    let step = |request| {
        hand.advance(STEP);
        request
    };
    task(&mut service, CALLS, step).run();
}

/// The states that a breaker goes through. The runs that are timed have no observer.
fn course(config: CircuitBreakerConfig) -> Vec<State> {
    let (breaker, hand) = manual(config);
    let states = Arc::new(States(Mutex::new(vec![breaker.state()])));
    breaker.observe(Arc::<States>::clone(&states));
    go(CircuitBreakerLayer::new(breaker).layer(Ailing::new(SICK)), &hand);
    states.0.lock().unwrap().clone()
}

struct States(Mutex<Vec<State>>);

impl Observer for States {
    fn on_event(&self, event: &Event) {
        if let What::Transition { to, .. } = event.what {
            self.0.lock().unwrap().push(to);
        }
    }
}
