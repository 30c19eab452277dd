//! Settings of a circuit breaker, and what of them is refused.

use std::time::Duration;

use super::{CircuitBreaker, gate::Gate};
use crate::{
    policies::backoff::{growth, share},
    vocabulary::{
        clock::{Clock, nanos},
        event::PolicyKind,
        random::Random,
        rate::{Millionths, Rate},
        settings::{ConfigError, refuse_names},
        state::State,
    },
};

/// Settings of a [`CircuitBreaker`]: the builder, and what
/// [`reconfigure`](CircuitBreaker::reconfigure) takes.
///
/// ```
/// use buttress::CircuitBreakerConfig;
/// use std::time::Duration;
///
/// let breaker = CircuitBreakerConfig::new()
///     .count_window(50)
///     .minimum_calls(10)
///     .failure_rate(0.5)
///     .slow_calls(Duration::from_secs(2), 0.8)
///     .open_wait(Duration::from_secs(5))
///     .build("payments")?;
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct CircuitBreakerConfig {
    /// Which calls are looked at. Default: the last 100.
    pub window: WindowConfig,
    /// Calls in the window from which on rates are judged, from 1. A count window caps it at its size, a time
    /// window does not. Default: 20.
    pub minimum_calls: u32,
    /// Opens when the share of failed calls is **>=** this; 0 < rate <= 1. `None` does not look at it.
    /// Default: one half.
    pub failure_rate: Option<Rate>,
    /// Opens on slow calls. Default: `None`, and no call is timed.
    pub slow_call: Option<SlowCallConfig>,
    /// Opens when so many calls fail one after the other, from 1, whatever `minimum_calls` says.
    /// Default: `None`.
    pub consecutive_failures: Option<u32>,
    /// How long it stays open.
    pub open: OpenConfig,
    /// How it finds out whether to close.
    pub half_open: HalfOpenConfig,
    /// A call that is dropped without a result counts as a failure when it was pending for this long or
    /// longer. Before that nothing is recorded, except that a call beyond the slow-call duration is a slow
    /// failure. Zero: every dropped call that was pending is a failure. Default: 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::duration"))]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    pub dropped_after: Duration,
    /// The state to begin in. Default: closed.
    pub initial_state: State,
    /// Names of predicates whose matches are failures; with any, other errors are successes. Default: none.
    ///
    /// A [`Registry`](crate::Registry) knows what names mean; a breaker that is built alone takes none, and its layer
    /// takes predicates.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::names"))]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::vocabulary::schema::Name>"))]
    pub record: Vec<String>,
    /// Names of predicates whose matches are ignored; they win over `record`. Default: none.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::names"))]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::vocabulary::schema::Name>"))]
    pub ignore: Vec<String>,
    /// Seed for the jitter, for tests. Default: `None`, from the thread's generator.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub seed: Option<u64>,
    /// Where the time is read. Default: Tokio's clock.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub clock: Clock,
}

/// The sliding window of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "super::shape::Window", into = "super::shape::Window")
)]
pub enum WindowConfig {
    /// Exactly the last so many calls, from 1 to 1 000 000. Memory: a quarter of a byte for each.
    Calls(u32),
    /// The calls of the last while.
    Time {
        /// How long, a whole multiple of `bucket`.
        duration: Duration,
        /// The step in which old calls leave, from 1 ms; the window has at most 10 000 of them, 16 bytes each.
        /// Default: one second.
        bucket: Duration,
    },
}

/// When calls are slow, and what follows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlowCallConfig {
    /// A call is slow when it takes **longer than** this, whatever its result; above zero. What passes before a
    /// call is first pending is measured by the hardware's counter, the rest by the clock: a test with paused time
    /// that wants it exact uses [`Clock::manual`].
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::duration"))]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    pub longer_than: Duration,
    /// Opens when the share of slow calls is **>=** this; 0 < rate <= 1.
    pub rate: Rate,
}

/// How long a circuit breaker stays open.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct OpenConfig {
    /// The first wait, above zero: it stays open until **more** than this has passed. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::duration"))]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    pub wait: Duration,
    /// The n-th opening without a close between them waits `wait * factor^(n-1)`, at most `max`. From 1,
    /// which means a fixed wait. Default: 2.
    pub factor: f64,
    /// The longest wait, not below `wait`. Default: 60 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::duration"))]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    pub max: Duration,
    /// The share of each wait after the first that is random, from 0 to 1: waits spread evenly between
    /// `(1 - jitter)` times the wait and the wait, so that instances do not probe in step. The first wait is
    /// exact. Default: 0.1.
    pub jitter: f64,
    /// Whether it goes half-open when the wait ends, without a call asking for it. It then needs a Tokio
    /// runtime where it opens; without one it goes half-open when a call or a snapshot asks.
    /// Default: false.
    pub automatic_half_open: bool,
}

