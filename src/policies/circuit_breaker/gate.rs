//! What a call may know of the breaker without its lock.

use super::{
    rare::Rare,
    window::{Tag, Tally},
};
use crate::vocabulary::{
    clock::Timestamp,
    rate::Rate,
    rejected::OpenCause,
    state::State,
    sync::{AtomicU64, Late, Ordering},
};

/// The atomics that mirror the locked machine. Only who holds the machine's lock writes them (except for the
/// count of refusals and the tally).
#[derive(Debug)]
pub(super) struct Gate {
    /// A [`Glance`].
    word: AtomicU64,
    /// From how many nanoseconds a call is slow; `u64::MAX` where nothing is.
    slow_after: AtomicU64,
    /// From how many nanoseconds of pending a dropped call is a failure.
    dropped_after: AtomicU64,
    /// The end of the newest bucket of a time window, in nanoseconds.
    bucket_end: AtomicU64,
    rare: Late<Rare>,
    /// Plain successes of the newest bucket of a time window.
    pub(super) tally: Tally,
}

/// One reading of the breaker's state: generation, tag of the newest bucket, flags and state in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glance(u64);

const STATE_MASK: u64 = 0b111;
/// A plain success needs no judgement now: it cannot open the breaker.
const STEADY: u64 = 1 << 3;
/// Such a success changes what the window holds, so that it is to be counted in the tally.
const TALLIED: u64 = 1 << 4;
/// Calls are timed: slow ones are looked at, or calls are counted by how long they take.
const TIMED: u64 = 1 << 5;
/// The tally counts for a bucket of a time window, which may be over.
const BUCKETED: u64 = 1 << 6;
const TAG_SHIFT: u32 = 8;
const GENERATION_SHIFT: u32 = 32;

impl Glance {
    pub(super) fn new(state: State, generation: u32, tag: Tag) -> Self {
        Self(u64::from(generation) << GENERATION_SHIFT | u64::from(tag.bits()) << TAG_SHIFT | encode(state))
    }

    pub(super) const fn steady(self) -> Self {
        Self(self.0 | STEADY)
    }

    pub(super) const fn tallied(self) -> Self {
        Self(self.0 | TALLIED)
    }

    pub(super) const fn timed(self) -> Self {
        Self(self.0 | TIMED)
    }

    pub(super) const fn bucketed(self) -> Self {
        Self(self.0 | BUCKETED)
    }

    #[allow(clippy::cast_possible_truncation)]
    #[inline]
    pub(super) const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    #[inline]
    pub(super) const fn state(self) -> State {
        decode(self.0 & STATE_MASK)
    }

    /// Whether calls pass without asking the machine.
    #[inline]
    pub(super) const fn admits(self) -> bool {
        matches!(self.state(), State::Closed | State::Disabled | State::MetricsOnly)
    }

    #[inline]
    pub(super) const fn is_steady(self) -> bool {
        self.0 & STEADY != 0
    }

    #[inline]
    pub(super) const fn is_tallied(self) -> bool {
        self.0 & TALLIED != 0
    }

    #[inline]
    pub(super) const fn is_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    #[inline]
    pub(super) const fn is_bucketed(self) -> bool {
        self.0 & BUCKETED != 0
    }

    #[allow(clippy::cast_possible_truncation)]
    #[inline]
    pub(super) const fn tag(self) -> Tag {
        Tag::from_bits((self.0 >> TAG_SHIFT) as u32 & 0xFF_FFFF)
    }
}

const fn encode(state: State) -> u64 {
    match state {
        State::Closed => 0,
        State::Open => 1,
        State::HalfOpen => 2,
        State::ForcedOpen => 3,
        State::Disabled => 4,
        State::MetricsOnly => 5,
    }
}

