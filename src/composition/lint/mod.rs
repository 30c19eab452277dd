//! What a stack can cost at worst, and which of its orders and values defeat themselves.
//!
//! | file | subject |
//! |---|---|
//! | `worst.rs` | the longest wait and the most calls, stage by stage |
//! | `view.rs` | what a stage has around it and inside of it |
//! | `timing.rs` | timeouts, retries and queues that do not fit into each other |
//! | `breaker.rs` | circuit breakers that never judge, or judge too early |
//! | `order.rs` | what follows from the order alone |
//! | `names.rs` | lists of predicates that cancel each other out |

mod breaker;
mod names;
mod order;
mod timing;
mod view;
mod worst;

use std::{collections::BTreeMap, time::Duration};

pub use self::worst::WorstCase;
use self::{view::View, worst::worst_cases};
use crate::composition::settings::{Issue, Origin, Place, Settings, Severity, StackConfig, path};

/// What a stack costs at worst, and what there is to say about its order and values.
///
/// ```
/// use buttress::{RetryConfig, StackConfig, TimeoutConfig};
/// use std::time::Duration;
///
/// let stack = StackConfig::new()
///     .stage("total", TimeoutConfig::new(Duration::from_secs(3)))
///     .stage("retry", RetryConfig::new().max_attempts(3))
///     .stage("timeout", TimeoutConfig::new(Duration::from_secs(2)));
/// let report = stack.lint();
/// assert_eq!(report.worst_wait, Some(Duration::from_secs(3)));
/// assert_eq!(report.worst_calls, 3);
/// assert_eq!(
///     report.warnings().next().expect("three times two seconds are more than three").message,
///     "of 3 attempts only 1 fits into `total` (3s), when each of them takes 2s"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LintReport {
    /// The longest that a caller can wait for a result, from the call on. `None`: without a limit; `why` says why.
    ///
    /// It does not count how long the service takes to become ready, nor the body of a response, nor a limit that a
    /// single request brings along.
    pub worst_wait: Option<Duration>,
    /// The most calls that one call can make of the service. Budgets do not change it: they limit many calls together.
    pub worst_calls: u64,
    /// How the longest wait comes about, in words.
    pub why: String,
    /// The same for each stage, outermost first: what a call that has come as far as this stage costs from there on.
    pub stages: Vec<WorstCase>,
    /// Notes and warnings, with the outermost stage that they are about first. Their paths begin with the stage's name.
    pub issues: Vec<Issue>,
}

impl LintReport {
    /// What is likely to be a mistake, or has no effect.
    pub fn warnings(&self) -> impl Iterator<Item = &Issue> {
        self.issues
            .iter()
            .filter(|issue| issue.severity >= Severity::Warning)
    }
}

impl Settings {
    /// The same for each stack, by name. The paths of what is said begin with `stacks.` and the stack's name, and it has
    /// its place in the source where that is known.
    pub fn lint(&self) -> BTreeMap<String, LintReport> {
        let stacks = self.stacks.iter().map(|(name, stack)| {
            let mut report = stack.lint();
            let stack = path(["stacks", name]);
            for issue in &mut report.issues {
                issue.path = match issue.path.as_str() {
                    "" => stack.clone(),
                    within => format!("{stack}.{within}"),
                };
                issue.place = self.place_of(&issue.path);
            }
            (name.clone(), report)
        });
        stacks.collect()
    }

    /// Where a setting was written, or the first of those below it.
    fn place_of(&self, path: &str) -> Option<Place> {
        let place = |origin: &Origin| match origin {
            Origin::Written(place) | Origin::Defaults(place) | Origin::Extends { place, .. } => {
                Some(place.clone())
            }
            Origin::BuiltIn => None,
        };
        self.origins.get(path).and_then(place).or_else(|| {
            let below = format!("{path}.");
            let origins = self.origins.range(below.clone()..);
            origins
                .take_while(|(path, _)| path.starts_with(&below))
                .filter_map(|(_, origin)| place(origin))
                .min_by_key(|place| place.line_column.unwrap_or((u32::MAX, 0)))
        })
    }
}

impl StackConfig {
    /// Says what this stack costs at worst, and warns of orders and values that defeat themselves.
    ///
    /// Values that a policy cannot be built with are not its subject: building says so.
    pub fn lint(&self) -> LintReport {
        let (stages, why) = worst_cases(&self.stages);
        let mut issues = Vec::new();
        if self.stages.is_empty() {
            issues.push(Issue::warning("", "it has no stage, so that it guards nothing"));
        }
        for at in 0..self.stages.len() {
            let view = View::new(&self.stages, at);
            order::check(&view, &mut issues);
            timing::check(&view, &mut issues);
            breaker::check(&view, self.keyed.as_ref(), &mut issues);
            names::check(&view, &mut issues);
        }
        LintReport {
            worst_wait: stages.first().and_then(|worst| worst.wait),
            worst_calls: stages.first().map_or(1, |worst| worst.calls),
            why,
            stages,
            issues,
        }
    }
}
