//! Calls that were counted and are not in the ledger yet.

use std::time::Duration;

use crate::vocabulary::{
    clock::Timestamp,
    stripes::Striped,
    sync::{AtomicU64, Ordering},
};

/// Counts up from many threads, and is emptied into the ledger now and then.
///
/// One count serves until threads get into each other's way. From then on each counts in a stripe that hardly any other
/// one writes to: a cache line that two processors write to in turn costs each of them more than the rest of a call.
#[derive(Debug)]
pub(super) struct Fresh {
    all: AtomicU64,
    /// Calls in a batch, a power of two.
    batch: AtomicU64,
    striped: Striped,
}

/// Calls in a batch, after which the clock is read and the count is emptied. Where calls are few, more would wait for long.
pub(super) const BATCH: u64 = 16;

/// The same where calls are many: where the batch before took less than [`FAST`], and in stripes.
pub(super) const LARGE_BATCH: u64 = 64;

/// How fast a batch is to be, so that the next one is large.
const FAST: Duration = Duration::from_millis(1);

/// Threads that take turns at batches, each no later than this after the one before, get into each other's way: they
/// make a million calls per second or more.
const HASTE: Duration = Duration::from_micros(LARGE_BATCH);

/// Who last made a batch full, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    thread: usize,
    at: Timestamp,
}

impl Fresh {
    pub(super) fn new() -> Self {
        Self {
            all: AtomicU64::new(0),
            batch: AtomicU64::new(BATCH),
            striped: Striped::new(),
        }
    }

    /// Counts a call. Whether it makes a batch full.
    #[inline]
    pub(super) fn add(&self) -> bool {
        match self.striped.cell() {
            None => {
                let calls = self.all.fetch_add(1, Ordering::Relaxed) + 1;
                calls & (self.batch.load(Ordering::Relaxed) - 1) == 0
            }
            Some(mine) => (mine.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(LARGE_BATCH),
        }
    }

    /// Takes what was counted where this thread counts.
    pub(super) fn take(&self) -> u64 {
        let mine = self.striped.cell().unwrap_or(&self.all);
        mine.swap(0, Ordering::Relaxed)
    }

    /// Takes all that was counted.
    pub(super) fn take_all(&self) -> u64 {
        self.counts()
            // A line that nobody wrote to is not taken from those who read it.
            .filter(|count| count.load(Ordering::Relaxed) > 0)
            .map(|count| count.swap(0, Ordering::Relaxed))
            .sum()
    }

    /// This thread made a batch full at `now`: how many calls the next one has, and whether threads are to part.
    pub(super) fn pace(&self, now: Timestamp, last: &mut Option<Last>) {
        let this = Last {
            thread: self.striped.thread(),
            at: now,
        };
        let Some(last) = last.replace(this) else {
            return;
        };
        let took = now.since(last.at);
        let batch = if took < FAST { LARGE_BATCH } else { BATCH };
        // Nobody writes to the line without need.
        if self.batch.load(Ordering::Relaxed) != batch {
            self.batch.store(batch, Ordering::Relaxed);
        }
        if took < HASTE && last.thread != this.thread {
            self.part();
        }
    }

    /// Counts in stripes from now on.
    pub(super) fn part(&self) {
        self.striped.open();
    }

    fn counts(&self) -> impl Iterator<Item = &AtomicU64> {
        std::iter::once(&self.all).chain(self.striped.cells())
    }

    /// Whether it counts in stripes.
    #[cfg(all(test, not(buttress_loom)))]
    pub(super) fn is_parted(&self) -> bool {
        self.striped.cell().is_some()
    }

    /// How many were counted.
    #[cfg(all(test, not(buttress_loom)))]
    pub(super) fn read(&self) -> u64 {
        self.counts().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}
