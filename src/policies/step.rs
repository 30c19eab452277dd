//! The step machine that every policy is, and that the driver runs.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    policies::in_force::InForce,
    vocabulary::{
        clock::{Clock, Now, Timestamp},
        outcome::{Abandoned, Outcome},
        rejected::{Reason, Rejected},
    },
};

/// One policy, or a list of them, as steps around a call.
///
/// A driver walks each call through these steps and keeps the call's [`Pass`](Policy::Pass) meanwhile:
///
/// ```text
/// enter ─┬─ Call ──► the call ──► leave ─┬─ Done ──► the caller
///        ├─ Queue ─► poll_queue ► resume ├─ Again ─► wait ─► resume ─► the next call
///        └─ Refused ─► leave             ├─ Answer ► another result ─► leave
///                                        └─ Hold ──► the verdict comes with the end of the body
/// ```
///
/// Whenever something is pending, `pended` tells until when it may be, and `expire` what follows. A call that
/// ends in no other way is abandoned. Each call that was entered leaves, expires or is abandoned exactly once.
///
/// The trait is public so that the types of layers can be named; it is implemented by this crate's policies.
pub trait Policy: Clone + Send + Sync + 'static {
    /// What one call holds between entering and leaving. The default holds nothing.
    type Pass: Default + Send + Sync + fmt::Debug;

    /// Whether `leave` looks at the outcome's verdict or advice; where not, none is judged.
    const JUDGES: bool;

    /// Whether it may refuse a call that comes; see [`would_refuse`](Policy::would_refuse).
    const REFUSES: bool = false;

    /// Whether it limits how long what it guards may take; see [`in_force`](Policy::in_force).
    const LIMITS: bool = false;

    /// Whether [`is_out`](Policy::is_out) tells surely, also of a call that has left: then nobody else notes that.
    const TELLS_OUT: bool = false;

    /// The name, for a rejection that is not of this policy's own making.
    fn name(&self) -> &Arc<str>;

    /// The clock that this policy lives by.
    fn clock(&self) -> &Clock;

    /// Whether another has taken its place; see [`successor`](Policy::successor). The default never has one.
    #[inline(always)]
    fn is_superseded(&self) -> bool {
        false
    }

    /// What has taken its place, where settings were loaded anew: calls that come go by that one, calls under way end
    /// with this one.
    fn successor(&self) -> Option<Self> {
        None
    }

    /// Whether a call that came now would be refused, so that it need not wait for the service's readiness; and
    /// by whom. `may_wait`: whether it could wait in a queue.
    /// The default never refuses.
    #[inline(always)]
    fn would_refuse(&self, may_wait: bool) -> Option<Refuser> {
        let _ = may_wait;
        None
    }

    /// Whether [`would_refuse`](Policy::would_refuse) may name somebody: a first look, for who asks several policies.
    #[inline(always)]
    fn may_refuse(&self) -> bool {
        Self::REFUSES
    }

    /// The rejection of a call that arrived when [`would_refuse`](Policy::would_refuse) had named `by`, whatever it
    /// would answer now: the service was not polled ready. What lies around the policy that refuses is entered, and
    /// left by the rejection; where one of these lets the call wait in its queue, it waits there first.
    fn refuse(&self, by: Refuser, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        let _ = (by, pass, ask);
        Step::Refused(Rejected::new(Arc::clone(self.name()), Reason::NotPolledReady))
    }

    /// A call arrives.
    fn enter(&self, pass: &mut Self::Pass, ask: &impl Ask) -> Step;

    /// Asks for the slot that [`Step::Queue`] waits for. With it the call goes on by [`resume`](Policy::resume).
    fn poll_queue(&self, pass: &mut Self::Pass, cx: &mut Context<'_>) -> Poll<()> {
        let _ = (pass, cx);
        Poll::Ready(())
    }

    /// The wait that [`Next::Again`] or [`Step::Queue`] asked for is over: enters what lies below.
    fn resume(&self, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        let _ = (pass, ask);
        Step::Call
    }

    /// Whether [`resume`](Policy::resume) would be refused, so that it need not wait for readiness; and by whom.
    fn would_refuse_resumed(&self, pass: &Self::Pass, may_wait: bool) -> Option<Refuser> {
        let _ = (pass, may_wait);
        None
    }

    /// The same as [`refuse`](Policy::refuse), for an attempt that would be refused when resumed.
    fn refuse_resumed(&self, by: Refuser, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        self.refuse(by, pass, ask)
    }

    /// Something is pending for the first time since a step, or held to the end of a body: until when may it be?
    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        let _ = (pass, now);
        None
    }

    /// Whether [`pended`](Policy::pended) has something to do where an attempt is pending. The default says so always; a
    /// policy whose calls have a timer then is not asked.
    #[inline(always)]
    fn watches(&self, pass: &Self::Pass) -> bool {
        let _ = pass;
        true
    }

    /// The limits that it sets what it guards, for policies further in. The default sets none.
    #[inline(always)]
    fn in_force(&self, pass: &Self::Pass) -> InForce {
        let _ = pass;
        InForce::NONE
    }

    /// A point that `pended` told has come. What is refused then is dropped first, and left by the rejection after
    /// that.
    fn expire(&self, pass: &mut Self::Pass, now: Timestamp) -> Expired {
        let _ = (pass, now);
        Expired::NotYet
    }

    /// An attempt ended, or a refusal or an answer took its place.
    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next;

    /// Whether it takes a plain success as one. Where not, each outcome is judged.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        true
    }

    /// The same as [`leave`](Policy::leave) with a plain success, which is how most attempts end.
    #[inline(always)]
    fn succeed(&self, pass: &mut Self::Pass) -> Next {
        self.leave(pass, &Outcome::success())
    }

    /// Whether a call with this pass is surely outside, so that nothing is left when it ends.
    #[inline(always)]
    fn is_out(&self, pass: &Self::Pass) -> bool {
        let _ = pass;
        false
    }

    /// The call ended without an outcome.
    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned);

    /// How many attempts the call made, where this policy counts them; zero where not.
    fn attempts(&self, pass: &Self::Pass) -> u32 {
        let _ = pass;
        0
    }

    /// The same for the result that [`Next::Answer`] hides: attempts by a policy below the one that answers.
    fn hidden_attempts(&self, pass: &Self::Pass) -> u32 {
        let _ = pass;
        0
    }
}

