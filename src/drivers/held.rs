//! What a call goes on holding after its caller has the head of the response.

use crate::{
    drivers::dropping,
    policies::step::{Next, Policy},
    vocabulary::outcome::{Abandoned, Outcome},
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
    settled: bool,
}

impl<P: Policy> Held<P> {
    pub(crate) fn new(policy: P, pass: P::Pass) -> Self {
        Self {
            policy,
            pass,
            settled: false,
        }
    }

    /// The body has ended: the verdict at last. A deferred outcome counts as it stands.
    pub fn settle(mut self, outcome: &Outcome<'_>) {
        self.settled = true;
        let next = self.policy.leave(&mut self.pass, &outcome.with_deferred(false));
        debug_assert_eq!(next, Next::Done, "who decides on the head has left by now");
    }

    /// The body ended in a panic, or was cut off by a timeout.
    pub fn abandon(mut self, why: Abandoned) {
        self.settled = true;
        self.policy.abandon(&mut self.pass, why);
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
