//! A request that is being built.

use std::{fmt, future::Future, time::Duration};

use ::http::{
    Extensions, Version,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use ::reqwest::{Body, Request, Response};

use super::{client::Client, error::Error};
use crate::{
    drivers::{
        answer::NoAnswer,
        stack::{Stack, Stages},
    },
    edges::http::{CallLimit, Resend},
};

/// A request that is being built: reqwest's builder, and what this one request wants of the policies.
///
/// It has the methods of `reqwest::RequestBuilder`; those that reqwest has only behind one of its features (`multipart`,
/// and `form`, `json`, `query` unless the features `reqwest-form`, `reqwest-json`, `reqwest-query` are on) can be
/// called through [`with`](Self::with).
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    client: Client,
    inner: ::reqwest::RequestBuilder,
    options: Options,
}

/// What a request wants of the policies.
#[derive(Clone, Default)]
pub(super) struct Options {
    pub(super) says: Extensions,
    pub(super) limit: Option<Duration>,
    pub(super) stack: Option<Stages>,
    pub(super) key: Option<Box<str>>,
}

impl RequestBuilder {
    pub(super) fn new(client: Client, inner: ::reqwest::RequestBuilder) -> Self {
        Self {
            client,
            inner,
            options: Options::default(),
        }
    }

    /// Goes on with a request that was built before.
    pub fn from_parts(client: Client, request: Request) -> Self {
        let inner = ::reqwest::RequestBuilder::from_parts(client.get_ref().clone(), request);
        Self::new(client, inner)
    }

    // What it wants of the policies

    /// It has the same effect once and twice: it is retried whatever its method.
    pub fn idempotent(mut self) -> Self {
        self.options.says.insert(Resend::Safe);
        self
    }

    /// It is sent once: not retried, even when its connection was never made.
    pub fn no_retry(mut self) -> Self {
        self.options.says.insert(Resend::Never);
        self
    }

    /// The limit for this request, in place of that of every timeout in the stack. What it covers follows from where
    /// they stand: each attempt, or all of them; and not the body, unless
    /// [told otherwise](crate::http::HttpExchange::timeouts_cover_body).
    ///
    /// Where no timeout is in the stack it is reqwest's own: for each attempt, from connecting to the end of the body.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.limit = Some(limit);
        self
    }

    /// The limit for this request in place of that of the timeout called `timeout`; the others keep their own.
    pub fn timeout_of(mut self, timeout: &str, limit: Duration) -> Self {
        self.options.says.insert(CallLimit::of(timeout, limit));
        self
    }

    /// Guards it by this stack, instead of the client's.
    pub fn stack<R>(mut self, stack: &Stack<R, NoAnswer>) -> Self {
        self.options.stack = Some(stack.stages().clone());
        self
    }

    /// Guards it by the stack of this key instead of its authority's, where the client has a stack for each.
    pub fn key(mut self, key: &str) -> Self {
        self.options.key = Some(key.into());
        self
    }

    // reqwest's own

    /// Calls any method of reqwest's builder: `.with(|request| request.multipart(form))`.
    pub fn with(
        mut self,
        change: impl FnOnce(::reqwest::RequestBuilder) -> ::reqwest::RequestBuilder,
    ) -> Self {
        self.inner = change(self.inner);
        self
    }

    /// Adds a header.
    pub fn header<K, V>(self, key: K, value: V) -> Self
    where
        HeaderName: TryFrom<K>,
        <HeaderName as TryFrom<K>>::Error: Into<::http::Error>,
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<::http::Error>,
    {
        self.with(|inner| inner.header(key, value))
    }

    /// Adds headers, in place of those of the same names.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.with(|inner| inner.headers(headers))
    }

    /// Authenticates by user name and password.
    pub fn basic_auth(self, username: impl fmt::Display, password: Option<impl fmt::Display>) -> Self {
        self.with(|inner| inner.basic_auth(username, password))
    }

    /// Authenticates by a bearer's token.
    pub fn bearer_auth(self, token: impl fmt::Display) -> Self {
        self.with(|inner| inner.bearer_auth(token))
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.with(|inner| inner.body(body))
    }

    /// Sets the version of HTTP.
    pub fn version(self, version: Version) -> Self {
        self.with(|inner| inner.version(version))
    }

    /// Adds to the query of the URL.
    #[cfg(feature = "reqwest-query")]
    pub fn query<T: serde::Serialize + ?Sized>(self, query: &T) -> Self {
        self.with(|inner| inner.query(query))
    }

    /// Sends a form as the body.
    #[cfg(feature = "reqwest-form")]
    pub fn form<T: serde::Serialize + ?Sized>(self, form: &T) -> Self {
        self.with(|inner| inner.form(form))
    }

    /// Sends JSON as the body.
    #[cfg(feature = "reqwest-json")]
    pub fn json<T: serde::Serialize + ?Sized>(self, json: &T) -> Self {
        self.with(|inner| inner.json(json))
    }

    /// The request as reqwest's own; what it wants of the policies is lost.
    ///
    /// # Errors
    ///
    /// What was wrong with it: [`Error::Invalid`].
    pub fn build(self) -> Result<Request, Error> {
        self.build_split().1
    }

    /// The client, and the request as reqwest's own; what it wants of the policies is lost, but for a timeout.
    pub fn build_split(self) -> (Client, Result<Request, Error>) {
        let limit = self.options.limit;
        let request = self.inner.build().map_err(Error::from).map(|mut request| {
            if let Some(limit) = limit {
                *request.timeout_mut() = Some(limit);
            }
            request
        });
        (self.client, request)
    }

    /// Sends it.
    ///
    /// # Errors
    ///
    /// What was wrong with the request, the transport's error, or a rejection. An error status is none, unless the
    /// response is asked by `error_for_status`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt or the wait that is under way and returns what the call holds.
    pub fn send(self) -> impl Future<Output = Result<Response, Error>> + Send {
        let Self {
            client,
            inner,
            options,
        } = self;
        let sending = inner.build().map(|request| client.send(request, options));
        async move { sending?.await }
    }

    /// A copy, unless the body streams.
    pub fn try_clone(&self) -> Option<Self> {
        Some(Self {
            client: self.client.clone(),
            inner: self.inner.try_clone()?,
            options: self.options.clone(),
        })
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestBuilder").field(&self.inner).finish()
    }
}
