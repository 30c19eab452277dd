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

/// Under loom: two stripes, and in place of the `OnceLock`, which loom lacks, a flag that orders memory as it
/// does.
#[cfg(buttress_loom)]
mod stripes {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use crate::vocabulary::sync::{AtomicU32, AtomicU64, Ordering};

    #[derive(Debug)]
    pub(super) struct Striped {
        opened: AtomicU32,
        lines: [AtomicU64; 2],
        /// Loom's threads begin anew with each execution, and so do their numbers here.
        threads: AtomicUsize,
    }

    impl Striped {
        pub(super) fn new() -> Self {
            Self {
                opened: AtomicU32::new(0),
                lines: [AtomicU64::new(0), AtomicU64::new(0)],
                threads: AtomicUsize::new(0),
            }
        }

        pub(super) fn open(&self) {
            self.opened.store(1, Ordering::Release);
        }

        pub(super) fn cell(&self) -> Option<&AtomicU64> {
            self.is_open().then(|| &self.lines[self.thread_number() % 2])
        }

        pub(super) fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
            self.is_open().then_some(&self.lines).into_iter().flatten()
        }

        fn is_open(&self) -> bool {
            self.opened.load(Ordering::Acquire) == 1
        }

        fn thread_number(&self) -> usize {
            loom::thread_local! {
                static NUMBER: Cell<usize> = Cell::new(usize::MAX);
            }
            NUMBER.with(|number| {
                if number.get() == usize::MAX {
                    number.set(self.threads.fetch_add(1, Relaxed));
                }
                number.get()
            })
        }
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
    fn a_cell_counts_for_the_tag_that_it_was_begun_with_until_it_is_drained() {
        let (tally, first, second) = (Tally::new(), Tag::of_epoch(6), Tag::of_epoch(7));
        assert!(!tally.add(first), "nobody has begun it");
        assert!(tally.begin(first));
        assert!(!tally.begin(first), "it is begun");
        assert!(tally.add(first));
        assert!(!tally.add(second), "another tag");
        assert_eq!(tally.sum(), 2);
        assert_eq!(tally.drain(), 2);
        assert_eq!(tally.sum(), 0);
        assert!(!tally.add(first), "it is over");
        assert!(tally.begin(second));
        assert!(!tally.add(first), "it is over");
        assert_eq!(tally.drain(), 1);
    }

    #[test]
    fn what_the_one_cell_holds_counts_on_beside_the_stripes() {
        let (tally, tag) = (Tally::new(), Tag::of_epoch(6));
        assert!(tally.begin(tag) && tally.add(tag));
        tally.striped.open();
        assert!(!tally.add(tag), "this thread's stripe is not begun");
        assert!(tally.begin(tag) && tally.add(tag));
        assert_eq!(tally.sum(), 4);
        assert_eq!(tally.drain(), 4);
        assert_eq!(tally.sum(), 0);
    }

    #[test]
    fn a_cell_that_is_full_takes_no_more() {
        let (tally, tag) = (Tally::new(), Tag::of_epoch(6));
        tally.solo.store(tag.cell(COUNT_MASK), Ordering::Relaxed);
        assert!(!tally.add(tag));
        assert!(!tally.begin(tag));
        assert_eq!(tally.drain(), COUNT_MASK);
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
                    if !tally.begin(Tag::of_epoch(window.epoch)) {
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
            window.epoch += 1;
            let drained = tally.drain() + std::mem::take(&mut window.besides);
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
