//! A keyed policy as a step machine around a call: that of the policy that the call's key chose.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use super::table::Keyed;
use crate::{
    drivers::timer::Timed,
    policies::{
        in_force::InForce,
        per_key::PerKey,
        step::{Ask, Expired, Next, Policy, Refuser, Step},
    },
    vocabulary::{
        clock::{Clock, Now, Timestamp},
        outcome::{Abandoned, Outcome},
    },
};

/// What a call holds of a keyed policy: the handle that its key chose, and what it holds of that.
pub struct KeyedPass<P: Policy> {
    /// Chosen before the call enters.
    chosen: Option<P>,
    pass: P::Pass,
}

impl<P: Policy> Default for KeyedPass<P> {
    fn default() -> Self {
        Self {
            chosen: None,
            pass: P::Pass::default(),
        }
    }
}

impl<P: Policy> fmt::Debug for KeyedPass<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedPass")
            .field("chosen", &self.chosen.as_ref().map(Policy::name))
            .field("pass", &self.pass)
            .finish()
    }
}

impl<P: Policy> KeyedPass<P> {
    pub(super) fn of(chosen: P) -> Self {
        Self {
            chosen: Some(chosen),
            pass: P::Pass::default(),
        }
    }

    pub(super) fn would_refuse(&self, may_wait: bool) -> Option<Refuser> {
        self.chosen.as_ref()?.would_refuse(may_wait)
    }
}

impl<P: PerKey> Keyed<P> {
    /// The chosen policy and its pass. A call without a key goes by the shared one.
    #[inline]
    fn chosen<'a>(&'a self, pass: &'a mut KeyedPass<P>) -> (&'a P, &'a mut P::Pass) {
        let KeyedPass { chosen, pass } = pass;
        (chosen.as_ref().unwrap_or_else(|| self.overflow()), pass)
    }
}

impl<P: PerKey + Timed> Timed for Keyed<P> {
    type Calling = P::Calling;
    type Between = P::Between;
}

impl<P: PerKey> Policy for Keyed<P> {
    type Pass = KeyedPass<P>;

    const JUDGES: bool = P::JUDGES;

    const LIMITS: bool = P::LIMITS;

    fn name(&self) -> &Arc<str> {
        self.each().name()
    }

    fn clock(&self) -> &Clock {
        self.each().clock()
    }

    // `would_refuse` depends on the key, which is not known before the call: the default answers that it would not.

    fn refuse(&self, by: Refuser, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        let (chosen, pass) = self.chosen(pass);
        chosen.refuse(by, pass, ask)
    }

    #[inline]
    fn enter(&self, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        let (chosen, pass) = self.chosen(pass);
        chosen.enter(pass, ask)
    }

    fn poll_queue(&self, pass: &mut Self::Pass, cx: &mut Context<'_>) -> Poll<()> {
        let (chosen, pass) = self.chosen(pass);
        chosen.poll_queue(pass, cx)
    }

    fn resume(&self, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        let (chosen, pass) = self.chosen(pass);
        chosen.resume(pass, ask)
    }

    fn would_refuse_resumed(&self, pass: &Self::Pass, may_wait: bool) -> Option<Refuser> {
        let chosen = pass.chosen.as_ref().unwrap_or_else(|| self.overflow());
        chosen.would_refuse_resumed(&pass.pass, may_wait)
    }

    fn refuse_resumed(&self, by: Refuser, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        let (chosen, pass) = self.chosen(pass);
        chosen.refuse_resumed(by, pass, ask)
    }

    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        let (chosen, pass) = self.chosen(pass);
        chosen.pended(pass, now)
    }

    #[inline]
    fn in_force(&self, pass: &Self::Pass) -> InForce {
        let chosen = pass.chosen.as_ref().unwrap_or_else(|| self.overflow());
        chosen.in_force(&pass.pass)
    }

    fn expire(&self, pass: &mut Self::Pass, now: Timestamp) -> Expired {
        let (chosen, pass) = self.chosen(pass);
        chosen.expire(pass, now)
    }

    #[inline]
    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        let (chosen, pass) = self.chosen(pass);
        chosen.leave(pass, outcome)
    }

    #[inline]
    fn succeed(&self, pass: &mut Self::Pass) -> Next {
        let (chosen, pass) = self.chosen(pass);
        chosen.succeed(pass)
    }

    fn is_plain(&self) -> bool {
        self.each().is_plain()
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        let (chosen, pass) = self.chosen(pass);
        chosen.abandon(pass, why);
    }

    fn attempts(&self, pass: &Self::Pass) -> u32 {
        let chosen = pass.chosen.as_ref().unwrap_or_else(|| self.overflow());
        chosen.attempts(&pass.pass)
    }

    fn hidden_attempts(&self, pass: &Self::Pass) -> u32 {
        let chosen = pass.chosen.as_ref().unwrap_or_else(|| self.overflow());
        chosen.hidden_attempts(&pass.pass)
    }
}
