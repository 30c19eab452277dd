//! What a circuit breaker shows to who looks at it closely: its window as a picture, and what it is judged by.

use std::{sync::Arc, time::Duration};

use super::{
    CircuitBreakerSnapshot, WindowConfig,
    config::Settings,
    machine::{Machine, View},
    window::Window,
};
use crate::vocabulary::{
    rate::{Millionths, Rate},
    state::State,
};

/// A circuit breaker at one moment, closely.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitBreakerDetail {
    /// State, counts and rates.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub snapshot: CircuitBreakerSnapshot,
    /// What it is judged by.
    pub thresholds: CircuitBreakerThresholds,
    /// Failures in a row, where that is looked at.
    pub failures_in_a_row: Option<u32>,
    /// Probes under way in half-open.
    pub probes_under_way: u32,
    /// The calls of the window.
    pub window: WindowPicture,
}

/// What a circuit breaker is judged by.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitBreakerThresholds {
    /// Calls from which on rates are judged in the state that it is in.
    pub minimum_calls: u64,
    /// Opens when the share of failures is **>=** this.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::vocabulary::json::maybe_fraction")
    )]
    pub failure_rate: Option<Rate>,
    /// Opens when the share of slow calls is **>=** this.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::vocabulary::json::maybe_fraction")
    )]
    pub slow_call_rate: Option<Rate>,
    /// A call is slow when it takes **longer than** this.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "slow_call_longer_than_seconds",
            serialize_with = "crate::vocabulary::json::maybe_seconds"
        )
    )]
    pub slow_call_longer_than: Option<Duration>,
    /// Opens when so many calls fail in a row.
    pub consecutive_failures: Option<u32>,
    /// Probes that half-open admits.
    pub probes: u32,
}

/// The calls of a window, oldest first.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WindowPicture {
    /// Which calls are looked at: in half-open its probes, and in open those of the state before it. `None` where nothing
    /// is recorded.
    pub shape: Option<WindowConfig>,
    /// So many calls, or buckets of a time window, are in each cell. The last cell of calls may have fewer, and so may
    /// the first and the last cell of buckets.
    pub per_cell: u32,
    /// The calls. Those of a count window that is not full are fewer than its size.
    pub cells: Vec<WindowCell>,
}

/// Calls of a window that stand together in a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowCell {
    /// How many calls.
    pub calls: u64,
    /// Of these, failures.
    pub failed: u64,
    /// Of these, slow calls, whatever their results.
    pub slow: u64,
    /// Of these, slow failures.
    pub slow_failed: u64,
}

/// What is seen under the lock.
pub(super) struct Seen {
    settings: Arc<Settings>,
    window: Window,
    consecutive: u32,
    probes_under_way: usize,
}

impl Seen {
    pub(super) fn of(machine: &Machine) -> Self {
        Self {
            settings: Arc::clone(machine.settings()),
            window: machine.window().clone(),
            consecutive: machine.consecutive(),
            probes_under_way: machine.probes_under_way(),
        }
    }
}

impl CircuitBreakerDetail {
    pub(super) fn new(snapshot: CircuitBreakerSnapshot, view: &View, seen: &Seen, cells: u32) -> Self {
        let Seen { settings, window, .. } = seen;
        let (per_cell, cells) = window.cells(cells);
        let thresholds = CircuitBreakerThresholds {
            minimum_calls: view.minimum,
            failure_rate: settings.failure_rate.map(Millionths::rate),
            slow_call_rate: settings.slow_rate().map(Millionths::rate),
            slow_call_longer_than: settings.slow_longer_than(),
            consecutive_failures: settings.consecutive_failures,
            probes: settings.probes,
        };
        Self {
            snapshot,
            thresholds,
            failures_in_a_row: settings
                .consecutive_failures
                .filter(|_| matches!(view.state, State::Closed | State::HalfOpen))
                .map(|_| seen.consecutive),
            probes_under_way: u32::try_from(seen.probes_under_way).unwrap_or(u32::MAX),
            window: WindowPicture {
                shape: shape_of(window),
                per_cell,
                cells: cells
                    .into_iter()
                    .map(|totals| WindowCell {
                        calls: totals.calls,
                        failed: totals.failed,
                        slow: totals.slow,
                        slow_failed: totals.slow_failed,
                    })
                    .collect(),
            },
        }
    }
}

/// Its own: in open it may be another one than the settings say by now.
fn shape_of(window: &Window) -> Option<WindowConfig> {
    match window {
        Window::None => None,
        Window::Count(window) => Some(WindowConfig::Calls(window.size())),
        Window::Time(window) => {
            let (buckets, width) = window.shape();
            Some(WindowConfig::Time {
                duration: Duration::from_nanos(width.saturating_mul(buckets)),
                bucket: Duration::from_nanos(width),
            })
        }
    }
}

/// `{"kind": "calls", "size": 100, "per_cell": 1, "cells": [[1, 0, 0, 0]]}`, or of `"kind": "time"` with
/// `duration_seconds` and `bucket_seconds`; a cell is calls, failures, slow calls and slow failures.
#[cfg(feature = "serde")]
impl serde::Serialize for WindowPicture {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;

        use crate::vocabulary::json::Seconds;

        let mut map = to.serialize_map(None)?;
        match self.shape {
            Some(WindowConfig::Calls(size)) => {
                map.serialize_entry("kind", "calls")?;
                map.serialize_entry("size", &size)?;
            }
            Some(WindowConfig::Time { duration, bucket }) => {
                map.serialize_entry("kind", "time")?;
                map.serialize_entry("duration_seconds", &Seconds(duration))?;
                map.serialize_entry("bucket_seconds", &Seconds(bucket))?;
            }
            None => map.serialize_entry("kind", "none")?,
        }
        map.serialize_entry("per_cell", &self.per_cell)?;
        map.serialize_entry("cells", &self.cells)?;
        map.end()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for WindowCell {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        [self.calls, self.failed, self.slow, self.slow_failed].serialize(to)
    }
}
