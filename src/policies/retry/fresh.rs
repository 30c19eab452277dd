//! Calls that were counted and are not in the ledger yet.

#[cfg(not(buttress_loom))]
use std::sync::OnceLock;
use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use crate::vocabulary::{
    clock::Timestamp,
    sync::{AtomicU64, Ordering},
};

/// Counts up from many threads, and is emptied into the ledger now and then.
///
/// One count serves until threads get into each other's way. From then on each counts in a stripe that hardly any other
/// one writes to: a cache line that two processors write to in turn costs each of them more than the rest of a call.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    all: AtomicU64,
    stripes: OnceLock<Stripes>,
}

type Stripes = Box<[Stripe; STRIPES]>;

/// Alone on its cache lines, of which processors fetch two at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

const STRIPES: usize = if cfg!(buttress_loom) { 1 } else { 8 };

/// Calls in the one count when it is to be emptied.
pub(super) const BATCH: u64 = 16;

/// Calls in a stripe when it is to be emptied: where threads get into each other's way, calls are many.
pub(super) const STRIPE_BATCH: u64 = 64;

/// Where a call was counted that makes a batch full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full(Option<usize>);

impl Fresh {
    /// Counts a call. `Some` when it makes a batch full.
    #[inline]
    pub(super) fn add(&self) -> Option<Full> {
        let Some(stripes) = self.stripes.get() else {
            let calls = self.all.fetch_add(1, Ordering::Relaxed) + 1;
            return calls.is_multiple_of(BATCH).then_some(Full(None));
        };
        let mine = mine();
        let calls = stripes[mine].0.fetch_add(1, Ordering::Relaxed) + 1;
        calls.is_multiple_of(STRIPE_BATCH).then_some(Full(Some(mine)))
    }

    /// Counts in stripes from now on.
    #[cold]
    #[inline(never)]
    pub(super) fn part(&self) {
        self.stripes.get_or_init(Box::default);
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

    /// Whether it counts in stripes.
    #[cfg(all(test, not(buttress_loom)))]
    pub(super) fn is_parted(&self) -> bool {
        self.stripes.get().is_some()
    }

    /// How many were counted.
    #[cfg(all(test, not(buttress_loom)))]
    pub(super) fn read(&self) -> u64 {
        let stripes = self.stripes.get().into_iter().flat_map(|stripes| stripes.iter());
        let counts = stripes.map(|stripe| &stripe.0).chain([&self.all]);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Who last made a batch full, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    stripe: usize,
    at: Timestamp,
}

/// Threads that take turns at batches, each no later than this after the one before, get into each other's way: they
/// make a million calls per second.
const HASTE: Duration = Duration::from_micros(BATCH);

impl Last {
    /// This thread, at `now`.
    pub(super) fn here(now: Timestamp) -> Self {
        Self {
            stripe: mine(),
            at: now,
        }
    }

    /// Whether it is another thread than the one before, a moment later.
    pub(super) fn follows(self, before: Self) -> bool {
        self.stripe != before.stripe && self.at.since(before.at) < HASTE
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
