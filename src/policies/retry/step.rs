//! The retry as a step machine around a call.

use std::{sync::Arc, time::Duration};

use super::{
    BUDGETED, Retry, TIMED,
    config::Settings,
    pass::{Phase, RetryPass, UNLIMITED, UNSEEN},
    settings_number,
};
use crate::{
    policies::step::{Ask, Expired, Next, Policy, Step},
    vocabulary::{
        clock::{Clock, Now, Timestamp},
        event::{GaveUp, What},
        event_kind::EventKind,
        outcome::{Abandoned, Advice, Outcome, Verdict},
        sync::Ordering,
    },
};

/// A longer text of what failed is cut.
const LONGEST_TEXT: usize = 200;

impl Policy for Retry {
    type Pass = RetryPass;

    const JUDGES: bool = true;

    const TELLS_OUT: bool = true;

    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        let newest = self.0.newest.load(Ordering::Acquire);
        let began = if newest & TIMED == 0 { UNLIMITED } else { UNSEEN };
        *pass = RetryPass::first(settings_number(newest), began);
        if newest & BUDGETED != 0 {
            self.0.budget.deposit();
        }
        Step::Call
    }

    fn resume(&self, pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        pass.enter(Phase::Running);
        pass.next_attempt();
        Step::Call
    }

    #[inline(always)]
    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        match pass.phase() {
            Phase::Out | Phase::Due => None,
            Phase::Running => {
                if pass.began == UNSEEN {
                    pass.began = now.get().as_nanos();
                }
                None
            }
            Phase::Waiting => Some(Timestamp::from_nanos(pass.wait_end)),
        }
    }

    #[inline(always)]
    fn watches(&self, pass: &Self::Pass) -> bool {
        pass.phase() != Phase::Running || pass.began == UNSEEN
    }

    fn expire(&self, pass: &mut Self::Pass, now: Timestamp) -> Expired {
        if pass.phase() == Phase::Waiting && now.as_nanos() >= pass.wait_end {
            pass.enter(Phase::Due);
            Expired::Resume
        } else {
            Expired::NotYet
        }
    }

    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        if pass.phase() != Phase::Running {
            return self.leave_unmade(pass);
        }
        if pass.pay(false) && is_refusal(outcome) {
            // The attempt did not reach the service, so nobody has to pay for it.
            self.0.budget.give_back();
        }
        if outcome.advice() == Advice::Stop {
            pass.enter(Phase::Out);
            if let Some(meter) = self.0.meter.get() {
                meter.count(outcome.verdict(), pass.attempt());
            }
            if pass.attempt() > 1 || outcome.verdict() == Verdict::Failure {
                self.tell_final(pass, outcome.verdict());
            }
            return Next::Done;
        }
        self.leave_failed(pass, outcome)
    }

    #[inline(always)]
    fn succeed(&self, pass: &mut Self::Pass) -> Next {
        if pass.phase() == Phase::Running && pass.attempt() == 1 {
            pass.enter(Phase::Out);
            if let Some(meter) = self.0.meter.get() {
                meter.succeeded[0].add();
            }
            return Next::Done;
        }
        match self.leave(pass, &Outcome::success()) {
            Next::Done if pass.attempt() > 1 => Next::DoneAfterRetries,
            next => next,
        }
    }

    #[inline(always)]
    fn is_out(&self, pass: &Self::Pass) -> bool {
        pass.phase() == Phase::Out
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        if pass.phase() != Phase::Out {
            self.return_unmade(pass);
            pass.enter(Phase::Out);
            if let Some(meter) = self.0.meter.get() {
                meter.count_dropped(pass.attempt());
            }
            self.tell_call(EventKind::Abandoned, || What::Abandoned(why));
        }
    }

    fn attempts(&self, pass: &Self::Pass) -> u32 {
        u32::from(pass.attempt())
    }
}

/// What failed, in words.
fn told(outcome: &Outcome<'_>) -> Arc<str> {
    let mut text = match (outcome.rejected(), outcome.error(), outcome.status()) {
        (Some(rejected), ..) => rejected.to_string(),
        (None, Some(error), _) => error.to_string(),
        (None, None, Some(status)) => format!("status {status}"),
        (None, None, None) => "no success".to_owned(),
    };
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
    }
    text.into()
}

