//! A Tower service guarded by a policy, and the layer that makes it.

use std::{
    fmt,
    marker::PhantomData,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use tower::{
    Layer, Service, ServiceExt,
    util::{Oneshot, Ready},
};

use crate::{
    drivers::{
        answer::{Answer, NoAnswer},
        aside::{Aside, Wait},
        attempts::{AskBy, Guarding, NextCall, ServiceAttempts},
        driven::DrivenBy,
        exchange::{Exchange, Plain},
        replay::{Once, Renew, Replay},
        timer::{Timed, Timer},
    },
    policies::step::{Ask, Policy, Refuser, Step},
    vocabulary::{
        error::HoldsRejected,
        outcome::Abandoned,
        predicate::Rules,
        rejected::{Reason, Rejected},
    },
};

/// A Tower layer that guards services by a policy.
///
/// Every service that it makes shares the policy's state, however often the layer is applied.
///
/// You meet it under the names of what it guards by: [`CircuitBreakerLayer`](crate::CircuitBreakerLayer),
/// [`RetryLayer`](crate::RetryLayer), [`TimeoutLayer`](crate::TimeoutLayer),
/// [`BulkheadLayer`](crate::BulkheadLayer), [`FallbackLayer`](crate::FallbackLayer), and
/// [`StackLayer`](crate::StackLayer). `X` says what requests and results mean ([`Exchange`]), `R` how a request
/// is sent again ([`Replay`]), and `A` what a fallback answers ([`Answer`]).
#[derive(Clone)]
pub struct GuardLayer<P, X = Plain, R = Once, A = NoAnswer> {
    pub(crate) policy: P,
    pub(crate) rules: Option<Arc<Rules>>,
    pub(crate) exchange: X,
    pub(crate) replay: R,
    pub(crate) answer: A,
}

impl<P, X, R, A> GuardLayer<P, X, R, A> {
    pub(crate) const fn of(policy: P, exchange: X, replay: R, answer: A) -> Self {
        Self {
            policy,
            rules: None,
            exchange,
            replay,
            answer,
        }
    }

    /// The policy that it guards by.
    pub const fn policy(&self) -> &P {
        &self.policy
    }

    /// Judges requests and results by this exchange.
    pub fn exchange<Y>(self, exchange: Y) -> GuardLayer<P, Y, R, A> {
        let Self {
            policy,
            rules,
            replay,
            answer,
            ..
        } = self;
        GuardLayer {
            policy,
            rules,
            exchange,
            replay,
            answer,
        }
    }

    /// Sends requests in this way.
    pub(crate) fn replay<Q>(self, replay: Q) -> GuardLayer<P, X, Q, A> {
        let Self {
            policy,
            rules,
            exchange,
            answer,
            ..
        } = self;
        GuardLayer {
            policy,
            rules,
            exchange,
            replay,
            answer,
        }
    }

    pub(crate) fn refine(mut self, refine: impl FnOnce(Rules) -> Rules) -> Self {
        let rules = self.rules.take().map_or_else(Rules::new, Arc::unwrap_or_clone);
        self.rules = Some(Arc::new(refine(rules)));
        self
    }
}

impl<S, P, X, R, A> Layer<S> for GuardLayer<P, X, R, A>
where
    P: Clone,
    X: Clone,
    R: Renew<S> + Clone,
    A: Clone,
{
    type Service = Guard<S, P, X, R, A>;

    fn layer(&self, inner: S) -> Self::Service {
        let guarding = Guarding::new(
            self.policy.clone(),
            self.rules.clone(),
            &self.exchange,
            &self.replay,
            &self.answer,
            R::spare(&inner),
        );
        Guard {
            inner,
            guarding: Arc::new(guarding),
            readiness: Readiness::Unknown,
            calls: 0,
        }
    }
}

impl<P: fmt::Debug, X, R, A> fmt::Debug for GuardLayer<P, X, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardLayer")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// A service guarded by a policy; see [`GuardLayer`].
pub struct Guard<S, P, X = Plain, R: Renew<S> = Once, A = NoAnswer> {
    inner: S,
    guarding: Arc<Guarding<S, P, X, R, A>>,
    readiness: Readiness,
    /// How often it was asked whether it is ready, up to [`SETTLED`]: about as many calls has it made.
    calls: u8,
}

/// After so many calls a service makes a `Guarding` of its own.
///
/// Each call takes a share of it, and gives it back. Where clones of a service are called on several threads, they would
/// wait for each other there, and nowhere else. A clone that is made for a call or two is not worth the allocation.
const SETTLED: u8 = 32;

/// What `poll_ready` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// Nothing: it was not asked, or the call that it was asked for was made.
    Unknown,
    /// The inner service is ready.
    Ready,
    /// The policy refuses, so the inner service was not asked. Then `call` refuses too, even if the policy has
    /// changed its mind.
    Refuses(Refuser),
}

