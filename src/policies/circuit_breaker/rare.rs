//! What only a breaker has whose state has changed, or which somebody hears of.

use std::sync::{Arc, OnceLock};

use super::untold::Untold;
use crate::vocabulary::sync::AtomicU64;

/// Made when it is first needed: of a million breakers, one for each key, most are healthy and do without.
#[derive(Debug)]
pub(super) struct Rare {
    /// When the wait of the last opening ends, in nanoseconds.
    pub(super) until: AtomicU64,
    /// Why it last opened, as one word.
    pub(super) cause: AtomicU64,
    /// Refusals since it was built.
    pub(super) refused: AtomicU64,
    /// Of these, the ones before the window of the state began.
    pub(super) refused_before: AtomicU64,
    pub(super) untold: Untold,
    /// The name with the key in it.
    pub(super) name: OnceLock<Arc<str>>,
}

impl Default for Rare {
    fn default() -> Self {
        Self {
            until: AtomicU64::new(u64::MAX),
            cause: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refused_before: AtomicU64::new(0),
            untold: Untold::new(),
            name: OnceLock::new(),
        }
    }
}
