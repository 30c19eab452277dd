//! What stacks are made of, as plain values: what a file holds once it is read, and what a program can write by hand.
//!
//! | file | subject |
//! |---|---|
//! | `check.rs` | what is wrong with settings whose values are all of the right kind |
//! | `issue.rs` | what is wrong or noteworthy, with its place |
//! | `origin.rs` | where a value came from |
//! | `predicates.rs` | the names by which settings call predicates |

mod check;
mod issue;
mod origin;
mod predicates;

use std::collections::BTreeMap;

#[cfg(feature = "config")]
pub(crate) use self::check::refuse_name;
pub(crate) use self::check::{Names, path};
pub use self::{
    issue::{ConfigErrors, Issue, Place, Severity},
    origin::Origin,
    predicates::{Predicates, UnknownName},
};
use super::keyed::KeyedConfig;
use crate::{
    policies::{
        bulkhead::BulkheadConfig, circuit_breaker::CircuitBreakerConfig, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    vocabulary::event::PolicyKind,
};

/// The stacks of a program, by name.
///
/// They are equal when their stacks are, wherever these were written.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// The stacks, by name.
    pub stacks: BTreeMap<String, StackConfig>,
    /// What is noteworthy about them, though nothing is wrong: settings that have no effect here, and the like.
    pub notes: Vec<Issue>,
    /// Where values came from, by their path (`stacks.payments.timeout.limit`), where that is known. What is not in it
    /// was not written.
    pub origins: BTreeMap<String, Origin>,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.stacks == other.stacks
    }
}

/// The settings of a stack.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StackConfig {
    /// Its stages, outermost first.
    pub stages: Vec<StageConfig>,
    /// Where there is one of each policy for each key. Default: `None`, all calls share them.
    pub keyed: Option<KeyedBy>,
}

/// One stage of a stack.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StageConfig {
    /// Its name, unique in its stack: `retry`, `total`. Its policy is called `stack/stage`.
    pub name: String,
    /// Its policy.
    pub policy: PolicyConfig,
}

/// The settings of any policy that can be set up by values alone.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "a handful of them live while a program starts"
)]
pub enum PolicyConfig {
    /// A circuit breaker.
    CircuitBreaker(CircuitBreakerConfig),
    /// A retry.
    Retry(RetryConfig),
    /// A timeout.
    Timeout(TimeoutConfig),
    /// A bulkhead.
    Bulkhead(BulkheadConfig),
}

/// By what the policies of a stack are keyed, and how many keys there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyedBy {
    /// What a key is: `authority` (scheme, host and port of a request), or a name that the program gives a meaning to.
    pub per: String,
    /// How many keys there may be, and when one is forgotten.
    pub config: KeyedConfig,
}

impl Settings {
    /// No stack yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stack, or puts it in place of another of that name.
    #[must_use]
    pub fn stack(mut self, name: &str, config: StackConfig) -> Self {
        self.stacks.insert(name.to_owned(), config);
        self
    }
}

impl StackConfig {
    /// No stage yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage inside of those before.
    #[must_use]
    pub fn stage(mut self, name: &str, policy: impl Into<PolicyConfig>) -> Self {
        self.stages.push(StageConfig::new(name, policy));
        self
    }

    /// Gives each key policies of its own.
    #[must_use]
    pub fn keyed(mut self, per: &str, config: KeyedConfig) -> Self {
        self.keyed = Some(KeyedBy::new(per, config));
        self
    }
}

impl StageConfig {
    /// A stage of that name.
    pub fn new(name: &str, policy: impl Into<PolicyConfig>) -> Self {
        Self {
            name: name.to_owned(),
            policy: policy.into(),
        }
    }
}

impl KeyedBy {
    /// Keyed by that.
    pub fn new(per: &str, config: KeyedConfig) -> Self {
        Self {
            per: per.to_owned(),
            config,
        }
    }
}

impl PolicyConfig {
    /// The kind of the policy.
    pub const fn kind(&self) -> PolicyKind {
        match self {
            Self::CircuitBreaker(_) => PolicyKind::CircuitBreaker,
            Self::Retry(_) => PolicyKind::Retry,
            Self::Timeout(_) => PolicyKind::Timeout,
            Self::Bulkhead(_) => PolicyKind::Bulkhead,
        }
    }
}

macro_rules! from_config {
    ($($kind:ident: $config:ty;)*) => {$(
        impl From<$config> for PolicyConfig {
            fn from(config: $config) -> Self {
                Self::$kind(config)
            }
        }
    )*};
}

from_config! {
    CircuitBreaker: CircuitBreakerConfig;
    Retry: RetryConfig;
    Timeout: TimeoutConfig;
    Bulkhead: BulkheadConfig;
}
