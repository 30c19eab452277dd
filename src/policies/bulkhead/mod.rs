//! The bulkhead: bounds the calls that are in flight at once.
//!
//! | file | subject |
//! |---|---|
//! | `config.rs` | settings, and which are refused |
//! | `slots.rs` | the slots and the queue for them |
//! | `parked.rs` | free slots that threads keep for their next call |
//! | `pass.rs` | what a call holds of it |
//! | `meter.rs` | what it counts for whoever exports it |
//! | `step.rs` | the bulkhead as a step machine around a call |

mod config;
#[cfg(all(test, buttress_loom))]
mod loom;
pub(crate) mod meter;
mod parked;
mod pass;
mod slots;
mod step;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{config::BulkheadConfig, pass::BulkheadPass};
use self::{config::check_limit, meter::BulkheadMeter, slots::Slots};
use crate::{
    policies::per_key::{KeyTag, PerKey, is_only_handle, keyed_name},
    vocabulary::{
        clock::{Clock, Timestamp, nanos},
        event::{Observer, Observers, PolicyKind, What},
        event_kind::EventKind,
        events::{Events, Subscribe, WeakObserver},
        meter::Metered,
        rejected::{Reason, Rejected},
        settings::ConfigError,
        sync::{AtomicU32, AtomicU64, Ordering},
    },
};

/// A bulkhead: a cheap handle on shared state.
///
/// Every clone is the same bulkhead, and so is every layer and service made from it. Put it around a service
/// with [`BulkheadLayer`](crate::BulkheadLayer), into a [`Stack`](crate::Stack), around an async function with
/// `run`, or ask it by hand:
///
/// ```
/// use buttress::BulkheadConfig;
///
/// let bulkhead = BulkheadConfig::new(1).build("db")?;
/// let slot = bulkhead.try_acquire().expect("it is free");
/// let full = bulkhead.try_acquire().unwrap_err();
/// assert_eq!(full.to_string(), "bulkhead `db` is full: all 1 slots in use");
/// drop(slot);
/// assert!(bulkhead.try_acquire().is_ok());
/// # Ok::<(), buttress::ConfigError>(())
/// ```
///
/// Who waits is admitted in the order in which they came.
///
/// # Cancel safety
///
/// A call that is dropped gives its slot, or its place in the queue, back at once.
#[derive(Clone)]
pub struct Bulkhead(Arc<Shared>);

struct Shared {
    /// First, beside the count of the handles: who takes a slot by hand writes to both, on one cache line.
    slots: Slots,
    /// Nanoseconds.
    max_wait: AtomicU64,
    max_queue: AtomicU32,
    rejected: AtomicU64,
    name: Arc<str>,
    clock: Clock,
    observers: Observers,
    meter: Metered<BulkheadMeter>,
}

/// A bulkhead at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BulkheadSnapshot {
    /// Calls that may be in flight at once.
    pub limit: u32,
    /// Calls in flight. More than the limit for a while after it was lowered.
    pub in_flight: u32,
    /// Calls that wait for a slot.
    pub queued: usize,
    /// Calls that may wait at once.
    pub max_queue: u32,
    /// How long a call may wait. Zero: none waits.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "max_wait_seconds",
            serialize_with = "crate::vocabulary::json::seconds"
        )
    )]
    pub max_wait: Duration,
    /// Calls refused since it was built, at once or after waiting.
    pub rejected: u64,
}

/// A slot of a bulkhead, outside of Tower. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "a slot that is dropped at once guards nothing"]
pub struct Slot(Bulkhead);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.slots.release();
    }
}

impl Bulkhead {
    fn new(name: &str, config: BulkheadConfig) -> Self {
        Self(Arc::new(Shared {
            slots: Slots::new(config.max_concurrent),
            max_wait: AtomicU64::new(nanos(config.max_wait)),
            max_queue: AtomicU32::new(config.max_queue),
            rejected: AtomicU64::new(0),
            name: Arc::from(name),
            clock: config.clock,
            observers: Observers::default(),
            meter: Metered::default(),
        }))
    }

