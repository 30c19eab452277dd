//! How events and what they carry are written (feature `serde`), as JSON and the like.
//!
//! The format is kept: tests pin it word by word, and what is added later are fields and words. Durations are seconds,
//! rates are fractions, points in time are RFC 3339 in UTC with milliseconds. What says why has a `code` to branch on and
//! a `text` to read.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeStruct},
};

use crate::vocabulary::{
    command::{By, Command, OverrideEnd},
    event::{Event, GaveUp, PolicyKind, What},
    event_kind::EventKind,
    events::Told,
    outcome::{Abandoned, Verdict},
    rate::Rate,
    rejected::{OpenCause, Reason, Rejected, RejectedKind},
    state::State,
};

macro_rules! words {
    ($($word:ty)*) => {$(
        impl Serialize for $word {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.word())
            }
        }
    )*};
}

words!(PolicyKind EventKind State Verdict Abandoned GaveUp RejectedKind OverrideEnd);

/// A duration in seconds.
pub(crate) struct Seconds(pub(crate) Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Divided once: `as_secs_f64` adds, and would write 6.238978248 as 6.2389782480000004.
        to.serialize_f64(self.0.as_nanos() as f64 / 1e9)
    }
}

/// For `serialize_with`.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    Seconds(*duration).serialize(to)
}

/// For `serialize_with`.
#[allow(clippy::ref_option, reason = "serde hands it over so")]
pub(crate) fn maybe_seconds<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    duration.map(Seconds).serialize(to)
}

/// A point in time: `2026-03-01T12:30:00.250Z`.
pub(crate) struct At(pub(crate) SystemTime);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What lies before 1970 or after 9999 cannot be written so; a clock that is that wrong shows as 1970.
        let at = self.0.max(SystemTime::UNIX_EPOCH);
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        humantime::format_rfc3339_millis(at.min(last)).fmt(f)
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// For `serialize_with`.
pub(crate) fn at<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    At(*at).serialize(to)
}

/// For `serialize_with`: a rate as a fraction. In settings it stands in percent.
#[allow(clippy::ref_option, reason = "serde hands it over so")]
pub(crate) fn maybe_fraction<S: Serializer>(rate: &Option<Rate>, to: S) -> Result<S::Ok, S::Error> {
    rate.map(Rate::as_fraction).serialize(to)
}

/// `{"code": "failure_rate", "rate": 0.61, "calls": 20, "text": "failure rate 61 % of 20 calls"}`
impl Serialize for OpenCause {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("code", self.word())?;
        match self {
            Self::FailureRate { rate, calls } | Self::SlowCallRate { rate, calls } => {
                map.serialize_entry("rate", &rate.as_fraction())?;
                map.serialize_entry("calls", calls)?;
            }
            Self::ConsecutiveFailures { failures } => map.serialize_entry("failures", failures)?,
            Self::HalfOpenOverstayed | Self::Command => {}
        }
        map.serialize_entry("text", &Text(self))?;
        map.end()
    }
}

/// `{"code": "full", "limit": 8, "text": "all 8 slots in use"}`
impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("code", self.word())?;
        match self {
            Self::Open(cause) => map.serialize_entry("cause", cause)?,
            Self::ProbesTaken { probes } => map.serialize_entry("probes", probes)?,
            Self::Full { limit } => map.serialize_entry("limit", limit)?,
            Self::QueueFull { limit, queue } => {
                map.serialize_entry("limit", limit)?;
                map.serialize_entry("queue", queue)?;
            }
            Self::WaitedTooLong { limit, waited } => {
                map.serialize_entry("limit", limit)?;
                map.serialize_entry("waited_seconds", &Seconds(*waited))?;
            }
            Self::TimedOut { limit } | Self::BodyIdle { limit } => {
                map.serialize_entry("limit_seconds", &Seconds(*limit))?;
            }
            Self::ForcedOpen | Self::WasOpen | Self::NotPolledReady => {}
        }
        map.serialize_entry("text", &Text(self))?;
        map.end()
    }
}

impl Serialize for Rejected {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_struct("Rejected", 6)?;
        map.serialize_field("policy", self.policy())?;
        map.serialize_field("kind", &self.kind())?;
        map.serialize_field("reason", self.reason())?;
        map.serialize_field("retry_after_seconds", &self.retry_after().map(Seconds))?;
        map.serialize_field("may_have_reached_service", &self.may_have_reached_service())?;
        map.serialize_field("attempts", &self.attempts())?;
        map.end()
    }
}

