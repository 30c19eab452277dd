//! What a request and its result say to the policies around them.

use std::time::Duration;

use crate::{
    drivers::held::Held,
    policies::step::Policy,
    vocabulary::{
        error::HoldsRejected,
        outcome::{Advice, Outcome, Verdict},
    },
};

/// One request and what comes back for it, in the eyes of a policy.
///
/// An exchange takes facts from the request, judges them with the result, and gives the response to the caller.
/// The default, [`Plain`], costs nothing. Others know a protocol: they look at statuses and headers, and they
/// may put the verdict off to the end of the response's body, which then carries what the call
/// [holds](Held).
///
/// [`JudgeBy`], [`LimitBy`] and [`NoteBy`] are made of one closure each, for what needs no more. A protocol is an
/// exchange of its own:
///
/// ```
/// use buttress::{BoxError, Exchange, Held, HoldsRejected, Outcome, Policy};
///
/// struct Command {
///     idempotent: bool,
/// }
///
/// struct Reply {
///     busy: bool,
/// }
///
/// #[derive(Clone)]
/// struct Protocol;
///
/// impl<E: HoldsRejected> Exchange<Command, Reply, E> for Protocol {
///     /// Whether it may be sent twice.
///     type Facts = bool;
///     type Response<P: Policy> = Reply;
///
///     fn facts(&self, command: &Command) -> bool {
///         command.idempotent
///     }
///
///     fn judge<'a>(&self, idempotent: &bool, result: Result<&'a Reply, &'a E>) -> Outcome<'a> {
///         let outcome = match result {
///             Ok(reply) if reply.busy => Outcome::failure(),
///             Ok(_) => Outcome::success(),
///             Err(error) => Outcome::of_error(error),
///         };
///         outcome.with_repeatable(*idempotent)
///     }
///
///     fn give<P: Policy>(&self, _: &bool, reply: Reply) -> Reply {
///         reply
///     }
///
///     fn carry<P: Policy>(&self, _: &bool, reply: Reply, held: Held<P>) -> Reply {
///         // It defers no verdict, so that nothing is ever held. One that does gives a response with `held` inside.
///         held.settle(&Outcome::success());
///         reply
///     }
/// }
/// # fn assert_exchange<X: Exchange<Command, Reply, BoxError>>(_: X) {}
/// # assert_exchange(Protocol);
/// ```
pub trait Exchange<Req, Res, Err>: Send + Sync + 'static {
    /// What is taken from a request before it is sent.
    type Facts;

    /// What the caller of a service guarded by `P` gets for a response.
    type Response<P: Policy>;

    /// Whether [`judge`](Exchange::judge) may defer a verdict.
    const DEFERS: bool = false;

    /// Takes the facts.
    fn facts(&self, request: &Req) -> Self::Facts;

    /// Judges a result: an error, or a response of which nothing but the head is known.
    fn judge<'a>(&self, facts: &Self::Facts, result: Result<&'a Res, &'a Err>) -> Outcome<'a>;

    /// The limit that this request wants for the timeout of that name. `None`: the timeout's own.
    fn limit(&self, facts: &Self::Facts, timeout: &str) -> Option<Duration> {
        let _ = (facts, timeout);
        None
    }

    /// Notes in the response how many attempts it took, when it took more than one. The default forgets it.
    fn note_attempts(&self, response: &mut Res, attempts: u32) {
        let _ = (response, attempts);
    }

    /// Whether [`judge`](Exchange::judge) would answer [`Outcome::success`] for this response. It spares healthy
    /// calls the full judgement where it can be told quickly; the default leaves it to `judge`.
    fn is_plain_success(&self, facts: &Self::Facts, response: &Res) -> bool {
        let _ = (facts, response);
        false
    }

    /// Gives a response to the caller.
    fn give<P: Policy>(&self, facts: &Self::Facts, response: Res) -> Self::Response<P>;

    /// Gives a response to the caller whose verdict was deferred: `held` is to be told it when the body ends.
    fn carry<P: Policy>(&self, facts: &Self::Facts, response: Res, held: Held<P>) -> Self::Response<P>;
}

/// What the exchanges of any service have in common: the response goes to the caller as it is.
macro_rules! gives_as_it_is {
    ($request:ty, $error:ty) => {
        #[inline(always)]
        fn give<P: Policy>(&self, _facts: &Self::Facts, response: Res) -> Res {
            response
        }

        fn carry<P: Policy>(&self, facts: &Self::Facts, response: Res, held: Held<P>) -> Res {
            let judged = Exchange::<$request, Res, $error>::judge(self, facts, Ok(&response));
            held.settle(&judged);
            response
        }
    };
}

/// The exchange of any service: `Ok` is a success, `Err` a failure; see [`Outcome::of`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl<Req, Res, Err: HoldsRejected> Exchange<Req, Res, Err> for Plain {
    type Facts = ();
    type Response<P: Policy> = Res;

    #[inline(always)]
    fn facts(&self, _request: &Req) {}

    #[inline(always)]
    fn is_plain_success(&self, (): &(), _response: &Res) -> bool {
        true
    }

    #[inline(always)]
    fn judge<'a>(&self, (): &(), result: Result<&'a Res, &'a Err>) -> Outcome<'a> {
        Outcome::of(result)
    }

    gives_as_it_is!(Req, Err);
}

