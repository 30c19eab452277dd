//! Plays scenarios to the real circuit breaker.

use std::time::Duration;

use buttress::{
    CircuitBreaker, CircuitBreakerConfig, Clock, ClockHand, ConfigError, Permit, Rate, State as BreakerState,
    Verdict,
};

use super::reference::{Answer, Command, Config, Outcome, State, Step, Window};

/// What the breaker answers to each step.
pub(crate) fn play(name: &str, config: &Config, steps: &[Step]) -> Result<Vec<Answer>, ConfigError> {
    let mut player = Player::new(name, config)?;
    Ok(steps.iter().map(|step| player.step(step)).collect())
}

struct Player {
    breaker: CircuitBreaker,
    hand: ClockHand,
    /// Held admissions, all of this generation.
    held: Vec<Permit>,
    generation: u32,
}

impl Player {
    fn new(name: &str, config: &Config) -> Result<Self, ConfigError> {
        let (clock, hand) = Clock::manual();
        let wait = Duration::from_millis(config.wait_open_ms);
        let mut settings = CircuitBreakerConfig::new()
            .minimum_calls(config.minimum_calls)
            .failure_rate(Rate::percent(config.failure_rate_threshold))
            .slow_calls(
                Duration::from_millis(config.slow_call_duration_ms),
                Rate::percent(config.slow_call_rate_threshold),
            )
            .probes(config.permitted_half_open)
            // The reference knows no probe that is too old, and no jitter.
            .max_probe_age(Duration::from_secs(u64::from(u32::MAX)))
            .open_jitter(0.0)
            .clock(clock);
        settings = match config.window {
            Window::Count => settings.count_window(config.size),
            Window::Time => settings.time_window(Duration::from_secs(u64::from(config.size))),
        };
        settings = match config.growth {
            None => settings.open_wait(wait).open_growth(1.0, wait),
            Some(growth) => {
                let max = Duration::from_millis(growth.max_ms);
                settings
                    .open_wait(wait.min(max))
                    .open_growth(growth.multiplier, max)
            }
        };
        let breaker = settings.build(name)?;
        let generation = breaker.snapshot().generation;
        Ok(Self {
            breaker,
            hand,
            held: Vec::new(),
            generation,
        })
    }

    fn step(&mut self, step: &Step) -> Answer {
        let permitted = match *step {
            Step::Call { outcome, ms } => {
                let permit = self.breaker.try_acquire();
                let permitted = permit.is_ok();
                if let Ok(permit) = permit {
                    settle(permit, outcome, ms);
                }
                Some(permitted)
            }
            Step::Acquire => {
                let permit = self.breaker.try_acquire();
                let permitted = permit.is_ok();
                self.forget_if_changed();
                self.held.extend(permit);
                Some(permitted)
            }
            Step::Finish { outcome, ms } => {
                if let Some(permit) = self.held.pop() {
                    settle(permit, outcome, ms);
                }
                None
            }
            Step::Advance { ms } => {
                self.hand.advance(Duration::from_millis(ms));
                None
            }
            Step::Transition { to } => {
                match to {
                    Command::Closed => self.breaker.close(),
                    Command::Open => self.breaker.open(),
                    Command::HalfOpen => self.breaker.half_open(),
                    Command::ForcedOpen => self.breaker.force_open(),
                    Command::Disabled => self.breaker.disable(),
                    Command::MetricsOnly => self.breaker.metrics_only(),
                    Command::Reset => self.breaker.reset(),
                }
                None
            }
        };
        self.forget_if_changed();
        self.answer(permitted)
    }

    fn forget_if_changed(&mut self) {
        let generation = self.breaker.snapshot().generation;
        if generation != self.generation {
            self.generation = generation;
            self.held.clear();
        }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn answer(&self, permitted: Option<bool>) -> Answer {
        let shown = self.breaker.snapshot();
        let percent = |rate: Option<Rate>| rate.map_or(-1.0, Rate::as_percent);
        Answer {
            permitted,
            state: match shown.state {
                BreakerState::Closed => State::Closed,
                BreakerState::Open => State::Open,
                BreakerState::HalfOpen => State::HalfOpen,
                BreakerState::ForcedOpen => State::ForcedOpen,
                BreakerState::Disabled => State::Disabled,
                BreakerState::MetricsOnly => State::MetricsOnly,
            },
            failure_rate: percent(shown.failure_rate),
            slow_call_rate: percent(shown.slow_call_rate),
            buffered: shown.calls as usize,
            failed: shown.failed as usize,
            slow: shown.slow as usize,
            not_permitted: shown.not_permitted as usize,
        }
    }
}

fn settle(permit: Permit, outcome: Outcome, ms: u64) {
    let verdict = match outcome {
        Outcome::Ok | Outcome::Unrecorded => Verdict::Success,
        Outcome::Error => Verdict::Failure,
        Outcome::Ignored => Verdict::Ignored,
    };
    permit.settle_after(verdict, Duration::from_millis(ms));
}
