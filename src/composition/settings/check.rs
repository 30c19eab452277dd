//! What is wrong with settings whose values are all of the right kind.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{ConfigErrors, Issue, KeyedBy, PolicyConfig, Predicates, Settings, StackConfig, StageConfig};
use crate::{drivers::stack::LONGEST, vocabulary::settings::ConfigError};

/// What names of stacks and stages look like: `stack/stage` names a policy, and shows in metrics.
const NAMES: &str =
    "accepted as a name: 1 to 100 characters without `/`, blanks at an end and control characters";

/// What is wrong with the name of a stack or a stage.
pub(crate) fn refuse_name(name: &str) -> Option<&'static str> {
    let accepted = (1..=100).contains(&name.chars().count())
        && name.trim() == name
        && !name.contains(|character: char| character == '/' || character.is_control());
    (!accepted).then_some(NAMES)
}

/// A path of keys as one text, as TOML writes dotted keys: `stacks."my stack".retry`.
pub(crate) fn path<'k>(keys: impl IntoIterator<Item = &'k str>) -> String {
    let mut path = String::new();
    for key in keys {
        if !path.is_empty() {
            path.push('.');
        }
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !key.is_empty() && key.bytes().all(bare) {
            path.push_str(key);
        } else {
            // A string takes everything.
            let _ = write!(path, "{key:?}");
        }
    }
    path
}

/// Which names stacks and stages may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Those that a file can hold.
    AsInFiles,
    /// Any: a program says what it likes.
    Any,
}

impl Names {
    fn refuse(self, name: &str) -> Option<&'static str> {
        match self {
            Self::AsInFiles => refuse_name(name),
            Self::Any => None,
        }
    }
}

impl Settings {
    /// Whether stacks can be made of these settings: names, values and names of predicates.
    ///
    /// # Errors
    ///
    /// What is wrong, at most one value of each stage and every name of a predicate.
    pub fn check(&self, predicates: &Predicates) -> Result<(), ConfigErrors> {
        let issues = self.issues(predicates, Names::AsInFiles);
        if issues.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors::new(issues))
        }
    }

    /// All that is wrong, in the order of the stacks and stages.
    pub(crate) fn issues(&self, predicates: &Predicates, names: Names) -> Vec<Issue> {
        let mut issues = Vec::new();
        for (name, stack) in &self.stacks {
            if let Some(accepted) = names.refuse(name) {
                issues.push(Issue::error(path(["stacks", name]), accepted));
            }
            stack.check(name, predicates, names, &mut issues);
        }
        issues
    }
}

impl StackConfig {
    fn check(&self, stack: &str, predicates: &Predicates, names: Names, issues: &mut Vec<Issue>) {
        let stages = self.stages.len();
        if stages > LONGEST {
            issues.push(Issue::error(
                path(["stacks", stack]),
                format!("{stages} stages; accepted: at most {LONGEST}"),
            ));
        }
        let mut seen = BTreeSet::new();
        for StageConfig { name, policy } in &self.stages {
            let at = path(["stacks", stack, name]);
            if let Some(accepted) = names.refuse(name) {
                issues.push(Issue::error(at.clone(), accepted));
            }
            if !seen.insert(name) {
                issues.push(Issue::error(at.clone(), "another stage has this name"));
            }
            if let Err(error) = policy.check() {
                issues.push(about(&at, error));
            }
            for (list, predicate_names) in policy.names() {
                for unknown in predicate_names
                    .iter()
                    .filter_map(|name| predicates.resolve(name).err())
                {
                    let issue = Issue::error(format!("{at}.{list}"), unknown.accepted);
                    issues.push(issue.with_value(format!("{:?}", unknown.name)));
                }
            }
        }
        if let Some(KeyedBy { per, config }) = &self.keyed {
            let at = path(["stacks", stack]);
            if names == Names::AsInFiles && per.is_empty() {
                issues.push(Issue::error(
                    format!("{at}.per"),
                    "accepted: what a key is, such as \"authority\"",
                ));
            }
            if let Err(error) = config.checked() {
                issues.push(about(&at, error));
            }
        }
    }
}

fn about(path: &str, error: ConfigError) -> Issue {
    let mut issue = Issue::from(error);
    issue.path = format!("{path}.{}", issue.path);
    issue
}

impl PolicyConfig {
    /// Whether a policy can be built with these values.
    ///
    /// # Errors
    ///
    /// A setting out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::CircuitBreaker(config) => config.check_values(),
            Self::Retry(config) => config.check_values(),
            Self::Timeout(config) => config.check_values(),
            Self::Bulkhead(config) => config.check_values(),
        }
    }

    /// The lists of names of predicates, by their fields.
    pub(crate) fn names(&self) -> Vec<(&'static str, &[String])> {
        match self {
            Self::CircuitBreaker(config) => vec![("record", &config.record), ("ignore", &config.ignore)],
            Self::Retry(config) => vec![("on", &config.on), ("never_on", &config.never_on)],
            Self::Timeout(_) | Self::Bulkhead(_) => Vec::new(),
        }
    }
}
