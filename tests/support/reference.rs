//! What a circuit breaker answers, said as plainly as it can be said: the yardstick that the crate's breaker is
//! measured against, step by step.
//!
//! Every fact is read anew from one log of all that ever happened. Nothing is counted along the way, nothing is
//! evicted, and nothing of the crate is used, so that the two can be wrong together only by chance.
//!
//! The semantics are those of `conformance/README.md`. All of its 300 recorded scenarios agree with this model.

#![allow(
    dead_code,
    reason = "each test and example that includes this file uses a part of it"
)]

/// Which calls a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// The last `size` calls.
    Count,
    /// The calls of the last `size` seconds: the current whole second of the clock and the `size - 1` before it.
    Time,
}

/// The wait of consecutive openings: `min(wait_open_ms * multiplier^(n-1), max_ms)` for the n-th.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Growth {
    pub(crate) multiplier: f64,
    pub(crate) max_ms: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) window: Window,
    /// Calls or seconds, as `window` says.
    pub(crate) size: u32,
    /// Rates exist from this many calls on. With a count window it is capped at `size`; half-open caps what is left
    /// at `permitted_half_open`.
    pub(crate) minimum_calls: u32,
    /// Percent; exceeded when the rate is **>=** this.
    pub(crate) failure_rate_threshold: f64,
    /// Percent; exceeded when the rate is **>=** this.
    pub(crate) slow_call_rate_threshold: f64,
    /// A call is slow when it took **longer** than this.
    pub(crate) slow_call_duration_ms: u64,
    pub(crate) permitted_half_open: u32,
    /// Open until **more** than this has passed.
    pub(crate) wait_open_ms: u64,
    pub(crate) growth: Option<Growth>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A success.
    Ok,
    /// A failure.
    Error,
    /// Nothing is recorded, and a probe's permit returns.
    Ignored,
    /// An error that does not count as one: a success.
    Unrecorded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

/// An operator's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    Disabled,
    MetricsOnly,
    /// To closed, like [`Command::Closed`].
    Reset,
}

impl Command {
    /// The state that begins with this command, also when the breaker is in it already.
    pub(crate) fn target(self) -> State {
        match self {
            Self::Closed | Self::Reset => State::Closed,
            Self::Open => State::Open,
            Self::HalfOpen => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::Disabled => State::Disabled,
            Self::MetricsOnly => State::MetricsOnly,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask for admission; when admitted, finish at once.
    Call { outcome: Outcome, ms: u64 },
    /// Ask for admission and, when admitted, hold it.
    Acquire,
    /// Finish one held admission. With none held this changes nothing.
    Finish { outcome: Outcome, ms: u64 },
    /// Move the clock on.
    Advance { ms: u64 },
    /// Begin a state by command. The held admissions are forgotten.
    Transition { to: Command },
}

/// What the breaker shows after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    /// Whether this step's admission was granted; `None` for a step that asks for none.
    pub(crate) permitted: Option<bool>,
    pub(crate) state: State,
    /// Percent, or -1 while there are none or fewer than the minimum of calls.
    pub(crate) failure_rate: f64,
    /// Percent, or -1 while there are none or fewer than the minimum of calls.
    pub(crate) slow_call_rate: f64,
    pub(crate) buffered: usize,
    pub(crate) failed: usize,
    pub(crate) slow: usize,
    pub(crate) not_permitted: usize,
}

impl Answer {
    /// Whether the two say the same; as compare.py does it, with rates within a hundredth of a percent, because the
    /// recorded ones are rounded.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let near = |one: f64, other: f64| (one - other).abs() <= 0.01;
        let without_rates = |answer: &Self| Self {
            failure_rate: 0.0,
            slow_call_rate: 0.0,
            ..*answer
        };
        near(self.failure_rate, other.failure_rate)
            && near(self.slow_call_rate, other.slow_call_rate)
            && without_rates(self) == without_rates(other)
    }
}

/// What a breaker of `config` answers to `steps`, one answer for each.
pub(crate) fn run(config: &Config, steps: &[Step]) -> Vec<Answer> {
    let mut breaker = Reference::new(config.clone());
    steps.iter().map(|step| breaker.step(step)).collect()
}

