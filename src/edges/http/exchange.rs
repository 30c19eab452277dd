//! What HTTP requests and responses mean to the policies around them.

use std::{fmt, sync::Arc, time::Duration};

use ::http::{Request, Response};
use http_body::Body;
use tower::BoxError;

#[cfg(feature = "grpc")]
use super::grpc::{self, GrpcCodes};
use super::{
    facts::{AttemptsMade, HttpFacts, RequestHead, ResponseHead},
    response_body::{BodyRules, ResponseBody},
    retry_after::retry_after,
};
use crate::{
    drivers::{exchange::Exchange, held::Held},
    policies::step::Policy,
    vocabulary::{
        error::HoldsRejected,
        outcome::{Advice, Outcome, Verdict},
        predicate::Predicate,
        rejected::RejectedKind,
        settings::ConfigError,
        status::StatusSet,
    },
};

/// Until when a call holds its permits and its verdict is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldUntil {
    /// To the head of the response. The default of servers.
    Head,
    /// To the end of the response's body. The default of clients.
    ///
    /// The body then carries what the call holds: a slot of a bulkhead is taken until the last frame, a slow body is
    /// a slow call, and an error within the body is a failure. Where there is no body, that is the head.
    Body,
}

/// HTTP as an [`Exchange`]: what requests and responses mean to the policies around them.
///
/// Give it to [`Stack::exchange`](crate::Stack::exchange) or to a layer's
/// [`exchange`](crate::GuardLayer::exchange). What counts as what by default stands in the documentation of the
/// [module](crate::http). Clones share the settings.
///
/// ```
/// use buttress::http::HttpExchange;
/// use std::time::Duration;
///
/// let exchange = HttpExchange::client()
///     .retry_statuses("408, 425, 429, 500, 502..504".parse()?)
///     .resend_if(|request| request.path.starts_with("/search"))
///     .idle_limit(Duration::from_secs(5))?;
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct HttpExchange(Arc<Settings>);

