//! How long to wait before another try.

use std::{fmt, sync::Arc, time::Duration};

use crate::vocabulary::{outcome::Outcome, random::Random, settings::ConfigError};

/// The wait before a retry.
#[derive(Clone)]
#[non_exhaustive]
pub enum Backoff {
    /// The same each time.
    Fixed(Duration),
    /// `initial * factor^(n-1)` before the n-th retry, at most `max`.
    Exponential {
        /// The wait before the first retry.
        initial: Duration,
        /// How it grows, from 1.
        factor: f64,
        /// The longest wait, not below `initial`.
        max: Duration,
    },
    /// Evenly spread between `base` and three times the wait before, at most `max`: the "decorrelated jitter"
    /// of [Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/),
    /// with the cap inside: `uniform(base, min(max, 3 * previous))`. No other jitter is added to it.
    Decorrelated {
        /// The shortest wait, above zero, and what the first one grows from.
        base: Duration,
        /// The longest wait, not below `base`.
        max: Duration,
    },
    /// What a closure says, given the number of the attempt that failed (the first is 1) and its outcome.
    Function(BackoffFunction),
}

/// The closure of [`Backoff::Function`].
pub type BackoffFunction = Arc<dyn for<'a, 'b> Fn(u32, &'a Outcome<'b>) -> Duration + Send + Sync>;

/// Which part of a wait is random, so that clients do not come back in step.
///
/// The jitter is applied **inside** the cap: a wait is capped first and spread then. A cap applied after the
/// jitter gathers the clients again at the cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Jitter {
    /// None: the wait as it is.
    None,
    /// All of it: evenly spread between zero and the wait.
    #[default]
    Full,
    /// Half of it: evenly spread between half the wait and the wait.
    Equal,
}

impl Backoff {
    /// The same wait each time.
    pub const fn fixed(wait: Duration) -> Self {
        Self::Fixed(wait)
    }

    /// A wait that grows by `factor` from `initial` up to `max`.
    pub const fn exponential(initial: Duration, factor: f64, max: Duration) -> Self {
        Self::Exponential { initial, factor, max }
    }

    /// A random wait that grows from the one before, between `base` and `max`.
    pub const fn decorrelated(base: Duration, max: Duration) -> Self {
        Self::Decorrelated { base, max }
    }

    /// What the closure says.
    pub fn function(
        wait: impl for<'a, 'b> Fn(u32, &'a Outcome<'b>) -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self::Function(Arc::new(wait))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: &dyn fmt::Debug, accepted: String| {
            Err(ConfigError::new(field, format_args!("{value:?}"), accepted))
        };
        match self {
            Self::Exponential { factor, .. } if !(*factor >= 1.0 && factor.is_finite()) => {
                refuse("backoff.factor", factor, "accepted: 1 or more".to_owned())
            }
            Self::Exponential { initial, max, .. } if max < initial => refuse(
                "backoff.max",
                max,
                format!("accepted: backoff.initial ({initial:?}) or more"),
            ),
            Self::Decorrelated { base, .. } if base.is_zero() => {
                refuse("backoff.base", base, "accepted: above zero".to_owned())
            }
            Self::Decorrelated { base, max } if max < base => refuse(
                "backoff.max",
                max,
                format!("accepted: backoff.base ({base:?}) or more"),
            ),
            _ => Ok(()),
        }
    }

    /// A wait as a share of the longest one, rounded down; `u16::MAX` is all of it. Only what grows from the wait
    /// before needs it.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn share_of_longest(&self, wait: Duration) -> u16 {
        match self {
            Self::Decorrelated { max, .. } => {
                (wait.as_secs_f64() / max.as_secs_f64() * f64::from(u16::MAX)) as u16
            }
            _ => 0,
        }
    }

    /// The wait that is such a share of the longest one.
    pub(crate) fn of_longest(&self, part: u16) -> Duration {
        match self {
            Self::Decorrelated { max, .. } => share(*max, f64::from(part) / f64::from(u16::MAX)),
            _ => Duration::ZERO,
        }
    }

    /// The shortest and the longest wait after attempt `attempt` (the first is 1); `None` where a closure says it.
    pub(crate) fn bounds(&self, attempt: u32, jitter: Jitter) -> Option<(Duration, Duration)> {
        let capped = match self {
            Self::Fixed(wait) => *wait,
            Self::Exponential { initial, factor, max } => {
                growth(*initial, *factor, *max, attempt.saturating_sub(1))
            }
            Self::Decorrelated { base, max } => return Some((*base, growth(*base, 3.0, *max, attempt))),
            Self::Function(_) => return None,
        };
        let shortest = match jitter {
            Jitter::None => capped,
            Jitter::Full => Duration::ZERO,
            Jitter::Equal => capped / 2,
        };
        Some((shortest, capped))
    }

    /// The wait after attempt `attempt` (the first is 1), `previous` being the wait before that attempt.
    pub(crate) fn wait(
        &self,
        attempt: u32,
        previous: Duration,
        outcome: &Outcome<'_>,
        jitter: Jitter,
        random: &Random,
    ) -> Duration {
        let capped = match self {
            Self::Fixed(wait) => *wait,
            Self::Exponential { initial, factor, max } => {
                growth(*initial, *factor, *max, attempt.saturating_sub(1))
            }
            Self::Function(wait) => wait(attempt, outcome),
            Self::Decorrelated { base, max } => {
                let highest = previous.max(*base).saturating_mul(3).min(*max);
                return *base + share(highest.saturating_sub(*base), random.unit());
            }
        };
        match jitter {
            Jitter::None => capped,
            Jitter::Full => share(capped, random.unit()),
            Jitter::Equal => capped / 2 + share(capped.saturating_sub(capped / 2), random.unit()),
        }
    }
}

/// Closures are the same when they are the same one.
impl PartialEq for Backoff {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fixed(one), Self::Fixed(other)) => one == other,
            (
                Self::Exponential { initial, factor, max },
                Self::Exponential {
                    initial: other_initial,
                    factor: other_factor,
                    max: other_max,
                },
            ) => initial == other_initial && factor == other_factor && max == other_max,
            (
                Self::Decorrelated { base, max },
                Self::Decorrelated {
                    base: other_base,
                    max: other_max,
                },
            ) => base == other_base && max == other_max,
            (Self::Function(one), Self::Function(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Default for Backoff {
    /// Exponential from 100 ms, factor 2, at most 5 s.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), 2.0, Duration::from_secs(5))
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(wait) => f.debug_tuple("Fixed").field(wait).finish(),
            Self::Exponential { initial, factor, max } => f
                .debug_struct("Exponential")
                .field("initial", initial)
                .field("factor", factor)
                .field("max", max)
                .finish(),
            Self::Decorrelated { base, max } => f
                .debug_struct("Decorrelated")
                .field("base", base)
                .field("max", max)
                .finish(),
            Self::Function(_) => f.write_str("Function(..)"),
        }
    }
}

/// `initial * factor^exponent`, at most `max`, however large the exponent.
pub(crate) fn growth(initial: Duration, factor: f64, max: Duration, exponent: u32) -> Duration {
    let grown = initial.as_secs_f64() * factor.powf(f64::from(exponent));
    if initial.is_zero() {
        return initial;
    }
    // Infinity is below nothing.
    if grown < max.as_secs_f64() {
        Duration::from_secs_f64(grown).min(max)
    } else {
        max
    }
}

/// That share of a duration; `unit` is from 0 to 1.
pub(crate) fn share(duration: Duration, unit: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * unit).map_or(duration, |part| part.min(duration))
}
