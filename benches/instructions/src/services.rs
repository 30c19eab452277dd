//! The services that are guarded. Those that fail, or are refused, do so without the heap.

use std::{
    fmt,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::Pin,
    task::{Context, Poll},
};

use buttress::{BoxError, Error};
use tower::Service;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("down")
    }
}

impl std::error::Error for Down {}

/// Ready at once.
#[derive(Clone)]
pub(crate) struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = BoxError;
    type Future = Ready<Result<u64, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(black_box(request)))
    }
}

/// Fails every other request.
#[derive(Clone)]
pub(crate) struct Fails;

impl Service<u64> for Fails {
    type Response = u64;
    type Error = Error<Down>;
    type Future = Ready<Result<u64, Error<Down>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(if black_box(request).is_multiple_of(2) {
            Ok(request)
        } else {
            Err(Error::Service(Down))
        })
    }
}

/// Pending once, then ready.
#[derive(Clone)]
pub(crate) struct Late;

pub(crate) struct PendingOnce(bool, u64);

impl Future for PendingOnce {
    type Output = Result<u64, BoxError>;

    fn poll(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(Ok(self.1))
        } else {
            Poll::Pending
        }
    }
}

impl Service<u64> for Late {
    type Response = u64;
    type Error = BoxError;
    type Future = PendingOnce;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        PendingOnce(false, black_box(request))
    }
}