/// `{"label": "anna", "reason": "upstream is moved"}`
impl Serialize for By {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_struct("By", 2)?;
        map.serialize_field("label", &*self.label)?;
        map.serialize_field("reason", &*self.reason)?;
        map.end()
    }
}

/// `policy` (the kind), `name`, `what` (the [`EventKind`]), what belongs to that, and `text`.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        event(self, &mut map)?;
        map.end()
    }
}

/// `seq`, `lost`, `at`, and the event.
impl Serialize for Told {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("seq", &self.seq)?;
        map.serialize_entry("lost", &self.lost)?;
        map.serialize_entry("at", &At(self.at))?;
        event(&self.event, &mut map)?;
        map.end()
    }
}

fn event<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    map.serialize_entry("policy", &event.policy)?;
    map.serialize_entry("name", &*event.name)?;
    map.serialize_entry("what", &event.what.kind())?;
    match &event.what {
        What::Transition { from, to, cause } => {
            map.serialize_entry("from", from)?;
            map.serialize_entry("to", to)?;
            map.serialize_entry("cause", cause)?;
        }
        What::Rejected(rejected) => map.serialize_entry("rejected", rejected)?,
        What::Recorded { verdict, duration } => {
            map.serialize_entry("verdict", verdict)?;
            map.serialize_entry("duration_seconds", &duration.map(Seconds))?;
        }
        What::Abandoned(why) => map.serialize_entry("why", why)?,
        What::Retrying {
            attempt,
            after,
            failure,
        } => {
            map.serialize_entry("attempt", attempt)?;
            map.serialize_entry("after_seconds", &Seconds(*after))?;
            map.serialize_entry("failure", &**failure)?;
        }
        What::Recovered { attempts } => map.serialize_entry("attempts", attempts)?,
        What::GaveUp { attempts, why } => {
            map.serialize_entry("attempts", attempts)?;
            map.serialize_entry("why", why)?;
        }
        What::Answered { hidden, rejected } => {
            map.serialize_entry("hidden", hidden)?;
            map.serialize_entry("rejected", rejected)?;
        }
        What::KeysFull { max_keys } => map.serialize_entry("max_keys", max_keys)?,
        What::Reloaded { generation } => map.serialize_entry("generation", generation)?,
        What::ReloadFailed { errors } => map.serialize_entry("errors", &**errors)?,
        What::Rejections { count, over, reason } => {
            map.serialize_entry("count", count)?;
            map.serialize_entry("over_seconds", &Seconds(*over))?;
            map.serialize_entry("reason", reason)?;
        }
        What::Commanded { command, by, ttl } => {
            commanded(*command, by, map)?;
            map.serialize_entry("ttl_seconds", &ttl.map(Seconds))?;
        }
        What::OverrideEnded { command, by, end } => {
            commanded(*command, by, map)?;
            map.serialize_entry("end", end)?;
        }
        What::WindowEmptied
        | What::Queued
        | What::Reconfigured
        | What::KeyForgotten
        | What::Restacked
        | What::Orphaned => {}
    }
    map.serialize_entry("text", &Text(&event.what))
}

pub(crate) fn commanded<M: SerializeMap>(command: Command, by: &By, map: &mut M) -> Result<(), M::Error> {
    map.serialize_entry("command", command.word())?;
    if let Command::Resize { max_concurrent } = command {
        map.serialize_entry("max_concurrent", &max_concurrent)?;
    }
    map.serialize_entry("by", by)
}

/// What it shows itself as.
struct Text<'a, T>(&'a T);

