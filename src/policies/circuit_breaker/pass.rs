//! What a call holds of a circuit breaker.

use super::machine::Admitted;

/// What a call holds of a circuit breaker.
///
/// Two whole words, each written at once: it is moved with the call, and the processor would wait for a word that was
/// written in parts.
#[derive(Debug, Default)]
pub struct CircuitBreakerPass {
    /// The generation in the upper half, the probe in the lower.
    admitted: u64,
    /// How the call is timed in the two lowest bits; above, a reading of the stopwatch or of the clock, as they say.
    timing: u64,
}

/// How the call is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// It is not inside.
    Out = 0,
    /// Not at all so far: nobody asks for how long it takes, and it was never pending.
    Not = 1,
    /// By the stopwatch, until it is pending or held.
    Stopwatch = 2,
    /// By the clock, since it was pending or held.
    Clock = 3,
}

impl CircuitBreakerPass {
    #[inline(always)]
    pub(super) fn new(admitted: Admitted, watch: Watch, began: u64) -> Self {
        Self {
            admitted: u64::from(admitted.generation) << 32 | u64::from(admitted.probe),
            timing: began << 2 | watch as u64,
        }
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the generation stands above")]
    pub(super) const fn admitted(&self) -> Admitted {
        Admitted {
            generation: (self.admitted >> 32) as u32,
            probe: self.admitted as u32,
        }
    }

    #[inline(always)]
    pub(super) const fn watch(&self) -> Watch {
        match self.timing & 3 {
            0 => Watch::Out,
            1 => Watch::Not,
            2 => Watch::Stopwatch,
            _ => Watch::Clock,
        }
    }

    /// A reading of what times it: nanoseconds of the clock, or ticks of the stopwatch. The two highest bits of either
    /// stand for decades that no call takes.
    #[inline(always)]
    pub(super) const fn began(&self) -> u64 {
        self.timing >> 2
    }

    /// It is timed in another way from now on.
    pub(super) const fn time(&mut self, watch: Watch, began: u64) {
        self.timing = began << 2 | watch as u64;
    }

    /// It is not inside any more; says how it was timed. The reading stays.
    #[inline(always)]
    pub(super) const fn leave(&mut self) -> Watch {
        let watch = self.watch();
        self.timing &= !3;
        watch
    }
}
