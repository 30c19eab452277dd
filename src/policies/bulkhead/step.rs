//! The bulkhead as a step machine around a call.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    Bulkhead,
    pass::{BulkheadPass, Waiting},
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

    fn refuse(&self, _by: Refuser, _pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        Step::Refused(self.reject(self.full(ask.may_wait())))
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        if self.0.slots.try_acquire() {
            *pass = BulkheadPass::Inside;
            self.count_admitted();
            return Step::Call;
        }
        let step;
        (*pass, step) = self.enter_full(ask.may_wait());
        step
    }

    fn poll_queue(&self, pass: &mut Self::Pass, cx: &mut Context<'_>) -> Poll<()> {
        let BulkheadPass::Waiting(waiting) = pass else {
            debug_assert!(false, "only who waits is polled");
            return Poll::Ready(());
        };
        ready!(self.0.slots.poll(waiting.ticket, cx));
        self.count_waited(waiting);
        *pass = BulkheadPass::Inside;
        Poll::Ready(())
    }

    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        let BulkheadPass::Waiting(waiting) = pass else {
            return None;
        };
        let limit = Duration::from_nanos(waiting.limit);
        Some(*waiting.deadline.get_or_insert_with(|| now.get().after(limit)))
    }

    fn expire(&self, pass: &mut Self::Pass, now: Timestamp) -> Expired {
        let BulkheadPass::Waiting(waiting) = pass else {
            return Expired::NotYet;
        };
        if waiting.deadline.is_none_or(|deadline| now < deadline) {
            return Expired::NotYet;
        }
        self.0.slots.cancel(waiting.ticket);
        let waited = Duration::from_nanos(waiting.limit);
        *pass = BulkheadPass::Out;
        Expired::Refused(self.reject(Reason::WaitedTooLong {
            limit: self.0.slots.limit(),
            waited,
        }))
    }

    #[inline(always)]
    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        if matches!(pass, BulkheadPass::Inside) {
            if outcome.is_deferred() {
                return Next::Hold;
            }
            *pass = BulkheadPass::Out;
            self.0.slots.release();
        }
        Next::Done
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        match std::mem::take(pass) {
            BulkheadPass::Out => return,
            BulkheadPass::Waiting(waiting) => {
                self.0.slots.cancel(waiting.ticket);
                if let Some(meter) = self.0.meter.get() {
                    meter.dropped.add();
                }
            }
            BulkheadPass::Inside => self.0.slots.release(),
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
        let wait = self.0.max_wait.load(Ordering::Relaxed);
        let out = BulkheadPass::Out;
        if wait == 0 || !may_wait {
            let limit = self.0.slots.limit();
            return (out, Step::Refused(self.reject(Reason::Full { limit })));
        }
        match self.0.slots.arrive(self.0.max_queue.load(Ordering::Relaxed)) {
            Arrival::Admitted => {
                self.count_admitted();
                (BulkheadPass::Inside, Step::Call)
            }
            Arrival::Queued(ticket) => {
                self.tell_call(EventKind::Queued, || What::Queued);
                let waiting = Waiting {
                    ticket,
                    limit: wait,
                    deadline: None,
                };
                (BulkheadPass::Waiting(Box::new(waiting)), Step::Queue)
            }
            Arrival::Refused => (out, Step::Refused(self.reject(self.full(true)))),
        }
    }

    /// A call got its slot after waiting for it.
    fn count_waited(&self, waiting: &Waiting) {
        if let Some(meter) = self.0.meter.get() {
            meter.admitted.add();
            let waited = waiting.deadline.map_or(Duration::ZERO, |deadline| {
                let began = Timestamp::from_nanos(deadline.as_nanos().saturating_sub(waiting.limit));
                self.0.clock.now().since(began)
            });
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