type MayResend = dyn Fn(&RequestHead<'_>) -> bool + Send + Sync;
type JudgeHead = dyn Fn(&HttpFacts, &ResponseHead<'_>) -> Option<Verdict> + Send + Sync;
type RetryHead = dyn Fn(&HttpFacts, &ResponseHead<'_>) -> Option<bool> + Send + Sync;

#[derive(Clone)]
struct Settings {
    failures: StatusSet,
    retries: StatusSet,
    hold: HoldUntil,
    body: BodyRules,
    timeouts_cover_body: bool,
    unconnected: Predicate,
    may_resend: Option<Arc<MayResend>>,
    judge: Option<Arc<JudgeHead>>,
    retry: Option<Arc<RetryHead>>,
    #[cfg(feature = "grpc")]
    grpc: Option<GrpcCodes>,
}

impl Settings {
    /// Whether a response is a failure, whether it is retried, and after how long where the server says so.
    fn read(&self, response: &ResponseHead<'_>) -> (bool, bool, Option<Duration>) {
        let status = response.status.as_u16();
        #[cfg(feature = "grpc")]
        if let Some(codes) = self.grpc.filter(|_| status == 200)
            && let Some(code) = grpc::code_of(response.headers)
        {
            let (retried, pushback) = codes.retried(code, response.headers);
            return (codes.is_failure(code), retried, pushback);
        }
        let retried = self.retries.contains(status);
        let hint = if retried {
            retry_after(response.headers)
        } else {
            None
        };
        (self.failures.contains(status), retried, hint)
    }
}

/// Every 5xx but 501, and 429.
const FAILURES: StatusSet = StatusSet::none().with_range(500, 599).without(501).with(429);
const RETRIES: StatusSet = StatusSet::none()
    .with(408)
    .with(425)
    .with(429)
    .with_range(502, 504);

impl HttpExchange {
    fn new(hold: HoldUntil) -> Self {
        Self(Arc::new(Settings {
            failures: FAILURES,
            retries: RETRIES,
            hold,
            body: BodyRules::default(),
            timeouts_cover_body: false,
            unconnected: Predicate::error_if(refused),
            may_resend: None,
            judge: None,
            retry: None,
            #[cfg(feature = "grpc")]
            grpc: None,
        }))
    }

    /// For clients: a call lasts to the end of the response's body.
    pub fn client() -> Self {
        Self::new(HoldUntil::Body)
    }

    /// For servers: a call lasts to the head of the response.
    pub fn server() -> Self {
        Self::new(HoldUntil::Head)
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self
    }

    /// Which statuses are failures. Default: `5xx, !501, 429`.
    pub fn failure_statuses(self, statuses: StatusSet) -> Self {
        self.with(|settings| settings.failures = statuses)
    }

    /// Which statuses are retried, when the request may be sent twice. Default: `408, 425, 429, 502..504`.
    pub fn retry_statuses(self, statuses: StatusSet) -> Self {
        self.with(|settings| settings.retries = statuses)
    }

    /// Lets a closure judge responses by their heads: `Fn(&HttpFacts, &ResponseHead) -> Option<Verdict>`. `None`
    /// leaves a response to its status.
    pub fn judge_by(
        self,
        judge: impl Fn(&HttpFacts, &ResponseHead<'_>) -> Option<Verdict> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.judge = Some(Arc::new(judge)))
    }

    /// Lets a closure say whether a response is retried, when its request may be sent twice:
    /// `Fn(&HttpFacts, &ResponseHead) -> Option<bool>`. `None` leaves a response to its status.
    pub fn retry_by(
        self,
        retry: impl Fn(&HttpFacts, &ResponseHead<'_>) -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.retry = Some(Arc::new(retry)))
    }

    /// Says of which requests it is known that they may be sent twice, beside those that say so
    /// [themselves](RequestHead::may_be_resent). [`Resend::Never`](super::Resend::Never) wins over it.
    pub fn resend_if(self, safe: impl Fn(&RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.may_resend = Some(Arc::new(safe)))
    }

    /// Says of which further errors it is known that the connection was never made, so that any request may be sent
    /// again.
    ///
    /// Known from the start is [`ConnectionRefused`](std::io::ErrorKind::ConnectionRefused), anywhere in the chain of
    /// sources. A client knows more (a name that did not resolve, a handshake that failed):
    ///
    /// ```
    /// use buttress::{Predicate, http::HttpExchange};
    /// use hyper_util::client::legacy::Error;
    ///
    /// let exchange = HttpExchange::client().never_connected(Predicate::error_if(Error::is_connect));
    /// ```
    pub fn never_connected(self, predicate: Predicate) -> Self {
        self.with(|settings| {
            settings.unconnected = settings.unconnected.clone().or(predicate);
        })
    }

    /// Until when a call holds its permits and its verdict is open. Default: to the body's end for
    /// [clients](HttpExchange::client), to the head for [servers](HttpExchange::server).
    pub fn hold_until(self, hold: HoldUntil) -> Self {
        self.with(|settings| settings.hold = hold)
    }

    /// Lets the timeouts around the call run on until the end of the body: their limit is for both together. It says
    /// something only together with [`HoldUntil::Body`]. Default: a timeout ends with the head.
    pub fn timeouts_cover_body(self, cover: bool) -> Self {
        self.with(|settings| settings.timeouts_cover_body = cover)
    }

    /// Cuts a response's body off when no frame of it comes for so long, above zero. Only the time is counted in which
    /// a frame is awaited. Default: no limit.
    ///
    /// The body then ends in a [`Rejected`](crate::Rejected) of the kind
    /// [`TimedOut`](crate::RejectedKind::TimedOut), and a call that lasts to the end of the body has failed.
    ///
    /// # Errors
    ///
    /// A limit of zero; the field is `idle_limit`.
    pub fn idle_limit(self, limit: Duration) -> Result<Self, ConfigError> {
        if limit.is_zero() {
            let accepted = "accepted: above zero; for no limit, leave it out";
            return Err(ConfigError::new("idle_limit", "0ns", accepted));
        }
        Ok(self.with(|settings| settings.body.idle_limit = Some(limit)))
    }

    /// Judges by gRPC's status codes, in headers and trailers, where there is an HTTP status of 200.
    #[cfg(feature = "grpc")]
    pub fn grpc(self, codes: GrpcCodes) -> Self {
        self.with(|settings| {
            settings.grpc = Some(codes);
            settings.body.grpc = Some(codes);
        })
    }

    /// For gRPC clients: [`client`](HttpExchange::client) with the usual [codes](GrpcCodes).
    ///
    /// Every gRPC call is a `POST`, so that by default none is retried but those whose connection was never made. Say
    /// which may be sent twice by [`resend_if`](HttpExchange::resend_if), or by an extension of the request
    /// ([`Resend::Safe`](super::Resend::Safe)).
    #[cfg(feature = "grpc")]
    pub fn grpc_client() -> Self {
        Self::client().grpc(GrpcCodes::default())
    }

    /// For gRPC servers: [`server`](HttpExchange::server) with the usual [codes](GrpcCodes).
    #[cfg(feature = "grpc")]
    pub fn grpc_server() -> Self {
        Self::server().grpc(GrpcCodes::default())
    }

    /// What is kept of a request, of whatever type.
    pub fn facts_of(&self, request: &RequestHead<'_>) -> HttpFacts {
        let mut facts = HttpFacts::of(request, request.may_be_resent());
        if !facts.resend && !facts.never {
            facts.resend = self.0.may_resend.as_ref().is_some_and(|safe| safe(request));
        }
        facts
    }

    /// Judges a response by its head. The verdict is not put off.
    pub fn judge_head(&self, facts: &HttpFacts, response: &ResponseHead<'_>) -> Outcome<'static> {
        let settings = &*self.0;
        let (failed, mut retried, mut hint) = settings.read(response);
        let mut verdict = if failed {
            Verdict::Failure
        } else {
            Verdict::Success
        };
        if let Some(judge) = &settings.judge {
            verdict = judge(facts, response).unwrap_or(verdict);
        }
        if let Some(retry) = &settings.retry
            && let Some(again) = retry(facts, response)
        {
            if again && !retried {
                hint = retry_after(response.headers);
            }
            retried = again;
        }
        let advice = match (retried, hint) {
            (false, _) => Advice::Stop,
            (true, None) => Advice::Retry,
            (true, Some(hint)) => Advice::RetryAfter(hint),
        };
        Outcome::success()
            .with_verdict(verdict)
            .with_advice(advice)
            .with_status(response.status.as_u16())
            .with_repeatable(facts.resend)
    }

    /// Judges an error that came in place of a response.
    pub fn judge_error<'a, E: HoldsRejected>(&self, facts: &HttpFacts, error: &'a E) -> Outcome<'a> {
        let outcome = Outcome::of_error(error);
        let never_arrived = match outcome.rejected() {
            Some(rejected) => rejected.kind() != RejectedKind::TimedOut,
            None => self.0.unconnected.test(&outcome),
        };
        outcome.with_repeatable(facts.resend || never_arrived && !facts.never)
    }

    /// Whether calls hold on to the end of bodies.
    #[cfg(feature = "reqwest")]
    pub(crate) fn holds_bodies(&self) -> bool {
        self.0.hold == HoldUntil::Body
    }

    /// Whether the timeouts around a call cover its body.
    #[cfg(feature = "reqwest")]
    pub(crate) fn covers_body(&self) -> bool {
        self.0.timeouts_cover_body
    }

    /// Whether a body that carries nothing of its call has a limit nevertheless.
    #[cfg(feature = "reqwest")]
    pub(crate) fn limits_bodies(&self) -> bool {
        self.0.body.idle_limit.is_some()
    }

    /// Whether the verdict on a response with this body is put off to the body's end.
    fn holds_body(&self, body: &impl Body) -> bool {
        self.0.hold == HoldUntil::Body && !body.is_end_stream()
    }
}

/// What a system says only while it connects.
fn refused(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::ConnectionRefused
}

impl<A, B, E> Exchange<Request<A>, Response<B>, E> for HttpExchange
where
    B: Body,
    B::Error: Into<BoxError>,
    E: HoldsRejected,
{
    type Facts = HttpFacts;
    type Response<P: Policy> = Response<ResponseBody<P, B>>;

    const DEFERS: bool = true;

    fn facts(&self, request: &Request<A>) -> HttpFacts {
        self.facts_of(&request.into())
    }

    fn judge<'a>(&self, facts: &HttpFacts, result: Result<&'a Response<B>, &'a E>) -> Outcome<'a> {
        match result {
            Err(error) => self.judge_error(facts, error),
            Ok(response) => self
                .judge_head(facts, &response.into())
                .with_deferred(self.holds_body(response.body()))
                .with_timed(self.0.timeouts_cover_body),
        }
    }

    fn limit(&self, facts: &HttpFacts, timeout: &str) -> Option<Duration> {
        facts.limit(timeout)
    }

    fn note_attempts(&self, response: &mut Response<B>, attempts: u32) {
        response.extensions_mut().insert(AttemptsMade(attempts));
    }

    #[inline]
    fn is_plain_success(&self, _facts: &HttpFacts, response: &Response<B>) -> bool {
        let settings = &*self.0;
        let status = response.status().as_u16();
        #[cfg(feature = "grpc")]
        if settings.grpc.is_some() {
            return false;
        }
        !settings.failures.contains(status)
            && !settings.retries.contains(status)
            && settings.judge.is_none()
            && settings.retry.is_none()
            && !self.holds_body(response.body())
    }

    fn give<P: Policy>(&self, _facts: &HttpFacts, response: Response<B>) -> Response<ResponseBody<P, B>> {
        response.map(|body| ResponseBody::free(body, self.0.body))
    }

    fn carry<P: Policy>(
        &self,
        facts: &HttpFacts,
        response: Response<B>,
        held: Held<P>,
    ) -> Response<ResponseBody<P, B>> {
        let judged = self.judge_head(facts, &(&response).into());
        #[cfg(feature = "grpc")]
        let code = grpc::code_of(response.headers());
        #[cfg(feature = "grpc")]
        return response.map(|body| ResponseBody::carrying(body, held, &judged, self.0.body).with_code(code));
        #[cfg(not(feature = "grpc"))]
        response.map(|body| ResponseBody::carrying(body, held, &judged, self.0.body))
    }
}

impl fmt::Debug for HttpExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpExchange")
            .field("failures", &self.0.failures)
            .field("retries", &self.0.retries)
            .field("hold", &self.0.hold)
            .field("body", &self.0.body)
            .field("timeouts_cover_body", &self.0.timeouts_cover_body)
            .finish_non_exhaustive()
    }
}
