//! The circuit breaker as a step machine around a call.

use std::{sync::Arc, time::Duration};

use super::{
    CircuitBreaker,
    gate::Glance,
    machine::Admitted,
    pass::{CircuitBreakerPass, Watch},
};
use crate::{
    policies::step::{Ask, Next, Policy, Refuser, Step},
    vocabulary::{
        clock::{Clock, Now, Stopwatch, Timestamp, nanos},
        outcome::{Abandoned, Outcome, Verdict},
    },
};

impl Policy for CircuitBreaker {
    type Pass = CircuitBreakerPass;

    const JUDGES: bool = true;

    const TELLS_OUT: bool = true;

    const REFUSES: bool = true;

    fn name(&self) -> &Arc<str> {
        self.0.name()
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    #[inline]
    fn would_refuse(&self, _may_wait: bool) -> Option<Refuser> {
        self.would_refuse_now()
    }

    #[inline(always)]
    fn may_refuse(&self) -> bool {
        !self.0.gate.glance().admits()
    }

    fn refuse(&self, by: Refuser, _pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        Step::Refused(self.refuse_unready(by))
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        let glance = self.0.gate.glance();
        if glance.admits() {
            *pass = self.inside(Admitted::of(glance), glance);
            return Step::Call;
        }
        let step;
        (*pass, step) = self.enter_in(glance);
        step
    }

    #[inline(always)]
    fn is_out(&self, pass: &Self::Pass) -> bool {
        pass.watch() == Watch::Out
    }

    #[inline(always)]
    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        let already = match pass.watch() {
            Watch::Out | Watch::Clock => return None,
            Watch::Not => Duration::ZERO,
            Watch::Stopwatch => self.0.clock.elapsed(Stopwatch::from_raw(pass.began())),
        };
        let began = now.get().as_nanos().saturating_sub(nanos(already));
        pass.time(Watch::Clock, began);
        None
    }

    #[inline(always)]
    fn watches(&self, pass: &Self::Pass) -> bool {
        matches!(pass.watch(), Watch::Not | Watch::Stopwatch)
    }

    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        if pass.watch() == Watch::Out {
            return Next::Done;
        }
        if outcome.is_deferred() {
            return Next::Hold;
        }
        self.settle_pass(pass, outcome.verdict());
        Next::Done
    }

    #[inline(always)]
    fn succeed(&self, pass: &mut Self::Pass) -> Next {
        match pass.watch() {
            Watch::Out => {}
            Watch::Not => {
                pass.leave();
                self.settle_success(pass.admitted());
            }
            Watch::Stopwatch | Watch::Clock => self.settle_pass(pass, Verdict::Success),
        }
        Next::Done
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        // One that was never pending: a timer cannot have run out, and a drop says nothing about the service.
        let (pending, took) = match pass.leave() {
            Watch::Out => return,
            Watch::Not => (None, None),
            Watch::Stopwatch => (
                None,
                Some(self.0.clock.elapsed(Stopwatch::from_raw(pass.began()))),
            ),
            Watch::Clock => {
                let pending = self.since(pass.began());
                (Some(pending), self.0.gate.glance().is_timed().then_some(pending))
            }
        };
        self.settle_abandoned(pass.admitted(), why, pending, took);
    }
}

impl CircuitBreaker {
    /// What a call holds that was admitted at this glance.
    #[inline(always)]
    fn inside(&self, admitted: Admitted, glance: Glance) -> CircuitBreakerPass {
        if glance.is_timed() {
            CircuitBreakerPass::new(admitted, Watch::Stopwatch, self.0.clock.start().raw())
        } else {
            CircuitBreakerPass::new(admitted, Watch::Not, 0)
        }
    }

    /// Enters in a state that does not just admit. It gives the pass as a value: one whose address is known here would be
    /// kept in memory by every call, and moved from there.
    #[inline(never)]
    fn enter_in(&self, glance: Glance) -> (CircuitBreakerPass, Step) {
        match self.admit_in(glance) {
            Ok(admitted) => (self.inside(admitted, glance), Step::Call),
            Err(rejected) => (CircuitBreakerPass::default(), Step::Refused(rejected)),
        }
    }

    /// Settles a call that is timed, or was pending.
    #[inline(never)]
    fn settle_pass(&self, pass: &mut CircuitBreakerPass, verdict: Verdict) {
        let took = match pass.leave() {
            Watch::Stopwatch => Some(self.0.clock.elapsed(Stopwatch::from_raw(pass.began()))),
            Watch::Clock if self.0.gate.glance().is_timed() => Some(self.since(pass.began())),
            _ => None,
        };
        self.count(verdict, took);
        self.settle(pass.admitted(), verdict, took);
    }

    fn since(&self, began: u64) -> Duration {
        self.0.clock.now().since(Timestamp::from_nanos(began))
    }
}
