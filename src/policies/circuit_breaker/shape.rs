//! How a window stands in a file: `{ calls = 100 }` or `{ time = "60s", bucket = "1s" }`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::WindowConfig;
use crate::vocabulary::serialized::{Given, GivenDuration};

/// The sliding window: either the last so many calls, or the calls of the last while.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Window {
    #[serde(skip_serializing_if = "Given::is_none")]
    calls: Given<u32>,
    #[serde(skip_serializing_if = "Given::is_none")]
    time: GivenDuration,
    #[serde(skip_serializing_if = "Given::is_none")]
    bucket: GivenDuration,
}

const ACCEPTED: &str = "accepted: { calls = 100 }, or { time = \"60s\", bucket = \"1s\" }";

impl TryFrom<Window> for WindowConfig {
    type Error = String;

    fn try_from(window: Window) -> Result<Self, String> {
        match (window.calls.0, window.time.duration(), window.bucket.duration()) {
            (Some(calls), None, None) => Ok(Self::Calls(calls)),
            (None, Some(duration), bucket) => Ok(Self::Time {
                duration,
                bucket: bucket.unwrap_or(Duration::from_secs(1)),
            }),
            (None, None, _) => Err(ACCEPTED.to_owned()),
            (Some(_), Some(_), _) => Err(format!("a window counts calls or time, not both; {ACCEPTED}")),
            (Some(_), None, Some(_)) => Err(format!("a window of calls has no bucket; {ACCEPTED}")),
        }
    }
}

impl From<WindowConfig> for Window {
    fn from(window: WindowConfig) -> Self {
        match window {
            WindowConfig::Calls(calls) => Self {
                calls: Given(Some(calls)),
                ..Self::default()
            },
            WindowConfig::Time { duration, bucket } => Self {
                time: duration.into(),
                bucket: bucket.into(),
                ..Self::default()
            },
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for WindowConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WindowConfig".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let duration = generator.subschema_for::<crate::vocabulary::schema::Duration>();
        schemars::json_schema!({
            "description": "The sliding window: either the last so many calls, or the calls of the last while.",
            "type": "object",
            "properties": {
                "calls": {
                    "description": "Exactly the last so many calls, from 1 to 1 000 000.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 1_000_000,
                },
                "time": {
                    "description": "The calls of the last while: a whole multiple of `bucket`.",
                    "allOf": [duration],
                },
                "bucket": {
                    "description": "The step in which old calls leave, from 1 ms. Default: 1 s.",
                    "allOf": [duration],
                },
            },
            "oneOf": [
                { "required": ["calls"], "not": { "required": ["bucket"] } },
                { "required": ["time"] },
            ],
            "additionalProperties": false,
        })
    }
}
