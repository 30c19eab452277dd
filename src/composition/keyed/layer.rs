//! The layer and the service of keyed policies, and where a call's key comes from.

use std::{
    borrow::Cow,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tower::{Layer, Service};

use super::{stack::KeyedStack, step::KeyedPass, table::Keyed};
use crate::{
    drivers::{
        answer::{Answer, NoAnswer},
        attempts::{AskBy, Guarding},
        exchange::{Exchange, Plain},
        replay::{Once, Queued, Renew, Replay},
        service::{GuardFuture, arrive},
        stack::Stages,
        timer::Timed,
    },
    policies::{
        bulkhead::Bulkhead,
        circuit_breaker::CircuitBreaker,
        per_key::PerKey,
        step::{Policy, Step},
    },
    vocabulary::{
        error::HoldsRejected,
        predicate::{Predicate, Rules},
        rejected::{Reason, Rejected},
    },
};

/// Where the key of a request comes from.
///
/// It hands the key to a function, so that none need be allocated: a key that is put together can be on the stack.
pub trait KeyOf<Req>: Send + Sync + 'static {
    /// Calls `take` with the key of the request.
    fn with_key<T>(&self, request: &Req, take: impl FnOnce(&str) -> T) -> T;
}

/// The key that a closure finds: `Fn(&Req) -> Cow<str>`.
#[derive(Clone, Copy)]
pub struct KeyBy<F>(pub(super) F);

impl<F, Req> KeyOf<Req> for KeyBy<F>
where
    F: for<'a> Fn(&'a Req) -> Cow<'a, str> + Send + Sync + 'static,
{
    #[inline]
    fn with_key<T>(&self, request: &Req, take: impl FnOnce(&str) -> T) -> T {
        take(&(self.0)(request))
    }
}

impl<F> fmt::Debug for KeyBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBy(..)")
    }
}

/// A Tower layer that guards each call by the policy of its request's key.
///
/// Every service that it makes shares the policies, however often the layer is applied.
///
/// ```
/// use buttress::{BoxError, CircuitBreaker, KeyedConfig, KeyedLayer};
/// use tower::{ServiceBuilder, service_fn};
///
/// struct Job { tenant: String }
///
/// let tenants = KeyedConfig::new().build(CircuitBreaker::with_defaults("jobs")?)?;
/// let service = ServiceBuilder::new()
///     .layer(KeyedLayer::circuit_breaker(tenants.clone(), |job: &Job| job.tenant.as_str().into()))
///     .service(service_fn(|job: Job| async move { Ok::<_, BoxError>(job.tenant.len()) }));
/// # fn assert_service<S: tower::Service<Job>>(_: &S) {}
/// # assert_service(&service);
/// # Ok::<(), buttress::ConfigError>(())
/// ```
///
/// `K` says where the key comes from ([`KeyOf`]); for the other parameters see [`GuardLayer`](crate::GuardLayer).
#[derive(Clone)]
pub struct KeyedLayer<P: PerKey, K, X = Plain, R = Once, A = NoAnswer> {
    keyed: Keyed<P>,
    key: K,
    rules: Option<Arc<Rules>>,
    exchange: X,
    replay: R,
    answer: A,
}

impl<F> KeyedLayer<CircuitBreaker, KeyBy<F>> {
    /// Guards by the circuit breaker of the key that the closure finds: `Fn(&Req) -> Cow<str>`.
    pub const fn circuit_breaker<Req>(keyed: Keyed<CircuitBreaker>, key: F) -> Self
    where
        F: for<'a> Fn(&'a Req) -> Cow<'a, str>,
    {
        Self::of(keyed, KeyBy(key), Plain, Once, NoAnswer)
    }
}

impl<F> KeyedLayer<Bulkhead, KeyBy<F>, Plain, Queued> {
    /// Guards by the bulkhead of the key that the closure finds. A call that waits takes a clone of the service
    /// afterwards; for a service that is not `Clone` see [`once`](KeyedLayer::once).
    pub const fn bulkhead<Req>(keyed: Keyed<Bulkhead>, key: F) -> Self
    where
        F: for<'a> Fn(&'a Req) -> Cow<'a, str>,
    {
        Self::of(keyed, KeyBy(key), Plain, Queued, NoAnswer)
    }
}

