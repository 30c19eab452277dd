//! The hot paths, one after the other, each so many times inside of [`measured`]: what callgrind counts there is what
//! `scripts/instructions` compares. Prints the name of each.
//!
//! Nothing here depends on chance or on the hour: windows and limits are longer than any run, so that no bucket ends
//! in it.

mod paths;
mod services;

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tower::Service;

/// Calls that are counted. A retry budget takes them in by sixteens.
const CALLS: u64 = 1_024;

/// The function that callgrind looks for: nothing else is counted.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // So that this function ends after the work, and not with a jump to it.
    black_box(());
}

/// Counts the calls of one path, after as many that are not counted.
fn path(name: &str, mut once: impl FnMut(u64)) {
    let mut all = || (0..CALLS).for_each(&mut once);
    all();
    measured(&mut all);
    println!("{name}");
}

/// Counts the calls of a service. `succeeds`: whether each of them is to.
fn service<S: Service<u64>>(name: &str, succeeds: Option<bool>, mut service: S) {
    let mut succeeded = 0;
    path(name, |request| {
        succeeded += u64::from(call(&mut service, request));
    });
    let expected = succeeds.map_or(CALLS, |all| if all { 2 * CALLS } else { 0 });
    assert_eq!(
        succeeded, expected,
        "{name} does not take the path that it is to take"
    );
}

/// One call, polled until it is done.
#[inline]
fn call<S: Service<u64>>(service: &mut S, request: u64) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    while service.poll_ready(&mut cx).is_pending() {}
    until_done(service.call(request)).is_ok()
}

#[inline]
fn until_done<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return black_box(output);
        }
    }
}

/// Waits for the beginning of a second. Sums and differences of times take a few instructions more where their
/// nanoseconds run over, and a run is over before they do.
fn at_the_beginning_of_a_second() {
    let late = clock_gettime(ClockId::Monotonic).tv_nsec;
    let left = 1_000_000_000_u64.saturating_sub(u64::try_from(late).unwrap_or(0));
    std::thread::sleep(Duration::from_nanos(left));
}

fn main() {
    at_the_beginning_of_a_second();
    // Timers are armed in it; it runs nothing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime with a timer");
    let _entered = runtime.enter();
    paths::all();
}
