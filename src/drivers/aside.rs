//! What a call does while no attempt of it is under way.

use std::pin::Pin;

use crate::{drivers::timer::Timer, vocabulary::rejected::Rejected};

/// What a call does while no attempt of it is under way.
///
/// It stands beside the attempt and not in its place: an attempt is there when the call is made, and so the compiler puts
/// it where it stays, without a stop elsewhere. It is boxed, so that the calls which do nothing of the kind are smaller.
pub(crate) enum Aside<G, N, T> {
    /// Nothing.
    Nothing,
    /// The next attempt waits to be made.
    Between(Box<Between<N, T>>),
    /// A fallback makes its answer.
    Answering(Pin<Box<G>>),
    /// The call was refused before anything of it began.
    Refused(Rejected),
}

/// An attempt that waits to be made.
pub(crate) struct Between<N, T> {
    pub(crate) next: N,
    pub(crate) wait: Wait,
    /// None where the call has one anyway.
    pub(crate) timer: T,
}

/// What the next attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A slot.
    Slot,
    /// Its time.
    Time,
    /// Its service to be ready, to enter the policy then: nothing of the call has begun.
    ReadyToEnter,
    /// Its service to be ready, to enter then what lies below the policy that waited.
    ReadyToResume,
}

impl<G, N, T: Timer> Aside<G, N, T> {
    pub(crate) fn between(next: N, wait: Wait) -> Self {
        let timer = T::default();
        Self::Between(Box::new(Between { next, wait, timer }))
    }

    /// The rejection, where the call was refused: the first time.
    pub(crate) fn take_rejected(&mut self) -> Option<Rejected> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Refused(rejected) => Some(rejected),
            other => {
                *self = other;
                None
            }
        }
    }
}
