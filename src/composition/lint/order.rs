//! What follows from the order alone.

use super::view::View;
use crate::composition::settings::Issue;

pub(super) fn check(view: &View<'_>, issues: &mut Vec<Issue>) {
    if let Some(retry) = view.retry() {
        let nested = view
            .inner()
            .find_map(|inner| Some((inner, inner.retry()?)))
            .filter(|(_, inner)| inner.max_attempts > 1 && retry.max_attempts > 1);
        if let Some((inner, nested)) = nested {
            let (outer, inside) = (retry.max_attempts, nested.max_attempts);
            let product = u64::from(outer) * u64::from(inside);
            issues.push(view.warning(
                "",
                format!(
                    "each of its {outer} attempts is up to {inside} attempts of `{}`, a retry inside of it: {product} \
                     together",
                    inner.name()
                ),
            ));
        }
        if retry.max_attempts == 1 {
            issues.push(view.note("max_attempts", "1 attempt is no retry").with_value("1"));
        }
    }
    if view.breaker().is_some() {
        if let Some(retry) = view.inner().find(retries) {
            issues.push(view.note(
                "",
                format!(
                    "it lies outside of `{}`, so it sees calls and not attempts: a call that a retry saved is a success",
                    retry.name()
                ),
            ));
        }
        if let Some(retry) = view.outer().find(retries) {
            issues.push(view.note(
                "",
                format!("it lies inside of `{}`, so it sees every attempt", retry.name()),
            ));
        }
    }
}

/// Whether it is a retry that makes more than one attempt.
fn retries(view: &View<'_>) -> bool {
    view.retry().is_some_and(|retry| retry.max_attempts > 1)
}
