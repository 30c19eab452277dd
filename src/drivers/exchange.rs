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

/// An exchange that judges by a closure over the result; see `judge_by` of the layers.
///
/// A failure is retried and a success is not. Rejections by this crate's policies are not shown to the closure
/// and are judged as by [`Plain`].
#[derive(Clone, Copy, Debug)]
pub struct JudgeBy<F>(pub(crate) F);

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

/// An exchange that lets a closure choose the limit of each request; see `limit_by` of the layers.
#[derive(Clone, Copy, Debug)]
pub struct LimitBy<F>(pub(crate) F);

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

/// An exchange that keeps what a closure takes from the request, for a fallback's answer.
#[derive(Clone, Copy, Debug)]
pub struct NoteBy<F>(pub(crate) F);

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
