//! Policies of which there is one for each key.

use std::sync::{
    Arc, Weak,
    atomic::{Ordering, fence},
};

use crate::{
    policies::step::Policy,
    vocabulary::{
        clock::Timestamp,
        event::{Observer, What},
    },
};

/// A policy that can be made anew for each key: see [`Keyed`](crate::Keyed).
///
/// It is public so that bounds can name it; it is implemented by this crate's policies.
pub trait PerKey: Policy {
    /// Another one with the settings and the observers that this one has now, and no state. Its name is this one's with
    /// the key in brackets: `payments[https://api.example:443]`.
    #[must_use]
    fn for_key(&self, key: &str) -> Self;

    /// Whether nothing is lost when it is dropped at `now`: nobody else has a handle on it (a call in flight has one),
    /// and its state is that of a new one, or its time is over.
    fn is_forgettable(&self, now: Timestamp) -> bool;

    /// Adds an observer of its events, unless it has it.
    fn add_observer(&self, observer: Arc<dyn Observer>);

    /// Takes an observer out again.
    fn remove_observer(&self, observer: &Weak<dyn Observer>);

    /// Tells its observers.
    fn tell_observers(&self, what: What);
}

/// The name of the policy for a key.
pub(crate) fn keyed_name(name: &str, key: &str) -> Arc<str> {
    format!("{name}[{key}]").into()
}

/// Whether this is the only handle. The caller sees to it that no other can be made meanwhile.
pub(crate) fn is_only_handle<T>(handle: &Arc<T>) -> bool {
    let only = Arc::strong_count(handle) == 1;
    // What the last of the others did before it went is seen from here on.
    fence(Ordering::Acquire);
    only
}
