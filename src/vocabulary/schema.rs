//! What the JSON Schema says of values that are text in files (feature `schema`).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::vocabulary::rate::Rate;

/// A duration with its unit.
pub(crate) struct Duration;

/// The name of a predicate, or a status.
pub(crate) struct Name;

/// What a string with a variable in it looks like: it stands for any value.
pub(crate) const VARIABLE: &str = r"\$\{[^}]*\}";

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit: 250ms, 5s, 1m30s.",
            "type": "string",
            "pattern": format!(r"^\s*([0-9]+(\.[0-9]+)?\s*[a-zA-Zµ]+\s*)+$|{VARIABLE}"),
            "examples": ["250ms", "5s", "1m30s"],
        })
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The name of a predicate, built in or registered by the program, or a set of statuses.",
            "type": ["string", "integer"],
            "examples": ["error", "connect", "timeout", "io", "5xx", "502..504", 429],
        })
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A share of calls: a percentage such as \"50%\", or a fraction such as 0.5.",
            "anyOf": [
                { "type": "string", "pattern": format!(r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$|{VARIABLE}") },
                { "type": "number", "minimum": 0, "maximum": 1 },
            ],
            "examples": ["50%", 0.5],
        })
    }
}
