//! What a call holds of a bulkhead.

use std::fmt;

/// What a call holds of a bulkhead.
///
/// One word, written at once: it is moved with the call, and the processor would wait for a word that was written in
/// parts. What is known of a call that waits is kept in the queue.
#[derive(Default)]
pub struct BulkheadPass(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The call is not inside.
    Out,
    /// It has a slot.
    Inside,
    /// It waits, under this ticket.
    Queued(u32),
}

impl BulkheadPass {
    pub(super) const OUT: Self = Self(0);
    pub(super) const INSIDE: Self = Self(1);
    const QUEUED: u64 = 2;

    pub(super) const fn queued(ticket: u32) -> Self {
        Self((ticket as u64) << 32 | Self::QUEUED)
    }

    #[inline(always)]
    pub(super) const fn is_out(&self) -> bool {
        self.0 == Self::OUT.0
    }

    #[inline(always)]
    pub(super) const fn is_inside(&self) -> bool {
        self.0 == Self::INSIDE.0
    }

    #[allow(clippy::cast_possible_truncation, reason = "the ticket is the upper half")]
    pub(super) const fn phase(&self) -> Phase {
        match self.0 {
            0 => Phase::Out,
            1 => Phase::Inside,
            queued => Phase::Queued((queued >> 32) as u32),
        }
    }
}

impl fmt::Debug for BulkheadPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BulkheadPass").field(&self.phase()).finish()
    }
}
