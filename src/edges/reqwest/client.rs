//! The client: reqwest's, with policies around each request.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use ::reqwest::{IntoUrl, Method, Request, Response};
use tower::{Layer, Service};

use super::{
    attempt::Send as SendCall,
    call::{Call, KeyOfCall, ReplayCalls},
    error::Error,
    exchange::ReqwestExchange,
    request::{Options, RequestBuilder},
};
use crate::{
    composition::keyed::{KeyedConfig, KeyedLayer, KeyedService, KeyedStack, KeyedStages},
    drivers::{
        answer::NoAnswer,
        replay::Prepared,
        service::GuardLayer,
        stack::{Stack, StackService, Stages},
    },
    edges::http::{CallLimit, HttpExchange, ReplayBodies},
    vocabulary::{event::PolicyKind, settings::ConfigError},
};

/// A `reqwest::Client` with policies around each request: a cheap handle.
///
/// It is used as reqwest's own: `client.get(url).header(..).send().await?` gives a `reqwest::Response`, of which
/// nothing is different but that its body carries what the call holds. So a slot of a bulkhead is taken and the
/// verdict for a circuit breaker open until the body is read or dropped (see [`HttpExchange::hold_until`]).
///
/// ```
/// use buttress::{BulkheadConfig, CircuitBreaker, KeyedConfig, Retry, Stack, Timeout, reqwest::Client};
///
/// # async fn fetch() -> Result<(), Box<dyn std::error::Error>> {
/// let each_host = Stack::builder()
///     .retry(Retry::with_defaults("web")?)
///     .circuit_breaker(CircuitBreaker::with_defaults("web")?)
///     .timeout(Timeout::with_defaults("web")?)
///     .bulkhead(BulkheadConfig::new(32).build("web")?)
///     .build()?;
/// let client = Client::builder(reqwest::Client::new())
///     .stack_per_authority(each_host, KeyedConfig::new().max_keys(500))
///     .build()?;
///
/// let page = client.get("https://api.example/orders").send().await?.error_for_status()?.text().await?;
/// # let _ = page; Ok(())
/// # }
/// ```
///
/// # What is retried
///
/// With a retry in the stack: what [`buttress::http`](crate::http) says. A connection that was never made whatever the
/// method; everything else when the method is idempotent, or the request has an `Idempotency-Key` or is marked
/// [`idempotent`](RequestBuilder::idempotent). Bodies in memory are sent again as they are. A body that streams is kept
/// while it streams, up to a bound, and past that the request goes out once.
///
/// Redirects and proxies are reqwest's: they are part of an attempt.
///
/// # Cancel safety
///
/// Dropping the future of a request, or its response, drops the connection's exchange and returns all that the call
/// holds, at once.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    inner: ::reqwest::Client,
    guarded: Guarded,
    exchange: ReqwestExchange,
    replay: ReplayCalls,
}

type One = StackService<SendCall, ReqwestExchange, Prepare>;
type PerKeyOfCall = KeyedService<SendCall, Stages, KeyOfCall, ReqwestExchange, Prepare>;
type Prepare = Prepared<ReplayCalls>;

/// What guards requests that choose nothing else.
enum Guarded {
    Nothing,
    One(One),
    PerKey(PerKeyOfCall),
}

/// Settings of a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    inner: ::reqwest::Client,
    stack: Option<Stages>,
    keyed: Option<KeyedConfig>,
    per_key: Option<KeyedStages>,
    exchange: HttpExchange,
    replay_bound: usize,
}

impl Client {
    /// Around `inner`, with policies to be set.
    pub fn builder(inner: ::reqwest::Client) -> ClientBuilder {
        ClientBuilder {
            inner,
            stack: None,
            keyed: None,
            per_key: None,
            exchange: HttpExchange::client(),
            replay_bound: ReplayBodies::new().bound(),
        }
    }

    /// Around `inner`, with this stack for all requests. Whatever its stack says about cloning, requests are sent again
    /// in the way of this client.
    pub fn new<R>(inner: ::reqwest::Client, stack: Stack<R, NoAnswer>) -> Self {
        Self::assemble(Self::builder(inner).stack(stack), None)
    }

    fn assemble(builder: ClientBuilder, keyed: Option<KeyedStages>) -> Self {
        let ClientBuilder {
            inner,
            stack,
            exchange,
            replay_bound,
            ..
        } = builder;
        let exchange = ReqwestExchange::of(exchange);
        let replay = ReplayCalls { bound: replay_bound };
        let send = SendCall(inner.clone());
        let guarded = match (keyed, stack) {
            (Some(keyed), _) => {
                let prepare = Prepared(replay);
                let layer = KeyedLayer::of(keyed, KeyOfCall, exchange.clone(), prepare, NoAnswer);
                Guarded::PerKey(layer.layer(send))
            }
            (None, Some(stack)) => Guarded::One(guard(stack, &exchange, replay, send)),
            (None, None) => Guarded::Nothing,
        };
        Self(Arc::new(Shared {
            inner,
            guarded,
            exchange,
            replay,
        }))
    }

    /// The client inside, which sends without policies.
    pub fn get_ref(&self) -> &::reqwest::Client {
        &self.0.inner
    }

    /// The policies of the authorities or keys, where there is a stack for each: to look at, to observe, to sweep.
    pub fn keyed(&self) -> Option<&KeyedStages> {
        match &self.0.guarded {
            Guarded::PerKey(service) => Some(service.keyed()),
            Guarded::Nothing | Guarded::One(_) => None,
        }
    }

