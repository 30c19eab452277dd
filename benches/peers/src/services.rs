//! The services that are guarded: the same ones for every library.

use std::{
    fmt,
    future::{Future, Pending, Ready, pending, poll_fn, ready},
    hint::black_box,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress::BoxError;
use tokio::time::{Sleep, sleep};
use tower::Service;

/// A service that can be guarded by any of the libraries. Tower's own timeout has this error, so that all have it.
pub(crate) trait Inner:
    Service<u64, Response = u64, Error = BoxError, Future: Send + 'static> + Clone + Send + Sync + 'static
{
}

impl<S> Inner for S where
    S: Service<u64, Response = u64, Error = BoxError, Future: Send + 'static> + Clone + Send + Sync + 'static
{
}

/// What a library makes of it. Some wrap the error.
pub(crate) trait Guarded:
    Service<u64, Response = u64, Error: Send, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S> Guarded for S where
    S: Service<u64, Response = u64, Error: Send, Future: Send + 'static> + Clone + Send + 'static
{
}

/// Waits until the service can take a request.
pub(crate) async fn poll_ready<S: Guarded>(service: &mut S) -> Result<(), S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await
}

type Answer = Result<u64, BoxError>;

macro_rules! service {
    ($name:ty, $future:ty, |$this:ident, $request:ident| $call:expr) => {
        impl Service<u64> for $name {
            type Response = u64;
            type Error = BoxError;
            type Future = $future;

            #[inline]
            fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
                Poll::Ready(Ok(()))
            }

            #[inline]
            fn call(&mut self, $request: u64) -> Self::Future {
                let $this = self;
                $call
            }
        }
    };
}

/// Ready at once.
#[derive(Clone)]
pub(crate) struct Echo;

service!(Echo, Ready<Answer>, |_this, request| ready(Ok(black_box(
    request
))));

/// Fails every hundredth of its calls. A clone begins to count where this one stands.
#[derive(Clone, Default)]
pub(crate) struct Flaky(u64);

service!(Flaky, Ready<Answer>, |this, request| {
    this.0 += 1;
    ready(if this.0.is_multiple_of(100) {
        Err("flaky".into())
    } else {
        Ok(black_box(request))
    })
});

/// Fails always.
#[derive(Clone)]
pub(crate) struct Broken;

service!(Broken, Ready<Answer>, |_this, _request| ready(Err(
    "broken".into()
)));

/// Fails the requests of a range of numbers, at once.
#[derive(Clone)]
pub(crate) struct Ailing(Range<u64>);

impl Ailing {
    pub(crate) const fn new(sick: Range<u64>) -> Self {
        Self(sick)
    }
}

impl Service<u64> for Ailing {
    type Response = u64;
    type Error = buttress::Error<Fault>;
    type Future = Ready<Result<u64, buttress::Error<Fault>>>;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        ready(if self.0.contains(&request) {
            Err(buttress::Error::Service(Fault::Down))
        } else {
            Ok(black_box(request))
        })
    }
}

/// Pending once, then ready.
#[derive(Clone)]
pub(crate) struct Late;

pub(crate) struct PendingOnce(bool, u64);

impl Future for PendingOnce {
    type Output = Answer;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Ok(self.1));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

service!(Late, PendingOnce, |_this, request| PendingOnce(
    false,
    black_box(request)
));

/// Sleeps for a millisecond.
#[derive(Clone)]
pub(crate) struct Sleepy;

pub(crate) struct Sleeping(Pin<Box<Sleep>>, u64);

impl Future for Sleeping {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.0.as_mut().poll(cx).map(|()| Ok(self.1))
    }
}

service!(Sleepy, Sleeping, |_this, request| Sleeping(
    Box::pin(sleep(Duration::from_millis(1))),
    request
));

/// Pending for ever.
#[derive(Clone)]
pub(crate) struct Never;

service!(Never, Pending<Answer>, |_this, _request| pending());

/// An error that an application would have of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Down,
    Refused,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Refused => "refused",
        })
    }
}

impl std::error::Error for Fault {}

/// Fails always, with a typed error: where a rejection is measured, boxes should not be.
#[derive(Clone)]
pub(crate) struct Typed<E>(pub(crate) E);

impl<E: Clone> Service<u64> for Typed<E> {
    type Response = u64;
    type Error = E;
    type Future = Ready<Result<u64, E>>;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, _request: u64) -> Self::Future {
        ready(Err(self.0.clone()))
    }
}
