//! Where the attempts of one call come from: a service and its request, or a closure.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::Service;

use crate::{
    drivers::{
        adapt::AdaptFuture,
        answer::{Answer, NoAnswer},
        exchange::Exchange,
        held::Held,
        replay::{Renew, Replay},
    },
    policies::step::{Ask, Policy},
    vocabulary::{
        error::{Error, HoldsRejected},
        outcome::Outcome,
        predicate::Rules,
    },
};

/// One call as the driver sees it: it makes attempts, judges their results and gives one to the caller.
pub trait Attempts: Sized {
    /// What guards the call.
    type Policy: Policy;
    /// What an attempt responds.
    type Response;
    /// What an attempt fails with, and what holds rejections.
    type Error: HoldsRejected;
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

    /// The policy.
    fn policy(&self) -> &Self::Policy;

    /// The limit that the call wants for a timeout.
    fn limit(&self, timeout: &str) -> Option<Duration>;

    /// Judges the result of an attempt.
    fn judge<'a>(&self, result: Result<&'a Self::Response, &'a Self::Error>) -> Outcome<'a>;

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

    /// Notes the number of attempts in a response.
    fn note_attempts(&self, response: &mut Self::Response, attempts: u32);

    /// Gives a response to the caller. Called at most once.
    fn give(&mut self, response: Self::Response, held: Option<Held<Self::Policy>>) -> Self::Given;
}

/// What a policy may ask about the call that `attempts` stand for.
pub(crate) struct AskAttempts<'a, A>(pub(crate) &'a A);

impl<A: Attempts> Ask for AskAttempts<'_, A> {
    #[inline]
    fn limit(&self, timeout: &str) -> Option<Duration> {
        self.0.limit(timeout)
    }

    #[inline]
    fn may_wait(&self) -> bool {
        A::MAY_WAIT
    }
}

/// What all calls of one guarded service share.
pub(crate) struct Guarding<S, P, X, R: Renew<S>, A> {
    pub(crate) policy: P,
    pub(crate) rules: Option<Arc<Rules>>,
    pub(crate) exchange: X,
    pub(crate) replay: R,
    pub(crate) answer: A,
    pub(crate) spare: R::Spare,
}

impl<S, P: fmt::Debug, X, R: Renew<S>, A> fmt::Debug for Guarding<S, P, X, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarding")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// The attempts of a call to a guarded service.
pub struct ServiceAttempts<S, Req, P, X, R, A>
where
    S: Service<R::Sent>,
    R: Replay<Req> + Renew<S>,
    X: Exchange<Req, S::Response, S::Error>,
{
    pub(crate) guarding: Arc<Guarding<S, P, X, R, A>>,
    /// `None` once the response was given.
    pub(crate) facts: Option<X::Facts>,
    pub(crate) kept: R::Kept,
}

/// An attempt of a call to a guarded service, waiting to be made.
pub struct NextCall<S, Req> {
    /// `None` until there is a fresh one.
    pub(crate) service: Option<S>,
    pub(crate) ready: bool,
    pub(crate) request: Option<Req>,
}

impl<S, Req, P, X, R, A> Attempts for ServiceAttempts<S, Req, P, X, R, A>
where
    S: Service<R::Sent>,
    S::Error: HoldsRejected,
    P: Policy,
    R: Replay<Req> + Renew<S>,
    X: Exchange<Req, S::Response, S::Error>,
    A: Answer<X::Facts, S::Response, S::Error>,
{
    type Policy = P;
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;
    type Answering = A::Future;
    type Next = NextCall<S, R::Sent>;
    type Given = X::Response<P>;

    const DEFERS: bool = X::DEFERS;
    const MAY_WAIT: bool = R::RENEWS;

    #[inline]
    fn policy(&self) -> &P {
        &self.guarding.policy
    }

    #[inline]
    fn limit(&self, timeout: &str) -> Option<Duration> {
        self.facts
            .as_ref()
            .and_then(|facts| self.guarding.exchange.limit(facts, timeout))
    }

    #[inline]
    fn judge<'a>(&self, result: Result<&'a S::Response, &'a S::Error>) -> Outcome<'a> {
        let outcome = match &self.facts {
            Some(facts) => self.guarding.exchange.judge(facts, result),
            None => Outcome::of(result),
        };
        match &self.guarding.rules {
            None => outcome,
            Some(rules) => rules.refine(&outcome),
        }
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
        let facts = self.facts.as_ref().expect("a response is given last");
        self.guarding.answer.answer(facts, hidden)
    }

    fn note_attempts(&self, response: &mut S::Response, attempts: u32) {
        self.guarding.exchange.note_attempts(response, attempts);
    }

    #[inline]
    fn give(&mut self, response: S::Response, held: Option<Held<P>>) -> X::Response<P> {
        let facts = self.facts.take().expect("a response is given once");
        self.guarding.exchange.give(facts, response, held)
    }
}