const fn decode(bits: u64) -> State {
    match bits {
        0 => State::Closed,
        1 => State::Open,
        2 => State::HalfOpen,
        3 => State::ForcedOpen,
        4 => State::Disabled,
        _ => State::MetricsOnly,
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(Glance::new(State::Closed, 0, Tag::of_epoch(0)).0),
            slow_after: AtomicU64::new(u64::MAX),
            dropped_after: AtomicU64::new(u64::MAX),
            bucket_end: AtomicU64::new(0),
            rare: Late::new(),
            tally: Tally::new(),
        }
    }

    #[inline]
    pub(super) fn glance(&self) -> Glance {
        Glance(self.word.load(Ordering::Acquire))
    }

    /// Makes the machine's state known. The word comes last: who reads it also sees the rest, and a bucket
    /// whose end is seen too early only sends the reader to the lock.
    ///
    /// `opening` is written only for an opening, so that who has seen the word say open, and reads on while that ends,
    /// finds what belongs to that opening or to a later one.
    pub(super) fn publish(
        &self,
        glance: Glance,
        opening: Option<(Timestamp, Option<OpenCause>)>,
        end: Timestamp,
    ) {
        if let Some((until, cause)) = opening {
            let rare = self.rare();
            change(&rare.until, until.as_nanos(), Ordering::Relaxed);
            change(&rare.cause, pack_cause(cause), Ordering::Relaxed);
        }
        change(&self.bucket_end, end.as_nanos(), Ordering::Relaxed);
        change(&self.word, glance.0, Ordering::Release);
    }

    /// What is made when it is first needed, made now where there is none.
    pub(super) fn rare(&self) -> &Rare {
        self.rare.get_or_make()
    }

    #[inline]
    pub(super) fn until(&self) -> Timestamp {
        let until = self.rare.get().map(|rare| rare.until.load(Ordering::Relaxed));
        until.map_or(Timestamp::MAX, Timestamp::from_nanos)
    }

    #[inline]
    pub(super) fn bucket_end(&self) -> Timestamp {
        Timestamp::from_nanos(self.bucket_end.load(Ordering::Relaxed))
    }

    pub(super) fn cause(&self) -> OpenCause {
        self.packed_cause().unpack()
    }

    #[inline]
    pub(super) fn packed_cause(&self) -> PackedCause {
        let rare = self.rare.get();
        PackedCause(rare.map_or(0, |rare| rare.cause.load(Ordering::Relaxed)))
    }

    #[inline]
    pub(super) fn slow_after(&self) -> u64 {
        self.slow_after.load(Ordering::Relaxed)
    }

    pub(super) fn dropped_after(&self) -> u64 {
        self.dropped_after.load(Ordering::Relaxed)
    }

    pub(super) fn set_durations(&self, slow_after: u64, dropped_after: u64) {
        self.slow_after.store(slow_after, Ordering::Relaxed);
        self.dropped_after.store(dropped_after, Ordering::Relaxed);
    }

    pub(super) fn count_refusal(&self) {
        self.rare().refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn forget_refusals(&self) {
        if let Some(rare) = self.rare.get() {
            let refused = rare.refused.load(Ordering::Relaxed);
            rare.refused_before.store(refused, Ordering::Relaxed);
        }
    }

    /// Refusals since it was built.
    pub(super) fn refused(&self) -> u64 {
        let rare = self.rare.get();
        rare.map_or(0, |rare| rare.refused.load(Ordering::Relaxed))
    }

    /// Refusals since the window of the state began.
    pub(super) fn not_permitted(&self) -> u64 {
        self.rare.get().map_or(0, |rare| {
            // In this order: what was refused before is never more than what is read after it.
            let before = rare.refused_before.load(Ordering::Relaxed);
            rare.refused.load(Ordering::Relaxed).saturating_sub(before)
        })
    }
}

/// Stores what is not there yet: every call reads these, and a line that is not written stays with whoever reads it. Only
/// under the lock.
fn change(place: &AtomicU64, value: u64, order: Ordering) {
    if place.load(Ordering::Relaxed) != value {
        place.store(value, order);
    }
}

const RATE_SHIFT: u32 = 32;
const KIND_SHIFT: u32 = 60;

/// Why it opened, as one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedCause(u64);

impl PackedCause {
    /// A number other than zero that is the same for the same cause.
    #[inline]
    pub(super) const fn stamp(self) -> u64 {
        self.0 | 1 << 63
    }

    pub(super) fn unpack(self) -> OpenCause {
        unpack_cause(self.0)
    }
}

