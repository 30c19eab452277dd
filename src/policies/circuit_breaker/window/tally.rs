//! Plain successes of a window, counted without a lock.

use crate::vocabulary::stripes::Striped;
use crate::vocabulary::sync::{AtomicU64, Ordering};

/// Counters that many cores add to without waiting for each other.
///
/// Each cell holds a tag in its upper 24 bits and a count in its lower 40. A cell that carries a tag is a permission: who
/// knows the tag may count a plain success in it, because that cannot change the state. The owner of the window, under its
/// lock, [takes](Tally::take) what they hold while that goes on being so, and [closes](Tally::close) them before it does
/// anything after which it may not be. It takes a new tag when the bucket or the state changes. An adder that finds its cell
/// closed, or with another tag, is told so and takes the lock: no call is lost, counted twice, or counted for a later state.
///
/// It begins as one cell; when two adders collide, each thread gets a cell (and cache line) of its own.
#[derive(Debug)]
pub(in super::super) struct Tally {
    solo: AtomicU64,
    /// A cell that holds as many takes no more, so that its adder goes to the lock.
    limit: AtomicU64,
    striped: Striped,
}

const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// A tag: never 0, which is what a closed cell carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Tag(u32);

impl Tag {
    /// The tag for an epoch. Epochs 2^24 - 1 apart share one, and an adder would have to sleep between two
    /// instructions for all of them to notice.
    pub(in super::super) const fn of_epoch(epoch: u32) -> Self {
        Self(epoch % 0xFF_FFFF + 1)
    }

    pub(in super::super) const fn bits(self) -> u32 {
        self.0
    }

    pub(in super::super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    const fn cell(self, count: u64) -> u64 {
        (self.0 as u64) << COUNT_BITS | count
    }
}

/// What the cells held when they were closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(in super::super) struct Closed {
    pub(in super::super) successes: u64,
    /// Which cells were open, a bit for each.
    open: u32,
}

impl Tally {
    pub(in super::super) fn new() -> Self {
        Self {
            solo: AtomicU64::new(0),
            limit: AtomicU64::new(COUNT_MASK),
            striped: Striped::new(),
        }
    }

