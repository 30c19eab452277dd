//! Predicates over outcomes, and the lists that refine a verdict with them.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::vocabulary::{
    error::causes,
    outcome::{Advice, Outcome, Verdict},
    rejected::RejectedKind,
    status::StatusSet,
};

/// A question about an [`Outcome`]: by type of the error, by status, by kind of rejection, by closure.
///
/// It judges erased facts, so one predicate serves every service, and a config file can name it.
#[derive(Clone)]
pub struct Predicate(Arc<Test>);

type Test = dyn for<'a, 'b> Fn(&'a Outcome<'b>) -> bool + Send + Sync;

impl Predicate {
    /// What the closure says.
    pub fn new(test: impl for<'a, 'b> Fn(&'a Outcome<'b>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(test))
    }

    /// The result is an error of type `E`, or one that came from such an error: the whole `source()` chain
    /// is looked at.
    pub fn error<E: StdError + 'static>() -> Self {
        Self::error_if(|_: &E| true)
    }

    /// The result is, or came from, an error of type `E` for which `test` answers true.
    pub fn error_if<E: StdError + 'static>(test: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |outcome| {
            outcome.error().is_some_and(|error| {
                causes(error)
                    .filter_map(|cause| cause.downcast_ref::<E>())
                    .any(&test)
            })
        })
    }

    /// The result is any error.
    pub fn any_error() -> Self {
        Self::new(|outcome| outcome.error().is_some())
    }

    /// A policy of this crate rejected the call, in this way.
    pub fn rejected(kind: RejectedKind) -> Self {
        Self::new(move |outcome| outcome.rejected().is_some_and(|rejected| rejected.kind() == kind))
    }

    /// The response's status is in the range, e.g. `500..=599`. False where there is no status.
    pub fn status(range: std::ops::RangeInclusive<u16>) -> Self {
        Self::new(move |outcome| outcome.status().is_some_and(|status| range.contains(&status)))
    }

    /// The response's status is in the set. False where there is no status.
    pub fn status_in(set: StatusSet) -> Self {
        Self::new(move |outcome| outcome.status().is_some_and(|status| set.contains(status)))
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(move |outcome| self.test(outcome) && other.test(outcome))
    }

    /// Either, or both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(move |outcome| self.test(outcome) || other.test(outcome))
    }

    /// The answer for `outcome`.
    pub fn test(&self, outcome: &Outcome<'_>) -> bool {
        (self.0)(outcome)
    }
}

impl std::ops::Not for Predicate {
    type Output = Self;

    fn not(self) -> Self {
        Self::new(move |outcome| !self.test(outcome))
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Predicate(..)")
    }
}

/// Lists of predicates that refine what an outcome counts as, and whether it is retried.
///
/// - `ignore` wins over `record`.
/// - `record`: a match is a failure. Once there is a record predicate, an error that matches none counts as
///   a success, as in resilience4j; refusals by this crate's own policies stay ignored.
/// - `retry` and `stop` decide on another attempt; `stop` wins. Once there is a `retry` predicate, what
///   matches none is not retried.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    record: Vec<Predicate>,
    ignore: Vec<Predicate>,
    retry: Vec<Predicate>,
    stop: Vec<Predicate>,
}

impl Rules {
    /// No rule: outcomes stay as the exchange judged them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts what matches as a failure.
    #[must_use]
    pub fn record(mut self, predicate: Predicate) -> Self {
        self.record.push(predicate);
        self
    }

    /// Ignores what matches.
    #[must_use]
    pub fn ignore(mut self, predicate: Predicate) -> Self {
        self.ignore.push(predicate);
        self
    }

    /// Retries what matches.
    #[must_use]
    pub fn retry(mut self, predicate: Predicate) -> Self {
        self.retry.push(predicate);
        self
    }

    /// Does not retry what matches.
    #[must_use]
    pub fn stop(mut self, predicate: Predicate) -> Self {
        self.stop.push(predicate);
        self
    }

    /// The outcome as these rules see it.
    pub fn refine<'a>(&self, outcome: &Outcome<'a>) -> Outcome<'a> {
        let any = |list: &[Predicate]| list.iter().any(|predicate| predicate.test(outcome));
        let verdict = if any(&self.ignore) {
            Verdict::Ignored
        } else if any(&self.record) {
            Verdict::Failure
        } else if !self.record.is_empty() && outcome.verdict() == Verdict::Failure {
            Verdict::Success
        } else {
            outcome.verdict()
        };
        let advice = if any(&self.stop) {
            Advice::Stop
        } else if any(&self.retry) {
            // A server's hint stays: the list says that a retry makes sense, not when.
            match outcome.advice() {
                Advice::Stop => Advice::Retry,
                advice => advice,
            }
        } else if self.retry.is_empty() {
            outcome.advice()
        } else {
            Advice::Stop
        };
        outcome.with_verdict(verdict).with_advice(advice)
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Display, io};

    use super::*;
    use crate::vocabulary::{
        error::Error,
        rejected::{Reason, Rejected},
    };

    #[derive(Debug)]
    struct Wrapped(io::Error);

    impl Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "wrapped")
        }
    }

    impl StdError for Wrapped {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    fn refined(rules: &Rules, error: &tower::BoxError) -> (Verdict, Advice) {
        let outcome = rules.refine(&Outcome::of_error(error));
        (outcome.verdict(), outcome.advice())
    }

    #[test]
    fn a_predicate_by_type_walks_the_whole_source_chain() {
        let error: tower::BoxError = Wrapped(io::Error::other("x")).into();
        assert!(Predicate::error::<io::Error>().test(&Outcome::of_error(&error)));
        assert!(!Predicate::error::<fmt::Error>().test(&Outcome::of_error(&error)));
        let error = Error::Service(io::Error::other("x"));
        assert!(Predicate::error::<io::Error>().test(&Outcome::of_error(&error)));
    }

    #[test]
    fn ignore_wins_over_record() {
        let rules = Rules::new()
            .record(Predicate::any_error())
            .ignore(Predicate::error::<io::Error>());
        assert_eq!(refined(&rules, &io::Error::other("x").into()).0, Verdict::Ignored);
        assert_eq!(refined(&rules, &fmt::Error.into()).0, Verdict::Failure);
    }

    #[test]
    fn with_a_record_list_other_errors_are_successes_but_refusals_stay_ignored() {
        let rules = Rules::new().record(Predicate::error::<io::Error>());
        assert_eq!(refined(&rules, &fmt::Error.into()).0, Verdict::Success);
        let refusal = Rejected::new("x", Reason::ForcedOpen).into();
        assert_eq!(refined(&rules, &refusal).0, Verdict::Ignored);
    }

    #[test]
    fn a_retry_list_can_ask_for_retries_of_refusals_and_stop_wins() {
        let refusal = Rejected::new("x", Reason::ForcedOpen).into();
        assert_eq!(refined(&Rules::new(), &refusal).1, Advice::Stop);
        let rules = Rules::new().retry(Predicate::rejected(RejectedKind::CircuitOpen));
        assert_eq!(refined(&rules, &refusal).1, Advice::Retry);
        assert_eq!(refined(&rules, &fmt::Error.into()).1, Advice::Stop);
        let rules = rules.stop(Predicate::any_error());
        assert_eq!(refined(&rules, &refusal).1, Advice::Stop);
    }
}
