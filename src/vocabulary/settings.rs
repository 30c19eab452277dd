//! What is wrong with a setting.

use std::fmt;

/// A setting that a policy cannot be built with: which, what it was, and what is accepted.
///
/// Nothing is clamped silently: building (and reconfiguring) refuses, and the policy stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {field} = {value}: {accepted}")]
pub struct ConfigError {
    subject: String,
    field: &'static str,
    value: String,
    accepted: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, value: impl fmt::Display, accepted: impl Into<String>) -> Self {
        Self {
            subject: String::new(),
            field,
            value: value.to_string(),
            accepted: accepted.into(),
        }
    }

    /// Says which policy it is about, e.g. ``circuit breaker `payments` ``.
    pub(crate) fn of(self, kind: impl fmt::Display, name: &str) -> Self {
        self.about(format!("{kind} `{name}`"))
    }

    /// Says what it is about, where that has no name.
    pub(crate) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// The field, as it is called in the settings: `failure_rate`, `open.wait`.
    pub fn field(&self) -> &str {
        self.field
    }

    /// The value that was refused.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What would have been accepted, and often the remedy.
    pub fn accepted(&self) -> &str {
        &self.accepted
    }
}

/// Refuses names of predicates where nobody knows what they mean.
pub(crate) fn refuse_names(lists: &[(&'static str, &[String])]) -> Result<(), ConfigError> {
    match lists.iter().find(|(_, names)| !names.is_empty()) {
        None => Ok(()),
        Some((field, names)) => Err(ConfigError::new(
            field,
            format_args!("{names:?}"),
            "only a registry knows what names mean; give predicates to the layer instead",
        )),
    }
}
