//! The layers of the policies: names for the one generic layer, and how each is made.

use std::time::Duration;

use crate::{
    drivers::{
        answer::{AnswerBy, AnswerFrom, AnswerWith, NoAnswer},
        exchange::{JudgeBy, LimitBy, NoteBy, Plain},
        replay::{Cloned, CopyBy, Once, Prepared, Queued},
        service::{Guard, GuardLayer},
    },
    policies::{
        bulkhead::Bulkhead, circuit_breaker::CircuitBreaker, fallback::Fallback, retry::Retry,
        timeout::Timeout,
    },
    vocabulary::{outcome::Verdict, predicate::Predicate},
};

/// Guards services by a [`CircuitBreaker`].
pub type CircuitBreakerLayer<X = Plain> = GuardLayer<CircuitBreaker, X>;
/// A service guarded by a [`CircuitBreaker`].
pub type CircuitBreakerService<S, X = Plain> = Guard<S, CircuitBreaker, X>;

/// Guards services by a [`Retry`].
pub type RetryLayer<X = Plain, R = Cloned> = GuardLayer<Retry, X, R>;
/// A service guarded by a [`Retry`].
pub type RetryService<S, X = Plain, R = Cloned> = Guard<S, Retry, X, R>;

/// Guards services by a [`Timeout`].
pub type TimeoutLayer<X = Plain> = GuardLayer<Timeout, X>;
/// A service guarded by a [`Timeout`].
pub type TimeoutService<S, X = Plain> = Guard<S, Timeout, X>;

/// Guards services by a [`Bulkhead`].
pub type BulkheadLayer<X = Plain, R = Queued> = GuardLayer<Bulkhead, X, R>;
/// A service guarded by a [`Bulkhead`].
pub type BulkheadService<S, X = Plain, R = Queued> = Guard<S, Bulkhead, X, R>;

/// Guards services by a [`Fallback`].
pub type FallbackLayer<A, X = Plain> = GuardLayer<Fallback, X, Once, A>;
/// A service guarded by a [`Fallback`].
pub type FallbackService<S, A, X = Plain> = Guard<S, Fallback, X, Once, A>;

impl CircuitBreakerLayer {
    /// Guards by this breaker, also where other layers do.
    pub const fn new(breaker: CircuitBreaker) -> Self {
        Self::of(breaker, Plain, Once, NoAnswer)
    }
}

impl RetryLayer {
    /// Retries by cloning requests and service. For other requests see [`once`](RetryLayer::once),
    /// [`copy_by`](RetryLayer::copy_by) and [`prepare`](RetryLayer::prepare).
    pub const fn new(retry: Retry) -> Self {
        Self::of(retry, Plain, Cloned, NoAnswer)
    }
}

impl<X> RetryLayer<X> {
    /// Sends each request once, so that it need not be `Clone`: the retry then counts and shows, and repeats
    /// nothing.
    pub fn once(self) -> RetryLayer<X, Once> {
        self.replay(Once)
    }

    /// Lets a closure copy a request: `Fn(&Req) -> Option<Req>`. A request that it declines is sent once.
    pub fn copy_by<F>(self, copy: F) -> RetryLayer<X, CopyBy<F>> {
        self.replay(CopyBy(copy))
    }

    /// Lets a hook prepare each attempt; see [`Replay`](crate::Replay).
    pub fn prepare<H>(self, hook: H) -> RetryLayer<X, Prepared<H>> {
        self.replay(Prepared(hook))
    }
}

impl<X, R> RetryLayer<X, R> {
    /// Retries what matches. With at least one such predicate, nothing else is retried. For negations see
    /// [`Rules`](crate::Rules).
    pub fn retry_on(self, predicate: Predicate) -> Self {
        self.refine(|rules| rules.retry(predicate))
    }

    /// Does not retry what matches, whatever else says so.
    pub fn stop_on(self, predicate: Predicate) -> Self {
        self.refine(|rules| rules.stop(predicate))
    }
}

