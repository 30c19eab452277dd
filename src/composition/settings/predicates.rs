//! The names by which settings call predicates.

use std::{collections::BTreeMap, fmt, io};

use crate::vocabulary::{
    predicate::{Predicate, Rules},
    rejected::RejectedKind,
    status::StatusSet,
};

/// Predicates by name: those that are built in, and those that a program registers.
///
/// Settings hold names, because a file cannot hold closures. A set of statuses (`5xx`, `502..504`, `429`) is a name of
/// itself.
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

impl Default for Predicates {
    fn default() -> Self {
        let kinds = |kinds: &'static [io::ErrorKind]| {
            Predicate::error_if(move |error: &io::Error| kinds.contains(&error.kind()))
        };
        let timeout = kinds(&[io::ErrorKind::TimedOut]).or(Predicate::rejected(RejectedKind::TimedOut));
        Self(BTreeMap::new())
            .with("error", Predicate::any_error())
            .with("io", Predicate::error::<io::Error>())
            .with("timeout", timeout)
            .with("connect", kinds(&[io::ErrorKind::ConnectionRefused]))
            .with("reset", kinds(&[io::ErrorKind::ConnectionReset]))
    }
}

impl Predicates {
    /// Those that are built in.
    pub fn new() -> Self {
        Self::default()
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
            UnknownName {
                name: name.to_owned(),
                accepted: format!("accepted: {}, or statuses such as 5xx", known.join(", ")),
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
