//! Sliding windows over the last calls.

mod count;
mod tally;
mod time;

pub(super) use self::{
    count::CountWindow,
    tally::{Tag, Tally},
    time::TimeWindow,
};

/// Counts of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
    pub(super) slow_failed: u64,
}

/// One recorded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

impl Record {
    pub(super) const fn is_plain_success(self) -> bool {
        !self.failed && !self.slow
    }
}

/// The window of one state.
#[derive(Debug)]
pub(super) enum Window {
    /// A state that records nothing.
    None,
    /// The last N calls.
    Count(CountWindow),
    /// The calls of the last while.
    Time(TimeWindow),
}

impl Window {
    pub(super) fn record(&mut self, record: Record) {
        match self {
            Self::None => {}
            Self::Count(window) => window.record(record),
            Self::Time(window) => window.record(record),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        match self {
            Self::None => Totals::default(),
            Self::Count(window) => window.totals(),
            Self::Time(window) => window.totals(),
        }
    }
}
