//! What a bulkhead counts, once somebody asks for it.

use crate::vocabulary::{
    meter::{Counter, Histogram},
    rejected::Reason,
};

/// The counts of one bulkhead, or of the bulkheads of all keys. Alone on its cache lines: calls write here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct BulkheadMeter {
    /// Calls that got a slot.
    pub(crate) admitted: Counter,
    /// Calls that found none.
    pub(crate) full: Counter,
    /// Calls that found neither a slot nor a place in the queue.
    pub(crate) queue_full: Counter,
    /// Calls that waited for a slot, and got none in time.
    pub(crate) waited_too_long: Counter,
    /// Calls that were dropped while they waited.
    pub(crate) dropped: Counter,
    /// How long the calls waited that got a slot after waiting.
    pub(crate) waits: Histogram,
}

impl BulkheadMeter {
    /// Calls that got a slot, or none, by outcome.
    pub(super) fn calls(&self) -> [(&'static str, u64); 3] {
        let rejected = [&self.full, &self.queue_full, &self.waited_too_long];
        [
            ("admitted", self.admitted.read()),
            ("rejected", rejected.into_iter().map(Counter::read).sum()),
            ("dropped", self.dropped.read()),
        ]
    }

    pub(super) fn count_refusal(&self, reason: &Reason) {
        let counter = match reason {
            Reason::QueueFull { .. } => &self.queue_full,
            Reason::WaitedTooLong { .. } => &self.waited_too_long,
            _ => &self.full,
        };
        counter.add();
    }
}