/// How a circuit breaker finds out whether to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct HalfOpenConfig {
    /// Calls admitted to find out, from 1 to 10 000. Judged once `min(minimum_calls, probes)` have a result.
    /// Default: 3.
    pub probes: u32,
    /// A probe older than this is given up: its slot returns and its result is not looked at. Above zero.
    /// Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::duration"))]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    pub max_probe_age: Duration,
    /// The longest stay, above zero. Default: `None`, unlimited, or a service with little traffic would never close.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::vocabulary::serialized::optional_duration", alias = "max")
    )]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::vocabulary::schema::Duration>")
    )]
    pub max_stay: Option<Duration>,
    /// What follows a stay that was too long. Default: it opens again.
    pub stay_end: StayEnd,
}

/// What follows a stay in half-open that was too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StayEnd {
    /// It opens again.
    #[default]
    Open,
    /// It closes.
    Close,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        Self {
            window: WindowConfig::Calls(100),
            minimum_calls: 20,
            failure_rate: Some(Rate::percent(50.0)),
            slow_call: None,
            consecutive_failures: None,
            open: OpenConfig::default(),
            half_open: HalfOpenConfig::default(),
            dropped_after: Duration::from_secs(10),
            initial_state: State::Closed,
            record: Vec::new(),
            ignore: Vec::new(),
            seed: None,
            clock: Clock::tokio(),
        }
    }
}

impl Default for OpenConfig {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(5),
            factor: 2.0,
            max: Duration::from_secs(60),
            jitter: 0.1,
            automatic_half_open: false,
        }
    }
}

impl Default for HalfOpenConfig {
    fn default() -> Self {
        Self {
            probes: 3,
            max_probe_age: Duration::from_secs(30),
            max_stay: None,
            stay_end: StayEnd::Open,
        }
    }
}

