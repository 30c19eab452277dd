//! A span for each call, and for each attempt.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::{Span, field::Empty};

use crate::vocabulary::{
    error::HoldsRejected,
    rejected::{Rejected, RejectedKind},
};

/// Puts a span around each call: `buttress.call`, at level info. It goes outside of the policies.
///
/// | field | what |
/// |---|---|
/// | `stack` | the name given here |
/// | `outcome` | `success`, `failure`, `rejected`, or `dropped` where the call ended without a result |
/// | `rejected` | the kind of the rejection: `circuit_open`, `bulkhead_full`, `timed_out`, `not_ready` |
/// | `attempts` | how many were made, where [`AttemptSpanLayer`] stands below |
///
/// ```
/// use buttress::{AttemptSpanLayer, BoxError, CallSpanLayer, Retry, Stack};
/// use tower::{ServiceBuilder, service_fn};
///
/// let stack = Stack::builder().retry(Retry::with_defaults("payments")?).build()?;
/// let service = ServiceBuilder::new()
///     .layer(CallSpanLayer::new("payments"))
///     .layer(stack.clone())
///     .layer(AttemptSpanLayer::new("payments"))
///     .service(service_fn(|request: u32| async move { Ok::<_, BoxError>(request) }));
/// # fn assert_service<S: tower::Service<u32>>(_: &S) {}
/// # assert_service(&service);
///
/// // Around an async function:
/// let (calls, attempts) = (CallSpanLayer::new("payments"), AttemptSpanLayer::new("payments"));
/// let call = calls.around(stack.run(move || attempts.around(async { Ok::<_, std::io::Error>(42) })));
/// # drop(call);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CallSpanLayer(Arc<str>);

/// Puts a span around each attempt: `buttress.attempt`, at level info. It goes right around the service, inside of the
/// policies. The client over `reqwest` has spans of its own for its attempts.
///
/// Its fields are `stack`, `outcome` as those of [`CallSpanLayer`], and `attempt`, the number of the attempt from 1,
/// where the call has a span.
#[derive(Clone, Debug)]
pub struct AttemptSpanLayer(Arc<str>);

/// A service whose calls have spans.
#[derive(Clone, Debug)]
pub struct SpanService<S, L> {
    inner: S,
    layer: L,
}

pin_project! {
    /// A call or an attempt within its span.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops what is inside.
    #[must_use = "futures do nothing unless polled"]
    pub struct SpanFuture<F, E> {
        #[pin]
        inner: F,
        spanned: Spanned<E>,
    }
}

/// A span, and what there is to be said in it.
struct Spanned<E> {
    span: Span,
    /// Attempts made so far; `None` within the span of an attempt.
    attempts: Option<u32>,
    rejected: fn(&E) -> Option<RejectedKind>,
    is_over: bool,
}

thread_local! {
    /// Attempts of the call that is being polled; `None` where none is that has a span.
    static ATTEMPTS: Cell<Option<u32>> = const { Cell::new(None) };
}

impl CallSpanLayer {
    /// Spans that say this name, as a rule that of the stack.
    pub fn new(stack: &str) -> Self {
        Self(stack.into())
    }

    /// Puts the span around one call that is not one of a service.
    pub fn around<F, T, E>(&self, call: F) -> SpanFuture<F, E>
    where
        F: Future<Output = Result<T, E>>,
        E: HoldsRejected,
    {
        SpanFuture {
            inner: call,
            spanned: self.begin(),
        }
    }

    fn begin<E: HoldsRejected>(&self) -> Spanned<E> {
        let span = tracing::info_span!(
            target: "buttress",
            "buttress.call",
            stack = &*self.0,
            outcome = Empty,
            rejected = Empty,
            attempts = Empty,
        );
        Spanned {
            span,
            attempts: Some(0),
            rejected: |error| error.rejected().map(Rejected::kind),
            is_over: false,
        }
    }
}

impl AttemptSpanLayer {
    /// Spans that say this name, as a rule that of the stack.
    pub fn new(stack: &str) -> Self {
        Self(stack.into())
    }

    /// Puts the span around one attempt that is not one of a service.
    pub fn around<F, T, E>(&self, attempt: F) -> SpanFuture<F, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        SpanFuture {
            inner: attempt,
            spanned: self.begin(),
        }
    }

    fn begin<E>(&self) -> Spanned<E> {
        let attempt = ATTEMPTS.get().map(|attempts| attempts.saturating_add(1));
        if attempt.is_some() {
            ATTEMPTS.set(attempt);
        }
        let span = tracing::info_span!(
            target: "buttress",
            "buttress.attempt",
            stack = &*self.0,
            attempt,
            outcome = Empty,
        );
        Spanned {
            span,
            attempts: None,
            rejected: |_| None,
            is_over: false,
        }
    }
}

impl<E> Spanned<E> {
    /// Does something within the span. Attempts that begin meanwhile are this call's.
    fn within<T>(&mut self, act: impl FnOnce() -> T) -> T {
        if self.span.is_disabled() {
            return act();
        }
        let _entered = self.span.enter();
        let Some(attempts) = &mut self.attempts else {
            return act();
        };
        let _outer = Outer(ATTEMPTS.replace(Some(*attempts)));
        let done = act();
        *attempts = ATTEMPTS.get().unwrap_or(*attempts);
        done
    }

    fn end<T>(&mut self, result: Result<&T, &E>) {
        self.is_over = true;
        if self.span.is_disabled() {
            return;
        }
        let rejected = result.err().and_then(self.rejected);
        let outcome = match (result, rejected) {
            (Ok(_), _) => "success",
            (Err(_), None) => "failure",
            (Err(_), Some(_)) => "rejected",
        };
        if let Some(kind) = rejected {
            self.span.record("rejected", kind.word());
        }
        self.record(outcome);
    }

    fn record(&self, outcome: &'static str) {
        self.span.record("outcome", outcome);
        if let Some(attempts @ 1..) = self.attempts {
            self.span.record("attempts", attempts);
        }
    }
}

impl<E> Drop for Spanned<E> {
    fn drop(&mut self) {
        if !self.is_over && !self.span.is_disabled() {
            self.record("dropped");
        }
    }
}

/// The count of a call further out, given back also when the inner one panics.
struct Outer(Option<u32>);

impl Drop for Outer {
    fn drop(&mut self) {
        ATTEMPTS.set(self.0);
    }
}

impl<S> Layer<S> for CallSpanLayer {
    type Service = SpanService<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        SpanService { inner, layer }
    }
}

impl<S> Layer<S> for AttemptSpanLayer {
    type Service = SpanService<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        SpanService { inner, layer }
    }
}

impl<S: Service<Req>, Req> Service<Req> for SpanService<S, CallSpanLayer>
where
    S::Error: HoldsRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SpanFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let mut spanned = self.layer.begin();
        let inner = spanned.within(|| self.inner.call(request));
        SpanFuture { inner, spanned }
    }
}

impl<S: Service<Req>, Req> Service<Req> for SpanService<S, AttemptSpanLayer> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = SpanFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let mut spanned = self.layer.begin();
        let inner = spanned.within(|| self.inner.call(request));
        SpanFuture { inner, spanned }
    }
}

impl<F, T, E> Future for SpanFuture<F, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (inner, spanned) = (this.inner, this.spanned);
        let polled = spanned.within(|| inner.poll(cx));
        if let Poll::Ready(result) = &polled {
            spanned.end(result.as_ref());
        }
        polled
    }
}

impl<F, E> fmt::Debug for SpanFuture<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanFuture")
            .field("span", &self.spanned.span)
            .finish_non_exhaustive()
    }
}