impl<F, R, A> KeyedLayer<Stages, KeyBy<F>, Plain, R, A> {
    /// Guards by the stack of the key that the closure finds.
    pub fn stack<Req>(keyed: KeyedStack<R, A>, key: F) -> Self
    where
        F: for<'a> Fn(&'a Req) -> Cow<'a, str>,
    {
        Self::stack_by(keyed, KeyBy(key))
    }
}

impl<P: PerKey, K> KeyedLayer<P, K> {
    /// Guards by the policy of the key that `key` finds. Each request is sent once and none waits in a queue.
    pub const fn by(keyed: Keyed<P>, key: K) -> Self {
        Self::of(keyed, key, Plain, Once, NoAnswer)
    }
}

impl<K, R, A> KeyedLayer<Stages, K, Plain, R, A> {
    /// Guards by the stack of the key that `key` finds.
    pub fn stack_by(keyed: KeyedStack<R, A>, key: K) -> Self {
        let KeyedStack {
            stages,
            replay,
            answer,
        } = keyed;
        Self::of(stages, key, Plain, replay, answer)
    }
}

impl<K, X, R, A> KeyedLayer<CircuitBreaker, K, X, R, A> {
    /// Records what matches as a failure. With at least one such predicate, other errors count as successes.
    pub fn record(self, predicate: Predicate) -> Self {
        self.refine(|rules| rules.record(predicate))
    }

    /// Ignores what matches, whatever else says so.
    pub fn ignore(self, predicate: Predicate) -> Self {
        self.refine(|rules| rules.ignore(predicate))
    }

    fn refine(mut self, refine: impl FnOnce(Rules) -> Rules) -> Self {
        let rules = self.rules.take().map_or_else(Rules::new, Arc::unwrap_or_clone);
        self.ruled(Some(Arc::new(refine(rules))))
    }
}

impl<P: PerKey, K, X, R, A> KeyedLayer<P, K, X, R, A> {
    pub(crate) const fn of(keyed: Keyed<P>, key: K, exchange: X, replay: R, answer: A) -> Self {
        Self {
            keyed,
            key,
            rules: None,
            exchange,
            replay,
            answer,
        }
    }

    fn ruled(mut self, rules: Option<Arc<Rules>>) -> Self {
        self.rules = rules;
        self
    }

    /// The policies that it guards by.
    pub const fn keyed(&self) -> &Keyed<P> {
        &self.keyed
    }

    /// Takes keys from here, instead of from a closure.
    pub fn key<L>(self, key: L) -> KeyedLayer<P, L, X, R, A> {
        KeyedLayer::of(self.keyed, key, self.exchange, self.replay, self.answer).ruled(self.rules)
    }

    /// Judges requests and results by this exchange.
    pub fn exchange<Y>(self, exchange: Y) -> KeyedLayer<P, K, Y, R, A> {
        KeyedLayer::of(self.keyed, self.key, exchange, self.replay, self.answer).ruled(self.rules)
    }

    /// Sends each request once and lets none wait: neither requests nor service need to be `Clone`.
    pub fn once(self) -> KeyedLayer<P, K, X, Once, A> {
        KeyedLayer::of(self.keyed, self.key, self.exchange, Once, self.answer).ruled(self.rules)
    }
}

impl<S, P, K, X, R, A> Layer<S> for KeyedLayer<P, K, X, R, A>
where
    P: PerKey,
    K: Clone,
    X: Clone,
    R: Renew<S> + Clone,
    A: Clone,
{
    type Service = KeyedService<S, P, K, X, R, A>;

    fn layer(&self, inner: S) -> Self::Service {
        let guarding = Guarding::new(
            self.keyed.clone(),
            self.rules.clone(),
            &self.exchange,
            &self.replay,
            &self.answer,
            R::spare(&inner),
        );
        KeyedService {
            inner,
            guarding: Arc::new(guarding),
            key: self.key.clone(),
            ready: false,
        }
    }
}

