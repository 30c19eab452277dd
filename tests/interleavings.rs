//! Random interleavings of calls that begin, are polled, end, are dropped and panic while time moves on, against
//! bookkeeping of the test: no permit is lost, none is invented, and at the end everything is free.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/lab.rs"]
mod lab;

use std::{collections::VecDeque, time::Duration};

use buttress::{
    Backoff, Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerLayer, Jitter, RejectedKind, Retry, RetryConfig, RetryLayer, Stack, StackBuilder, State,
    Timeout, TimeoutConfig, TimeoutLayer,
};
use lab::{Boxed, Call, Lab, Order, Polled, advance, ms, paused};
use proptest::{collection::vec, prelude::*, sample::Index};
use tower::Layer;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Move {
    /// A call is made, and not polled so far.
    Begin,
    /// A call is made while the service's `call` panics.
    BeginPanicking,
    Poll(Index),
    /// What the attempt of a call does from now on. The call is not polled by that.
    Order(Index, Order),
    Drop(Index),
    /// So many milliseconds pass.
    Advance(u64),
    /// The bulkhead gets another limit.
    Resize(u32),
    /// The breaker is commanded into a state.
    Command(State),
}

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![
        3 => Just(Order::Succeed),
        3 => Just(Order::Fail),
        1 => Just(Order::Panic),
        1 => Just(Order::Wait),
    ]
}

fn moves(extra: BoxedStrategy<Move>, extra_weight: u32) -> impl Strategy<Value = Vec<Move>> {
    let any_move = prop_oneof![
        8 => Just(Move::Begin),
        1 => Just(Move::BeginPanicking),
        10 => any::<Index>().prop_map(Move::Poll),
        6 => (any::<Index>(), orders()).prop_map(|(call, order)| Move::Order(call, order)),
        4 => any::<Index>().prop_map(Move::Drop),
        4 => prop_oneof![Just(1), Just(10), Just(29), Just(30), Just(31), Just(50), Just(101)].prop_map(Move::Advance),
        extra_weight => extra,
    ];
    vec(any_move, 1..120)
}

/// The calls that are not over, in the order in which they were made.
struct Calls<S> {
    live: Vec<(u32, Call, S)>,
    made: u32,
}

impl<S> Calls<S> {
    const fn new() -> Self {
        Self {
            live: Vec::new(),
            made: 0,
        }
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn at(&self, index: Index) -> Option<usize> {
        (!self.live.is_empty()).then(|| index.index(self.live.len()))
    }
}

// ---- The bulkhead alone, exactly.

/// What a call is in, as the test keeps its books.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Refused,
    /// In the queue, until this point of time once it was polled.
    Queued(Option<u64>),
    /// It has a slot and does not know it yet.
    Granted,
    Inside,
}

struct BulkheadBooks {
    limit: usize,
    max_wait: u64,
    max_queue: usize,
    queue: VecDeque<u32>,
    now: u64,
}

impl BulkheadBooks {
    fn in_flight(calls: &Calls<Place>) -> usize {
        calls
            .live
            .iter()
            .filter(|(_, _, place)| matches!(place, Place::Granted | Place::Inside))
            .count()
    }

    fn arrive(&mut self, number: u32, calls: &Calls<Place>) -> Place {
        if self.queue.is_empty() && Self::in_flight(calls) < self.limit {
            Place::Inside
        } else if self.max_wait == 0 || self.queue.len() >= self.max_queue {
            Place::Refused
        } else {
            self.queue.push_back(number);
            Place::Queued(None)
        }
    }

    /// Free slots go to those who wait, first come first served.
    fn grant(&mut self, calls: &mut Calls<Place>) {
        while Self::in_flight(calls) < self.limit
            && let Some(first) = self.queue.pop_front()
        {
            let call = calls.live.iter_mut().find(|(number, ..)| *number == first);
            call.expect("who waits is live").2 = Place::Granted;
        }
    }

    fn remove(&mut self, at: usize, calls: &mut Calls<Place>) {
        let (number, call, _) = calls.live.remove(at);
        self.queue.retain(|waiting| *waiting != number);
        drop(call);
        self.grant(calls);
    }
}

