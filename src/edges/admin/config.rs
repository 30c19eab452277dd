//! The settings in effect.

use ::axum::{extract::State, http::StatusCode, response::Response};
use serde_json::{Map, Value, json};

use super::{Admin, reply};
use crate::{
    composition::{
        registry::Registry,
        settings::{PolicyConfig, StackConfig},
    },
    policies::{
        circuit_breaker::{CircuitBreakerConfig, WindowConfig},
        retry::{BudgetChoice, RetryConfig},
    },
    vocabulary::{json::Seconds, rate::Rate},
};

/// `GET /api/config`
pub(super) async fn config(State(admin): State<Admin>) -> Response {
    reply::json(StatusCode::OK, &effective(&admin.0.registry))
}

/// What is in effect, with the defaults filled in: `generation`, and `stacks` by name; in `origins` where each value came
/// from, by the path of its keys. What is not there is built in.
fn effective(registry: &Registry) -> Value {
    let stacks = registry.stacks().into_iter().map(|stack| {
        let mut shown = of_stack(&stack.config);
        if stack.orphaned {
            shown.insert("orphaned".to_owned(), true.into());
        }
        (stack.name, Value::Object(shown))
    });
    let settings = registry.settings();
    let origins = settings.origins.iter();
    let origins = origins.map(|(path, origin)| (path.clone(), origin.to_string().into()));
    json!({
        "generation": registry.generation(),
        "stacks": stacks.collect::<Map<_, _>>(),
        "origins": origins.collect::<Map<_, _>>(),
    })
}

fn of_stack(config: &StackConfig) -> Map<String, Value> {
    let mut shown = Map::new();
    let order: Vec<&str> = config.stages.iter().map(|stage| stage.name.as_str()).collect();
    shown.insert("order".to_owned(), json!(order));
    if let Some(keyed) = &config.keyed {
        shown.insert("per".to_owned(), json!(keyed.per));
        shown.insert("max_keys".to_owned(), json!(keyed.config.max_keys));
        shown.insert("idle_seconds".to_owned(), json!(keyed.config.idle.map(Seconds)));
    }
    let stages = config.stages.iter().map(|stage| {
        let settings = match &stage.policy {
            PolicyConfig::CircuitBreaker(config) => of_breaker(config),
            PolicyConfig::Retry(config) => of_retry(config),
            PolicyConfig::Timeout(config) => json!({ "limit_seconds": Seconds(config.limit) }),
            PolicyConfig::Bulkhead(config) => json!({
                "max_concurrent": config.max_concurrent,
                "max_wait_seconds": Seconds(config.max_wait),
                "max_queue": config.max_queue,
            }),
        };
        (stage.name.clone(), settings)
    });
    shown.insert("stages".to_owned(), Value::Object(stages.collect()));
    shown
}

fn of_breaker(config: &CircuitBreakerConfig) -> Value {
    let window = match config.window {
        WindowConfig::Calls(calls) => json!({ "calls": calls }),
        WindowConfig::Time { duration, bucket } => {
            json!({ "time_seconds": Seconds(duration), "bucket_seconds": Seconds(bucket) })
        }
    };
    json!({
        "window": window,
        "minimum_calls": config.minimum_calls,
        "failure_rate": config.failure_rate.map(Rate::as_fraction),
        "slow_call": config.slow_call.map(|slow| json!({
            "longer_than_seconds": Seconds(slow.longer_than),
            "rate": slow.rate.as_fraction(),
        })),
        "consecutive_failures": config.consecutive_failures,
        "open": {
            "wait_seconds": Seconds(config.open.wait),
            "factor": config.open.factor,
            "max_seconds": Seconds(config.open.max),
            "jitter": config.open.jitter,
            "automatic_half_open": config.open.automatic_half_open,
        },
        "half_open": {
            "probes": config.half_open.probes,
            "max_probe_age_seconds": Seconds(config.half_open.max_probe_age),
            "max_stay_seconds": config.half_open.max_stay.map(Seconds),
        },
        "dropped_after_seconds": Seconds(config.dropped_after),
        "initial_state": config.initial_state,
        "record": config.record,
        "ignore": config.ignore,
    })
}

fn of_retry(config: &RetryConfig) -> Value {
    let budget = match &config.budget {
        BudgetChoice::Own(budget) => json!({
            "ratio": budget.ratio.as_fraction(),
            "min_per_second": budget.min_per_second,
            "window_seconds": Seconds(budget.window),
        }),
        BudgetChoice::Shared(_) => json!("shared"),
        BudgetChoice::Unlimited => json!("unlimited"),
    };
    json!({
        "max_attempts": config.max_attempts,
        "max_elapsed_seconds": config.max_elapsed.map(Seconds),
        "backoff": format!("{:?}", config.backoff),
        "jitter": format!("{:?}", config.jitter),
        "max_hint_seconds": Seconds(config.max_hint),
        "budget": budget,
        "on": config.on,
        "never_on": config.never_on,
    })
}
