//! The JSON Schema of a file (feature `schema`).

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::Transform};
use serde_json::{Map, Value, json};

use crate::{
    composition::keyed::KeyedConfig,
    policies::{
        bulkhead::BulkheadConfig, circuit_breaker::CircuitBreakerConfig, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    vocabulary::schema::{Duration, VARIABLE},
};

/// The JSON Schema (draft 2020-12) of a file, for editors.
///
/// It knows what keys there are, what they mean and what values look like; what only the whole shows (an order that
/// leaves a stage out, a longest wait below the first one) [`Source::load`](super::Source::load) finds.
pub fn schema() -> Schema {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<File>();
    Plain.transform(&mut schema);
    schema
}

/// Stacks of Buttress: what protects calls, by name.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
#[schemars(deny_unknown_fields)]
struct File {
    /// For editors: where this schema lies.
    #[schemars(rename = "$schema")]
    schema: String,
    /// Values for the stages that stacks have, by kind, merged key by key below each stage. They add no stage.
    defaults: Defaults,
    /// The stacks by name.
    stacks: BTreeMap<String, Stack>,
}

/// Values for the stages that stacks have, by kind.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
#[schemars(deny_unknown_fields)]
struct Defaults {
    /// Makes another attempt when one failed, while a budget pays for it.
    retry: RetryConfig,
    /// Stops calling a service that fails, and finds out when it is well again.
    circuit_breaker: CircuitBreakerConfig,
    /// Drops a call that is not done within its limit: `timeout = "2s"` is short for `{ limit = "2s" }`.
    timeout: Timeout,
    /// Admits so many calls at once: `bulkhead = 64` is short for `{ max_concurrent = 64 }`.
    bulkhead: Bulkhead,
}

/// A stack: a stage is in it when its table is. A stage with a name of its own says its `kind`.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
struct Stack {
    /// The stack whose settings lie below these, merged key by key; lists and windows replace. State is never shared.
    extends: String,
    /// The stages, outermost first. Default: `retry`, `circuit_breaker`, `timeout`, `bulkhead`, those that are there.
    order: Vec<String>,
    /// What calls are keyed by, so that each key has policies of its own: `authority` (scheme, host and port of a
    /// request), or a name that the program gives a meaning to. `off`: not keyed.
    per: String,
    #[schemars(flatten)]
    keyed: KeyedConfig,
    /// Makes another attempt when one failed, while a budget pays for it.
    retry: RetryConfig,
    /// Stops calling a service that fails, and finds out when it is well again.
    circuit_breaker: CircuitBreakerConfig,
    /// Drops a call that is not done within its limit: `timeout = "2s"` is short for `{ limit = "2s" }`.
    timeout: Timeout,
    /// Admits so many calls at once: `bulkhead = 64` is short for `{ max_concurrent = 64 }`.
    bulkhead: Bulkhead,
    #[schemars(flatten)]
    named: BTreeMap<String, Named>,
}

/// A timeout: its limit, or a table.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
#[schemars(untagged)]
enum Timeout {
    Limit(Duration),
    Table(TimeoutConfig),
}

/// A bulkhead: its number of calls, or a table.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
#[schemars(untagged)]
enum Bulkhead {
    Calls(u32),
    Table(BulkheadConfig),
}

/// A stage with a name of its own. Where the stack that is extended says its kind, it need not.
struct Named {
    _kind: String,
}

impl JsonSchema for Named {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NamedStage".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> Schema {
        // Each kind with all its keys and its own name as `kind`, so that keys of other kinds are unknown.
        let kinds = [
            ("retry", RetryConfig::json_schema(generator)),
            ("circuit_breaker", CircuitBreakerConfig::json_schema(generator)),
            ("timeout", TimeoutConfig::json_schema(generator)),
            ("bulkhead", BulkheadConfig::json_schema(generator)),
        ];
        let mut choices: Vec<Value> = kinds
            .into_iter()
            .map(|(kind, schema)| {
                let mut schema = schema.to_value();
                if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                    properties.insert("kind".to_owned(), json!({ "const": kind }));
                }
                schema
            })
            .collect();
        let short = generator.subschema_for::<Duration>();
        choices.push(short.to_value());
        choices.push(json!({ "type": "integer", "minimum": 1 }));
        schemars::json_schema!({
            "description": "A stage with a name of its own, which says its `kind`; or the short form of one whose kind the extended stack says.",
            "anyOf": choices,
        })
    }
}

/// What schemars makes of the types is near to what files hold; this closes the gap.
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        schemars::transform::transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        plain_words(object);
        choices(object);
        second_names(object);
        object.remove("format");
        // What a table leaves out may stand in what it is merged with.
        if object.contains_key("properties") {
            object.remove("required");
        }
        if let Some(default) = object.get_mut("default") {
            off_in(default);
        }
    }
}

/// Descriptions are written for rustdoc: their first paragraph stays, and of links the words.
fn plain_words(object: &mut Map<String, Value>) {
    let Some(Value::String(text)) = object.get_mut("description") else {
        return;
    };
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.split("\n\n").next().unwrap_or_default();
    while let Some((before, link)) = rest.split_once('[') {
        let Some((words, behind)) = link.split_once(']') else {
            break;
        };
        plain.push_str(before);
        plain.push_str(words);
        rest = behind
            .strip_prefix('(')
            .and_then(|target| target.split_once(')'))
            .map_or(behind, |(_, behind)| behind);
    }
    plain.push_str(rest);
    *text = plain.replace('\n', " ").replace("`None`", "`off`");
}

/// What may be `None` may be said to be `off`, or `false`; and what is no text may come from a variable, which stands in
/// one.
fn choices(object: &mut Map<String, Value>) {
    let off = || json!({ "enum": ["off", "none", false] });
    let variable = || json!({ "type": "string", "pattern": VARIABLE });
    let is_null = |kind: &Value| kind == "null";
    let mut more = Vec::new();
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        if kinds.iter().any(is_null) {
            kinds.retain(|kind| !is_null(kind));
            more.push(off());
        }
        if let [one] = kinds.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    let is_scalar = |kind: &Value| {
        ["integer", "number", "boolean"]
            .iter()
            .any(|scalar| kind == scalar)
    };
    if object.get("type").is_some_and(is_scalar) {
        more.push(variable());
    }
    if !more.is_empty() {
        let mut value = Map::new();
        for key in ["type", "minimum", "maximum"] {
            value.extend(object.remove(key).map(|said| (key.to_owned(), said)));
        }
        more.insert(0, Value::Object(value));
        object.insert("anyOf".to_owned(), Value::Array(more));
        return;
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        let null = |choice: &&mut Value| choice.get("type").is_some_and(is_null);
        choices.iter_mut().filter(null).for_each(|choice| *choice = off());
    }
    if let Some(Value::Array(choices)) = object.get_mut("oneOf")
        && choices.iter().all(|choice| choice.get("const").is_some())
    {
        choices.push(variable());
    }
}

/// Writes what is absent from a default as files do.
fn off_in(value: &mut Value) {
    match value {
        Value::Null => *value = json!("off"),
        Value::Array(values) => values.iter_mut().for_each(off_in),
        Value::Object(entries) => entries.values_mut().for_each(off_in),
        _ => {}
    }
}

/// Keys that may be written by a second name.
fn second_names(object: &mut Map<String, Value>) {
    if let Some(Value::Object(properties)) = object.get_mut("properties")
        && let Some(stay) = properties.get("max_stay").cloned()
    {
        properties.insert("max".to_owned(), stay);
    }
}
