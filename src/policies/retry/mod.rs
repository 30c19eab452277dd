//! Retry: makes another attempt when one failed, after a wait, while a budget pays for it.
//!
//! | file | subject |
//! |---|---|
//! | `config.rs` | settings, and which are refused |
//! | `budget.rs` | how many retries the calls of the last while pay for |
//! | `fresh.rs` | the calls of a budget that are not entered yet |
//! | `shape.rs` | how settings stand in a file, where that differs |
//! | `meter.rs` | what it counts for whoever exports it |
//! | `step.rs` | the retry as a step machine around a call |
//! | `../backoff.rs` | how long to wait |

mod budget;
mod config;
mod fresh;
#[cfg(all(test, buttress_loom))]
mod loom;
pub(crate) mod meter;
mod pass;
#[cfg(feature = "serde")]
mod shape;
mod step;

use std::{fmt, sync::Arc};

pub use self::{
    budget::{RetryBudget, RetryBudgetConfig, RetryBudgetSnapshot},
    config::{BudgetChoice, RetryConfig},
    pass::RetryPass,
};
use self::{config::Settings, meter::RetryMeter};
use crate::{
    policies::per_key::{KeyTag, PerKey, is_only_handle, keyed_name},
    vocabulary::{
        clock::{Clock, Timestamp},
        event::{Observer, Observers, PolicyKind, What},
        event_kind::EventKind,
        events::{Events, Subscribe, WeakObserver},
        meter::Metered,
        settings::ConfigError,
        sync::{AtomicU32, Mutex, Ordering, lock},
    },
};

/// A retry policy: a cheap handle on shared state (its settings, and its budget).
///
/// Every clone is the same retry. Put it around a service with [`RetryLayer`](crate::RetryLayer), into a
/// [`Stack`](crate::Stack), or around an async function with `run`.
///
/// What is retried is up to the outcome's advice: by default every error, but no refusal by a policy of this
/// crate (an open circuit breaker, a full bulkhead). Timeouts of this crate are retried. When no attempt is
/// left the caller gets the last outcome, unchanged.
///
/// # Cancel safety
///
/// Dropping the call ends the attempt or the wait that is under way; nothing else is begun.
#[derive(Clone)]
pub struct Retry(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    clock: Clock,
    observers: Observers,
    meter: Metered<RetryMeter>,
    /// The newest settings, as [`newest_word`] packs them.
    newest: AtomicU32,
    /// The settings since it was built, up to the last 65 536: a call looks up, at its first failure, the ones
    /// that it began with. So a call that succeeds at once pays one load for them.
    settings: Mutex<Vec<Arc<Settings>>>,
    /// Fixed for the life of the retry, so that a call reaches it without a lock. Asleep while the settings
    /// want none.
    budget: RetryBudget,
    owns_budget: bool,
}

/// A retry at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RetrySnapshot {
    /// Attempts in all, the first counted.
    pub max_attempts: u32,
    /// Its budget, if it has one.
    pub budget: Option<RetryBudgetSnapshot>,
}

impl Retry {
    fn new(name: &str, settings: Settings, budget: (RetryBudget, bool), clock: Clock) -> Self {
        let (budget, owns_budget) = budget;
        Self(Arc::new(Shared {
            name: Arc::from(name),
            clock,
            observers: Observers::default(),
            meter: Metered::default(),
            newest: AtomicU32::new(newest_word(0, &settings)),
            settings: Mutex::new(vec![Arc::new(settings)]),
            budget,
            owns_budget,
        }))
    }