/// What a policy may ask about the call that arrives.
pub trait Ask {
    /// The limit that the caller chose for the timeout of this name, if it did.
    fn limit(&self, timeout: &str) -> Option<Duration>;

    /// Whether it can wait in a queue: only where the service can be had again afterwards.
    fn may_wait(&self) -> bool;
}

/// Which policy refuses: its place in a list, counted from the outside, and how long for. A policy by itself is the first.
///
/// One word, so that a function gives back in registers whether there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refuser(u64);

impl Refuser {
    const PLACE: u32 = u64::BITS - u8::BITS;
    const LEFT: u64 = (1 << Self::PLACE) - 1;

    /// The same policy, at that place in a list.
    #[inline]
    pub(crate) const fn at(self, place: u8) -> Self {
        Self(self.0 & Self::LEFT | (place as u64) << Self::PLACE)
    }

    /// Its place.
    #[inline]
    pub(crate) const fn place(self) -> usize {
        (self.0 >> Self::PLACE) as usize
    }

    /// The first policy, for so many nanoseconds more.
    #[inline]
    pub(crate) const fn for_another(left: u64) -> Self {
        // What takes years is looked at again when the call comes.
        Self(if left > Self::LEFT { 0 } else { left })
    }

    /// For how many nanoseconds more it refuses, where it has looked at the clock for that.
    #[inline]
    pub(crate) const fn left(self) -> Option<u64> {
        match self.0 & Self::LEFT {
            0 => None,
            left => Some(left),
        }
    }
}

/// What follows an arrival.
#[derive(Debug)]
pub enum Step {
    /// The call may be made.
    Call,
    /// It waits for a slot.
    Queue,
    /// It is refused. What had been entered is left by this rejection.
    Refused(Rejected),
}

/// What follows an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The caller gets it.
    Done,
    /// The same, after more attempts than one. Only [`succeed`](Policy::succeed) says so: most calls that succeed need not
    /// be asked then how many they made.
    DoneAfterRetries,
    /// The caller gets it, and what the call holds lives on until the end of the body.
    Hold,
    /// Another attempt after a wait, the end of which `pended` tells.
    Again,
    /// Another result takes its place.
    Answer,
}

/// What follows a deadline.
#[derive(Debug)]
pub enum Expired {
    /// Nothing: it was moved meanwhile.
    NotYet,
    /// The wait before another attempt is over.
    Resume,
    /// What is pending is dropped, and this rejection takes its place.
    Refused(Rejected),
}

#[cfg(test)]
mod tests {
    use super::Refuser;

    #[test]
    fn a_refuser_gives_back_what_it_was_made_of() {
        let year = 365 * 24 * 3600 * 1_000_000_000;
        for left in [1, 7, year, 2 * year] {
            let by = Refuser::for_another(left);
            assert_eq!((by.place(), by.left()), (0, Some(left)));
            assert_eq!((by.at(255).place(), by.at(255).left()), (255, Some(left)));
            assert_eq!((by.at(255).at(3).place(), by.at(3).left()), (3, Some(left)));
        }
        assert_eq!(Refuser::default().at(9).left(), None);
        assert_eq!(Refuser::for_another(3 * year).left(), None);
        assert_eq!(Refuser::for_another(u64::MAX).place(), 0);
    }
}
