//! What happens in a policy, for whoever watches.

use std::{
    fmt,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::vocabulary::{
    outcome::{Abandoned, Verdict},
    rejected::{OpenCause, Rejected},
    state::State,
};

/// The kind of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyKind {
    /// [`CircuitBreaker`](crate::CircuitBreaker).
    CircuitBreaker,
    /// [`Retry`](crate::Retry).
    Retry,
    /// [`Timeout`](crate::Timeout).
    Timeout,
    /// [`Bulkhead`](crate::Bulkhead).
    Bulkhead,
    /// [`Fallback`](crate::Fallback).
    Fallback,
    /// [`Registry`](crate::Registry), for what concerns a stack of it or all.
    Registry,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CircuitBreaker => "circuit breaker",
            Self::Retry => "retry",
            Self::Timeout => "timeout",
            Self::Bulkhead => "bulkhead",
            Self::Fallback => "fallback",
            Self::Registry => "registry",
        })
    }
}

/// Something that happened in a policy.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The kind of the policy.
    pub policy: PolicyKind,
    /// Its name.
    pub name: Arc<str>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// A circuit breaker changed its state, or began the same one afresh.
    Transition {
        /// From this state.
        from: State,
        /// To this state.
        to: State,
        /// Why it opened; `None` for other states.
        cause: Option<OpenCause>,
    },
    /// A circuit breaker emptied its window: it was reconfigured to another shape.
    WindowEmptied,
    /// A policy refused a call, or cut it off.
    Rejected(Rejected),
    /// A circuit breaker recorded a call.
    Recorded {
        /// As what.
        verdict: Verdict,
        /// How long the call took, where that is measured.
        duration: Option<Duration>,
    },
    /// A call ended without a result.
    Abandoned(Abandoned),
    /// A retry waits for another attempt.
    Retrying {
        /// The number of the attempt that failed, the first being 1.
        attempt: u32,
        /// How long it waits.
        after: Duration,
    },
    /// A call that had been retried succeeded.
    Recovered {
        /// Attempts made.
        attempts: u32,
    },
    /// A failed call is not retried any more, or not at all.
    GaveUp {
        /// Attempts made.
        attempts: u32,
        /// Why there is no other.
        why: GaveUp,
    },
    /// A call waits for a slot of a bulkhead.
    Queued,
    /// A fallback answered in place of a result.
    Answered {
        /// What the hidden result counted as.
        hidden: Verdict,
        /// The rejection that it hid, if it was one.
        rejected: Option<Rejected>,
    },
    /// A policy took new settings.
    Reconfigured,
    /// A key that is not in use any more was forgotten, and its state with it; the event's name carries the key.
    KeyForgotten,
    /// A new key found no place among the keyed policies: from here on such keys share the policy that the event
    /// names. It is told once until there is a place again.
    KeysFull {
        /// So many keys have a policy of their own.
        max_keys: u32,
    },
    /// A stack has other stages, or has them in another order, from the next call on.
    Restacked,
    /// A stack is gone from the settings, and goes on under the last that it had.
    Orphaned,
    /// A registry took new settings.
    Reloaded {
        /// The number of these settings; the first have 1.
        generation: u64,
    },
    /// A registry was to take new settings that are wrong, and goes on with those that it has.
    ReloadFailed {
        /// What is wrong, one line for each error.
        errors: Arc<str>,
    },
}

/// Why a failed call gets no other attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GaveUp {
    /// All attempts were made.
    Attempts,
    /// The wait would have ended past the longest elapsed time, or past a timeout around the retry.
    Elapsed,
    /// The retry budget is spent.
    Budget,
    /// The request cannot, or must not, be sent again.
    NotRepeatable,
    /// Nothing advises another attempt: the exchange or a list says that this result is final, or a policy below the
    /// retry refused.
    NotAdvised,
    /// The service failed before the next attempt could be made: it did not become ready.
    NotReady,
}

/// Watches policies.
///
/// It is called on the caller's task, with no lock held, and must neither block nor panic: hand work on.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync + 'static> Observer for F {
    fn on_event(&self, event: &Event) {
        self(event);
    }
}

/// The observers of one handle. With none, an event costs a load and a branch.
#[derive(Default)]
pub(crate) struct Observers {
    any: AtomicBool,
    list: RwLock<Arc<[Arc<dyn Observer>]>>,
}

impl Observers {
    /// The same observers for another handle.
    pub(crate) fn copied(&self) -> Self {
        let list = self
            .list
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Self {
            any: AtomicBool::new(!list.is_empty()),
            list: RwLock::new(Arc::clone(&list)),
        }
    }

    pub(crate) fn add(&self, observer: Arc<dyn Observer>) {
        let mut list = self
            .list
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *list = list.iter().cloned().chain([observer]).collect();
        self.any.store(true, Ordering::Release);
    }

    /// Adds it unless it is there.
    pub(crate) fn add_once(&self, observer: Arc<dyn Observer>) {
        let known = {
            let list = self
                .list
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            list.iter().any(|known| Arc::ptr_eq(known, &observer))
        };
        if !known {
            self.add(observer);
        }
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Tells the observers what `what` builds, when there are any.
    #[inline(always)]
    pub(crate) fn tell(&self, policy: PolicyKind, name: &Arc<str>, what: impl FnOnce() -> What) {
        if self.any() {
            self.tell_all(&Event {
                policy,
                name: Arc::clone(name),
                what: what(),
            });
        }
    }

    #[cold]
    fn tell_all(&self, event: &Event) {
        // The list is cloned out: an observer may add another, and no lock is held while it runs.
        let list = Arc::clone(
            &self
                .list
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        for observer in &*list {
            observer.on_event(event);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("any", &self.any()).finish()
    }
}
