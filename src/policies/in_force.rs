//! The limits that are in force for a call, as policies further in may want to know them.

use std::time::Duration;

use crate::vocabulary::clock::Timestamp;

/// How long a call may still take by the timeouts around it, in a form that costs no look at a clock.
#[derive(Clone, Copy, Debug)]
pub struct InForce {
    /// The earliest deadline, in nanoseconds on Tokio's clock; `u64::MAX` where there is none.
    deadline: u64,
    /// The shortest limit that does not count yet, in nanoseconds; `u64::MAX` where there is none.
    limit: u64,
}

impl InForce {
    /// None.
    pub(crate) const NONE: Self = Self {
        deadline: u64::MAX,
        limit: u64::MAX,
    };

    /// A deadline on Tokio's clock.
    pub(crate) const fn until(deadline: Timestamp) -> Self {
        Self {
            deadline: deadline.as_nanos(),
            ..Self::NONE
        }
    }

    /// A limit in nanoseconds that begins to count when the call is first pending.
    pub(crate) const fn untimed(limit: u64) -> Self {
        Self { limit, ..Self::NONE }
    }

    /// Both.
    #[inline(always)]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            deadline: self.deadline.min(other.deadline),
            limit: self.limit.min(other.limit),
        }
    }

    /// How long they leave, at the time that `now` tells.
    pub(crate) fn left(self, now: impl FnOnce() -> Timestamp) -> Option<Duration> {
        let untimed = (self.limit != u64::MAX).then(|| Duration::from_nanos(self.limit));
        let timed = (self.deadline != u64::MAX).then(|| Timestamp::from_nanos(self.deadline).since(now()));
        untimed.into_iter().chain(timed).min()
    }
}
