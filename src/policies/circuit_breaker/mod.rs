//! The circuit breaker: stops calling a service that fails, and finds out when it is well again.
//!
//! | file | subject |
//! |---|---|
//! | `config.rs` | settings, and which are refused |
//! | `machine.rs` | the states and what leads from one to another, under the lock |
//! | `window/` | the calls that are looked at |
//! | `meter.rs` | what it counts for whoever exports it |
//! | `probes.rs` | the permits of half-open |
//! | `gate.rs` | what a call knows without the lock |
//! | `rare.rs` | what most breakers do without |
//! | `refusing.rs` | calls that it does not let through |
//! | `untold.rs` | transitions on their way to the observers |
//! | `permit.rs`, `snapshot.rs`, `detail.rs` | what a handle hands out |
//! | `shape.rs` | how settings stand in a file, where that differs |
//! | `step.rs` | the breaker as a step machine around a call |

mod config;
mod detail;
mod gate;
#[cfg(all(test, buttress_loom))]
mod loom;
mod machine;
pub(crate) mod meter;
mod pass;
mod permit;
mod probes;
mod rare;
mod refusing;
#[cfg(feature = "serde")]
mod shape;
mod snapshot;
mod step;
mod untold;
mod window;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use self::{
    config::Settings,
    detail::Seen,
    gate::{Gate, Glance},
    machine::{Admitted, Changes, Machine, Transition},
    meter::CircuitBreakerMeter,
};
pub use self::{
    config::{CircuitBreakerConfig, HalfOpenConfig, OpenConfig, SlowCallConfig, StayEnd, WindowConfig},
    detail::{CircuitBreakerDetail, CircuitBreakerThresholds, WindowCell, WindowPicture},
    pass::CircuitBreakerPass,
    permit::Permit,
    snapshot::CircuitBreakerSnapshot,
};
use crate::{
    policies::per_key::{KeyTag, PerKey, is_only_handle, keyed_name},
    vocabulary::{
        clock::{Clock, Now, Timestamp, nanos},
        event::{Observer, Observers, PolicyKind, What},
        event_kind::EventKind,
        events::{Events, Subscribe, WeakObserver},
        meter::Metered,
        outcome::{Abandoned, Verdict},
        rejected::Rejected,
        settings::ConfigError,
        state::State,
        sync::{Mutex, lock},
    },
};

/// A circuit breaker: a cheap handle on shared state.
///
/// Every clone is the same breaker, and so is every layer and service made from it. It can be asked
/// ([`state`](Self::state), [`snapshot`](Self::snapshot)), commanded and given new settings from anywhere;
/// nothing here awaits or waits for a call in flight.
///
/// Put it around a service with [`CircuitBreakerLayer`](crate::CircuitBreakerLayer), into a
/// [`Stack`](crate::Stack), around an async function with `run`, or ask it by hand:
///
/// ```
/// use buttress::{CircuitBreakerConfig, State};
///
/// let breaker = CircuitBreakerConfig::new().count_window(10).minimum_calls(4).build("db")?;
/// for _ in 0..4 {
///     let permit = breaker.try_acquire().expect("it is closed");
///     permit.failure();
/// }
/// assert_eq!(breaker.state(), State::Open);
/// let rejected = breaker.try_acquire().unwrap_err();
/// assert!(rejected.to_string().contains("failure rate 100 % of 4 calls"));
/// # Ok::<(), buttress::ConfigError>(())
/// ```
///
/// # States
///
/// Closed records calls in a sliding window; a rate that reaches its threshold when a result is recorded opens
/// it. Open refuses until its wait is over; the next call makes it half-open. Half-open admits a few probes,
/// and as soon as enough have a result it closes or opens. Forced open, disabled and metrics only are left by
/// command alone.
///
/// A result counts only in the state that admitted its call: one that comes late changes nothing.
#[derive(Clone)]
pub struct CircuitBreaker(Arc<Shared>);

// There may be a million of these. The first fields stand where the count of handles stands.
#[repr(C)]
struct Shared {
    /// Of one that was made for a key.
    tag: Option<KeyTag>,
    gate: Gate,
    clock: Clock,
    observers: Observers,
    common: Arc<Common>,
    machine: Mutex<Machine>,
}

/// What the breakers of all keys share, so that it takes one pointer of each.
struct Common {
    /// Without a key.
    name: Arc<str>,
    /// A call comes here only where the gate says that calls are timed.
    meter: Arc<Metered<CircuitBreakerMeter>>,
}

impl Shared {
    /// The name, with the key where there is one. It is made when somebody first wants it: a key's text is kept anyway.
    fn name(&self) -> &Arc<str> {
        let name = &self.common.name;
        match &self.tag {
            None => name,
            Some(tag) => self.gate.rare().name.get_or_init(|| keyed_name(name, tag.text())),
        }
    }

