//! The bulkhead as a step machine around a call.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Bulkhead,
    pass::{BulkheadPass, Phase},
    slots::Arrival,
};
use crate::{
    policies::step::{Ask, Expired, Next, Policy, Refuser, Step},
    vocabulary::{
        clock::{Clock, Now, Timestamp},
        event::What,
        event_kind::EventKind,
        outcome::{Abandoned, Outcome},
        rejected::Reason,
        sync::Ordering,
    },
};

impl Policy for Bulkhead {
    type Pass = BulkheadPass;

    const JUDGES: bool = false;

    const TELLS_OUT: bool = true;

    const REFUSES: bool = true;

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

    #[inline(always)]
    fn may_refuse(&self) -> bool {
        self.0.slots.may_be_full()
    }

    fn refuse(&self, _by: Refuser, _pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        Step::Refused(self.reject(self.full(ask.may_wait())))
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        if self.0.slots.try_acquire() {
            *pass = BulkheadPass::INSIDE;
            self.count_admitted();
            return Step::Call;
        }
        let step;
        (*pass, step) = self.enter_full(ask.may_wait());
        step
    }

    fn poll_queue(&self, pass: &mut Self::Pass, cx: &mut Context<'_>) -> Poll<()> {
        let Phase::Queued(ticket) = pass.phase() else {
            debug_assert!(false, "only who waits is asked");
            return Poll::Ready(());
        };
        self.0.slots.poll(ticket, cx).map(|since| {
            self.count_waited(since);
            *pass = BulkheadPass::INSIDE;
        })
    }

    #[inline(always)]
    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        match pass.phase() {
            Phase::Out | Phase::Inside => None,
            Phase::Queued(ticket) => self.0.slots.pended(ticket, now.get()),
        }
    }

    /// Who has a slot may keep it for as long as it takes.
    #[inline(always)]
    fn watches(&self, pass: &Self::Pass) -> bool {
        !pass.is_inside()
    }

    fn expire(&self, pass: &mut Self::Pass, now: Timestamp) -> Expired {
        let Phase::Queued(ticket) = pass.phase() else {
            return Expired::NotYet;
        };
        let Some(waited) = self.0.slots.expire(ticket, now) else {
            return Expired::NotYet;
        };
        *pass = BulkheadPass::OUT;
        let limit = self.0.slots.limit();
        Expired::Refused(self.reject(Reason::WaitedTooLong { limit, waited }))
    }

    #[inline(always)]
    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        if pass.is_inside() {
            if outcome.is_deferred() {
                return Next::Hold;
            }
            *pass = BulkheadPass::OUT;
            self.0.slots.release();
        }
        Next::Done
    }

    #[inline(always)]
    fn is_out(&self, pass: &Self::Pass) -> bool {
        pass.is_out()
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        match std::mem::take(pass).phase() {
            Phase::Out => return,
            Phase::Queued(ticket) => {
                self.0.slots.cancel(ticket);
                if let Some(meter) = self.0.meter.get() {
                    meter.dropped.add();
                }
            }
            Phase::Inside => self.0.slots.release(),
        }
        self.tell_call(EventKind::Abandoned, || What::Abandoned(why));
    }
}

impl Bulkhead {
    /// It gives the pass as a value: one whose address is known here would be kept in memory by every call, and moved
    /// from there.
    #[cold]
    #[inline(never)]
    fn enter_full(&self, may_wait: bool) -> (BulkheadPass, Step) {
        let wait = self.max_wait();
        if wait.is_zero() || !may_wait {
            let limit = self.0.slots.limit();
            return (
                BulkheadPass::OUT,
                Step::Refused(self.reject(Reason::Full { limit })),
            );
        }
        match self
            .0
            .slots
            .arrive(self.0.max_queue.load(Ordering::Relaxed), wait)
        {
            Arrival::Admitted => {
                self.count_admitted();
                (BulkheadPass::INSIDE, Step::Call)
            }
            Arrival::Queued(ticket) => {
                self.tell_call(EventKind::Queued, || What::Queued);
                (BulkheadPass::queued(ticket), Step::Queue)
            }
            Arrival::Refused => (BulkheadPass::OUT, Step::Refused(self.reject(self.full(true)))),
        }
    }

    /// A call got its slot after waiting for it, and was first pending then.
    fn count_waited(&self, since: Option<Timestamp>) {
        if let Some(meter) = self.0.meter.get() {
            meter.admitted.add();
            let waited = since.map_or(Duration::ZERO, |since| self.0.clock.now().since(since));
            meter.waits.record(waited);
        }
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
