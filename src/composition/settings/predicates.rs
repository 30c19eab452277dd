//! The names by which settings call predicates.

use std::{collections::BTreeMap, error::Error as StdError, fmt, io};

use crate::vocabulary::{
    error::causes,
    nearest::suggestion,
    outcome::{Outcome, Verdict},
    predicate::{Predicate, Rules},
    rejected::{Reason, RejectedKind},
    status::StatusSet,
};

/// Predicates by name: those that are built in, and those that a program registers.
///
/// Settings hold names, because a file cannot hold closures. A set of statuses (`5xx`, `502..504`, `429`) is a name of
/// itself. Built in are:
///
/// | name | matches |
/// |---|---|
/// | `error` | any error |
/// | `failure` | what counts as a failure anyway: any error but a refusal of this crate, and what an exchange says |
/// | `io` | an [`io::Error`], anywhere in the chain of sources, as for all of these |
/// | `timeout` | a timeout of this crate, Tokio's or the system's; with feature `reqwest` that client's too |
/// | `connect` | the connection was never made: refused, unreachable, no such name; what reqwest says of it |
/// | `dns` | a name that was not resolved, which is known by the text of the error |
/// | `reset` | the connection was reset, aborted or closed while it was written to |
/// | `body` | a body that stood still for too long; with feature `reqwest` any error within one |
/// | `circuit_open`, `bulkhead_full` | refused by a circuit breaker, by a bulkhead, of this crate |
#[derive(Clone)]
pub struct Predicates(BTreeMap<String, Predicate>);

/// A name that is neither built in nor registered, nor a set of statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{accepted}")]
pub struct UnknownName {
    /// The name.
    pub name: String,
    /// What is known, the nearest first.
    pub accepted: String,
}

impl Predicates {
    /// Those that are built in; see the [type](Predicates).
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that need no edge.
    pub(crate) fn of_any_call() -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
            NetworkUnreachable, TimedOut,
        };
        let kinds = |kinds: &'static [io::ErrorKind]| {
            Predicate::error_if(move |error: &io::Error| kinds.contains(&error.kind()))
        };
        let rejected = Predicate::rejected;
        let timeout = kinds(&[TimedOut])
            .or(Predicate::error::<tokio::time::error::Elapsed>())
            .or(rejected(RejectedKind::TimedOut));
        let unreachable = kinds(&[ConnectionRefused, HostUnreachable, NetworkUnreachable]);
        let body = Predicate::new(|outcome| {
            outcome
                .rejected()
                .is_some_and(|rejected| matches!(rejected.reason(), Reason::BodyIdle { .. }))
        });
        Self(BTreeMap::new())
            .with("error", Predicate::any_error())
            .with(
                "failure",
                Predicate::new(|outcome| outcome.verdict() == Verdict::Failure),
            )
            .with("io", Predicate::error::<io::Error>())
            .with("timeout", timeout)
            .with("dns", Predicate::new(is_unresolved))
            .with("connect", unreachable.or(Predicate::new(is_unresolved)))
            .with("reset", kinds(&[ConnectionReset, ConnectionAborted, BrokenPipe]))
            .with("body", body)
            .with("circuit_open", rejected(RejectedKind::CircuitOpen))
            .with("bulkhead_full", rejected(RejectedKind::BulkheadFull))
    }

    /// Registers a predicate under a name, in place of what the name meant before.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, predicate: Predicate) -> Self {
        self.0.insert(name.into(), predicate);
        self
    }

    /// Lets a name also mean this predicate.
    #[must_use]
    pub fn also(mut self, name: &str, predicate: Predicate) -> Self {
        let predicate = match self.0.remove(name) {
            Some(known) => known.or(predicate),
            None => predicate,
        };
        self.with(name, predicate)
    }

    /// The names that are known, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The predicate of that name.
    ///
    /// # Errors
    ///
    /// A name that is not known; the error lists those that are.
    pub fn resolve(&self, name: &str) -> Result<Predicate, UnknownName> {
        if let Some(predicate) = self.0.get(name) {
            return Ok(predicate.clone());
        }
        name.parse::<StatusSet>().map(Predicate::status_in).map_err(|_| {
            let known: Vec<&str> = self.names().collect();
            let suggestion = suggestion(name, known.iter().copied());
            UnknownName {
                name: name.to_owned(),
                accepted: format!(
                    "unknown name; {suggestion}accepted: {}, or statuses such as 5xx, 502..504",
                    known.join(", ")
                ),
            }
        })
    }

    /// The rules that these names stand for, `None` where there are none.
    ///
    /// # Errors
    ///
    /// The first name that is not known.
    pub fn rules(
        &self,
        record: &[String],
        ignore: &[String],
        retry: &[String],
        stop: &[String],
    ) -> Result<Option<Rules>, UnknownName> {
        let mut rules = Rules::new();
        let mut any = false;
        let mut add = |names: &[String], add: fn(Rules, Predicate) -> Rules| {
            for name in names {
                any = true;
                rules = add(std::mem::take(&mut rules), self.resolve(name)?);
            }
            Ok(())
        };
        add(record, Rules::record)?;
        add(ignore, Rules::ignore)?;
        add(retry, Rules::retry)?;
        add(stop, Rules::stop)?;
        Ok(any.then_some(rules))
    }
}

impl fmt::Debug for Predicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// A name that was not resolved. No type tells it: the standard library and hyper have only words for it.
fn is_unresolved(outcome: &Outcome<'_>) -> bool {
    fn says_so(error: &(dyn StdError + 'static)) -> bool {
        // Windows has a number for it (WSAHOST_NOT_FOUND), and words in its own language.
        let number = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        if cfg!(windows) && number == Some(11_001) {
            return true;
        }
        let words = error.to_string();
        words == "dns error" || words.starts_with("failed to lookup address information")
    }
    outcome.error().is_some_and(|error| causes(error).any(says_so))
}
