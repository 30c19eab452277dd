//! What a piece of work costs: the processor's time, or what it takes from the heap.

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure, opt_out};
use rustix::time::{ClockId, clock_gettime};

/// Measures the part of a slice that is worth measuring.
pub(crate) enum Meter {
    /// The time that this thread was on a processor. Unlike the time of day it does not grow while the machine does
    /// other work.
    Time(Duration),
    /// Allocations of this thread.
    Heap(AllocationInfo),
}

impl Meter {
    pub(crate) const fn time() -> Self {
        Self::Time(Duration::ZERO)
    }

    pub(crate) fn heap() -> Self {
        Self::Heap(AllocationInfo::default())
    }

    /// Does the work and adds what it cost.
    #[inline]
    pub(crate) fn of(&mut self, work: impl FnOnce()) {
        match self {
            Self::Time(time) => {
                // While time is measured, the counting allocator is told to look away.
                opt_out(|| {
                    let began = processor_time();
                    work();
                    *time += processor_time().saturating_sub(began);
                });
            }
            Self::Heap(info) => *info += measure(work),
        }
    }
}

/// How long this thread was on a processor so far.
pub(crate) fn processor_time() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// How long all threads of this process were on a processor so far, together.
pub(crate) fn processor_time_of_all() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(secs, nanos)
}