impl CircuitBreakerConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at exactly the last `calls` calls; see [`WindowConfig::Calls`].
    pub fn count_window(mut self, calls: u32) -> Self {
        self.window = WindowConfig::Calls(calls);
        self
    }

    /// Looks at the calls of the last `duration`, in buckets of one second; see [`WindowConfig::Time`].
    pub fn time_window(self, duration: Duration) -> Self {
        self.time_window_in(duration, Duration::from_secs(1))
    }

    /// Looks at the calls of the last `duration`, in buckets of `bucket`; see [`WindowConfig::Time`].
    pub fn time_window_in(mut self, duration: Duration, bucket: Duration) -> Self {
        self.window = WindowConfig::Time { duration, bucket };
        self
    }

    /// Sets [`minimum_calls`](Self::minimum_calls).
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// Sets [`failure_rate`](Self::failure_rate): a fraction such as `0.5`, or `Rate::percent(50.0)`.
    pub fn failure_rate(mut self, rate: impl Into<Rate>) -> Self {
        self.failure_rate = Some(rate.into());
        self
    }

    /// Does not look at the failure rate.
    pub fn no_failure_rate(mut self) -> Self {
        self.failure_rate = None;
        self
    }

    /// Sets [`slow_call`](Self::slow_call).
    pub fn slow_calls(mut self, longer_than: Duration, rate: impl Into<Rate>) -> Self {
        self.slow_call = Some(SlowCallConfig {
            longer_than,
            rate: rate.into(),
        });
        self
    }

    /// Sets [`consecutive_failures`](Self::consecutive_failures).
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// Sets [`OpenConfig::wait`], and raises [`OpenConfig::max`] to it where that is lower.
    pub fn open_wait(mut self, wait: Duration) -> Self {
        self.open.wait = wait;
        self.open.max = self.open.max.max(wait);
        self
    }

    /// Sets [`OpenConfig::factor`] and [`OpenConfig::max`]. A factor of 1 is a fixed wait.
    pub fn open_growth(mut self, factor: f64, max: Duration) -> Self {
        self.open.factor = factor;
        self.open.max = max;
        self
    }

    /// Sets [`OpenConfig::jitter`].
    pub fn open_jitter(mut self, share: f64) -> Self {
        self.open.jitter = share;
        self
    }

    /// Sets [`OpenConfig::automatic_half_open`].
    pub fn automatic_half_open(mut self, automatic: bool) -> Self {
        self.open.automatic_half_open = automatic;
        self
    }

    /// Sets [`HalfOpenConfig::probes`].
    pub fn probes(mut self, probes: u32) -> Self {
        self.half_open.probes = probes;
        self
    }

    /// Sets [`HalfOpenConfig::max_probe_age`].
    pub fn max_probe_age(mut self, age: Duration) -> Self {
        self.half_open.max_probe_age = age;
        self
    }

    /// Sets [`HalfOpenConfig::max_stay`] and [`HalfOpenConfig::stay_end`].
    pub fn max_half_open_stay(mut self, stay: Duration, end: StayEnd) -> Self {
        self.half_open.max_stay = Some(stay);
        self.half_open.stay_end = end;
        self
    }

    /// Sets [`dropped_after`](Self::dropped_after).
    pub fn dropped_after(mut self, pending: Duration) -> Self {
        self.dropped_after = pending;
        self
    }

    /// Sets [`initial_state`](Self::initial_state).
    pub fn initial_state(mut self, state: State) -> Self {
        self.initial_state = state;
        self
    }

    /// Adds a name to [`record`](Self::record).
    pub fn record(mut self, name: impl Into<String>) -> Self {
        self.record.push(name.into());
        self
    }

    /// Adds a name to [`ignore`](Self::ignore).
    pub fn ignore(mut self, name: impl Into<String>) -> Self {
        self.ignore.push(name.into());
        self
    }

    /// Sets [`seed`](Self::seed).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets [`clock`](Self::clock).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the circuit breaker called `name`.
    ///
    /// # Errors
    ///
    /// A setting out of its range: the error names it, its value and what is accepted.
    pub fn build(self, name: &str) -> Result<CircuitBreaker, ConfigError> {
        refuse_names(&[("record", &self.record), ("ignore", &self.ignore)])
            .map_err(|error| error.of(PolicyKind::CircuitBreaker, name))?;
        self.build_named(name)
    }

    /// The same, where somebody else sees to the names of predicates.
    pub(crate) fn build_named(self, name: &str) -> Result<CircuitBreaker, ConfigError> {
        let settings = self.settings(|| name)?;
        Ok(CircuitBreaker::new(name, settings, self.clock))
    }

    /// The name is asked for where a setting is refused.
    pub(super) fn settings<'a>(&self, name: impl FnOnce() -> &'a str) -> Result<Settings, ConfigError> {
        self.check()
            .map_err(|error| error.of(PolicyKind::CircuitBreaker, name()))
    }

    pub(crate) fn check_values(&self) -> Result<(), ConfigError> {
        self.check().map(drop)
    }

    fn check(&self) -> Result<Settings, ConfigError> {
        let refuse = |field, value: &dyn std::fmt::Debug, accepted: &str| {
            Err(ConfigError::new(field, format_args!("{value:?}"), accepted))
        };
        let window = self.window.shape()?;
        if self.minimum_calls == 0 {
            return refuse("minimum_calls", &0, "accepted: 1 or more");
        }
        let failure_rate = self
            .failure_rate
            .map(|rate| checked_rate("failure_rate", rate))
            .transpose()?;
        let slow_call = match self.slow_call {
            None => None,
            Some(slow) => {
                if slow.longer_than.is_zero() {
                    return refuse("slow_call.longer_than", &slow.longer_than, "accepted: above zero");
                }
                Some((
                    nanos(slow.longer_than),
                    checked_rate("slow_call.rate", slow.rate)?,
                ))
            }
        };
        if self.consecutive_failures == Some(0) {
            return refuse("consecutive_failures", &0, "accepted: 1 or more");
        }
        if failure_rate.is_none() && slow_call.is_none() && self.consecutive_failures.is_none() {
            return refuse(
                "failure_rate",
                &self.failure_rate,
                "nothing could ever open it; set failure_rate, slow_call or consecutive_failures",
            );
        }
        let open = &self.open;
        if open.wait.is_zero() {
            return refuse("open.wait", &open.wait, "accepted: above zero");
        }
        if !(open.factor >= 1.0 && open.factor.is_finite()) {
            return refuse(
                "open.factor",
                &open.factor,
                "accepted: 1 or more; 1 is a fixed wait",
            );
        }
        if open.max < open.wait {
            return refuse(
                "open.max",
                &open.max,
                &format!("accepted: open.wait ({:?}) or more", open.wait),
            );
        }
        if !(0.0..=1.0).contains(&open.jitter) {
            return refuse("open.jitter", &open.jitter, "accepted: from 0 to 1");
        }
        let half_open = &self.half_open;
        if !(1..=10_000).contains(&half_open.probes) {
            return refuse("half_open.probes", &half_open.probes, "accepted: from 1 to 10000");
        }
        if half_open.max_probe_age.is_zero() {
            return refuse(
                "half_open.max_probe_age",
                &half_open.max_probe_age,
                "accepted: above zero",
            );
        }
        if let Some(stay) = half_open.max_stay
            && stay.is_zero()
        {
            return refuse(
                "half_open.max_stay",
                &stay,
                "accepted: above zero; leave it out for no limit",
            );
        }
        Ok(Settings {
            window,
            minimum_calls: self.minimum_calls,
            failure_rate,
            slow_call,
            consecutive_failures: self.consecutive_failures,
            open: *open,
            probes: half_open.probes,
            max_probe_age: nanos(half_open.max_probe_age),
            max_stay: half_open.max_stay,
            stay_end: half_open.stay_end,
            dropped_after: nanos(self.dropped_after),
            initial_state: self.initial_state,
            random: Random::new(self.seed),
        })
    }
}

