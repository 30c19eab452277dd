//! A call that a policy refused or cut off, and why.

use std::{fmt, sync::Arc, time::Duration};

use crate::vocabulary::{clock::nanos, rate::Rate};

/// A call that a policy of this crate did not let through, or gave up.
///
/// One small opaque type for every policy, so that errors do not nest however the policies are ordered. It
/// says which kind of policy and which one by name, why, when a retry makes sense, and whether the call may
/// have reached the service.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    policy: Arc<str>,
    reason: Reason,
    /// Nanoseconds; `u64::MAX` where nobody knows.
    retry_after: u64,
    attempts: u16,
}

/// What kind of rejection it is: what a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectedKind {
    /// A circuit breaker that is open, forced open, or half-open with all its probes under way.
    CircuitOpen,
    /// A bulkhead with no free slot, at once or after waiting in its queue.
    BulkheadFull,
    /// A timeout that ended the call. The only kind that may have reached the service.
    TimedOut,
    /// `call` without a `poll_ready` that answered ready: the caller broke Tower's contract.
    NotReady,
}

/// Why a call was rejected.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The circuit breaker is open, for this cause.
    Open(OpenCause),
    /// The circuit breaker is forced open by a command, until another command.
    ForcedOpen,
    /// The circuit breaker was open when the service was to be polled ready. It admits calls by now, but this one's
    /// service is not ready.
    WasOpen,
    /// The circuit breaker is half-open and all its probes are under way or used.
    ProbesTaken {
        /// How many probes it admits.
        probes: u32,
    },
    /// The bulkhead has no free slot and does not let calls wait.
    Full {
        /// Concurrent calls that it admits.
        limit: u32,
    },
    /// The bulkhead has no free slot and its queue is full too.
    QueueFull {
        /// Concurrent calls that it admits.
        limit: u32,
        /// Calls that may wait.
        queue: u32,
    },
    /// The call waited in the bulkhead's queue, and no slot came free in time.
    WaitedTooLong {
        /// Concurrent calls that it admits.
        limit: u32,
        /// How long the call waited.
        waited: Duration,
    },
    /// The call was not done within the limit, and was dropped.
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The response's body stood still for longer than the limit between two of its frames, and was dropped.
    BodyIdle {
        /// The limit.
        limit: Duration,
    },
    /// The service was called without having been polled ready.
    NotPolledReady,
}

/// Why a circuit breaker opened.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OpenCause {
    /// The failure rate reached its threshold.
    FailureRate {
        /// The rate that was seen.
        rate: Rate,
        /// Of how many calls.
        calls: u64,
    },
    /// The rate of slow calls reached its threshold.
    SlowCallRate {
        /// The rate that was seen.
        rate: Rate,
        /// Of how many calls.
        calls: u64,
    },
    /// So many calls failed in a row.
    ConsecutiveFailures {
        /// How many.
        failures: u32,
    },
    /// The stay in half-open reached its limit.
    HalfOpenOverstayed,
    /// A command, or the initial state.
    Command,
}

impl RejectedKind {
    /// Its word, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit_open",
            Self::BulkheadFull => "bulkhead_full",
            Self::TimedOut => "timed_out",
            Self::NotReady => "not_ready",
        }
    }
}

impl OpenCause {
    /// Its word, as in JSON.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::FailureRate { .. } => "failure_rate",
            Self::SlowCallRate { .. } => "slow_call_rate",
            Self::ConsecutiveFailures { .. } => "consecutive_failures",
            Self::HalfOpenOverstayed => "half_open_overstayed",
            Self::Command => "command",
        }
    }
}

impl fmt::Display for OpenCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailureRate { rate, calls } => write!(f, "failure rate {rate} of {calls} calls"),
            Self::SlowCallRate { rate, calls } => write!(f, "slow call rate {rate} of {calls} calls"),
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} failures in a row"),
            Self::HalfOpenOverstayed => f.write_str("half-open for too long without a verdict"),
            Self::Command => f.write_str("opened by command"),
        }
    }
}

impl Reason {
    /// The kind of rejection that this is a reason for.
    pub const fn kind(&self) -> RejectedKind {
        match self {
            Self::Open(_) | Self::ForcedOpen | Self::WasOpen | Self::ProbesTaken { .. } => {
                RejectedKind::CircuitOpen
            }
            Self::Full { .. } | Self::QueueFull { .. } | Self::WaitedTooLong { .. } => {
                RejectedKind::BulkheadFull
            }
            Self::TimedOut { .. } | Self::BodyIdle { .. } => RejectedKind::TimedOut,
            Self::NotPolledReady => RejectedKind::NotReady,
        }
    }
}

impl Reason {
    /// Its word, as in JSON.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::ForcedOpen => "forced_open",
            Self::WasOpen => "was_open",
            Self::ProbesTaken { .. } => "probes_taken",
            Self::Full { .. } => "full",
            Self::QueueFull { .. } => "queue_full",
            Self::WaitedTooLong { .. } => "waited_too_long",
            Self::TimedOut { .. } => "timed_out",
            Self::BodyIdle { .. } => "body_idle",
            Self::NotPolledReady => "not_polled_ready",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(cause) => write!(f, "{cause}"),
            Self::ForcedOpen => f.write_str("forced open by command"),
            Self::WasOpen => f.write_str("it was open a moment ago"),
            Self::ProbesTaken { probes } => write!(f, "half-open with all {probes} probes taken"),
            Self::Full { limit } => write!(f, "all {limit} slots in use"),
            Self::QueueFull { limit, queue } => {
                write!(f, "all {limit} slots in use and {queue} calls waiting")
            }
            Self::WaitedTooLong { limit, waited } => {
                write!(f, "all {limit} slots in use, waited {waited:?}")
            }
            Self::TimedOut { limit } => write!(f, "not done within {limit:?}"),
            Self::BodyIdle { limit } => write!(f, "no frame of the body for {limit:?}"),
            Self::NotPolledReady => f.write_str("called without having been polled ready"),
        }
    }
}

impl Rejected {
    /// A rejection by the policy called `policy`.
    pub fn new(policy: impl Into<Arc<str>>, reason: Reason) -> Self {
        Self {
            policy: policy.into(),
            reason,
            retry_after: u64::MAX,
            attempts: 0,
        }
    }

    /// Says when another try makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after.map_or(u64::MAX, nanos);
        self
    }

    /// What kind of rejection it is.
    pub const fn kind(&self) -> RejectedKind {
        self.reason.kind()
    }

    /// The name of the policy that rejected the call.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Why.
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// How long to wait before another try makes sense, where the policy knows: an open circuit breaker
    /// tells what is left of its wait.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.retry_after {
            u64::MAX => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// How long the call waited in a bulkhead's queue, if it did.
    pub const fn waited(&self) -> Option<Duration> {
        match self.reason {
            Reason::WaitedTooLong { waited, .. } => Some(waited),
            _ => None,
        }
    }

    /// Whether the call may have reached the service: so for a timeout, never for a refusal.
    pub const fn may_have_reached_service(&self) -> bool {
        matches!(self.reason.kind(), RejectedKind::TimedOut)
    }

    /// Attempts that the outermost retry had made when it gave this rejection to its caller, the first
    /// counted; zero when no retry saw it.
    pub const fn attempts(&self) -> u32 {
        self.attempts as u32
    }

    pub(crate) fn note_attempts(&mut self, attempts: u32) {
        self.attempts = u16::try_from(attempts).unwrap_or(u16::MAX);
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (policy, reason) = (&*self.policy, &self.reason);
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
        assert!(size_of::<Rejected>() <= 64, "{}", size_of::<Rejected>());
    }
}
