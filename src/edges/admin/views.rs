//! Stacks and policies as they are now.

use ::axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use serde_json::json;

use super::{Admin, caller::Caller, reply};
use crate::{
    composition::registry::{RegistrySnapshot, StackSnapshot},
    vocabulary::json::At,
};

/// A stack, and what its callers see.
#[derive(Serialize)]
pub(super) struct StackView<'a> {
    #[serde(flatten)]
    stack: &'a StackSnapshot,
    caller: Caller,
    /// Of each key that is shown, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_callers: Option<Vec<Caller>>,
}

impl<'a> StackView<'a> {
    pub(super) fn of(snapshot: &'a RegistrySnapshot) -> Vec<Self> {
        snapshot.stacks.iter().map(Self::one).collect()
    }

    fn one(stack: &'a StackSnapshot) -> Self {
        let key_callers = stack.keys.as_ref().map(|keys| {
            let keys = keys.shown.iter();
            keys.map(|key| Caller::of_stages(&key.stages)).collect()
        });
        Self {
            stack,
            caller: Caller::of(stack),
            key_callers,
        }
    }
}

/// `GET /api/stacks`
pub(super) async fn stacks(State(admin): State<Admin>) -> Response {
    let snapshot = admin.0.registry.snapshot();
    reply::json(
        StatusCode::OK,
        &json!({
            "at": At(snapshot.at),
            "generation": snapshot.generation,
            "failed_reloads": snapshot.failed_reloads,
            "stacks": StackView::of(&snapshot),
        }),
    )
}

/// `GET /api/stacks/NAME`
pub(super) async fn stack(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    let snapshot = admin.0.registry.snapshot();
    match snapshot.stacks.iter().find(|stack| stack.name == name) {
        Some(stack) => reply::json(StatusCode::OK, &StackView::one(stack)),
        None => reply::error(StatusCode::NOT_FOUND, &format!("no stack `{name}`")),
    }
}

/// `GET /api/policies/NAME`
pub(super) async fn policy(State(admin): State<Admin>, Path(name): Path<String>) -> Response {
    match admin.0.registry.policy_snapshot(&name) {
        Ok(stage) => reply::json(StatusCode::OK, &stage),
        Err(unknown) => reply::error(StatusCode::NOT_FOUND, &unknown.to_string()),
    }
}
