//! Calls that were counted and are not in the ledger yet.

#[cfg(not(buttress_loom))]
use std::sync::OnceLock;
use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::vocabulary::sync::{AtomicU64, Ordering};

/// Counts up from many threads, and is emptied into the ledger now and then.
///
/// One count serves until two threads want it at the same moment. From then on each thread counts in a stripe that
/// hardly any other one writes to: a cache line that two processors write to in turn costs each of them more than the
/// rest of a call.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    all: AtomicU64,
    stripes: OnceLock<Stripes>,
}

pub(super) type Stripes = Box<[Stripe; STRIPES]>;

/// Alone on its cache lines, of which processors fetch two at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Stripe(AtomicU64);

const STRIPES: usize = if cfg!(buttress_loom) { 1 } else { 8 };

/// Calls in the one count when it is to be emptied.
pub(super) const BATCH: u64 = 16;

/// Calls in a stripe when it is to be emptied: where threads get into each other's way, calls are many.
pub(super) const STRIPE_BATCH: u64 = 64;

/// Where a call was counted that makes a batch full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full(Option<usize>);

impl Fresh {
    /// Counts a call. `Some` when it makes a batch full.
    #[inline]
    pub(super) fn add(&self) -> Option<Full> {
        match self.stripes.get() {
            None => self.add_to_all(),
            Some(stripes) => Self::add_to_mine(stripes),
        }
    }

    #[inline]
    fn add_to_all(&self) -> Option<Full> {
        let calls = self.all.load(Ordering::Relaxed);
        let counted = self
            .all
            .compare_exchange(calls, calls + 1, Ordering::Relaxed, Ordering::Relaxed);
        match counted {
            Ok(_) => (calls + 1).is_multiple_of(BATCH).then_some(Full(None)),
            // Another thread was here at the same moment.
            Err(_) => Self::add_to_mine(self.part()),
        }
    }

    /// Counts in stripes from now on.
    #[cold]
    #[inline(never)]
    pub(super) fn part(&self) -> &Stripes {
        self.stripes.get_or_init(Box::default)
    }

    #[inline]
    fn add_to_mine(stripes: &[Stripe; STRIPES]) -> Option<Full> {
        let mine = mine();
        let calls = stripes[mine].0.fetch_add(1, Ordering::Relaxed) + 1;
        calls.is_multiple_of(STRIPE_BATCH).then_some(Full(Some(mine)))
    }

    /// Takes what was counted where a batch is full.
    pub(super) fn take(&self, full: Full) -> u64 {
        match (full.0, self.stripes.get()) {
            (Some(stripe), Some(stripes)) => stripes[stripe].0.swap(0, Ordering::Relaxed),
            _ => self.all.swap(0, Ordering::Relaxed),
        }
    }

    /// Takes all that was counted.
    pub(super) fn take_all(&self) -> u64 {
        let stripes = self.stripes.get().into_iter().flat_map(|stripes| stripes.iter());
        stripes
            .map(|stripe| &stripe.0)
            .chain([&self.all])
            // A line that nobody wrote to is not taken from those who read it.
            .filter(|count| count.load(Ordering::Relaxed) > 0)
            .map(|count| count.swap(0, Ordering::Relaxed))
            .sum()
    }

    /// How many were counted.
    #[cfg(all(test, not(buttress_loom)))]
    pub(super) fn read(&self) -> u64 {
        let stripes = self.stripes.get().into_iter().flat_map(|stripes| stripes.iter());
        let counts = stripes.map(|stripe| &stripe.0).chain([&self.all]);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// The stripe of this thread: the next one, for each thread that asks for the first time.
#[inline]
fn mine() -> usize {
    // Which stripe it is changes nothing but the time that a call takes, so that loom need not know of these.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    if cfg!(buttress_loom) {
        // Each run of a model has to be like the one before.
        return 0;
    }
    let mine = MINE.get();
    if mine < STRIPES {
        return mine;
    }
    let next = NEXT.fetch_add(1, Relaxed) % STRIPES;
    MINE.set(next);
    next
}

/// The standard library's, as loom is to see it: made before, and found by whoever sees the mark.
#[cfg(buttress_loom)]
#[derive(Debug, Default)]
struct OnceLock<T> {
    made: crate::vocabulary::sync::AtomicU32,
    value: T,
}

#[cfg(buttress_loom)]
impl<T> OnceLock<T> {
    fn get(&self) -> Option<&T> {
        (self.made.load(Ordering::Acquire) > 0).then_some(&self.value)
    }

    fn get_or_init(&self, _make: impl FnOnce() -> T) -> &T {
        self.made.store(1, Ordering::Release);
        &self.value
    }
}
