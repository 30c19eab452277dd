//! What a call goes on holding after its caller has the head of the response.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    drivers::dropping,
    policies::step::{Expired, Next, Policy},
    vocabulary::{
        clock::Now,
        outcome::{Abandoned, Outcome},
        predicate::Rules,
        rejected::Rejected,
    },
};

/// The permits and the open verdict of a call, carried by the body of its response.
///
/// # Cancel safety
///
/// Dropping it says that the call was dropped: slots return at once, and the circuit breaker judges it as any
/// other dropped call.
#[derive(Debug)]
#[must_use = "dropping it says that the call was dropped"]
pub struct Held<P: Policy> {
    policy: P,
    pass: P::Pass,
    rules: Option<Arc<Rules>>,
    settled: bool,
}

impl<P: Policy> Held<P> {
    pub(crate) fn new(policy: P, pass: P::Pass) -> Self {
        Self {
            policy,
            pass,
            rules: None,
            settled: false,
        }
    }

    /// The same, with the rules by which its layer sees outcomes.
    pub(crate) fn seen_by(mut self, rules: Option<Arc<Rules>>) -> Self {
        self.rules = rules;
        self
    }

    /// The policy.
    pub const fn policy(&self) -> &P {
        &self.policy
    }

    /// The body has ended: the verdict at last. A deferred outcome counts as it stands.
    pub fn settle(mut self, outcome: &Outcome<'_>) {
        self.settled = true;
        let outcome = match &self.rules {
            None => *outcome,
            Some(rules) => rules.refine(outcome),
        };
        let next = self.policy.leave(&mut self.pass, &outcome.with_deferred(false));
        debug_assert_eq!(next, Next::Done, "who decides on the head has left by now");
    }

    /// The body ended in a panic, or was cut off by a timeout.
    pub fn abandon(mut self, why: Abandoned) {
        self.settled = true;
        self.policy.abandon(&mut self.pass, why);
    }

    /// The body is pending: until when may it be? `None` where no timeout of the call covers it.
    pub fn pended(&mut self) -> Option<Instant> {
        let mut now = Now::of(self.policy.clock());
        let deadline = self.policy.pended(&mut self.pass, &mut now)?;
        Some(now.timer(deadline))
    }

    /// The point that [`pended`](Held::pended) told has come. What is refused then is dropped first, and
    /// [settled](Held::settle) by the rejection after that. `None`: it is not refused.
    pub fn expire(&mut self) -> Option<Rejected> {
        match self.policy.expire(&mut self.pass, self.policy.clock().now()) {
            Expired::Refused(rejected) => Some(rejected),
            Expired::NotYet | Expired::Resume => None,
        }
    }
}

impl<P: Policy> Drop for Held<P> {
    fn drop(&mut self) {
        if !self.settled {
            self.policy
                .abandon(&mut self.pass, dropping::cause(std::thread::panicking()));
        }
    }
}
