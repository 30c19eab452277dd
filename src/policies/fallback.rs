//! The fallback: another result takes the place of one that it is set for.

use std::{fmt, sync::Arc};

use crate::{
    policies::{
        per_key::{KeyTag, PerKey, is_only_handle, keyed_name},
        step::{Ask, Next, Policy, Step},
    },
    vocabulary::{
        clock::{Clock, Timestamp},
        event::{Observer, Observers, PolicyKind, What},
        event_kind::EventKind,
        events::{Events, Subscribe, WeakObserver},
        meter::{Counter, Metered},
        outcome::{Abandoned, Outcome, Verdict},
        predicate::{Match, Predicate},
    },
};

/// Which results a [`Fallback`] answers for: a cheap handle.
///
/// What it answers with is typed like the service, and so belongs to the layer: see
/// [`FallbackLayer`](crate::FallbackLayer). What it hides stays visible as
/// [`What::Answered`](crate::What::Answered).
///
/// By default it answers for every failure and every rejection.
#[derive(Clone)]
pub struct Fallback(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    on: Predicate,
    clock: Clock,
    observers: Observers,
    meter: Metered<FallbackMeter>,
}

/// What a fallback counts, or those of all keys, once somebody asks for it. Alone on its cache lines: calls write here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct FallbackMeter {
    /// Results that it let pass.
    pub(crate) passed: Counter,
    /// Results that it answered for.
    pub(crate) answered: Counter,
    /// Calls that ended without a result.
    pub(crate) dropped: Counter,
}

impl FallbackMeter {
    /// Calls that ended, by outcome.
    fn calls(&self) -> [(&'static str, u64); 3] {
        [
            ("passed", self.passed.read()),
            ("answered", self.answered.read()),
            ("dropped", self.dropped.read()),
        ]
    }
}

impl Fallback {
    /// A fallback called `name` for every failure and every rejection.
    pub fn new(name: &str) -> Self {
        Self::on(name, Predicate::new(went_wrong))
    }

    /// A fallback called `name` for the results that the predicate names. What matches by negations alone
    /// (`!Predicate::error::<io::Error>()`) is answered for where it is a failure or a rejection; see
    /// [`Rules`](crate::Rules).
    pub fn on(name: &str, on: Predicate) -> Self {
        let (name, clock) = (Arc::from(name), Clock::tokio());
        Self(Arc::new(Shared {
            name,
            on,
            clock,
            observers: Observers::default(),
            meter: Metered::default(),
        }))
    }

    fn answers_for(&self, outcome: &Outcome<'_>) -> bool {
        match self.0.on.matches(outcome) {
            Match::Named => true,
            Match::Negated => went_wrong(outcome),
            Match::No => false,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
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
        self.0.meter.get().map(FallbackMeter::calls)
    }

    /// Counts from now on, by `meter` or by one of its own.
    pub(crate) fn begin_counting(&self, meter: Option<&Arc<FallbackMeter>>) -> Arc<FallbackMeter> {
        self.0.meter.begin(meter)
    }
}

fn went_wrong(outcome: &Outcome<'_>) -> bool {
    outcome.verdict() == Verdict::Failure || outcome.rejected().is_some()
}

impl PerKey for Fallback {
    type Beside = Box<KeyTag>;

    fn for_key(&self, key: &str) -> Self {
        let shared = &self.0;
        Self(Arc::new(Shared {
            name: keyed_name(&shared.name, key),
            on: shared.on.clone(),
            clock: shared.clock.clone(),
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
            .tell(PolicyKind::Fallback, || &self.0.name, || what);
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

/// What a call holds of a fallback: whether its result may still be answered for.
#[derive(Debug, Default)]
pub struct FallbackPass {
    inside: bool,
}

impl Policy for Fallback {
    type Pass = FallbackPass;

    const JUDGES: bool = true;

    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    #[inline(always)]
    fn enter(&self, pass: &mut Self::Pass, _ask: &impl Ask) -> Step {
        pass.inside = true;
        Step::Call
    }

    fn leave(&self, pass: &mut Self::Pass, outcome: &Outcome<'_>) -> Next {
        // The answer itself comes by here too, and is not answered for again.
        if !std::mem::take(&mut pass.inside) {
            return Next::Done;
        }
        let answers = self.answers_for(outcome);
        if let Some(meter) = self.0.meter.get() {
            let counter = if answers { &meter.answered } else { &meter.passed };
            counter.add();
        }
        if !answers {
            return Next::Done;
        }
        self.0.observers.tell_if_wanted(
            EventKind::Answered,
            PolicyKind::Fallback,
            || &self.0.name,
            || What::Answered {
                hidden: outcome.verdict(),
                rejected: outcome.rejected().cloned(),
            },
        );
        Next::Answer
    }

    fn abandon(&self, pass: &mut Self::Pass, _why: Abandoned) {
        if std::mem::take(&mut pass.inside)
            && let Some(meter) = self.0.meter.get()
        {
            meter.dropped.add();
        }
    }
}