    /// Begins a `GET`.
    pub fn get(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Begins a `POST`. It is sent once unless it is marked [`idempotent`](RequestBuilder::idempotent) or has an
    /// `Idempotency-Key`.
    pub fn post(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Begins a `PUT`.
    pub fn put(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// Begins a `PATCH`. It is sent once, as a [`post`](Self::post) is.
    pub fn patch(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// Begins a `DELETE`.
    pub fn delete(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// Begins a `HEAD`.
    pub fn head(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    /// Begins a request.
    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        RequestBuilder::new(self.clone(), self.0.inner.request(method, url))
    }

    /// Sends a request that was built before.
    ///
    /// # Errors
    ///
    /// The transport's error, or a rejection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt or the wait that is under way and returns what the call holds.
    pub fn execute(&self, request: Request) -> impl Future<Output = Result<Response, Error>> + Send + use<> {
        self.send(request, Options::default())
    }

    pub(super) fn send(&self, mut request: Request, options: Options) -> Sending {
        let shared = &*self.0;
        let Options {
            says,
            limit,
            stack,
            key,
        } = options;
        let has_timeout = match (&stack, &shared.guarded) {
            (Some(stages), _) => has_timeout(stages),
            (None, Guarded::Nothing) => false,
            (None, Guarded::One(service)) => has_timeout(service.policy()),
            (None, Guarded::PerKey(service)) => has_timeout(service.keyed().each()),
        };
        let mut says = says;
        if let Some(limit) = limit {
            if has_timeout {
                says.insert(CallLimit::new(limit));
            } else {
                *request.timeout_mut() = Some(limit);
            }
        }
        let call = Call {
            request,
            says,
            #[cfg(feature = "tracing")]
            resend_count: 0,
            key,
        };
        match (stack, &shared.guarded) {
            (Some(stages), _) => {
                let send = SendCall(shared.inner.clone());
                Box::pin(guard(stages, &shared.exchange, shared.replay, send).oneshot(call))
            }
            (None, Guarded::Nothing) => {
                let mut send = SendCall(shared.inner.clone());
                Box::pin(send.call(call))
            }
            (None, Guarded::One(service)) => Box::pin(service.clone().oneshot(call)),
            (None, Guarded::PerKey(service)) => Box::pin(service.clone().oneshot(call)),
        }
    }
}

/// A request under way.
pub(super) type Sending = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

fn guard(stages: Stages, exchange: &ReqwestExchange, replay: ReplayCalls, send: SendCall) -> One {
    let prepare = Prepared(replay);
    GuardLayer::of(stages, exchange.clone(), prepare, NoAnswer).layer(send)
}

fn has_timeout(stages: &Stages) -> bool {
    stages.iter().any(|(kind, _)| kind == PolicyKind::Timeout)
}

impl ClientBuilder {
    /// Guards all requests by this stack. Whatever the stack says about cloning, requests are sent again in the way of
    /// this client.
    pub fn stack<R>(mut self, stack: Stack<R, NoAnswer>) -> Self {
        self.stack = Some(stack.stages);
        self.keyed = None;
        self.per_key = None;
        self
    }

    /// Guards the requests to each authority (scheme, host, port) by a stack of its own, with the settings of `each`;
    /// those that choose a [`key`](RequestBuilder::key) by the stack of that key.
    ///
    /// The authority is that of the request's URL, also where the response is a redirect elsewhere.
    pub fn stack_per_authority<R>(mut self, each: Stack<R, NoAnswer>, keys: KeyedConfig) -> Self {
        self.stack = Some(each.stages);
        self.keyed = Some(keys);
        self.per_key = None;
        self
    }

    /// The same by a keyed stack that is there, as that of a [`Registry`](crate::Registry), whose settings it follows.
    pub fn keyed_stack<R>(mut self, stacks: &KeyedStack<R, NoAnswer>) -> Self {
        self.per_key = Some(stacks.stages().clone());
        self.stack = None;
        self.keyed = None;
        self
    }

    /// Judges requests and responses by these settings. Default: [`HttpExchange::client`]. reqwest's errors that say
    /// that the connection was never made are known in any case.
    pub fn exchange(mut self, exchange: HttpExchange) -> Self {
        self.exchange = exchange;
        self
    }

    /// Keeps up to so many bytes of each body that streams, from 1, so that the request can be sent again. Default:
    /// 64 KiB. Bodies in memory are sent again whatever their size.
    pub fn replay_up_to(mut self, bytes: usize) -> Self {
        self.replay_bound = bytes;
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    ///
    /// A bound of zero (`replay_bound`), or settings of the keys out of their ranges.
    pub fn build(self) -> Result<Client, ConfigError> {
        ReplayBodies::up_to(self.replay_bound)?;
        let keyed = match (&self.stack, self.keyed) {
            (Some(each), Some(config)) => Some(config.build(each.clone())?),
            _ => self.per_key.clone(),
        };
        Ok(Client::assemble(self, keyed))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Client");
        match &self.0.guarded {
            Guarded::Nothing => &mut debug,
            Guarded::One(service) => debug.field("stack", service.policy()),
            Guarded::PerKey(service) => debug.field("keyed", service.keyed()),
        };
        debug.finish_non_exhaustive()
    }
}