async fn play_bulkhead(
    limit: u32,
    max_wait: u64,
    max_queue: u32,
    moves: &[Move],
) -> Result<(), TestCaseError> {
    let lab = Lab::new();
    let bulkhead = BulkheadConfig::new(limit)
        .max_wait(ms(max_wait))
        .max_queue(max_queue)
        .build("db")
        .unwrap();
    let mut service = BulkheadLayer::new(bulkhead.clone()).layer(lab.clone());
    let mut books = BulkheadBooks {
        limit: limit as usize,
        max_wait,
        max_queue: max_queue as usize,
        queue: VecDeque::new(),
        now: 0,
    };
    let mut calls = Calls::<Place>::new();
    for a_move in moves {
        match a_move {
            Move::Begin => {
                let number = calls.number();
                let call = Call::begin(&mut service, number);
                let place = books.arrive(number, &calls);
                calls.live.push((number, call, place));
            }
            Move::BeginPanicking => {
                let number = calls.number();
                let begun = Call::begin_panicking(&mut service, &lab, number);
                match (books.arrive(number, &calls), begun) {
                    (Place::Inside, None) => {}
                    (place @ (Place::Refused | Place::Queued(_)), Some(call)) => {
                        calls.live.push((number, call, place));
                    }
                    (place, begun) => prop_assert!(false, "{place:?}, returned: {}", begun.is_some()),
                }
            }
            Move::Poll(index) => {
                let Some(at) = calls.at(*index) else { continue };
                poll_in_bulkhead(at, &mut calls, &mut books)?;
            }
            Move::Order(index, order) => {
                let Some(at) = calls.at(*index) else { continue };
                lab.order(calls.live[at].0, *order);
            }
            Move::Drop(index) => {
                let Some(at) = calls.at(*index) else { continue };
                books.remove(at, &mut calls);
            }
            Move::Advance(millis) => {
                advance(*millis).await;
                books.now += millis;
            }
            Move::Resize(limit) => {
                bulkhead.resize(*limit).unwrap();
                books.limit = *limit as usize;
                books.grant(&mut calls);
            }
            Move::Command(_) => {}
        }
        let shown = bulkhead.snapshot();
        let really_inside = calls
            .live
            .iter()
            .filter(|(_, _, place)| *place == Place::Inside)
            .count();
        prop_assert_eq!(lab.inside(), really_inside);
        prop_assert_eq!(
            shown.in_flight as usize,
            BulkheadBooks::in_flight(&calls),
            "{:?}",
            a_move
        );
        prop_assert_eq!(shown.queued, books.queue.len(), "{:?}", a_move);
    }
    drop(calls);
    let shown = bulkhead.snapshot();
    prop_assert_eq!((shown.in_flight, shown.queued, lab.inside()), (0, 0, 0));
    let slots: Vec<_> = std::iter::from_fn(|| bulkhead.try_acquire().ok())
        .take(100)
        .collect();
    prop_assert_eq!(slots.len(), books.limit);
    Ok(())
}

fn poll_in_bulkhead(
    at: usize,
    calls: &mut Calls<Place>,
    books: &mut BulkheadBooks,
) -> Result<(), TestCaseError> {
    let (_, call, place) = &mut calls.live[at];
    let polled = call.poll();
    if *place == Place::Granted && !matches!(polled, Polled::Ready(Err(_))) {
        *place = Place::Inside;
    }
    let place = *place;
    match (place, polled) {
        (Place::Queued(deadline), Polled::Pending) => {
            let deadline = deadline.unwrap_or(books.now + books.max_wait);
            prop_assert!(deadline > books.now, "its wait is over");
            calls.live[at].2 = Place::Queued(Some(deadline));
        }
        (Place::Queued(Some(deadline)), polled @ Polled::Ready(_)) => {
            prop_assert!(deadline <= books.now, "its wait is not over");
            let rejected = polled.rejected();
            prop_assert_eq!(rejected.kind(), RejectedKind::BulkheadFull);
            prop_assert_eq!(rejected.waited(), Some(ms(books.max_wait)));
            books.remove(at, calls);
        }
        (Place::Refused, polled @ Polled::Ready(_)) => {
            let rejected = polled.rejected();
            prop_assert_eq!(rejected.kind(), RejectedKind::BulkheadFull);
            prop_assert_eq!(rejected.waited(), None);
            books.remove(at, calls);
        }
        (Place::Inside, Polled::Pending) => {}
        (Place::Inside, _) => books.remove(at, calls),
        (place, polled) => prop_assert!(false, "{place:?} gave {polled:?}"),
    }
    Ok(())
}

// ---- The circuit breaker alone, exactly.

#[derive(Clone, Copy, Debug)]
struct BreakerTerms {
    size: usize,
    minimum: usize,
    probes: usize,
}

