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
/// It judges erased facts, so one predicate serves every service, and a config file can name it. They combine by
/// [`and`](Predicate::and), [`or`](Predicate::or) and `!`; see [`Rules`] for what a negation means in a list.
#[derive(Clone)]
pub struct Predicate(Expression);

type Test = dyn for<'a, 'b> Fn(&'a Outcome<'b>) -> bool + Send + Sync;

/// Negations stand at the leaves only, so that each knows what it is the negation of.
#[derive(Clone)]
enum Expression {
    Is(Arc<Test>),
    IsNot(Arc<Test>),
    Both(Arc<(Predicate, Predicate)>),
    Either(Arc<(Predicate, Predicate)>),
}

/// What a predicate says of an outcome, the stronger the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Match {
    /// It does not match.
    No,
    /// It matches, by negations alone: the outcome is none of what they name.
    Negated,
    /// It matches, by something that it names.
    Named,
}

impl Predicate {
    /// What the closure says.
    pub fn new(test: impl for<'a, 'b> Fn(&'a Outcome<'b>) -> bool + Send + Sync + 'static) -> Self {
        Self(Expression::Is(Arc::new(test)))
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

    /// Both. `other` is not asked where this one does not match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Expression::Both(Arc::new((self, other))))
    }

    /// Either, or both. `other` may be asked also where this one matches.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(Expression::Either(Arc::new((self, other))))
    }

    /// Whether `outcome` matches, taken at its word: a negation matches whatever its predicate does not.
    pub fn test(&self, outcome: &Outcome<'_>) -> bool {
        self.matches(outcome) != Match::No
    }

    /// Whether `outcome` matches, and how.
    pub(crate) fn matches(&self, outcome: &Outcome<'_>) -> Match {
        let named_if = |matches, how| if matches { how } else { Match::No };
        match &self.0 {
            Expression::Is(test) => named_if(test(outcome), Match::Named),
            Expression::IsNot(test) => named_if(!test(outcome), Match::Negated),
            Expression::Both(both) => match both.0.matches(outcome) {
                Match::No => Match::No,
                first => match both.1.matches(outcome) {
                    Match::No => Match::No,
                    second => first.max(second),
                },
            },
            Expression::Either(either) => match either.0.matches(outcome) {
                Match::Named => Match::Named,
                first => first.max(either.1.matches(outcome)),
            },
        }
    }
}

impl std::ops::Not for Predicate {
    type Output = Self;

    fn not(self) -> Self {
        let negated = |both: &(Self, Self)| Arc::new((!both.0.clone(), !both.1.clone()));
        Self(match self.0 {
            Expression::Is(test) => Expression::IsNot(test),
            Expression::IsNot(test) => Expression::Is(test),
            Expression::Both(both) => Expression::Either(negated(&both)),
            Expression::Either(either) => Expression::Both(negated(&either)),
        })
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
///
/// A match may turn what the exchange judged otherwise: `record(Predicate::status(404..=404))` makes failures of
/// responses that it takes for successes.
///
/// # Negations
///
/// `!predicate` matches whatever the predicate does not, and that is mostly successes. At its word,
/// `record(!Predicate::error::<io::Error>())`, meant as "every error but those", would make a failure of every
/// success, `retry` with the same would send every request again, and both would take refusals by this crate's own
/// policies for failures of the service. So what matches by negations alone, because it is none of what they name,
/// turns nothing; it only stays among what the list is about:
///
/// - `record(!p)`: what is not `p` counts as the exchange judged it, and failures that are `p` count as successes.
/// - `ignore(!p)`: failures that are not `p` are ignored. Successes stay successes.
/// - `retry(!p)`: what is not `p` is retried where the exchange advises it; what is `p` is not.
/// - `stop(!p)`: only what is `p` is retried, where anything advises it.
///
/// Beside something that it does name, a negation narrows as it reads: `status(400..=499).and(!status(404..=404))`
/// names 403, and records it. Who wants successes by exclusion says so:
/// `Predicate::new(|outcome| outcome.status() != Some(200))`.
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
        outcome
            .with_verdict(self.verdict(outcome))
            .with_advice(self.advice(outcome))
    }

    fn verdict(&self, outcome: &Outcome<'_>) -> Verdict {
        let judged = outcome.verdict();
        let ignored = any(&self.ignore, outcome);
        if ignored == Match::Named {
            return Verdict::Ignored;
        }
        let recorded = match any(&self.record, outcome) {
            Match::Named => Verdict::Failure,
            Match::No if !self.record.is_empty() && judged == Verdict::Failure => Verdict::Success,
            Match::Negated | Match::No => judged,
        };
        if ignored == Match::Negated && (judged == Verdict::Failure || recorded == Verdict::Failure) {
            return Verdict::Ignored;
        }
        recorded
    }

    fn advice(&self, outcome: &Outcome<'_>) -> Advice {
        if any(&self.stop, outcome) != Match::No {
            return Advice::Stop;
        }
        match (any(&self.retry, outcome), outcome.advice()) {
            (Match::Named, Advice::Stop) => Advice::Retry,
            (Match::No, _) if !self.retry.is_empty() => Advice::Stop,
            // A server's hint stays: the list says that a retry makes sense, not when.
            (_, advice) => advice,
        }
    }
}

/// The strongest match of a list.
fn any(list: &[Predicate], outcome: &Outcome<'_>) -> Match {
    let mut strongest = Match::No;
    for predicate in list {
        strongest = strongest.max(predicate.matches(outcome));
        if strongest == Match::Named {
            break;
        }
    }
    strongest
}

