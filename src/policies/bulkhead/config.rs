//! Settings of a bulkhead, and what of them is refused.

use std::time::Duration;

use super::Bulkhead;
use crate::vocabulary::{clock::Clock, event::PolicyKind, settings::ConfigError};

/// Settings of a [`Bulkhead`]: the builder, and what [`reconfigure`](Bulkhead::reconfigure) takes.
///
/// ```
/// use buttress::BulkheadConfig;
/// use std::time::Duration;
///
/// let bulkhead = BulkheadConfig::new(64).max_wait(Duration::from_millis(50)).build("payments")?;
/// assert_eq!(bulkhead.snapshot().limit, 64);
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct BulkheadConfig {
    /// Calls that may be in flight at once, from 1 to 1 000 000. Default: 256.
    pub max_concurrent: u32,
    /// How long a call may wait for a slot. Zero: not at all, a full bulkhead refuses at once. Default: zero.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::duration"))]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    pub max_wait: Duration,
    /// Calls that may wait at once. Zero: none. Default: 1024; without a `max_wait` none waits anyway.
    pub max_queue: u32,
    /// Where the time is read. Default: Tokio's clock.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub clock: Clock,
}

impl Default for BulkheadConfig {
    fn default() -> Self {
        Self::new(256)
    }
}

impl BulkheadConfig {
    /// That many calls at once, and no waiting.
    pub fn new(max_concurrent: u32) -> Self {
        Self {
            max_concurrent,
            max_wait: Duration::ZERO,
            max_queue: 1024,
            clock: Clock::tokio(),
        }
    }

    /// Sets [`max_concurrent`](Self::max_concurrent).
    pub fn max_concurrent(mut self, calls: u32) -> Self {
        self.max_concurrent = calls;
        self
    }

    /// Sets [`max_wait`](Self::max_wait).
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets [`max_queue`](Self::max_queue).
    pub fn max_queue(mut self, calls: u32) -> Self {
        self.max_queue = calls;
        self
    }

    /// Sets [`clock`](Self::clock).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the bulkhead called `name`.
    ///
    /// # Errors
    ///
    /// A setting out of its range: the error names it, its value and what is accepted.
    pub fn build(self, name: &str) -> Result<Bulkhead, ConfigError> {
        self.check(name)?;
        Ok(Bulkhead::new(name, self))
    }

    pub(crate) fn check_values(&self) -> Result<(), ConfigError> {
        check_limit(self.max_concurrent)
    }

    pub(super) fn check(&self, name: &str) -> Result<(), ConfigError> {
        self.check_values()
            .map_err(|error| error.of(PolicyKind::Bulkhead, name))
    }
}

pub(super) fn check_limit(calls: u32) -> Result<(), ConfigError> {
    if (1..=1_000_000).contains(&calls) {
        return Ok(());
    }
    Err(ConfigError::new(
        "max_concurrent",
        calls,
        "accepted: from 1 to 1000000",
    ))
}