impl BreakerTerms {
    fn breaker(self) -> CircuitBreaker {
        CircuitBreakerConfig::new()
            .count_window(u32::try_from(self.size).unwrap())
            .minimum_calls(u32::try_from(self.minimum).unwrap())
            .failure_rate(0.5)
            .probes(u32::try_from(self.probes).unwrap())
            .open_wait(ms(OPEN_WAIT))
            .open_growth(1.0, ms(OPEN_WAIT))
            .open_jitter(0.0)
            .dropped_after(ms(DROPPED_AFTER))
            .max_probe_age(Duration::from_secs(3600))
            .build("inventory")
            .unwrap()
    }
}

const OPEN_WAIT: u64 = 30;
const DROPPED_AFTER: u64 = 50;

/// A circuit breaker in the plainest words: opens when half of the calls failed.
struct BreakerBooks {
    terms: BreakerTerms,
    state: State,
    generation: u32,
    /// Whether each of the calls in the window failed.
    window: VecDeque<bool>,
    permits: usize,
    since: u64,
    not_permitted: u64,
    now: u64,
}

/// A live call: the generation that admitted it, and when it was first pending. `None`: it was refused.
type Admission = Option<(u32, Option<u64>)>;

impl BreakerBooks {
    fn enter(&mut self, state: State) {
        self.generation += 1;
        self.state = state;
        self.since = self.now;
        self.permits = self.terms.probes;
        if state != State::Open {
            self.not_permitted = 0;
            self.window.clear();
        }
    }

    fn ask(&mut self) -> Admission {
        if self.state == State::Open && self.now - self.since > OPEN_WAIT {
            self.enter(State::HalfOpen);
        }
        let admitted = match self.state {
            State::Closed | State::Disabled | State::MetricsOnly => true,
            State::Open | State::ForcedOpen => false,
            State::HalfOpen => self.permits > 0,
        };
        if !admitted {
            self.not_permitted += 1;
            return None;
        }
        if self.state == State::HalfOpen {
            self.permits -= 1;
        }
        Some((self.generation, None))
    }

    fn record(&mut self, admission: Admission, failed: Option<bool>) {
        let Some((generation, _)) = admission else { return };
        if generation != self.generation {
            return;
        }
        let Some(failed) = failed else {
            self.permits += 1;
            return;
        };
        let (size, minimum) = match self.state {
            State::Closed | State::MetricsOnly => (self.terms.size, self.terms.minimum.min(self.terms.size)),
            State::HalfOpen => {
                let minimum = self.terms.minimum.min(self.terms.size).min(self.terms.probes);
                (self.terms.probes, minimum)
            }
            _ => return,
        };
        self.window.push_back(failed);
        if self.window.len() > size {
            self.window.pop_front();
        }
        if self.state == State::MetricsOnly || self.window.len() < minimum {
            return;
        }
        if 2 * self.failed() >= self.window.len() {
            self.enter(State::Open);
        } else if self.state == State::HalfOpen {
            self.enter(State::Closed);
        }
    }

    fn failed(&self) -> usize {
        self.window.iter().filter(|failed| **failed).count()
    }

    fn drop(&mut self, admission: Admission) {
        let pended = admission.and_then(|(_, pended)| pended);
        let failed = pended.filter(|since| self.now - since >= DROPPED_AFTER);
        self.record(admission, failed.map(|_| true));
    }
}

fn poll_in_breaker(
    at: usize,
    calls: &mut Calls<Admission>,
    books: &mut BreakerBooks,
) -> Result<(), TestCaseError> {
    let (_, call, admission) = &mut calls.live[at];
    match (call.poll(), admission) {
        (Polled::Pending, Some((_, pended))) => *pended = pended.or(Some(books.now)),
        (polled, Some(_)) => {
            let failed = !matches!(polled, Polled::Ready(Ok(_)));
            let (_, _, admission) = calls.live.remove(at);
            books.record(admission, Some(failed));
        }
        (polled @ Polled::Ready(_), None) => {
            prop_assert_eq!(polled.rejected().kind(), RejectedKind::CircuitOpen);
            calls.live.remove(at);
        }
        (polled, None) => prop_assert!(false, "refused, and gave {polled:?}"),
    }
    Ok(())
}

