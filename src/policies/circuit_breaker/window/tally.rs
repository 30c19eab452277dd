//! Successes of the newest bucket of a time window, counted without a lock.

use crate::vocabulary::sync::{AtomicU64, Ordering};

/// Counters that many cores add to without waiting for each other.
///
/// Each cell holds a tag in its upper 24 bits and a count in its lower 40. A cell counts only for the tag
/// that it carries; the owner of the window, under its lock, [drains](Tally::drain) all cells when the bucket
/// or the state changes and takes a new tag then. An adder with an old tag is told so and takes the lock, so
/// that no call is lost, counted twice, or counted for a later state.
///
/// It begins as one cell; when two adders collide, each thread gets a cell (and cache line) of its own.
#[derive(Debug)]
pub(in super::super) struct Tally {
    solo: AtomicU64,
    striped: Striped,
}

const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// A tag: never 0, which is what an empty cell carries.
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

impl Tally {
    pub(in super::super) fn new() -> Self {
        Self {
            solo: AtomicU64::new(0),
            striped: Striped::new(),
        }
    }

    /// Adds one when this thread's cell carries `tag`; false when it does not, or is full.
    #[inline]
    pub(in super::super) fn add(&self, tag: Tag) -> bool {
        let mut cell = self.cell();
        loop {
            let seen = cell.load(Ordering::Relaxed);
            if seen >> COUNT_BITS != u64::from(tag.bits()) || seen & COUNT_MASK == COUNT_MASK {
                return false;
            }
            // Release, so that whoever drains this count also sees what this thread did before.
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

    /// Lets this thread's cell count for `tag`, from one call on. Only under the lock of the window, and only
    /// when the cell does not carry `tag` yet: what it held belongs to an earlier tag and was drained.
    pub(in super::super) fn begin(&self, tag: Tag) -> bool {
        let cell = self.cell();
        if cell.load(Ordering::Relaxed) >> COUNT_BITS == u64::from(tag.bits()) {
            return false;
        }
        cell.store(tag.cell(1), Ordering::Relaxed);
        true
    }

    /// Takes what was counted and leaves every cell without a tag. Only under the lock of the window.
    pub(in super::super) fn drain(&self) -> u64 {
        self.cells()
            .map(|cell| cell.swap(0, Ordering::Acquire) & COUNT_MASK)
            .sum()
    }

    /// What is counted now. Only under the lock of the window.
    pub(in super::super) fn sum(&self) -> u64 {
        self.cells()
            .map(|cell| cell.load(Ordering::Acquire) & COUNT_MASK)
            .sum()
    }

    #[inline]
    fn cell(&self) -> &AtomicU64 {
        self.striped.cell().unwrap_or(&self.solo)
    }

    fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
        std::iter::once(&self.solo).chain(self.striped.cells())
    }
}

#[cfg(not(buttress_loom))]
use self::stripes::Striped;

#[cfg(not(buttress_loom))]
mod stripes {
    use std::{
        cell::Cell,
        sync::{
            OnceLock,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use crate::vocabulary::sync::AtomicU64;

    /// More than the threads that record at once on most machines; two that share a cell still count right.
    const STRIPES: usize = 16;

    #[derive(Debug)]
    pub(super) struct Striped(OnceLock<Box<[Line]>>);

    /// A cell alone on its cache line (two lines, because processors fetch them in pairs).
    #[derive(Debug, Default)]
    #[repr(align(128))]
    struct Line(AtomicU64);

    impl Striped {
        pub(super) const fn new() -> Self {
            Self(OnceLock::new())
        }

        #[cold]
        pub(super) fn open(&self) {
            self.0
                .get_or_init(|| (0..STRIPES).map(|_| Line::default()).collect());
        }

        #[inline]
        pub(super) fn cell(&self) -> Option<&AtomicU64> {
            self.0.get().map(|lines| &lines[thread_number() % STRIPES].0)
        }

        pub(super) fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
            self.0.get().into_iter().flatten().map(|line| &line.0)
        }
    }

    /// A small number that differs between threads.
    fn thread_number() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
        }
        NUMBER.with(|number| {
            if number.get() == usize::MAX {
                number.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            number.get()
        })
    }
}

/// Under loom the threads share the one cell: that is where they can go wrong.
#[cfg(buttress_loom)]
#[derive(Debug)]
struct Striped;

#[cfg(buttress_loom)]
impl Striped {
    fn new() -> Self {
        Self
    }

    fn open(&self) {}

    fn cell(&self) -> Option<&AtomicU64> {
        None
    }

    fn cells(&self) -> std::iter::Empty<&AtomicU64> {
        std::iter::empty()
    }
}
