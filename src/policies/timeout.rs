//! The timeout: drops a call that is not done within its limit.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    policies::{
        in_force::InForce,
        per_key::{KeyTag, PerKey, is_only_handle, keyed_name},
        step::{Ask, Expired, Next, Policy, Step},
    },
    vocabulary::{
        clock::{Clock, Now, Timestamp, nanos},
        event::{Observer, Observers, PolicyKind, What},
        event_kind::EventKind,
        events::{Events, Subscribe, WeakObserver},
        meter::{Counter, Metered},
        outcome::{Abandoned, Outcome},
        rejected::{Reason, Rejected},
        settings::ConfigError,
        sync::{AtomicU64, Ordering},
    },
};

/// Settings of a [`Timeout`]: the builder, and what [`reconfigure`](Timeout::reconfigure) takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// How long a call may take, above zero. Default: 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::serialized::duration"))]
    #[cfg_attr(feature = "schema", schemars(with = "crate::vocabulary::schema::Duration"))]
    pub limit: Duration,
    /// Where the time is read. Default: Tokio's clock.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub clock: Clock,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self::new(Duration::from_secs(10))
    }
}

impl TimeoutConfig {
    /// That limit.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            clock: Clock::tokio(),
        }
    }

    /// Sets [`limit`](Self::limit).
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets [`clock`](Self::clock).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the timeout called `name`.
    ///
    /// # Errors
    ///
    /// A limit of zero.
    pub fn build(self, name: &str) -> Result<Timeout, ConfigError> {
        let limit = AtomicU64::new(self.check(name)?);
        let timed_out = AtomicU64::new(0);
        let (name, clock) = (Arc::from(name), self.clock);
        Ok(Timeout(Arc::new(Shared {
            name,
            clock,
            limit,
            timed_out,
            observers: Observers::default(),
            meter: Metered::default(),
        })))
    }

    pub(crate) fn check_values(&self) -> Result<(), ConfigError> {
        self.check("").map(drop)
    }

    fn check(&self, name: &str) -> Result<u64, ConfigError> {
        if self.limit.is_zero() {
            return Err(
                ConfigError::new("limit", "0ns", "accepted: above zero").of(PolicyKind::Timeout, name)
            );
        }
        Ok(nanos(self.limit))
    }
}

/// A timeout: a cheap handle on shared state (its limit).
///
/// Put it around a service with [`TimeoutLayer`](crate::TimeoutLayer), into a [`Stack`](crate::Stack), or
/// around an async function with `run`. It covers everything below it: queues, waits, attempts. The limit
/// counts from when the call is first pending, which is its first poll; a call that is ready at once arms no
/// timer. Where it covers the body of a response, and the head is there at once, it counts from the head.
///
/// # Cancel safety
///
/// When the limit is over the call below is dropped at once. Every circuit breaker inside of the timeout counts
/// that as a failure.
#[derive(Clone)]
pub struct Timeout(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    clock: Clock,
    /// Nanoseconds.
    limit: AtomicU64,
    timed_out: AtomicU64,
    observers: Observers,
    meter: Metered<TimeoutMeter>,
}

/// What a timeout counts, or those of all keys, once somebody asks for it. Alone on its cache lines: calls write here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct TimeoutMeter {
    /// Calls that ended within the limit, whatever their results.
    pub(crate) completed: Counter,
    pub(crate) timed_out: Counter,
    /// Calls that ended without a result for another reason.
    pub(crate) dropped: Counter,
}

impl TimeoutMeter {
    /// Calls that ended, by outcome.
    fn calls(&self) -> [(&'static str, u64); 3] {
        [
            ("completed", self.completed.read()),
            ("rejected", self.timed_out.read()),
            ("dropped", self.dropped.read()),
        ]
    }
}

/// A timeout at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TimeoutSnapshot {
    /// How long a call may take.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "limit_seconds", serialize_with = "crate::vocabulary::json::seconds")
    )]
    pub limit: Duration,
    /// Calls cut off since it was built.
    pub timed_out: u64,
}

