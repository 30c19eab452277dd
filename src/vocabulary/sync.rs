//! The primitives that shared state is made of, so that loom can replace them.
//!
//! Under `--cfg buttress_loom` every atomic and lock below is loom's, and the tests in
//! `policies/**/loom.rs` walk through the interleavings. Nothing else in the crate may name
//! `std::sync::atomic` for state that two calls share.

#[cfg(buttress_loom)]
pub(crate) use self::explored::{AtomicU32, AtomicU64};
#[cfg(buttress_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::Ordering};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// A value that is made when it is first needed, and takes a pointer until then.
#[cfg(not(buttress_loom))]
#[derive(Debug)]
pub(crate) struct Late<T>(std::sync::OnceLock<Box<T>>);

#[cfg(not(buttress_loom))]
impl<T: Default> Late<T> {
    pub(crate) const fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.get().map(|value| &**value)
    }

    #[inline]
    pub(crate) fn get_or_make(&self) -> &T {
        self.0.get_or_init(Box::default)
    }
}

/// Under loom, which has no `OnceLock`, it is there from the beginning: what the models look at is what is inside.
#[cfg(buttress_loom)]
#[derive(Debug)]
pub(crate) struct Late<T>(Box<T>);

#[cfg(buttress_loom)]
impl<T: Default> Late<T> {
    pub(crate) fn new() -> Self {
        Self(Box::default())
    }

    pub(crate) fn get(&self) -> Option<&T> {
        Some(&self.0)
    }

    pub(crate) fn get_or_make(&self) -> &T {
        &self.0
    }
}

/// Locks, and goes on with the state of a thread that panicked while it held the lock.
///
/// Every critical section of this crate leaves its state whole at each point where it could panic (it calls
/// no user code), so a poisoned lock is an accident elsewhere and no reason to fail every later call.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `test` once for every interleaving with up to three preemptions.
///
/// The time that the models take grows tenfold with each: all of them take a quarter of a minute with three, and three
/// minutes with four, where they pass as well. What goes wrong between two or three threads mostly shows with fewer.
#[cfg(all(test, buttress_loom))]
pub(crate) fn model(test: impl Fn() + Send + Sync + 'static) {
    model_within(3, test);
}

/// Runs `test` once for every interleaving with up to so many preemptions, or as many as the variable
/// `LOOM_MAX_PREEMPTIONS` says.
#[cfg(all(test, buttress_loom))]
pub(crate) fn model_within(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    model.check(test);
}

/// Loom's atomics, with nothing left out of what it explores.
///
/// Of each atomic loom remembers one access, the last, and takes two loads for independent. So a thread's own
/// load hides the other thread's load before it, and the store that follows is never tried between the two
/// (loom's issues 166 and 392). Here each access first touches a second atomic by a relaxed addition. Two
/// additions are never independent, so that each order of accesses is tried; and being relaxed they order
/// nothing else, so that a load still sees every value that the memory model lets it see.
#[cfg(buttress_loom)]
mod explored {
    use std::fmt;

    use loom::sync::atomic;

    use super::Ordering;

    macro_rules! explored {
        ($name:ident, $value:ty) => {
            #[derive(Default)]
            pub(crate) struct $name {
                inner: atomic::$name,
                touched: atomic::AtomicU32,
            }

            #[allow(dead_code, reason = "both have the same operations")]
            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self {
                        inner: atomic::$name::new(value),
                        touched: atomic::AtomicU32::new(0),
                    }
                }

                fn touch(&self) -> &atomic::$name {
                    self.touched.fetch_add(1, Ordering::Relaxed);
                    &self.inner
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.touch().load(order)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    self.touch().store(value, order);
                }

                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.touch().swap(value, order)
                }

                pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    self.touch().fetch_add(value, order)
                }

                pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    self.touch().fetch_sub(value, order)
                }

                pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    self.touch().fetch_and(value, order)
                }

                pub(crate) fn fetch_min(&self, value: $value, order: Ordering) -> $value {
                    self.touch().fetch_min(value, order)
                }

                pub(crate) fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    self.touch().fetch_update(set, fetch, update)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.touch()
                        .compare_exchange(current, new, success, failure)
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.inner.fmt(f)
                }
            }
        };
    }

    explored!(AtomicU32, u32);
    explored!(AtomicU64, u64);
}
