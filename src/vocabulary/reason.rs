//! Why a policy refused or cut off a call, and why a circuit breaker opened.

use std::{fmt, time::Duration};

use crate::vocabulary::rate::Rate;

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
