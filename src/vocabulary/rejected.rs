//! A call that a policy refused or cut off, and why.

use std::{cell::Cell, fmt, sync::Arc, time::Duration};

use crate::vocabulary::clock::nanos;
pub use crate::vocabulary::reason::{OpenCause, Reason, RejectedKind};

/// A call that a policy of this crate did not let through, or gave up.
///
/// One small opaque type for every policy, so that errors do not nest however the policies are ordered. It
/// says which kind of policy and which one by name, why, when a retry makes sense, and whether the call may
/// have reached the service.
pub struct Rejected(
    /// A pointer, because a rejection is moved from hand to hand on its way to the caller. `None` only while it is dropped.
    Option<Box<Facts>>,
);

#[derive(Clone)]
struct Facts {
    policy: Arc<str>,
    reason: Reason,
    /// What the reason was made of; zero where that is not known.
    stamp: u64,
    /// Nanoseconds, or [`Rejected::NO_RETRY_AFTER`].
    retry_after: u64,
    attempts: u16,
}

impl Rejected {
    /// Nobody knows when another try makes sense.
    pub(crate) const NO_RETRY_AFTER: u64 = u64::MAX;

    /// A rejection by the policy called `policy`.
    pub fn new(policy: impl Into<Arc<str>>, reason: Reason) -> Self {
        Self::of(Facts {
            policy: policy.into(),
            reason,
            stamp: 0,
            retry_after: Self::NO_RETRY_AFTER,
            attempts: 0,
        })
    }

    /// A rejection by the policy of that name, for a reason that is always the same for one stamp (which is not zero). It
    /// costs next to nothing where the last rejection that this thread has dropped was the same.
    #[inline]
    pub(crate) fn stamped(
        policy: &Arc<str>,
        stamp: u64,
        retry_after: u64,
        reason: impl FnOnce() -> Reason,
    ) -> Self {
        if let Some(mut spare) = spare() {
            if spare.stamp == stamp && Arc::ptr_eq(&spare.policy, policy) {
                spare.retry_after = retry_after;
                spare.attempts = 0;
                return Self(Some(spare));
            }
            keep(spare);
        }
        Self::of(Facts {
            policy: Arc::clone(policy),
            reason: reason(),
            stamp,
            retry_after,
            attempts: 0,
        })
    }

    fn of(facts: Facts) -> Self {
        Self(Some(match spare() {
            Some(mut spare) => {
                *spare = facts;
                spare
            }
            None => Box::new(facts),
        }))
    }

    /// Says when another try makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        if let Some(facts) = &mut self.0 {
            facts.retry_after = retry_after.map_or(Self::NO_RETRY_AFTER, nanos);
        }
        self
    }

    /// What kind of rejection it is.
    pub const fn kind(&self) -> RejectedKind {
        self.reason().kind()
    }

    /// The name of the policy that rejected the call.
    pub fn policy(&self) -> &str {
        match &self.0 {
            Some(facts) => &facts.policy,
            None => "",
        }
    }

    /// Why.
    pub const fn reason(&self) -> &Reason {
        match &self.0 {
            Some(facts) => &facts.reason,
            None => &Reason::NotPolledReady,
        }
    }

    /// How long to wait before another try makes sense, where the policy knows: an open circuit breaker
    /// tells what is left of its wait. That may be some milliseconds too long, and is never too short. Where
    /// `poll_ready` found that the call is to be refused, it is what was left then.
    pub const fn retry_after(&self) -> Option<Duration> {
        match &self.0 {
            Some(facts) if facts.retry_after != Self::NO_RETRY_AFTER => {
                Some(Duration::from_nanos(facts.retry_after))
            }
            _ => None,
        }
    }

    /// How long the call waited in a bulkhead's queue, if it did.
    pub const fn waited(&self) -> Option<Duration> {
        match self.reason() {
            Reason::WaitedTooLong { waited, .. } => Some(*waited),
            _ => None,
        }
    }

    /// Whether the call may have reached the service: so for a timeout, never for a refusal.
    pub const fn may_have_reached_service(&self) -> bool {
        matches!(self.kind(), RejectedKind::TimedOut)
    }

    /// Attempts that the outermost retry had made when it gave this rejection to its caller, the first
    /// counted; zero when no retry saw it.
    pub const fn attempts(&self) -> u32 {
        match &self.0 {
            Some(facts) => facts.attempts as u32,
            None => 0,
        }
    }

    pub(crate) fn note_attempts(&mut self, attempts: u32) {
        if let Some(facts) = &mut self.0 {
            facts.attempts = u16::try_from(attempts).unwrap_or(u16::MAX);
        }
    }
}

thread_local! {
    /// What the last rejection was made of that this thread has dropped, for the next one: whoever refuses calls does so
    /// because there is too much to do already, and should not allocate.
    static SPARE: Cell<Option<Box<Facts>>> = const { Cell::new(None) };
}

#[inline]
fn spare() -> Option<Box<Facts>> {
    SPARE.try_with(Cell::take).ok().flatten()
}

#[inline]
fn keep(facts: Box<Facts>) {
    // The one that was spare before goes, or this one where the thread is about to end.
    let _ = SPARE.try_with(|spare| spare.replace(Some(facts)));
}

impl Drop for Rejected {
    #[inline]
    fn drop(&mut self) {
        if let Some(facts) = self.0.take() {
            keep(facts);
        }
    }
}

