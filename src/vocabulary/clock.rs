//! Time: points on a clock, and the clocks that handles own.
//!
//! Policies take a [`Timestamp`] as an argument; a handle reads its [`Clock`] only where a call needs the time.

// This file is the one place that may read a clock (see `clippy.toml`).
#![allow(clippy::disallowed_methods)]

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::vocabulary::coarse;

/// A point in time on a [`Clock`], in nanoseconds since an origin that means nothing.
///
/// Only differences between timestamps of one clock mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest point that can be told.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point moved on by `duration`, at most to [`Timestamp::MAX`].
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// A duration in whole nanoseconds, at most `u64::MAX` (584 years).
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a handle reads the time.
///
/// The default follows Tokio's clock, so that `tokio::time::pause` and `advance` move breakers, backoff,
/// timeouts and windows together. [`Clock::manual`] stands still until a test moves it.
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    Tokio,
    Manual(Arc<AtomicU64>),
}

/// Clocks are the same when they move together.
impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Tokio, Source::Tokio) => true,
            (Source::Manual(one), Source::Manual(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Clock {}

/// Moves a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ClockHand(Arc<AtomicU64>);

impl ClockHand {
    /// Moves the clock on.
    pub fn advance(&self, duration: Duration) {
        let nanos = nanos(duration);
        let moved = |now: u64| Some(now.saturating_add(nanos));
        // The closure never declines, so the update cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }

    /// Sets the clock, backwards too: what a handle does when its clock steps back can be tested.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.as_nanos(), Ordering::Relaxed);
    }
}

/// A running measurement of one call, begun by [`Clock::start`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stopwatch(u64);

impl Stopwatch {
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }
}

impl Clock {
    /// The clock of the Tokio runtime that runs the call, or the system's monotonic clock outside of one.
    pub fn tokio() -> Self {
        Self(Source::Tokio)
    }

    /// A clock at zero that moves only by its hand. Timers still run on Tokio's clock.
    pub fn manual() -> (Self, ClockHand) {
        let now = Arc::new(AtomicU64::new(0));
        (Self(Source::Manual(Arc::clone(&now))), ClockHand(now))
    }

    /// Whether it is Tokio's.
    pub(crate) const fn is_tokio(&self) -> bool {
        matches!(self.0, Source::Tokio)
    }

    /// The time now.
    #[inline]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Tokio => tokio_now(),
            Source::Manual(now) => Timestamp(now.load(Ordering::Relaxed)),
        }
    }

    /// The time, for who asks whether `point` has come: exact from shortly before it on, and before that cheaper, where
    /// the system has that. Then it is some milliseconds late, and surely before `point`.
    #[inline]
    pub(crate) fn now_towards(&self, point: Timestamp) -> Timestamp {
        match &self.0 {
            Source::Tokio => match coarse::before(point) {
                Some(coarse) => coarse,
                None => tokio_now(),
            },
            Source::Manual(now) => Timestamp(now.load(Ordering::Relaxed)),
        }
    }

    /// Begins to measure a call that may be ready at its first poll.
    ///
    /// Such a call cannot see Tokio's paused clock move, so the cheaper hardware counter measures it (12 ns
    /// instead of 30 for each reading). A call that becomes pending changes over to [`Clock::now`].
    #[inline]
    pub(crate) fn start(&self) -> Stopwatch {
        match &self.0 {
            Source::Tokio => Stopwatch(counter().raw()),
            Source::Manual(now) => Stopwatch(now.load(Ordering::Relaxed)),
        }
    }

    /// The time since `stopwatch` was started.
    #[inline]
    pub(crate) fn elapsed(&self, stopwatch: Stopwatch) -> Duration {
        match &self.0 {
            Source::Tokio => Duration::from_nanos(counter().delta_as_nanos(stopwatch.0, counter().raw())),
            Source::Manual(now) => {
                Duration::from_nanos(now.load(Ordering::Relaxed).saturating_sub(stopwatch.0))
            }
        }
    }

    /// The point of Tokio's clock at which a timer for `deadline` fires.
    pub(crate) fn timer(&self, deadline: Timestamp) -> tokio::time::Instant {
        match &self.0 {
            Source::Tokio => origin()
                .checked_add(Duration::from_nanos(deadline.0))
                .unwrap_or_else(|| far_future(tokio::time::Instant::now())),
            Source::Manual(_) => {
                let now = tokio::time::Instant::now();
                now.checked_add(deadline.since(self.now()))
                    .unwrap_or_else(|| far_future(now))
            }
        }
    }

    /// Runs `job` shortly after `at`, on the Tokio runtime of the caller. Without a runtime nothing is
    /// scheduled, and false comes back.
    pub(crate) fn schedule(&self, at: Timestamp, job: impl FnOnce() + Send + 'static) -> bool {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return false;
        };
        let timer = self.timer(at);
        runtime.spawn(async move {
            tokio::time::sleep_until(timer).await;
            job();
        });
        true
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::Tokio => "Clock::tokio",
            Source::Manual(_) => "Clock::manual",
        })
    }
}

