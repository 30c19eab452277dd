//! Putting a stack together.

use std::{fmt, sync::Arc};

use super::{
    Stack,
    stage::{AnyPolicy, Stage},
    stages::Stages,
};
use crate::{
    drivers::{
        answer::NoAnswer,
        replay::{Cloned, Once, Queued},
    },
    policies::{
        bulkhead::Bulkhead, circuit_breaker::CircuitBreaker, fallback::Fallback, retry::Retry,
        timeout::Timeout,
    },
    vocabulary::{predicate::Rules, settings::ConfigError},
};

/// Puts a [`Stack`] together, from the outermost policy to the innermost.
///
/// The order is the caller's: the same kind may stand twice, such as a total timeout outside of the retry and an
/// attempt timeout inside. The usual one is retry, circuit breaker, timeout, bulkhead: the breaker then sees
/// every attempt. With the breaker outside of the retry it sees calls, and a call that a retry saved is a
/// success.
///
/// `R` follows from what is added: with a retry, requests and service are cloned; without, nothing is.
#[derive(Clone)]
pub struct StackBuilder<R = Once, A = NoAnswer> {
    stages: Vec<Stage>,
    replay: R,
    answer: A,
}

/// The most stages that a stack may have.
pub(crate) const LONGEST: usize = 32;

impl StackBuilder {
    pub(super) const fn new() -> Self {
        Self {
            stages: Vec::new(),
            replay: Once,
            answer: NoAnswer,
        }
    }
}

impl<R, A> StackBuilder<R, A> {
    /// Adds a circuit breaker inside of what was added before.
    pub fn circuit_breaker(self, breaker: CircuitBreaker) -> Self {
        self.stage(breaker.into(), None)
    }

    /// Adds a circuit breaker that sees outcomes by these rules.
    pub fn circuit_breaker_with(self, breaker: CircuitBreaker, rules: Rules) -> Self {
        self.stage(breaker.into(), Some(rules))
    }

    /// Adds a retry inside of what was added before. The stack then clones requests and service; for others see
    /// [`Stack::once`], [`Stack::copy_by`] and [`Stack::prepare`].
    pub fn retry(self, retry: Retry) -> StackBuilder<Cloned, A> {
        self.stage(retry.into(), None).replay(Cloned)
    }

    /// Adds a retry that sees outcomes by these rules.
    pub fn retry_with(self, retry: Retry, rules: Rules) -> StackBuilder<Cloned, A> {
        self.stage(retry.into(), Some(rules)).replay(Cloned)
    }

    /// Adds a timeout inside of what was added before.
    pub fn timeout(self, timeout: Timeout) -> Self {
        self.stage(timeout.into(), None)
    }

    /// Adds a bulkhead inside of what was added before. Where it lets calls wait and the stack has no retry,
    /// end the builder with [`queued`](StackBuilder::queued).
    pub fn bulkhead(self, bulkhead: Bulkhead) -> Self {
        self.stage(bulkhead.into(), None)
    }

    fn stage(mut self, policy: AnyPolicy, rules: Option<Rules>) -> Self {
        self.stages.push(Stage {
            policy,
            rules: rules.map(Arc::new),
        });
        self
    }

    fn replay<Q>(self, replay: Q) -> StackBuilder<Q, A> {
        StackBuilder {
            stages: self.stages,
            replay,
            answer: self.answer,
        }
    }

    fn checked(&self) -> Result<(), ConfigError> {
        if self.stages.len() > LONGEST {
            let accepted = format!("accepted: at most {LONGEST} policies");
            return Err(ConfigError::new("stages", self.stages.len(), accepted).about("stack"));
        }
        self.check_clocks()
    }

    /// One clock tells a stack when its next deadline is, whichever policy has it.
    fn check_clocks(&self) -> Result<(), ConfigError> {
        let mut timed = self.stages.iter().filter(|stage| stage.looks_at_the_time());
        let Some(first) = timed.next() else { return Ok(()) };
        let (first, clock) = (&first.policy, first.policy.clock());
        let Some(other) = timed.find(|stage| !stage.policy.clock().is(clock)) else {
            return Ok(());
        };
        let (other, name) = (&other.policy, other.policy.name());
        let accepted = format!(
            "accepted: {clock:?}, which {} `{}` has: the handles of a stack are driven by one clock; build them with \
             clones of one",
            first.kind(),
            first.name()
        );
        let shown = format!("{:?}", other.clock());
        let shown = if shown == format!("{clock:?}") {
            format!("another {shown}")
        } else {
            shown
        };
        Err(ConfigError::new("clock", shown, accepted).of(other.kind(), name))
    }

    fn finish(self) -> Stack<R, A> {
        Stack {
            stages: Stages::new(self.stages),
            replay: self.replay,
            answer: self.answer,
        }
    }
}

impl<R> StackBuilder<R, NoAnswer> {
    /// Adds a fallback inside of what was added before, and what it answers with. A stack has one at most.
    pub fn fallback<A>(self, fallback: Fallback, answer: A) -> StackBuilder<R, A> {
        let Self { stages, replay, .. } = self.stage(fallback.into(), None);
        StackBuilder {
            stages,
            replay,
            answer,
        }
    }
}

impl<A> StackBuilder<Once, A> {
    /// Lets calls wait in the queues of the bulkheads: the service is cloned then.
    pub fn queued(self) -> StackBuilder<Queued, A> {
        self.replay(Queued)
    }

    /// Builds the stack. Nothing is cloned: neither requests nor service need to be `Clone`.
    ///
    /// # Errors
    ///
    /// More than 32 policies, handles with different clocks, or a bulkhead that lets calls wait: without a clone of the
    /// service none can.
    pub fn build(self) -> Result<Stack<Once, A>, ConfigError> {
        self.checked()?;
        for stage in &self.stages {
            if let AnyPolicy::Bulkhead(bulkhead) = &stage.policy
                && !bulkhead.max_wait().is_zero()
            {
                let wait = format!("{:?}", bulkhead.max_wait());
                let remedy = "a call that waits needs a clone of the service; write `.queued().build()`";
                return Err(
                    ConfigError::new("max_wait", wait, remedy).of(stage.policy.kind(), bulkhead.name())
                );
            }
        }
        Ok(self.finish())
    }
}

impl<A> StackBuilder<Queued, A> {
    /// Builds the stack. The service is cloned by calls that wait; requests are not.
    ///
    /// # Errors
    ///
    /// More than 32 policies, or handles with different clocks.
    pub fn build(self) -> Result<Stack<Queued, A>, ConfigError> {
        self.checked()?;
        Ok(self.finish())
    }
}

impl<A> StackBuilder<Cloned, A> {
    /// Builds the stack. Requests and service are cloned.
    ///
    /// # Errors
    ///
    /// More than 32 policies, or handles with different clocks.
    pub fn build(self) -> Result<Stack<Cloned, A>, ConfigError> {
        self.checked()?;
        Ok(self.finish())
    }
}

impl<R, A> fmt::Debug for StackBuilder<R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StackBuilder").field(&self.stages).finish()
    }
}
