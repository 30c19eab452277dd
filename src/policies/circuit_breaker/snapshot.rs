//! What a circuit breaker shows of itself.

use std::time::Duration;

use super::{gate::Gate, machine::View};
use crate::vocabulary::{clock::Timestamp, rate::Rate, rejected::OpenCause, state::State};

/// A circuit breaker at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitBreakerSnapshot {
    /// The state.
    pub state: State,
    /// Counts the states that it has been in; a result counts only in the generation that admitted it.
    pub generation: u32,
    /// How long ago this state began.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "since_seconds", serialize_with = "crate::vocabulary::json::seconds")
    )]
    pub since: Duration,
    /// What is left until open ends its wait, or half-open its longest stay. Zero when that is due and nobody
    /// has asked for admission yet. `None` where nothing ends by itself.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "until_seconds",
            serialize_with = "crate::vocabulary::json::maybe_seconds"
        )
    )]
    pub until: Option<Duration>,
    /// Why it is open; `None` in other states.
    pub cause: Option<OpenCause>,
    /// Calls in the window. Open goes on showing the window of the state before it; a time window goes on
    /// expiring meanwhile.
    pub calls: u64,
    /// Of these, failures.
    pub failed: u64,
    /// Of these, slow calls, whatever their results.
    pub slow: u64,
    /// Of these, slow failures.
    pub slow_failed: u64,
    /// Share of failures; `None` while there are fewer calls than the minimum.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::vocabulary::json::maybe_fraction")
    )]
    pub failure_rate: Option<Rate>,
    /// Share of slow calls; `None` while there are fewer calls than the minimum.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::vocabulary::json::maybe_fraction")
    )]
    pub slow_call_rate: Option<Rate>,
    /// Calls refused since the window of this state began; open goes on counting from the state before it.
    pub not_permitted: u64,
    /// Calls refused since it was built.
    pub rejected: u64,
    /// Openings since it was last closed, disabled or metrics only.
    pub openings: u32,
}

impl CircuitBreakerSnapshot {
    pub(super) fn new(view: &View, gate: &Gate, now: Timestamp) -> Self {
        let totals = view.totals;
        let rate = |part: u64| {
            (totals.calls > 0 && totals.calls >= view.minimum)
                .then(|| Rate::fraction(part as f64 / totals.calls as f64))
        };
        Self {
            state: view.state,
            generation: view.generation,
            since: now.since(view.since),
            until: view.until.map(|until| until.since(now)),
            cause: view.cause,
            calls: totals.calls,
            failed: totals.failed,
            slow: totals.slow,
            slow_failed: totals.slow_failed,
            failure_rate: rate(totals.failed),
            slow_call_rate: rate(totals.slow),
            not_permitted: gate.not_permitted(),
            rejected: gate.refused(),
            openings: view.openings,
        }
    }
}
