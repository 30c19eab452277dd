//! The calls of the last while, in buckets.

use super::{Record, Totals};
use crate::vocabulary::clock::Timestamp;

/// A ring of buckets over a duration, with its totals beside it.
///
/// A bucket covers a whole multiple of its width of the clock; the window is the bucket of now and the ones
/// before it. A call costs O(1) whatever the traffic and the length: each bucket that passes is emptied once.
#[derive(Clone, Debug)]
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

    /// How many buckets there are, and the nanoseconds that each covers.
    pub(in super::super) const fn shape(&self) -> (u64, u64) {
        (self.buckets.len() as u64, self.width)
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

    /// Its buckets, oldest first, in cells of so many buckets each that there are at most `most` and one. Cells begin at
    /// multiples of that number on the clock, so that a call does not move from one cell to another.
    pub(in super::super) fn cells(&self, most: u32) -> (u32, Vec<Totals>) {
        let length = self.buckets.len() as u64;
        let each = length.div_ceil(u64::from(most.max(1))).max(1);
        let mut cells: Vec<Totals> = Vec::new();
        let mut last = None;
        for age in (0..length).rev() {
            // Before the clock's origin there was nothing.
            let Some(number) = self.newest.checked_sub(age) else {
                continue;
            };
            if last != Some(number / each) {
                last = Some(number / each);
                cells.push(Totals::default());
            }
            let bucket = self.buckets[usize::try_from(number % length).unwrap_or(0)];
            if let Some(cell) = cells.last_mut() {
                cell.add(Totals {
                    calls: bucket.calls.into(),
                    failed: bucket.failed.into(),
                    slow: bucket.slow.into(),
                    slow_failed: bucket.slow_failed.into(),
                });
            }
        }
        (u32::try_from(each).unwrap_or(u32::MAX), cells)
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

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Record(Record),
        PlainSuccesses(u64),
        /// Time goes on by so many nanoseconds.
        On(u64),
        /// By so many whole windows and nanoseconds.
        Far(u64, u64),
        /// The clock steps back.
        Back(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => any::<(bool, bool)>().prop_map(|(failed, slow)| Op::Record(Record { failed, slow })),
            2 => (0..5_u64).prop_map(Op::PlainSuccesses),
            4 => (0..300_u64).prop_map(Op::On),
            1 => (0..4_u64, 0..300_u64).prop_map(|(windows, more)| Op::Far(windows, more)),
            1 => (0..600_u64).prop_map(Op::Back),
        ]
    }

    /// All that was ever recorded, and the number of the bucket that it was recorded in.
    #[derive(Default)]
    struct Everything(Vec<(u64, Record)>);

    impl Everything {
        fn totals(&self, newest: u64, buckets: u32) -> Totals {
            let mut totals = Totals::default();
            for (bucket, record) in &self.0 {
                if newest - bucket < u64::from(buckets) {
                    totals.calls += 1;
                    totals.failed += u64::from(record.failed);
                    totals.slow += u64::from(record.slow);
                    totals.slow_failed += u64::from(record.failed && record.slow);
                }
            }
            totals
        }
    }

    proptest! {
        #[test]
        fn it_counts_what_a_list_of_all_records_says(
            buckets in prop_oneof![1..=12_u32, Just(60_u32)],
            width in prop_oneof![1..=10_u64, 90..=110_u64, Just(1_000_u64)],
            start in prop_oneof![Just(0_u64), 0..=5_000_u64, u64::MAX - 3_000..=u64::MAX],
            ops in vec(op(), 0..200),
        ) {
            let mut now = start;
            let mut window = TimeWindow::new(buckets, width, Timestamp::from_nanos(now));
            let mut newest = now / width;
            let mut all = Everything::default();
            for op in ops {
                match op {
                    Op::Record(record) => {
                        window.record(record);
                        all.0.push((newest, record));
                    }
                    Op::PlainSuccesses(calls) => {
                        window.add_plain_successes(calls);
                        let plain = Record { failed: false, slow: false };
                        all.0.extend((0..calls).map(|_| (newest, plain)));
                    }
                    Op::On(by) => now = now.saturating_add(by),
                    Op::Far(windows, by) => {
                        now = now.saturating_add(windows * u64::from(buckets) * width + by);
                    }
                    Op::Back(by) => now = now.saturating_sub(by),
                }
                window.advance(Timestamp::from_nanos(now));
                newest = newest.max(now / width);
                prop_assert_eq!(window.totals(), all.totals(newest, buckets), "at {}", now);
                let end = (u128::from(newest) + 1) * u128::from(width);
                prop_assert_eq!(
                    window.bucket_end().as_nanos(),
                    u64::try_from(end).unwrap_or(u64::MAX)
                );
            }
            for most in [1, 5, 100] {
                let (each, cells) = window.cells(most);
                prop_assert!(cells.len() <= most as usize + 1);
                let mut sum = Totals::default();
                for cell in &cells {
                    sum.add(*cell);
                }
                prop_assert_eq!(sum, window.totals());
                let first = newest.saturating_sub(u64::from(buckets) - 1) / u64::from(each);
                for (at, cell) in cells.iter().enumerate() {
                    let in_cell = all.0.iter().filter(|(bucket, _)| {
                        newest - bucket < u64::from(buckets) && bucket / u64::from(each) == first + at as u64
                    });
                    prop_assert_eq!(cell.calls, in_cell.count() as u64, "cell {} of {}", at, each);
                }
            }
        }
    }

    #[test]
    fn a_bucket_that_is_full_leaves_no_count_behind() {
        let odd = Record {
            failed: true,
            slow: true,
        };
        let mut window = TimeWindow::new(2, 1, Timestamp::from_nanos(0));
        let nearly = u32::MAX - 1;
        window.buckets[0] = Bucket {
            calls: nearly,
            failed: nearly,
            slow: nearly,
            slow_failed: nearly,
        };
        window.totals = Totals {
            calls: nearly.into(),
            failed: nearly.into(),
            slow: nearly.into(),
            slow_failed: nearly.into(),
        };
        for _ in 0..3 {
            window.record(odd);
            let Totals {
                calls, failed, slow, ..
            } = window.totals();
            assert!(failed <= calls && slow <= calls, "{:?}", window.totals());
        }
        window.advance(Timestamp::from_nanos(2));
        assert_eq!(window.totals(), Totals::default());
    }
}
