//! What a circuit breaker counts, once somebody asks for it.

use std::time::Duration;

use crate::vocabulary::{
    meter::{Counter, Histogram},
    outcome::Verdict,
    rejected::Reason,
    state::State,
};

/// The counts of one breaker, or of the breakers of all keys. Alone on its cache lines: calls write here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CircuitBreakerMeter {
    /// Calls that ended, by how long they took.
    pub(crate) succeeded: Histogram,
    pub(crate) failed: Histogram,
    pub(crate) ignored: Histogram,
    pub(crate) refused: Refused,
    transitions: [Counter; State::ALL.len()],
}

/// Calls that were refused, by why.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) open: Counter,
    pub(crate) forced_open: Counter,
    pub(crate) probes_taken: Counter,
    pub(crate) was_open: Counter,
}

impl CircuitBreakerMeter {
    #[inline]
    pub(super) fn count(&self, verdict: Verdict, took: Duration) {
        let calls = match verdict {
            Verdict::Success => &self.succeeded,
            Verdict::Failure => &self.failed,
            Verdict::Ignored => &self.ignored,
        };
        calls.record(took);
    }

    /// Calls that ended or were refused, by outcome.
    pub(super) fn calls(&self) -> [(&'static str, u64); 4] {
        let refused = &self.refused;
        let refused = [
            &refused.open,
            &refused.forced_open,
            &refused.probes_taken,
            &refused.was_open,
        ];
        [
            ("success", self.succeeded.count()),
            ("failure", self.failed.count()),
            ("ignored", self.ignored.count()),
            ("rejected", refused.into_iter().map(Counter::read).sum()),
        ]
    }

    pub(super) fn count_refusal(&self, reason: &Reason) {
        let counter = match reason {
            Reason::ForcedOpen => &self.refused.forced_open,
            Reason::ProbesTaken { .. } => &self.refused.probes_taken,
            Reason::WasOpen => &self.refused.was_open,
            _ => &self.refused.open,
        };
        counter.add();
    }

    pub(super) fn count_transition(&self, to: State) {
        self.transitions[place_of(to)].add();
    }

    /// Transitions to this state.
    #[cfg(feature = "metrics")]
    pub(crate) fn transitions(&self, to: State) -> u64 {
        self.transitions[place_of(to)].read()
    }
}

/// The place of a state in [`State::ALL`].
fn place_of(state: State) -> usize {
    State::ALL.iter().position(|known| *known == state).unwrap_or(0)
}
