//! A cheaper reading of Tokio's clock, for who asks whether a point that is far off has come.
//!
//! The system keeps the time of its last timer interrupt at hand: reading that costs a quarter of a reading of the clock
//! itself. It follows the same clock, and is behind it by a few milliseconds.

use std::time::Duration;

use super::clock::Timestamp;

/// What a coarse reading is behind the clock at most: two interrupts of the slowest timer in use (100 a second). Where the
/// machine's owner holds interrupts back for longer, a reading is behind by that much more.
const BEHIND: Duration = Duration::from_millis(20);

/// A reading of Tokio's clock that is surely before `point`. `None` where that must be asked from the clock itself: shortly
/// before `point` and later, where the system has nothing cheaper, and where Tokio can pause its clock.
#[inline]
pub(crate) fn before(point: Timestamp) -> Option<Timestamp> {
    if pausing::POSSIBLE {
        return None;
    }
    surely_before(point, system::now()?)
}

#[inline]
fn surely_before(point: Timestamp, coarse: Timestamp) -> Option<Timestamp> {
    (coarse.after(BEHIND) < point).then_some(coarse)
}

/// The kernel's coarse monotonic clock. `Instant`, which Tokio's clock is made of, is the same clock read exactly.
#[cfg(target_os = "linux")]
mod system {
    use std::sync::OnceLock;

    use rustix::time::{ClockId, Timespec, clock_gettime};

    use crate::vocabulary::clock::{Clock, Timestamp};

    #[inline]
    #[allow(clippy::unnecessary_wraps, reason = "other systems have none")]
    pub(super) fn now() -> Option<Timestamp> {
        let nanos = nanos(clock_gettime(ClockId::MonotonicCoarse));
        Some(Timestamp::from_nanos(nanos.wrapping_sub(origin())))
    }

    /// What the kernel's clock shows at the origin of timestamps; less than zero, which wraps, where that lies before its
    /// start.
    #[inline]
    fn origin() -> u64 {
        static ORIGIN: OnceLock<u64> = OnceLock::new();
        *ORIGIN.get_or_init(|| {
            // Of several tries the one with the least between its readings. What there is makes coarse readings earlier,
            // never later.
            let tries = (0..8).map(|_| {
                let before = Clock::tokio().now().as_nanos();
                let kernels = nanos(clock_gettime(ClockId::Monotonic));
                let after = Clock::tokio().now().as_nanos();
                (after.saturating_sub(before), kernels.wrapping_sub(before))
            });
            tries.min().map_or(0, |(_, origin)| origin)
        })
    }

    #[inline]
    #[allow(
        clippy::cast_sign_loss,
        reason = "a monotonic clock is never before its start"
    )]
    fn nanos(time: Timespec) -> u64 {
        (time.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec as u64)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use crate::vocabulary::clock::Timestamp;

    #[inline]
    pub(super) const fn now() -> Option<Timestamp> {
        None
    }
}

/// Whether Tokio's clock can be paused: only where a test has asked for Tokio's feature `test-util`. The system does not
/// follow a paused clock, so that tests are told the exact time always.
mod pausing {
    /// Whether it can.
    pub(super) const POSSIBLE: bool = {
        // A name that is imported here comes before the same name around it. So this is Tokio's function where it has one.
        #[allow(unused_imports, clippy::wildcard_imports)]
        use tokio::time::*;
        is_tokios(pause)
    };

    /// What stands in for `tokio::time::pause` where that does not exist.
    #[allow(dead_code)]
    const fn pause() -> Missing {
        Missing
    }

    struct Missing;

    trait Pause {
        const IS_TOKIOS: bool;
    }

    impl Pause for Missing {
        const IS_TOKIOS: bool = false;
    }

    impl Pause for () {
        const IS_TOKIOS: bool = true;
    }

    const fn is_tokios<P: Pause>(_pause: fn() -> P) -> bool {
        P::IS_TOKIOS
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::vocabulary::clock::Clock;

    #[test]
    fn where_the_clock_can_be_paused_it_is_always_asked_itself() {
        const { assert!(pausing::POSSIBLE, "tests have Tokio's `test-util`") };
        assert_eq!(before(Timestamp::MAX), None);
    }

    #[test]
    fn a_coarse_reading_is_near_the_clock() {
        let (second, clock) = (Duration::from_secs(1), Clock::tokio());
        let earlier = clock.now();
        if let Some(coarse) = system::now() {
            assert!(coarse.after(second) > earlier, "{coarse:?} at {earlier:?}");
            assert!(coarse <= clock.now(), "it is never ahead");
        }
    }

    #[test]
    fn the_clock_itself_is_asked_from_shortly_before_a_point_on() {
        let point = Timestamp::from_nanos(1_000_000_000);
        let far = Timestamp::from_nanos(979_999_999);
        assert_eq!(surely_before(point, far), Some(far));
        for near in [980_000_000, 999_999_999, 1_000_000_000, 1_000_000_001] {
            assert_eq!(surely_before(point, Timestamp::from_nanos(near)), None, "{near}");
        }
        assert_eq!(surely_before(Timestamp::MAX, Timestamp::MAX), None);
    }
}
