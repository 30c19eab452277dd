//! Circuit breakers that never judge, or judge too early.

use std::time::Duration;

use super::view::View;
use crate::{
    composition::settings::{Issue, KeyedBy},
    policies::circuit_breaker::{CircuitBreakerConfig, StayEnd, WindowConfig},
    vocabulary::status::StatusSet,
};

pub(super) fn check(view: &View<'_>, keyed: Option<&KeyedBy>, issues: &mut Vec<Issue>) {
    let Some(breaker) = view.breaker() else {
        return;
    };
    match breaker.window {
        WindowConfig::Calls(calls) => check_calls(view, breaker, calls, issues),
        WindowConfig::Time { duration, .. } => {
            issues.extend(check_time(view, breaker, duration));
            if let Some(idle) = keyed.and_then(|keyed| keyed.config.idle)
                && idle < duration
            {
                issues.push(view.warning(
                    "window.time",
                    format!(
                        "a key that is idle for {idle:?} is forgotten, and what its window of {duration:?} holds with it"
                    ),
                ));
            }
        }
    }
    check_slow_calls(view, breaker, issues);
    issues.extend(check_record(view, breaker));
    check_half_open(view, breaker, issues);
}

fn check_calls(view: &View<'_>, breaker: &CircuitBreakerConfig, calls: u32, issues: &mut Vec<Issue>) {
    let minimum = breaker.minimum_calls;
    if minimum > calls {
        issues.push(
            view.note(
                "minimum_calls",
                format!("the window holds {calls} calls, so {calls} is used"),
            )
            .with_value(minimum.to_string()),
        );
    }
    if let Some(failures) = breaker.consecutive_failures
        && breaker.failure_rate.is_some()
        && failures >= calls
    {
        issues.push(
            view.warning(
                "consecutive_failures",
                format!("it has no effect: so many failures fill the window of {calls} calls, and the failure rate opens"),
            )
            .with_value(failures.to_string()),
        );
    }
}

/// A time window that calls which hang never fill.
fn check_time(view: &View<'_>, breaker: &CircuitBreakerConfig, window: Duration) -> Option<Issue> {
    let hang = view.hang()?;
    if window < hang {
        return Some(
            view.warning(
                "window.time",
                format!(
                    "a call that hangs takes {hang:?}, longer than the window: what one caller sees is forgotten before its \
                     next result"
                ),
            )
            .with_value(format!("{window:?}")),
        );
    }
    if breaker.consecutive_failures.is_some() || breaker.minimum_calls == 1 {
        return None;
    }
    // A retry between the two holds no slot while it waits, so that a bulkhead beyond it does not bound the calls.
    let inside = view.inner().take_while(|inner| inner.retry().is_none());
    let narrowest = view
        .outer()
        .chain(inside)
        .filter_map(|other| Some((other.bulkhead()?.max_concurrent, other.name())))
        .min()?;
    let (slots, name) = narrowest;
    // Each slot ends one more call than fit into the window, where one ends right at its beginning.
    let each = u64::try_from(window.as_nanos() / hang.as_nanos().max(1))
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let most = each.saturating_mul(u64::from(slots));
    (most < u64::from(breaker.minimum_calls)).then(|| {
        view.warning(
            "minimum_calls",
            format!(
                "calls that hang never open it: `{name}` lets {slots} in, each takes {hang:?}, so that at most {most} end \
                 within the window of {window:?}"
            ),
        )
        .with_value(breaker.minimum_calls.to_string())
    })
}

/// A call that can never be slow.
fn check_slow_calls(view: &View<'_>, breaker: &CircuitBreakerConfig, issues: &mut Vec<Issue>) {
    let Some(slow) = breaker.slow_call else {
        return;
    };
    let Some(longest) = view.longest() else {
        return;
    };
    if slow.longer_than <= longest {
        return;
    }
    let message = format!("no call is slow: none takes longer than {longest:?}, as the timeouts are");
    let ended_ones_are_failures = sees_timeouts(breaker) != Some(false);
    let issue = match breaker.failure_rate {
        // Calls that were slow are ended, and open it by failing.
        Some(failed) if ended_ones_are_failures && failed <= slow.rate => {
            if slow.rate.as_fraction() >= 1.0 {
                return;
            }
            view.note(
                "slow_call.longer_than",
                format!("{message}; what they end has failed"),
            )
        }
        _ => view.warning("slow_call.longer_than", message),
    };
    issues.push(issue.with_value(format!("{:?}", slow.longer_than)));
}

/// Timeouts that a list of failures leaves out: they count as successes.
fn check_record(view: &View<'_>, breaker: &CircuitBreakerConfig) -> Option<Issue> {
    if sees_timeouts(breaker) != Some(false) {
        return None;
    }
    let timeout = view.inner().find(|inner| inner.timeout().is_some())?;
    Some(
        view.warning(
            "record",
            format!(
                "a call that `{}` ends counts as a success: no name in the list is about timeouts",
                timeout.name()
            ),
        )
        .with_value(format!("{:?}", breaker.record)),
    )
}

/// Whether its list of failures has timeouts in it, as far as the names that are built in tell.
fn sees_timeouts(breaker: &CircuitBreakerConfig) -> Option<bool> {
    if breaker.record.is_empty()
        || breaker
            .record
            .iter()
            .any(|name| WITH_TIMEOUTS.contains(&name.as_str()))
    {
        return Some(true);
    }
    let is_known =
        |name: &String| WITHOUT_TIMEOUTS.contains(&name.as_str()) || name.parse::<StatusSet>().is_ok();
    breaker.record.iter().all(is_known).then_some(false)
}

/// Names that match what a timeout of this crate ended, and those that do not, as [`Predicates`] has them.
///
/// [`Predicates`]: crate::Predicates
const WITH_TIMEOUTS: [&str; 3] = ["error", "failure", "timeout"];
const WITHOUT_TIMEOUTS: [&str; 7] = [
    "io",
    "connect",
    "dns",
    "reset",
    "body",
    "circuit_open",
    "bulkhead_full",
];

/// A probe that hangs and is never judged.
fn check_half_open(view: &View<'_>, breaker: &CircuitBreakerConfig, issues: &mut Vec<Issue>) {
    let Some(hang) = view.hang() else {
        return;
    };
    let half_open = &breaker.half_open;
    let age = half_open.max_probe_age;
    if age < hang {
        issues.push(
            view.warning(
                "half_open.max_probe_age",
                format!("a probe that hangs takes {hang:?}, and is given up before: it is never judged"),
            )
            .with_value(format!("{age:?}")),
        );
    }
    if let Some(stay) = half_open.max_stay
        && half_open.stay_end == StayEnd::Close
        && stay < hang
    {
        issues.push(
            view.warning(
                "half_open.max_stay",
                format!("it closes while probes that hang, for {hang:?}, are not judged so far"),
            )
            .with_value(format!("{stay:?}")),
        );
    }
}
