//! The kinds of policies that a stack can hold. **A new policy is added in the list at the end of this file.**

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use crate::{
    drivers::timer::{NoTimer, OneTimer, Timed},
    policies::{
        bulkhead::Bulkhead,
        circuit_breaker::CircuitBreaker,
        fallback::Fallback,
        in_force::InForce,
        per_key::PerKey,
        retry::Retry,
        step::{Ask, Expired, Next, Policy, Refuser, Step},
        timeout::Timeout,
    },
    vocabulary::{
        clock::{Clock, Now, Timestamp},
        event::{Observer, PolicyKind, What},
        outcome::{Abandoned, Outcome},
        predicate::Rules,
    },
};

/// One policy of a stack, with the rules by which it sees outcomes.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) policy: AnyPolicy,
    pub(crate) rules: Option<Arc<Rules>>,
}

impl Stage {
    /// A fallback does not.
    pub(super) fn looks_at_the_time(&self) -> bool {
        self.policy.kind() != PolicyKind::Fallback
    }

    #[inline(always)]
    pub(super) fn leave(&self, pass: &mut AnyPass, outcome: &Outcome<'_>) -> Next {
        match &self.rules {
            None => self.policy.leave(pass, outcome),
            Some(rules) => self.policy.leave(pass, &rules.refine(outcome)),
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)
    }
}

macro_rules! policies {
    ($($kind:ident: $calling:ty, $between:ty;)*) => {
        /// Any of the policies.
        #[derive(Clone, Debug)]
        pub(crate) enum AnyPolicy {
            $($kind($kind),)*
        }

        /// What a call holds of one of them.
        #[derive(Debug, Default)]
        // Whole words, as each of the passes is.
        #[repr(u64)]
        pub(crate) enum AnyPass {
            /// Nothing.
            #[default]
            Out,
            $($kind(<$kind as Policy>::Pass),)*
        }

        $(impl From<$kind> for AnyPolicy {
            fn from(policy: $kind) -> Self {
                Self::$kind(policy)
            }
        })*

        $(impl Timed for $kind {
            type Calling = $calling;
            type Between = $between;
        })*

        impl AnyPolicy {
            pub(crate) fn kind(&self) -> PolicyKind {
                match self { $(Self::$kind(_) => PolicyKind::$kind,)* }
            }

            pub(crate) fn name(&self) -> &Arc<str> {
                match self { $(Self::$kind(policy) => Policy::name(policy),)* }
            }

            pub(super) fn clock(&self) -> &Clock {
                match self { $(Self::$kind(policy) => Policy::clock(policy),)* }
            }

            pub(crate) fn for_key(&self, key: &str) -> Self {
                match self { $(Self::$kind(policy) => Self::$kind(policy.for_key(key)),)* }
            }

            pub(super) fn is_forgettable(&self, now: Timestamp) -> bool {
                match self { $(Self::$kind(policy) => policy.is_forgettable(now),)* }
            }

            pub(crate) fn add_observer(&self, observer: Arc<dyn Observer>) {
                match self { $(Self::$kind(policy) => policy.add_observer(observer),)* }
            }

            pub(crate) fn remove_observer(&self, observer: &Weak<dyn Observer>) {
                match self { $(Self::$kind(policy) => policy.remove_observer(observer),)* }
            }

            pub(crate) fn tell_observers(&self, what: What) {
                match self { $(Self::$kind(policy) => policy.tell_observers(what),)* }
            }

            #[inline(always)]
            pub(super) fn may_refuse(&self) -> bool {
                match self { $(Self::$kind(policy) => Policy::may_refuse(policy),)* }
            }

            pub(super) fn would_refuse(&self, may_wait: bool) -> Option<Refuser> {
                match self { $(Self::$kind(policy) => Policy::would_refuse(policy, may_wait),)* }
            }

            pub(super) fn refuse(&self, by: Refuser, ask: &impl Ask) -> Step {
                match self {
                    $(Self::$kind(policy) => policy.refuse(by, &mut <$kind as Policy>::Pass::default(), ask),)*
                }
            }

            #[inline(always)]
            pub(super) fn enter(&self, pass: &mut AnyPass, ask: &impl Ask) -> Step {
                match self {
                    $(Self::$kind(policy) => {
                        let mut entered = <$kind as Policy>::Pass::default();
                        let step = policy.enter(&mut entered, ask);
                        *pass = AnyPass::$kind(entered);
                        step
                    })*
                }
            }

            pub(super) fn poll_queue(
                &self,
                pass: &mut AnyPass,
                cx: &mut Context<'_>,
            ) -> Poll<()> {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.poll_queue(pass, cx),)*
                    _ => Poll::Ready(()),
                }
            }

            pub(super) fn resume(&self, pass: &mut AnyPass, ask: &impl Ask) -> Step {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.resume(pass, ask),)*
                    _ => Step::Call,
                }
            }

            #[inline(always)]
            pub(super) fn pended(&self, pass: &mut AnyPass, now: &mut Now<'_>) -> Option<Timestamp> {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.pended(pass, now),)*
                    _ => None,
                }
            }

            /// Whether it may refuse a call that comes.
            pub(super) fn refuses(&self) -> bool {
                match self { $(Self::$kind(_) => <$kind as Policy>::REFUSES,)* }
            }

            /// Whether it limits what it guards.
            pub(super) fn limits(&self) -> bool {
                match self { $(Self::$kind(_) => <$kind as Policy>::LIMITS,)* }
            }

            #[inline]
            pub(super) fn in_force(&self, pass: &AnyPass) -> InForce {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.in_force(pass),)*
                    _ => InForce::NONE,
                }
            }

            pub(super) fn expire(&self, pass: &mut AnyPass, now: Timestamp) -> Expired {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.expire(pass, now),)*
                    _ => Expired::NotYet,
                }
            }

            #[inline(always)]
            fn leave(&self, pass: &mut AnyPass, outcome: &Outcome<'_>) -> Next {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.leave(pass, outcome),)*
                    _ => Next::Done,
                }
            }

            #[inline(always)]
            pub(super) fn succeed(&self, pass: &mut AnyPass) -> Next {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.succeed(pass),)*
                    _ => Next::Done,
                }
            }

            pub(super) fn abandon(&self, pass: &mut AnyPass, why: Abandoned) {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.abandon(pass, why),)*
                    _ => {}
                }
            }

            pub(super) fn attempts(&self, pass: &AnyPass) -> u32 {
                match (self, pass) {
                    $((Self::$kind(policy), AnyPass::$kind(pass)) => policy.attempts(pass),)*
                    _ => 0,
                }
            }
        }
    };
}

// The stage list: a policy that stands here can be driven, alone and as a stage of a stack. Beside it, its timers while
// an attempt is under way and between attempts.
policies! {
    CircuitBreaker: NoTimer, NoTimer;
    Retry: NoTimer, OneTimer;
    Timeout: OneTimer, NoTimer;
    Bulkhead: NoTimer, OneTimer;
    Fallback: NoTimer, NoTimer;
}

/// Six of them, or more, stand in the frame of each call of a stack.
const _: () = assert!(size_of::<AnyPass>() <= 32);
