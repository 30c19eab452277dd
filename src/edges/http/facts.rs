//! What a request says to the policies around it, and what they say in its response.

use std::{sync::Arc, time::Duration};

use ::http::{Extensions, HeaderMap, Method, StatusCode};

/// An extension of a request: whether it may be sent twice, whatever its method and headers say.
///
/// ```
/// use buttress::http::Resend;
///
/// let mut request = http::Request::post("/orders/find").body(())?;
/// request.extensions_mut().insert(Resend::Safe);
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resend {
    /// It has the same effect once and twice: it is retried as an idempotent method is.
    Safe,
    /// It is sent once, even when its connection was never made.
    Never,
}

/// An extension of a request: the limit that it wants for the timeouts around it, in place of their own.
///
/// Zero cuts the call off as soon as it is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLimit {
    limit: Duration,
    timeout: Option<Arc<str>>,
}

impl CallLimit {
    /// For every timeout.
    pub const fn new(limit: Duration) -> Self {
        Self { limit, timeout: None }
    }

    /// For the timeout of that name; the others keep their own.
    pub fn of(timeout: impl Into<Arc<str>>, limit: Duration) -> Self {
        Self {
            limit,
            timeout: Some(timeout.into()),
        }
    }
}

/// An extension of a response: how many attempts it took, the first counted. It is there from two on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptsMade(pub u32);

/// What is looked at of a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The path of its URI.
    pub path: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its extensions.
    pub extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    /// Of any kind of request.
    pub const fn new(
        method: &'a Method,
        path: &'a str,
        headers: &'a HeaderMap,
        extensions: &'a Extensions,
    ) -> Self {
        Self {
            method,
            path,
            headers,
            extensions,
        }
    }

    /// Whether it may be sent twice: its method is idempotent (RFC 9110, section 9.2.2), it has an
    /// `Idempotency-Key`, or it is [`Resend::Safe`]; and it is not [`Resend::Never`].
    pub fn may_be_resent(&self) -> bool {
        match self.extensions.get() {
            Some(Resend::Safe) => true,
            Some(Resend::Never) => false,
            None => {
                self.method.is_idempotent()
                    || self
                        .headers
                        .get("idempotency-key")
                        .is_some_and(|key| !key.is_empty())
            }
        }
    }
}

impl<'a, B> From<&'a ::http::Request<B>> for RequestHead<'a> {
    fn from(request: &'a ::http::Request<B>) -> Self {
        Self::new(
            request.method(),
            request.uri().path(),
            request.headers(),
            request.extensions(),
        )
    }
}

/// What is looked at of a response before its body.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ResponseHead<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

impl<'a> ResponseHead<'a> {
    /// Of any kind of response.
    pub const fn new(status: StatusCode, headers: &'a HeaderMap) -> Self {
        Self { status, headers }
    }
}

impl<'a, B> From<&'a ::http::Response<B>> for ResponseHead<'a> {
    fn from(response: &'a ::http::Response<B>) -> Self {
        Self::new(response.status(), response.headers())
    }
}

/// What is kept of a request while its call lasts.
#[derive(Clone, Debug)]
pub struct HttpFacts {
    pub(super) method: Method,
    pub(super) resend: bool,
    pub(super) never: bool,
    pub(super) limit: Option<CallLimit>,
}

impl HttpFacts {
    pub(super) fn of(request: &RequestHead<'_>, resend: bool) -> Self {
        Self {
            method: request.method.clone(),
            resend,
            never: request.extensions.get() == Some(&Resend::Never),
            limit: request.extensions.get().cloned(),
        }
    }

    /// The method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Whether the request may be sent twice.
    pub const fn may_be_resent(&self) -> bool {
        self.resend
    }

    /// The limit that the caller chose for the timeout of that name, if it did.
    pub fn limit(&self, timeout: &str) -> Option<Duration> {
        let chosen = self.limit.as_ref()?;
        chosen
            .timeout
            .as_ref()
            .is_none_or(|name| **name == *timeout)
            .then_some(chosen.limit)
    }
}