#[cfg(all(test, not(buttress_loom)))]
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

    fn answered(status: u16) -> Outcome<'static> {
        let judged = if status < 500 {
            Outcome::success()
        } else {
            Outcome::failure()
        };
        judged.with_status(status)
    }

    #[test]
    fn a_negation_in_a_list_turns_no_success_and_no_refusal_into_anything_else() {
        use self::{Advice::Retry, Advice::Stop, Verdict::Failure, Verdict::Ignored, Verdict::Success};
        let refusal = tower::BoxError::from(Rejected::new("x", Reason::ForcedOpen));
        let io_error = tower::BoxError::from(io::Error::other("x"));
        let other_error = tower::BoxError::from(fmt::Error);
        let [refusal, io_error, other_error] = [&refusal, &io_error, &other_error].map(Outcome::of_error);
        let not_io = || !Predicate::error::<io::Error>();
        for (rules, io, other) in [
            (Rules::new().record(not_io()), (Success, Retry), (Failure, Retry)),
            (Rules::new().ignore(not_io()), (Failure, Retry), (Ignored, Retry)),
            (Rules::new().retry(not_io()), (Failure, Stop), (Failure, Retry)),
            (Rules::new().stop(not_io()), (Failure, Retry), (Failure, Stop)),
        ] {
            for (outcome, expected) in [
                (answered(200), (Success, Stop)),
                (refusal, (Ignored, Stop)),
                (io_error, io),
                (other_error, other),
                (answered(503), other),
            ] {
                let refined = rules.refine(&outcome);
                assert_eq!(
                    (refined.verdict(), refined.advice()),
                    expected,
                    "{rules:?} {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn what_a_predicate_says_of_itself_turns_a_success_also_beside_a_negation() {
        let client_error = || Predicate::status(400..=499);
        let not_found = || Predicate::status(404..=404);
        let twice_negated = !!client_error();
        // 4xx without 404, in four ways to say so.
        for predicate in [
            client_error().and(!not_found()),
            (!not_found()).and(client_error()),
            !((!client_error()).or(not_found())),
            twice_negated.and(!not_found()),
        ] {
            let rules = Rules::new().record(predicate.clone()).retry(predicate);
            for (status, matches) in [(403, true), (404, false), (200, false)] {
                let refined = rules.refine(&answered(status));
                let (verdict, advice) = if matches {
                    (Verdict::Failure, Advice::Retry)
                } else {
                    (Verdict::Success, Advice::Stop)
                };
                assert_eq!(
                    (refined.verdict(), refined.advice()),
                    (verdict, advice),
                    "{status}"
                );
            }
        }
        // Either of two: one of them says so itself.
        let rules = Rules::new().record((!Predicate::any_error()).or(not_found()));
        assert_eq!(rules.refine(&answered(404)).verdict(), Verdict::Failure);
        assert_eq!(rules.refine(&answered(200)).verdict(), Verdict::Success);
    }

    #[test]
    fn a_negation_leaves_a_hint_of_the_server() {
        let hint = Advice::RetryAfter(std::time::Duration::from_secs(7));
        let rules = Rules::new().retry(!Predicate::status(501..=501));
        assert_eq!(rules.refine(&answered(503).with_advice(hint)).advice(), hint);
        assert_eq!(
            rules.refine(&answered(501).with_advice(hint)).advice(),
            Advice::Stop
        );
    }

    proptest::proptest! {
        /// Whatever it is made of, a predicate by itself answers as the words say.
        #[test]
        fn a_predicate_answers_as_its_boolean_formula(formula in formula()) {
            for status in [200, 404, 503] {
                let predicate = formula.predicate();
                let holds = formula.holds(status);
                proptest::prop_assert_eq!(predicate.test(&answered(status)), holds);
                proptest::prop_assert_eq!((!predicate).test(&answered(status)), !holds);
                // And a double negation is none, in a list too.
                let recorded = |predicate: Predicate| {
                    Rules::new().record(predicate).refine(&answered(status)).verdict()
                };
                proptest::prop_assert_eq!(recorded(formula.predicate()), recorded(!!formula.predicate()));
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Formula {
        Status(u16),
        Not(Box<Formula>),
        And(Box<(Formula, Formula)>),
        Or(Box<(Formula, Formula)>),
    }

    impl Formula {
        fn predicate(&self) -> Predicate {
            match self {
                Self::Status(status) => Predicate::status(*status..=*status),
                Self::Not(not) => !not.predicate(),
                Self::And(both) => both.0.predicate().and(both.1.predicate()),
                Self::Or(either) => either.0.predicate().or(either.1.predicate()),
            }
        }

        fn holds(&self, status: u16) -> bool {
            match self {
                Self::Status(own) => *own == status,
                Self::Not(not) => !not.holds(status),
                Self::And(both) => both.0.holds(status) && both.1.holds(status),
                Self::Or(either) => either.0.holds(status) || either.1.holds(status),
            }
        }
    }

    fn formula() -> impl proptest::strategy::Strategy<Value = Formula> {
        use proptest::prelude::*;
        let status = prop_oneof![Just(200), Just(404), Just(503)].prop_map(Formula::Status);
        status.prop_recursive(4, 16, 2, |inner| {
            let two = (inner.clone(), inner.clone());
            prop_oneof![
                inner.prop_map(|not| Formula::Not(Box::new(not))),
                two.clone().prop_map(|both| Formula::And(Box::new(both))),
                two.prop_map(|either| Formula::Or(Box::new(either))),
            ]
        })
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
