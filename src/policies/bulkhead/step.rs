//! The bulkhead as a step machine around a call.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{Bulkhead, slots::Arrival};
use crate::{
    policies::step::{Ask, Expired, Next, Policy, Refuser, Step},
    vocabulary::{
        clock::{Clock, Now, Timestamp},
        event::What,
        outcome::{Abandoned, Outcome},
        rejected::Reason,
        sync::Ordering,
    },
};

/// What a call holds of a bulkhead.
#[derive(Debug, Default)]
pub struct BulkheadPass {
    phase: Phase,
    ticket: u32,
    /// How long it may wait, in nanoseconds.
    wait: u64,
    /// When that is over.
    deadline: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
// As wide as its place: what a call holds is moved with it, and padding would be copied byte by byte.
#[repr(u32)]
enum Phase {
    /// The call is not inside.
    #[default]
    Out,
    /// It waits, and was not polled so far.
    Queued,
    /// It waits, and has a deadline.
    Waiting,
    /// It has a slot.
    Inside,
}

impl Policy for Bulkhead {
    type Pass = BulkheadPass;

    const JUDGES: bool = false;

    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    #[inline]
    fn would_refuse(&self, may_wait: bool) -> Option<Refuser> {
        (self.0.slots.is_full() && !(may_wait && self.can_wait())).then_some(Refuser::default())
    }

    fn refuse(&self, _by: Refuser, _pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        Step::Refused(self.reject(self.full(ask.may_wait())))
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        if self.0.slots.try_acquire() {
            pass.phase = Phase::Inside;
            return Step::Call;
        }
        let step;
        (*pass, step) = self.enter_full(ask.may_wait());
        step
    }

    fn poll_queue(&self, pass: &mut Self::Pass, cx: &mut Context<'_>) -> Poll<()> {
        debug_assert!(matches!(pass.phase, Phase::Queued | Phase::Waiting));
        self.0.slots.poll(pass.ticket, cx).map(|()| {
            pass.phase = Phase::Inside;
        })
    }

    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        match pass.phase {
            Phase::Out | Phase::Inside => return None,
            Phase::Queued => {
                pass.phase = Phase::Waiting;
                pass.deadline = now.get().as_nanos().saturating_add(pass.wait);
            }
            Phase::Waiting => {}
        }
        Some(Timestamp::from_nanos(pass.deadline))
    }

    fn expire(&self, pass: &mut Self::Pass, now: Timestamp) -> Expired {
        if pass.phase != Phase::Waiting || now.as_nanos() < pass.deadline {
            return Expired::NotYet;
        }
        pass.phase = Phase::Out;
        self.0.slots.cancel(pass.ticket);
        let waited = Duration::from_nanos(pass.wait);
        Expired::Refused(self.reject(Reason::WaitedTooLong {
            limit: self.0.slots.limit(),
            waited,
        }))
    }

    #[inline(always)]
    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        if pass.phase == Phase::Inside {
            if outcome.is_deferred() {
                return Next::Hold;
            }
            pass.phase = Phase::Out;
            self.0.slots.release();
        }
        Next::Done
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        match std::mem::take(&mut pass.phase) {
            Phase::Out => return,
            Phase::Queued | Phase::Waiting => {
                self.0.slots.cancel(pass.ticket);
            }
            Phase::Inside => self.0.slots.release(),
        }
        self.tell(|| What::Abandoned(why));
    }
}

impl Bulkhead {
    /// It gives the pass as a value: one whose address is known here would be kept in memory by every call, and moved
    /// from there.
    #[cold]
    #[inline(never)]
    fn enter_full(&self, may_wait: bool) -> (BulkheadPass, Step) {
        let wait = self.0.max_wait.load(Ordering::Relaxed);
        let mut pass = BulkheadPass::default();
        if wait == 0 || !may_wait {
            let limit = self.0.slots.limit();
            return (pass, Step::Refused(self.reject(Reason::Full { limit })));
        }
        let step = match self.0.slots.arrive(self.0.max_queue.load(Ordering::Relaxed)) {
            Arrival::Admitted => {
                pass.phase = Phase::Inside;
                Step::Call
            }
            Arrival::Queued(ticket) => {
                pass = BulkheadPass {
                    phase: Phase::Queued,
                    ticket,
                    wait,
                    deadline: 0,
                };
                self.tell(|| What::Queued);
                Step::Queue
            }
            Arrival::Refused => Step::Refused(self.reject(self.full(true))),
        };
        (pass, step)
    }

    /// Whether a call that finds no free slot may wait for one.
    fn can_wait(&self) -> bool {
        self.0.max_wait.load(Ordering::Relaxed) > 0
            && self.0.slots.waiting() < self.0.max_queue.load(Ordering::Relaxed) as usize
    }

    fn full(&self, may_wait: bool) -> Reason {
        let limit = self.0.slots.limit();
        if !may_wait || self.0.max_wait.load(Ordering::Relaxed) == 0 {
            Reason::Full { limit }
        } else {
            Reason::QueueFull {
                limit,
                queue: self.0.max_queue.load(Ordering::Relaxed),
            }
        }
    }
}
