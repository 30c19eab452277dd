//! Where the attempts of one call come from: a service and its request, or a closure.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tower::Service;

use crate::{
    drivers::{
        answer::Answer,
        exchange::Exchange,
        held::Held,
        replay::{Renew, Replay},
        timer::Timed,
    },
    policies::step::{Ask, Policy},
    vocabulary::{error::HoldsRejected, outcome::Outcome, predicate::Rules, rejected::Rejected},
};

/// What is guarded, and by what.
pub trait Guarded {
    /// What guards it.
    type Policy: Timed;

    /// The policy.
    fn policy(&self) -> &Self::Policy;
}

/// One call as the driver sees it: it makes attempts, judges their results and gives one to the caller.
pub trait Attempts: Guarded + Sized {
    /// What an attempt responds.
    type Response;
    /// What an attempt fails with, and what holds rejections.
    type Error;
    /// An attempt.
    type Future: Future<Output = Result<Self::Response, Self::Error>>;
    /// The answer of a fallback.
    type Answering: Future<Output = Result<Self::Response, Self::Error>>;
    /// An attempt that waits to be made.
    type Next;
    /// What the caller gets for a response.
    type Given;

    /// Whether verdicts may be deferred.
    const DEFERS: bool;

    /// Whether an attempt may wait in a queue.
    const MAY_WAIT: bool;

    /// The limit that the call wants for a timeout.
    fn limit(&self, timeout: &str) -> Option<Duration>;

    /// Judges the result of an attempt.
    fn judge<'a>(&self, result: Result<&'a Self::Response, &'a Self::Error>) -> Outcome<'a>;

    /// Whether the response is a success, final and like any other.
    fn is_plain_success(&self, response: &Self::Response) -> bool;

    /// The error that holds a rejection.
    fn reject(&self, rejected: Rejected) -> Self::Error;

    /// Whether [`prepare`](Attempts::prepare) would give another attempt.
    fn can_repeat(&self) -> bool;

    /// Another attempt, to be made after a wait.
    fn prepare(&mut self) -> Option<Self::Next>;

    /// Drives the service of the next attempt ready.
    fn poll_ready(&mut self, next: &mut Self::Next, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// Gives up the readiness of the next attempt's service, because it is to wait.
    fn unready(&mut self, next: &mut Self::Next);

    /// Makes the attempt. `None` when it was not driven ready, or was made before.
    fn make(&mut self, next: &mut Self::Next) -> Option<Self::Future>;

    /// The fallback's answer in place of a result.
    fn answer(&mut self, hidden: Result<Self::Response, Self::Error>) -> Self::Answering;

    /// Notes the number of attempts in a result.
    fn note_attempts(&self, result: Result<&mut Self::Response, &mut Self::Error>, attempts: u32);

    /// Gives a response to the caller.
    fn give(&self, response: Self::Response) -> Self::Given;

    /// Gives a response to the caller with what the call goes on holding.
    fn carry(&self, response: Self::Response, held: Held<Self::Policy>) -> Self::Given;
}

/// What a policy may ask about a call.
pub(crate) struct AskBy<L> {
    pub(crate) limit: L,
    pub(crate) may_wait: bool,
}

impl<L: Fn(&str) -> Option<Duration>> Ask for AskBy<L> {
    #[inline]
    fn limit(&self, timeout: &str) -> Option<Duration> {
        (self.limit)(timeout)
    }

    #[inline]
    fn may_wait(&self) -> bool {
        self.may_wait
    }
}

/// What it may ask about the call that `attempts` stand for.
pub(crate) fn ask<A: Attempts>(attempts: &A) -> impl Ask {
    AskBy {
        limit: |timeout: &str| attempts.limit(timeout),
        may_wait: A::MAY_WAIT,
    }
}

/// What all calls of one guarded service share.
#[repr(C)]
pub(crate) struct Guarding<S, P, X, R: Renew<S>, A> {
    pub(crate) policy: P,
    pub(crate) rules: Option<Arc<Rules>>,
    pub(crate) exchange: X,
    pub(crate) replay: R,
    pub(crate) answer: A,
    pub(crate) spare: R::Spare,
    /// Makes the same around another policy. A pointer, made where everything is known to be `Clone`: the service's
    /// users need not know that.
    renew: fn(&Self, P) -> Self,
    /// What was made so last. A service that is only ever cloned, as those in a router, stays as old as it is, and its
    /// clones find here what they need. It is made when it is needed: axum applies a layer anew for each request, and an
    /// `ArcSwap` that is dropped looks around whether another thread is about to read it.
    renewed: OnceLock<ArcSwapOption<Self>>,
    /// Keeps what comes next in memory away: that may be another's count of shares, which calls on another thread write.
    _apart: [u64; 16],
}

impl<S, P, X: Clone, R: Renew<S> + Clone, A: Clone> Guarding<S, P, X, R, A> {
    pub(crate) fn new(
        policy: P,
        rules: Option<Arc<Rules>>,
        exchange: &X,
        replay: &R,
        answer: &A,
        spare: R::Spare,
    ) -> Self {
        Self {
            policy,
            rules,
            exchange: exchange.clone(),
            replay: replay.clone(),
            answer: answer.clone(),
            spare,
            renew: |old, policy| {
                let spare = R::respare(&old.spare);
                Self::new(
                    policy,
                    old.rules.clone(),
                    &old.exchange,
                    &old.replay,
                    &old.answer,
                    spare,
                )
            },
            renewed: OnceLock::new(),
            _apart: [0; 16],
        }
    }
}

impl<S, P: Policy, X, R: Renew<S>, A> Guarding<S, P, X, R, A> {
    /// The same around the policy that has taken the place of this one's. It takes no lock.
    #[cold]
    pub(crate) fn renewed(&self) -> Option<Arc<Self>> {
        let slot = self.renewed.get_or_init(ArcSwapOption::empty);
        if let Some(renewed) = slot.load_full()
            && !renewed.policy.is_superseded()
        {
            return Some(renewed);
        }
        let renewed = Arc::new((self.renew)(self, self.policy.successor()?));
        slot.store(Some(Arc::clone(&renewed)));
        Some(renewed)
    }

