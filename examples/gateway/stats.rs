//! What became of calls, and how long they took.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use buttress::RejectedKind;
use serde_json::Value;
use tokio::time::Instant;

/// The gateway's own errors are of this type (RFC 9457), so that a client can tell a 503 of the gateway from one of
/// the upstream.
pub(crate) const PROBLEM: &str = "application/problem+json";

/// The time. The one place that reads a clock: the library's lint against hidden clocks is about policies, and
/// this program measures real time.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What became of a call, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The upstream's answer, other than a 5xx.
    Answered,
    /// The upstream's own 5xx, passed on.
    UpstreamError,
    /// Refused at once: the circuit breaker is open.
    CircuitOpen,
    /// Refused: the bulkhead is full.
    BulkheadFull,
    /// Cut off by the gateway's timeout.
    TimedOut,
    /// The gateway could not talk with the upstream, or the client with the gateway.
    Lost,
    /// The client lost its patience and hung up.
    HungUp,
}

impl Outcome {
    pub(crate) const ALL: [Self; 7] = [
        Self::Answered,
        Self::UpstreamError,
        Self::CircuitOpen,
        Self::BulkheadFull,
        Self::TimedOut,
        Self::Lost,
        Self::HungUp,
    ];

    /// The outcome of a call that got an answer, as a client can tell it.
    pub(crate) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if !status.is_server_error() {
            return Self::Answered;
        }
        if headers.get(CONTENT_TYPE).is_none_or(|value| value != PROBLEM) {
            return Self::UpstreamError;
        }
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let kind = problem["type"].as_str().unwrap_or_default();
        match kind.rsplit('.').next() {
            Some("CircuitOpen") => Self::CircuitOpen,
            Some("BulkheadFull") => Self::BulkheadFull,
            Some("TimedOut") => Self::TimedOut,
            _ => Self::Lost,
        }
    }

    /// The outcome of a call that was rejected, as the gateway itself knows it.
    pub(crate) const fn of_rejection(kind: RejectedKind) -> Self {
        match kind {
            RejectedKind::CircuitOpen => Self::CircuitOpen,
            RejectedKind::BulkheadFull => Self::BulkheadFull,
            RejectedKind::TimedOut => Self::TimedOut,
            _ => Self::Lost,
        }
    }
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// When it was due, after the start of the pass.
    pub(crate) began: Duration,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

/// Collects calls until somebody takes them.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Vec<Call>>);

impl Meter {
    pub(crate) fn record(&self, call: Call) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// The calls that ended since the last time.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) fn count(calls: &[Call], outcome: Outcome) -> usize {
    calls.iter().filter(|call| call.outcome == outcome).count()
}

/// The time within which `percent` of the calls ended (nearest rank); `None` without calls.
pub(crate) fn percentile<'a>(calls: impl IntoIterator<Item = &'a Call>, percent: usize) -> Option<Duration> {
    let mut times: Vec<Duration> = calls.into_iter().map(|call| call.took).collect();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.max(1) - 1).copied()
}

/// What counts as back to normal: of the calls that began within `SPAN`, at least `SHARE` percent were
/// answered, each within `PROMPT`.
pub(crate) const SPAN: Duration = Duration::from_millis(500);
pub(crate) const SHARE: usize = 95;
pub(crate) const PROMPT: Duration = Duration::from_millis(100);

/// How long after `healthy` the first span starts in which calls are back to normal; `None` when none is.
pub(crate) fn recovery(calls: &[Call], healthy: Duration) -> Option<Duration> {
    const STEP: Duration = Duration::from_millis(50);
    let last = calls.iter().map(|call| call.began).max()?;
    let mut from = healthy;
    while from + SPAN <= last {
        let within = calls
            .iter()
            .filter(|call| (from..from + SPAN).contains(&call.began));
        let (mut all, mut good) = (0, 0);
        for call in within {
            all += 1;
            good += usize::from(call.outcome == Outcome::Answered && call.took <= PROMPT);
        }
        if all > 0 && good * 100 >= all * SHARE {
            return Some(from.saturating_sub(healthy));
        }
        from += STEP;
    }
    None
}