    /// The default settings under the name `name`; see [`RetryConfig`] for others.
    ///
    /// # Errors
    ///
    /// Never with the default settings.
    pub fn with_defaults(name: &str) -> Result<Self, ConfigError> {
        RetryConfig::new().build(name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its budget, if it has one.
    pub fn budget(&self) -> Option<&RetryBudget> {
        self.is_budgeted().then_some(&self.0.budget)
    }

    /// Its attempts, and its budget at one moment.
    pub fn snapshot(&self) -> RetrySnapshot {
        let number = settings_number(self.0.newest.load(Ordering::Acquire));
        RetrySnapshot {
            max_attempts: self.settings(number).max_attempts,
            budget: self.budget().map(RetryBudget::snapshot),
        }
    }

    /// Takes new settings for the calls that begin from now on; calls under way go on with theirs.
    ///
    /// A budget of its own keeps its counts. One that is shared stays: it is reconfigured by its own handle.
    /// Where calls read the time stays as it was built.
    ///
    /// # Errors
    ///
    /// A setting out of its range, or another budget than the one that it shares; the retry then goes on as it
    /// was.
    pub fn reconfigure(&self, config: &RetryConfig) -> Result<(), ConfigError> {
        let settings = config.settings(&self.0.name)?;
        {
            let mut all = lock(&self.0.settings);
            self.reconfigure_budget(&config.budget)
                .map_err(|error| error.of(PolicyKind::Retry, &self.0.name))?;
            let number = settings_number(self.0.newest.load(Ordering::Relaxed)).wrapping_add(1);
            let newest = newest_word(number, &settings);
            let settings = Arc::new(settings);
            match all.get_mut(usize::from(number)) {
                Some(oldest) => *oldest = settings,
                None => all.push(settings),
            }
            // Under the lock: two at once would take the same number.
            self.0.newest.store(newest, Ordering::Release);
        }
        self.tell(|| What::Reconfigured);
        Ok(())
    }

    fn reconfigure_budget(&self, budget: &BudgetChoice) -> Result<(), ConfigError> {
        match budget {
            BudgetChoice::Unlimited => Ok(()),
            BudgetChoice::Own(config) if self.0.owns_budget => self.0.budget.reconfigure(config),
            BudgetChoice::Shared(budget) if budget.is(&self.0.budget) => Ok(()),
            BudgetChoice::Own(_) | BudgetChoice::Shared(_) => Err(ConfigError::new(
                "budget",
                "another one",
                "a retry keeps the budget that it was built with; reconfigure that budget by its own handle",
            )),
        }
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
    pub(crate) fn counted(&self) -> Option<[(&'static str, u64); 4]> {
        self.0.meter.get().map(RetryMeter::calls)
    }

    /// Counts from now on, by `meter` or by one of its own.
    pub(crate) fn begin_counting(&self, meter: Option<&Arc<RetryMeter>>) -> Arc<RetryMeter> {
        self.0.meter.begin(meter)
    }

    fn is_budgeted(&self) -> bool {
        self.0.newest.load(Ordering::Acquire) & BUDGETED != 0
    }

    fn settings(&self, number: u16) -> Arc<Settings> {
        let all = lock(&self.0.settings);
        Arc::clone(&all[usize::from(number)])
    }

    #[inline(always)]
    fn tell(&self, what: impl FnOnce() -> What) {
        self.0.observers.tell(PolicyKind::Retry, || &self.0.name, what);
    }

    /// Tells what happens in calls, where somebody wants it.
    #[inline(always)]
    fn tell_call(&self, kind: EventKind, what: impl FnOnce() -> What) {
        self.0
            .observers
            .tell_if_wanted(kind, PolicyKind::Retry, || &self.0.name, what);
    }
}

/// In the word of the newest settings: they have a budget.
const BUDGETED: u32 = 1;
/// In the word of the newest settings: they limit the time that a call may take.
const TIMED: u32 = 2;

/// What a call that succeeds at once needs to know of its settings: their number and two flags.
fn newest_word(number: u16, settings: &Settings) -> u32 {
    let budgeted = if settings.budgeted { BUDGETED } else { 0 };
    let timed = if settings.max_elapsed.is_some() { TIMED } else { 0 };
    u32::from(number) << 2 | timed | budgeted
}

impl PerKey for Retry {
    type Beside = Box<KeyTag>;

    /// A budget of its own is one for each key; a shared one stays shared.
    fn for_key(&self, key: &str) -> Self {
        let shared = &self.0;
        let number = settings_number(shared.newest.load(Ordering::Acquire));
        let settings = self.settings(number);
        let budget = if shared.owns_budget {
            shared.budget.empty()
        } else {
            shared.budget.clone()
        };
        Self(Arc::new(Shared {
            name: keyed_name(&shared.name, key),
            clock: shared.clock.clone(),
            observers: shared.observers.copied(),
            meter: shared.meter.shared(),
            newest: AtomicU32::new(newest_word(0, &settings)),
            settings: Mutex::new(vec![settings]),
            budget,
            owns_budget: shared.owns_budget,
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
        self.0.observers.tell(PolicyKind::Retry, || &self.0.name, || what);
    }
}

/// The number of the settings that the word of the newest ones names.
#[allow(clippy::cast_possible_truncation)]
const fn settings_number(newest: u32) -> u16 {
    (newest >> 2) as u16
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}