/// A cause in one word: kind in 4 bits, millionths of the rate in 28, count in 32.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn pack_cause(cause: Option<OpenCause>) -> u64 {
    let rated = |kind: u64, rate: Rate, calls: u64| {
        let millionths = (rate.as_fraction() * 1e6).round() as u64;
        kind << KIND_SHIFT | millionths << RATE_SHIFT | calls.min(u64::from(u32::MAX))
    };
    match cause {
        None | Some(OpenCause::Command) => 0,
        Some(OpenCause::FailureRate { rate, calls }) => rated(1, rate, calls),
        Some(OpenCause::SlowCallRate { rate, calls }) => rated(2, rate, calls),
        Some(OpenCause::ConsecutiveFailures { failures }) => 3 << KIND_SHIFT | u64::from(failures),
        Some(OpenCause::HalfOpenOverstayed) => 4 << KIND_SHIFT,
    }
}

#[allow(clippy::cast_possible_truncation)]
fn unpack_cause(word: u64) -> OpenCause {
    let calls = word & u64::from(u32::MAX);
    let rate = Rate::fraction((word >> RATE_SHIFT & 0xFFF_FFFF) as f64 / 1e6);
    match word >> KIND_SHIFT {
        1 => OpenCause::FailureRate { rate, calls },
        2 => OpenCause::SlowCallRate { rate, calls },
        3 => OpenCause::ConsecutiveFailures {
            failures: calls as u32,
        },
        4 => OpenCause::HalfOpenOverstayed,
        _ => OpenCause::Command,
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::CircuitBreakerConfig;

    #[test]
    fn a_glance_gives_back_what_it_was_made_of() {
        for state in [
            State::Closed,
            State::Open,
            State::HalfOpen,
            State::ForcedOpen,
            State::Disabled,
            State::MetricsOnly,
        ] {
            let glance = Glance::new(state, 0xDEAD_BEEF, Tag::of_epoch(0xFF_FFFE));
            let flags = |glance: Glance| {
                [
                    glance.is_steady(),
                    glance.is_tallied(),
                    glance.is_timed(),
                    glance.is_bucketed(),
                ]
            };
            assert_eq!(flags(glance), [false; 4]);
            assert_eq!(flags(glance.steady()), [true, false, false, false]);
            assert_eq!(flags(glance.tallied()), [false, true, false, false]);
            assert_eq!(flags(glance.timed()), [false, false, true, false]);
            assert_eq!(flags(glance.bucketed()), [false, false, false, true]);
            let glance = glance.steady().tallied().timed().bucketed();
            assert_eq!(flags(glance), [true; 4]);
            assert_eq!(glance.state(), state);
            assert_eq!(glance.generation(), 0xDEAD_BEEF);
            assert_eq!(glance.tag(), Tag::of_epoch(0xFF_FFFE));
        }
    }

    #[test]
    fn once_a_window_is_full_of_successes_again_they_write_nothing() {
        for consecutive in [None, Some(5)] {
            let mut config = CircuitBreakerConfig::new().count_window(50).minimum_calls(10);
            if let Some(failures) = consecutive {
                config = config.consecutive_failures(failures);
            }
            let breaker = config.build("gate").unwrap();
            let succeed = |times| (0..times).for_each(|_| breaker.try_acquire().unwrap().success());
            let writes = || breaker.0.gate.glance().is_tallied();
            assert!(writes());
            succeed(51);
            assert!(!writes());
            breaker.try_acquire().unwrap().failure();
            assert!(writes());
            succeed(102);
            assert!(breaker.0.gate.glance().is_steady() && !writes());
        }
    }

    #[test]
    fn a_cause_survives_its_word() {
        for cause in [
            OpenCause::FailureRate {
                rate: Rate::fraction(0.615),
                calls: 20,
            },
            OpenCause::SlowCallRate {
                rate: Rate::fraction(1.0),
                calls: u64::from(u32::MAX),
            },
            OpenCause::ConsecutiveFailures { failures: 7 },
            OpenCause::HalfOpenOverstayed,
            OpenCause::Command,
        ] {
            let packed = PackedCause(pack_cause(Some(cause)));
            assert_eq!(packed.unpack(), cause);
            assert!(packed.stamp() != 0 && packed.stamp() < u64::MAX);
        }
    }
}
