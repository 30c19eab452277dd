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

impl Totals {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.slow += other.slow;
        self.slow_failed += other.slow_failed;
    }
}

impl Record {
    pub(super) const fn is_plain_success(self) -> bool {
        !self.failed && !self.slow
    }

    fn totals(self) -> Totals {
        Totals {
            calls: 1,
            failed: self.failed.into(),
            slow: self.slow.into(),
            slow_failed: (self.failed && self.slow).into(),
        }
    }
}

/// The window of one state.
#[derive(Clone, Debug)]
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

    /// Records so many plain successes, as if one after the other.
    pub(super) fn add_plain_successes(&mut self, calls: u64) {
        match self {
            Self::None => {}
            Self::Count(window) => window.add_plain_successes(calls),
            Self::Time(window) => window.add_plain_successes(calls),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        match self {
            Self::None => Totals::default(),
            Self::Count(window) => window.totals(),
            Self::Time(window) => window.totals(),
        }
    }

    /// What its totals would be with one more call.
    pub(super) fn totals_with(&self, record: Record) -> Totals {
        match self {
            Self::None => Totals::default(),
            Self::Count(window) => window.totals_with(record),
            Self::Time(window) => {
                let mut totals = window.totals();
                totals.add(record.totals());
                totals
            }
        }
    }

    /// Its calls in cells, oldest first, of so many calls or buckets each that there are about as many cells as `most`.
    pub(super) fn cells(&self, most: u32) -> (u32, Vec<Totals>) {
        match self {
            Self::None => (1, Vec::new()),
            Self::Count(window) => window.cells(most),
            Self::Time(window) => window.cells(most),
        }
    }
}