/// A reading of a clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Timestamp,
    /// What Tokio's clock read, if it is that one.
    instant: Option<tokio::time::Instant>,
}

impl Reading {
    #[inline]
    pub(crate) const fn new(at: Timestamp, instant: Option<tokio::time::Instant>) -> Self {
        Self { at, instant }
    }

    #[inline]
    pub(crate) const fn at(&self) -> Timestamp {
        self.at
    }

    #[inline]
    pub(crate) const fn instant(&self) -> Option<tokio::time::Instant> {
        self.instant
    }
}

/// The time of one step, read from the clock when it is first needed and then once.
#[derive(Debug)]
pub struct Now<'a> {
    clock: &'a Clock,
    reading: Option<Reading>,
    /// The point that was last told by [`after`](Now::after), as a timestamp and as a timer takes it.
    told: Option<(Timestamp, tokio::time::Instant)>,
}

impl<'a> Now<'a> {
    /// That clock's, not read yet.
    #[inline]
    pub const fn of(clock: &'a Clock) -> Self {
        Self::of_reading(clock, None)
    }

    /// That clock's, read already where there is a reading.
    #[inline]
    pub(crate) const fn of_reading(clock: &'a Clock, reading: Option<Reading>) -> Self {
        Self {
            clock,
            reading,
            told: None,
        }
    }

    /// What was read, if it was.
    #[inline]
    pub(crate) const fn reading(&self) -> Option<Reading> {
        self.reading
    }

    /// The time.
    #[inline(always)]
    pub fn get(&mut self) -> Timestamp {
        self.read().at
    }

    #[inline(always)]
    fn read(&mut self) -> &Reading {
        self.reading.get_or_insert_with(|| match &self.clock.0 {
            Source::Tokio => {
                let instant = tokio::time::Instant::now();
                Reading {
                    at: since_origin(instant),
                    instant: Some(instant),
                }
            }
            Source::Manual(_) => Reading {
                at: self.clock.now(),
                instant: None,
            },
        })
    }

    /// The point so many nanoseconds from now, at most [`Timestamp::MAX`].
    #[inline(always)]
    pub(crate) fn after(&mut self, nanos: u64) -> Timestamp {
        let &Reading { at, instant } = self.read();
        let point = Timestamp(at.0.saturating_add(nanos));
        let at = instant.and_then(|instant| instant.checked_add(Duration::from_nanos(nanos)));
        self.told = at.map(|at| (point, at));
        point
    }

    /// The point of Tokio's clock at which a timer for `deadline` fires.
    ///
    /// For what [`after`](Now::after) told last it is known. To turn a timestamp into it costs little, but then the timer
    /// waits for the timestamp, which waits for the clock: that was a tenth of what a timer costs.
    #[inline(always)]
    pub(crate) fn timer(&self, deadline: Timestamp) -> tokio::time::Instant {
        match self.told {
            Some((point, at)) if point == deadline => at,
            _ => self.clock.timer(deadline),
        }
    }
}

/// The time of day, for what compares itself with it (an HTTP date) and for what is read later (events). Nothing is
/// measured with it.
pub(crate) fn time_of_day() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

#[inline(never)]
fn tokio_now() -> Timestamp {
    since_origin(tokio::time::Instant::now())
}

fn since_origin(instant: tokio::time::Instant) -> Timestamp {
    let elapsed = instant.saturating_duration_since(origin());
    Timestamp(
        elapsed
            .as_secs()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(u64::from(elapsed.subsec_nanos())),
    )
}

/// What timestamps of Tokio's clock count from.
///
/// It lies before the process began: a runtime that paused its clock before this was first asked would
/// otherwise stand at a negative time.
fn origin() -> tokio::time::Instant {
    static ORIGIN: OnceLock<tokio::time::Instant> = OnceLock::new();
    *ORIGIN.get_or_init(|| {
        let now = std::time::Instant::now();
        let before = [86_400, 3_600, 60, 1]
            .into_iter()
            .find_map(|s| now.checked_sub(Duration::from_secs(s)));
        tokio::time::Instant::from_std(before.unwrap_or(now))
    })
}

/// Thirty years on: later than any timer matters, early enough for every platform's `Instant`.
fn far_future(now: tokio::time::Instant) -> tokio::time::Instant {
    now + Duration::from_secs(86_400 * 365 * 30)
}

/// The calibrated hardware counter, or the system's monotonic clock where there is none.
fn counter() -> &'static quanta::Clock {
    static COUNTER: OnceLock<quanta::Clock> = OnceLock::new();
    COUNTER.get_or_init(quanta::Clock::new)
}
