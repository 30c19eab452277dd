//! Transitions that observers have yet to hear of, in the order in which they happened.

use std::collections::VecDeque;

use super::machine::{Changes, Transition};
use crate::vocabulary::sync::{Mutex, lock};

/// A queue that one caller at a time empties.
///
/// Transitions are put in under the machine's lock, which gives them their order, and told without it. Whoever finds
/// another telling leaves his to it: told by each on its own, two could overtake each other, and a gauge that is set by
/// them would stay wrong.
#[derive(Debug)]
pub(super) struct Untold(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    transitions: VecDeque<Transition>,
    telling: bool,
}

impl Untold {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Queue::default()))
    }

    /// To be called under the machine's lock.
    pub(super) fn push(&self, changes: &Changes) {
        lock(&self.0).transitions.extend(changes.0.iter().flatten());
    }

    /// Tells what there is, unless another does.
    pub(super) fn tell(&self, mut tell: impl FnMut(Transition)) {
        let Some(mut turn) = Turn::begin(self) else { return };
        while let Some(transition) = turn.next() {
            tell(transition);
        }
    }
}

/// Ends also when an observer panics, or nobody would be told anything any more.
struct Turn<'a> {
    untold: &'a Untold,
    over: bool,
}

impl<'a> Turn<'a> {
    fn begin(untold: &'a Untold) -> Option<Self> {
        let another_tells = std::mem::replace(&mut lock(&untold.0).telling, true);
        // Not `then_some`: a turn that is made and dropped would end the other's.
        (!another_tells).then(|| Self { untold, over: false })
    }

    /// The next one; with none left the turn is over, so that whoever pushes now begins another.
    fn next(&mut self) -> Option<Transition> {
        let mut queue = lock(&self.untold.0);
        let next = queue.transitions.pop_front();
        queue.telling = next.is_some();
        self.over = next.is_none();
        if self.over {
            // Of a million breakers many may open at once, and few do so again soon.
            queue.transitions = VecDeque::new();
        }
        next
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            lock(&self.untold.0).telling = false;
        }
    }
}