impl<S, P, X, R: Renew<S>, A> Guard<S, P, X, R, A> {
    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The policy that guards it.
    pub fn policy(&self) -> &P {
        &self.guarding.policy
    }

    /// Waits until it can take a request. It is what `tower::ServiceExt` has too; there the compiler would only say
    /// "not found" where the service's error cannot hold a rejection.
    ///
    /// # Errors
    ///
    /// The service's own.
    pub fn ready<Req>(&mut self) -> Ready<'_, Self, Req>
    where
        Self: Service<Req>,
    {
        ServiceExt::ready(self)
    }

    /// Waits until it can take the request, sends it, and gives back what comes of it; see [`ready`](Self::ready).
    ///
    /// # Errors
    ///
    /// The service's own, and rejections by the policy.
    pub fn oneshot<Req>(self, request: Req) -> Oneshot<Self, Req>
    where
        Self: Service<Req>,
    {
        ServiceExt::oneshot(self, request)
    }
}

impl<S, P: Policy, X, R: Renew<S>, A> Guard<S, P, X, R, A> {
    /// One of its first calls may come.
    #[cold]
    #[inline(never)]
    fn settle(&mut self) {
        self.calls += 1;
        if self.calls == SETTLED && Arc::strong_count(&self.guarding) > 1 {
            self.guarding = Arc::new(self.guarding.copied());
        }
    }
}

impl<S: Clone, P, X, R: Renew<S>, A> Clone for Guard<S, P, X, R, A> {
    fn clone(&self) -> Self {
        let guarding = Arc::clone(&self.guarding);
        // The clone of a ready service is not ready.
        Self {
            inner: self.inner.clone(),
            guarding,
            readiness: Readiness::Unknown,
            calls: 0,
        }
    }
}

impl<S: fmt::Debug, P: fmt::Debug, X, R: Renew<S>, A> fmt::Debug for Guard<S, P, X, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("inner", &self.inner)
            .field("policy", &self.guarding.policy)
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

impl<S, Req, P, X, R, A> Service<Req> for Guard<S, P, X, R, A>
where
    S: Service<R::Sent>,
    S::Error: HoldsRejected,
    P: Timed,
    R: Replay<Req> + Renew<S>,
    X: Exchange<Req, S::Response, S::Error>,
    A: Answer<X::Facts, S::Response, S::Error>,
{
    type Response = X::Response<P>;
    type Error = S::Error;
    type Future = GuardFuture<S, Req, P, X, R, A>;

    /// Ready when the inner service is, or when the policy would refuse anyway. Nothing is reserved: admission
    /// happens in the call.
    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.guarding.policy.is_superseded()
            && let Some(renewed) = self.guarding.renewed()
        {
            self.guarding = renewed;
            self.calls = 0;
        }
        if self.calls < SETTLED {
            self.settle();
        }
        if let Some(by) = self.guarding.policy.would_refuse(R::RENEWS) {
            self.readiness = Readiness::Refuses(by);
            return Poll::Ready(Ok(()));
        }
        // Should it panic: nothing is known then. Mostly that is so already, and not written again.
        if self.readiness != Readiness::Unknown {
            self.readiness = Readiness::Unknown;
        }
        let polled = self.inner.poll_ready(cx);
        self.readiness = if matches!(polled, Poll::Ready(Ok(()))) {
            Readiness::Ready
        } else {
            Readiness::Unknown
        };
        polled
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let guarding = &self.guarding;
        let facts = guarding.exchange.facts(&request);
        let (request, kept) = guarding.replay.first(request);
        let ask = AskBy {
            limit: |timeout: &str| guarding.exchange.limit(&facts, timeout),
            may_wait: R::RENEWS,
        };
        let mut pass = P::Pass::default();
        let policy = &guarding.policy;
        let step = if self.readiness == Readiness::Ready {
            self.readiness = Readiness::Unknown;
            policy.enter(&mut pass, &ask)
        } else {
            let step;
            let readiness = mem::replace(&mut self.readiness, Readiness::Unknown);
            (pass, step) = refuse(policy, readiness, &ask);
            step
        };
        let arrived = (facts, kept);
        arrive::<S, Req, P, X, R, A>(&mut self.inner, guarding, arrived, pass, step, request)
    }
}