    #[inline(always)]
    fn meter(&self) -> Option<&CircuitBreakerMeter> {
        self.common.meter.get()
    }
}

impl CircuitBreaker {
    fn new(name: &str, settings: Settings, clock: Clock) -> Self {
        let common = Common {
            name: Arc::from(name),
            meter: Arc::default(),
        };
        let observers = Observers::default();
        Self::assemble(None, Arc::new(common), Arc::new(settings), clock, observers)
    }

    fn assemble(
        tag: Option<KeyTag>,
        common: Arc<Common>,
        settings: Arc<Settings>,
        clock: Clock,
        observers: Observers,
    ) -> Self {
        let gate = Gate::new();
        let machine = Machine::new(settings, common.meter.get().is_some(), &gate, clock.now());
        let breaker = Self(Arc::new(Shared {
            tag,
            gate,
            machine: Mutex::new(machine),
            clock,
            observers,
            common,
        }));
        breaker.schedule_tick();
        breaker
    }

    /// The default settings under the name `name`; see [`CircuitBreakerConfig`] for others.
    ///
    /// # Errors
    ///
    /// Never with the default settings.
    pub fn with_defaults(name: &str) -> Result<Self, ConfigError> {
        CircuitBreakerConfig::new().build(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The state that it is in. An open breaker whose wait is over answers open until a call asks for
    /// admission, unless it is set to go half-open by itself.
    pub fn state(&self) -> State {
        self.0.gate.glance().state()
    }

    /// State, counts and rates of one moment.
    pub fn snapshot(&self) -> CircuitBreakerSnapshot {
        let mut now = Now::of(&self.0.clock);
        let view = self.step(&mut now, |machine, gate, now, changes| {
            machine.make_due_changes(gate, now, changes, machine.wakes_at().is_some());
            machine.view(gate, now)
        });
        CircuitBreakerSnapshot::new(&view, &self.0.gate, now.get())
    }

    /// The same with what it is judged by, and a picture of the window of at most `cells` cells or so: for who looks at
    /// it, not for each call. The window is copied under the lock, and looked through without it.
    pub fn detail(&self, cells: u32) -> CircuitBreakerDetail {
        let mut now = Now::of(&self.0.clock);
        let (view, seen) = self.step(&mut now, |machine, gate, now, changes| {
            machine.make_due_changes(gate, now, changes, machine.wakes_at().is_some());
            (machine.view(gate, now), Seen::of(machine))
        });
        let snapshot = CircuitBreakerSnapshot::new(&view, &self.0.gate, now.get());
        CircuitBreakerDetail::new(snapshot, &view, &seen, cells)
    }

    /// Asks for admission of one call, to be settled by the permit.
    ///
    /// # Errors
    ///
    /// The rejection, when the breaker does not let the call through.
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        let admitted = self.admit()?;
        Ok(Permit::new(self.clone(), admitted, self.0.clock.now()))
    }

    /// Commands it into a state. A command to the state that it is in begins that state afresh.
    pub fn transition_to(&self, state: State) {
        self.command(state);
    }

    /// The same, and tells the generation of the state that this begins.
    pub(crate) fn command(&self, state: State) -> u32 {
        self.step(&mut Now::of(&self.0.clock), |machine, gate, now, changes| {
            machine.command(state, gate, now, changes);
            machine.generation()
        })
    }

    /// Closes it where it still is in the state of that generation. Whether it was.
    pub(crate) fn close_if_still(&self, generation: u32) -> bool {
        self.step(&mut Now::of(&self.0.clock), |machine, gate, now, changes| {
            let still = machine.generation() == generation;
            if still {
                machine.command(State::Closed, gate, now, changes);
            }
            still
        })
    }

    /// The generation of the state that it is in, without its lock.
    pub(crate) fn generation(&self) -> u32 {
        self.0.gate.glance().generation()
    }

    /// Calls refused since it was built, without its lock.
    pub(crate) fn rejected(&self) -> u64 {
        self.0.gate.refused()
    }

    /// Refuses all calls until another command.
    pub fn force_open(&self) {
        self.transition_to(State::ForcedOpen);
    }

    /// Opens as if a rate had reached its threshold: refuses until the wait is over.
    pub fn open(&self) {
        self.transition_to(State::Open);
    }

    /// Admits probes now.
    pub fn half_open(&self) {
        self.transition_to(State::HalfOpen);
    }

    /// Lets all calls through and records none, until another command.
    pub fn disable(&self) {
        self.transition_to(State::Disabled);
    }

    /// Lets all calls through and records them, and opens on nothing, until another command.
    pub fn metrics_only(&self) {
        self.transition_to(State::MetricsOnly);
    }

    /// Closes, with an empty window.
    pub fn close(&self) {
        self.transition_to(State::Closed);
    }

    /// Forgets everything: closed, with an empty window, the growth of the open wait begun anew.
    pub fn reset(&self) {
        self.transition_to(State::Closed);
    }

    /// Makes the changes of state that time has made due: out of a half-open that overstayed, and, where it is
    /// set to go half-open by itself, out of an open whose wait is over.
    pub fn tick(&self) {
        self.step(&mut Now::of(&self.0.clock), |machine, gate, now, changes| {
            machine.make_due_changes(gate, now, changes, machine.wakes_at().is_some());
        });
    }

    /// Takes new settings without a break: its state, generation and counts stay, thresholds apply from the
    /// next record on. Only another shape of the window empties the window. Name, clock and initial state are
    /// not looked at.
    ///
    /// # Errors
    ///
    /// A setting out of its range; the breaker then goes on as it was.
    pub fn reconfigure(&self, config: &CircuitBreakerConfig) -> Result<(), ConfigError> {
        let settings = Arc::new(config.settings(|| self.0.name())?);
        let emptied = self.step(&mut Now::of(&self.0.clock), |machine, gate, now, _| {
            machine.reconfigure(settings, gate, now.get())
        });
        self.schedule_tick();
        self.tell(|| What::Reconfigured);
        if emptied {
            self.tell(|| What::WindowEmptied);
        }
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

    /// The clock that it lives by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    #[inline(always)]
    fn admit(&self) -> Result<Admitted, Rejected> {
        self.admit_at(self.0.gate.glance())
    }

    #[inline(always)]
    fn admit_at(&self, glance: Glance) -> Result<Admitted, Rejected> {
        if glance.admits() {
            return Ok(Admitted::of(glance));
        }
        self.admit_in(glance)
    }

    /// Counts a call that ended. `took` is told when calls are timed.
    #[inline(always)]
    fn count(&self, verdict: Verdict, took: Option<Duration>) {
        if let (Some(took), Some(meter)) = (took, self.0.meter()) {
            meter.count(verdict, took);
        }
    }

    /// Records the success of a call that was not timed. Where it changes nothing and nobody listens, that is all.
    #[inline(always)]
    fn settle_success(&self, admitted: Admitted) {
        let glance = self.0.gate.glance();
        let changes =
            glance.generation() != admitted.generation || !glance.is_steady() || glance.is_tallied();
        if changes || self.0.observers.want(EventKind::Recorded) {
            self.settle_out_of_line(admitted);
        }
    }

    #[inline(never)]
    fn settle_out_of_line(&self, admitted: Admitted) {
        self.settle(admitted, Verdict::Success, None);
    }

    /// Records a result. `duration` is told when calls are timed.
    #[inline(always)]
    fn settle(&self, admitted: Admitted, verdict: Verdict, duration: Option<Duration>) {
        let gate = &self.0.gate;
        let glance = gate.glance();
        if glance.generation() != admitted.generation || glance.state() == State::Disabled {
            return;
        }
        let slow = duration.is_some_and(|duration| nanos(duration) > gate.slow_after());
        let counted = match verdict {
            Verdict::Success if !slow && self.settle_steadily(glance) => true,
            // As if the call had never been; only a probe gives something back.
            Verdict::Ignored if admitted.probe == 0 => true,
            _ => self.settle_locked(admitted, verdict, slow),
        };
        if counted {
            self.tell_call(EventKind::Recorded, || What::Recorded { verdict, duration });
        }
    }

    /// Records a plain success without the lock, where it cannot change the state.
    #[inline(always)]
    fn settle_steadily(&self, glance: Glance) -> bool {
        let gate = &self.0.gate;
        glance.is_steady()
            && (!glance.is_tallied()
                || (!glance.is_bucketed() || self.is_before(gate.bucket_end()))
                    && gate.tally.add(glance.tag()))
    }

    #[inline]
    fn is_before(&self, point: Timestamp) -> bool {
        self.0.clock.now_towards(point) < point
    }

    #[inline(never)]
    fn settle_locked(&self, admitted: Admitted, verdict: Verdict, slow: bool) -> bool {
        let mut now = Now::of(&self.0.clock);
        self.step(&mut now, |machine, gate, now, changes| {
            machine.record(admitted, verdict, slow, gate, now, changes)
        })
    }

    /// Settles a call that ended without a result after it had been pending for `pending` (`None`: it never
    /// was). `took` is told when calls are timed.
    fn settle_abandoned(
        &self,
        admitted: Admitted,
        why: Abandoned,
        pending: Option<Duration>,
        took: Option<Duration>,
    ) {
        let gate = &self.0.gate;
        let verdict = match why {
            Abandoned::TimedOut | Abandoned::Panicked => Verdict::Failure,
            Abandoned::Dropped => match pending.map(nanos) {
                Some(pending) if pending >= gate.dropped_after() || pending > gate.slow_after() => {
                    Verdict::Failure
                }
                _ => Verdict::Ignored,
            },
        };
        self.tell_call(EventKind::Abandoned, || What::Abandoned(why));
        self.count(verdict, took);
        self.settle(admitted, verdict, pending);
    }

    /// Runs one step of the machine under its lock, and tells what changed once the lock is released.
    fn step<T>(
        &self,
        now: &mut Now<'_>,
        step: impl FnOnce(&mut Machine, &Gate, &mut Now<'_>, &mut Changes) -> T,
    ) -> T {
        let mut changes = Changes::default();
        let result = {
            let mut machine = lock(&self.0.machine);
            let result = step(&mut machine, &self.0.gate, now, &mut changes);
            if changes.any() {
                self.0.gate.rare().untold.push(&changes);
            }
            result
        };
        if changes.any() {
            if let Some(meter) = self.0.meter() {
                for Transition { to, .. } in changes.0.iter().flatten() {
                    meter.count_transition(*to);
                }
            }
            self.schedule_tick();
            self.0.gate.rare().untold.tell(|Transition { from, to, cause }| {
                self.tell(|| What::Transition { from, to, cause });
            });
        }
        result
    }

    /// Sees to it that a change which time will make due is made then, where the settings want that.
    fn schedule_tick(&self) {
        let wakes_at = lock(&self.0.machine).wakes_at();
        if let Some(at) = wakes_at {
            let breaker = Arc::downgrade(&self.0);
            // Just after it: `until` itself still belongs to the wait.
            let at = at.after(Duration::from_nanos(1));
            self.0.clock.schedule(at, move || Self::tick_if_alive(&breaker));
        }
    }

    fn tick_if_alive(breaker: &Weak<Shared>) {
        if let Some(shared) = breaker.upgrade() {
            Self(shared).tick();
        }
    }

    /// What gives it back for as long as somebody else has it.
    #[cfg(feature = "metrics")]
    pub(crate) fn weakly(&self) -> impl Fn() -> Option<Self> + Clone + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    /// Calls that it has counted, by outcome; `None` where it does not count.
    pub(crate) fn counted(&self) -> Option<[(&'static str, u64); 4]> {
        self.0.meter().map(CircuitBreakerMeter::calls)
    }

    /// Counts from now on, by `meter` or by one of its own: calls that begin from now on, and all else at once.
    pub(crate) fn begin_counting(
        &self,
        meter: Option<&Arc<CircuitBreakerMeter>>,
    ) -> Arc<CircuitBreakerMeter> {
        let meter = self.0.common.meter.begin(meter);
        lock(&self.0.machine).begin_counting(&self.0.gate);
        meter
    }

    #[inline(always)]
    fn tell(&self, what: impl FnOnce() -> What) {
        self.0
            .observers
            .tell(PolicyKind::CircuitBreaker, || self.0.name(), what);
    }

    /// Tells what happens in calls, where somebody wants it.
    #[inline(always)]
    fn tell_call(&self, kind: EventKind, what: impl FnOnce() -> What) {
        self.0
            .observers
            .tell_if_wanted(kind, PolicyKind::CircuitBreaker, || self.0.name(), what);
    }
}

impl PerKey for CircuitBreaker {
    type Beside = ();

    #[inline(always)]
    fn own_tag(&self) -> Option<&KeyTag> {
        self.0.tag.as_ref()
    }

    fn for_key(&self, key: &str) -> Self {
        let shared = &self.0;
        let settings = Arc::clone(lock(&shared.machine).settings());
        let common = match shared.tag {
            None => Arc::clone(&shared.common),
            // Made from one that has a key itself: `payments[KEY]` is the name that the other key comes after.
            Some(_) => Arc::new(Common {
                name: Arc::clone(shared.name()),
                meter: Arc::clone(&shared.common.meter),
            }),
        };
        Self::assemble(
            Some(KeyTag::of(key)),
            common,
            settings,
            shared.clock.clone(),
            shared.observers.copied(),
        )
    }

    /// An open one is not before its wait is over, nor a half-open one before its longest stay is, where it has one. One
    /// that a command brought into a state that time does not end never is.
    fn is_forgettable(&self, now: Timestamp) -> bool {
        is_only_handle(&self.0)
            && (self.state() == State::Closed || lock(&self.0.machine).is_forgettable(now))
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
            .tell(PolicyKind::CircuitBreaker, || self.0.name(), || what);
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", self.0.name())
            .field("state", &self.state())
            .finish()
    }
}
