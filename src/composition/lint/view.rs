//! What a stage has around it and inside of it.

use std::time::Duration;

use super::worst::worst_cases;
use crate::{
    composition::settings::{Issue, PolicyConfig, StageConfig, path},
    policies::{
        bulkhead::BulkheadConfig, circuit_breaker::CircuitBreakerConfig, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
};

/// A stage among the others.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    stages: &'a [StageConfig],
    at: usize,
}

/// A limit and the stage that sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Limit<'a> {
    pub(super) time: Duration,
    pub(super) by: &'a str,
}

macro_rules! is_kind {
    ($($name:ident: $kind:ident($config:ty);)*) => {
        impl<'a> View<'a> {$(
            pub(super) fn $name(&self) -> Option<&'a $config> {
                match &self.stages[self.at].policy {
                    PolicyConfig::$kind(config) => Some(config),
                    _ => None,
                }
            }
        )*}
    };
}

is_kind! {
    breaker: CircuitBreaker(CircuitBreakerConfig);
    retry: Retry(RetryConfig);
    timeout: Timeout(TimeoutConfig);
    bulkhead: Bulkhead(BulkheadConfig);
}

impl<'a> View<'a> {
    pub(super) fn new(stages: &'a [StageConfig], at: usize) -> Self {
        Self { stages, at }
    }

    pub(super) fn name(&self) -> &'a str {
        &self.stages[self.at].name
    }

    /// The path of a setting of this stage; of the stage itself where `field` is empty.
    fn path(&self, field: &str) -> String {
        path([self.name()].into_iter().chain(field.split_terminator('.')))
    }

    pub(super) fn note(&self, field: &str, message: impl Into<String>) -> Issue {
        Issue::note(self.path(field), message)
    }

    pub(super) fn warning(&self, field: &str, message: impl Into<String>) -> Issue {
        Issue::warning(self.path(field), message)
    }

    /// The stages around this one, from the nearest outward.
    pub(super) fn outer(&self) -> impl Iterator<Item = View<'a>> + use<'a> {
        let stages = self.stages;
        (0..self.at).rev().map(move |at| View { stages, at })
    }

    /// The stages inside of this one, from the nearest inward.
    pub(super) fn inner(&self) -> impl Iterator<Item = View<'a>> + use<'a> {
        let stages = self.stages;
        (self.at + 1..stages.len()).map(move |at| View { stages, at })
    }

    /// The shortest timeout around this stage.
    pub(super) fn limit_around(&self) -> Option<Limit<'a>> {
        self.outer()
            .filter_map(|view| {
                let time = view.timeout()?.limit;
                Some(Limit {
                    time,
                    by: view.name(),
                })
            })
            .min_by_key(|limit| limit.time)
    }

    /// The longest that a call may take from this stage on. `None`: without a limit.
    pub(super) fn longest(&self) -> Option<Duration> {
        let (inside, _) = worst_cases(&self.stages[self.at + 1..]);
        let inside = inside.first().and_then(|worst| worst.wait);
        shorter(inside, self.limit_around().map(|limit| limit.time))
    }

    /// How long a call that this stage has let through takes when the service never answers, with the shortest waits
    /// between attempts and none in queues. `None`: for ever.
    pub(super) fn hang_inside(&self) -> Option<Duration> {
        hang(&self.stages[self.at + 1..])
    }

    /// The same, with the timeouts around this stage too.
    pub(super) fn hang(&self) -> Option<Duration> {
        shorter(self.hang_inside(), self.limit_around().map(|limit| limit.time))
    }
}

/// The shorter limit, where there is one.
fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn hang(stages: &[StageConfig]) -> Option<Duration> {
    stages.iter().rev().fold(None, |hang, stage| match &stage.policy {
        PolicyConfig::CircuitBreaker(_) | PolicyConfig::Bulkhead(_) => hang,
        PolicyConfig::Timeout(timeout) => Some(hang.map_or(timeout.limit, |hang| hang.min(timeout.limit))),
        PolicyConfig::Retry(retry) => hang.map(|attempt| {
            let waits = shortest_waits(retry);
            let in_time = |begin: Duration| retry.max_elapsed.is_none_or(|elapsed| begin <= elapsed);
            waits
                .map(|wait| (wait, attempt))
                .try_fold(attempt, |ended, (wait, attempt)| {
                    let begin = ended.saturating_add(wait);
                    if in_time(begin) {
                        Ok(begin.saturating_add(attempt))
                    } else {
                        Err(ended)
                    }
                })
                .unwrap_or_else(|ended| ended)
        }),
    })
}

/// The shortest waits before the second, third, … attempt. A closure may say that there is none.
pub(super) fn shortest_waits(retry: &RetryConfig) -> impl Iterator<Item = Duration> {
    (1..retry.max_attempts).map(|attempt| {
        retry
            .backoff
            .bounds(attempt, retry.jitter)
            .map_or(Duration::ZERO, |(shortest, _)| shortest)
    })
}
