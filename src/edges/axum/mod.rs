//! axum (feature `axum`): one layer that guards routes, and answers rejections as responses.
//!
//! ```
//! use axum::{Router, routing::get};
//! use buttress::{Bulkhead, CircuitBreaker, Stack, Timeout, axum::PolicyLayer};
//!
//! let stack = Stack::builder()
//!     .circuit_breaker(CircuitBreaker::with_defaults("api")?)
//!     .timeout(Timeout::with_defaults("api")?)
//!     .bulkhead(Bulkhead::with_defaults("api")?)
//!     .build()?;
//! let router: Router = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(PolicyLayer::new(stack));
//! # Ok::<(), buttress::ConfigError>(())
//! ```
//!
//! The same layer fits `Router::layer`, `Router::route_layer` and `MethodRouter::layer`. axum applies a layer again for
//! each route and each connection; the policies' state belongs to their handles and is one all the same.
//!
//! # A layer of one policy, on its own
//!
//! The layers of single policies ([`TimeoutLayer`](crate::TimeoutLayer) and its siblings) put rejections into the error
//! of the service below them. The error of a route is [`Infallible`], which can hold none, and a router takes no layer
//! that fails. So such a layer stands between an [`AdaptLayer`](crate::AdaptLayer) and axum's `HandleErrorLayer`, which
//! makes a response of the error:
//!
//! ```
//! use axum::{Router, error_handling::HandleErrorLayer, response::Response, routing::get};
//! use buttress::{AdaptLayer, Bulkhead, BulkheadLayer, Error, axum::problem};
//! use std::convert::Infallible;
//! use tower::ServiceBuilder;
//!
//! async fn reject(error: Error<Infallible>) -> Response {
//!     match error {
//!         Error::Rejected(rejected) => problem(&rejected),
//!         Error::Service(never) => match never {},
//!     }
//! }
//!
//! let router: Router = Router::new().route("/", get(async || "hello")).layer(
//!     ServiceBuilder::new()
//!         .layer(HandleErrorLayer::new(reject))
//!         .layer(BulkheadLayer::new(Bulkhead::with_defaults("api")?))
//!         .layer(AdaptLayer::new()),
//! );
//! # Ok::<(), buttress::ConfigError>(())
//! ```
//!
//! It does not look at responses: to a circuit breaker in this place each of them is a success, unless it is given an
//! [`exchange`](crate::GuardLayer::exchange). [`PolicyLayer`] does all of this by itself.

mod problem;

use std::{
    convert::Infallible,
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use ::axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use pin_project_lite::pin_project;
use tower::{BoxError, Layer, Service};

pub use self::problem::problem;
use crate::{
    drivers::{
        adapt::AdaptService,
        answer::{Answer, NoAnswer},
        replay::{Prepared, Replay},
        service::{Guard, GuardFuture},
        stack::{Stack, StackLayer, Stages},
    },
    edges::http::{HttpExchange, HttpFacts, KeptRequest, ReplayBodies, ReplayBody, ResponseBody, WrapBy},
    vocabulary::{error::Error, rejected::Rejected},
};

type Respond = dyn Fn(&Rejected) -> Response + Send + Sync;

/// Guards axum's routes by a [`Stack`], and answers its rejections as responses.
///
/// - Responses are judged by their status, by default as [`HttpExchange::server`] does: a call lasts to the head of
///   the response. Where a slot should be held while the response streams, set
///   [`HoldUntil::Body`](crate::http::HoldUntil::Body) in [`exchange`](PolicyLayer::exchange).
/// - A rejection becomes a response by [`problem`], unless [`respond_by`](PolicyLayer::respond_by) says otherwise. It
///   works over services that never fail (`Infallible`), as axum wants them; other errors pass through. The
///   [`Rejected`] itself is an extension of the response, for a middleware further out that counts or logs it.
/// - A client that hangs up drops its call, and that frees what the call holds.
/// - Calls may wait in the queue of a bulkhead. With a [`Retry`](crate::Retry) in the stack, requests are kept up to
///   64 KiB while they stream, so that they can be handled again; without, they are passed on untouched.
#[derive(Clone)]
pub struct PolicyLayer<A = NoAnswer> {
    layer: StackLayer<HttpExchange, Prepared<ReplayRequests>, A>,
    respond: Arc<Respond>,
}

impl<A> PolicyLayer<A> {
    /// Guards by this stack. How it clones requests does not matter here.
    pub fn new<R>(stack: Stack<R, A>) -> Self {
        let retries = stack.stages().may_retry();
        let replay = ReplayRequests {
            bodies: retries.then(|| ReplayBodies::new().wrapped(Body::new as Wrap)),
        };
        Self {
            layer: stack.prepare(replay).exchange(HttpExchange::server()),
            respond: Arc::new(problem),
        }
    }

    /// Judges requests and responses by this exchange. Default: [`HttpExchange::server`].
    pub fn exchange(mut self, exchange: HttpExchange) -> Self {
        self.layer = self.layer.exchange(exchange);
        self
    }

    /// Answers rejections by a closure in place of [`problem`]: `Fn(&Rejected) -> Response`.
    pub fn respond_by(mut self, respond: impl Fn(&Rejected) -> Response + Send + Sync + 'static) -> Self {
        self.respond = Arc::new(respond);
        self
    }
}

impl<A> fmt::Debug for PolicyLayer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyLayer").field(&self.layer).finish()
    }
}

