//! The service below the policies: one attempt is one request of reqwest's.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use ::reqwest::Response;
use pin_project_lite::pin_project;
use tower::Service;

use super::{call::Call, error::Error};

/// Sends calls by a `reqwest::Client`.
#[derive(Clone, Debug)]
pub(super) struct Send(pub(super) ::reqwest::Client);

type Pending = <::reqwest::Client as Service<::reqwest::Request>>::Future;

impl Service<Call> for Send {
    type Response = Response;
    type Error = Error;
    type Future = Attempt;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::poll_ready(&mut self.0, cx).map_err(Error::from)
    }

    fn call(&mut self, call: Call) -> Attempt {
        #[cfg(feature = "tracing")]
        let span = span::of(&call);
        #[cfg(feature = "tracing")]
        let _entered = span.enter();
        let pending = self.0.call(call.request);
        Attempt {
            pending,
            #[cfg(feature = "tracing")]
            span: span.clone(),
        }
    }
}

#[cfg(feature = "tracing")]
pin_project! {
    /// An attempt, up to the head of its response.
    pub(super) struct Attempt {
        #[pin]
        pending: Pending,
        span: tracing::Span,
    }
}

#[cfg(not(feature = "tracing"))]
pin_project! {
    /// An attempt, up to the head of its response.
    pub(super) struct Attempt {
        #[pin]
        pending: Pending,
    }
}

impl Future for Attempt {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        #[cfg(feature = "tracing")]
        let _entered = this.span.enter();
        let polled = this.pending.poll(cx).map_err(Error::from);
        #[cfg(feature = "tracing")]
        if let Poll::Ready(result) = &polled {
            span::record(this.span, result.as_ref());
        }
        polled
    }
}

#[cfg(feature = "tracing")]
mod span {
    use tracing::{Span, field::Empty};

    use super::{Call, Error, Response};

    /// The span of an attempt, by the names of OpenTelemetry's conventions for HTTP clients. Neither path nor query stand
    /// in it: they may hold secrets, and are without bound.
    pub(super) fn of(call: &Call) -> Span {
        let url = call.request.url();
        tracing::info_span!(
            "HTTP attempt",
            otel.kind = "client",
            http.request.method = %call.request.method(),
            http.request.resend_count = call.resend_count,
            http.response.status_code = Empty,
            server.address = url.host_str().unwrap_or_default(),
            server.port = url.port_or_known_default(),
            error.r#type = Empty,
        )
    }

    pub(super) fn record(span: &Span, result: Result<&Response, &Error>) {
        match result {
            Ok(response) => {
                span.record("http.response.status_code", response.status().as_u16());
            }
            Err(error) => {
                let error = error.as_reqwest();
                let kind = match error {
                    Some(error) if error.is_connect() => "connect",
                    Some(error) if error.is_timeout() => "timeout",
                    Some(error) if error.is_body() => "body",
                    _ => "transport",
                };
                span.record("error.type", kind);
            }
        }
    }
}
