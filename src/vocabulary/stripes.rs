//! A cell for each thread.

#[cfg(buttress_loom)]
pub(crate) use self::explored::{STRIPES, Striped};
#[cfg(not(buttress_loom))]
pub(crate) use self::real::{STRIPES, Striped};

#[cfg(not(buttress_loom))]
mod real {
    use std::{
        cell::Cell,
        sync::{
            OnceLock,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use crate::vocabulary::sync::AtomicU64;

    /// More than the threads that record at once on most machines; two that share a cell still count right.
    pub(crate) const STRIPES: usize = 16;

    #[derive(Debug)]
    pub(crate) struct Striped(OnceLock<Box<[Line]>>);

    /// A cell alone on its cache line (two lines, because processors fetch them in pairs).
    #[derive(Debug, Default)]
    #[repr(align(128))]
    struct Line(AtomicU64);

    impl Striped {
        pub(crate) const fn new() -> Self {
            Self(OnceLock::new())
        }

        #[cold]
        pub(crate) fn open(&self) {
            self.0
                .get_or_init(|| (0..STRIPES).map(|_| Line::default()).collect());
        }

        #[inline]
        pub(crate) fn cell(&self) -> Option<&AtomicU64> {
            self.0.get().map(|lines| &lines[thread_number() % STRIPES].0)
        }

        /// A number of this thread, for whoever asks whether it is another one's turn.
        #[allow(clippy::unused_self, reason = "under loom the number belongs to it")]
        pub(crate) fn thread(&self) -> usize {
            thread_number()
        }

        pub(crate) fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
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
mod explored {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use crate::vocabulary::sync::{AtomicU32, AtomicU64, Ordering};

    pub(crate) const STRIPES: usize = 2;

    #[derive(Debug)]
    pub(crate) struct Striped {
        opened: AtomicU32,
        lines: [AtomicU64; STRIPES],
        /// Loom's threads begin anew with each execution, and so do their numbers here.
        threads: AtomicUsize,
    }

    impl Striped {
        pub(crate) fn new() -> Self {
            Self {
                opened: AtomicU32::new(0),
                lines: [AtomicU64::new(0), AtomicU64::new(0)],
                threads: AtomicUsize::new(0),
            }
        }

        pub(crate) fn open(&self) {
            self.opened.store(1, Ordering::Release);
        }

        pub(crate) fn cell(&self) -> Option<&AtomicU64> {
            self.is_open().then(|| &self.lines[self.thread() % STRIPES])
        }

        pub(crate) fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
            self.is_open().then_some(&self.lines).into_iter().flatten()
        }

        fn is_open(&self) -> bool {
            self.opened.load(Ordering::Acquire) == 1
        }

        pub(crate) fn thread(&self) -> usize {
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
