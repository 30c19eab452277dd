//! What there is to say about a file.

use std::collections::HashSet;

use crate::composition::settings::{Issue, Place, Severity};

/// What is said at most of one file.
const MOST: usize = 1000;

/// Issues as they are found.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Whether keys without a counterpart are only warned of.
    lenient: bool,
    issues: Vec<Issue>,
    said: HashSet<(Option<Place>, String, String)>,
}

impl Report {
    pub(super) fn new(lenient: bool) -> Self {
        Self {
            lenient,
            ..Self::default()
        }
    }

    /// Says something, once.
    pub(super) fn say(&mut self, issue: Issue) {
        let key = (issue.place.clone(), issue.path.clone(), issue.message.clone());
        if self.issues.len() < MOST && self.said.insert(key) {
            self.issues.push(issue);
            if self.issues.len() == MOST {
                let message = format!("there are more than {MOST} things to say; what follows is not said");
                self.issues.push(Issue::error("", message));
            }
        }
    }

    pub(super) fn say_all(&mut self, issues: Vec<Issue>) {
        for issue in issues {
            self.say(issue);
        }
    }

    /// Something that resilience4j has and this library has not.
    pub(super) fn no_counterpart(&mut self, mut issue: Issue) {
        issue.severity = if self.lenient {
            Severity::Warning
        } else {
            Severity::Error
        };
        self.say(issue);
    }

    /// Whether nothing more is said.
    pub(super) fn is_full(&self) -> bool {
        self.issues.len() > MOST
    }

    pub(super) fn has_errors(&self) -> bool {
        self.issues.iter().any(|issue| issue.severity == Severity::Error)
    }

    /// The notes and warnings, or the errors where there are any; in the order of the source.
    pub(super) fn end(self) -> Result<Vec<Issue>, Vec<Issue>> {
        let (mut errors, mut notes): (Vec<Issue>, Vec<Issue>) = self
            .issues
            .into_iter()
            .partition(|issue| issue.severity == Severity::Error);
        // What stands nowhere comes last.
        let order = |issue: &Issue| {
            let place = issue.place.as_ref();
            place.and_then(|place| place.line_column).unwrap_or((u32::MAX, 0))
        };
        errors.sort_by_key(order);
        notes.sort_by_key(order);
        if errors.is_empty() { Ok(notes) } else { Err(errors) }
    }
}