    /// Another of the same.
    pub(crate) fn copied(&self) -> Self {
        (self.renew)(self, self.policy.clone())
    }
}

impl<S, P: fmt::Debug, X, R: Renew<S>, A> fmt::Debug for Guarding<S, P, X, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarding")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// The attempts of a call to a guarded service.
///
/// `Facts` are those that the exchange `X` took from a request `Req`, and `Kept` what `R` keeps of it.
pub struct ServiceAttempts<S, Req, P, X, R: Renew<S>, A, Facts, Kept> {
    pub(crate) guarding: Arc<Guarding<S, P, X, R, A>>,
    pub(crate) facts: Facts,
    pub(crate) kept: Kept,
    pub(crate) of: PhantomData<fn(Req)>,
}

impl<S, Req, P: Timed, X, R: Renew<S>, A, Facts, Kept> Guarded
    for ServiceAttempts<S, Req, P, X, R, A, Facts, Kept>
{
    type Policy = P;

    #[inline]
    fn policy(&self) -> &P {
        &self.guarding.policy
    }
}

/// An attempt of a call to a guarded service, waiting to be made.
pub struct NextCall<S, Req> {
    /// `None` until there is a fresh one.
    pub(crate) service: Option<S>,
    pub(crate) ready: bool,
    pub(crate) request: Option<Req>,
}

impl<S, Req, P, X, R, A> Attempts for ServiceAttempts<S, Req, P, X, R, A, X::Facts, R::Kept>
where
    S: Service<R::Sent>,
    S::Error: HoldsRejected,
    P: Timed,
    R: Replay<Req> + Renew<S>,
    X: Exchange<Req, S::Response, S::Error>,
    A: Answer<X::Facts, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;
    type Answering = A::Future;
    type Next = NextCall<S, R::Sent>;
    type Given = X::Response<P>;

    const DEFERS: bool = X::DEFERS;
    const MAY_WAIT: bool = R::RENEWS;

    #[inline]
    fn limit(&self, timeout: &str) -> Option<Duration> {
        self.guarding.exchange.limit(&self.facts, timeout)
    }

    #[inline(always)]
    fn judge<'a>(&self, result: Result<&'a S::Response, &'a S::Error>) -> Outcome<'a> {
        let outcome = self.guarding.exchange.judge(&self.facts, result);
        match &self.guarding.rules {
            None => outcome,
            Some(rules) => rules.refine(&outcome),
        }
    }

    #[inline(always)]
    fn is_plain_success(&self, response: &S::Response) -> bool {
        self.guarding.rules.is_none() && self.guarding.exchange.is_plain_success(&self.facts, response)
    }

    #[inline]
    fn reject(&self, rejected: Rejected) -> S::Error {
        S::Error::from_rejected(rejected)
    }

    fn can_repeat(&self) -> bool {
        R::RENEWS && self.guarding.replay.can_repeat(&self.kept)
    }

    fn prepare(&mut self) -> Option<Self::Next> {
        let request = self.guarding.replay.again(&mut self.kept)?;
        Some(NextCall {
            service: None,
            ready: false,
            request: Some(request),
        })
    }

    fn poll_ready(&mut self, next: &mut Self::Next, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if next.service.is_none() {
            next.service = R::renew(&self.guarding.spare);
        }
        // Without a service to be had, `make` has no attempt to give, and the caller gets a rejection.
        let Some(service) = &mut next.service else {
            return Poll::Ready(Ok(()));
        };
        let polled = service.poll_ready(cx);
        next.ready = matches!(polled, Poll::Ready(Ok(())));
        polled
    }

    fn unready(&mut self, next: &mut Self::Next) {
        next.service = None;
        next.ready = false;
    }

    fn make(&mut self, next: &mut Self::Next) -> Option<S::Future> {
        if !next.ready {
            return None;
        }
        let mut service = next.service.take()?;
        Some(service.call(next.request.take()?))
    }

    fn answer(&mut self, hidden: Result<S::Response, S::Error>) -> A::Future {
        self.guarding.answer.answer(&self.facts, hidden)
    }

    fn note_attempts(&self, result: Result<&mut S::Response, &mut S::Error>, attempts: u32) {
        match result {
            Ok(response) => self.guarding.exchange.note_attempts(response, attempts),
            Err(error) => error.note_attempts(attempts),
        }
    }

    #[inline(always)]
    fn give(&self, response: S::Response) -> X::Response<P> {
        self.guarding.exchange.give(&self.facts, response)
    }

    fn carry(&self, response: S::Response, held: Held<P>) -> X::Response<P> {
        let held = held.seen_by(self.guarding.rules.clone());
        self.guarding.exchange.carry(&self.facts, response, held)
    }
}

impl<S, Req, P: fmt::Debug, X, R: Renew<S>, A, Facts, Kept> fmt::Debug
    for ServiceAttempts<S, Req, P, X, R, A, Facts, Kept>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAttempts")
            .field("guarding", &self.guarding)
            .finish_non_exhaustive()
    }
}

impl<S, Req> fmt::Debug for NextCall<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextCall")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}
