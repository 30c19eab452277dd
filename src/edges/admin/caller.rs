//! What a caller of a stack sees now.

use std::time::Duration;

use serde::Serialize;

use crate::{
    composition::registry::{KeysSnapshot, PolicySnapshot, StackSnapshot, StageSnapshot},
    policies::{bulkhead::BulkheadSnapshot, circuit_breaker::CircuitBreakerDetail},
    vocabulary::{rejected::OpenCause, state::State},
};

/// What a caller sees: an answer as [`axum::problem`](crate::axum::problem) would give it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Caller {
    admitted: Admitted,
    /// What a call that is not admitted is answered.
    status: Option<u16>,
    retry_after_seconds: Option<u64>,
    /// Which policy it is.
    policy: Option<String>,
    text: String,
}

/// Which calls are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Admitted {
    None,
    Some,
    All,
}

impl Caller {
    /// The caller of a stack, whichever its key.
    pub(super) fn of(stack: &StackSnapshot) -> Self {
        match &stack.keys {
            None => Self::of_stages(&stack.stages),
            Some(keys) => Self::of_keys(keys),
        }
    }

    /// The outermost policy that refuses anything decides.
    pub(super) fn of_stages(stages: &[StageSnapshot]) -> Self {
        let mut notes = Vec::new();
        for stage in stages {
            let caller = match &stage.snapshot {
                PolicySnapshot::CircuitBreaker(breaker) => of_breaker(stage, breaker, &mut notes),
                PolicySnapshot::Bulkhead(bulkhead) => of_bulkhead(stage, bulkhead),
                _ => None,
            };
            if let Some(caller) = caller {
                return caller;
            }
        }
        let mut text = "calls go through".to_owned();
        for note in notes {
            text = format!("{text}; {note}");
        }
        Self {
            admitted: Admitted::All,
            status: None,
            retry_after_seconds: None,
            policy: None,
            text,
        }
    }

    fn of_keys(keys: &KeysSnapshot) -> Self {
        let callers = keys.shown.iter().map(|key| (key, Self::of_stages(&key.stages)));
        let refused: Vec<_> = callers
            .filter(|(_, caller)| caller.admitted != Admitted::All)
            .collect();
        let total = keys.shown.len() + keys.hidden;
        let Some((first, worst)) = refused.iter().min_by_key(|(_, caller)| caller.admitted) else {
            return Self {
                admitted: Admitted::All,
                status: None,
                retry_after_seconds: None,
                policy: None,
                text: match total {
                    0 => "calls go through; no key was used yet".to_owned(),
                    1 => "calls of the one key go through".to_owned(),
                    _ => format!("calls of all {total} keys go through"),
                },
            };
        };
        Self {
            // Calls of other keys go through.
            admitted: if refused.len() == total {
                worst.admitted
            } else {
                Admitted::Some
            },
            status: worst.status,
            retry_after_seconds: worst.retry_after_seconds,
            policy: worst.policy.clone(),
            text: format!(
                "{} of {total} keys refuse calls; `{}`: {}",
                refused.len(),
                first.key,
                worst.text
            ),
        }
    }

    fn unavailable(admitted: Admitted, stage: &StageSnapshot, after: Option<Duration>, text: &str) -> Self {
        // As `Retry-After` would say it: whole seconds, rounded up.
        let seconds = after.map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0));
        let answer = match seconds {
            Some(seconds) => format!("503, retry after {seconds} s"),
            None => "503".to_owned(),
        };
        let text = match admitted {
            Admitted::Some => text.to_owned(),
            Admitted::None | Admitted::All => format!("{answer}: {text}"),
        };
        Self {
            admitted,
            status: Some(503),
            retry_after_seconds: seconds,
            policy: Some(stage.policy.to_string()),
            text,
        }
    }
}

fn of_breaker(
    stage: &StageSnapshot,
    breaker: &CircuitBreakerDetail,
    notes: &mut Vec<String>,
) -> Option<Caller> {
    let snapshot = &breaker.snapshot;
    let refused = |after, text: &str| Some(Caller::unavailable(Admitted::None, stage, after, text));
    match snapshot.state {
        State::Closed => None,
        State::Disabled => {
            notes.push(format!("`{}` is disabled and guards nothing", stage.name));
            None
        }
        State::MetricsOnly => {
            notes.push(format!("`{}` only counts and opens on nothing", stage.name));
            None
        }
        // Nobody is told when to come back: the command may be taken back before, or last longer.
        State::ForcedOpen => match &stage.overridden {
            Some(over) => refused(
                None,
                &format!("circuit forced open by {}: {}", over.by.label, over.by.reason),
            ),
            None => refused(None, "circuit forced open by command"),
        },
        State::Open => match snapshot.until {
            Some(Duration::ZERO) => Some(Caller::unavailable(
                Admitted::Some,
                stage,
                None,
                "the next call finds out whether the service is well again",
            )),
            left => refused(
                left,
                &format!("circuit open, {}", snapshot.cause.unwrap_or(OpenCause::Command)),
            ),
        },
        State::HalfOpen => {
            let probes = breaker.thresholds.probes;
            let used = snapshot.calls + u64::from(breaker.probes_under_way);
            if used >= u64::from(probes) {
                let text = format!("circuit half-open with all {probes} probes taken");
                return refused(None, &text);
            }
            let left = u64::from(probes) - used;
            let text = format!("circuit half-open: {left} of {probes} probes go through, all else gets 503");
            Some(Caller::unavailable(Admitted::Some, stage, None, &text))
        }
    }
}

fn of_bulkhead(stage: &StageSnapshot, bulkhead: &BulkheadSnapshot) -> Option<Caller> {
    if bulkhead.in_flight < bulkhead.limit {
        return None;
    }
    let limit = bulkhead.limit;
    let queue = usize::try_from(bulkhead.max_queue).unwrap_or(usize::MAX);
    if bulkhead.max_wait.is_zero() || bulkhead.queued >= queue {
        let text = format!("all {limit} slots in use");
        return Some(Caller::unavailable(Admitted::None, stage, None, &text));
    }
    let text = format!(
        "all {limit} slots in use: waits for up to {:?}, then 503; {} wait now",
        bulkhead.max_wait, bulkhead.queued
    );
    Some(Caller::unavailable(Admitted::Some, stage, None, &text))
}