/// A recorded call.
#[derive(Clone, Copy, Debug)]
struct Call {
    at_ms: u64,
    failed: bool,
    slow: bool,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Began { state: State, at_ms: u64 },
    Admitted,
    Refused,
    Ignored,
    Recorded(Call),
}

/// A breaker that remembers everything and knows nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    config: Config,
    now_ms: u64,
    log: Vec<Entry>,
}

impl Reference {
    /// A closed breaker; its clock starts at zero, a whole second.
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            now_ms: 0,
            log: vec![Entry::Began {
                state: State::Closed,
                at_ms: 0,
            }],
        }
    }

    pub(crate) fn step(&mut self, step: &Step) -> Answer {
        let permitted = match *step {
            Step::Call { outcome, ms } => {
                let permitted = self.admit();
                if permitted {
                    self.finish(outcome, ms);
                }
                Some(permitted)
            }
            Step::Acquire => Some(self.admit()),
            Step::Finish { outcome, ms } => {
                if self.held() > 0 {
                    self.finish(outcome, ms);
                }
                None
            }
            Step::Advance { ms } => {
                self.now_ms = self.now_ms.saturating_add(ms);
                None
            }
            Step::Transition { to } => {
                self.begin(to.target());
                None
            }
        };
        self.answer(permitted)
    }

    /// The state that the breaker is in. An open breaker whose wait is over is open until it is asked.
    pub(crate) fn state(&self) -> State {
        self.last_beginning().1
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// While open, when the wait ends: from the first whole millisecond **after** this an admission ends it.
    pub(crate) fn wait_ends_ms(&self) -> Option<f64> {
        let (_, state, since_ms) = self.last_beginning();
        (state == State::Open).then(|| since_ms as f64 + self.wait_ms())
    }

    /// Admissions of the current state that have no outcome yet.
    pub(crate) fn held(&self) -> usize {
        let stay = self.stay();
        let admitted = count(stay, |entry| matches!(entry, Entry::Admitted));
        admitted - count(stay, |entry| matches!(entry, Entry::Ignored | Entry::Recorded(_)))
    }

    fn admit(&mut self) -> bool {
        if self.state() == State::Open && self.wait_is_over() {
            self.begin(State::HalfOpen);
        }
        let admitted = match self.state() {
            State::Closed | State::Disabled | State::MetricsOnly => true,
            State::Open | State::ForcedOpen => false,
            State::HalfOpen => self.probes() < as_usize(self.config.permitted_half_open),
        };
        self.log
            .push(if admitted { Entry::Admitted } else { Entry::Refused });
        admitted
    }

    fn finish(&mut self, outcome: Outcome, ms: u64) {
        // Disabled records nothing, whatever the outcome.
        if outcome == Outcome::Ignored || self.state() == State::Disabled {
            self.log.push(Entry::Ignored);
            return;
        }
        self.log.push(Entry::Recorded(Call {
            at_ms: self.now_ms,
            failed: outcome == Outcome::Error,
            slow: ms > self.config.slow_call_duration_ms,
        }));
        self.judge();
    }

    /// Judges the rates. Called when a result was recorded, and at no other time.
    fn judge(&mut self) {
        let Some(rates) = self.rates() else { return };
        let exceeded = rates.failure >= self.config.failure_rate_threshold
            || rates.slow_call >= self.config.slow_call_rate_threshold;
        match (self.state(), exceeded) {
            (State::Closed | State::HalfOpen, true) => self.begin(State::Open),
            (State::HalfOpen, false) => self.begin(State::Closed),
            _ => {}
        }
    }

    fn begin(&mut self, state: State) {
        self.log.push(Entry::Began {
            state,
            at_ms: self.now_ms,
        });
    }

    fn answer(&self, permitted: Option<bool>) -> Answer {
        let calls = self.window();
        let rates = self.rates();
        Answer {
            permitted,
            state: self.state(),
            failure_rate: rates.map_or(-1.0, |rates| rates.failure),
            slow_call_rate: rates.map_or(-1.0, |rates| rates.slow_call),
            buffered: calls.len(),
            failed: count(&calls, |call| call.failed),
            slow: count(&calls, |call| call.slow),
            not_permitted: count(self.shown().1, |entry| matches!(entry, Entry::Refused)),
        }
    }

    /// The log since the current state began.
    fn stay(&self) -> &[Entry] {
        &self.log[self.last_beginning().0..]
    }

    /// Where in the log the current state began, the state, and when.
    fn last_beginning(&self) -> (usize, State, u64) {
        self.beginnings()
            .next_back()
            .expect("the log opens with a beginning")
    }

    fn beginnings(&self) -> impl DoubleEndedIterator<Item = (usize, State, u64)> {
        self.log
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| match *entry {
                Entry::Began { state, at_ms } => Some((index, state, at_ms)),
                _ => None,
            })
    }

    /// The state whose window is shown, and the log since it began. An open breaker goes on with the window of the
    /// state that it came from, through as many openings as follow on one another.
    fn shown(&self) -> (State, &[Entry]) {
        let (index, state, _) = self
            .beginnings()
            .rfind(|&(_, state, _)| state != State::Open)
            .expect("a breaker starts closed");
        (state, &self.log[index..])
    }

    /// The calls in the window.
    fn window(&self) -> Vec<Call> {
        let (state, log) = self.shown();
        let all: Vec<Call> = log
            .iter()
            .filter_map(|entry| {
                if let Entry::Recorded(call) = entry {
                    Some(*call)
                } else {
                    None
                }
            })
            .collect();
        match (state, self.config.window) {
            (State::HalfOpen, _) => last(all, as_usize(self.config.permitted_half_open)),
            (_, Window::Count) => last(all, as_usize(self.config.size)),
            (_, Window::Time) => {
                let second = |ms: u64| ms / 1000;
                let age = |call: &Call| second(self.now_ms) - second(call.at_ms);
                all.into_iter()
                    .filter(|call| age(call) < u64::from(self.config.size))
                    .collect()
            }
        }
    }

    /// The rates of the window, once it holds enough calls.
    fn rates(&self) -> Option<Rates> {
        // A count window caps the minimum in half-open too, although that state has a window of its own.
        let configured = match self.config.window {
            Window::Count => self.config.minimum_calls.min(self.config.size),
            Window::Time => self.config.minimum_calls,
        };
        let minimum = match self.shown().0 {
            State::HalfOpen => configured.min(self.config.permitted_half_open),
            _ => configured,
        };
        let calls = self.window();
        if calls.is_empty() || calls.len() < as_usize(minimum) {
            return None;
        }
        // The product first: a whole number, so that a rate that equals its threshold is not rounded below it.
        let percent = |part: usize| part as f64 * 100.0 / calls.len() as f64;
        Some(Rates {
            failure: percent(count(&calls, |call| call.failed)),
            slow_call: percent(count(&calls, |call| call.slow)),
        })
    }

    /// Probes that were admitted in this stay and did not return their permit. A recorded result keeps its permit.
    fn probes(&self) -> usize {
        let stay = self.stay();
        count(stay, |entry| matches!(entry, Entry::Admitted))
            - count(stay, |entry| matches!(entry, Entry::Ignored))
    }

    fn wait_is_over(&self) -> bool {
        let (_, _, since_ms) = self.last_beginning();
        (self.now_ms - since_ms) as f64 > self.wait_ms()
    }

    fn wait_ms(&self) -> f64 {
        let base = self.config.wait_open_ms as f64;
        match self.config.growth {
            None => base,
            Some(Growth { multiplier, max_ms }) => {
                let mut wait = base;
                for _ in 1..self.openings() {
                    wait *= multiplier;
                }
                wait.min(max_ms as f64)
            }
        }
    }

    /// Openings, forced ones too, since the breaker was last closed, disabled or metrics only.
    fn openings(&self) -> usize {
        self.beginnings()
            .rev()
            .take_while(|(_, state, _)| {
                !matches!(state, State::Closed | State::Disabled | State::MetricsOnly)
            })
            .filter(|(_, state, _)| matches!(state, State::Open | State::ForcedOpen))
            .count()
    }
}

/// Both in percent.
#[derive(Clone, Copy, Debug)]
struct Rates {
    failure: f64,
    slow_call: f64,
}

fn count<T>(all: &[T], which: impl Fn(&T) -> bool) -> usize {
    all.iter().filter(|one| which(one)).count()
}

fn last(mut all: Vec<Call>, size: usize) -> Vec<Call> {
    all.split_off(all.len().saturating_sub(size))
}

fn as_usize(number: u32) -> usize {
    usize::try_from(number).expect("a size fits into memory")
}