impl<P: PerKey, K, X, R, A> fmt::Debug for KeyedLayer<P, K, X, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyedLayer").field(&self.keyed).finish()
    }
}

/// A service whose calls are guarded by the policy of their key; see [`KeyedLayer`].
pub struct KeyedService<S, P: PerKey, K, X = Plain, R: Renew<S> = Once, A = NoAnswer> {
    inner: S,
    guarding: Arc<Guarding<S, Keyed<P>, X, R, A>>,
    key: K,
    /// The inner service was polled ready for the call that comes.
    ready: bool,
}

impl<S, P: PerKey, K, X, R: Renew<S>, A> KeyedService<S, P, K, X, R, A> {
    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The policies that guard it.
    pub fn keyed(&self) -> &Keyed<P> {
        &self.guarding.policy
    }

    /// Waits until it can take the request, sends it, and gives back what comes of it.
    ///
    /// # Errors
    ///
    /// The service's own, and rejections by the policy of the request's key.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what is pending and returns what the call holds, at once.
    pub async fn oneshot<Req>(mut self, request: Req) -> Result<X::Response<Keyed<P>>, S::Error>
    where
        S: Service<R::Sent>,
        S::Error: HoldsRejected,
        P: Timed,
        K: KeyOf<Req>,
        R: Replay<Req>,
        X: Exchange<Req, S::Response, S::Error>,
        A: Answer<X::Facts, S::Response, S::Error>,
    {
        poll_fn(|cx| Service::<Req>::poll_ready(&mut self, cx)).await?;
        Service::<Req>::call(&mut self, request).await
    }
}

impl<S: Clone, P: PerKey, K: Clone, X, R: Renew<S>, A> Clone for KeyedService<S, P, K, X, R, A> {
    fn clone(&self) -> Self {
        // The clone of a ready service is not ready.
        Self {
            inner: self.inner.clone(),
            guarding: Arc::clone(&self.guarding),
            key: self.key.clone(),
            ready: false,
        }
    }
}

impl<S: fmt::Debug, P: PerKey, K, X, R: Renew<S>, A> fmt::Debug for KeyedService<S, P, K, X, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedService")
            .field("inner", &self.inner)
            .field("keyed", &self.guarding.policy)
            .finish_non_exhaustive()
    }
}

impl<S, Req, P, K, X, R, A> Service<Req> for KeyedService<S, P, K, X, R, A>
where
    S: Service<R::Sent>,
    S::Error: HoldsRejected,
    P: PerKey + Timed,
    K: KeyOf<Req>,
    R: Replay<Req> + Renew<S>,
    X: Exchange<Req, S::Response, S::Error>,
    A: Answer<X::Facts, S::Response, S::Error>,
{
    type Response = X::Response<Keyed<P>>;
    type Error = S::Error;
    type Future = GuardFuture<S, Req, Keyed<P>, X, R, A>;

    /// Ready when the inner service is: whether a policy would refuse depends on the key, which is not known yet.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.ready = false;
        ready!(self.inner.poll_ready(cx))?;
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let guarding = &self.guarding;
        let chosen = self.key.with_key(&request, |key| guarding.policy.get(key));
        let mut pass = KeyedPass::of(chosen);
        let facts = guarding.exchange.facts(&request);
        let (request, kept) = guarding.replay.first(request);
        let ask = AskBy {
            limit: |timeout: &str| guarding.exchange.limit(&facts, timeout),
            may_wait: R::RENEWS,
        };
        let policy = &guarding.policy;
        let step = if std::mem::take(&mut self.ready) {
            policy.enter(&mut pass, &ask)
        } else {
            match pass.would_refuse(R::RENEWS) {
                Some(by) => policy.refuse(by, &mut pass, &ask),
                None => Step::Refused(Rejected::new(Arc::clone(policy.name()), Reason::NotPolledReady)),
            }
        };
        let arrived = (facts, kept);
        arrive::<S, Req, Keyed<P>, X, R, A>(&mut self.inner, guarding, arrived, pass, step, request)
    }
}
