//! Readings of Tokio's clock that layers around each other share.
//!
//! When an attempt is pending, each layer around it asks for the time: to limit the call, to measure it. They do so one
//! right after the other, from the inside out, as the innermost poll returns. So each leaves its reading here, and the
//! next takes it, if it was made while that one polled its attempt: since then nothing else happened than that poll.

use std::cell::Cell;

use crate::vocabulary::clock::{Clock, Now, Reading};

struct Readings {
    /// How many readings this thread has made.
    made: Cell<u64>,
    last: Cell<Option<Reading>>,
}

thread_local! {
    static LAST: Readings = const {
        Readings {
            made: Cell::new(0),
            last: Cell::new(None),
        }
    };
}

/// A point in the work of a thread: readings after it are recent, readings before it are not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

/// This point.
#[inline(always)]
pub(crate) fn mark() -> Mark {
    Mark(LAST.with(|last| last.made.get()))
}

/// Does what needs the time of a clock: `since` the mark it may have been read already.
#[inline]
pub(crate) fn with_now<T>(clock: &Clock, since: Mark, work: impl FnOnce(&mut Now<'_>) -> T) -> T {
    if !clock.is_tokio() {
        return work(&mut Now::of(clock));
    }
    LAST.with(|Readings { made, last }| {
        let recent = if made.get() == since.0 { None } else { last.get() };
        let mut now = Now::of_reading(clock, recent);
        let done = work(&mut now);
        if let Some(reading) = now.reading() {
            last.set(Some(reading));
            made.set(made.get().wrapping_add(1));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::{mark, with_now};
    use crate::vocabulary::clock::{Clock, Timestamp};

    #[tokio::test(start_paused = true)]
    async fn a_reading_since_the_mark_is_taken_and_one_before_it_is_not() {
        let clock = Clock::tokio();
        let outer = mark();
        let inner = mark();
        let read = with_now(&clock, inner, |now| now.get());
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(with_now(&clock, outer, |now| now.get()), read);
        let later = with_now(&clock, mark(), |now| now.get());
        assert_eq!(later.since(read).as_secs(), 1);
    }

    #[test]
    fn another_clock_has_readings_of_its_own() {
        let began = mark();
        with_now(&Clock::tokio(), began, |now| now.get());
        let (manual, _hand) = Clock::manual();
        assert_eq!(
            with_now(&manual, began, |now| now.get()),
            Timestamp::from_nanos(0)
        );
    }

    #[test]
    fn nobody_asked_nothing_read() {
        let began = mark();
        with_now(&Clock::tokio(), began, |_| ());
        with_now(&Clock::tokio(), began, |now| assert_eq!(now.reading(), None));
    }
}
