//! Policies of which there is one for each key.

use std::sync::{
    Arc, Weak,
    atomic::{Ordering, fence},
};

pub(crate) use crate::policies::key_tag::KeyTag;
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
    /// What the table of keys keeps beside the policy: a [`KeyTag`], or nothing where [`own_tag`](Self::own_tag) has it.
    type Beside: Beside;

    /// The tag of its key, where the policy itself keeps it. The default does not.
    #[inline(always)]
    fn own_tag(&self) -> Option<&KeyTag> {
        None
    }

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

/// What stands beside a policy in the table of keys.
pub trait Beside: Send + Sync + 'static {
    /// For a key.
    fn of(key: &str) -> Self;

    /// The tag, where it stands here.
    fn tag(&self) -> Option<&KeyTag>;
}

impl Beside for () {
    fn of(_key: &str) -> Self {}

    #[inline(always)]
    fn tag(&self) -> Option<&KeyTag> {
        None
    }
}

impl Beside for Box<KeyTag> {
    fn of(key: &str) -> Self {
        Self::new(KeyTag::of(key))
    }

    #[inline(always)]
    fn tag(&self) -> Option<&KeyTag> {
        Some(self)
    }
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
