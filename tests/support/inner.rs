//! Services to put below a layer: they keep Tower's contract to the letter, and fail the test of who does not.

#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};
use tower::{BoxError, Service};

pub(crate) type Replying = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

/// What a service does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Ok,
    Err,
    OkAfter(Duration),
    ErrAfter(Duration),
    Never,
}

/// The service's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

/// What all clones of a [`Strict`] have seen.
pub(crate) struct Seen {
    reply: Box<dyn Fn(usize) -> Reply + Send + Sync>,
    calls: AtomicUsize,
    polls: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Seen {
    /// Calls that reached it.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// How often readiness was asked for.
    pub(crate) fn polls(&self) -> usize {
        self.polls.load(SeqCst)
    }

    /// Calls under way.
    pub(crate) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    /// The most calls that were under way at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(SeqCst)
    }
}

/// Panics when it is called without having been polled ready. Its clones are not ready.
pub(crate) struct Strict {
    seen: Arc<Seen>,
    ready: bool,
}

impl Strict {
    /// Replies to the n-th call (the first is 0) as `reply` says.
    pub(crate) fn replying(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen {
            reply: Box::new(reply),
            calls: AtomicUsize::new(0),
            polls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let strict = Self {
            seen: Arc::clone(&seen),
            ready: false,
        };
        (strict, seen)
    }

    /// Replies to every call with its request.
    pub(crate) fn echo() -> (Self, Arc<Seen>) {
        Self::replying(|_| Reply::Ok)
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            seen: Arc::clone(&self.seen),
            ready: false,
        }
    }
}

/// Counts a call as under way until it is dropped.
struct Running(Arc<Seen>);

impl Running {
    fn new(seen: &Arc<Seen>) -> Self {
        let running = seen.running.fetch_add(1, SeqCst) + 1;
        seen.most.fetch_max(running, SeqCst);
        Self(Arc::clone(seen))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = BoxError;
    type Future = Replying;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.seen.polls.fetch_add(1, SeqCst);
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Replying {
        let was_ready = std::mem::replace(&mut self.ready, false);
        assert!(
            was_ready,
            "the service was called without having been polled ready"
        );
        let number = self.seen.calls.fetch_add(1, SeqCst);
        let reply = (self.seen.reply)(number);
        let running = Running::new(&self.seen);
        Box::pin(async move {
            let _running = running;
            let broken = || Err(Broken("broken in the call").into());
            match reply {
                Reply::Ok => Ok(request),
                Reply::Err => broken(),
                Reply::OkAfter(delay) => {
                    sleep(delay).await;
                    Ok(request)
                }
                Reply::ErrAfter(delay) => {
                    sleep(delay).await;
                    broken()
                }
                Reply::Never => pending().await,
            }
        })
    }
}

/// Becomes ready so long after it was first asked, and again so long after each call. A clone begins anew.
pub(crate) struct Late<S> {
    inner: S,
    delay: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Late<S> {
    pub(crate) fn new(inner: S, delay: Duration) -> Self {
        Self {
            inner,
            delay,
            waiting: None,
        }
    }
}

impl<S: Clone> Clone for Late<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.delay)
    }
}

impl<S: Service<u32>> Service<u32> for Late<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let delay = self.delay;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(delay)));
        // A sleep that is over may be asked again.
        ready!(waiting.as_mut().poll(cx));
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> S::Future {
        self.waiting = None;
        self.inner.call(request)
    }
}

/// Becomes ready when the test says so, for all clones at once.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    inner: S,
    gate: Gate,
}

/// The gate of a [`Gated`] service.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    pub(crate) fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.0 = true;
        gate.1.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn shut(&self) {
        self.0.lock().unwrap().0 = false;
    }
}

impl<S> Gated<S> {
    /// Shut at first.
    pub(crate) fn new(inner: S) -> (Self, Gate) {
        let gate = Gate::default();
        let gated = Self {
            inner,
            gate: gate.clone(),
        };
        (gated, gate)
    }
}

impl<S: Service<u32>> Service<u32> for Gated<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        {
            let mut gate = self.gate.0.lock().unwrap();
            if !gate.0 {
                gate.1.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> S::Future {
        self.inner.call(request)
    }
}

/// Its readiness fails once all its clones together were ready so many times.
#[derive(Clone)]
pub(crate) struct Failing<S> {
    inner: S,
    left: Arc<AtomicUsize>,
}

impl<S> Failing<S> {
    pub(crate) fn after(times_ready: usize, inner: S) -> Self {
        Self {
            inner,
            left: Arc::new(AtomicUsize::new(times_ready)),
        }
    }
}

impl<S: Service<u32, Error = BoxError>> Service<u32> for Failing<S> {
    type Response = S::Response;
    type Error = BoxError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self
            .left
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
            .is_err()
        {
            return Poll::Ready(Err(Broken("broken in poll_ready").into()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> S::Future {
        self.inner.call(request)
    }
}

/// A service that can be guarded, and be called by many tasks.
pub(crate) trait Serves:
    Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send + 'static
{
}

impl<S> Serves for S where
    S: Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send + 'static
{
}
