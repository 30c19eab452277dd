//! The timer of a guarded call, and which calls have one.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::policies::step::Policy;

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

    /// Arms it for that point, or stops it.
    fn arm(self: Pin<&mut Self>, at: Option<Instant>);

    /// Ready at the point that it is armed for.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

/// None.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTimer;

impl Timer for NoTimer {
    const RUNS: bool = false;

    fn arm(self: Pin<&mut Self>, _at: Option<Instant>) {}

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

pin_project! {
    /// One, which is made when it is first armed: most calls are ready before.
    #[derive(Debug, Default)]
    pub struct OneTimer {
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Timer for OneTimer {
    const RUNS: bool = true;

    fn arm(self: Pin<&mut Self>, at: Option<Instant>) {
        let mut sleep = self.project().sleep;
        match (at, sleep.as_mut().as_pin_mut()) {
            (Some(at), Some(sleep)) => sleep.reset(at),
            (Some(at), None) => sleep.set(Some(sleep_until(at))),
            (None, _) => sleep.set(None),
        }
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project()
            .sleep
            .as_pin_mut()
            .map_or(Poll::Pending, |sleep| sleep.poll(cx))
    }
}
