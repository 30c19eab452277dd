//! recloser: a breaker with a count window, around futures. It has neither slow calls nor a time window.

use std::task::{Context, Poll};

use ::recloser::{AnyError, AsyncRecloser, Error, Recloser, RecloserFuture};
use tower::Service;

use super::HOUR;

/// A service whose futures it guards.
#[derive(Clone)]
pub(crate) struct Reclosed<S> {
    inner: S,
    recloser: AsyncRecloser,
}

impl<S: Service<u64>> Service<u64> for Reclosed<S> {
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = RecloserFuture<S::Future, AnyError>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        self.recloser.call(self.inner.call(request))
    }
}

pub(crate) fn breaker<S>(inner: S) -> Reclosed<S> {
    Reclosed {
        inner,
        recloser: AsyncRecloser::from(recloser()),
    }
}

/// The breaker without a future around it.
pub(crate) fn recloser() -> Recloser {
    Recloser::custom()
        .error_rate(0.5)
        .closed_len(100)
        .open_wait(HOUR)
        .build()
}
