//! Floor 0: the words that everything above is written in. Nothing here knows a policy or a service.

pub(crate) mod clock;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod meter;
pub(crate) mod outcome;
pub(crate) mod predicate;
pub(crate) mod random;
pub(crate) mod rate;
pub(crate) mod rejected;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod sync;
