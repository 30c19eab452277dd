//! The attempts of a guarded async function.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;

use crate::{
    drivers::{
        answer::{Answer, NoAnswer},
        attempts::{Attempts, Guarded},
        held::Held,
        timer::Timed,
    },
    vocabulary::{error::HoldsRejected, outcome::Outcome, rejected::Rejected},
};

/// An async function that can fail, called anew for each attempt: `FnMut() -> impl Future<Output = Result<T, E>>`.
///
/// It is implemented for every such function. It names neither future nor error among its parameters: a future that is
/// held across an `.await` and has those of a closure among its type parameters is often not seen to be `Send`
/// (rust-lang/rust#110338).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an async function that gives a `Result`",
    label = "expected a closure that gives a future of a `Result`"
)]
pub trait AsyncFunction {
    /// What it responds.
    type Response;
    /// What it fails with.
    type Error;
    /// A call of it.
    type Future: Future<Output = Result<Self::Response, Self::Error>>;

    /// Calls it.
    fn call(&mut self) -> Self::Future;
}

impl<F, Fut, T, E> AsyncFunction for F
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = Fut;

    fn call(&mut self) -> Fut {
        self()
    }
}

/// How an error type holds rejections, without a bound on it.
///
/// The bounds are met where this is made. Were they needed again to prove that a call is `Send`, the error of a closure
/// would fail them there, for the same reason.
pub(crate) struct Holding<E> {
    from_rejected: fn(Rejected) -> E,
    outcome: for<'a> fn(&'a E) -> Outcome<'a>,
    note_attempts: fn(&mut E, u32),
}

impl<E: HoldsRejected> Holding<E> {
    pub(crate) const fn new() -> Self {
        Self {
            from_rejected: E::from_rejected,
            outcome: |error| Outcome::of_error(error),
            note_attempts: E::note_attempts,
        }
    }
}

/// The attempts of a guarded function, whose errors become `E`.
pub(crate) struct FunctionAttempts<P, F: AsyncFunction, E, A = NoAnswer> {
    pub(crate) policy: P,
    pub(crate) answer: A,
    pub(crate) function: F,
    pub(crate) into: fn(F::Error) -> E,
    pub(crate) holding: Holding<E>,
}

impl<P: Timed, F: AsyncFunction, E, A> Guarded for FunctionAttempts<P, F, E, A> {
    type Policy = P;

    fn policy(&self) -> &P {
        &self.policy
    }
}

impl<P, F, E, A> Attempts for FunctionAttempts<P, F, E, A>
where
    P: Timed,
    F: AsyncFunction,
    A: Answer<(), F::Response, E>,
{
    type Response = F::Response;
    type Error = E;
    type Future = FunctionAttempt<F::Future, fn(F::Error) -> E>;
    type Answering = A::Future;
    type Next = ();
    type Given = F::Response;

    const DEFERS: bool = false;
    const MAY_WAIT: bool = true;

    fn limit(&self, _timeout: &str) -> Option<Duration> {
        None
    }

    fn judge<'a>(&self, result: Result<&'a F::Response, &'a E>) -> Outcome<'a> {
        match result {
            Ok(_) => Outcome::success(),
            Err(error) => (self.holding.outcome)(error),
        }
    }

    fn is_plain_success(&self, _response: &F::Response) -> bool {
        true
    }

    fn reject(&self, rejected: Rejected) -> E {
        (self.holding.from_rejected)(rejected)
    }

    fn can_repeat(&self) -> bool {
        true
    }

    fn prepare(&mut self) -> Option<()> {
        Some(())
    }

    fn poll_ready(&mut self, (): &mut (), _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn unready(&mut self, (): &mut ()) {}

    fn make(&mut self, (): &mut ()) -> Option<Self::Future> {
        Some(FunctionAttempt {
            future: self.function.call(),
            into: self.into,
        })
    }

    fn answer(&mut self, hidden: Result<F::Response, E>) -> A::Future {
        self.answer.answer(&(), hidden)
    }

    fn note_attempts(&self, result: Result<&mut F::Response, &mut E>, attempts: u32) {
        if let Err(error) = result {
            (self.holding.note_attempts)(error, attempts);
        }
    }

    fn give(&self, response: F::Response) -> F::Response {
        response
    }

    fn carry(&self, response: F::Response, held: Held<P>) -> F::Response {
        // Nothing here defers a verdict.
        held.settle(&Outcome::success());
        response
    }
}

impl<P: fmt::Debug, F: AsyncFunction, E, A> fmt::Debug for FunctionAttempts<P, F, E, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionAttempts")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// An attempt of a guarded function.
    pub(crate) struct FunctionAttempt<Fut, Into> {
        #[pin]
        future: Fut,
        into: Into,
    }
}

impl<Fut, T, E1, E2> Future for FunctionAttempt<Fut, fn(E1) -> E2>
where
    Fut: Future<Output = Result<T, E1>>,
{
    type Output = Result<T, E2>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.future.poll(cx).map_err(this.into)
    }
}