    /// The default settings under the name `name`; see [`BulkheadConfig`] for others.
    ///
    /// # Errors
    ///
    /// Never with the default settings.
    pub fn with_defaults(name: &str) -> Result<Self, ConfigError> {
        BulkheadConfig::default().build(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Counts of one moment.
    pub fn snapshot(&self) -> BulkheadSnapshot {
        BulkheadSnapshot {
            limit: self.0.slots.limit(),
            in_flight: self.0.slots.in_flight(),
            queued: self.0.slots.waiting(),
            max_queue: self.0.max_queue.load(Ordering::Relaxed),
            max_wait: self.max_wait(),
            rejected: self.0.rejected.load(Ordering::Relaxed),
        }
    }

    /// Takes a slot, without waiting.
    ///
    /// # Errors
    ///
    /// The rejection, when none is free or others wait for one.
    pub fn try_acquire(&self) -> Result<Slot, Rejected> {
        if self.0.slots.try_acquire() {
            self.count_admitted();
            return Ok(Slot(self.clone()));
        }
        Err(self.reject(Reason::Full {
            limit: self.0.slots.limit(),
        }))
    }

    /// Changes the limit while calls are in flight. A lower one admits nobody until enough of them have ended;
    /// a higher one admits waiting calls at once.
    ///
    /// # Errors
    ///
    /// A limit that is not from 1 to 1 000 000.
    pub fn resize(&self, max_concurrent: u32) -> Result<(), ConfigError> {
        check_limit(max_concurrent).map_err(|error| error.of(PolicyKind::Bulkhead, &self.0.name))?;
        self.0.slots.resize(max_concurrent);
        self.tell(|| What::Reconfigured);
        Ok(())
    }

    /// Takes new settings in place: no slot is lost or invented, and a call that waits goes on for as long as
    /// it was told to.
    ///
    /// # Errors
    ///
    /// A setting out of its range; the bulkhead then goes on as it was.
    pub fn reconfigure(&self, config: &BulkheadConfig) -> Result<(), ConfigError> {
        config.check(&self.0.name)?;
        self.0.max_wait.store(nanos(config.max_wait), Ordering::Relaxed);
        self.0.max_queue.store(config.max_queue, Ordering::Relaxed);
        self.0.slots.resize(config.max_concurrent);
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

    /// How long a call may wait for a slot.
    pub fn max_wait(&self) -> Duration {
        Duration::from_nanos(self.0.max_wait.load(Ordering::Relaxed))
    }

    /// Changes the limit to `to` where it still is `from`. Whether it was.
    pub(crate) fn resize_if_still(&self, from: u32, to: u32) -> bool {
        let still = self.0.slots.limit() == from && check_limit(to).is_ok();
        if still {
            self.0.slots.resize(to);
            self.tell(|| What::Reconfigured);
        }
        still
    }

    fn reject(&self, reason: Reason) -> Rejected {
        self.0.rejected.fetch_add(1, Ordering::Relaxed);
        if let Some(meter) = self.0.meter.get() {
            meter.count_refusal(&reason);
        }
        let rejected = Rejected::new(Arc::clone(&self.0.name), reason);
        self.tell_call(EventKind::Rejected, || What::Rejected(rejected.clone()));
        rejected
    }

    #[inline(always)]
    fn count_admitted(&self) {
        if let Some(meter) = self.0.meter.get() {
            meter.admitted.add();
        }
    }

    /// What gives it back for as long as somebody else has it.
    #[cfg(feature = "metrics")]
    pub(crate) fn weakly(&self) -> impl Fn() -> Option<Self> + Clone + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    /// Calls that it has counted, by outcome; `None` where it does not count.
    pub(crate) fn counted(&self) -> Option<[(&'static str, u64); 3]> {
        self.0.meter.get().map(BulkheadMeter::calls)
    }

    /// Counts from now on, by `meter` or by one of its own.
    pub(crate) fn begin_counting(&self, meter: Option<&Arc<BulkheadMeter>>) -> Arc<BulkheadMeter> {
        self.0.meter.begin(meter)
    }

    #[inline(always)]
    fn tell(&self, what: impl FnOnce() -> What) {
        self.0.observers.tell(PolicyKind::Bulkhead, || &self.0.name, what);
    }

    /// Tells what happens in calls, where somebody wants it.
    #[inline(always)]
    fn tell_call(&self, kind: EventKind, what: impl FnOnce() -> What) {
        self.0
            .observers
            .tell_if_wanted(kind, PolicyKind::Bulkhead, || &self.0.name, what);
    }
}

impl PerKey for Bulkhead {
    type Beside = Box<KeyTag>;

    fn for_key(&self, key: &str) -> Self {
        let shared = &self.0;
        Self(Arc::new(Shared {
            slots: Slots::new(shared.slots.limit()),
            max_wait: AtomicU64::new(shared.max_wait.load(Ordering::Relaxed)),
            max_queue: AtomicU32::new(shared.max_queue.load(Ordering::Relaxed)),
            rejected: AtomicU64::new(0),
            name: keyed_name(&shared.name, key),
            clock: shared.clock.clone(),
            observers: shared.observers.copied(),
            meter: shared.meter.shared(),
        }))
    }

    /// Never while a call is in flight or waits.
    fn is_forgettable(&self, _now: Timestamp) -> bool {
        is_only_handle(&self.0) && self.0.slots.in_flight() == 0 && self.0.slots.waiting() == 0
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
            .tell(PolicyKind::Bulkhead, || &self.0.name, || what);
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = &self.0.slots;
        f.debug_struct("Bulkhead")
            .field("name", &self.0.name)
            .field("in_flight", &slots.in_flight())
            .field("limit", &slots.limit())
            .finish()
    }
}
