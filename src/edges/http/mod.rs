//! HTTP, as client and server have it in common (feature `http`; gRPC with feature `grpc`).
//!
//! | type | what it does |
//! |---|---|
//! | [`HttpExchange`] | says what requests and responses mean: what is a failure, what is retried, and until when a call lasts |
//! | [`ReplayBodies`] | lets a retry send a request with a body again, up to a bound, without waiting for the body first |
//! | [`Resend`], [`CallLimit`] | what a caller says about one request, as an extension of it |
//! | [`AttemptsMade`] | what a response says about its call, as an extension of it |
//! | [`ResponseBody`] | a response's body that carries what the call holds |
//!
//! # What counts as what
//!
//! | result | for a circuit breaker | for a retry |
//! |---|---|---|
//! | the connection was never made | failure | again, whatever the method |
//! | a transport error before the response's head, a timeout | failure | again, when the request [may be sent twice](Resend) |
//! | 408, 425 | success: it was the caller's fault | the same |
//! | 429 | failure | the same |
//! | 502, 503, 504 | failure | the same |
//! | 501 | success: it will not pass | no |
//! | any other 5xx | failure | no, unless [asked for](HttpExchange::retry_statuses) |
//! | anything else | success | no |
//! | an error within the body | failure | no: the caller has the head |
//!
//! A request may be sent twice when its method is idempotent (RFC 9110, section 9.2.2), when it has an
//! `Idempotency-Key`, or when the caller [says so](Resend). A `Retry-After` is waited for instead of the backoff, at
//! most for [`max_hint`](crate::RetryConfig::max_hint); when that would end after
//! [`max_elapsed`](crate::RetryConfig::max_elapsed), or after a timeout around the retry would have ended the call, the
//! retry gives up at once. It knows the timeouts of its own [`Stack`](crate::Stack), of layers further out, and of a
//! guarded call within which it is made (an axum handler behind a `PolicyLayer`), but not
//! those on the other side of a `tokio::spawn` or a `tower::buffer`: for these set `max_elapsed`.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use buttress::{AdaptLayer, CircuitBreaker, Retry, Stack, Timeout, http::{HttpExchange, ReplayBodies}};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stack = Stack::builder()
//!     .retry(Retry::with_defaults("inventory")?)
//!     .circuit_breaker(CircuitBreaker::with_defaults("inventory")?)
//!     .timeout(Timeout::with_defaults("inventory")?)
//!     .build()?;
//! let client = ServiceBuilder::new()
//!     .layer(stack.prepare(ReplayBodies::new()).exchange(HttpExchange::client()))
//!     .layer(AdaptLayer::new())
//!     .service(Client::builder(TokioExecutor::new()).build_http());
//!
//! let request = http::Request::put("http://127.0.0.1:1/stock").body(Full::<Bytes>::from("7"))?;
//! let refused = client.oneshot(request).await.unwrap_err();
//! # let _: buttress::Error<hyper_util::client::legacy::Error> = refused;
//! # Ok(()) }
//! ```

mod authority;
mod exchange;
mod facts;
#[cfg(feature = "grpc")]
mod grpc;
mod replay_body;
mod response_body;
mod retry_after;

#[cfg(feature = "reqwest")]
pub(crate) use self::authority::authority;
#[cfg(feature = "grpc")]
pub use self::grpc::{GrpcCode, GrpcCodes};
pub use self::{
    authority::PerAuthority,
    exchange::{HoldUntil, HttpExchange},
    facts::{AttemptsMade, CallLimit, HttpFacts, RequestHead, Resend, ResponseHead},
    replay_body::{AsItIs, KeptBody, KeptRequest, ReplayBodies, ReplayBody, Superseded, WrapBody, WrapBy},
    response_body::ResponseBody,
    retry_after::retry_after,
};
