//! What a call holds of a bulkhead.

use crate::vocabulary::clock::Timestamp;

/// What a call holds of a bulkhead.
///
/// Two whole words, each written at once: it is moved with the call, and the processor would wait for a word that was
/// written in parts.
#[derive(Debug, Default)]
#[repr(u64)]
pub enum BulkheadPass {
    /// The call is not inside.
    #[default]
    Out,
    /// It has a slot.
    Inside,
    /// It waits. Few do, so that the others need not have room for what that takes.
    Waiting(Box<Waiting>),
}

/// A call in the queue.
#[derive(Debug)]
pub struct Waiting {
    pub(super) ticket: u32,
    /// How long it may wait, in nanoseconds.
    pub(super) limit: u64,
    /// When that is over. None before it was polled.
    pub(super) deadline: Option<Timestamp>,
}
