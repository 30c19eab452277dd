//! What happens in a policy, for whoever watches.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use crate::vocabulary::{
    command::{By, Command, OverrideEnd},
    event_kind::{EventKind, EventKinds},
    outcome::{Abandoned, Verdict},
    rejected::{OpenCause, Reason, Rejected},
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

impl PolicyKind {
    /// Its word, as in settings and in JSON: `circuit_breaker`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::CircuitBreaker => "circuit_breaker",
            Self::Retry => "retry",
            Self::Timeout => "timeout",
            Self::Bulkhead => "bulkhead",
            Self::Fallback => "fallback",
            Self::Registry => "registry",
        }
    }
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

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.policy, self.name, self.what)
    }
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
        /// What failed, in words: the error, the rejection, or the status; at most 200 characters.
        failure: Arc<str>,
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
    /// A policy refused calls, or cut them off, since it was last looked at: a periodic count in place of one
    /// [`Rejected`](Self::Rejected) for each. The registry's [housekeeping](crate::Registry::housekeeping) tells it.
    Rejections {
        /// How many calls.
        count: u64,
        /// In how long.
        over: Duration,
        /// Why it does so now; `None` where it does not any more.
        reason: Option<Reason>,
    },
    /// Somebody commanded a policy, or the registry.
    Commanded {
        /// What.
        command: Command,
        /// Who, and why.
        by: By,
        /// For how long; `None` until another command.
        ttl: Option<Duration>,
    },
    /// What a command with a time to live had brought about is over.
    OverrideEnded {
        /// The command.
        command: Command,
        /// Who gave it, and why.
        by: By,
        /// How it came to its end.
        end: OverrideEnd,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transition { from, to, cause } => {
                write!(f, "{from} to {to}")?;
                match cause {
                    Some(cause) => write!(f, ": {cause}"),
                    None => Ok(()),
                }
            }
            Self::WindowEmptied => f.write_str("emptied its window, which has another shape"),
            Self::Rejected(rejected) => write!(f, "rejected a call: {}", rejected.reason()),
            Self::Recorded { verdict, duration } => {
                write!(f, "recorded a {}", verdict.word())?;
                match duration {
                    Some(duration) => write!(f, " after {duration:?}"),
                    None => Ok(()),
                }
            }
            Self::Abandoned(why) => write!(f, "a call ended without a result: {}", why.word()),
            Self::Retrying {
                attempt,
                after,
                failure,
            } => write!(f, "attempt {attempt} failed, the next in {after:?}: {failure}"),
            Self::Recovered { attempts } => write!(f, "a call succeeded after {attempts} attempts"),
            Self::GaveUp { attempts, why } => write!(f, "gave up after {attempts} attempts: {}", why.word()),
            Self::Queued => f.write_str("a call waits for a slot"),
            Self::Answered { hidden, rejected } => match rejected {
                Some(rejected) => write!(f, "answered in place of a rejection: {rejected}"),
                None => write!(f, "answered in place of a {}", hidden.word()),
            },
            Self::Reconfigured => f.write_str("took new settings"),
            Self::KeyForgotten => f.write_str("forgot a key that is not in use"),
            Self::KeysFull { max_keys } => write!(f, "no place for a new key: there are {max_keys}"),
            Self::Restacked => f.write_str("has other stages"),
            Self::Orphaned => f.write_str("is gone from the settings, and goes on under the last"),
            Self::Reloaded { generation } => write!(f, "took settings number {generation}"),
            Self::ReloadFailed { errors } => write!(f, "refused new settings: {errors}"),
            Self::Rejections { count, over, reason } => {
                write!(f, "rejected {count} calls in {over:.1?}")?;
                match reason {
                    Some(reason) => write!(f, ": {reason}"),
                    None => Ok(()),
                }
            }
            Self::Commanded { command, by, ttl } => {
                write!(f, "commanded: {command}")?;
                if let Some(ttl) = ttl {
                    write!(f, " for {ttl:?}")?;
                }
                write!(f, ", by {by}")
            }
            Self::OverrideEnded { command, by, end } => {
                write!(f, "command over ({}): {command}, by {by}", end.word())
            }
        }
    }
}

impl What {
    /// Its kind.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Transition { .. } => EventKind::Transition,
            Self::WindowEmptied => EventKind::WindowEmptied,
            Self::Rejected(_) => EventKind::Rejected,
            Self::Recorded { .. } => EventKind::Recorded,
            Self::Abandoned(_) => EventKind::Abandoned,
            Self::Retrying { .. } => EventKind::Retrying,
            Self::Recovered { .. } => EventKind::Recovered,
            Self::GaveUp { .. } => EventKind::GaveUp,
            Self::Queued => EventKind::Queued,
            Self::Answered { .. } => EventKind::Answered,
            Self::Reconfigured => EventKind::Reconfigured,
            Self::KeyForgotten => EventKind::KeyForgotten,
            Self::KeysFull { .. } => EventKind::KeysFull,
            Self::Restacked => EventKind::Restacked,
            Self::Orphaned => EventKind::Orphaned,
            Self::Reloaded { .. } => EventKind::Reloaded,
            Self::ReloadFailed { .. } => EventKind::ReloadFailed,
            Self::Rejections { .. } => EventKind::Rejections,
            Self::Commanded { .. } => EventKind::Commanded,
            Self::OverrideEnded { .. } => EventKind::OverrideEnded,
        }
    }
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