impl<X> CircuitBreakerLayer<X> {
    /// Records what matches as a failure. With at least one such predicate, other errors count as successes. For
    /// negations see [`Rules`](crate::Rules).
    pub fn record(self, predicate: Predicate) -> Self {
        self.refine(|rules| rules.record(predicate))
    }

    /// Ignores what matches, whatever else says so.
    pub fn ignore(self, predicate: Predicate) -> Self {
        self.refine(|rules| rules.ignore(predicate))
    }
}

impl<P, R, A> GuardLayer<P, Plain, R, A> {
    /// Judges results by a closure: `Fn(Result<&Res, &Err>) -> Verdict`. A failure is also retried.
    /// Rejections by this crate's policies are not shown to it.
    pub fn judge_by<F, Res, Err>(self, judge: F) -> GuardLayer<P, JudgeBy<F>, R, A>
    where
        F: Fn(Result<&Res, &Err>) -> Verdict,
    {
        self.exchange(JudgeBy::new(judge))
    }
}

impl TimeoutLayer {
    /// Cuts calls off by this timeout.
    pub const fn new(timeout: Timeout) -> Self {
        Self::of(timeout, Plain, Once, NoAnswer)
    }

    /// Lets a closure choose the limit of each request: `Fn(&Req) -> Option<Duration>`; `None` is the
    /// timeout's own limit.
    pub fn limit_by<F, Req>(self, limit: F) -> TimeoutLayer<LimitBy<F>>
    where
        F: Fn(&Req) -> Option<Duration>,
    {
        self.exchange(LimitBy::new(limit))
    }
}

impl BulkheadLayer {
    /// Bounds calls by this bulkhead. A call that waits takes a clone of the service afterwards; for a service
    /// that is not `Clone` see [`once`](BulkheadLayer::once).
    pub const fn new(bulkhead: Bulkhead) -> Self {
        Self::of(bulkhead, Plain, Queued, NoAnswer)
    }
}

impl<X> BulkheadLayer<X> {
    /// Lets no call wait, whatever the bulkhead's settings say, so that the service need not be `Clone`: a full
    /// bulkhead refuses at once.
    pub fn once(self) -> BulkheadLayer<X, Once> {
        self.replay(Once)
    }
}

impl<T> FallbackLayer<AnswerWith<T>> {
    /// Answers with clones of `value`.
    pub const fn value(fallback: Fallback, value: T) -> Self {
        Self::of(fallback, Plain, Once, AnswerWith(value))
    }
}

impl<F> FallbackLayer<AnswerBy<F>> {
    /// Answers by a closure over the result that is hidden: `Fn(&(), Result<Res, Err>) -> Result<Res, Err>`.
    pub const fn answer_by<Res, Err>(fallback: Fallback, answer: F) -> Self
    where
        F: Fn(&(), Result<Res, Err>) -> Result<Res, Err>,
    {
        Self::of(fallback, Plain, Once, AnswerBy(answer))
    }
}

impl<F, G> FallbackLayer<AnswerBy<F>, NoteBy<G>> {
    /// Answers by a closure over what `note` takes from each request and the result that is hidden:
    /// `Fn(&Req) -> T` and `Fn(&T, Result<Res, Err>) -> Result<Res, Err>`.
    pub const fn answer_noted<Req, T, Res, Err>(fallback: Fallback, note: G, answer: F) -> Self
    where
        G: Fn(&Req) -> T,
        F: Fn(&T, Result<Res, Err>) -> Result<Res, Err>,
    {
        Self::of(fallback, NoteBy::new(note), Once, AnswerBy(answer))
    }
}

impl<S, G> FallbackLayer<AnswerFrom<S>, NoteBy<G>> {
    /// Answers by another service, which is sent what `copy` makes of each request: `Fn(&Req) -> Other`.
    pub const fn service<Req, Other>(fallback: Fallback, service: S, copy: G) -> Self
    where
        G: Fn(&Req) -> Other,
    {
        Self::of(fallback, NoteBy::new(copy), Once, AnswerFrom(service))
    }
}
