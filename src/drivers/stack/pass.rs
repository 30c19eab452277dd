//! What a call holds of a stack.

use super::stage::AnyPass;
use crate::{
    drivers::pool::{self, Pool},
    policies::step::{Next, Step},
};

/// What a call holds of a stack.
///
/// A single word, as it is moved with the call: where it was written in parts, or is read together with a neighbour, the
/// processor would wait for it.
#[derive(Debug, Default)]
pub struct StackPass(Option<Box<Frame>>);

/// What a call holds of the stages of a stack.
#[derive(Debug)]
pub(super) struct Frame {
    /// So many stages are entered, counted from the outside.
    pub(super) depth: usize,
    /// So many were entered when a deadline cut the call off; those beyond `depth` are abandoned once what they guard
    /// is dropped. Zero otherwise.
    pub(super) cut: usize,
    /// So many were entered when one of them answered in place of the result.
    pub(super) hidden: usize,
    /// At least as many as the stack has stages. What stands beyond `depth` is of calls before this one.
    pub(super) stages: Box<[AnyPass]>,
}

thread_local! {
    static FRAMES: Pool<Box<Frame>> = const { Pool::new() };
}

/// Stacks of one program mostly have no more stages than this, so that the frame of one serves another.
const USUAL: usize = 6;

impl StackPass {
    /// The frame, for a stack of so many stages: a new one where there is none.
    #[inline(always)]
    pub(super) fn frame_for(&mut self, stages: usize) -> &mut Frame {
        self.0.get_or_insert_with(|| Frame::fresh(stages))
    }

    /// A new frame, for a call that comes.
    #[inline(always)]
    pub(super) fn begin(&mut self, stages: usize) -> &mut Frame {
        self.0.insert(Frame::fresh(stages))
    }

    /// The frame, where stages were entered.
    #[inline]
    pub(super) fn frame(&self) -> Option<&Frame> {
        self.0.as_deref()
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn frame_mut(&mut self) -> Option<&mut Frame> {
        self.0.as_deref_mut()
    }
}

impl Frame {
    #[inline(always)]
    #[allow(
        clippy::unnecessary_box_returns,
        reason = "boxes are what calls hand on to each other"
    )]
    fn fresh(stages: usize) -> Box<Self> {
        let mut frame = pool::take(&FRAMES)
            .filter(|frame| frame.stages.len() >= stages)
            .unwrap_or_else(|| Box::new(Self::new(stages)));
        frame.depth = 0;
        frame
    }

    #[cold]
    #[inline(never)]
    fn new(stages: usize) -> Self {
        let stages = (0..stages.max(USUAL)).map(|_| AnyPass::Out);
        Self {
            depth: 0,
            cut: 0,
            hidden: 0,
            stages: stages.collect(),
        }
    }

    /// A stage did not let the call in.
    #[cold]
    pub(super) fn stop_entering(&mut self, entered: usize, step: Step) -> Step {
        // Who waits is inside as long as it does; `poll_queue` and `expire` find it there.
        self.depth = entered + usize::from(matches!(step, Step::Queue));
        step
    }

    /// The stage `at` asked for something that comes before the stages outside of it are left.
    #[cold]
    pub(super) fn stop_at(&mut self, at: usize, next: Next) -> Next {
        // Who asked for another attempt stays entered; who answers has left.
        self.hidden = self.depth;
        self.depth = if next == Next::Again { at + 1 } else { at };
        next
    }

    /// A deadline of the stage `at` cuts the call off.
    #[cold]
    pub(super) fn cut_at(&mut self, at: usize) {
        self.cut = self.depth;
        self.depth = at;
    }
}

impl Drop for StackPass {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(frame) = self.0.take() {
            give_back(frame);
        }
    }
}

/// Who takes it sets `depth`, and who answers sets `hidden` before that is looked at.
#[inline(always)]
fn give_back(mut frame: Box<Frame>) {
    if frame.cut != 0 {
        frame.cut = 0;
    }
    pool::give_back(&FRAMES, frame);
}
