//! What an operator commands, and who did.

use std::{fmt, sync::Arc};

use crate::vocabulary::state::State;

/// A command to a policy, or to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// A circuit breaker refuses all calls.
    ForceOpen,
    /// A circuit breaker opens as if a rate had reached its threshold.
    Open,
    /// A circuit breaker admits probes now.
    HalfOpen,
    /// A circuit breaker closes, with an empty window.
    Close,
    /// A circuit breaker lets all calls through and records none.
    Disable,
    /// A circuit breaker lets all calls through, records them and opens on nothing.
    MetricsOnly,
    /// A circuit breaker forgets everything, and is closed.
    Reset,
    /// A bulkhead takes another limit.
    Resize {
        /// Calls that may be in flight at once, from 1 to 1 000 000.
        max_concurrent: u32,
    },
    /// A registry loads its settings anew.
    Reload,
}

impl Command {
    /// Its word, as in JSON: `force_open`, `resize`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ForceOpen => "force_open",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Close => "close",
            Self::Disable => "disable",
            Self::MetricsOnly => "metrics_only",
            Self::Reset => "reset",
            Self::Resize { .. } => "resize",
            Self::Reload => "reload",
        }
    }

    /// The state that it brings a circuit breaker into.
    pub(crate) const fn state(self) -> Option<State> {
        match self {
            Self::ForceOpen => Some(State::ForcedOpen),
            Self::Open => Some(State::Open),
            Self::HalfOpen => Some(State::HalfOpen),
            Self::Close | Self::Reset => Some(State::Closed),
            Self::Disable => Some(State::Disabled),
            Self::MetricsOnly => Some(State::MetricsOnly),
            Self::Resize { .. } | Self::Reload => None,
        }
    }

    /// Whether what it brings about lasts until another command, so that it can be given a time to live.
    pub const fn is_override(self) -> bool {
        matches!(
            self,
            Self::ForceOpen | Self::Disable | Self::MetricsOnly | Self::Resize { .. }
        )
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resize { max_concurrent } => write!(f, "resize to {max_concurrent}"),
            _ => f.write_str(self.word()),
        }
    }
}

/// Who gave a command, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct By {
    /// Who: a name, or what the token is labelled with that the command came with.
    pub label: Arc<str>,
    /// Why, for those who read of it later.
    pub reason: Arc<str>,
}

impl By {
    /// By whom, and why.
    pub fn new(label: impl Into<Arc<str>>, reason: impl Into<Arc<str>>) -> Self {
        Self {
            label: label.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.label, self.reason)
    }
}

/// How what a command had brought about came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OverrideEnd {
    /// Its time to live was over: the policy is automatic again.
    Expired,
    /// Another command took its place before that.
    Replaced,
    /// The policy had left what it was commanded into in another way before that, and stays as it is.
    Left,
}

impl OverrideEnd {
    /// Its word, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Left => "left",
        }
    }
}
