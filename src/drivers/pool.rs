//! Memory that a thread's calls use one after the other.
//!
//! A call is moved before it is first polled, out of each service around it and into its task: what is large about it
//! costs a copy each time, and the processor waits for it, as what was just written in parts is read as a whole. So it
//! stands in memory of its own. Where a call ends, that goes to the thread's next one, so that none is allocated.

use std::{
    cell::{Cell, RefCell},
    thread::LocalKey,
};

/// So many pieces are kept by a thread, and no more: what was allocated for a burst of calls goes with it.
const KEPT: usize = 256;

/// Pieces of memory that no call uses. A thread has one for each kind.
pub(crate) struct Pool<T> {
    /// The one that was given back last. Where calls come one after the other there is no other.
    last: Cell<Option<T>>,
    others: RefCell<Vec<T>>,
}

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self {
            last: Cell::new(None),
            others: RefCell::new(Vec::new()),
        }
    }
}

/// One that a call before has used, with what is left in it. None where there is none, or the thread is about to end.
#[inline(always)]
pub(crate) fn take<T>(pool: &'static LocalKey<Pool<T>>) -> Option<T> {
    match pool.try_with(|pool| pool.last.take()) {
        Ok(Some(piece)) => Some(piece),
        _ => take_another(pool),
    }
}

#[cold]
#[inline(never)]
fn take_another<T>(pool: &'static LocalKey<Pool<T>>) -> Option<T> {
    pool.try_with(|pool| pool.others.borrow_mut().pop())
        .ok()
        .flatten()
}

/// Keeps it for another call.
#[inline(always)]
pub(crate) fn give_back<T>(pool: &'static LocalKey<Pool<T>>, piece: T) {
    let mut piece = Some(piece);
    let _ = pool.try_with(|pool| piece = pool.last.replace(piece.take()));
    if let Some(another) = piece {
        keep_another(pool, another);
    }
}

/// Without the pool, or with a full one, it is dropped.
#[cold]
#[inline(never)]
fn keep_another<T>(pool: &'static LocalKey<Pool<T>>, piece: T) {
    let _ = pool.try_with(|pool| {
        let mut others = pool.others.borrow_mut();
        if others.len() < KEPT - 1 {
            others.push(piece);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Pool, give_back, take};

    thread_local! {
        static PIECES: Pool<Box<usize>> = const { Pool::new() };
    }

    #[test]
    fn what_is_given_back_is_taken_again_and_no_more_is_kept_than_may_be() {
        assert_eq!(take(&PIECES), None);
        for piece in 0..2 * KEPT {
            give_back(&PIECES, Box::new(piece));
        }
        let kept = std::iter::from_fn(|| take(&PIECES)).count();
        assert_eq!(kept, KEPT);
    }

    #[test]
    fn a_thread_has_pieces_of_its_own() {
        give_back(&PIECES, Box::new(1));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(take(&PIECES), None));
        });
        assert_eq!(take(&PIECES), Some(Box::new(1)));
    }
}
