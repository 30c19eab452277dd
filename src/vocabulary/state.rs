//! The states of a circuit breaker.

use std::fmt;

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum State {
    /// Calls pass and are recorded; a rate at its threshold opens.
    #[default]
    Closed,
    /// Calls are refused until the wait is over.
    Open,
    /// A few probes decide whether to close or to open again.
    HalfOpen,
    /// Calls are refused until another command. Nothing is recorded.
    ForcedOpen,
    /// Calls pass and nothing is recorded, until another command.
    Disabled,
    /// Calls pass and are recorded, and nothing is judged, until another command.
    MetricsOnly,
}

impl State {
    /// Each of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::Disabled,
        Self::MetricsOnly,
    ];

    /// Its word, as in settings and in JSON: `half_open`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
