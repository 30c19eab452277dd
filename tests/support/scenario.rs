//! Scenarios as lines of JSON, and answers as lines of JSON: the forms of `conformance/README.md`.
//!
//! Reading is strict. What is unknown, missing, of another type or without meaning is an error of one line that names
//! the line of the input, and the step where there is one.

#![allow(
    dead_code,
    reason = "each test and example that includes this file uses a part of it"
)]

use std::{error::Error, fmt, io::BufRead, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::reference::{Answer, Command, Config, Growth, Outcome, State, Step, Window};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) steps: Vec<Step>,
    /// One for each step, where the line says what is expected.
    pub(crate) expect: Option<Vec<Answer>>,
}

impl Scenario {
    /// The scenario as a line of JSON, without its end.
    pub(crate) fn to_line(&self) -> String {
        to_line(&ScenarioLine {
            name: self.name.clone(),
            config: Object(self.config.clone().into()),
            steps: Steps(self.steps.clone()),
            expect: self.expect.as_deref().map(in_json),
        })
    }
}

/// What is wrong with the input, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// From 1.
    pub(crate) line: usize,
    /// What is wrong; one line.
    pub(crate) reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl Error for Malformed {}

/// The scenarios of `input`, one a line, with the numbers of their lines. Blank lines are passed over, but counted.
/// Ends after the first error.
pub(crate) fn read(input: impl BufRead) -> impl Iterator<Item = Result<(usize, Scenario), Malformed>> {
    let mut lines = input.lines().zip(1..);
    let mut failed = false;
    std::iter::from_fn(move || {
        while !failed {
            let (text, line) = lines.next()?;
            let scenario = match text {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => parse(&text),
                Err(error) => Err(error.to_string()),
            };
            failed = scenario.is_err();
            return Some(match scenario {
                Ok(scenario) => Ok((line, scenario)),
                Err(reason) => Err(Malformed { line, reason }),
            });
        }
        None
    })
}

/// The scenario that a line holds, or what is wrong with it.
///
/// # Errors
///
/// Says what is wrong, and in which column of the line.
pub(crate) fn parse(line: &str) -> Result<Scenario, String> {
    let Object(read) = from_line::<Object<ScenarioLine>>(line)?;
    let Object(config) = read.config;
    let Steps(steps) = read.steps;
    let expect: Option<Vec<Answer>> = read.expect.map(|answers| {
        answers
            .into_iter()
            .map(|Object(AnswerInJson(answer))| answer)
            .collect()
    });
    if let Some(answers) = &expect
        && answers.len() != steps.len()
    {
        return Err(format!(
            "`expect` holds {} answers for {} steps",
            answers.len(),
            steps.len()
        ));
    }
    Ok(Scenario {
        name: read.name,
        config: config.try_into()?,
        steps,
        expect,
    })
}

/// What a breaker answered to the scenario `name`, as a line of JSON, without its end.
pub(crate) fn answers_to_line(name: &str, answers: &[Answer]) -> String {
    to_line(&AnswersLine {
        name: name.to_owned(),
        got: in_json(answers),
    })
}

fn from_line<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        // serde_json counts lines within the one that it was given.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let reason = error.to_string();
        let reason = reason.strip_suffix(&place).unwrap_or(&reason);
        // Before the first character it says 0.
        format!("column {}: {reason}", error.column().max(1))
    })
}

fn in_json(answers: &[Answer]) -> Vec<Object<AnswerInJson>> {
    answers
        .iter()
        .map(|answer| Object(AnswerInJson(*answer)))
        .collect()
}