impl PartialEq for Rejected {
    fn eq(&self, other: &Self) -> bool {
        let facts = |of: &Self| (*of.reason(), of.retry_after(), of.attempts());
        self.policy() == other.policy() && facts(self) == facts(other)
    }
}

impl Clone for Rejected {
    fn clone(&self) -> Self {
        match &self.0 {
            Some(facts) => Self::of(Facts::clone(facts)),
            None => Self(None),
        }
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("policy", &self.policy())
            .field("reason", self.reason())
            .field("retry_after", &self.retry_after())
            .field("attempts", &self.attempts())
            .finish()
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (policy, reason) = (self.policy(), self.reason());
        match self.kind() {
            RejectedKind::CircuitOpen => write!(f, "circuit breaker `{policy}` refused the call: {reason}")?,
            RejectedKind::BulkheadFull => write!(f, "bulkhead `{policy}` is full: {reason}")?,
            RejectedKind::TimedOut => write!(f, "timeout `{policy}`: {reason}")?,
            RejectedKind::NotReady => write!(f, "policy `{policy}`: {reason}")?,
        }
        match self.retry_after() {
            // Nobody waits for parts of a millisecond.
            Some(after) => write!(
                f,
                "; retry in {:?}",
                Duration::from_millis(round_up_millis(after))
            ),
            None => Ok(()),
        }
    }
}

fn round_up_millis(duration: Duration) -> u64 {
    // A nanosecond over is what tells the end of a wait from what comes after it.
    let nanos = nanos(duration).saturating_sub(1);
    nanos.div_ceil(1_000_000).max(1)
}

impl std::error::Error for Rejected {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::rate::Rate;

    const FULL: Reason = Reason::Full { limit: 5 };

    #[test]
    fn a_rejection_says_nothing_of_the_one_that_the_thread_dropped_before() {
        let (db, cache) = (Arc::from("db"), Arc::from("cache"));
        let stamped = |policy, stamp, reason| Rejected::stamped(policy, stamp, 7, || reason);
        let mut noted = stamped(&db, 1, Reason::ForcedOpen);
        noted.note_attempts(3);
        assert_eq!(noted.attempts(), 3);
        drop(noted);
        for (policy, stamp, reason) in [
            (&db, 1, Reason::ForcedOpen),
            (&db, 2, FULL),
            (&cache, 2, FULL),
            (&cache, 1, Reason::ForcedOpen),
        ] {
            let rejected = stamped(policy, stamp, reason);
            assert_eq!((rejected.policy(), rejected.reason()), (&**policy, &reason));
            assert_eq!(rejected.retry_after(), Some(Duration::from_nanos(7)));
            assert_eq!(rejected.attempts(), 0);
            assert_eq!(rejected, rejected.clone());
        }
        drop(stamped(&db, 1, Reason::ForcedOpen));
        let other = Rejected::new("other", FULL);
        assert_eq!((other.policy(), other.reason()), ("other", &FULL));
        assert_eq!((other.retry_after(), other.attempts()), (None, 0));
    }

    #[test]
    fn a_rejection_that_is_like_the_one_before_counts_no_reference_and_asks_for_no_reason() {
        let policy: Arc<str> = Arc::from("db");
        drop(Rejected::stamped(&policy, 1, 7, || FULL));
        let references = Arc::strong_count(&policy);
        let again = Rejected::stamped(&policy, 1, 8, || unreachable!("it is known"));
        assert_eq!((again.reason(), Arc::strong_count(&policy)), (&FULL, references));
        let besides = Rejected::stamped(&policy, 1, 8, || FULL);
        assert_eq!(again, besides);
    }

    #[test]
    fn a_rejection_lives_on_where_its_thread_does_not() {
        let made = std::thread::spawn(|| Rejected::new("db", FULL)).join().unwrap();
        assert_eq!((made.policy(), made.reason()), ("db", &FULL));
        let policy: Arc<str> = Arc::from("db");
        let given = Rejected::stamped(&policy, 1, 7, || FULL);
        std::thread::spawn(move || drop(given)).join().unwrap();
        assert_eq!(Arc::strong_count(&policy), 1, "what a thread kept goes with it");
    }

    #[test]
    fn a_rejection_says_who_why_and_when() {
        let cause = OpenCause::FailureRate {
            rate: Rate::percent(61.0),
            calls: 20,
        };
        let rejected = Rejected::new("payments", Reason::Open(cause))
            .with_retry_after(Some(Duration::from_millis(1500)));
        assert_eq!(
            rejected.to_string(),
            "circuit breaker `payments` refused the call: failure rate 61 % of 20 calls; retry in 1.5s"
        );
        assert_eq!(rejected.kind(), RejectedKind::CircuitOpen);
        assert!(!rejected.may_have_reached_service());
    }

    #[test]
    fn a_full_bulkhead_never_says_timeout() {
        let waited = Reason::WaitedTooLong {
            limit: 5,
            waited: Duration::from_millis(50),
        };
        let text = Rejected::new("db", waited).to_string();
        assert_eq!(text, "bulkhead `db` is full: all 5 slots in use, waited 50ms");
    }

    #[test]
    fn a_rejection_stays_small() {
        assert_eq!(size_of::<Rejected>(), size_of::<usize>());
    }
}
