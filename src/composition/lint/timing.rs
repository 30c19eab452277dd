//! Timeouts, retries and queues that do not fit into each other.

use std::time::Duration;

use super::{
    view::{Limit, View, shortest_waits},
    worst::queue,
};
use crate::{
    composition::settings::Issue,
    policies::{bulkhead::BulkheadConfig, retry::RetryConfig},
};

pub(super) fn check(view: &View<'_>, issues: &mut Vec<Issue>) {
    if let Some(timeout) = view.timeout() {
        issues.extend(check_timeout(view, timeout.limit));
    }
    if let Some(retry) = view.retry()
        && retry.max_attempts > 1
    {
        if let Some(around) = view.limit_around() {
            issues.extend(check_fit(view, retry, around));
        }
        if let Some(elapsed) = retry.max_elapsed {
            issues.extend(check_elapsed(view, retry, elapsed));
        }
    }
    if let Some(bulkhead) = view.bulkhead() {
        issues.extend(check_queue(view, bulkhead));
        issues.extend(check_size(view, bulkhead));
    }
}

/// A timeout inside of a shorter one never ends a call.
fn check_timeout(view: &View<'_>, limit: Duration) -> Option<Issue> {
    let around = view.limit_around().filter(|around| limit > around.time)?;
    let mut message = format!(
        "`{}` around it ends a call earlier, after {:?}",
        around.by, around.time
    );
    if view
        .outer()
        .take_while(|outer| outer.name() != around.by)
        .any(|outer| outer.retry().is_some_and(|retry| retry.max_attempts > 1))
    {
        message.push_str(", so that an attempt that hangs is never retried");
    }
    Some(view.warning("limit", message).with_value(format!("{limit:?}")))
}

/// Attempts that do not fit into the time that there is for them.
fn check_fit(view: &View<'_>, retry: &RetryConfig, around: Limit<'_>) -> Option<Issue> {
    let Limit { time, by } = around;
    let attempts = retry.max_attempts;
    let Some(attempt) = view.hang_inside() else {
        let begun = begun_within(retry, Duration::ZERO, time);
        return Some(if begun < attempts {
            view.warning(
                "max_attempts",
                format!(
                    "of {attempts} attempts only {begun} can begin within `{by}` ({time:?}): the waits between them take \
                     longer"
                ),
            )
        } else {
            view.note(
                "",
                format!(
                    "no timeout inside of it limits an attempt: one that hangs uses up all of `{by}` ({time:?}) and is not \
                     retried"
                ),
            )
        });
    };
    if attempt > time
        && view
            .inner()
            .any(|inner| inner.timeout().is_some_and(|timeout| timeout.limit > time))
    {
        // That timeout is warned of already.
        return None;
    }
    let fit = ended_within(retry, attempt, time);
    if fit == attempts {
        return None;
    }
    let waits: Duration = shortest_waits(retry).fold(Duration::ZERO, Duration::saturating_add);
    let fitting = match fit {
        0 => format!("not even 1 of {attempts} attempts fits"),
        1 => format!("of {attempts} attempts only 1 fits"),
        _ => format!("of {attempts} attempts only {fit} fit"),
    };
    let waiting = if waits.is_zero() {
        String::new()
    } else {
        format!(" and the waits between them at least {waits:?}")
    };
    let message = format!("{fitting} into `{by}` ({time:?}), when each of them takes {attempt:?}{waiting}");
    Some(
        view.warning("max_attempts", message)
            .with_value(attempts.to_string()),
    )
}

/// A limit of the retry's own that leaves no time for retries, or that another limit comes before.
fn check_elapsed(view: &View<'_>, retry: &RetryConfig, elapsed: Duration) -> Option<Issue> {
    let warn = |message| {
        Some(
            view.warning("max_elapsed", message)
                .with_value(format!("{elapsed:?}")),
        )
    };
    if let Some(around) = view.limit_around().filter(|around| around.time <= elapsed) {
        return warn(format!(
            "it has no effect: `{}` ends a call after {:?}",
            around.by, around.time
        ));
    }
    let attempts = retry.max_attempts;
    let begun = begun_within(retry, Duration::ZERO, elapsed);
    if begun < attempts {
        return warn(format!(
            "of {attempts} attempts only {begun} can begin by then: the waits between them take longer"
        ));
    }
    let attempt = view.hang_inside()?;
    if begun_within(retry, attempt, elapsed) == 1 {
        return warn(format!(
            "an attempt that hangs is never retried: it takes {attempt:?}, and the next one would begin later than that"
        ));
    }
    None
}

/// A call that waits longer than it may take.
fn check_queue(view: &View<'_>, bulkhead: &BulkheadConfig) -> Option<Issue> {
    let wait = bulkhead.max_wait;
    let warn = |message| Some(view.warning("max_wait", message).with_value(format!("{wait:?}")));
    if bulkhead.max_queue == 0 && !wait.is_zero() {
        return warn("it has no effect: with a max_queue of 0 no call may wait".to_owned());
    }
    let around = view
        .limit_around()
        .filter(|around| queue(bulkhead) > around.time)?;
    warn(format!(
        "a call that waits is ended by `{}` after {:?}, before its wait is over",
        around.by, around.time
    ))
}

/// A bulkhead inside of one that is not larger is never full.
fn check_size(view: &View<'_>, bulkhead: &BulkheadConfig) -> Option<Issue> {
    let size = bulkhead.max_concurrent;
    let outer = view
        .outer()
        .find(|outer| outer.bulkhead().is_some_and(|outer| outer.max_concurrent <= size))?;
    let around = outer.bulkhead()?.max_concurrent;
    Some(
        view.warning(
            "max_concurrent",
            format!(
                "it is never full: `{}` around it lets {around} calls in",
                outer.name()
            ),
        )
        .with_value(size.to_string()),
    )
}

/// How many attempts that take `attempt` each, with the shortest waits between them, end within `time`.
fn ended_within(retry: &RetryConfig, attempt: Duration, time: Duration) -> u32 {
    let mut begin = Duration::ZERO;
    let mut ended = 0;
    for wait in shortest_waits(retry).chain([Duration::ZERO]) {
        let end = begin.saturating_add(attempt);
        if end > time {
            break;
        }
        ended += 1;
        begin = end.saturating_add(wait);
    }
    ended
}

/// How many attempts that take `attempt` each, with the shortest waits between them, begin within `time`.
fn begun_within(retry: &RetryConfig, attempt: Duration, time: Duration) -> u32 {
    let mut begin = Duration::ZERO;
    let mut count = 1;
    for wait in shortest_waits(retry) {
        begin = begin.saturating_add(attempt).saturating_add(wait);
        if begin > time {
            break;
        }
        count += 1;
    }
    count
}
