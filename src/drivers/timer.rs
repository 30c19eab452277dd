//! The timer of a guarded call, and which calls have one.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    drivers::pool::{self, Pool},
    policies::step::Policy,
};

/// A policy that can be driven: it says where its calls need a timer, so that those which need none are smaller.
///
/// It is implemented in the stage list, for every policy.
pub trait Timed: Policy {
    /// Runs while an attempt is under way, and then also between attempts.
    type Calling: Timer;

    /// Runs while a call waits: in a queue, or for another attempt.
    type Between: Timer;
}

/// A timer that may be armed.
pub trait Timer: Default {
    /// Whether it ever is.
    const RUNS: bool;

    /// Whether it was made, and goes with what it is a timer of.
    fn is_made(&self) -> bool;

    /// Arms it for that point, or stops it.
    fn arm(&mut self, at: Option<Instant>);

    /// Ready at the point that it is armed for.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// None.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTimer;

impl Timer for NoTimer {
    const RUNS: bool = false;

    #[inline(always)]
    fn is_made(&self) -> bool {
        false
    }

    fn arm(&mut self, _at: Option<Instant>) {}

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A place for Tokio's timer.
type Place = Pin<Box<Option<Sleep>>>;

thread_local! {
    static PLACES: Pool<Place> = const { Pool::new() };
}

/// One, which is made when it is first armed: most calls are ready before.
///
/// Tokio's timer is larger than all else that a call holds, so it stands elsewhere.
#[derive(Debug, Default)]
pub struct OneTimer {
    sleep: Option<Place>,
}

impl Timer for OneTimer {
    const RUNS: bool = true;

    #[inline(always)]
    fn is_made(&self) -> bool {
        self.sleep.is_some()
    }

    fn arm(&mut self, at: Option<Instant>) {
        let Some(at) = at else {
            if let Some(place) = &mut self.sleep {
                place.set(None);
            }
            return;
        };
        let place = self
            .sleep
            .get_or_insert_with(|| pool::take(&PLACES).unwrap_or_default());
        match place.as_mut().as_pin_mut() {
            Some(sleep) => sleep.reset(at),
            None => place.set(Some(sleep_until(at))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.as_mut().and_then(|place| place.as_mut().as_pin_mut());
        sleep.map_or(Poll::Pending, |sleep| sleep.poll(cx))
    }
}

impl Drop for OneTimer {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(place) = self.sleep.take() {
            give_back(place);
        }
    }
}

/// It takes a value: what has an address that is known here would be kept in memory by every call.
#[cold]
#[inline(never)]
fn give_back(mut place: Place) {
    place.set(None);
    pool::give_back(&PLACES, place);
}