    /// Lets a cell hold at most so many successes, or as many as it can.
    pub(in super::super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit.min(COUNT_MASK), Ordering::Relaxed);
    }

    /// Adds one when this thread's cell carries `tag`; false when it does not, or is full.
    #[inline]
    pub(in super::super) fn add(&self, tag: Tag) -> bool {
        let mut cell = self.cell();
        loop {
            let seen = cell.load(Ordering::Relaxed);
            if seen >> COUNT_BITS != u64::from(tag.bits())
                || seen & COUNT_MASK >= self.limit.load(Ordering::Relaxed)
            {
                return false;
            }
            // Release, so that whoever closes the cell also sees what this thread did before.
            if cell
                .compare_exchange(seen, seen + 1, Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                return true;
            }
            self.striped.open();
            cell = self.cell();
        }
    }

    /// Opens this thread's cell for `tag`, with one success in it. Only under the lock of the window. False when it is
    /// open.
    pub(in super::super) fn begin(&self, tag: Tag) -> bool {
        let cell = self.cell();
        let seen = cell.load(Ordering::Relaxed);
        debug_assert!(
            seen == 0 || seen >> COUNT_BITS == u64::from(tag.bits()),
            "it was left open for another tag"
        );
        if seen != 0 {
            return false;
        }
        cell.store(tag.cell(1), Ordering::Relaxed);
        true
    }

    /// Takes what the cells hold, which go on counting for `tag`. Only under the lock of the window, and with the tag that
    /// they have been opened for.
    pub(in super::super) fn take(&self, tag: Tag) -> u64 {
        let mut successes = 0;
        for cell in self.cells() {
            if cell.load(Ordering::Relaxed) & COUNT_MASK != 0 {
                let seen = cell.swap(tag.cell(0), Ordering::Acquire);
                debug_assert_eq!(
                    seen >> COUNT_BITS,
                    u64::from(tag.bits()),
                    "it counted for another"
                );
                successes += seen & COUNT_MASK;
            }
        }
        successes
    }

    /// Closes all cells, and tells what they held. Only under the lock of the window.
    pub(in super::super) fn close(&self) -> Closed {
        let mut closed = Closed::default();
        for (place, cell) in self.cells().enumerate() {
            // Cells are opened under the lock only: one that is closed stays so.
            if cell.load(Ordering::Relaxed) != 0 {
                closed.successes += cell.swap(0, Ordering::Acquire) & COUNT_MASK;
                closed.open |= 1 << place;
            }
        }
        closed
    }

    /// Opens the cells that were open before, for `tag` and with nothing in them. Only under the lock of
    /// the window, which was held since then.
    pub(in super::super) fn reopen(&self, tag: Tag, closed: Closed) {
        for (place, cell) in self.cells().enumerate() {
            if closed.open >> place & 1 == 1 {
                cell.store(tag.cell(0), Ordering::Relaxed);
            }
        }
    }

    #[inline]
    fn cell(&self) -> &AtomicU64 {
        self.striped.cell().unwrap_or(&self.solo)
    }

    fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
        std::iter::once(&self.solo).chain(self.striped.cells())
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    };

    use super::*;

    #[test]
    fn a_tag_is_never_that_of_an_empty_cell_and_never_that_of_the_epoch_before() {
        for around in [0, 0xFF_FFFE, 0xFF_FFFF, 2 * 0xFF_FFFF, 0xFFFF_FF00, u32::MAX] {
            for epoch in (0..8).map(|step| u32::wrapping_add(around, step).wrapping_sub(4)) {
                let tag = Tag::of_epoch(epoch);
                assert!((1..=0xFF_FFFF).contains(&tag.bits()), "{epoch}");
                assert_ne!(tag, Tag::of_epoch(epoch.wrapping_add(1)), "{epoch}");
            }
        }
    }

    #[test]
    fn a_cell_counts_for_the_tag_that_it_was_begun_with_until_it_is_closed() {
        let (tally, first, second) = (Tally::new(), Tag::of_epoch(6), Tag::of_epoch(7));
        assert!(!tally.add(first), "nobody has begun it");
        assert!(tally.begin(first));
        assert!(!tally.begin(first), "it is begun");
        assert!(tally.add(first));
        assert!(!tally.add(second), "another tag");
        assert_eq!(tally.close().successes, 2);
        assert_eq!(tally.close(), Closed::default());
        assert!(!tally.add(first), "it is over");
        assert!(tally.begin(second));
        assert!(!tally.add(first), "it is over");
        assert_eq!(tally.close().successes, 1);
    }

    #[test]
    fn a_cell_that_was_open_is_opened_again_and_one_that_was_not_stays_closed() {
        let (tally, tag) = (Tally::new(), Tag::of_epoch(6));
        tally.reopen(tag, tally.close());
        assert!(!tally.add(tag));
        assert!(tally.begin(tag));
        let closed = tally.close();
        assert!(!tally.add(tag));
        tally.reopen(tag, closed);
        assert!(tally.add(tag) && tally.add(tag));
        assert_eq!(tally.close().successes, 2);
    }

    #[test]
    fn what_is_taken_is_taken_once_and_the_cell_goes_on() {
        let (tally, tag) = (Tally::new(), Tag::of_epoch(6));
        assert_eq!(tally.take(tag), 0);
        assert!(!tally.add(tag), "nobody has begun it");
        assert!(tally.begin(tag) && tally.add(tag));
        assert_eq!((tally.take(tag), tally.take(tag)), (2, 0));
        assert!(tally.add(tag));
        assert_eq!(tally.close().successes, 1);
        assert_eq!(tally.take(tag), 0);
        assert!(!tally.add(tag));
    }

    #[test]
    fn what_the_one_cell_holds_counts_on_beside_the_stripes() {
        let (tally, tag) = (Tally::new(), Tag::of_epoch(6));
        assert!(tally.begin(tag) && tally.add(tag));
        tally.striped.open();
        assert!(!tally.add(tag), "this thread's stripe is not begun");
        assert!(tally.begin(tag) && tally.add(tag));
        let closed = tally.close();
        assert_eq!(closed.successes, 4);
        tally.reopen(tag, closed);
        assert!(tally.add(tag), "its stripe is open again");
        assert_eq!(tally.close().successes, 1);
    }

    #[test]
    fn a_cell_that_is_full_takes_no_more() {
        let (tally, tag) = (Tally::new(), Tag::of_epoch(6));
        tally.solo.store(tag.cell(COUNT_MASK), Ordering::Relaxed);
        tally.set_limit(u64::MAX);
        assert!(
            !tally.add(tag),
            "nor would it with a limit beyond what it can hold"
        );
        assert!(!tally.begin(tag));
        assert_eq!(tally.close().successes, COUNT_MASK);
        tally.set_limit(3);
        assert!(tally.begin(tag) && tally.add(tag) && tally.add(tag));
        assert!(!tally.add(tag));
        assert_eq!(tally.close().successes, 3);
    }

    /// What the machine does with a tally, and nothing else.
    #[derive(Default)]
    struct Window {
        epoch: u32,
        /// Counted under the lock in this epoch.
        besides: u64,
    }

    #[test]
    fn each_of_many_calls_counts_once_and_for_the_epoch_that_it_was_told() {
        const THREADS: usize = 4;
        const CALLS: usize = 50_000;
        let tally = Tally::new();
        let window = Mutex::new(Window::default());
        let epoch = AtomicU64::new(0);
        let over = AtomicBool::new(false);
        let count = || {
            let mut counted = Vec::new();
            for _ in 0..CALLS {
                let seen = u32::try_from(epoch.load(Ordering::Acquire)).unwrap();
                let told = if tally.add(Tag::of_epoch(seen)) {
                    seen
                } else {
                    let mut window = window.lock().unwrap();
                    let tag = Tag::of_epoch(window.epoch);
                    if !tally.add(tag) && !tally.begin(tag) {
                        window.besides += 1;
                    }
                    window.epoch
                } as usize;
                if counted.len() <= told {
                    counted.resize(told + 1, 0);
                }
                counted[told] += 1;
            }
            counted
        };
        let end_epoch = || {
            let mut window = window.lock().unwrap();
            // Looks in between, as failures take them: nothing is lost by that.
            let tag = Tag::of_epoch(window.epoch);
            let looked = tally.close();
            tally.reopen(tag, looked);
            let taken = looked.successes + tally.take(tag);
            window.epoch += 1;
            let drained = taken + tally.close().successes + std::mem::take(&mut window.besides);
            epoch.store(window.epoch.into(), Ordering::Release);
            drained
        };
        let (counted, mut drained) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(count)).collect();
            let drains = scope.spawn(|| {
                let mut drained = Vec::new();
                while !over.load(SeqCst) {
                    drained.push(end_epoch());
                    std::thread::yield_now();
                }
                drained
            });
            let counted: Vec<Vec<u64>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            over.store(true, SeqCst);
            (counted, drains.join().unwrap())
        });
        drained.push(end_epoch());
        for (epoch, drained) in drained.iter().enumerate() {
            let told: u64 = counted.iter().filter_map(|counted| counted.get(epoch)).sum();
            assert_eq!(told, *drained, "epoch {epoch}");
        }
        assert_eq!(drained.iter().sum::<u64>(), (THREADS * CALLS) as u64);
    }
}
