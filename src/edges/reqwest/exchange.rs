//! What reqwest's requests and responses mean to the policies around them.

use std::time::Duration;

use ::reqwest::{Body, Request, Response, ResponseBuilderExt};

use super::{call::Call, error::Error};
use crate::{
    drivers::{exchange::Exchange, held::Held},
    edges::http::{AttemptsMade, HttpExchange, HttpFacts, RequestHead, ResponseHead},
    policies::step::Policy,
    vocabulary::{
        error::HoldsRejected,
        outcome::{Outcome, Verdict},
        predicate::Predicate,
    },
};

/// HTTP as an [`Exchange`] over reqwest's own types, for a plain `reqwest::Client` in a stack of Tower layers.
///
/// It judges as [`HttpExchange::client`] does, and knows which of reqwest's errors say that the connection was never
/// made. Responses stay `reqwest::Response`; their bodies carry what the call holds.
///
/// ```
/// use buttress::{AdaptLayer, CircuitBreaker, Retry, Stack, reqwest::ReqwestExchange};
/// use tower::ServiceBuilder;
///
/// let stack = Stack::builder()
///     .retry(Retry::with_defaults("orders")?)
///     .circuit_breaker(CircuitBreaker::with_defaults("orders")?)
///     .build()?;
/// let service = ServiceBuilder::new()
///     .layer(stack.copy_by(reqwest::Request::try_clone).exchange(ReqwestExchange::new()))
///     .layer(AdaptLayer::new())
///     .service(reqwest::Client::new());
/// # fn assert_service<S: tower::Service<reqwest::Request, Response = reqwest::Response>>(_: &S) {}
/// # assert_service(&service);
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReqwestExchange(HttpExchange);

/// The responses as the shared part sees them.
type Inner = ::http::Response<Body>;

impl ReqwestExchange {
    /// Judges as clients do by default.
    pub fn new() -> Self {
        Self::of(HttpExchange::client())
    }

    /// Judges by these settings.
    pub fn of(http: HttpExchange) -> Self {
        Self(http.never_connected(Predicate::error_if(::reqwest::Error::is_connect)))
    }

    fn facts_of(&self, request: &Request, extensions: &::http::Extensions) -> HttpFacts {
        let head = RequestHead::new(
            request.method(),
            request.url().path(),
            request.headers(),
            extensions,
        );
        self.0.facts_of(&head)
    }

    /// Whether a verdict on this response is put off to the end of its body.
    fn holds(&self, response: &Response) -> bool {
        self.0.holds_bodies() && response.content_length() != Some(0)
    }

    fn judged<'a, E: HoldsRejected>(
        &self,
        facts: &HttpFacts,
        result: Result<&'a Response, &'a E>,
    ) -> Outcome<'a> {
        match result {
            Err(error) => self.0.judge_error(facts, error),
            Ok(response) => self
                .0
                .judge_head(facts, &ResponseHead::new(response.status(), response.headers()))
                .with_deferred(self.holds(response))
                .with_timed(self.0.covers_body()),
        }
    }

    fn is_plain(&self, facts: &HttpFacts, response: &Response) -> bool {
        if self.holds(response) {
            return false;
        }
        let head = ResponseHead::new(response.status(), response.headers());
        let judged = self.0.judge_head(facts, &head);
        judged.verdict() == Verdict::Success && judged.advice() == crate::vocabulary::outcome::Advice::Stop
    }

    fn given<P: Policy>(&self, facts: &HttpFacts, response: Response) -> Response {
        if !self.0.limits_bodies() {
            return response;
        }
        rewrapped(response, |response| {
            let given = <HttpExchange as Exchange<::http::Request<()>, Inner, Error>>::give::<P>(
                &self.0, facts, response,
            );
            given.map(Body::wrap)
        })
    }

    fn carried<P: Policy>(&self, facts: &HttpFacts, response: Response, held: Held<P>) -> Response {
        rewrapped(response, |response| {
            let carrying = <HttpExchange as Exchange<::http::Request<()>, Inner, Error>>::carry(
                &self.0, facts, response, held,
            );
            carrying.map(Body::wrap)
        })
    }
}

impl Default for ReqwestExchange {
    fn default() -> Self {
        Self::new()
    }
}

/// Changes the body of a response. Its URL, which reqwest keeps beside it, stays.
fn rewrapped(response: Response, wrap: impl FnOnce(Inner) -> Inner) -> Response {
    let mut marked = ::http::Response::builder().url(response.url().clone());
    let mut response = wrap(response.into());
    if let Some(url) = marked.extensions_mut() {
        response.extensions_mut().extend(std::mem::take(url));
    }
    response.into()
}

macro_rules! exchanges {
    ($request:ty, |$self:ident, $of:ident| $facts:expr, |$facts_of:ident, $timeout:ident| $limit:expr) => {
        impl<E: HoldsRejected> Exchange<$request, Response, E> for ReqwestExchange {
            type Facts = HttpFacts;
            type Response<P: Policy> = Response;

            const DEFERS: bool = true;

            fn facts(&$self, $of: &$request) -> HttpFacts {
                $facts
            }

            fn judge<'a>(&self, facts: &HttpFacts, result: Result<&'a Response, &'a E>) -> Outcome<'a> {
                self.judged(facts, result)
            }

            fn limit(&self, $facts_of: &HttpFacts, $timeout: &str) -> Option<Duration> {
                $limit
            }

            fn note_attempts(&self, response: &mut Response, attempts: u32) {
                response.extensions_mut().insert(AttemptsMade(attempts));
            }

            fn is_plain_success(&self, facts: &HttpFacts, response: &Response) -> bool {
                self.is_plain(facts, response)
            }

            fn give<P: Policy>(&self, facts: &HttpFacts, response: Response) -> Response {
                self.given::<P>(facts, response)
            }

            fn carry<P: Policy>(&self, facts: &HttpFacts, response: Response, held: Held<P>) -> Response {
                self.carried(facts, response, held)
            }
        }
    };
}

exchanges!(
    Request,
    |self, request| self.facts_of(request, &::http::Extensions::new()),
    |facts, timeout| facts.limit(timeout)
);
exchanges!(
    Call,
    |self, call| self.facts_of(&call.request, &call.says),
    // A keyed timeout has its key in brackets after the name that the caller knows.
    |facts, timeout| facts
        .limit(timeout)
        .or_else(|| facts.limit(timeout.split_once('[')?.0))
);