impl Timeout {
    /// A limit of 10 s under the name `name`; see [`TimeoutConfig`] for others.
    ///
    /// # Errors
    ///
    /// Never with the default settings.
    pub fn with_defaults(name: &str) -> Result<Self, ConfigError> {
        TimeoutConfig::default().build(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its limit.
    pub fn limit(&self) -> Duration {
        Duration::from_nanos(self.0.limit.load(Ordering::Relaxed))
    }

    /// Its limit and its count of one moment.
    pub fn snapshot(&self) -> TimeoutSnapshot {
        TimeoutSnapshot {
            limit: self.limit(),
            timed_out: self.0.timed_out.load(Ordering::Relaxed),
        }
    }

    /// Takes another limit for the calls that begin from now on; calls under way keep theirs.
    ///
    /// # Errors
    ///
    /// A limit of zero; the timeout then goes on as it was.
    pub fn reconfigure(&self, config: &TimeoutConfig) -> Result<(), ConfigError> {
        self.0.limit.store(config.check(&self.0.name)?, Ordering::Relaxed);
        self.tell(|| What::Reconfigured);
        Ok(())
    }

    /// Adds an observer of its events.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.0.observers.add(observer);
    }

    /// Subscribes to its events, as a stream that never makes a call wait.
    pub fn subscribe(&self, to: impl Into<Subscribe>) -> Events {
        Events::of(&self.0, |shared| &shared.observers, to.into())
    }

    /// What gives it back for as long as somebody else has it.
    #[cfg(feature = "metrics")]
    pub(crate) fn weakly(&self) -> impl Fn() -> Option<Self> + Clone + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    /// Calls that it has counted, by outcome; `None` where it does not count.
    pub(crate) fn counted(&self) -> Option<[(&'static str, u64); 3]> {
        self.0.meter.get().map(TimeoutMeter::calls)
    }

    /// Counts from now on, by `meter` or by one of its own.
    pub(crate) fn begin_counting(&self, meter: Option<&Arc<TimeoutMeter>>) -> Arc<TimeoutMeter> {
        self.0.meter.begin(meter)
    }

    #[inline(always)]
    fn tell(&self, what: impl FnOnce() -> What) {
        self.0.observers.tell(PolicyKind::Timeout, || &self.0.name, what);
    }

    /// Tells what happens in calls, where somebody wants it.
    #[inline(always)]
    fn tell_call(&self, kind: EventKind, what: impl FnOnce() -> What) {
        self.0
            .observers
            .tell_if_wanted(kind, PolicyKind::Timeout, || &self.0.name, what);
    }
}

impl PerKey for Timeout {
    type Beside = Box<KeyTag>;

    fn for_key(&self, key: &str) -> Self {
        let shared = &self.0;
        Self(Arc::new(Shared {
            name: keyed_name(&shared.name, key),
            clock: shared.clock.clone(),
            limit: AtomicU64::new(shared.limit.load(Ordering::Relaxed)),
            timed_out: AtomicU64::new(0),
            observers: shared.observers.copied(),
            meter: shared.meter.shared(),
        }))
    }

    fn is_forgettable(&self, _now: Timestamp) -> bool {
        is_only_handle(&self.0)
    }

    fn add_observer(&self, observer: Arc<dyn Observer>) {
        self.0.observers.add_once(observer);
    }

    fn remove_observer(&self, observer: &WeakObserver) {
        self.0.observers.remove(observer);
    }

    fn tell_observers(&self, what: What) {
        self.0
            .observers
            .tell(PolicyKind::Timeout, || &self.0.name, || what);
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("name", &self.0.name)
            .field("limit", &self.limit())
            .finish()
    }
}

/// What a call holds of a timeout.
///
/// Whole words, each written at once: it is moved with the call, and the processor would wait for a word that was
/// written in parts.
#[derive(Debug, Default)]
pub struct TimeoutPass {
    /// Nanoseconds.
    limit: u64,
    /// When that is over; [`OUT`] where the call is not inside, and [`UNTIMED`] before it was pending.
    deadline: u64,
}

/// For [`TimeoutPass::deadline`]: the call is not inside.
const OUT: u64 = 0;

/// For [`TimeoutPass::deadline`]: the call was not pending so far.
const UNTIMED: u64 = u64::MAX;

/// Whether the time of a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The call is not inside.
    Out,
    /// It was not pending so far.
    Untimed,
    /// It has a deadline.
    Timed,
}

impl TimeoutPass {
    #[inline(always)]
    const fn phase(&self) -> Phase {
        match self.deadline {
            OUT => Phase::Out,
            UNTIMED => Phase::Untimed,
            _ => Phase::Timed,
        }
    }

