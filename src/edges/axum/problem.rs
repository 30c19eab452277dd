//! Rejections as responses.

use std::fmt::Write as _;

use ::axum::{
    body::Body,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::Response,
};

use crate::vocabulary::rejected::{Rejected, RejectedKind};

/// A rejection as a response: the default of [`PolicyLayer`](super::PolicyLayer).
///
/// | rejection | status |
/// |---|---|
/// | an open circuit breaker, a full bulkhead, a service that was not ready | 503 Service Unavailable |
/// | a timeout | 504 Gateway Timeout |
///
/// A 503 has a `Retry-After`: when another try makes sense, in whole seconds, rounded up; and one second, the shortest
/// that can be said, where the policy does not know that (a full bulkhead, a breaker that was forced open). The body is
/// `application/problem+json` (RFC 9457) with `type`, `title`, `status`, and three members of its own: `policy` (the
/// policy's name), `reason` (in words), and `retry_after` (seconds, or null). The rejection itself is an extension of the
/// response.
///
/// ```
/// use buttress::{Reason, Rejected, axum::problem};
/// use std::time::Duration;
///
/// let rejected = Rejected::new("db", Reason::Full { limit: 8 }).with_retry_after(Some(Duration::from_millis(1200)));
/// let response = problem(&rejected);
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.headers()["retry-after"], "2");
/// ```
pub fn problem(rejected: &Rejected) -> Response {
    let (status, variant, title) = match rejected.kind() {
        RejectedKind::CircuitOpen => (
            StatusCode::SERVICE_UNAVAILABLE,
            "CircuitOpen",
            "Circuit breaker open",
        ),
        RejectedKind::BulkheadFull => (
            StatusCode::SERVICE_UNAVAILABLE,
            "BulkheadFull",
            "Too many concurrent calls",
        ),
        RejectedKind::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "NotReady", "Not ready"),
        RejectedKind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "TimedOut", "Timed out"),
    };
    let known = rejected.retry_after().map(|after| {
        after
            .as_secs()
            .saturating_add(u64::from(after.subsec_nanos() > 0))
    });
    let seconds = known.or((status == StatusCode::SERVICE_UNAVAILABLE).then_some(1));
    let body = format!(
        r#"{{"type":"{KINDS}#variant.{variant}","title":"{title}","status":{},"policy":{},"reason":{},"retry_after":{}}}"#,
        status.as_u16(),
        quoted(rejected.policy()),
        quoted(&rejected.reason().to_string()),
        seconds.map_or_else(|| "null".to_owned(), |seconds| seconds.to_string()),
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.extensions_mut().insert(rejected.clone());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Where the kinds of problems are described.
const KINDS: &str = "https://docs.rs/buttress/latest/buttress/enum.RejectedKind.html";

/// A string as JSON writes it (RFC 8259, section 7).
fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\u{0}'..='\u{1f}' => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_a_string_of_json() {
        for text in ["payments", "a\"b\\c", "tab\tline\nnul\0", "Grüße, 世界"] {
            assert_eq!(serde_json::from_str::<String>(&quoted(text)).unwrap(), text);
        }
    }
}
