//! Floor 0: the words that everything above is written in. Nothing here knows a policy or a service.

pub(crate) mod clock;
pub(crate) mod coarse;
pub(crate) mod command;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod event_kind;
pub(crate) mod events;
#[cfg(feature = "serde")]
pub(crate) mod json;
pub(crate) mod meter;
pub(crate) mod nearest;
pub(crate) mod outcome;
pub(crate) mod predicate;
pub(crate) mod random;
pub(crate) mod rate;
pub(crate) mod reason;
pub(crate) mod rejected;
#[cfg(feature = "schema")]
pub(crate) mod schema;
#[cfg(feature = "serde")]
pub(crate) mod serialized;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod stripes;
pub(crate) mod sync;