    /// Begins to run at this point.
    #[inline(always)]
    fn time(&mut self, now: &mut Now<'_>) {
        let deadline = now.after(self.limit).as_nanos();
        self.deadline = deadline.clamp(OUT + 1, UNTIMED - 1);
    }
}

impl Timeout {
    /// How long the call still has.
    pub(crate) fn time_left(&self, pass: &TimeoutPass) -> Option<Duration> {
        match pass.phase() {
            Phase::Out => None,
            Phase::Untimed => Some(Duration::from_nanos(pass.limit)),
            Phase::Timed => Some(Timestamp::from_nanos(pass.deadline).since(self.0.clock.now())),
        }
    }
}

impl Policy for Timeout {
    type Pass = TimeoutPass;

    const JUDGES: bool = false;

    const TELLS_OUT: bool = true;

    const LIMITS: bool = true;

    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, ask: &impl Ask) -> Step {
        pass.deadline = UNTIMED;
        pass.limit = match ask.limit(&self.0.name) {
            Some(limit) => nanos(limit),
            None => self.0.limit.load(Ordering::Relaxed),
        };
        Step::Call
    }

    #[inline(always)]
    fn pended(&self, pass: &mut Self::Pass, now: &mut Now<'_>) -> Option<Timestamp> {
        match pass.phase() {
            Phase::Out => return None,
            Phase::Untimed => pass.time(now),
            Phase::Timed => {}
        }
        Some(Timestamp::from_nanos(pass.deadline))
    }

    #[inline(always)]
    fn in_force(&self, pass: &Self::Pass) -> InForce {
        match pass.phase() {
            Phase::Out => InForce::NONE,
            Phase::Untimed => InForce::untimed(pass.limit),
            // Another clock says nothing to those who ask.
            Phase::Timed if !self.0.clock.is_tokio() => InForce::NONE,
            Phase::Timed => InForce::until(Timestamp::from_nanos(pass.deadline)),
        }
    }

    fn expire(&self, pass: &mut Self::Pass, now: Timestamp) -> Expired {
        if pass.phase() != Phase::Timed || now.as_nanos() < pass.deadline {
            return Expired::NotYet;
        }
        pass.deadline = OUT;
        if let Some(meter) = self.0.meter.get() {
            meter.timed_out.add();
        }
        let limit = Duration::from_nanos(pass.limit);
        self.0.timed_out.fetch_add(1, Ordering::Relaxed);
        let rejected = Rejected::new(Arc::clone(&self.0.name), Reason::TimedOut { limit });
        self.tell_call(EventKind::Rejected, || What::Rejected(rejected.clone()));
        Expired::Refused(rejected)
    }

    #[inline(always)]
    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        if outcome.is_deferred() && outcome.is_timed() && pass.phase() != Phase::Out {
            return Next::Hold;
        }
        if let Some(meter) = self.0.meter.get()
            && pass.phase() != Phase::Out
        {
            meter.completed.add();
        }
        pass.deadline = OUT;
        Next::Done
    }

    #[inline(always)]
    fn is_out(&self, pass: &Self::Pass) -> bool {
        pass.phase() == Phase::Out
    }

    fn abandon(&self, pass: &mut Self::Pass, why: Abandoned) {
        if pass.phase() != Phase::Out {
            pass.deadline = OUT;
            if let Some(meter) = self.0.meter.get() {
                meter.dropped.add();
            }
            self.tell_call(EventKind::Abandoned, || What::Abandoned(why));
        }
    }
}
