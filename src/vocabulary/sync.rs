//! The primitives that shared state is made of, so that loom can replace them.
//!
//! Under `--cfg buttress_loom` every atomic and lock below is loom's, and the tests in
//! `policies/**/loom.rs` walk through the interleavings. Nothing else in the crate may name
//! `std::sync::atomic` for state that two calls share.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Locks, and goes on with the state of a thread that panicked while it held the lock.
///
/// Every critical section of this crate leaves its state whole at each point where it could panic (it calls
/// no user code), so a poisoned lock is an accident elsewhere and no reason to fail every later call.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
