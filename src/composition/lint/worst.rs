//! The longest wait and the most calls, stage by stage.

use std::time::Duration;

use crate::{
    composition::settings::{PolicyConfig, StageConfig},
    policies::{bulkhead::BulkheadConfig, retry::RetryConfig},
};

/// What a call that has come as far as a stage costs at worst from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorstCase {
    /// The name of the stage.
    pub stage: String,
    /// The longest wait for a result. `None`: without a limit.
    pub wait: Option<Duration>,
    /// The most calls that are made of the service.
    pub calls: u64,
}

/// The worst case of each stage, outermost first, and how the longest wait of the whole comes about.
pub(super) fn worst_cases(stages: &[StageConfig]) -> (Vec<WorstCase>, String) {
    let mut wait = None;
    let mut calls: u64 = 1;
    let mut why = "no timeout limits how long the service may take".to_owned();
    let mut cases: Vec<WorstCase> = stages
        .iter()
        .rev()
        .map(|stage| {
            let name = &stage.name;
            match &stage.policy {
                PolicyConfig::CircuitBreaker(_) => {}
                PolicyConfig::Timeout(timeout) => {
                    if wait.is_none_or(|wait| timeout.limit < wait) {
                        wait = Some(timeout.limit);
                        why = format!("`{name}` ends it after {:?}", timeout.limit);
                    }
                }
                PolicyConfig::Bulkhead(bulkhead) => {
                    let queue = queue(bulkhead);
                    if let Some(inner) = &mut wait
                        && !queue.is_zero()
                    {
                        *inner = inner.saturating_add(queue);
                        why = format!("up to {queue:?} in the queue of `{name}`; then {why}");
                    }
                }
                PolicyConfig::Retry(retry) => {
                    calls = calls.saturating_mul(u64::from(retry.max_attempts.max(1)));
                    if let Some(inner) = wait
                        && retry.max_attempts > 1
                    {
                        (wait, why) = retried(name, retry, inner);
                    }
                }
            }
            WorstCase {
                stage: name.clone(),
                wait,
                calls,
            }
        })
        .collect();
    cases.reverse();
    (cases, why)
}

/// How long a call may wait in a bulkhead.
pub(super) fn queue(bulkhead: &BulkheadConfig) -> Duration {
    if bulkhead.max_queue == 0 {
        Duration::ZERO
    } else {
        bulkhead.max_wait
    }
}

/// The longest wait for a retry whose attempts take up to `attempt`, and how it comes about.
fn retried(name: &str, retry: &RetryConfig, attempt: Duration) -> (Option<Duration>, String) {
    let RetryConfig {
        max_attempts,
        max_hint,
        max_elapsed,
        ..
    } = retry;
    let between = (1..*max_attempts).try_fold(Duration::ZERO, |sum, attempt| {
        let (_, longest) = retry.backoff.bounds(attempt, retry.jitter)?;
        Some(sum.saturating_add(longest.max(*max_hint)))
    });
    let all = between.map(|between| attempt.saturating_mul(*max_attempts).saturating_add(between));
    if let Some(elapsed) = max_elapsed {
        // An attempt that begins by then takes its own time.
        let last = elapsed.saturating_add(attempt);
        if all.is_none_or(|all| last < all) {
            let why =
                format!("`{name}` begins its last attempt within {elapsed:?}, which takes up to {attempt:?}");
            return (Some(last), why);
        }
    }
    match between {
        None => (
            None,
            format!("a closure says how long `{name}` waits, so it may be any time"),
        ),
        Some(between) => {
            let why = format!(
                "`{name}` makes {max_attempts} attempts of up to {attempt:?}, and waits up to {between:?} between them"
            );
            (all, why)
        }
    }
}
