//! The circuit breaker as a step machine around a call.

use std::{sync::Arc, time::Duration};

use super::{CircuitBreaker, machine::Admitted};
use crate::{
    policies::step::{Ask, Next, Policy, Refuser, Step},
    vocabulary::{
        clock::{Clock, Now, Stopwatch, Timestamp},
        outcome::{Abandoned, Outcome, Verdict},
    },
};

/// What a call holds of a circuit breaker.
#[derive(Debug, Default)]
pub struct CircuitBreakerPass {
    generation: u32,
    probe: u32,
    /// A reading of the stopwatch or of the clock, as `watch` says.
    began: u64,
    watch: Watch,
}

/// How the call is timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
// As wide as its place: what a call holds is moved with it, and padding would be copied byte by byte.
#[repr(u64)]
enum Watch {
    /// It is not inside.
    #[default]
    Out,
    /// Not at all so far: nobody asks for how long it takes, and it was never pending.
    Not,
    /// By the stopwatch, until it is pending or held.
    Stopwatch,
    /// By the clock, since it was pending or held.
    Clock,
}

impl CircuitBreakerPass {
    const fn admitted(&self) -> Admitted {
        Admitted {
            generation: self.generation,
            probe: self.probe,
        }
    }
}

impl Policy for CircuitBreaker {
    type Pass = CircuitBreakerPass;

    const JUDGES: bool = true;

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

    fn refuse(&self, by: Refuser, _pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        Step::Refused(self.refuse_unready(by))
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        let glance = self.0.gate.glance();
        let timed = glance.is_timed();
        match self.admit_at(glance) {
            Ok(Admitted { generation, probe }) => {
                pass.generation = generation;
                pass.probe = probe;
                if timed {
                    pass.watch = Watch::Stopwatch;
                    pass.began = self.0.clock.start().raw();
                } else {
                    pass.watch = Watch::Not;
                }
                Step::Call
            }
            Err(rejected) => Step::Refused(rejected),
        }
    }

    #[inline(always)]
    fn is_out(&self, pass: &Self::Pass) -> bool {
        pass.watch == Watch::Out
    }

    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        let already = match pass.watch {
            Watch::Out | Watch::Clock => return None,
            Watch::Not => Duration::ZERO,
            Watch::Stopwatch => self.0.clock.elapsed(Stopwatch::from_raw(pass.began)),
        };
        pass.began = now
            .get()
            .as_nanos()
            .saturating_sub(crate::vocabulary::clock::nanos(already));
        pass.watch = Watch::Clock;
        None
    }

    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        if pass.watch == Watch::Out {
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
        match pass.watch {
            Watch::Out => {}
            Watch::Not => {
                pass.watch = Watch::Out;
                self.settle(pass.admitted(), Verdict::Success, None);
            }
            Watch::Stopwatch | Watch::Clock => self.settle_pass(pass, Verdict::Success),
        }
        Next::Done
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        // One that was never pending: a timer cannot have run out, and a drop says nothing about the service.
        let (pending, took) = match std::mem::take(&mut pass.watch) {
            Watch::Out => return,
            Watch::Not => (None, None),
            Watch::Stopwatch => (None, Some(self.0.clock.elapsed(Stopwatch::from_raw(pass.began)))),
            Watch::Clock => {
                let pending = self.since(pass.began);
                (Some(pending), self.0.gate.glance().is_timed().then_some(pending))
            }
        };
        self.settle_abandoned(pass.admitted(), why, pending, took);
    }
}

impl CircuitBreaker {
    /// Settles a call that is timed, or was pending.
    #[inline(never)]
    fn settle_pass(&self, pass: &mut CircuitBreakerPass, verdict: Verdict) {
        let took = match std::mem::take(&mut pass.watch) {
            Watch::Stopwatch => Some(self.0.clock.elapsed(Stopwatch::from_raw(pass.began))),
            Watch::Clock if self.0.gate.glance().is_timed() => Some(self.since(pass.began)),
            _ => None,
        };
        self.count(verdict, took);
        self.settle(pass.admitted(), verdict, took);
    }

    fn since(&self, began: u64) -> Duration {
        self.0.clock.now().since(Timestamp::from_nanos(began))
    }
}
