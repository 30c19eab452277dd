//! Reads one table into its settings and tells everything that is wrong with it.
//!
//! Derived serde stops at the first error. So what is wrong is told, taken out of the tree, so that its default holds,
//! and the rest is read again, until it reads. An error that only follows from what was taken out is not told.

use super::{
    de::Read,
    report::{Report, Spot},
    tree::{Node, Value},
};
use crate::vocabulary::settings::ConfigError;

/// What a table says, and the paths of what was taken out of it.
pub(crate) struct Reading<T> {
    /// `None` where it cannot be told at all.
    pub(crate) config: Option<T>,
    pub(crate) taken_out: Vec<Vec<String>>,
}

/// Checks that compare a field with others. What is told of it while one of these is wrong says nothing.
const COMPARED: [(&str, &[&str]); 6] = [
    ("open.max", &["open.wait"]),
    ("backoff.max", &["backoff.initial", "backoff.base"]),
    ("window.time", &["window.bucket"]),
    ("budget.min_per_second", &["budget.ratio"]),
    ("budget.ratio", &["budget.min_per_second"]),
    ("failure_rate", &["slow_call", "consecutive_failures"]),
];

/// Fields that have a second name in files.
const SECOND_NAMES: [(&str, &str); 1] = [("half_open.max_stay", "half_open.max")];

/// Reads the table at `spot`.
pub(crate) fn read_all<T>(
    spot: Spot<'_>,
    node: &Node,
    report: &mut Report,
    read: impl Fn(&Node) -> Read<T>,
    check: impl Fn(&T) -> Result<(), ConfigError>,
) -> Reading<T> {
    let mut node = node.clone();
    let mut taken_out: Vec<Vec<String>> = Vec::new();
    loop {
        let Read { result, unknown } = read(&node);
        // Those that an earlier reading came upon are told already.
        let mut misspelled = Vec::new();
        for key in unknown {
            let keys = key.path.unwrap_or_default();
            report.add_in(&spot, spot.key_issue(&node, &keys, key.message));
            misspelled.push(keys);
        }
        let (keys, told) = match result.map(|config| (check(&config), config)) {
            Ok((Ok(()), config)) => {
                return Reading {
                    config: Some(config),
                    taken_out,
                };
            }
            Ok((Err(error), _)) => {
                let keys = as_written(&node, error.field());
                let follows = COMPARED
                    .iter()
                    .filter(|(field, _)| *field == error.field())
                    .flat_map(|(_, others)| others.iter())
                    .any(|other| taken_out.iter().any(|keys| is_within(&keys.join("."), other)));
                let issue = spot.issue(&node, &keys, error.accepted().to_owned());
                (keys, (!follows).then_some(issue))
            }
            Err(error) => {
                let keys = error.path.unwrap_or_default();
                let is_below = |taken: &Vec<String>| taken.len() > keys.len() && taken.starts_with(&keys);
                // Who misspelled a key did not leave it out.
                let follows = taken_out.iter().chain(&misspelled).any(is_below);
                let issue = spot.issue(&node, &keys, error.message);
                // What stands in for a missing key stands where it would.
                let mut keys = keys;
                keys.extend(
                    error
                        .missing
                        .filter(|key| stand_in(key).is_some())
                        .map(str::to_owned),
                );
                (keys, (!follows).then_some(issue))
            }
        };
        if let Some(issue) = told {
            report.add_in(&spot, issue);
        }
        if report.is_full() || !take_out(&mut node, &keys) {
            return Reading {
                config: None,
                taken_out,
            };
        }
        taken_out.push(keys);
    }
}

fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The keys of a field, by the name that the file has for it.
fn as_written(node: &Node, field: &str) -> Vec<String> {
    let stands = |name: &&str| node.at(name.split('.')).is_some();
    let second = SECOND_NAMES
        .iter()
        .filter(|(first, _)| *first == field)
        .map(|(_, second)| *second)
        .find(stands);
    let name = Some(field).filter(stands).or(second).unwrap_or(field);
    name.split('.').map(str::to_owned).collect()
}

/// Keys that have no default and stand in one kind of table only, with a value that is accepted there.
const REQUIRED: [(&str, &str); 2] = [("longer_than", "1s"), ("rate", "100%")];

fn stand_in(key: &str) -> Option<Value> {
    let required = REQUIRED.iter().find(|(required, _)| *required == key);
    required.map(|(_, text)| Value::String((*text).to_owned()))
}

/// Takes a value out, or puts an accepted one in where there must be one; false where there is none. In a list it leaves
/// an empty text, so that the others keep their numbers.
fn take_out(node: &mut Node, keys: &[String]) -> bool {
    let Some((last, above)) = keys.split_last() else {
        return false;
    };
    let mut node = node;
    for key in above {
        let below = match &mut node.value {
            Value::Table(table) => table.get_mut(key),
            Value::List(values) => key.parse().ok().and_then(|at: usize| values.get_mut(at)),
            _ => None,
        };
        match below {
            Some(below) => node = below,
            None => return false,
        }
    }
    let place = node.place.clone();
    match &mut node.value {
        Value::Table(table) => match stand_in(last) {
            Some(value) => {
                table.insert(last.as_str(), place.clone(), Node::new(value, place));
                true
            }
            None => table.remove(last).is_some(),
        },
        Value::List(values) => match last.parse().ok().and_then(|at: usize| values.get_mut(at)) {
            Some(element) => {
                element.value = Value::String(String::new());
                true
            }
            None => false,
        },
        _ => false,
    }
}
