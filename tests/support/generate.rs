//! Random scenarios with what the reference answers to them.
//!
//! [`like_the_recorded`] draws from the distribution of the recorded file: the same values and ranges for every field of
//! the config, the same shares of steps, outcomes and durations, and health that changes now and then, so that
//! errors and successes come in bursts. [`beyond_the_recorded`] goes on where the file stops: extreme configs, times on
//! the very edge of a wait, of a second and of slowness, very long advances, operators in a frenzy, and the three
//! commands that the file does not hold because resilience4j refuses them.
//!
//! What is drawn is a list of independent [`Move`]s, which shrinks well. It is played to the reference to make steps of
//! it, so that an admission is finished only while one is held.

#![allow(
    dead_code,
    reason = "each test and example that includes this file uses a part of it"
)]

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    strategy::Union,
};

use super::{
    reference::{Answer, Command, Config, Growth, Outcome, Reference, State, Step, Window},
    scenario::Scenario,
};

/// The longest scenario, in moves; the file's have 40 to 199 steps.
const MOVES: usize = 200;
/// What is drawn to decide between outcomes, or between fast and slow.
const CHANCES: u32 = 1000;

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 24 * 60 * 60 * SECOND_MS;

/// Scenarios as the recorded file holds them.
pub(crate) fn like_the_recorded() -> impl Strategy<Value = Scenario> {
    (
        recorded_config(),
        recorded_slow_share(),
        recorded_health(),
        vec(recorded_move(), 1..=MOVES),
    )
        .prop_map(|(config, slow_share, failing, moves)| {
            Player::new("like the recorded", config, slow_share, failing)
                .without_refused_commands()
                .play(moves)
        })
}

/// Scenarios that the recorded file does not hold, but that mean something.
pub(crate) fn beyond_the_recorded() -> impl Strategy<Value = Scenario> {
    let config = prop_oneof![recorded_config(), extreme_config(), extreme_config()];
    let moves = prop_oneof![
        2 => vec(edgy_move(), 1..=MOVES),
        2 => vec(frantic_move(), 1..=MOVES),
        1 => vec(busy_move(), 1..=2 * MOVES),
    ];
    (config, recorded_slow_share(), recorded_health(), moves).prop_map(
        |(config, slow_share, failing, moves)| {
            Player::new("beyond the recorded", config, slow_share, failing).play(moves)
        },
    )
}

/// What happens next, as far as it can be said without knowing the config and the state of the breaker.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// From now on so many of [`CHANCES`] calls fail.
    Health {
        failing: u32,
    },
    Call(Draw),
    Acquire,
    /// Finish a held admission; with none held the clock moves instead, as in the file.
    Finish {
        outcome: Outcome,
        ms: u64,
        or: Passage,
    },
    /// A finish whose outcome and duration are as a call's.
    FinishAsCall(Draw),
    Advance(Passage),
    Transition {
        to: Command,
    },
}

/// How far the clock moves.
#[derive(Clone, Copy, Debug)]
enum Passage {
    Ms(u64),
    /// The configured wait, and so many milliseconds.
    Wait {
        and_ms: u64,
    },
    /// To the last millisecond of the wait that is under way, which may have grown.
    EndOfWait(Beside),
    /// To where the next bucket of a time window begins.
    Second(Beside),
    /// As long as a time window is.
    Window(Beside),
}

/// How a call ends: drawn here, decided by the health, the share of slow calls and the slow-call duration.
#[derive(Clone, Copy, Debug)]
struct Draw {
    outcome: u32,
    pace: u32,
    length: Length,
}

/// Where between the shortest and the longest of its pace a call's duration lies.
#[derive(Clone, Copy, Debug)]
enum Length {
    /// So many of [`CHANCES`] on the way.
    Within(u32),
    /// The longest that is not slow, or the shortest that is.
    Edge,
}

/// On the edge or a millisecond beside it.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Before,
    On,
    After,
}

impl Beside {
    fn of(self, ms: u64) -> u64 {
        match self {
            Self::Before => ms.saturating_sub(1),
            Self::On => ms,
            Self::After => ms.saturating_add(1),
        }
    }
}

/// Makes steps of moves, playing them to the reference.
struct Player {
    name: &'static str,
    config: Config,
    reference: Reference,
    slow_share: u32,
    failing: u32,
    refused_commands: bool,
    steps: Vec<Step>,
    answers: Vec<Answer>,
}