async fn play_breaker(terms: BreakerTerms, moves: &[Move]) -> Result<(), TestCaseError> {
    let (lab, breaker) = (Lab::new(), terms.breaker());
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(lab.clone());
    let mut books = BreakerBooks {
        terms,
        state: State::Closed,
        generation: breaker.snapshot().generation,
        window: VecDeque::new(),
        permits: 0,
        since: 0,
        not_permitted: 0,
        now: 0,
    };
    let mut calls = Calls::<Admission>::new();
    for a_move in moves {
        match a_move {
            Move::Begin => {
                let number = calls.number();
                let call = Call::begin(&mut service, number);
                calls.live.push((number, call, books.ask()));
            }
            Move::BeginPanicking => {
                let number = calls.number();
                let begun = Call::begin_panicking(&mut service, &lab, number);
                let admission = books.ask();
                prop_assert_eq!(begun.is_none(), admission.is_some());
                match begun {
                    None => books.record(admission, Some(true)),
                    Some(call) => calls.live.push((number, call, admission)),
                }
            }
            Move::Poll(index) => {
                let Some(at) = calls.at(*index) else { continue };
                poll_in_breaker(at, &mut calls, &mut books)?;
            }
            Move::Order(index, order) => {
                let Some(at) = calls.at(*index) else { continue };
                lab.order(calls.live[at].0, *order);
            }
            Move::Drop(index) => {
                let Some(at) = calls.at(*index) else { continue };
                let (_, call, admission) = calls.live.remove(at);
                drop(call);
                books.drop(admission);
            }
            Move::Advance(millis) => {
                advance(*millis).await;
                books.now += millis;
            }
            Move::Command(state) => {
                breaker.transition_to(*state);
                books.enter(*state);
                if *state == State::ForcedOpen || *state == State::Disabled {
                    books.window.clear();
                }
            }
            Move::Resize(_) => {}
        }
        let shown = breaker.snapshot();
        let inside = calls
            .live
            .iter()
            .filter(|(_, _, admission)| admission.is_some())
            .count();
        prop_assert_eq!(lab.inside(), inside);
        prop_assert_eq!(
            (
                shown.state,
                shown.generation,
                shown.calls,
                shown.failed,
                shown.not_permitted
            ),
            (
                books.state,
                books.generation,
                books.window.len() as u64,
                books.failed() as u64,
                books.not_permitted
            ),
            "after {:?}",
            a_move
        );
        if shown.state == State::HalfOpen {
            prop_assert_eq!(permits_left(&breaker), books.permits, "after {:?}", a_move);
            books.not_permitted = breaker.snapshot().not_permitted;
        }
    }
    while let Some((_, call, admission)) = calls.live.pop() {
        drop(call);
        books.drop(admission);
    }
    prop_assert_eq!(lab.inside(), 0);
    let shown = breaker.snapshot();
    prop_assert_eq!(shown.generation, books.generation);
    if shown.state == State::HalfOpen {
        prop_assert_eq!(permits_left(&breaker) as u64 + shown.calls, terms.probes as u64);
    }
    Ok(())
}

/// How many permits can be had now. They are given back at once.
fn permits_left(breaker: &CircuitBreaker) -> usize {
    let permits: Vec<_> = std::iter::from_fn(|| breaker.try_acquire().ok())
        .take(100)
        .collect();
    permits.len()
}

// ---- Stacks of all four, in every order, nested and walked.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Retry,
    Breaker,
    Timeout,
    Bulkhead,
}

#[derive(Clone)]
struct Four {
    retry: Retry,
    breaker: CircuitBreaker,
    timeout: Timeout,
    bulkhead: Bulkhead,
}

const PROBES: u32 = 12;

impl Four {
    fn new(max_wait: u64) -> Self {
        let breaker = CircuitBreakerConfig::new()
            .count_window(100)
            .minimum_calls(100)
            .probes(PROBES)
            .failure_rate(0.9)
            .open_wait(ms(30))
            .open_growth(1.0, ms(30))
            .open_jitter(0.0)
            .max_probe_age(Duration::from_secs(3600))
            .build("inventory");
        Self {
            retry: RetryConfig::new()
                .max_attempts(3)
                .backoff(Backoff::fixed(ms(30)))
                .jitter(Jitter::None)
                .no_budget()
                .build("again")
                .unwrap(),
            breaker: breaker.unwrap(),
            timeout: TimeoutConfig::new(ms(100)).build("attempt").unwrap(),
            bulkhead: BulkheadConfig::new(3)
                .max_wait(ms(max_wait))
                .max_queue(2)
                .build("db")
                .unwrap(),
        }
    }

