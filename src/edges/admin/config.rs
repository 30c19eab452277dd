//! The settings in effect.

use ::axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Admin, reply};
use crate::{
    composition::{
        registry::Registry,
        settings::{KeyedBy, PolicyConfig, StackConfig},
    },
    policies::{
        backoff::Backoff,
        retry::{BudgetChoice, RetryConfig},
    },
};

/// `GET /api/config`
pub(super) async fn config(State(admin): State<Admin>) -> Response {
    reply::json(StatusCode::OK, &effective(&admin.0.registry))
}

/// What is in effect, with the defaults filled in: `generation`, and `stacks` by name in the shape of a file, those in
/// `orphaned` as they were when they went from it; in `origins` where each value came from, by the path of its keys. What is
/// not there is built in.
fn effective(registry: &Registry) -> Value {
    let all = registry.stacks();
    let orphaned = all.iter().filter(|stack| stack.orphaned).map(|stack| &stack.name);
    let stacks = all
        .iter()
        .map(|stack| (stack.name.clone(), of_stack(&stack.config)));
    let settings = registry.settings();
    let origins = settings.origins.iter();
    let origins = origins.map(|(path, origin)| (path.clone(), origin.to_string().into()));
    json!({
        "generation": registry.generation(),
        "stacks": stacks.collect::<Map<_, _>>(),
        "orphaned": orphaned.collect::<Vec<_>>(),
        "origins": origins.collect::<Map<_, _>>(),
    })
}

fn of_stack(config: &StackConfig) -> Value {
    let mut shown = Map::new();
    let order: Vec<&str> = config.stages.iter().map(|stage| stage.name.as_str()).collect();
    shown.insert("order".to_owned(), json!(order));
    if let Some(KeyedBy { per, config }) = &config.keyed {
        shown.insert("per".to_owned(), json!(per));
        shown.extend(written(config));
    }
    for stage in &config.stages {
        let mut settings = match &stage.policy {
            PolicyConfig::CircuitBreaker(config) => written(config),
            PolicyConfig::Retry(config) => of_retry(config),
            PolicyConfig::Timeout(config) => written(config),
            PolicyConfig::Bulkhead(config) => written(config),
        };
        let kind = json!(stage.policy.kind());
        if kind != stage.name {
            settings.insert("kind".to_owned(), kind);
        }
        shown.insert(stage.name.clone(), Value::Object(settings));
    }
    Value::Object(shown)
}

/// A retry, also with what only a program can set, and what no file can hold.
fn of_retry(config: &RetryConfig) -> Map<String, Value> {
    let mut plain = config.clone();
    let mut words = Vec::new();
    if matches!(plain.budget, BudgetChoice::Shared(_)) {
        plain.budget = BudgetChoice::Unlimited;
        words.push(("budget", "shared with others"));
    }
    if matches!(plain.backoff, Backoff::Function(_)) {
        plain.backoff = Backoff::default();
        words.push(("backoff", "a closure of the program"));
    }
    let mut shown = written(&plain);
    for (field, word) in words {
        shown.insert(field.to_owned(), word.into());
    }
    shown
}

/// Settings as a file has them.
fn written(config: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(config).map(off) {
        Ok(Value::Object(fields)) => fields,
        // All settings are structs of plain values, or made so above.
        Ok(_) | Err(_) => Map::new(),
    }
}

/// In files what is not there is `off`.
fn off(value: Value) -> Value {
    match value {
        Value::Null => "off".into(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, off(value))).collect(),
        other => other,
    }
}
