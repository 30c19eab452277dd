//! The guards of each library, built as its documentation recommends.

pub(crate) mod buttress;
pub(crate) mod failsafe;
pub(crate) mod recloser;
pub(crate) mod seatbelt;
pub(crate) mod tower;
pub(crate) mod tower_resilience;

use std::time::Duration;

/// The limit of every timeout.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// The duration of every time window, unless a row needs another.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// What every bulkhead admits.
pub(crate) const CONCURRENT: usize = 256;
/// What a bulkhead admits where calls in flight are many.
pub(crate) const MANY: usize = 200_000;
/// Longer than any run.
pub(crate) const HOUR: Duration = Duration::from_hours(1);