type Wrap = fn(ReplayBody<Body>) -> Body;

/// How an axum request is sent again, where there is a retry.
#[derive(Clone, Copy, Debug)]
pub struct ReplayRequests {
    bodies: Option<ReplayBodies<WrapBy<Wrap>>>,
}

impl Replay<Request> for ReplayRequests {
    type Sent = Request;
    type Kept = Option<KeptRequest<Body>>;

    fn first(&self, request: Request) -> (Request, Self::Kept) {
        match &self.bodies {
            None => (request, None),
            Some(bodies) => {
                let (request, kept) = bodies.first(request);
                (request, Some(kept))
            }
        }
    }

    fn can_repeat(&self, kept: &Self::Kept) -> bool {
        match (&self.bodies, kept) {
            (Some(bodies), Some(kept)) => bodies.can_repeat(kept),
            _ => false,
        }
    }

    fn again(&self, kept: &mut Self::Kept) -> Option<Request> {
        self.bodies.as_ref()?.again(kept.as_mut()?)
    }
}

impl<S, A> Layer<S> for PolicyLayer<A>
where
    S: Clone + Send + 'static,
    A: Clone,
{
    type Service = PolicyService<S, A>;

    fn layer(&self, inner: S) -> PolicyService<S, A> {
        PolicyService {
            guard: self.layer.layer(crate::AdaptLayer::new().layer(inner)),
            respond: Arc::clone(&self.respond),
        }
    }
}

/// Routes guarded by a stack; see [`PolicyLayer`].
pub struct PolicyService<S: Clone + Send + 'static, A = NoAnswer> {
    guard: Guard<AdaptService<S>, Stages, HttpExchange, Prepared<ReplayRequests>, A>,
    respond: Arc<Respond>,
}

impl<S: Clone + Send + 'static, A> Clone for PolicyService<S, A> {
    fn clone(&self) -> Self {
        Self {
            guard: self.guard.clone(),
            respond: Arc::clone(&self.respond),
        }
    }
}

impl<S: Clone + Send + fmt::Debug + 'static, A> fmt::Debug for PolicyService<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyService").field(&self.guard).finish()
    }
}

impl<S, B, A> Service<Request> for PolicyService<S, A>
where
    S: Service<Request, Response = Response<B>> + Clone + Send + 'static,
    S::Error: StdError + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    A: Answer<HttpFacts, Response<B>, Error<S::Error>>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = PolicyFuture<
        GuardFuture<AdaptService<S>, Request, Stages, HttpExchange, Prepared<ReplayRequests>, A>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match ready!(Service::<Request>::poll_ready(&mut self.guard, cx)) {
            Err(Error::Service(error)) => Poll::Ready(Err(error)),
            // What a policy refuses, it refuses in the call.
            Ok(()) | Err(Error::Rejected(_)) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        PolicyFuture {
            call: self.guard.call(request),
            respond: Arc::clone(&self.respond),
        }
    }
}

pin_project! {
    /// The future of a [`PolicyService`].
    pub struct PolicyFuture<F> {
        #[pin]
        call: F,
        respond: Arc<Respond>,
    }
}

impl<F, B, E> Future for PolicyFuture<F>
where
    F: Future<Output = Result<Response<ResponseBody<Stages, B>>, Error<E>>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match ready!(this.call.poll(cx)) {
            Ok(response) => Ok(response.map(|body| body.into_free().map_or_else(Body::new, Body::new))),
            Err(Error::Rejected(rejected)) => {
                let mut response = (this.respond)(&rejected);
                response.extensions_mut().insert(rejected);
                Ok(response)
            }
            Err(Error::Service(error)) => Err(error),
        })
    }
}

impl<F: fmt::Debug> fmt::Debug for PolicyFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyFuture").field(&self.call).finish()
    }
}

/// What `Router::layer` asks of a service, at compile time.
const _: () = {
    const fn fits<S>()
    where
        S: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
    }
    fits::<PolicyService<::axum::routing::Route>>();
};
