//! Lists of predicates that cancel each other out.

use super::view::View;
use crate::{composition::settings::Issue, vocabulary::status::StatusSet};

pub(super) fn check(view: &View<'_>, issues: &mut Vec<Issue>) {
    let (field, names, winner, winners) = match (view.breaker(), view.retry()) {
        (Some(breaker), _) => ("record", &breaker.record, "ignore", &breaker.ignore),
        (_, Some(retry)) => ("on", &retry.on, "never_on", &retry.never_on),
        _ => return,
    };
    for name in names {
        if let Some(covering) = winners.iter().find(|other| covers(other, name)) {
            issues.push(
                view.warning(
                    field,
                    format!("it has no effect: {winner} has `{covering}`, and wins"),
                )
                .with_value(name),
            );
        }
    }
}

/// Whether whatever matches `name` matches `other`, as far as the names tell.
fn covers(other: &str, name: &str) -> bool {
    if other == name {
        return true;
    }
    match (other.parse::<StatusSet>(), name.parse::<StatusSet>()) {
        (Ok(other), Ok(name)) => name.iter().all(|status| other.contains(status)),
        _ => false,
    }
}