impl<T: fmt::Display> Serialize for Text<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json, to_value};

    use super::*;

    fn rejected() -> Rejected {
        let cause = OpenCause::FailureRate {
            rate: Rate::fraction(0.61),
            calls: 20,
        };
        Rejected::new("payments/circuit_breaker", Reason::Open(cause))
            .with_retry_after(Some(Duration::from_millis(4_250)))
    }

    fn by() -> By {
        By::new("anna", "moved")
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Each kind, with what stands beside `policy`, `name` and `what`. **These words are kept**: others read them.
    #[allow(clippy::too_many_lines, reason = "one entry for each kind")]
    fn formats() -> Vec<(What, Value)> {
        let cause = json!({
            "code": "failure_rate", "rate": 0.61, "calls": 20, "text": "failure rate 61 % of 20 calls"
        });
        let refused = json!({
            "policy": "payments/circuit_breaker",
            "kind": "circuit_open",
            "reason": {"code": "open", "cause": cause, "text": "failure rate 61 % of 20 calls"},
            "retry_after_seconds": 4.25,
            "may_have_reached_service": false,
            "attempts": 0,
        });
        vec![
            (
                What::Transition {
                    from: State::Closed,
                    to: State::Open,
                    cause: Some(OpenCause::FailureRate {
                        rate: Rate::fraction(0.61),
                        calls: 20,
                    }),
                },
                json!({
                    "from": "closed", "to": "open", "cause": cause,
                    "text": "closed to open: failure rate 61 % of 20 calls",
                }),
            ),
            (
                What::WindowEmptied,
                json!({"text": "emptied its window, which has another shape"}),
            ),
            (
                What::Rejected(rejected()),
                json!({"rejected": refused, "text": "rejected a call: failure rate 61 % of 20 calls"}),
            ),
            (
                What::Recorded {
                    verdict: Verdict::Failure,
                    duration: Some(Duration::from_micros(1_500)),
                },
                json!({
                    "verdict": "failure", "duration_seconds": 0.0015, "text": "recorded a failure after 1.5ms",
                }),
            ),
            (
                What::Abandoned(Abandoned::TimedOut),
                json!({"why": "timed_out", "text": "a call ended without a result: timed_out"}),
            ),
            (
                What::Retrying {
                    attempt: 1,
                    after: SECOND,
                    failure: "connection refused".into(),
                },
                json!({
                    "attempt": 1, "after_seconds": 1.0, "failure": "connection refused",
                    "text": "attempt 1 failed, the next in 1s: connection refused",
                }),
            ),
            (
                What::Recovered { attempts: 2 },
                json!({"attempts": 2, "text": "a call succeeded after 2 attempts"}),
            ),
            (
                What::GaveUp {
                    attempts: 3,
                    why: GaveUp::Budget,
                },
                json!({"attempts": 3, "why": "budget", "text": "gave up after 3 attempts: budget"}),
            ),
            (What::Queued, json!({"text": "a call waits for a slot"})),
            (
                What::Answered {
                    hidden: Verdict::Failure,
                    rejected: None,
                },
                json!({"hidden": "failure", "rejected": null, "text": "answered in place of a failure"}),
            ),
            (What::Reconfigured, json!({"text": "took new settings"})),
            (
                What::KeyForgotten,
                json!({"text": "forgot a key that is not in use"}),
            ),
            (
                What::KeysFull { max_keys: 8 },
                json!({"max_keys": 8, "text": "no place for a new key: there are 8"}),
            ),
            (What::Restacked, json!({"text": "has other stages"})),
            (
                What::Orphaned,
                json!({"text": "is gone from the settings, and goes on under the last"}),
            ),
            (
                What::Reloaded { generation: 3 },
                json!({"generation": 3, "text": "took settings number 3"}),
            ),
            (
                What::ReloadFailed {
                    errors: "a line".into(),
                },
                json!({"errors": "a line", "text": "refused new settings: a line"}),
            ),
            (
                What::Rejections {
                    count: 12,
                    over: SECOND,
                    reason: Some(Reason::Full { limit: 8 }),
                },
                json!({
                    "count": 12, "over_seconds": 1.0,
                    "reason": {"code": "full", "limit": 8, "text": "all 8 slots in use"},
                    "text": "rejected 12 calls in 1.0s: all 8 slots in use",
                }),
            ),
            (
                What::Commanded {
                    command: Command::Resize { max_concurrent: 4 },
                    by: by(),
                    ttl: Some(SECOND),
                },
                json!({
                    "command": "resize", "max_concurrent": 4, "by": {"label": "anna", "reason": "moved"},
                    "ttl_seconds": 1.0, "text": "commanded: resize to 4 for 1s, by anna: moved",
                }),
            ),
            (
                What::OverrideEnded {
                    command: Command::ForceOpen,
                    by: by(),
                    end: OverrideEnd::Expired,
                },
                json!({
                    "command": "force_open", "by": {"label": "anna", "reason": "moved"}, "end": "expired",
                    "text": "command over (expired): force_open, by anna: moved",
                }),
            ),
        ]
    }

    #[test]
    fn each_kind_of_event_keeps_its_words() {
        let mut seen = Vec::new();
        for (what, rest) in formats() {
            let mut expected = json!({
                "policy": "circuit_breaker", "name": "payments/circuit_breaker", "what": what.kind().word(),
            });
            expected
                .as_object_mut()
                .unwrap()
                .extend(rest.as_object().unwrap().clone());
            seen.push(what.kind());
            let event = Event {
                policy: PolicyKind::CircuitBreaker,
                name: Arc::from("payments/circuit_breaker"),
                what,
            };
            assert_eq!(to_value(&event).unwrap(), expected);
        }
        assert_eq!(seen, EventKind::ALL, "each kind, in its order");
    }

    #[test]
    fn an_event_of_a_subscription_has_number_loss_and_time() {
        let told = Told {
            seq: 7,
            lost: 2,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_368_200_250),
            event: Event {
                policy: PolicyKind::Bulkhead,
                name: Arc::from("payments/bulkhead"),
                what: What::Queued,
            },
        };
        assert_eq!(
            serde_json::to_string(&told).unwrap(),
            r#"{"seq":7,"lost":2,"at":"2026-03-01T12:30:00.250Z","policy":"bulkhead","name":"payments/bulkhead","what":"queued","text":"a call waits for a slot"}"#
        );
    }

    #[test]
    fn each_reason_has_a_code_and_a_text() {
        let reasons = [
            (
                Reason::ForcedOpen,
                json!({"code": "forced_open", "text": "forced open by command"}),
            ),
            (
                Reason::WasOpen,
                json!({"code": "was_open", "text": "it was open a moment ago"}),
            ),
            (
                Reason::ProbesTaken { probes: 3 },
                json!({"code": "probes_taken", "probes": 3, "text": "half-open with all 3 probes taken"}),
            ),
            (
                Reason::QueueFull { limit: 8, queue: 2 },
                json!({
                    "code": "queue_full", "limit": 8, "queue": 2,
                    "text": "all 8 slots in use and 2 calls waiting",
                }),
            ),
            (
                Reason::WaitedTooLong {
                    limit: 8,
                    waited: SECOND / 2,
                },
                json!({
                    "code": "waited_too_long", "limit": 8, "waited_seconds": 0.5,
                    "text": "all 8 slots in use, waited 500ms",
                }),
            ),
            (
                Reason::TimedOut { limit: SECOND },
                json!({"code": "timed_out", "limit_seconds": 1.0, "text": "not done within 1s"}),
            ),
            (
                Reason::BodyIdle { limit: SECOND },
                json!({"code": "body_idle", "limit_seconds": 1.0, "text": "no frame of the body for 1s"}),
            ),
            (
                Reason::NotPolledReady,
                json!({"code": "not_polled_ready", "text": "called without having been polled ready"}),
            ),
            (
                Reason::Open(OpenCause::ConsecutiveFailures { failures: 5 }),
                json!({
                    "code": "open",
                    "cause": {"code": "consecutive_failures", "failures": 5, "text": "5 failures in a row"},
                    "text": "5 failures in a row",
                }),
            ),
            (
                Reason::Open(OpenCause::HalfOpenOverstayed),
                json!({
                    "code": "open",
                    "cause": {
                        "code": "half_open_overstayed", "text": "half-open for too long without a verdict",
                    },
                    "text": "half-open for too long without a verdict",
                }),
            ),
        ];
        for (reason, expected) in reasons {
            assert_eq!(to_value(reason).unwrap(), expected);
        }
    }

    #[test]
    fn a_clock_that_is_very_wrong_breaks_nothing() {
        let before = SystemTime::UNIX_EPOCH - SECOND;
        assert_eq!(At(before).to_string(), "1970-01-01T00:00:00.000Z");
        let after = SystemTime::UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert_eq!(At(after).to_string(), "9999-12-31T23:59:59.000Z");
    }
}
