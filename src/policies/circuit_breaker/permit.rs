//! The admission of one call, outside of Tower.

use std::time::Duration;

use super::{CircuitBreaker, machine::Admitted};
use crate::vocabulary::{
    clock::Timestamp,
    outcome::{Abandoned, Verdict},
};

/// The admission of one call: to be told how it ended.
///
/// # Cancel safety
///
/// Dropping it without a word is the call being dropped: a probe's slot returns at once; it is a failure once
/// it was held for [`dropped_after`](super::CircuitBreakerConfig::dropped_after), and also when the thread is
/// panicking.
#[derive(Debug)]
#[must_use = "a permit that is dropped at once says that the call was dropped"]
pub struct Permit {
    breaker: CircuitBreaker,
    /// `None` once it is settled.
    admitted: Option<Admitted>,
    since: Timestamp,
}

impl Permit {
    pub(super) const fn new(breaker: CircuitBreaker, admitted: Admitted, since: Timestamp) -> Self {
        Self {
            breaker,
            admitted: Some(admitted),
            since,
        }
    }

    /// The call succeeded; it took the time since the permit was given.
    pub fn success(self) {
        self.settle(Verdict::Success);
    }

    /// The call failed; it took the time since the permit was given.
    pub fn failure(self) {
        self.settle(Verdict::Failure);
    }

    /// As if the call had never been.
    pub fn ignore(self) {
        self.settle(Verdict::Ignored);
    }

    /// The call ended so; it took the time since the permit was given.
    pub fn settle(self, verdict: Verdict) {
        let held = self.held();
        self.settle_after(verdict, held);
    }

    /// The call ended so, and took that long.
    pub fn settle_after(mut self, verdict: Verdict, duration: Duration) {
        if let Some(admitted) = self.admitted.take() {
            self.breaker.count(verdict, Some(duration));
            self.breaker.settle(admitted, verdict, Some(duration));
        }
    }

    fn held(&self) -> Duration {
        self.breaker.clock().now().since(self.since)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(admitted) = self.admitted.take() {
            let why = if std::thread::panicking() {
                Abandoned::Panicked
            } else {
                Abandoned::Dropped
            };
            let held = Some(self.held());
            self.breaker.settle_abandoned(admitted, why, held, held);
        }
    }
}
