//! For a readiness probe.

use ::axum::{extract::State, http::StatusCode, response::Response};
use serde_json::json;

use super::{Admin, reply};
use crate::{
    composition::registry::{PolicySnapshot, RegistrySnapshot},
    vocabulary::state,
};

/// Which circuit breakers count for `GET /health`.
///
/// It answers 503 while one that counts is open or forced open. Those of keys never count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// None: it answers 200 whenever it answers.
    #[default]
    None,
    /// All.
    All,
    /// Those of these names: `payments/circuit_breaker`, or `payments` where that stack has one only.
    Of(Vec<String>),
}

impl Health {
    /// Those of these names.
    pub fn of(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Of(names.into_iter().map(Into::into).collect())
    }

    fn counts(&self, stack: &str, policy: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Of(names) => names.iter().any(|name| name == policy || name == stack),
        }
    }
}

/// `GET /health`: all circuit breakers that are not closed or that count, and what follows.
pub(super) async fn health(State(admin): State<Admin>) -> Response {
    let RegistrySnapshot {
        generation, stacks, ..
    } = admin.0.registry.snapshot();
    let mut breakers = Vec::new();
    let mut ready = true;
    for stack in stacks.iter().filter(|stack| stack.keys.is_none()) {
        for stage in &stack.stages {
            let PolicySnapshot::CircuitBreaker(breaker) = &stage.snapshot else {
                continue;
            };
            let state = breaker.snapshot.state;
            let counts = admin.0.options.health.counts(&stack.name, &stage.policy);
            let refuses = matches!(state, state::State::Open | state::State::ForcedOpen);
            ready &= !(counts && refuses);
            if counts || state != state::State::Closed {
                breakers.push(json!({ "name": stage.policy, "state": state, "counts": counts }));
            }
        }
    }
    let (status, word) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    reply::json(
        status,
        &json!({ "status": word, "generation": generation, "circuit_breakers": breakers }),
    )
}
