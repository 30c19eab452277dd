//! `POST /api/commands`

use std::{sync::Arc, time::Duration};

use ::axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{Admin, reply};
use crate::{
    composition::{
        registry::{CommandError, Commanded},
        settings::ConfigErrors,
    },
    vocabulary::command::{By, Command},
};

/// The longest body that is read.
const LONGEST: usize = 16 * 1024;

/// Characters of the longest reason.
const LONGEST_REASON: usize = 500;

/// What a body asks for.
struct Asked {
    name: String,
    command: Command,
    reason: String,
    ttl: Option<Duration>,
}

/// Why a command is not carried out.
enum Refused {
    /// Whoever sent it, or how, is not as it must be.
    Status(StatusCode, String),
    /// A member of the body is wrong, or all of it.
    Wrong { field: Option<String>, message: String },
}

impl Refused {
    fn status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Status(status, message.into())
    }

    fn field(field: &str, message: &str) -> Self {
        Self::Wrong {
            field: Some(field.to_owned()),
            message: message.to_owned(),
        }
    }

    fn body(message: impl Into<String>) -> Self {
        Self::Wrong {
            field: None,
            message: message.into(),
        }
    }

    fn respond(self) -> Response {
        match self {
            Self::Status(status, message) => {
                let mut response = reply::error(status, &message);
                if status == StatusCode::UNAUTHORIZED {
                    let headers = response.headers_mut();
                    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                response
            }
            Self::Wrong { field, message } => {
                let error = match &field {
                    Some(field) => format!("{field}: {message}"),
                    None => message,
                };
                let body = json!({ "error": error, "field": field });
                reply::json(StatusCode::UNPROCESSABLE_ENTITY, &body)
            }
        }
    }
}

/// Carries out a command of somebody who may command.
pub(super) async fn command(State(admin): State<Admin>, request: Request) -> Response {
    // Before the body is read: who may not command cannot make this read anything.
    let label = match allowed(&admin, request.headers()) {
        Ok(label) => label,
        Err(refused) => return refused.respond(),
    };
    let asked = match read(request).await {
        Ok(asked) => asked,
        Err(refused) => return refused.respond(),
    };
    let by = By::new(Arc::clone(&label), asked.reason);
    let registry = admin.0.registry.clone();
    let carry_out = move || registry.command(&asked.name, asked.command, by, asked.ttl);
    let done = if asked.command == Command::Reload {
        // It reads files.
        match tokio::task::spawn_blocking(carry_out).await {
            Ok(done) => done,
            Err(_) => return reply::error(StatusCode::INTERNAL_SERVER_ERROR, "the reload came to no end"),
        }
    } else {
        carry_out()
    };
    match done {
        Ok(done) => reply::json(StatusCode::OK, &shown(&done, asked.command, &label)),
        Err(CommandError::NotFound(unknown)) => reply::error(StatusCode::NOT_FOUND, &unknown.to_string()),
        Err(CommandError::Refused(error)) => {
            let message = format!("{}: {}", error.value(), error.accepted());
            Refused::field(error.field(), &message).respond()
        }
        Err(CommandError::Reload(errors)) => conflict(&errors),
    }
}

/// The label of whoever sent it.
fn allowed(admin: &Admin, headers: &HeaderMap) -> Result<Arc<str>, Refused> {
    let tokens = &admin.0.options.tokens;
    if !tokens.any() {
        let message = "commands are off: no token is set";
        return Err(Refused::status(StatusCode::FORBIDDEN, message));
    }
    // A browser says where a request comes from. Others do not, and need the token all the same.
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Err(Refused::status(StatusCode::FORBIDDEN, "not from another site"));
    }
    let label = tokens.label(headers);
    label.ok_or_else(|| Refused::status(StatusCode::UNAUTHORIZED, "a command needs a token that is known"))
}

async fn read(request: Request) -> Result<Asked, Refused> {
    if !is_json(request.headers()) {
        let message = "the body must be `application/json`";
        return Err(Refused::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = to_bytes(request.into_body(), LONGEST).await.map_err(|_| {
        let message = format!("the body may have {LONGEST} bytes at most");
        Refused::status(StatusCode::PAYLOAD_TOO_LARGE, message)
    })?;
    let body = serde_json::from_slice(&body);
    parse(body.map_err(|error| Refused::body(format!("the body is no JSON: {error}")))?)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn parse(body: Value) -> Result<Asked, Refused> {
    let Value::Object(mut members) = body else {
        return Err(Refused::body("the body must be an object"));
    };
    let name = text(&mut members, "name")?.ok_or_else(|| Refused::field("name", "say which policy"))?;
    let word = text(&mut members, "command")?.ok_or_else(|| Refused::field("command", COMMANDS))?;
    let reason = text(&mut members, "reason")?
        .filter(|reason| !reason.trim().is_empty())
        .ok_or_else(|| Refused::field("reason", "say why, for those who read of it later"))?;
    if reason.chars().count() > LONGEST_REASON {
        return Err(Refused::field(
            "reason",
            &format!("at most {LONGEST_REASON} characters"),
        ));
    }
    let command = match word.as_str() {
        "force_open" => Command::ForceOpen,
        "open" => Command::Open,
        "half_open" => Command::HalfOpen,
        "close" => Command::Close,
        "disable" => Command::Disable,
        "metrics_only" => Command::MetricsOnly,
        "reset" => Command::Reset,
        "reload" => Command::Reload,
        "resize" => {
            let limit = members.remove("max_concurrent").unwrap_or_default();
            let limit = limit.as_u64().and_then(|limit| u32::try_from(limit).ok());
            let max_concurrent = limit
                .ok_or_else(|| Refused::field("max_concurrent", "accepted: from 1 to 1000000, a number"))?;
            Command::Resize { max_concurrent }
        }
        _ => return Err(Refused::field("command", COMMANDS)),
    };
    let ttl =
        match text(&mut members, "ttl")? {
            None => None,
            Some(ttl) => Some(humantime::parse_duration(&ttl).map_err(|_| {
                Refused::field("ttl", "a duration with its unit, such as \"15m\" or \"1h 30m\"")
            })?),
        };
    match members.keys().next() {
        Some(unknown) => Err(Refused::field(
            unknown,
            "there is no such member, or not with this command",
        )),
        None => Ok(Asked {
            name,
            command,
            reason,
            ttl,
        }),
    }
}

const COMMANDS: &str =
    "accepted: force_open, open, half_open, close, disable, metrics_only, reset, resize, reload";

/// The text of a member, which may be missing or null.
fn text(members: &mut Map<String, Value>, field: &str) -> Result<Option<String>, Refused> {
    match members.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refused::field(field, "it must be a text")),
    }
}

fn conflict(errors: &ConfigErrors) -> Response {
    let issues: Vec<Value> = errors
        .issues()
        .iter()
        .map(|issue| {
            json!({
                "path": issue.path,
                "value": issue.value,
                "place": issue.place.as_ref().map(ToString::to_string),
                "message": issue.message,
            })
        })
        .collect();
    reply::json(
        StatusCode::CONFLICT,
        &json!({ "error": "the settings are wrong, and nothing changed", "issues": issues }),
    )
}

fn shown(done: &Commanded, command: Command, label: &str) -> Value {
    let reload = done.reload.as_ref().map(|reload| {
        json!({
            "generation": reload.generation,
            "added": reload.added,
            "changed": reload.changed,
            "restacked": reload.restacked,
            "orphaned": reload.orphaned,
            "emptied": reload.emptied,
        })
    });
    json!({ "name": &*done.name, "command": command.word(), "label": label, "reload": reload })
}