fn to_line<T: Serialize>(line: &T) -> String {
    serde_json::to_string(line).expect("strings and numbers always have a form in JSON")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioLine {
    name: String,
    config: Object<ConfigForm>,
    steps: Steps,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expect: Option<Vec<Object<AnswerInJson>>>,
}

#[derive(Serialize)]
struct AnswersLine {
    name: String,
    got: Vec<Object<AnswerInJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigForm {
    #[serde(with = "WindowForm")]
    window: Window,
    size: u32,
    minimum_calls: u32,
    failure_rate_threshold: f64,
    slow_call_rate_threshold: f64,
    slow_call_duration_ms: u64,
    permitted_half_open: u32,
    wait_open_ms: u64,
    #[serde(deserialize_with = "present")]
    wait_open_multiplier: Option<f64>,
    #[serde(deserialize_with = "present")]
    wait_open_max_ms: Option<u64>,
}

impl TryFrom<ConfigForm> for Config {
    type Error = String;

    fn try_from(form: ConfigForm) -> Result<Self, String> {
        let growth = match (form.wait_open_multiplier, form.wait_open_max_ms) {
            (None, None) => None,
            (Some(multiplier), Some(max_ms)) => Some(Growth { multiplier, max_ms }),
            _ => {
                return Err(
                    "of `wait_open_multiplier` and `wait_open_max_ms` one is null, one is not".to_owned(),
                );
            }
        };
        Ok(Self {
            window: form.window,
            size: form.size,
            minimum_calls: form.minimum_calls,
            failure_rate_threshold: form.failure_rate_threshold,
            slow_call_rate_threshold: form.slow_call_rate_threshold,
            slow_call_duration_ms: form.slow_call_duration_ms,
            permitted_half_open: form.permitted_half_open,
            wait_open_ms: form.wait_open_ms,
            growth,
        })
    }
}

impl From<Config> for ConfigForm {
    fn from(config: Config) -> Self {
        Self {
            window: config.window,
            size: config.size,
            minimum_calls: config.minimum_calls,
            failure_rate_threshold: config.failure_rate_threshold,
            slow_call_rate_threshold: config.slow_call_rate_threshold,
            slow_call_duration_ms: config.slow_call_duration_ms,
            permitted_half_open: config.permitted_half_open,
            wait_open_ms: config.wait_open_ms,
            wait_open_multiplier: config.growth.map(|growth| growth.multiplier),
            wait_open_max_ms: config.growth.map(|growth| growth.max_ms),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Window", rename_all = "snake_case")]
enum WindowForm {
    Count,
    Time,
}

/// Steps, read so that an error names the step.
struct Steps(Vec<Step>);

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().copied().map(StepInJson))
    }
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbered;

        impl<'de> Visitor<'de> for Numbered {
            type Value = Steps;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of steps")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Steps, A::Error> {
                let mut steps = Vec::new();
                loop {
                    match list.next_element() {
                        Ok(Some(Object(StepInJson(step)))) => steps.push(step),
                        Ok(None) => return Ok(Steps(steps)),
                        // From 0, as compare.py counts them.
                        Err(error) => {
                            return Err(de::Error::custom(format_args!("step {}: {error}", steps.len())));
                        }
                    }
                }
            }
        }

        deserializer.deserialize_seq(Numbered)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct StepInJson(#[serde(with = "StepForm")] Step);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Step", tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum StepForm {
    Call {
        #[serde(with = "OutcomeForm")]
        outcome: Outcome,
        ms: u64,
    },
    // With braces: without them serde lets unknown fields pass.
    Acquire {},
    Finish {
        #[serde(with = "OutcomeForm")]
        outcome: Outcome,
        ms: u64,
    },
    Advance {
        ms: u64,
    },
    Transition {
        #[serde(with = "CommandForm")]
        to: Command,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome", rename_all = "snake_case")]
enum OutcomeForm {
    Ok,
    Error,
    Ignored,
    Unrecorded,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Command", rename_all = "snake_case")]
enum CommandForm {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    Disabled,
    MetricsOnly,
    Reset,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct AnswerInJson(#[serde(with = "AnswerForm")] Answer);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Answer", deny_unknown_fields)]
struct AnswerForm {
    #[serde(deserialize_with = "present")]
    permitted: Option<bool>,
    #[serde(with = "StateForm")]
    state: State,
    failure_rate: f64,
    slow_call_rate: f64,
    buffered: usize,
    failed: usize,
    slow: usize,
    not_permitted: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "State", rename_all = "snake_case")]
enum StateForm {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

/// A field that may be null but not missing.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// Only an object: serde would take a list of a struct's fields for the struct.
#[derive(Serialize)]
#[serde(transparent)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}
