//! The limits in force for the code that runs now.
//!
//! A retry that is told when to try again gives up at once when that would be after a timeout around it. Within a stack
//! it asks the stages outside of it. Layers that are nested by `ServiceBuilder`, and a guarded call within another,
//! know nothing of each other: a timeout says its limit here while it polls what it guards. It does so once the call was
//! pending, as it arms its timer then: a call that is ready at once pays for neither.
//!
//! What is polled by the same poll is taken to be guarded by it. A task of its own is not; those of a `LocalSet` that a
//! guarded call drives are, and go on no longer than it does.

use std::{cell::Cell, time::Duration};

use crate::{
    policies::{in_force::InForce, step::Policy},
    vocabulary::clock::Clock,
};

thread_local! {
    static IN_FORCE: Cell<InForce> = const { Cell::new(InForce::NONE) };
}

/// Puts the limits of the policy in force, beside those outside of it, until the guard is dropped.
#[inline(always)]
pub(crate) fn under<P: Policy>(policy: &P, pass: &P::Pass) -> Option<Restore> {
    P::LIMITS.then(|| {
        let outer = IN_FORCE.get();
        IN_FORCE.set(outer.and(policy.in_force(pass)));
        Restore(outer)
    })
}

/// Ends what [`under`] began.
pub(crate) struct Restore(InForce);

impl Drop for Restore {
    #[inline(always)]
    fn drop(&mut self) {
        IN_FORCE.set(self.0);
    }
}

/// How long the limits in force leave.
#[cold]
pub(crate) fn time_left() -> Option<Duration> {
    IN_FORCE.get().left(|| Clock::tokio().now())
}
