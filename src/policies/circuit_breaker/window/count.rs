//! The last N calls, exactly.

use super::{Record, Totals};

/// A ring of the last `size` calls, two bits each, with its totals beside it: O(1) per call, and a quarter of
/// a byte per slot.
#[derive(Debug)]
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

    pub(in super::super) fn record(&mut self, record: Record) {
        let words = self.bits.len() / 2;
        let (word, bit) = (self.next as usize / 64, self.next % 64);
        let totals = &mut self.totals;
        if totals.calls == u64::from(self.size) {
            let failed = self.bits[word] >> bit & 1;
            let slow = self.bits[words + word] >> bit & 1;
            totals.failed -= failed;
            totals.slow -= slow;
            totals.slow_failed -= failed & slow;
        } else {
            totals.calls += 1;
        }
        let (failed, slow) = (u64::from(record.failed), u64::from(record.slow));
        totals.failed += failed;
        totals.slow += slow;
        totals.slow_failed += failed & slow;
        self.bits[word] = self.bits[word] & !(1 << bit) | failed << bit;
        self.bits[words + word] = self.bits[words + word] & !(1 << bit) | slow << bit;
        self.next = if self.next + 1 == self.size {
            0
        } else {
            self.next + 1
        };
    }
}
