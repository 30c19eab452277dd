//! How a list of stages takes another one's place while calls are under way.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;

/// What has taken a value's place, if anything has.
///
/// Whoever holds the old value asks [`is_superseded`](Succession::is_superseded), one load, and goes on with
/// [`newest`](Succession::newest), without a lock. What is under way ends with the value that it began with.
pub(super) struct Succession<T> {
    superseded: AtomicBool,
    newest: ArcSwapOption<T>,
    /// All whose place this one has taken, so that they never form a chain: each leads to the newest in one step.
    older: Mutex<Vec<Weak<T>>>,
}

/// What keeps its own [`Succession`].
pub(super) trait Succeeds: Sized {
    fn succession(&self) -> &Succession<Self>;
}

impl<T> Default for Succession<T> {
    fn default() -> Self {
        Self {
            superseded: AtomicBool::new(false),
            newest: ArcSwapOption::empty(),
            older: Mutex::default(),
        }
    }
}

impl<T: Succeeds> Succession<T> {
    #[inline(always)]
    pub(super) fn is_superseded(&self) -> bool {
        // Acquire: who sees that it was superseded also sees by what.
        self.superseded.load(Ordering::Acquire)
    }

    /// What has taken its place.
    pub(super) fn newest(&self) -> Option<Arc<T>> {
        self.newest.load_full()
    }

    /// Lets `new` take the place of `old`, and of all whose place `old` had taken. The caller sees to it that this does
    /// not happen twice to one `old` at once.
    pub(super) fn supersede(old: &Arc<T>, new: &Arc<T>) {
        let mut older = std::mem::take(
            &mut *old
                .succession()
                .older
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        older.retain(|older| older.strong_count() > 0);
        older.push(Arc::downgrade(old));
        for older in older.iter().filter_map(Weak::upgrade) {
            let succession = older.succession();
            succession.newest.store(Some(Arc::clone(new)));
            succession.superseded.store(true, Ordering::Release);
        }
        let mut all = new
            .succession()
            .older
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.append(&mut older);
    }
}