    /// Layers in a nest, the first the outermost.
    fn nested(&self, order: &[Kind], lab: &Lab) -> Boxed {
        order
            .iter()
            .rev()
            .fold(Boxed::new(lab.clone()), |service, kind| match kind {
                Kind::Retry => Boxed::new(RetryLayer::new(self.retry.clone()).layer(service)),
                Kind::Breaker => Boxed::new(CircuitBreakerLayer::new(self.breaker.clone()).layer(service)),
                Kind::Timeout => Boxed::new(TimeoutLayer::new(self.timeout.clone()).layer(service)),
                Kind::Bulkhead => Boxed::new(BulkheadLayer::new(self.bulkhead.clone()).layer(service)),
            })
    }

    fn add<R>(&self, builder: StackBuilder<R>, kinds: &[Kind]) -> StackBuilder<R> {
        kinds.iter().fold(builder, |builder, kind| match kind {
            Kind::Retry => unreachable!("there is one retry"),
            Kind::Breaker => builder.circuit_breaker(self.breaker.clone()),
            Kind::Timeout => builder.timeout(self.timeout.clone()),
            Kind::Bulkhead => builder.bulkhead(self.bulkhead.clone()),
        })
    }

    /// The same in one stack.
    fn walked(&self, order: &[Kind], lab: &Lab) -> Boxed {
        let at = order.iter().position(|kind| *kind == Kind::Retry).unwrap();
        let builder = self.add(Stack::builder(), &order[..at]).retry(self.retry.clone());
        let stack = self.add(builder, &order[at + 1..]).build().unwrap();
        Boxed::new(stack.layer(lab.clone()))
    }
}

/// A live call: the breaker's generation when it was made.
type Made = u32;

struct StackGame {
    four: Four,
    lab: Lab,
    service: Boxed,
    calls: Calls<Made>,
    /// Whether these are inside of the retry, and so only in the way of attempts.
    breaker_inside: bool,
    bulkhead_inside: bool,
}

impl StackGame {
    fn new(order: &[Kind], walked: bool, max_wait: u64) -> Self {
        let (four, lab) = (Four::new(max_wait), Lab::new());
        let of_breaker = four.breaker.clone();
        lab.mark_by(move || of_breaker.snapshot().generation);
        let service = if walked {
            four.walked(order, &lab)
        } else {
            four.nested(order, &lab)
        };
        let place = |kind| order.iter().position(|k| *k == kind);
        let inside = |kind| place(kind) > place(Kind::Retry);
        Self {
            service,
            calls: Calls::new(),
            breaker_inside: inside(Kind::Breaker),
            bulkhead_inside: inside(Kind::Bulkhead),
            four,
            lab,
        }
    }

    async fn play(&mut self, a_move: &Move) {
        match a_move {
            Move::Begin => {
                let number = self.calls.number();
                let mut call = Call::begin(&mut self.service, number);
                let generation = self.four.breaker.snapshot().generation;
                // A refusal is known at the first poll.
                if call.poll().is_pending() {
                    self.calls.live.push((number, call, generation));
                }
            }
            Move::BeginPanicking => {
                let number = self.calls.number();
                // What does not panic was refused, or waits: it is dropped without a poll.
                drop(Call::begin_panicking(&mut self.service, &self.lab, number));
            }
            Move::Poll(index) => {
                if let Some(at) = self.calls.at(*index) {
                    self.poll(at);
                }
            }
            Move::Order(index, order) => {
                if let Some(at) = self.calls.at(*index) {
                    self.lab.order(self.calls.live[at].0, *order);
                }
            }
            Move::Drop(index) => {
                if let Some(at) = self.calls.at(*index) {
                    self.calls.live.remove(at);
                }
            }
            Move::Advance(millis) => advance(*millis).await,
            Move::Command(state) => self.four.breaker.transition_to(*state),
            Move::Resize(limit) => self.four.bulkhead.resize(*limit).unwrap(),
        }
    }

    fn poll(&mut self, at: usize) {
        if !self.calls.live[at].1.poll().is_pending() {
            self.calls.live.remove(at);
        }
    }

    /// Polls all calls until nobody holds a slot without knowing it.
    fn poll_all(&mut self) {
        for _ in 0..3 {
            for at in (0..self.calls.live.len()).rev() {
                self.poll(at);
            }
        }
    }