impl<S, Req, P: fmt::Debug, X, R, A> fmt::Debug for ServiceAttempts<S, Req, P, X, R, A>
where
    S: Service<R::Sent>,
    R: Replay<Req> + Renew<S>,
    X: Exchange<Req, S::Response, S::Error>,
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

/// How the errors of a guarded function hold rejections.
pub(crate) trait Adapting<Fut: Future> {
    /// An attempt.
    type Future: Future<Output = Result<Self::Response, Self::Error>>;
    /// What it responds.
    type Response;
    /// What it fails with.
    type Error: HoldsRejected;

    /// Makes an attempt of what the function gave.
    fn adapt(future: Fut) -> Self::Future;
}

/// The function's error is put into [`Error`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntoError;

/// The function's error holds rejections itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsItIs;

impl<Fut, T, E> Adapting<Fut> for IntoError
where
    Fut: Future<Output = Result<T, E>>,
    E: std::error::Error + 'static,
{
    type Future = AdaptFuture<Fut>;
    type Response = T;
    type Error = Error<E>;

    fn adapt(future: Fut) -> AdaptFuture<Fut> {
        AdaptFuture::new(future)
    }
}

impl<Fut, T, E> Adapting<Fut> for AsItIs
where
    Fut: Future<Output = Result<T, E>>,
    E: HoldsRejected,
{
    type Future = Fut;
    type Response = T;
    type Error = E;

    fn adapt(future: Fut) -> Fut {
        future
    }
}

/// The attempts of a guarded function.
pub(crate) struct FunctionAttempts<P, F, Fut, D, A = NoAnswer> {
    policy: P,
    answer: A,
    function: F,
    adapting: std::marker::PhantomData<fn() -> (Fut, D)>,
}

impl<P, F, Fut, D, A> FunctionAttempts<P, F, Fut, D, A> {
    pub(crate) const fn new(policy: P, answer: A, function: F) -> Self {
        Self {
            policy,
            answer,
            function,
            adapting: std::marker::PhantomData,
        }
    }
}

impl<P, F, Fut, D, A> Attempts for FunctionAttempts<P, F, Fut, D, A>
where
    P: Policy,
    F: FnMut() -> Fut,
    Fut: Future,
    D: Adapting<Fut>,
    A: Answer<(), D::Response, D::Error>,
{
    type Policy = P;
    type Response = D::Response;
    type Error = D::Error;
    type Future = D::Future;
    type Answering = A::Future;
    type Next = ();
    type Given = D::Response;

    const DEFERS: bool = false;
    const MAY_WAIT: bool = true;

    fn policy(&self) -> &P {
        &self.policy
    }

    fn limit(&self, _timeout: &str) -> Option<Duration> {
        None
    }

    fn judge<'a>(&self, result: Result<&'a D::Response, &'a D::Error>) -> Outcome<'a> {
        Outcome::of(result)
    }

    fn can_repeat(&self) -> bool {
        true
    }

    fn prepare(&mut self) -> Option<()> {
        Some(())
    }

    fn poll_ready(&mut self, (): &mut (), _cx: &mut Context<'_>) -> Poll<Result<(), D::Error>> {
        Poll::Ready(Ok(()))
    }

    fn unready(&mut self, (): &mut ()) {}

    fn make(&mut self, (): &mut ()) -> Option<D::Future> {
        Some(D::adapt((self.function)()))
    }

    fn answer(&mut self, hidden: Result<D::Response, D::Error>) -> A::Future {
        self.answer.answer(&(), hidden)
    }

    fn note_attempts(&self, _response: &mut D::Response, _attempts: u32) {}

    fn give(&mut self, response: D::Response, _held: Option<Held<P>>) -> D::Response {
        response
    }
}

impl<P: fmt::Debug, F, Fut, D, A> fmt::Debug for FunctionAttempts<P, F, Fut, D, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionAttempts")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
