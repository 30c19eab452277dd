//! The breaker's windows against a list of all calls, while its settings change: what is counted without a lock, and when it
//! is taken in, must not be seen from outside.
//!
//! The conformance scenarios do the same for settings that stay.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use buttress::{CircuitBreaker, CircuitBreakerConfig, Clock, State, Verdict};
use proptest::{collection::vec, option, prelude::*};

const SLOW: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Window {
    Calls(u32),
    Seconds(u32),
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    window: Window,
    minimum: u32,
    /// Percent.
    failure_rate: u32,
    slow_rate: Option<u32>,
    in_a_row: Option<u32>,
}

#[derive(Clone, Debug)]
enum Step {
    /// So many plain successes.
    Succeed(usize),
    /// A call that failed, was slow, or both.
    Odd {
        failed: bool,
        slow: bool,
    },
    Ignore,
    /// So many milliseconds pass.
    Advance(u64),
    Reconfigure(Settings),
    /// The counts are looked at.
    Look,
}

fn settings() -> impl Strategy<Value = Settings> {
    let window = prop_oneof![
        3 => prop_oneof![1..=8_u32, 30..=130_u32].prop_map(Window::Calls),
        2 => (1..=5_u32).prop_map(Window::Seconds),
    ];
    let percent = || prop_oneof![Just(5), Just(20), Just(50), Just(100)];
    let minimum = prop_oneof![2 => 1..=10_u32, 1 => 10..=60_u32];
    (
        window,
        minimum,
        percent(),
        option::of(percent()),
        option::weighted(0.3, 1..=4_u32),
    )
        .prop_map(|(window, minimum, failure_rate, slow_rate, in_a_row)| Settings {
            window,
            minimum,
            failure_rate,
            slow_rate,
            in_a_row,
        })
}

/// Other settings with the same window, so that it keeps what it holds, as often as with another.
fn step(first: Settings) -> impl Strategy<Value = Step> {
    let other = (settings(), any::<bool>()).prop_map(move |(mut other, same)| {
        if same {
            other.window = first.window;
        }
        Step::Reconfigure(other)
    });
    prop_oneof![
        8 => prop_oneof![4 => 1..6_usize, 1 => 20..150_usize].prop_map(Step::Succeed),
        5 => (any::<bool>(), any::<bool>())
            .prop_filter("not a plain success", |(failed, slow)| *failed || *slow)
            .prop_map(|(failed, slow)| Step::Odd { failed, slow }),
        1 => Just(Step::Ignore),
        2 => prop_oneof![Just(1), Just(400), Just(1_000), 0..6_000_u64].prop_map(Step::Advance),
        1 => other,
        2 => Just(Step::Look),
    ]
}

impl Settings {
    fn config(self) -> CircuitBreakerConfig {
        let rate = |percent: u32| f64::from(percent) / 100.0;
        let mut config = CircuitBreakerConfig::new()
            .minimum_calls(self.minimum)
            .failure_rate(rate(self.failure_rate));
        config = match self.window {
            Window::Calls(size) => config.count_window(size),
            Window::Seconds(seconds) => config.time_window(Duration::from_secs(seconds.into())),
        };
        if let Some(percent) = self.slow_rate {
            config = config.slow_calls(SLOW, rate(percent));
        }
        if let Some(failures) = self.in_a_row {
            config = config.consecutive_failures(failures);
        }
        config
    }
}

struct Call {
    second: u64,
    failed: bool,
    slow: bool,
}

/// Everything since the breaker was last closed.
struct Log {
    settings: Settings,
    now: u64,
    calls: Vec<Call>,
    /// The window holds no call before this one.
    window_from: usize,
    /// Failures in a row are not counted from before this one.
    row_from: usize,
}

impl Log {
    fn window(&self) -> Vec<&Call> {
        let calls = &self.calls[self.window_from..];
        match self.settings.window {
            Window::Calls(size) => calls.iter().rev().take(size as usize).collect(),
            Window::Seconds(seconds) => {
                let second = self.now / 1_000;
                let held = |call: &&Call| call.second + u64::from(seconds) > second;
                calls.iter().filter(held).collect()
            }
        }
    }