/// Makes the first attempt of a call that has entered its policy, or puts off what cannot be made yet.
#[inline(always)]
pub(crate) fn arrive<S, Req, P, X, R, A>(
    inner: &mut S,
    guarding: &Arc<Guarding<S, P, X, R, A>>,
    (facts, kept): (X::Facts, R::Kept),
    pass: P::Pass,
    step: Step,
    request: R::Sent,
) -> GuardFuture<S, Req, P, X, R, A>
where
    S: Service<R::Sent>,
    S::Error: HoldsRejected,
    P: Timed,
    R: Replay<Req> + Renew<S>,
    X: Exchange<Req, S::Response, S::Error>,
    A: Answer<X::Facts, S::Response, S::Error>,
{
    // Its share of what the service guards by comes last: taken before code that may panic, it would be kept in memory for
    // the case that it does.
    let attempts = || ServiceAttempts {
        guarding: Arc::clone(guarding),
        facts,
        kept,
        of: PhantomData,
    };
    match step {
        Step::Call => {
            let entered = Entered {
                policy: &guarding.policy,
                pass,
            };
            let attempt = inner.call(request);
            let pass = entered.goes_on();
            DrivenBy::new(attempts(), pass, Some(attempt), Aside::Nothing)
        }
        Step::Queue => {
            let policy = &guarding.policy;
            let (pass, aside) = queue::<S, Req, P, R, _, _>(inner, Entered { policy, pass }, request);
            DrivenBy::new(attempts(), pass, None, aside)
        }
        Step::Refused(rejected) => DrivenBy::new(attempts(), pass, None, Aside::Refused(rejected)),
    }
}

/// What a call holds that waits for a slot.
type Queued<P, G, N, T> = (<P as Policy>::Pass, Aside<G, N, T>);

/// The first attempt waits for a slot.
#[cold]
#[inline(never)]
fn queue<S, Req, P, R, G, T>(
    inner: &mut S,
    entered: Entered<'_, P>,
    request: R::Sent,
) -> Queued<P, G, NextCall<S, R::Sent>, T>
where
    P: Policy,
    R: Replay<Req> + Renew<S>,
    T: Timer,
{
    let next = NextCall {
        service: R::release(inner),
        ready: false,
        request: Some(request),
    };
    (entered.goes_on(), Aside::between(next, Wait::Slot))
}

/// The rejection of a call for which the service was not polled ready. It gives the pass as a value: one whose address
/// is known here would be kept in memory by every call, and moved from there.
#[cold]
#[inline(never)]
fn refuse<P: Policy>(policy: &P, readiness: Readiness, ask: &impl Ask) -> (P::Pass, Step) {
    let mut pass = P::Pass::default();
    let step = if let Readiness::Refuses(by) = readiness {
        policy.refuse(by, &mut pass, ask)
    } else {
        Step::Refused(Rejected::new(Arc::clone(policy.name()), Reason::NotPolledReady))
    };
    (pass, step)
}

/// Leaves the policy again when the inner service panics, in its `call` or while it is cloned.
struct Entered<'a, P: Policy> {
    policy: &'a P,
    pass: P::Pass,
}

impl<P: Policy> Entered<'_, P> {
    /// It did not.
    #[inline(always)]
    fn goes_on(mut self) -> P::Pass {
        let pass = mem::take(&mut self.pass);
        mem::forget(self);
        pass
    }
}

impl<P: Policy> Drop for Entered<'_, P> {
    #[inline(always)]
    fn drop(&mut self) {
        panicked(self.policy, mem::take(&mut self.pass));
    }
}

#[cold]
#[inline(never)]
fn panicked<P: Policy>(policy: &P, mut pass: P::Pass) {
    policy.abandon(&mut pass, Abandoned::Panicked);
}

/// The attempts of a call to a guarded service.
pub(crate) type CallAttempts<S, Req, P, X, R, A> = ServiceAttempts<
    S,
    Req,
    P,
    X,
    R,
    A,
    <X as Exchange<
        Req,
        <S as Service<<R as Replay<Req>>::Sent>>::Response,
        <S as Service<<R as Replay<Req>>::Sent>>::Error,
    >>::Facts,
    <R as Replay<Req>>::Kept,
>;

/// The future of a call to a guarded service.
pub type GuardFuture<S, Req, P, X = Plain, R = Once, A = NoAnswer> =
    DrivenBy<CallAttempts<S, Req, P, X, R, A>>;

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use tower::{Layer, Service, service_fn};

    use super::SETTLED;
    use crate::{policies::timeout::Timeout, vocabulary::error::Error};

    #[tokio::test]
    async fn clones_that_make_many_calls_do_not_share_what_each_call_takes_a_share_of() {
        let timeout = Timeout::with_defaults("t").unwrap();
        let echo = service_fn(|request: u32| async move { Ok::<_, Error<Infallible>>(request) });
        let first = crate::TimeoutLayer::new(timeout).layer(echo);
        let mut second = first.clone();
        for call in 1..=SETTLED {
            assert!(Arc::ptr_eq(&first.guarding, &second.guarding), "call {call}");
            second.ready().await.unwrap().call(1).await.unwrap();
        }
        assert!(!Arc::ptr_eq(&first.guarding, &second.guarding));
        assert_eq!(Arc::strong_count(&first.guarding), 1);
    }
}