impl Retry {
    /// Tells of a result that nothing advises to retry. An attempt that is refused is the refuser's to tell, unless
    /// others were made before it.
    #[cold]
    fn tell_final(&self, pass: &RetryPass, verdict: Verdict) {
        let attempts = u32::from(pass.attempt());
        self.tell(|| match verdict {
            Verdict::Success => What::Recovered { attempts },
            Verdict::Failure | Verdict::Ignored => What::GaveUp {
                attempts,
                why: GaveUp::NotAdvised,
            },
        });
    }

    /// The call ends before the attempt that it waited for was made; or it never was inside.
    #[cold]
    fn leave_unmade(&self, pass: &mut RetryPass) -> Next {
        self.return_unmade(pass);
        let why = match pass.enter(Phase::Out) {
            Phase::Out | Phase::Running => return Next::Done,
            // The request could not be made again after all.
            Phase::Waiting => GaveUp::NotRepeatable,
            Phase::Due => GaveUp::NotReady,
        };
        let attempts = u32::from(pass.attempt());
        self.tell(|| What::GaveUp { attempts, why });
        Next::Done
    }

    /// Returns to the budget what it paid for an attempt that is not made.
    fn return_unmade(&self, pass: &mut RetryPass) {
        if matches!(pass.phase(), Phase::Waiting | Phase::Due) && pass.pay(false) {
            self.0.budget.give_back();
        }
    }

    #[cold]
    fn leave_failed(&self, pass: &mut RetryPass, outcome: &Outcome<'_>) -> Next {
        let settings = self.settings(pass.settings());
        let mut now = Now::of(&self.0.clock);
        let attempt = u32::from(pass.attempt());
        match self.plan(&settings, pass, outcome, &mut now) {
            Ok(wait) => {
                pass.enter(Phase::Waiting);
                pass.wait_end = now.get().after(wait).as_nanos();
                pass.set_previous(settings.backoff.share_of_longest(wait));
                if let Some(meter) = self.0.meter.get() {
                    meter.retries.add();
                }
                self.tell_call(EventKind::Retrying, || What::Retrying {
                    attempt,
                    after: wait,
                    failure: told(outcome),
                });
                Next::Again
            }
            Err(why) => {
                pass.enter(Phase::Out);
                if let Some(meter) = self.0.meter.get() {
                    meter.count(outcome.verdict(), pass.attempt());
                    meter.count_gave_up(why);
                }
                self.tell_call(EventKind::GaveUp, || What::GaveUp {
                    attempts: attempt,
                    why,
                });
                Next::Done
            }
        }
    }

    /// How long to wait for another attempt, or why there is none.
    fn plan(
        &self,
        settings: &Settings,
        pass: &mut RetryPass,
        outcome: &Outcome<'_>,
        now: &mut Now<'_>,
    ) -> Result<Duration, GaveUp> {
        let attempt = u32::from(pass.attempt());
        if attempt >= settings.max_attempts {
            return Err(GaveUp::Attempts);
        }
        if !outcome.is_repeatable() {
            return Err(GaveUp::NotRepeatable);
        }
        let wait = match outcome.advice() {
            Advice::RetryAfter(hint) => {
                let wait = hint.min(settings.max_hint);
                if outcome.time_left().is_some_and(|left| wait >= left) {
                    return Err(GaveUp::Elapsed);
                }
                wait
            }
            Advice::Retry | Advice::Stop => {
                let previous = settings.backoff.of_longest(pass.previous());
                settings
                    .backoff
                    .wait(attempt, previous, outcome, settings.jitter, &settings.random)
            }
        };
        if pass.began == UNSEEN {
            pass.began = now.get().as_nanos();
        }
        if let Some(longest) = settings.max_elapsed {
            let elapsed = now.get().since(Timestamp::from_nanos(pass.began));
            if elapsed.saturating_add(wait) > longest {
                return Err(GaveUp::Elapsed);
            }
        }
        // A refusal cost the service nothing, so that retrying one costs the budget nothing.
        let costs = settings.budgeted && !is_refusal(outcome);
        if costs && !self.0.budget.withdraw() {
            return Err(GaveUp::Budget);
        }
        pass.pay(costs);
        Ok(wait)
    }
}

/// Whether a policy of this crate refused the attempt, so that it did not reach the service.
fn is_refusal(outcome: &Outcome<'_>) -> bool {
    outcome
        .rejected()
        .is_some_and(|rejected| !rejected.may_have_reached_service())
}
