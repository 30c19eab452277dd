//! What a fallback answers with.

use std::{
    fmt,
    future::{Future, Ready, ready},
};

use tower::{Service, ServiceExt, util::Oneshot};

/// Answers in place of a result, given the facts of the request and the result that is hidden.
pub trait Answer<Facts, Res, Err>: Send + Sync + 'static {
    /// The answer.
    type Future: Future<Output = Result<Res, Err>>;

    /// Answers.
    fn answer(&self, facts: &Facts, hidden: Result<Res, Err>) -> Self::Future;
}

/// No answer: the result stays as it is. What a layer without a fallback has.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAnswer;

impl<Facts, Res, Err> Answer<Facts, Res, Err> for NoAnswer {
    type Future = Ready<Result<Res, Err>>;

    fn answer(&self, _facts: &Facts, hidden: Result<Res, Err>) -> Self::Future {
        ready(hidden)
    }
}

/// Answers with clones of a value.
#[derive(Clone, Copy, Debug)]
pub struct AnswerWith<T>(
    /// The value.
    pub T,
);

impl<Facts, Res, Err> Answer<Facts, Res, Err> for AnswerWith<Res>
where
    Res: Clone + Send + Sync + 'static,
{
    type Future = Ready<Result<Res, Err>>;

    fn answer(&self, _facts: &Facts, _hidden: Result<Res, Err>) -> Self::Future {
        ready(Ok(self.0.clone()))
    }
}

/// Answers by a closure: `Fn(&Facts, Result<Res, Err>) -> Result<Res, Err>`.
#[derive(Clone, Copy)]
pub struct AnswerBy<F>(
    /// The closure.
    pub F,
);

impl<F, Facts, Res, Err> Answer<Facts, Res, Err> for AnswerBy<F>
where
    F: Fn(&Facts, Result<Res, Err>) -> Result<Res, Err> + Send + Sync + 'static,
{
    type Future = Ready<Result<Res, Err>>;

    fn answer(&self, facts: &Facts, hidden: Result<Res, Err>) -> Self::Future {
        ready((self.0)(facts, hidden))
    }
}

impl<F> fmt::Debug for AnswerBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerBy(..)")
    }
}

/// Answers by another service, which is sent a copy of the request: the facts are that copy.
#[derive(Clone, Copy, Debug)]
pub struct AnswerFrom<S>(
    /// The service.
    pub S,
);

impl<S, Req, Res, Err> Answer<Req, Res, Err> for AnswerFrom<S>
where
    S: Service<Req, Response = Res, Error = Err> + Clone + Send + Sync + 'static,
    Req: Clone,
{
    type Future = Oneshot<S, Req>;

    fn answer(&self, request: &Req, _hidden: Result<Res, Err>) -> Self::Future {
        self.0.clone().oneshot(request.clone())
    }
}
