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
    /// Not at all so far: slow calls are not looked at, and it was never pending.
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
        &self.0.name
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    #[inline]
    fn would_refuse(&self, _may_wait: bool) -> Option<Refuser> {
        self.would_refuse_now().then_some(Refuser::default())
    }

    fn refuse(&self, _by: Refuser, _pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        Step::Refused(self.refuse_unready())
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        match self.admit() {
            Ok(Admitted { generation, probe }) => {
                pass.generation = generation;
                pass.probe = probe;
                if self.0.gate.slow_after() == u64::MAX {
                    pass.watch = Watch::Not;
                } else {
                    pass.watch = Watch::Stopwatch;
                    pass.began = self.0.clock.start().raw();
                }
                Step::Call
            }
            Err(rejected) => Step::Refused(rejected),
        }
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
        let duration = match pass.watch {
            Watch::Stopwatch => Some(self.0.clock.elapsed(Stopwatch::from_raw(pass.began))),
            Watch::Clock if self.0.gate.slow_after() != u64::MAX => Some(self.since(pass.began)),
            _ => None,
        };
        pass.watch = Watch::Out;
        self.settle(pass.admitted(), outcome.verdict(), duration);
        Next::Done
    }

    #[inline(always)]
    fn succeed(&self, pass: &mut Self::Pass) -> Next {
        if pass.watch != Watch::Not {
            return self.leave(pass, &Outcome::success());
        }
        pass.watch = Watch::Out;
        self.settle(pass.admitted(), Verdict::Success, None);
        Next::Done
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        let pending = match std::mem::take(&mut pass.watch) {
            Watch::Out => return,
            // It was never pending: a timer cannot have run out, and a drop says nothing about the service.
            Watch::Not | Watch::Stopwatch => None,
            Watch::Clock => Some(self.since(pass.began)),
        };
        self.settle_abandoned(pass.admitted(), why, pending);
    }
}

impl CircuitBreaker {
    fn since(&self, began: u64) -> Duration {
        self.0.clock.now().since(Timestamp::from_nanos(began))
    }
}
