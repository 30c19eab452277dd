//! The kinds of stages that a file can hold.

use super::{
    de::{Read, read},
    tree::{Node, Table, Value},
};
use crate::{
    composition::settings::PolicyConfig,
    policies::{
        bulkhead::BulkheadConfig, circuit_breaker::CircuitBreakerConfig, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    vocabulary::event::PolicyKind,
};

/// The kind of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Retry,
    CircuitBreaker,
    Timeout,
    Bulkhead,
}

impl Kind {
    /// All of them, in the order that a stack has without a word on it, outermost first.
    pub(crate) const ALL: [Self; 4] = [Self::Retry, Self::CircuitBreaker, Self::Timeout, Self::Bulkhead];

    pub(crate) const NAMES: [&str; 4] = ["retry", "circuit_breaker", "timeout", "bulkhead"];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::CircuitBreaker => "circuit_breaker",
            Self::Timeout => "timeout",
            Self::Bulkhead => "bulkhead",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind that a policy has in a file, if it can stand in one.
    pub(crate) const fn of(kind: PolicyKind) -> Option<Self> {
        match kind {
            PolicyKind::Retry => Some(Self::Retry),
            PolicyKind::CircuitBreaker => Some(Self::CircuitBreaker),
            PolicyKind::Timeout => Some(Self::Timeout),
            PolicyKind::Bulkhead => Some(Self::Bulkhead),
            PolicyKind::Fallback | PolicyKind::Registry => None,
        }
    }

    /// The kind of a stage by its name, or by what it says itself.
    pub(crate) fn of_stage(name: &str, stage: &Node) -> Option<Self> {
        Self::named(name).or_else(|| Self::named(stage.table()?.get("kind")?.text()?))
    }

    /// The key that a value in the place of the stage's table is for: `timeout = "2s"`, `bulkhead = 64`.
    const fn short_key(self) -> Option<&'static str> {
        match self {
            Self::Timeout => Some("limit"),
            Self::Bulkhead => Some("max_concurrent"),
            Self::Retry | Self::CircuitBreaker => None,
        }
    }

    /// Makes a table of a value in the place of one, where that means something.
    pub(crate) fn lengthen(self, stage: &mut Node) {
        if let (Some(key), Value::String(_) | Value::Integer(_) | Value::Float(_)) =
            (self.short_key(), &stage.value)
        {
            let scalar = Node::new(
                std::mem::replace(&mut stage.value, Value::Null),
                stage.place.clone(),
            );
            stage.value = Value::Table(Table::short_for(key, scalar));
        }
    }

    /// What is accepted in the place of a stage of this kind.
    pub(crate) fn accepted(self) -> &'static str {
        match self {
            Self::Retry => "accepted: a table, such as { max_attempts = 3 }",
            Self::CircuitBreaker => "accepted: a table, such as { failure_rate = \"50%\" }",
            Self::Timeout => "accepted: a duration such as \"2s\", or a table, such as { limit = \"2s\" }",
            Self::Bulkhead => {
                "accepted: a number of calls such as 64, or a table, such as { max_concurrent = 64 }"
            }
        }
    }

    /// Reads the settings of a stage of this kind.
    pub(crate) fn read(self, stage: &Node) -> Read<PolicyConfig> {
        match self {
            Self::Retry => read::<RetryConfig>(stage).map(PolicyConfig::Retry),
            Self::CircuitBreaker => read::<CircuitBreakerConfig>(stage).map(|mut breaker| {
                // As the builder does it: a long wait raises the longest one, unless that was given.
                if stage.at(["open", "max"]).is_none() {
                    breaker.open.max = breaker.open.max.max(breaker.open.wait);
                }
                PolicyConfig::CircuitBreaker(breaker)
            }),
            Self::Timeout => read::<TimeoutConfig>(stage).map(PolicyConfig::Timeout),
            Self::Bulkhead => read::<BulkheadConfig>(stage).map(PolicyConfig::Bulkhead),
        }
    }
}