impl GaveUp {
    /// Its word, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Elapsed => "elapsed",
            Self::Budget => "budget",
            Self::NotRepeatable => "not_repeatable",
            Self::NotAdvised => "not_advised",
            Self::NotReady => "not_ready",
        }
    }
}

/// Watches policies.
///
/// It is called on the caller's task, with no lock held, and must neither block nor panic: hand work on, or
/// [subscribe](crate::Registry::subscribe) instead.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event);

    /// The kinds of events that it wants to be told; asked once, when it is added. What nobody wants is not built, which
    /// matters for what happens in [every call](EventKinds::per_call). Default: all.
    fn kinds(&self) -> EventKinds {
        EventKinds::all()
    }
}

impl<F: Fn(&Event) + Send + Sync + 'static> Observer for F {
    fn on_event(&self, event: &Event) {
        self(event);
    }
}

/// The observers of one handle. With none for a kind of events, such an event costs a load and a branch.
///
/// It stands in each of what may be a million handles: no lock is kept here, and nothing where nobody observes.
#[derive(Default)]
pub(crate) struct Observers {
    /// The kinds that any of them wants, as bits.
    kinds: AtomicU32,
    list: ArcSwapOption<Vec<Watcher>>,
}

/// Held while a list of observers is exchanged for another, so that none is lost. One for all handles: it is seldom done.
static CHANGES: Mutex<()> = Mutex::new(());

#[derive(Clone)]
struct Watcher {
    kinds: EventKinds,
    observer: Arc<dyn Observer>,
}

impl Observers {
    /// Whether there is none.
    #[cfg(all(feature = "watch", feature = "tracing"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.load().is_none()
    }

    /// The same observers for another handle.
    pub(crate) fn copied(&self) -> Self {
        let list = self.list.load_full();
        Self {
            kinds: AtomicU32::new(kinds_of(watchers(list.as_ref())).bits()),
            list: ArcSwapOption::new(list),
        }
    }

    pub(crate) fn add(&self, observer: Arc<dyn Observer>) {
        let watcher = Watcher {
            kinds: observer.kinds(),
            observer,
        };
        self.change(|list| list.iter().cloned().chain([watcher]).collect());
    }

    /// Adds it unless it is there.
    pub(crate) fn add_once(&self, observer: Arc<dyn Observer>) {
        let list = self.list.load_full();
        let mut known = watchers(list.as_ref()).iter();
        if !known.any(|known| known.is(Arc::as_ptr(&observer))) {
            self.add(observer);
        }
    }

    /// Takes it out again.
    pub(crate) fn remove(&self, observer: &Weak<dyn Observer>) {
        self.change(|list| {
            let others = list.iter().filter(|known| !known.is(observer.as_ptr()));
            others.cloned().collect()
        });
    }

    fn change(&self, change: impl FnOnce(&[Watcher]) -> Vec<Watcher>) {
        let old = {
            let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
            let new = change(watchers(self.list.load_full().as_ref()));
            self.kinds.store(kinds_of(&new).bits(), Ordering::Release);
            self.list.swap((!new.is_empty()).then(|| Arc::new(new)))
        };
        // An observer that goes with the old list runs code of its own then: not under the lock.
        drop(old);
    }

    /// Tells the observers what `what` builds, when there are any.
    #[inline(always)]
    pub(crate) fn tell<'a>(
        &self,
        policy: PolicyKind,
        name: impl FnOnce() -> &'a Arc<str>,
        what: impl FnOnce() -> What,
    ) {
        if self.kinds.load(Ordering::Acquire) != 0 {
            self.tell_all(policy, name(), what());
        }
    }

    /// The same for what happens in calls: it is not built unless somebody wants that kind.
    #[inline(always)]
    pub(crate) fn tell_if_wanted<'a>(
        &self,
        kind: EventKind,
        policy: PolicyKind,
        name: impl FnOnce() -> &'a Arc<str>,
        what: impl FnOnce() -> What,
    ) {
        if self.want(kind) {
            self.tell_all(policy, name(), what());
        }
    }

    /// Whether somebody wants events of this kind.
    #[inline(always)]
    pub(crate) fn want(&self, kind: EventKind) -> bool {
        self.kinds.load(Ordering::Acquire) & kind.bit() != 0
    }

    #[cold]
    fn tell_all(&self, policy: PolicyKind, name: &Arc<str>, what: What) {
        let kind = what.kind();
        let event = Event {
            policy,
            name: Arc::clone(name),
            what,
        };
        // The list is cloned out: an observer may add another, and no lock is held while it runs.
        for watcher in watchers(self.list.load_full().as_ref()) {
            if watcher.kinds.contains(kind) {
                watcher.observer.on_event(&event);
            }
        }
    }
}

impl Watcher {
    fn is(&self, observer: *const dyn Observer) -> bool {
        // Not with its table of methods, of which there may be several.
        std::ptr::addr_eq(Arc::as_ptr(&self.observer), observer)
    }
}

fn watchers(list: Option<&Arc<Vec<Watcher>>>) -> &[Watcher] {
    list.map_or(&[], |list| list)
}

/// What any of them wants.
fn kinds_of(list: &[Watcher]) -> EventKinds {
    list.iter()
        .fold(EventKinds::none(), |all, watcher| all.and(watcher.kinds))
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers")
            .field("count", &watchers(self.list.load_full().as_ref()).len())
            .finish_non_exhaustive()
    }
}
