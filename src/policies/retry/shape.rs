//! How a retry stands in a file: the jitter belongs to the backoff there, and a budget is a table or off.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer, ser};

use super::{
    budget::RetryBudgetConfig,
    config::{BudgetChoice, RetryConfig},
};
use crate::{
    policies::backoff::{Backoff, Jitter},
    vocabulary::{
        clock::Clock,
        serialized::{Given, GivenDuration, duration, names, optional_duration},
    },
};

/// Settings of a retry.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct Shape {
    /// Attempts in all, the first counted, from 1 to 1000. One: no retry. Default: 3.
    max_attempts: u32,
    /// A retry whose wait would end later than this after the call began is not made. Above zero. Default: off.
    #[serde(with = "optional_duration")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::vocabulary::schema::Duration>")
    )]
    max_elapsed: Option<Duration>,
    /// The wait before a retry. Default: exponential from 100 ms, factor 2, at most 5 s, all of it random.
    backoff: Waits,
    /// The longest that a server's hint (`Retry-After`) is obeyed; a longer one is cut to this. Zero: hints are not
    /// waited for at all. Default: 10 s.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    max_hint: Duration,
    /// What pays for retries. Off: nothing, every failed call may be retried, and an incident sees up to
    /// `max_attempts` times the load. Default: 20 % of calls over 10 s, and 3 a second free.
    budget: Option<RetryBudgetConfig>,
    /// Names of predicates whose matches are retried; with any, nothing else is. Default: none.
    #[serde(with = "names")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::vocabulary::schema::Name>"))]
    on: Vec<String>,
    /// Names of predicates whose matches are not retried; they win over `on`. Default: none.
    #[serde(with = "names")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::vocabulary::schema::Name>"))]
    never_on: Vec<String>,
}

impl Default for Shape {
    fn default() -> Self {
        let RetryConfig {
            max_attempts,
            max_elapsed,
            backoff,
            jitter,
            max_hint,
            ..
        } = RetryConfig::default();
        Self {
            max_attempts,
            max_elapsed,
            backoff: Waits { backoff, jitter },
            max_hint,
            budget: Some(RetryBudgetConfig::default()),
            on: Vec::new(),
            never_on: Vec::new(),
        }
    }
}

impl From<Shape> for RetryConfig {
    fn from(shape: Shape) -> Self {
        let Shape {
            max_attempts,
            max_elapsed,
            backoff: Waits { backoff, jitter },
            max_hint,
            budget,
            on,
            never_on,
        } = shape;
        Self {
            max_attempts,
            max_elapsed,
            backoff,
            jitter,
            max_hint,
            budget: budget.map_or(BudgetChoice::Unlimited, BudgetChoice::Own),
            on,
            never_on,
            seed: None,
            clock: Clock::tokio(),
        }
    }
}

/// A closure and a budget that others share cannot be written: that is an error.
impl Serialize for RetryConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            max_attempts,
            max_elapsed,
            backoff,
            jitter,
            max_hint,
            budget,
            on,
            never_on,
            seed: _,
            clock: _,
        } = self.clone();
        let budget = match budget {
            BudgetChoice::Own(budget) => Some(budget),
            BudgetChoice::Unlimited => None,
            BudgetChoice::Shared(_) => {
                return Err(ser::Error::custom("a budget that others share cannot be written"));
            }
        };
        if matches!(backoff, Backoff::Function(_)) {
            return Err(ser::Error::custom(
                "a backoff that is a closure cannot be written",
            ));
        }
        let shape = Shape {
            max_attempts,
            max_elapsed,
            backoff: Waits { backoff, jitter },
            max_hint,
            budget,
            on,
            never_on,
        };
        shape.serialize(serializer)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for RetryConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RetryConfig".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Shape::json_schema(generator)
    }
}

/// A backoff and its jitter.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "BackoffShape", into = "BackoffShape")]
struct Waits {
    backoff: Backoff,
    jitter: Jitter,
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Waits {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Backoff".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BackoffShape::json_schema(generator)
    }
}

/// The wait before a retry: exponential (`initial`, `factor`, `max`), the same each time (`fixed`), or random and grown
/// from the one before (`base`, `max`).
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct BackoffShape {
    /// The same wait each time.
    #[serde(skip_serializing_if = "Given::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    fixed: GivenDuration,
    /// The wait before the first retry. Default: 100 ms.
    #[serde(skip_serializing_if = "Given::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    initial: GivenDuration,
    /// How the wait grows from one retry to the next, from 1. Default: 2.
    #[serde(skip_serializing_if = "Given::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    factor: Given<f64>,
    /// The shortest wait of the decorrelated jitter, above zero: each wait is evenly spread between it and three times
    /// the wait before.
    #[serde(skip_serializing_if = "Given::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    base: GivenDuration,
    /// The longest wait, not below `initial` or `base`. Default: 5 s, or the first wait where that is longer.
    #[serde(skip_serializing_if = "Given::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    max: GivenDuration,
    /// Which part of the wait is random: `none`, `full` (between zero and the wait) or `equal` (between half the wait
    /// and the wait). Default: `full`.
    #[serde(skip_serializing_if = "Given::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Jitter"))]
    jitter: Given<Jitter>,
}

impl TryFrom<BackoffShape> for Waits {
    type Error = String;

    fn try_from(shape: BackoffShape) -> Result<Self, String> {
        let jitter = shape.jitter.0.unwrap_or_default();
        let longest = Duration::from_secs(5);
        let max = |first: Duration| shape.max.duration().unwrap_or_else(|| longest.max(first));
        let exponential = shape.initial.duration().is_some() || shape.factor.0.is_some();
        let backoff = match (shape.fixed.duration(), shape.base.duration()) {
            (Some(wait), None) if !exponential && shape.max.0.is_none() => Backoff::fixed(wait),
            (None, Some(_)) if shape.jitter.0.is_some() => {
                return Err("a backoff with `base` is random by itself; leave `jitter` out".to_owned());
            }
            (None, Some(base)) if !exponential => Backoff::decorrelated(base, max(base)),
            (None, None) => {
                let initial = shape.initial.duration().unwrap_or(Duration::from_millis(100));
                Backoff::exponential(initial, shape.factor.0.unwrap_or(2.0), max(initial))
            }
            _ => {
                return Err(
                    "accepted: `initial`, `factor` and `max` for a wait that grows; `fixed` alone; or `base` and \
                     `max` for one that is random"
                        .to_owned(),
                );
            }
        };
        Ok(Self { backoff, jitter })
    }
}

impl From<Waits> for BackoffShape {
    fn from(Waits { backoff, jitter }: Waits) -> Self {
        let shape = Self {
            jitter: Given(Some(jitter)),
            ..Self::default()
        };
        match backoff {
            Backoff::Fixed(wait) => Self {
                fixed: wait.into(),
                ..shape
            },
            Backoff::Exponential { initial, factor, max } => Self {
                initial: initial.into(),
                factor: Given(Some(factor)),
                max: max.into(),
                ..shape
            },
            Backoff::Decorrelated { base, max } => Self {
                base: base.into(),
                max: max.into(),
                jitter: Given(None),
                ..shape
            },
            // Whoever serializes has looked before.
            Backoff::Function(_) => Self::default(),
        }
    }
}