fn checked_rate(field: &'static str, rate: Rate) -> Result<Millionths, ConfigError> {
    let fraction = rate.as_fraction();
    if fraction > 0.0 && fraction <= 1.0 {
        return Ok(Millionths::of(rate));
    }
    let mut accepted = "accepted: above 0, at most 1 (a fraction)".to_owned();
    if fraction > 1.0 && fraction <= 100.0 {
        accepted = format!("{accepted}; for {fraction} percent write Rate::percent({fraction:?})");
    }
    Err(ConfigError::new(field, fraction, accepted))
}

impl WindowConfig {
    fn shape(self) -> Result<WindowShape, ConfigError> {
        match self {
            Self::Calls(calls) => {
                if (1..=1_000_000).contains(&calls) {
                    Ok(WindowShape::Calls(calls))
                } else {
                    Err(ConfigError::new(
                        "window.calls",
                        calls,
                        "accepted: from 1 to 1000000",
                    ))
                }
            }
            Self::Time { duration, bucket } => {
                if bucket < Duration::from_millis(1) {
                    let value = format!("{bucket:?}");
                    return Err(ConfigError::new("window.bucket", value, "accepted: 1ms or more"));
                }
                let (whole, width) = (nanos(duration), nanos(bucket));
                let buckets = u32::try_from(whole / width).unwrap_or(u32::MAX);
                if whole % width != 0 || !(1..=10_000).contains(&buckets) {
                    return Err(ConfigError::new(
                        "window.time",
                        format!("{duration:?}"),
                        format!(
                            "accepted: from 1 to 10000 times window.bucket ({bucket:?}), a whole multiple"
                        ),
                    ));
                }
                Ok(WindowShape::Time { buckets, width })
            }
        }
    }
}

/// Checked settings, as the machine uses them.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) window: WindowShape,
    pub(super) minimum_calls: u32,
    pub(super) failure_rate: Option<Millionths>,
    slow_call: Option<(u64, Millionths)>,
    pub(super) consecutive_failures: Option<u32>,
    open: OpenConfig,
    pub(super) probes: u32,
    /// Nanoseconds.
    pub(super) max_probe_age: u64,
    pub(super) max_stay: Option<Duration>,
    pub(super) stay_end: StayEnd,
    dropped_after: u64,
    pub(super) initial_state: State,
    random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowShape {
    Calls(u32),
    /// The width in nanoseconds.
    Time {
        buckets: u32,
        width: u64,
    },
}

impl Settings {
    /// Shows what calls need without the lock.
    pub(super) fn show(&self, gate: &Gate) {
        gate.set_durations(
            self.slow_call.map_or(u64::MAX, |(after, _)| after),
            self.dropped_after,
        );
    }

    pub(super) fn slow_rate(&self) -> Option<Millionths> {
        self.slow_call.map(|(_, rate)| rate)
    }

    pub(super) fn slow_longer_than(&self) -> Option<Duration> {
        self.slow_call.map(|(after, _)| Duration::from_nanos(after))
    }

    pub(super) const fn is_automatic(&self) -> bool {
        self.open.automatic_half_open
    }

    /// The wait of the n-th consecutive opening, counted from 1.
    pub(super) fn open_wait(&self, opening: u32) -> Duration {
        let OpenConfig {
            wait,
            factor,
            max,
            jitter,
            ..
        } = self.open;
        let wait = growth(wait, factor, max, opening.saturating_sub(1));
        if opening > 1 && jitter > 0.0 {
            share(wait, 1.0 - jitter * self.random.unit())
        } else {
            wait
        }
    }
}
