//! Readings of Tokio's clock that layers around each other share.
//!
//! When an attempt is pending, each layer around it asks for the time: to limit the call, to measure it. They do so one
//! right after the other, from the inside out, as the innermost poll returns. So each leaves its reading here, and the
//! next takes it, if it was made while that one polled its attempt: since then nothing else happened than that poll.

use std::cell::Cell;

use tokio::time::Instant;

use crate::vocabulary::clock::{Clock, Now, Reading, Timestamp};

thread_local! {
    /// How many readings this thread has made.
    static MADE: Cell<u64> = const { Cell::new(0) };
    // In parts: a reading that was just made stands in registers, and whoever copied it as a whole would wait for memory.
    static AT: Cell<Timestamp> = const { Cell::new(Timestamp::from_nanos(0)) };
    static INSTANT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A point in the work of a thread: readings after it are recent, readings before it are not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

/// This point.
#[inline(always)]
pub(crate) fn mark() -> Mark {
    Mark(MADE.get())
}

/// The time by that clock, if it was read since the mark as it was read then.
#[inline(always)]
pub(crate) fn now_since(clock: &Clock, mark: Mark) -> Now<'_> {
    if MADE.get() == mark.0 || !clock.is_tokio() {
        return Now::of(clock);
    }
    Now::of_reading(clock, Some(Reading::new(AT.get(), INSTANT.get())))
}

/// Leaves the reading, where one was made since the mark, to whoever asks next.
#[inline(always)]
pub(crate) fn leave(now: &Now<'_>, clock: &Clock, mark: Mark) {
    if MADE.get() == mark.0
        && clock.is_tokio()
        && let Some(reading) = now.reading()
    {
        AT.set(reading.at());
        INSTANT.set(reading.instant());
        MADE.set(mark.0.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, leave, mark, now_since};
    use crate::vocabulary::clock::{Clock, Timestamp};

    fn read(clock: &Clock, since: Mark) -> Timestamp {
        let mut now = now_since(clock, since);
        let read = now.get();
        leave(&now, clock, since);
        read
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_since_the_mark_is_taken_and_one_before_it_is_not() {
        let clock = Clock::tokio();
        let (outer, inner) = (mark(), mark());
        let first = read(&clock, inner);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(read(&clock, outer), first);
        assert_eq!(read(&clock, outer), first);
        assert_eq!(read(&clock, mark()).since(first).as_secs(), 1);
    }

    #[test]
    fn another_clock_has_readings_of_its_own() {
        let (manual, hand) = Clock::manual();
        let began = mark();
        read(&Clock::tokio(), began);
        assert_eq!(read(&manual, began), Timestamp::from_nanos(0));
        let began = mark();
        hand.set(Timestamp::from_nanos(7));
        read(&manual, began);
        assert_ne!(read(&Clock::tokio(), began), Timestamp::from_nanos(7));
    }

    #[test]
    fn where_nobody_asked_nothing_is_left() {
        let clock = Clock::tokio();
        let began = mark();
        leave(&now_since(&clock, began), &clock, began);
        assert!(now_since(&clock, began).reading().is_none());
    }
}
