//! The calls of the last while, in buckets.

use super::{Record, Totals};
use crate::vocabulary::clock::Timestamp;

/// A ring of buckets over a duration, with its totals beside it.
///
/// A bucket covers a whole multiple of its width of the clock; the window is the bucket of now and the ones
/// before it. A call costs O(1) whatever the traffic and the length: each bucket that passes is emptied once.
#[derive(Debug)]
pub(in super::super) struct TimeWindow {
    buckets: Box<[Bucket]>,
    /// Nanoseconds that a bucket covers.
    width: u64,
    /// The number of the newest bucket: its start divided by the width.
    newest: u64,
    totals: Totals,
}

/// Four counts of one bucket. 32 bits hold four billion calls, which no bucket sees.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    calls: u32,
    failed: u32,
    slow: u32,
    slow_failed: u32,
}

impl TimeWindow {
    /// An empty window of `buckets` buckets of `width` nanoseconds; both are at least 1.
    pub(in super::super) fn new(buckets: u32, width: u64, now: Timestamp) -> Self {
        Self {
            buckets: vec![Bucket::default(); buckets as usize].into(),
            width,
            newest: now.as_nanos() / width,
            totals: Totals::default(),
        }
    }

    pub(in super::super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// The first point that is not in the newest bucket any more.
    pub(in super::super) const fn bucket_end(&self) -> Timestamp {
        Timestamp::from_nanos(self.newest.saturating_add(1).saturating_mul(self.width))
    }

    /// Forgets what `now` has left behind. A clock that stepped back changes nothing.
    pub(in super::super) fn advance(&mut self, now: Timestamp) {
        let bucket = now.as_nanos() / self.width;
        let Some(passed) = bucket.checked_sub(self.newest) else {
            return;
        };
        if passed == 0 {
            return;
        }
        let length = self.buckets.len() as u64;
        for step in 1..=passed.min(length) {
            let emptied = std::mem::take(self.bucket_mut(self.newest + step));
            self.totals.calls -= u64::from(emptied.calls);
            self.totals.failed -= u64::from(emptied.failed);
            self.totals.slow -= u64::from(emptied.slow);
            self.totals.slow_failed -= u64::from(emptied.slow_failed);
        }
        self.newest = bucket;
    }

    /// Records a call in the newest bucket.
    pub(in super::super) fn record(&mut self, record: Record) {
        let (failed, slow) = (u32::from(record.failed), u32::from(record.slow));
        self.add(Bucket {
            calls: 1,
            failed,
            slow,
            slow_failed: failed & slow,
        });
    }

    /// Records that many plain successes in the newest bucket.
    pub(in super::super) fn add_plain_successes(&mut self, calls: u64) {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        self.add(Bucket {
            calls,
            ..Bucket::default()
        });
    }

    fn add(&mut self, more: Bucket) {
        let bucket = self.bucket_mut(self.newest);
        // What a full bucket cannot hold is not added to the totals either, or they would never return to 0.
        let room = u32::MAX - bucket.calls;
        let fit = |count: u32| count.min(room);
        let more = Bucket {
            calls: fit(more.calls),
            failed: fit(more.failed),
            slow: fit(more.slow),
            slow_failed: fit(more.slow_failed),
        };
        bucket.calls += more.calls;
        bucket.failed += more.failed;
        bucket.slow += more.slow;
        bucket.slow_failed += more.slow_failed;
        self.totals.calls += u64::from(more.calls);
        self.totals.failed += u64::from(more.failed);
        self.totals.slow += u64::from(more.slow);
        self.totals.slow_failed += u64::from(more.slow_failed);
    }

    fn bucket_mut(&mut self, number: u64) -> &mut Bucket {
        let length = self.buckets.len() as u64;
        // The remainder of a division by the length fits wherever the length does.
        &mut self.buckets[usize::try_from(number % length).unwrap_or(0)]
    }
}
