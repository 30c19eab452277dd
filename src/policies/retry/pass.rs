//! What a call holds of a retry.

/// What a call holds of a retry.
///
/// Whole words, each written at once: it is moved with the call, and the processor would wait for a word that was
/// written in parts.
#[derive(Debug, Default)]
pub struct RetryPass {
    /// From the lowest: two bits of the [`Phase`], one for whether the budget paid for this attempt, and from the 17th
    /// on, of 16 bits each, the attempt that is under way, the settings, and the wait before.
    state: u64,
    /// When the call was first seen to take time; [`UNSEEN`] before that, and [`UNLIMITED`] where it may take any.
    pub(super) began: u64,
    /// When the next attempt begins, while it waits.
    pub(super) wait_end: u64,
}

/// For [`RetryPass::began`]: the settings do not limit the time.
pub(super) const UNLIMITED: u64 = u64::MAX;

/// For [`RetryPass::began`]: the call took no time so far.
pub(super) const UNSEEN: u64 = u64::MAX - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The call is not inside.
    Out = 0,
    /// An attempt is under way.
    Running = 1,
    /// The next attempt waits for its time.
    Waiting = 2,
    /// Its time has come; the service may still have to become ready.
    Due = 3,
}

/// In [`RetryPass::state`].
const PHASE: u64 = 3;
const PAID: u64 = 4;
const ATTEMPT: u32 = 16;
const SETTINGS: u32 = 32;
const PREVIOUS: u32 = 48;

impl RetryPass {
    /// The first attempt of a call that began with the settings of this number.
    #[inline(always)]
    pub(super) fn first(settings: u16, began: u64) -> Self {
        Self {
            state: Phase::Running as u64 | 1 << ATTEMPT | u64::from(settings) << SETTINGS,
            began,
            wait_end: 0,
        }
    }

    #[inline(always)]
    pub(super) const fn phase(&self) -> Phase {
        match self.state & PHASE {
            0 => Phase::Out,
            1 => Phase::Running,
            2 => Phase::Waiting,
            _ => Phase::Due,
        }
    }

    /// Goes on to that phase, and says which it was.
    #[inline(always)]
    pub(super) const fn enter(&mut self, phase: Phase) -> Phase {
        let before = self.phase();
        self.state = self.state & !PHASE | phase as u64;
        before
    }

    /// The attempt that is under way, from 1.
    #[inline(always)]
    pub(super) const fn attempt(&self) -> u16 {
        self.get(ATTEMPT)
    }

    /// Another attempt is under way.
    pub(super) fn next_attempt(&mut self) {
        self.set(ATTEMPT, self.attempt().saturating_add(1));
    }

    /// The number of the settings that the call began with.
    pub(super) const fn settings(&self) -> u16 {
        self.get(SETTINGS)
    }

    /// The wait before this attempt, which decorrelated backoff grows from, as a share of the longest wait:
    /// `u16::MAX` is all of it.
    pub(super) const fn previous(&self) -> u16 {
        self.get(PREVIOUS)
    }

    pub(super) fn set_previous(&mut self, share: u16) {
        self.set(PREVIOUS, share);
    }

    /// Sets whether the budget paid for this attempt, and says whether it had before.
    pub(super) const fn pay(&mut self, paid: bool) -> bool {
        let before = self.state & PAID != 0;
        self.state = if paid {
            self.state | PAID
        } else {
            self.state & !PAID
        };
        before
    }

    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "what stands above is another part"
    )]
    const fn get(&self, at: u32) -> u16 {
        (self.state >> at) as u16
    }

    fn set(&mut self, at: u32, value: u16) {
        self.state = self.state & !(u64::from(u16::MAX) << at) | u64::from(value) << at;
    }
}
