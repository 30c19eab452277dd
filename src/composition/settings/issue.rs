//! What is wrong or noteworthy about settings, and where it stands.

use std::{fmt, sync::Arc};

use crate::vocabulary::settings::ConfigError;

/// Everything that is wrong with the settings of a program: all of it, not the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Issue>);

/// One thing that is wrong with settings, or noteworthy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issue {
    /// How grave it is.
    pub severity: Severity,
    /// Where it stands, where that is known.
    pub place: Option<Place>,
    /// The path of the key: `stacks.payments.timeout`. Empty for the whole.
    pub path: String,
    /// The value that it is about, as it was written.
    pub value: Option<String>,
    /// What is wrong with it, and what is accepted.
    pub message: String,
}

/// A place in a source of settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, or what else it is: an environment variable.
    pub source: Arc<str>,
    /// Line and column, both counted from 1, the column in characters; `None` where there are no lines.
    pub line_column: Option<(u32, u32)>,
}

/// How grave an [`Issue`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It is likely to be a mistake, or has no effect.
    Warning,
    /// The settings cannot be used.
    Error,
}

impl ConfigErrors {
    /// These errors.
    pub fn new(issues: Vec<Issue>) -> Self {
        Self(issues)
    }

    /// All that is wrong, in the order of the source.
    pub fn issues(&self) -> &[Issue] {
        &self.0
    }
}

impl Issue {
    /// An error at that key.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of(Severity::Error, path, message)
    }

    /// A warning about that key.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of(Severity::Warning, path, message)
    }

    /// A note about that key.
    pub fn note(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of(Severity::Note, path, message)
    }

    fn of(severity: Severity, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity,
            place: None,
            path: path.into(),
            value: None,
            message: message.into(),
        }
    }

    /// An error about a setting of the policy at `path`.
    pub(crate) fn of_setting(path: &str, error: &ConfigError) -> Self {
        Self::error(format!("{path}.{}", error.field()), error.accepted()).with_value(error.value())
    }

    /// Says where it stands.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    /// Says what was written there.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }
}

impl From<ConfigError> for Issue {
    fn from(error: ConfigError) -> Self {
        Self::error(error.field(), error.accepted()).with_value(error.value())
    }
}

impl From<Issue> for ConfigErrors {
    fn from(issue: Issue) -> Self {
        Self(vec![issue])
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match self.line_column {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Issue {
    /// `stacks.toml:4:11: stacks.payments.timeout = 5: a duration needs a unit, such as "5s"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        match self.severity {
            Severity::Error => {}
            Severity::Warning => f.write_str("warning: ")?,
            Severity::Note => f.write_str("note: ")?,
        }
        if !self.path.is_empty() {
            f.write_str(&self.path)?;
            if let Some(value) = &self.value {
                write!(f, " = {value}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// One line for each.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, issue) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            issue.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