    /// Calls, failures, slow calls and slow failures.
    fn counts(&self) -> [u64; 4] {
        let window = self.window();
        let count = |of: fn(&Call) -> bool| window.iter().filter(|call| of(call)).count() as u64;
        [
            count(|_| true),
            count(|call| call.failed),
            count(|call| call.slow),
            count(|call| call.failed && call.slow),
        ]
    }

    /// Records a call, and tells whether that opens the breaker.
    fn record(&mut self, failed: bool, slow: bool) -> bool {
        let slow = slow && self.settings.slow_rate.is_some();
        let second = self.now / 1_000;
        self.calls.push(Call { second, failed, slow });
        let [calls, failures, slow_calls, _] = self.counts();
        let mut minimum = u64::from(self.settings.minimum);
        if let Window::Calls(size) = self.settings.window {
            minimum = minimum.min(size.into());
        }
        let reached = |part: u64, percent: u32| calls >= minimum && part * 100 >= calls * u64::from(percent);
        let in_a_row = self.calls[self.row_from..]
            .iter()
            .rev()
            .take_while(|call| call.failed);
        let row = in_a_row.count();
        reached(failures, self.settings.failure_rate)
            || self
                .settings
                .slow_rate
                .is_some_and(|rate| reached(slow_calls, rate))
            || self.settings.in_a_row.is_some_and(|most| row >= most as usize)
    }

    fn reconfigure(&mut self, settings: Settings) {
        if settings.window != self.settings.window {
            self.window_from = self.calls.len();
        }
        if self.settings.in_a_row.is_none() {
            self.row_from = self.calls.len();
        }
        self.settings = settings;
    }

    fn forget(&mut self) {
        self.calls.clear();
        (self.window_from, self.row_from) = (0, 0);
    }
}

fn settle(breaker: &CircuitBreaker, verdict: Verdict, slow: bool) {
    let took = if slow { SLOW + SLOW } else { SLOW };
    breaker.try_acquire().unwrap().settle_after(verdict, took);
}

fn scenario() -> impl Strategy<Value = (Settings, Vec<Step>)> {
    settings().prop_flat_map(|first| (Just(first), vec(step(first), 1..80)))
}

proptest! {
    #[test]
    fn a_breaker_opens_when_and_only_when_a_list_of_all_calls_says_so((first, steps) in scenario()) {
        let (clock, hand) = Clock::manual();
        let breaker = first.config().clock(clock).build("model").unwrap();
        let mut log = Log { settings: first, now: 0, calls: Vec::new(), window_from: 0, row_from: 0 };
        for step in steps.into_iter().chain([Step::Look]) {
            let records: Vec<(bool, bool)> = match step {
                Step::Succeed(times) => vec![(false, false); times],
                Step::Odd { failed, slow } => vec![(failed, slow)],
                Step::Ignore => {
                    settle(&breaker, Verdict::Ignored, true);
                    Vec::new()
                }
                Step::Advance(by) => {
                    hand.advance(Duration::from_millis(by));
                    log.now += by;
                    Vec::new()
                }
                Step::Reconfigure(settings) => {
                    breaker.reconfigure(&settings.config()).unwrap();
                    log.reconfigure(settings);
                    Vec::new()
                }
                Step::Look => {
                    let seen = breaker.snapshot();
                    let counts = [seen.calls, seen.failed, seen.slow, seen.slow_failed];
                    prop_assert_eq!(counts, log.counts());
                    Vec::new()
                }
            };
            for (failed, slow) in records {
                let verdict = if failed { Verdict::Failure } else { Verdict::Success };
                settle(&breaker, verdict, slow);
                let opens = log.record(failed, slow);
                prop_assert_eq!(breaker.state() == State::Open, opens, "{:?}", log.counts());
                if opens {
                    breaker.close();
                    log.forget();
                }
            }
        }
    }
}
