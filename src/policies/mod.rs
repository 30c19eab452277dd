//! Floor 1: the policies. State machines into which `now` goes and out of which a decision comes. No Tower,
//! no I/O, no timers.

pub(crate) mod backoff;
pub(crate) mod bulkhead;
pub(crate) mod circuit_breaker;
pub(crate) mod fallback;
pub(crate) mod in_force;
pub(crate) mod key_tag;
pub(crate) mod per_key;
pub(crate) mod retry;
pub(crate) mod step;
pub(crate) mod timeout;
