//! What a finished attempt means to the policies around it.

use std::{error::Error as StdError, time::Duration};

use crate::vocabulary::{
    error::HoldsRejected,
    rejected::{Rejected, RejectedKind},
};

/// What a result counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The service did its work.
    Success,
    /// The service failed.
    Failure,
    /// As if the call had never been: nothing is recorded, a probe's permit returns.
    Ignored,
}

/// Whether another attempt makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// No: the caller gets this result.
    Stop,
    /// Yes, after the retry's own backoff.
    Retry,
    /// Yes, after this long: the server said so. The retry caps it.
    RetryAfter(Duration),
}

/// A result as policies see it: classified, with its types erased.
///
/// An exchange makes it from the request's facts and the result; predicates refine it; policies act on it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    verdict: Verdict,
    advice: Advice,
    error: Option<&'a (dyn StdError + 'static)>,
    rejected: Option<&'a Rejected>,
    status: Option<u16>,
    repeatable: bool,
    deferred: bool,
    timed: bool,
    time_left: Option<Duration>,
}

impl<'a> Outcome<'a> {
    /// A success: recorded as such, not retried.
    pub const fn success() -> Self {
        Self {
            verdict: Verdict::Success,
            advice: Advice::Stop,
            error: None,
            rejected: None,
            status: None,
            repeatable: true,
            deferred: false,
            timed: false,
            time_left: None,
        }
    }

    /// A failure that says nothing more: recorded as such, and retried.
    pub const fn failure() -> Self {
        Self {
            verdict: Verdict::Failure,
            advice: Advice::Retry,
            ..Self::success()
        }
    }

    /// The plain judgement of a result: `Ok` is a success and `Err` a failure, except that a refusal by a
    /// policy of this crate is ignored and not retried. A timeout of this crate is a failure, and retried.
    #[inline(always)]
    pub fn of<T, E: HoldsRejected>(result: Result<&T, &'a E>) -> Self {
        match result {
            Ok(_) => Self::success(),
            Err(error) => Self::of_error(error),
        }
    }

    /// The plain judgement of an error; see [`Outcome::of`].
    pub fn of_error<E: HoldsRejected>(error: &'a E) -> Self {
        let rejected = error.rejected();
        let refused = rejected.is_some_and(|rejected| rejected.kind() != RejectedKind::TimedOut);
        let judged = if refused {
            Self {
                verdict: Verdict::Ignored,
                advice: Advice::Stop,
                ..Self::success()
            }
        } else {
            Self::failure()
        };
        Self {
            error: error.as_error(),
            rejected,
            ..judged
        }
    }

    /// What it counts as.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether another attempt makes sense.
    pub const fn advice(&self) -> Advice {
        self.advice
    }

    /// The error, when the result is one and its type can show itself.
    pub const fn error(&self) -> Option<&'a (dyn StdError + 'static)> {
        self.error
    }

    /// The rejection by a policy of this crate, when the result is one.
    pub const fn rejected(&self) -> Option<&'a Rejected> {
        self.rejected
    }

    /// The status of the response, where the exchange knows one.
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the request may be sent once more: its method allows it and it can be made again.
    pub const fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    /// Whether the verdict follows later, at the end of the body: what holds a permit goes on holding it.
    pub const fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Whether the call's timeouts run on until the verdict that is put off; see
    /// [`is_deferred`](Outcome::is_deferred).
    pub const fn is_timed(&self) -> bool {
        self.timed
    }

    /// How long the timeouts around the policy that is shown this outcome leave it, where that is known: for an outcome
    /// that says when to try again. Those of the same [`Stack`](crate::Stack) are known always; those further out (of
    /// another layer, or of a call that this one is made in) once the call was pending under them.
    pub const fn time_left(&self) -> Option<Duration> {
        self.time_left
    }

    /// The same with another verdict.
    #[must_use]
    pub const fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    /// The same with other advice.
    #[must_use]
    pub const fn with_advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }

    /// The same with a status.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same for a request that must (`false`) or need not be sent at most once.
    #[must_use]
    pub const fn with_repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }

    /// The same with the verdict put off to the end of the body (`true`), or final.
    #[must_use]
    pub const fn with_deferred(mut self, deferred: bool) -> Self {
        self.deferred = deferred;
        self
    }

    /// The same with the call's timeouts running on until the verdict that is put off (`true`), or ending now.
    #[must_use]
    pub const fn with_timed(mut self, timed: bool) -> Self {
        self.timed = timed;
        self
    }

    /// The same with the time that is left.
    #[must_use]
    pub const fn with_time_left(mut self, left: Option<Duration>) -> Self {
        self.time_left = left;
        self
    }
}

/// Why a call ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abandoned {
    /// A timeout of this crate dropped it.
    TimedOut,
    /// Its future was dropped: the caller hung up, lost a race, or has a timeout of its own.
    Dropped,
    /// It panicked.
    Panicked,
}
