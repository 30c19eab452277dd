//! The adapter at the bottom of a stack, for services whose error cannot hold a rejection.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::vocabulary::error::Error;

/// Turns the errors of a service into [`Error`], so that rejections can stand beside them.
///
/// It belongs right above the service, below all policies:
///
/// ```
/// use buttress::{AdaptLayer, Error, Timeout, TimeoutLayer};
/// use std::io;
/// use tower::{Service, ServiceBuilder, service_fn};
///
/// let timeout = Timeout::with_defaults("files")?;
/// let service = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(timeout))
///     .layer(AdaptLayer::new())
///     .service_fn(|path: String| async move { Ok::<_, io::Error>(path.len()) });
/// # fn assert_error<S: Service<String, Error = Error<io::Error>>>(_: &S) {}
/// # assert_error(&service);
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct AdaptLayer;

impl AdaptLayer {
    /// The adapter.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for AdaptLayer {
    type Service = AdaptService<S>;

    fn layer(&self, inner: S) -> AdaptService<S> {
        AdaptService { inner }
    }
}

/// A service whose errors can hold a rejection; see [`AdaptLayer`].
#[derive(Clone, Copy, Debug)]
pub struct AdaptService<S> {
    inner: S,
}

impl<S, Req> Service<Req> for AdaptService<S>
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = AdaptFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Service)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        AdaptFuture {
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    /// The future of an [`AdaptService`].
    #[derive(Debug)]
    pub struct AdaptFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, T, E> Future for AdaptFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx).map_err(Error::Service)
    }
}