impl Player {
    fn new(name: &'static str, config: Config, slow_share: u32, failing: u32) -> Self {
        Self {
            name,
            reference: Reference::new(config.clone()),
            config,
            slow_share,
            failing,
            refused_commands: true,
            steps: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Leaves the commands out that resilience4j refuses.
    fn without_refused_commands(mut self) -> Self {
        self.refused_commands = false;
        self
    }

    fn play(mut self, moves: Vec<Move>) -> Scenario {
        for next in moves {
            if let Some(step) = self.step(next) {
                self.answers.push(self.reference.step(&step));
                self.steps.push(step);
            }
        }
        Scenario {
            name: self.name.to_owned(),
            config: self.config,
            steps: self.steps,
            expect: Some(self.answers),
        }
    }

    /// The step that a move is at this point, if it is one.
    fn step(&mut self, next: Move) -> Option<Step> {
        match next {
            Move::Health { failing } => {
                self.failing = failing;
                None
            }
            Move::Call(draw) => Some(Step::Call {
                outcome: self.outcome(draw),
                ms: self.duration_ms(draw),
            }),
            Move::Acquire => Some(Step::Acquire),
            Move::Finish { outcome, ms, .. } if self.reference.held() > 0 => {
                Some(Step::Finish { outcome, ms })
            }
            Move::FinishAsCall(draw) => (self.reference.held() > 0).then(|| Step::Finish {
                outcome: self.outcome(draw),
                ms: self.duration_ms(draw),
            }),
            Move::Finish { or: passage, .. } | Move::Advance(passage) => {
                self.passage_ms(passage).map(|ms| Step::Advance { ms })
            }
            Move::Transition { to } => {
                let refused = matches!(
                    (self.reference.state(), to),
                    (State::Closed | State::MetricsOnly, Command::HalfOpen)
                        | (State::MetricsOnly, Command::Open)
                );
                (self.refused_commands || !refused).then_some(Step::Transition { to })
            }
        }
    }

    /// How far the clock moves; `None` where there is nothing to move to.
    fn passage_ms(&self, passage: Passage) -> Option<u64> {
        let now_ms = self.reference.now_ms();
        match passage {
            Passage::Ms(ms) => Some(ms),
            Passage::Wait { and_ms } => Some(self.config.wait_open_ms + and_ms),
            Passage::EndOfWait(beside) => beside
                .of(whole(self.reference.wait_ends_ms()?))
                .checked_sub(now_ms),
            Passage::Second(beside) => Some(beside.of(SECOND_MS - now_ms % SECOND_MS)),
            Passage::Window(beside) => Some(beside.of(u64::from(self.config.size) * SECOND_MS)),
        }
    }

    fn outcome(&self, draw: Draw) -> Outcome {
        // The shares of the file. What is left is healthy or not; a small draw is a success, to shrink to.
        const IGNORED: u32 = CHANCES - 40;
        const UNRECORDED: u32 = IGNORED - 26;
        match draw.outcome {
            IGNORED.. => Outcome::Ignored,
            UNRECORDED.. => Outcome::Unrecorded,
            healthy if healthy * CHANCES < UNRECORDED * (CHANCES - self.failing) => Outcome::Ok,
            _ => Outcome::Error,
        }
    }

    fn duration_ms(&self, draw: Draw) -> u64 {
        let limit_ms = self.config.slow_call_duration_ms;
        let slow = draw.pace >= CHANCES - self.slow_share;
        let within = |longest_ms: u64, part: u32| longest_ms * u64::from(part) / u64::from(CHANCES);
        match (slow, draw.length) {
            (false, Length::Within(part)) => within(limit_ms.saturating_sub(5), part),
            (true, Length::Within(part)) => limit_ms + 1 + within(500, part),
            (false, Length::Edge) => limit_ms,
            (true, Length::Edge) => limit_ms + 1,
        }
    }
}

fn recorded_config() -> impl Strategy<Value = Config> {
    let window = prop_oneof![
        (
            select(vec![1, 2, 3, 5, 7, 10, 16, 33, 64, 100, 128_u32]),
            any::<Index>()
        )
            .prop_map(|(size, minimum)| {
                // From 1 to a little over the size.
                (Window::Count, size, 1 + as_u32(minimum.index(as_usize(size) + 3)))
            }),
        (select(vec![1, 2, 3, 5, 10, 60]), select(vec![1, 2, 5, 10, 20])).prop_map(|(size, minimum)| (
            Window::Time,
            size,
            minimum
        )),
    ];
    let thresholds = (
        select(vec![50.0, 50.0, 50.0, 1.0, 10.0, 25.0, 33.0, 66.0, 75.0, 100.0]),
        select(vec![100.0, 100.0, 10.0, 25.0, 50.0, 80.0]),
    );
    let growth = prop_oneof![
        7 => Just(None),
        3 => (select(vec![1.5, 2.0, 3.0]), select(vec![2, 4, 10])).prop_map(Some),
    ];
    (
        window,
        thresholds,
        select(vec![10, 50, 100, 60_000]),
        select(vec![1, 2, 3, 5, 10]),
        select(vec![1000, 5000, 30_000]),
        growth,
    )
        .prop_map(into_config)
}

/// Configs at and past the ends of the recorded ranges.
///
/// Thresholds and factors are numbers that a float holds exactly, and caps are low enough for grown waits to be exact
/// too. Otherwise a comparison on the very edge would depend on how a number was rounded, and no answer would be wrong.
fn extreme_config() -> impl Strategy<Value = Config> {
    let size = prop_oneof![Just(1), 1..=5_u32, 1..=64_u32, 60..=70_u32, 120..=300_u32];
    let minimum = prop_oneof![Just(1), 1..=10_u32, 1..=400_u32];
    let window = prop_oneof![
        (size, minimum).prop_map(|(size, minimum)| (Window::Count, size, minimum)),
        (
            prop_oneof![Just(1), 1..=10_u32, 1..=3600_u32],
            prop_oneof![4 => 1..=10_u32, 1 => 1..=100_u32]
        )
            .prop_map(|(size, minimum)| (Window::Time, size, minimum)),
    ];
    let threshold = prop_oneof![
        Just(100.0),
        select(vec![0.25, 1.0, 33.0, 50.0, 66.0, 99.75]),
        (1..=400_u32).prop_map(|quarters| f64::from(quarters) / 4.0),
    ];
    let growth = prop_oneof![
        1 => Just(None),
        3 => (select(vec![1.0, 1.5, 2.0, 3.0, 10.0]), select(vec![1, 2, 7, 100, 1000])).prop_map(Some),
    ];
    (
        window,
        (threshold.clone(), threshold),
        prop_oneof![Just(1), 1..=20_u64, 1..=5000_u64, Just(60_000), Just(DAY_MS)],
        prop_oneof![2 => Just(1), 4 => 1..=6_u32, 2 => 1..=100_u32],
        prop_oneof![
            Just(1),
            1..=20_u64,
            1..=SECOND_MS,
            SECOND_MS..=5000_u64,
            Just(60_000)
        ],
        growth,
    )
        .prop_map(into_config)
}

type Drawn = ((Window, u32, u32), (f64, f64), u64, u32, u64, Option<(f64, u64)>);

fn into_config(
    (window, thresholds, slow_call_duration_ms, permitted_half_open, wait_open_ms, growth): Drawn,
) -> Config {
    let (window, size, minimum_calls) = window;
    let (failure_rate_threshold, slow_call_rate_threshold) = thresholds;
    Config {
        window,
        size,
        minimum_calls,
        failure_rate_threshold,
        slow_call_rate_threshold,
        slow_call_duration_ms,
        permitted_half_open,
        wait_open_ms,
        growth: growth.map(|(multiplier, times)| Growth {
            multiplier,
            max_ms: wait_open_ms * times,
        }),
    }
}

/// How many of [`CHANCES`] calls are slow: a scenario's own trait.
fn recorded_slow_share() -> impl Strategy<Value = u32> {
    select(vec![0, 0, 100, 500, 900])
}

/// How many of [`CHANCES`] calls fail for a while.
fn recorded_health() -> impl Strategy<Value = u32> {
    select(vec![0, 150, 400, 500, 800, CHANCES])
}

fn recorded_move() -> Union<BoxedStrategy<Move>> {
    Union::new_weighted(vec![
        (4, health()),
        (58, call()),
        (8, Just(Move::Acquire).boxed()),
        (8, finish()),
        (4, transition()),
        (22, recorded_passage().prop_map(Move::Advance).boxed()),
    ])
}

fn recorded_passage() -> impl Strategy<Value = Passage> {
    prop_oneof![
        5 => (1..=300_u64).prop_map(Passage::Ms),
        3 => (1..=3000_u64).prop_map(Passage::Ms),
        1 => (1..=50_u64).prop_map(|and_ms| Passage::Wait { and_ms }),
        1 => (1..=90_000_u64).prop_map(Passage::Ms),
    ]
}

/// As recorded, and on the edges.
fn edgy_move() -> Union<BoxedStrategy<Move>> {
    Union::new_weighted(vec![
        (50, recorded_move().boxed()),
        (8, edgy_draw().prop_map(Move::Call).boxed()),
        (4, edgy_draw().prop_map(Move::FinishAsCall).boxed()),
        (24, edgy_passage().prop_map(Move::Advance).boxed()),
    ])
}

fn edgy_passage() -> impl Strategy<Value = Passage> {
    prop_oneof![
        8 => beside().prop_map(Passage::EndOfWait),
        6 => beside().prop_map(Passage::Second),
        3 => beside().prop_map(Passage::Window),
        4 => (0..=5_u64).prop_map(Passage::Ms),
        2 => (1..=30 * DAY_MS).prop_map(Passage::Ms),
        1 => Just(Passage::Ms(365 * DAY_MS)),
    ]
}

/// Many commands, so that openings follow on one another and every state is left for every other.
fn frantic_move() -> Union<BoxedStrategy<Move>> {
    // What grows the wait, lets it run and asks.
    let opening = select(vec![Command::Open, Command::ForcedOpen, Command::HalfOpen]);
    Union::new_weighted(vec![
        (4, edgy_move().boxed()),
        (3, transition()),
        (1, opening.prop_map(|to| Move::Transition { to }).boxed()),
        (
            2,
            beside()
                .prop_map(|beside| Move::Advance(Passage::EndOfWait(beside)))
                .boxed(),
        ),
        (2, call()),
    ])
}

/// Nothing but calls, almost: wide windows fill up and turn over.
fn busy_move() -> Union<BoxedStrategy<Move>> {
    Union::new_weighted(vec![
        (3, health()),
        (80, call()),
        (4, edgy_draw().prop_map(Move::Call).boxed()),
        (
            3,
            (1..=400_u64)
                .prop_map(|ms| Move::Advance(Passage::Ms(ms)))
                .boxed(),
        ),
        (
            1,
            beside()
                .prop_map(|beside| Move::Advance(Passage::EndOfWait(beside)))
                .boxed(),
        ),
    ])
}

fn health() -> BoxedStrategy<Move> {
    recorded_health()
        .prop_map(|failing| Move::Health { failing })
        .boxed()
}

fn call() -> BoxedStrategy<Move> {
    draw((0..CHANCES).prop_map(Length::Within))
        .prop_map(Move::Call)
        .boxed()
}

fn edgy_draw() -> impl Strategy<Value = Draw> {
    draw(prop_oneof![
        (0..CHANCES).prop_map(Length::Within),
        Just(Length::Edge)
    ])
}

fn draw(length: impl Strategy<Value = Length>) -> impl Strategy<Value = Draw> {
    (0..CHANCES, 0..CHANCES, length).prop_map(|(outcome, pace, length)| Draw {
        outcome,
        pace,
        length,
    })
}

fn finish() -> BoxedStrategy<Move> {
    let outcome = prop_oneof![5 => Just(Outcome::Ok), 3 => Just(Outcome::Error), 1 => Just(Outcome::Ignored)];
    (outcome, 0..200_u64, recorded_passage())
        .prop_map(|(outcome, ms, or)| Move::Finish { outcome, ms, or })
        .boxed()
}

fn transition() -> BoxedStrategy<Move> {
    select(vec![
        Command::Closed,
        Command::Reset,
        Command::Open,
        Command::HalfOpen,
        Command::ForcedOpen,
        Command::Disabled,
        Command::MetricsOnly,
    ])
    .prop_map(|to| Move::Transition { to })
    .boxed()
}

fn beside() -> impl Strategy<Value = Beside> {
    select(vec![Beside::On, Beside::Before, Beside::After])
}

/// A time in whole milliseconds; what is beyond all times is the last of them.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are not negative, and `as` saturates"
)]
fn whole(ms: f64) -> u64 {
    ms as u64
}

fn as_usize(number: u32) -> usize {
    usize::try_from(number).expect("a size fits into memory")
}

fn as_u32(number: usize) -> u32 {
    u32::try_from(number).expect("a number below a size")
}
