//! The settings of a policy in words.

use buttress::{Backoff, BudgetChoice, Jitter, PolicyConfig, RetryConfig, WindowConfig};

/// A policy in a line.
pub(crate) fn told(policy: &PolicyConfig) -> String {
    match policy {
        PolicyConfig::Timeout(timeout) => format!("{:?}", timeout.limit),
        PolicyConfig::Bulkhead(bulkhead) if bulkhead.max_wait.is_zero() => {
            format!("{} at once", bulkhead.max_concurrent)
        }
        PolicyConfig::Bulkhead(bulkhead) => {
            format!(
                "{} at once, others wait {:?}",
                bulkhead.max_concurrent, bulkhead.max_wait
            )
        }
        PolicyConfig::Retry(retry) => told_retry(retry),
        PolicyConfig::CircuitBreaker(breaker) => {
            let window = match breaker.window {
                WindowConfig::Calls(calls) => format!("{calls} calls"),
                WindowConfig::Time { duration, .. } => format!("{duration:?}"),
            };
            let rate = breaker.failure_rate.map(|rate| format!("{rate} failed"));
            let slow = breaker
                .slow_call
                .map(|slow| format!("{} slower than {:?}", slow.rate, slow.longer_than));
            let row = breaker
                .consecutive_failures
                .map(|failures| format!("{failures} failures in a row"));
            let reasons: Vec<String> = [rate, slow, row].into_iter().flatten().collect();
            let open = &breaker.open;
            let longest = if open.factor > 1.0 && open.max > open.wait {
                format!(" to {:?}", open.max)
            } else {
                String::new()
            };
            format!(
                "{} of {window}; open {:?}{longest}",
                reasons.join(" or "),
                open.wait
            )
        }
        other => other.kind().to_string(),
    }
}

fn told_retry(retry: &RetryConfig) -> String {
    let waits = match &retry.backoff {
        Backoff::Fixed(wait) => format!("{wait:?}"),
        Backoff::Exponential { initial, factor, max } => format!("{initial:?} x {factor} to {max:?}"),
        Backoff::Decorrelated { base, max } => format!("{base:?} to {max:?}, decorrelated"),
        _ => "by a closure".to_owned(),
    };
    let jitter = match retry.jitter {
        Jitter::None => "",
        Jitter::Full => ", full jitter",
        Jitter::Equal => ", equal jitter",
    };
    let budget = match &retry.budget {
        BudgetChoice::Own(budget) => format!("budget {} + {}/s", budget.ratio, budget.min_per_second),
        BudgetChoice::Unlimited => "no budget".to_owned(),
        _ => "a shared budget".to_owned(),
    };
    format!("{} attempts, waits {waits}{jitter}; {budget}", retry.max_attempts)
}
