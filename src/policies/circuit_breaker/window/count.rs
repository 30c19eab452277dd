//! The last N calls, exactly.

use super::{Record, Totals};

/// A ring of the last `size` calls, two bits each, with its totals beside it: O(1) per call, and a quarter of
/// a byte per slot.
#[derive(Clone, Debug)]
pub(in super::super) struct CountWindow {
    /// Bit `i` of the first half says whether slot `i` failed, of the second half whether it was slow.
    bits: Box<[u64]>,
    size: u32,
    next: u32,
    totals: Totals,
}

impl CountWindow {
    /// An empty window of `size` calls; `size` is at least 1.
    pub(in super::super) fn new(size: u32) -> Self {
        let words = size.div_ceil(64) as usize;
        Self {
            bits: vec![0; words * 2].into(),
            size,
            next: 0,
            totals: Totals::default(),
        }
    }

    pub(in super::super) const fn size(&self) -> u32 {
        self.size
    }

    pub(in super::super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether recording a plain success would change nothing: all slots hold one already.
    pub(in super::super) fn is_full_of_plain_successes(&self) -> bool {
        self.totals.calls == u64::from(self.size) && self.totals.failed == 0 && self.totals.slow == 0
    }

    /// Its calls, oldest first, in cells of so many calls each (the last may have fewer) that at most `most` cells hold a
    /// full window.
    pub(in super::super) fn cells(&self, most: u32) -> (u32, Vec<Totals>) {
        let each = self.size.div_ceil(most.max(1)).max(1);
        let words = self.bits.len() / 2;
        let held = u32::try_from(self.totals.calls).unwrap_or(self.size);
        let oldest = if held == self.size { self.next } else { 0 };
        let mut cells: Vec<Totals> = Vec::new();
        for at in 0..held {
            if at % each == 0 {
                cells.push(Totals::default());
            }
            // Two numbers of at most a million each: their sum fits.
            let place = (oldest + at) % self.size;
            let (word, bit) = (place as usize / 64, place % 64);
            let (failed, slow) = (self.bits[word] >> bit & 1, self.bits[words + word] >> bit & 1);
            if let Some(cell) = cells.last_mut() {
                cell.add(Totals {
                    calls: 1,
                    failed,
                    slow,
                    slow_failed: failed & slow,
                });
            }
        }
        (each, cells)
    }

    /// Records so many plain successes, as if one after the other. Costs a step for each 64 of them, and none where the
    /// window holds nothing else.
    pub(in super::super) fn add_plain_successes(&mut self, calls: u64) {
        let size = u64::from(self.size);
        let (next, held) = (u64::from(self.next), self.totals.calls);
        if self.totals.failed > 0 || self.totals.slow > 0 {
            let end = next + calls.min(size);
            self.forget(next, end.min(size));
            self.forget(0, end.saturating_sub(size));
        }
        self.totals.calls = held.saturating_add(calls).min(size);
        // The remainder of a division by the size fits wherever the size does.
        self.next = u32::try_from((next + calls % size) % size).unwrap_or(0);
    }

    /// Makes the slots from one to before the other plain successes.
    fn forget(&mut self, from: u64, to: u64) {
        let words = self.bits.len() / 2;
        let mut at = from;
        while at < to {
            let end = (at / 64 + 1).saturating_mul(64).min(to);
            let mask = (u64::MAX >> (64 - (end - at))) << (at % 64);
            let word = usize::try_from(at / 64).unwrap_or(0);
            let (failed, slow) = (self.bits[word] & mask, self.bits[words + word] & mask);
            self.totals.failed -= u64::from(failed.count_ones());
            self.totals.slow -= u64::from(slow.count_ones());
            self.totals.slow_failed -= u64::from((failed & slow).count_ones());
            self.bits[word] &= !mask;
            self.bits[words + word] &= !mask;
            at = end;
        }
    }

    /// What its totals would be with one more call.
    pub(in super::super) fn totals_with(&self, record: Record) -> Totals {
        let mut totals = self.totals;
        if totals.calls == u64::from(self.size) {
            let words = self.bits.len() / 2;
            let (word, bit) = (self.next as usize / 64, self.next % 64);
            let (failed, slow) = (self.bits[word] >> bit & 1, self.bits[words + word] >> bit & 1);
            totals.calls -= 1;
            totals.failed -= failed;
            totals.slow -= slow;
            totals.slow_failed -= failed & slow;
        }
        totals.add(record.totals());
        totals
    }

    pub(in super::super) fn record(&mut self, record: Record) {
        let words = self.bits.len() / 2;
        let (word, bit) = (self.next as usize / 64, self.next % 64);
        self.totals = self.totals_with(record);
        let put = |bits: &mut u64, set: bool| *bits = *bits & !(1 << bit) | u64::from(set) << bit;
        put(&mut self.bits[word], record.failed);
        put(&mut self.bits[words + word], record.slow);
        self.next = if self.next + 1 == self.size {
            0
        } else {
            self.next + 1
        };
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        // Plain successes in long runs, so that a window gets full of them.
        let odd = any::<(bool, bool)>().prop_map(|(failed, slow)| Record { failed, slow });
        let plain = Just(Record {
            failed: false,
            slow: false,
        });
        prop_oneof![1 => odd, 3 => plain]
    }

    /// Any size, and often one at which the bits of a slot begin another word.
    fn size() -> impl Strategy<Value = u32> {
        prop_oneof![1..=200_u32, 62..=66_u32, 126..=130_u32, Just(192_u32)]
    }

    fn count(records: &[Record], which: impl Fn(&Record) -> bool) -> u64 {
        records.iter().filter(|record| which(record)).count() as u64
    }

    fn totals(records: &[Record]) -> Totals {
        Totals {
            calls: records.len() as u64,
            failed: count(records, |record| record.failed),
            slow: count(records, |record| record.slow),
            slow_failed: count(records, |record| record.failed && record.slow),
        }
    }

    /// So many records of one kind, and whether they come one by one.
    fn run() -> impl Strategy<Value = (Record, usize, bool)> {
        let times = prop_oneof![4 => 1..60_usize, 1 => 60..400_usize];
        (record(), times, any::<bool>())
    }

    proptest! {
        #[test]
        fn plain_successes_at_once_are_what_they_are_one_by_one(size in size(), runs in vec(run(), 1..24)) {
            let (mut window, mut slowly) = (CountWindow::new(size), CountWindow::new(size));
            for (record, times, at_once) in runs {
                if at_once && record.is_plain_success() {
                    window.add_plain_successes(times as u64);
                } else {
                    (0..times).for_each(|_| window.record(record));
                }
                (0..times).for_each(|_| slowly.record(record));
                prop_assert_eq!(window.totals(), slowly.totals());
                prop_assert_eq!(window.cells(200), slowly.cells(200));
                prop_assert_eq!(window.next, slowly.next);
            }
        }

        #[test]
        fn it_counts_what_a_list_of_all_records_says(size in size(), runs in vec((record(), 1..60_usize), 1..16)) {
            let mut window = CountWindow::new(size);
            let mut all = Vec::new();
            prop_assert_eq!(window.totals(), Totals::default());
            for (record, times) in runs {
                for _ in 0..times {
                    window.record(record);
                    all.push(record);
                    let last = &all[all.len().saturating_sub(size as usize)..];
                    prop_assert_eq!(window.totals(), totals(last));
                    prop_assert_eq!(
                        window.is_full_of_plain_successes(),
                        last.len() == size as usize && last.iter().all(|record| record.is_plain_success())
                    );
                }
                let last = &all[all.len().saturating_sub(size as usize)..];
                for most in [1, 7, 200] {
                    let (each, cells) = window.cells(most);
                    let chunks: Vec<Totals> = last.chunks(each as usize).map(totals).collect();
                    prop_assert_eq!(&cells, &chunks, "oldest first, {} in each", each);
                    prop_assert!(cells.len() <= most as usize);
                }
            }
        }
    }

    #[test]
    fn each_slot_is_forgotten_after_exactly_size_calls() {
        let odd = Record {
            failed: true,
            slow: true,
        };
        let plain = Record {
            failed: false,
            slow: false,
        };
        for size in [1, 2, 63, 64, 65, 127, 128, 129, 200] {
            // Whatever slot it comes to lie in.
            for before in 0..size {
                let mut window = CountWindow::new(size);
                for _ in 0..before {
                    window.record(plain);
                }
                window.record(odd);
                for _ in 1..size {
                    window.record(plain);
                    assert_eq!(window.totals().slow_failed, 1, "size {size}, slot {before}");
                }
                window.record(plain);
                assert!(window.is_full_of_plain_successes(), "size {size}, slot {before}");
            }
        }
    }
}
