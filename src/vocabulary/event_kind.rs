//! The kinds of events, and sets of them: what an observer or a subscription wants to be told.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        /// The kind of an [`Event`](crate::Event), by [`What`](crate::What).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
        }

        impl EventKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its word, which is `what` in JSON: `transition`, `reload_failed`.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }
        }
    };
}

kinds! {
    /// [`What::Transition`](crate::What::Transition).
    Transition = "transition",
    /// [`What::WindowEmptied`](crate::What::WindowEmptied).
    WindowEmptied = "window_emptied",
    /// [`What::Rejected`](crate::What::Rejected).
    Rejected = "rejected",
    /// [`What::Recorded`](crate::What::Recorded).
    Recorded = "recorded",
    /// [`What::Abandoned`](crate::What::Abandoned).
    Abandoned = "abandoned",
    /// [`What::Retrying`](crate::What::Retrying).
    Retrying = "retrying",
    /// [`What::Recovered`](crate::What::Recovered).
    Recovered = "recovered",
    /// [`What::GaveUp`](crate::What::GaveUp).
    GaveUp = "gave_up",
    /// [`What::Queued`](crate::What::Queued).
    Queued = "queued",
    /// [`What::Answered`](crate::What::Answered).
    Answered = "answered",
    /// [`What::Reconfigured`](crate::What::Reconfigured).
    Reconfigured = "reconfigured",
    /// [`What::KeyForgotten`](crate::What::KeyForgotten).
    KeyForgotten = "key_forgotten",
    /// [`What::KeysFull`](crate::What::KeysFull).
    KeysFull = "keys_full",
    /// [`What::Restacked`](crate::What::Restacked).
    Restacked = "restacked",
    /// [`What::Orphaned`](crate::What::Orphaned).
    Orphaned = "orphaned",
    /// [`What::Reloaded`](crate::What::Reloaded).
    Reloaded = "reloaded",
    /// [`What::ReloadFailed`](crate::What::ReloadFailed).
    ReloadFailed = "reload_failed",
    /// [`What::Rejections`](crate::What::Rejections).
    Rejections = "rejections",
    /// [`What::Commanded`](crate::What::Commanded).
    Commanded = "commanded",
    /// [`What::OverrideEnded`](crate::What::OverrideEnded).
    OverrideEnded = "override_ended",
}

impl EventKind {
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether calls bring it about, so that there may be as many of them as there are calls.
    pub const fn is_per_call(self) -> bool {
        matches!(
            self,
            Self::Rejected
                | Self::Recorded
                | Self::Abandoned
                | Self::Retrying
                | Self::Recovered
                | Self::GaveUp
                | Self::Queued
                | Self::Answered
                | Self::KeyForgotten
        )
    }
}

/// A set of kinds of events.
///
/// The default is [`per_change`](Self::per_change): what an operator wants to know, however many calls there are.
///
/// ```
/// use buttress::{EventKind, EventKinds};
///
/// let kinds = EventKinds::default().with(EventKind::GaveUp);
/// assert!(kinds.contains(EventKind::Transition) && kinds.contains(EventKind::GaveUp));
/// assert!(!kinds.contains(EventKind::Recorded));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKinds(u32);

impl EventKinds {
    /// All of them.
    pub const fn all() -> Self {
        Self::which(None)
    }

    /// None.
    pub const fn none() -> Self {
        Self(0)
    }

    /// What does not come with each call: transitions, commands and their ends, settings, and counts of rejections.
    pub const fn per_change() -> Self {
        Self::which(Some(false))
    }

    /// What comes with each call: its recording, rejection, waits and attempts. An open breaker under 10 000 calls a
    /// second tells 10 000 rejections a second.
    pub const fn per_call() -> Self {
        Self::which(Some(true))
    }

    const fn which(per_call: Option<bool>) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < EventKind::ALL.len() {
            let kind = EventKind::ALL[at];
            match per_call {
                Some(per_call) if kind.is_per_call() != per_call => {}
                _ => bits |= kind.bit(),
            }
            at += 1;
        }
        Self(bits)
    }

    /// With that one too.
    #[must_use]
    pub const fn with(self, kind: EventKind) -> Self {
        Self(self.0 | kind.bit())
    }

    /// Without that one.
    #[must_use]
    pub const fn without(self, kind: EventKind) -> Self {
        Self(self.0 & !kind.bit())
    }

    /// With all of the others too.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether that one is in.
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// The kinds in it.
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL
            .iter()
            .copied()
            .filter(move |kind| self.contains(*kind))
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

impl Default for EventKinds {
    fn default() -> Self {
        Self::per_change()
    }
}

impl From<EventKind> for EventKinds {
    fn from(kind: EventKind) -> Self {
        Self::none().with(kind)
    }
}

impl FromIterator<EventKind> for EventKinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::none(), Self::with)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Debug for EventKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_calls_and_what_does_not_are_all_there_is() {
        let (change, call) = (EventKinds::per_change(), EventKinds::per_call());
        assert_eq!(change.and(call), EventKinds::all());
        assert!(change.iter().all(|kind| !call.contains(kind)));
        assert_eq!(EventKinds::all().iter().count(), EventKind::ALL.len());
        assert!(change.contains(EventKind::Transition) && call.contains(EventKind::Rejected));
    }
}
