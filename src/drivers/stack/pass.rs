//! What a call holds of a stack.

use super::stage::{AnyPass, Entry};
use crate::{
    drivers::pool::{self, Pool},
    policies::step::{Next, Step},
    vocabulary::rejected::Rejected,
};

/// What a call holds of a stack.
#[derive(Debug, Default)]
pub struct StackPass {
    /// So many stages are entered, counted from the outside.
    pub(super) depth: u16,
    /// So many were entered when a deadline cut the call off; those beyond `depth` are abandoned once what they guard
    /// is dropped. Zero otherwise.
    pub(super) cut: u16,
    /// So many were entered when one of them answered in place of the result.
    pub(super) hidden: u16,
    /// Makes a whole word of these, because padding would be copied byte by byte.
    _whole: u16,
    /// At least as many as the stack has stages, once the call has begun to enter them. What stands beyond `depth` is
    /// of calls before this one.
    pub(super) stages: Box<[AnyPass]>,
}

thread_local! {
    static PASSES: Pool<Box<[AnyPass]>> = const { Pool::new() };
}

impl StackPass {
    /// Sees to it that so many stages can be entered.
    #[inline]
    pub(super) fn provide(&mut self, stages: usize) {
        if self.stages.len() < stages {
            self.stages = pool::take(&PASSES)
                .filter(|passes| passes.len() >= stages)
                .unwrap_or_else(|| allocate(stages));
        }
    }

    /// A stage did not let the call in.
    #[cold]
    pub(super) fn stop_entering(&mut self, entered: u16, entry: Entry, refused: Option<Rejected>) -> Step {
        if let (Entry::Refused, Some(rejected)) = (entry, refused) {
            self.depth = entered;
            return Step::Refused(rejected);
        }
        // It is inside as long as it waits; `poll_queue` and `expire` find it there.
        self.depth = entered + 1;
        Step::Queue
    }

    /// The stage `at` asked for something that comes before the stages outside of it are left.
    #[cold]
    pub(super) fn stop_at(&mut self, at: usize, next: Next) -> Next {
        // Who asked for another attempt stays entered; who answers has left.
        let depth = if next == Next::Again { at + 1 } else { at };
        self.hidden = self.depth;
        self.depth = u16::try_from(depth).unwrap_or(u16::MAX);
        next
    }
}

/// Stacks of one program are mostly of about this length, so that one's memory serves another.
const USUAL: usize = 6;

#[cold]
#[inline(never)]
fn allocate(stages: usize) -> Box<[AnyPass]> {
    (0..stages.max(USUAL)).map(|_| AnyPass::Out).collect()
}

impl Drop for StackPass {
    #[inline]
    fn drop(&mut self) {
        if !self.stages.is_empty() {
            pool::give_back(&PASSES, std::mem::take(&mut self.stages));
        }
    }
}
