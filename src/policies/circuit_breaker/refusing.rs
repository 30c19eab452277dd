//! Calls that a circuit breaker does not let through.

use std::{sync::Arc, time::Duration};

use super::{
    CircuitBreaker,
    gate::Glance,
    machine::{Admitted, Machine},
};
use crate::{
    policies::step::Refuser,
    vocabulary::{
        clock::Now,
        event::What,
        event_kind::EventKind,
        rejected::{Reason, Rejected},
        state::State,
        sync::lock,
    },
};

/// The stamp of a rejection by a breaker that is forced open; those of causes are smaller.
const FORCED: u64 = u64::MAX;

impl CircuitBreaker {
    /// Why it refuses calls now, if it does.
    pub(crate) fn refuses_because(&self) -> Option<Reason> {
        match self.state() {
            State::ForcedOpen => Some(Reason::ForcedOpen),
            State::Open => Some(Reason::Open(self.0.gate.cause())),
            State::HalfOpen => Some(Reason::ProbesTaken {
                probes: lock(&self.0.machine).probes(),
            }),
            State::Closed | State::Disabled | State::MetricsOnly => None,
        }
    }

    /// Admits a call in a state that does not just admit.
    #[inline(never)]
    pub(super) fn admit_in(&self, glance: Glance) -> Result<Admitted, Rejected> {
        match self.refuses_at(glance) {
            Some(by) => Err(self.reject_at(glance, by)),
            None => self
                .step(&mut Now::of(&self.0.clock), Machine::admit)
                .map_err(|reason| self.reject(reason)),
        }
    }

    /// Whether a call that came now would be refused, and for how long.
    #[inline]
    pub(super) fn would_refuse_now(&self) -> Option<Refuser> {
        let glance = self.0.gate.glance();
        if glance.admits() {
            return None;
        }
        self.would_refuse_in(glance)
    }

    #[inline(never)]
    fn would_refuse_in(&self, glance: Glance) -> Option<Refuser> {
        match glance.state() {
            State::Open | State::ForcedOpen => self.refuses_at(glance),
            _ => self.machine_would_refuse(),
        }
    }

    #[cold]
    #[inline(never)]
    fn machine_would_refuse(&self) -> Option<Refuser> {
        self.step(&mut Now::of(&self.0.clock), Machine::would_refuse)
            .then(Refuser::default)
    }

    /// The rejection of a call for which the service was not polled ready, because it would have been refused. It was decided
    /// then, and so was for how long.
    pub(super) fn refuse_unready(&self, by: Refuser) -> Rejected {
        self.reject_at(self.0.gate.glance(), by)
    }

    /// Whether it refuses without asking the machine, and for how long.
    #[inline]
    fn refuses_at(&self, glance: Glance) -> Option<Refuser> {
        match glance.state() {
            State::Open => self.wait_left().map(Refuser::for_another),
            State::ForcedOpen => Some(Refuser::default()),
            _ => None,
        }
    }

    /// Rejects a call, whatever it would do by now. It costs little where the last rejection that the thread has dropped
    /// was for the same reason: most are, and come when there is too much to do already.
    #[inline]
    fn reject_at(&self, glance: Glance, by: Refuser) -> Rejected {
        self.count_rejected(match glance.state() {
            State::Open => {
                // Where the wait ended meanwhile it is told as the end itself.
                let left = by.left().or_else(|| self.wait_left());
                let cause = self.0.gate.packed_cause();
                let reason = || Reason::Open(cause.unpack());
                Rejected::stamped(self.0.name(), cause.stamp(), left.unwrap_or(1), reason)
            }
            State::ForcedOpen => Rejected::stamped(self.0.name(), FORCED, Rejected::NO_RETRY_AFTER, || {
                Reason::ForcedOpen
            }),
            _ => return self.reject(self.refuses_because().unwrap_or(Reason::WasOpen)),
        })
    }

    #[cold]
    #[inline(never)]
    fn reject(&self, reason: Reason) -> Rejected {
        let rejected = Rejected::new(Arc::clone(self.0.name()), reason);
        self.count_rejected(match reason {
            Reason::Open(_) => {
                let left = Duration::from_nanos(self.wait_left().unwrap_or(1));
                rejected.with_retry_after(Some(left))
            }
            _ => rejected,
        })
    }

    /// For how many nanoseconds more open refuses; `None` once its wait is over.
    #[inline]
    fn wait_left(&self) -> Option<u64> {
        let until = self.0.gate.until();
        let now = self.0.clock.now_towards(until);
        // `until` itself still belongs to the wait.
        until.as_nanos().checked_sub(now.as_nanos())?.checked_add(1)
    }

    #[inline(always)]
    fn count_rejected(&self, rejected: Rejected) -> Rejected {
        self.0.gate.count_refusal();
        if let Some(meter) = self.0.meter() {
            meter.count_refusal(rejected.reason());
        }
        self.tell_call(EventKind::Rejected, || What::Rejected(rejected.clone()));
        rejected
    }
}
