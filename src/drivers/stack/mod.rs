//! Policies in an order that is known at run time.

mod builder;
mod pass;
mod stage;
mod stages;
mod succession;
mod which;

use std::{fmt, future::Future};

use tower::Layer;

pub(crate) use self::{
    builder::LONGEST,
    stage::{AnyPolicy, Stage},
};
pub use self::{builder::StackBuilder, pass::StackPass, stages::Stages};
use crate::{
    drivers::{
        answer::{Answer, NoAnswer},
        exchange::Plain,
        function::{AsyncFunction, FunctionAttempts, Holding},
        replay::{Cloned, CopyBy, Once, Prepared, Queued, Renew},
        run::drive,
        service::{Guard, GuardLayer},
    },
    vocabulary::error::{Error, HoldsRejected},
};

/// A list of policies around a call, outermost first, in an order known at run time.
///
/// It is a Tower layer, and guards async functions by [`run`](Stack::run). All its policies are run by one
/// service with one future and one timer; nothing is allocated for a call that does not wait, once its thread has made
/// one. Clones share the state of their policies.
///
/// `R` says what is cloned: a stack without a retry clones no request ([`Once`], [`Queued`]), one with a retry
/// clones requests and service ([`Cloned`]), unless it is told otherwise. `A` is what its fallback answers.
///
/// ```
/// use buttress::{CircuitBreaker, Retry, Stack, Timeout};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stack = Stack::builder()
///     .retry(Retry::with_defaults("payments")?)
///     .circuit_breaker(CircuitBreaker::with_defaults("payments")?)
///     .timeout(Timeout::with_defaults("payments")?)
///     .build()?;
///
/// let answer = stack.run(|| async { Ok::<_, std::io::Error>(42) }).await?;
/// assert_eq!(answer, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stack<R = Cloned, A = NoAnswer> {
    pub(crate) stages: Stages,
    pub(crate) replay: R,
    pub(crate) answer: A,
}

/// Guards services by a [`Stack`].
pub type StackLayer<X = Plain, R = Cloned, A = NoAnswer> = GuardLayer<Stages, X, R, A>;
/// A service guarded by a [`Stack`].
pub type StackService<S, X = Plain, R = Cloned, A = NoAnswer> = Guard<S, Stages, X, R, A>;

impl Stack {
    /// A stack with no policy yet. The first that is added is the outermost.
    pub fn builder() -> StackBuilder {
        StackBuilder::new()
    }
}

impl<R, A> Stack<R, A> {
    /// Its policies, outermost first.
    pub const fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Sends each request once and lets none wait: neither requests nor service need to be `Clone`. Its
    /// retries then repeat nothing, and its bulkheads refuse at once when they are full.
    pub fn once(self) -> Stack<Once, A> {
        self.replay(Once)
    }

    /// Sends each request once, after waiting in a bulkhead's queue where that is set: the service is cloned.
    pub fn queued(self) -> Stack<Queued, A> {
        self.replay(Queued)
    }

    /// Clones requests and service.
    pub fn cloned(self) -> Stack<Cloned, A> {
        self.replay(Cloned)
    }

    /// Lets a closure copy a request: `Fn(&Req) -> Option<Req>`. A request that it declines is sent once.
    pub fn copy_by<F>(self, copy: F) -> Stack<CopyBy<F>, A> {
        self.replay(CopyBy(copy))
    }

    /// Lets a hook prepare each attempt; see [`Replay`](crate::Replay).
    pub fn prepare<H>(self, hook: H) -> Stack<Prepared<H>, A> {
        self.replay(Prepared(hook))
    }

    fn replay<Q>(self, replay: Q) -> Stack<Q, A> {
        Stack {
            stages: self.stages,
            replay,
            answer: self.answer,
        }
    }

    /// As a layer that judges requests and results by this exchange.
    pub fn exchange<X>(self, exchange: X) -> StackLayer<X, R, A> {
        GuardLayer::of(self.stages.newest(), exchange, self.replay, self.answer)
    }

    /// Guards one call of an async function, which is called anew for each attempt. Its error comes back beside
    /// rejections, as [`Error::Service`].
    ///
    /// # Errors
    ///
    /// The function's own error, or the rejection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the function's and returns what the call holds.
    pub fn run<F>(
        &self,
        function: F,
    ) -> impl Future<Output = Result<F::Response, Error<F::Error>>> + use<F, R, A>
    where
        F: AsyncFunction,
        F::Error: std::error::Error + 'static,
        A: Answer<(), F::Response, Error<F::Error>> + Clone,
    {
        drive(FunctionAttempts {
            policy: self.stages.newest(),
            answer: self.answer.clone(),
            function,
            into: Error::Service,
            holding: Holding::new(),
        })
    }

    /// As [`run`](Self::run), for a function whose error holds rejections itself: `tower::BoxError`,
    /// [`Error`], or one of your own.
    ///
    /// # Errors
    ///
    /// The function's own error, which may hold a rejection.
    pub fn run_flat<F>(
        &self,
        function: F,
    ) -> impl Future<Output = Result<F::Response, F::Error>> + use<F, R, A>
    where
        F: AsyncFunction,
        F::Error: HoldsRejected,
        A: Answer<(), F::Response, F::Error> + Clone,
    {
        drive(FunctionAttempts {
            policy: self.stages.newest(),
            answer: self.answer.clone(),
            function,
            into: |error| error,
            holding: Holding::new(),
        })
    }
}

impl<S, R, A> Layer<S> for Stack<R, A>
where
    R: Renew<S> + Clone,
    A: Clone,
{
    type Service = StackService<S, Plain, R, A>;

    fn layer(&self, inner: S) -> Self::Service {
        self.clone().exchange(Plain).layer(inner)
    }
}

impl<R, A> fmt::Debug for Stack<R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stack").field(&self.stages).finish()
    }
}
