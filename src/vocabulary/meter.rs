//! What a handle counts of its calls, from when somebody asks for it.
//!
//! Each policy has a meter of its own, made of the counters and histograms below: plain atomics that a call adds to.
//! Whoever exports them reads them now and then; no call pays an exporter.

// Without a feature that reads them nobody begins to count.
#![cfg_attr(not(feature = "metrics"), allow(dead_code))]

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::vocabulary::{
    clock::nanos,
    sync::{AtomicU64, Ordering},
};

/// The place of a handle's meter: empty until counting is asked for, so that until then a call pays a load and a branch.
///
/// The policies of all keys share the meter of the one that they are made from. What is counted is what the program's
/// settings name, never what its traffic does.
pub(crate) struct Metered<M>(OnceLock<Arc<M>>);

impl<M> Default for Metered<M> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<M> Metered<M> {
    /// The meter, where there is one.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&M> {
        self.0.get().map(|meter| &**meter)
    }

    /// The same meter for another handle.
    pub(crate) fn shared(&self) -> Self {
        let slot = OnceLock::new();
        if let Some(meter) = self.0.get() {
            // The slot is new, so that it is empty.
            let _ = slot.set(Arc::clone(meter));
        }
        Self(slot)
    }
}

impl<M: Default> Metered<M> {
    /// Counts from now on, by `meter` or by one of its own, unless it counts already; by which it does.
    pub(crate) fn begin(&self, meter: Option<&Arc<M>>) -> Arc<M> {
        let meter = || meter.map_or_else(Arc::default, Arc::clone);
        Arc::clone(self.0.get_or_init(meter))
    }
}

impl<M> fmt::Debug for Metered<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered")
            .field("counts", &self.0.get().is_some())
            .finish()
    }
}

/// Counts up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline(always)]
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in fixed buckets: eight for each doubling, from a microsecond to 137 seconds.
///
/// The middle of a bucket is at most 6 % away from what fell into it. One addition counts a call and says how long it
/// took, and the sum of all buckets is the number of calls.
pub(crate) struct Histogram([Counter; BUCKETS]);

/// Buckets for each doubling, as a power of two.
const STEPS_LOG: u32 = 3;
const STEPS: u64 = 1 << STEPS_LOG;
/// Below two to this many nanoseconds there is one bucket.
const FIRST_LOG: u32 = 10;
/// From two to this many nanoseconds on there is one bucket.
const LAST_LOG: u32 = 37;
pub(crate) const BUCKETS: usize = (((LAST_LOG - FIRST_LOG) as usize) << STEPS_LOG) + 2;

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Histogram {
    #[inline]
    pub(crate) fn record(&self, duration: Duration) {
        self.0[bucket_of(nanos(duration))].add();
    }

    /// All calls.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(Counter::read).sum()
    }

    /// What each bucket holds.
    pub(crate) fn read(&self) -> Vec<u64> {
        self.0.iter().map(Counter::read).collect()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("calls", &self.count()).finish()
    }
}

/// The bucket of a duration: its highest bit says which doubling, the three bits after it which part of that.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "it is less than 218")]
fn bucket_of(nanos: u64) -> usize {
    let highest = (nanos | 1).ilog2();
    if highest < FIRST_LOG {
        return 0;
    }
    let step = nanos >> (highest - STEPS_LOG) & (STEPS - 1);
    let bucket = u64::from(highest - FIRST_LOG) * STEPS + step + 1;
    (bucket as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in seconds. What is longer than the longest is taken for that.
pub(crate) fn middle_of(bucket: usize) -> f64 {
    let edge = |bucket: u64| {
        let (doubling, step) = (bucket / STEPS, bucket % STEPS);
        (STEPS + step) << (u64::from(FIRST_LOG - STEPS_LOG) + doubling)
    };
    let nanos = match bucket as u64 {
        0 => edge(0) as f64 / 2.0,
        last if last >= BUCKETS as u64 - 1 => edge(BUCKETS as u64 - 2) as f64,
        bucket => edge(bucket - 1).midpoint(edge(bucket)) as f64,
    };
    nanos / 1e9
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_middle_of_a_bucket_is_near_what_fell_into_it(log in 10.0..36.9_f64) {
            let seconds = log.exp2() / 1e9;
            let middle = middle_of(bucket_of(nanos(Duration::from_secs_f64(seconds))));
            prop_assert!((middle / seconds - 1.0).abs() < 0.063, "{middle} for {seconds}");
        }

        #[test]
        fn a_longer_duration_never_falls_into_a_lower_bucket(one in any::<u64>(), other in any::<u64>()) {
            prop_assert!(bucket_of(one.min(other)) <= bucket_of(one.max(other)));
            prop_assert!(bucket_of(one) < BUCKETS);
        }
    }

    #[test]
    fn every_bucket_is_one_that_its_middle_falls_into() {
        for bucket in 0..BUCKETS {
            let middle = Duration::from_secs_f64(middle_of(bucket));
            assert_eq!(bucket_of(nanos(middle)), bucket);
        }
    }

    #[test]
    fn what_is_very_short_or_very_long_is_counted_too() {
        let histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        histogram.record(Duration::MAX);
        let read = histogram.read();
        assert_eq!((read[0], read[BUCKETS - 1]), (1, 1));
        assert_eq!(read.iter().sum::<u64>(), 2);
    }

    #[test]
    fn handles_that_share_a_meter_count_together() {
        let one: Metered<Counter> = Metered::default();
        assert!(one.shared().get().is_none());
        let meter = one.begin(None);
        let other = one.shared();
        let third = Metered::default();
        third.begin(Some(&meter));
        for metered in [&one, &other, &third] {
            metered.get().unwrap().add();
        }
        assert_eq!(meter.read(), 3);
    }
}