/// An exchange that judges by a closure over the result: `Fn(Result<&Res, &Err>) -> Verdict`. The layers make it by
/// `judge_by`.
///
/// A failure is retried and a success is not. Rejections by this crate's policies are not shown to the closure
/// and are judged as by [`Plain`].
///
/// ```
/// use buttress::{BoxError, CircuitBreaker, JudgeBy, Retry, Stack, Verdict};
/// use tower::{Layer, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let breaker = CircuitBreaker::with_defaults("stock")?;
/// let stack = Stack::builder().circuit_breaker(breaker.clone()).build()?;
/// let by_status = JudgeBy::new(|result: Result<&u16, &BoxError>| match result {
///     Ok(status) if *status < 500 => Verdict::Success,
///     _ => Verdict::Failure,
/// });
/// let service = stack.exchange(by_status).layer(service_fn(async |(): ()| Ok::<_, BoxError>(503_u16)));
/// service.oneshot(()).await?;
/// assert_eq!(breaker.snapshot().failed, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct JudgeBy<F>(F);

impl<F> JudgeBy<F> {
    /// Judges by this closure.
    pub const fn new<Res, Err>(judge: F) -> Self
    where
        F: Fn(Result<&Res, &Err>) -> Verdict,
    {
        Self(judge)
    }
}

impl<F, Req, Res, Err> Exchange<Req, Res, Err> for JudgeBy<F>
where
    F: Fn(Result<&Res, &Err>) -> Verdict + Send + Sync + 'static,
    Err: HoldsRejected,
{
    type Facts = ();
    type Response<P: Policy> = Res;

    fn facts(&self, _request: &Req) {}

    fn judge<'a>(&self, (): &(), result: Result<&'a Res, &'a Err>) -> Outcome<'a> {
        let plain = Outcome::of(result);
        if plain.rejected().is_some() {
            return plain;
        }
        let verdict = (self.0)(result);
        let advice = if verdict == Verdict::Failure {
            Advice::Retry
        } else {
            Advice::Stop
        };
        plain.with_verdict(verdict).with_advice(advice)
    }

    gives_as_it_is!(Req, Err);
}

/// An exchange that lets a closure choose the limit of each request: `Fn(&Req) -> Option<Duration>`, where `None` is the
/// timeout's own limit. A [`TimeoutLayer`](crate::TimeoutLayer) makes it by `limit_by`; in a [`Stack`](crate::Stack) it
/// holds for every timeout.
///
/// ```
/// use std::time::Duration;
/// use buttress::{BoxError, LimitBy, Stack, Timeout};
/// use tower::{Layer, service_fn};
///
/// struct Query {
///     patience: Option<Duration>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let stack = Stack::builder().timeout(Timeout::with_defaults("db")?).build()?;
/// let service = stack
///     .exchange(LimitBy::new(|query: &Query| query.patience))
///     .layer(service_fn(async |_: Query| Ok::<_, BoxError>("rows")));
/// let patience = Some(Duration::from_millis(50));
/// assert_eq!(service.oneshot(Query { patience }).await?, "rows");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LimitBy<F>(F);

impl<F> LimitBy<F> {
    /// Lets this closure choose.
    pub const fn new<Req>(limit: F) -> Self
    where
        F: Fn(&Req) -> Option<Duration>,
    {
        Self(limit)
    }
}

impl<F, Req, Res, Err> Exchange<Req, Res, Err> for LimitBy<F>
where
    F: Fn(&Req) -> Option<Duration> + Send + Sync + 'static,
    Err: HoldsRejected,
{
    type Facts = Option<Duration>;
    type Response<P: Policy> = Res;

    fn facts(&self, request: &Req) -> Option<Duration> {
        (self.0)(request)
    }

    fn judge<'a>(&self, _: &Option<Duration>, result: Result<&'a Res, &'a Err>) -> Outcome<'a> {
        Outcome::of(result)
    }

    fn limit(&self, limit: &Option<Duration>, _timeout: &str) -> Option<Duration> {
        *limit
    }

    gives_as_it_is!(Req, Err);
}

/// An exchange that keeps what a closure takes from the request, `Fn(&Req) -> T`, for a fallback's
/// [`Answer`](crate::Answer). A [`FallbackLayer`](crate::FallbackLayer) makes it by itself; a [`Stack`](crate::Stack)
/// is given it:
///
/// ```
/// use buttress::{AnswerBy, BoxError, Fallback, NoteBy, Stack};
/// use tower::{Layer, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let apologize = AnswerBy(|name: &String, _: Result<String, BoxError>| Ok(format!("sorry, {name}")));
/// let stack = Stack::builder().fallback(Fallback::new("greetings"), apologize).build()?;
/// let service = stack
///     .exchange(NoteBy::new(|name: &String| name.clone()))
///     .layer(service_fn(async |_: String| Err::<String, BoxError>("asleep".into())));
/// assert_eq!(service.oneshot("Ada".to_owned()).await?, "sorry, Ada");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NoteBy<F>(F);

impl<F> NoteBy<F> {
    /// Keeps what this closure takes.
    pub const fn new<Req, T>(note: F) -> Self
    where
        F: Fn(&Req) -> T,
    {
        Self(note)
    }
}

impl<F, T, Req, Res, Err> Exchange<Req, Res, Err> for NoteBy<F>
where
    F: Fn(&Req) -> T + Send + Sync + 'static,
    Err: HoldsRejected,
{
    type Facts = T;
    type Response<P: Policy> = Res;

    fn facts(&self, request: &Req) -> T {
        (self.0)(request)
    }

    fn judge<'a>(&self, _facts: &T, result: Result<&'a Res, &'a Err>) -> Outcome<'a> {
        Outcome::of(result)
    }

    gives_as_it_is!(Req, Err);
}