    /// Nobody waits for the bulkhead, so that the books are exact at every moment.
    fn check(&self) -> Result<(), TestCaseError> {
        let in_flight = self.four.bulkhead.snapshot().in_flight as usize;
        if self.bulkhead_inside {
            prop_assert_eq!(in_flight, self.lab.inside());
        } else {
            prop_assert_eq!(in_flight, self.calls.live.len());
        }
        let shown = self.four.breaker.snapshot();
        if shown.state == State::HalfOpen {
            let under_way = if self.breaker_inside {
                self.lab.inside_marked(shown.generation)
            } else {
                let live = self.calls.live.iter();
                live.filter(|(_, _, made)| *made == shown.generation).count()
            };
            let used = usize::try_from(shown.calls).unwrap();
            let left = permits_left(&self.four.breaker);
            prop_assert_eq!(left + under_way + used, PROBES as usize);
        }
        Ok(())
    }

    fn check_end(mut self) -> Result<(), TestCaseError> {
        self.calls.live.clear();
        let shown = self.four.bulkhead.snapshot();
        prop_assert_eq!((shown.in_flight, shown.queued, self.lab.inside()), (0, 0, 0));
        let slots: Vec<_> = std::iter::from_fn(|| self.four.bulkhead.try_acquire().ok())
            .take(100)
            .collect();
        prop_assert_eq!(slots.len(), shown.limit as usize);
        let shown = self.four.breaker.snapshot();
        if shown.state == State::HalfOpen {
            let left = permits_left(&self.four.breaker) as u64;
            prop_assert_eq!(left + shown.calls, u64::from(PROBES));
        }
        Ok(())
    }
}

fn order_of_four() -> impl Strategy<Value = Vec<Kind>> {
    Just(vec![Kind::Retry, Kind::Breaker, Kind::Timeout, Kind::Bulkhead]).prop_shuffle()
}

fn commands() -> impl Strategy<Value = Move> {
    let states = prop_oneof![
        4 => Just(State::HalfOpen),
        2 => Just(State::Closed),
        2 => Just(State::Open),
        1 => Just(State::ForcedOpen),
        1 => Just(State::Disabled),
        1 => Just(State::MetricsOnly),
    ];
    states.prop_map(Move::Command)
}

fn resizes() -> impl Strategy<Value = Move> {
    (1..5_u32).prop_map(Move::Resize)
}

fn stack_moves() -> impl Strategy<Value = Vec<Move>> {
    let rarely = prop_oneof![
        3 => Just(Move::Command(State::HalfOpen)),
        1 => commands(),
        2 => resizes(),
    ];
    moves(rarely.boxed(), 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_bulkhead_has_exactly_those_in_flight_who_are_inside(
        limit in 1..4_u32,
        max_wait in prop_oneof![1 => Just(0_u64), 3 => Just(30), 1 => Just(100)],
        max_queue in 0..5_u32,
        moves in moves(resizes().boxed(), 2),
    ) {
        paused(play_bulkhead(limit, max_wait, max_queue, &moves))?;
    }

    #[test]
    fn a_breaker_admits_and_records_exactly_what_its_state_allows(
        size in 1..6_usize,
        minimum in 1..8_usize,
        probes in 1..5_usize,
        moves in moves(commands().boxed(), 1),
    ) {
        paused(play_breaker(BreakerTerms { size, minimum, probes }, &moves))?;
    }

    #[test]
    fn a_stack_in_any_order_holds_exactly_what_its_live_calls_hold(
        order in order_of_four(),
        walked in any::<bool>(),
        moves in stack_moves(),
    ) {
        paused(async {
            let mut game = StackGame::new(&order, walked, 0);
            game.four.breaker.half_open();
            for a_move in &moves {
                game.play(a_move).await;
                game.check().map_err(|error| TestCaseError::fail(format!("{error} after {a_move:?}")))?;
            }
            game.check_end()
        })?;
    }

    #[test]
    fn a_stack_with_a_queue_in_any_order_is_free_at_the_end(
        order in order_of_four(),
        walked in any::<bool>(),
        moves in stack_moves(),
        settle in vec(any::<bool>(), 120),
    ) {
        paused(async {
            let mut game = StackGame::new(&order, walked, 50);
            game.four.breaker.half_open();
            for (a_move, settle) in moves.iter().zip(settle) {
                game.play(a_move).await;
                if settle {
                    game.poll_all();
                    if game.bulkhead_inside {
                        prop_assert_eq!(game.four.bulkhead.snapshot().in_flight as usize, game.lab.inside());
                    }
                }
            }
            game.check_end()
        })?;
    }
}
