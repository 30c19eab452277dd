//! What a retry counts, once somebody asks for it.

use crate::vocabulary::{event::GaveUp, meter::Counter, outcome::Verdict};

/// Calls with more attempts count as having had so many.
pub(crate) const MOST_ATTEMPTS: usize = 16;

/// Calls that ended, by the number of their attempts: the place 0 is for one attempt.
pub(crate) type ByAttempts = [Counter; MOST_ATTEMPTS];

/// The counts of one retry, or of the retries of all keys. Alone on its cache lines: calls write here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct RetryMeter {
    /// What the caller got counted as this.
    pub(crate) succeeded: ByAttempts,
    pub(crate) failed: ByAttempts,
    pub(crate) ignored: ByAttempts,
    /// The call ended without a result.
    pub(crate) dropped: ByAttempts,
    /// Attempts beyond the first that were decided on.
    pub(crate) retries: Counter,
    pub(crate) gave_up: GaveUpBy,
}

/// Failed calls that got no other attempt, by why.
#[derive(Debug, Default)]
pub(crate) struct GaveUpBy {
    pub(crate) attempts: Counter,
    pub(crate) elapsed: Counter,
    pub(crate) budget: Counter,
    pub(crate) not_repeatable: Counter,
    pub(crate) not_advised: Counter,
    pub(crate) not_ready: Counter,
}

impl RetryMeter {
    pub(super) fn count(&self, verdict: Verdict, attempts: u16) {
        let calls = match verdict {
            Verdict::Success => &self.succeeded,
            Verdict::Failure => &self.failed,
            Verdict::Ignored => &self.ignored,
        };
        calls[place_of(attempts)].add();
    }

    /// Calls that ended, by outcome.
    pub(super) fn calls(&self) -> [(&'static str, u64); 4] {
        let sum = |calls: &ByAttempts| calls.iter().map(Counter::read).sum();
        [
            ("success", sum(&self.succeeded)),
            ("failure", sum(&self.failed)),
            ("ignored", sum(&self.ignored)),
            ("dropped", sum(&self.dropped)),
        ]
    }

    pub(super) fn count_dropped(&self, attempts: u16) {
        self.dropped[place_of(attempts)].add();
    }

    pub(super) fn count_gave_up(&self, why: GaveUp) {
        let counter = match why {
            GaveUp::Attempts => &self.gave_up.attempts,
            GaveUp::Elapsed => &self.gave_up.elapsed,
            GaveUp::Budget => &self.gave_up.budget,
            GaveUp::NotRepeatable => &self.gave_up.not_repeatable,
            GaveUp::NotAdvised => &self.gave_up.not_advised,
            GaveUp::NotReady => &self.gave_up.not_ready,
        };
        counter.add();
    }
}

fn place_of(attempts: u16) -> usize {
    usize::from(attempts.max(1) - 1).min(MOST_ATTEMPTS - 1)
}
