//! Calls in flight: bytes of each future, and of the memory that it keeps resident.

use std::{
    fs,
    future::Future,
    pin::Pin,
    process::Command,
    task::{Context, Waker},
};

use super::growth::NAME;
use crate::{
    guards::{buttress, seatbelt, tower, tower_resilience},
    report::Line,
    services::{Guarded, Never},
};

/// Calls at once.
const CALLS: usize = 100_000;

/// What is guarded by what: a name, and what measures it in a process of its own.
const SUBJECTS: [(&str, Measure); 8] = [
    ("bare", || fly(Never)),
    ("buttress/static", || fly(buttress::stack_static_wide(Never))),
    ("buttress/runtime", || fly(buttress::stack_runtime_wide(Never))),
    ("buttress/breaker", || {
        fly(buttress::breaker(buttress::count_config(), Never))
    }),
    ("buttress/timeout", || fly(buttress::timeout(Never))),
    ("tower/three", || fly(tower::stack_of_three_wide(Never))),
    ("tower-resilience/four", || {
        fly(tower_resilience::stack_of_four_wide(Never))
    }),
    ("seatbelt/three", || fly(seatbelt::stack_of_three(Never))),
];

type Measure = fn() -> Flight;

/// Bytes of one call.
#[derive(Clone, Copy)]
pub(crate) struct Flight {
    /// Of its future itself.
    future: usize,
    /// Of resident memory.
    resident: usize,
}

/// Memory that was given back and is taken again does not show: each subject has a process of its own.
pub(crate) fn measure() -> Vec<Line> {
    let mut lines = Vec::new();
    for (subject, _) in SUBJECTS {
        let Some(flight) = in_a_process(subject) else {
            eprintln!("peers: no process for the calls in flight of {subject}");
            continue;
        };
        let name = |what: &str| match subject.split_once('/') {
            Some((library, rest)) => format!("{library}/{what}-{rest}-{CALLS}"),
            None => format!("{subject}-{what}-{CALLS}"),
        };
        lines.push(Line::new(NAME, name("future"), "").bytes(flight.future as f64));
        lines.push(Line::new(NAME, name("resident"), "").bytes(flight.resident as f64));
    }
    lines
}

fn in_a_process(subject: &str) -> Option<Flight> {
    let output = Command::new(std::env::current_exe().ok()?)
        .args(["--in-flight", subject])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (future, resident) = text.trim().split_once(' ')?;
    Some(Flight {
        future: future.parse().ok()?,
        resident: resident.parse().ok()?,
    })
}

/// What the process does that was started for one subject.
pub(crate) fn answer(subject: &str) -> Option<String> {
    let (_, fly) = SUBJECTS.iter().find(|(name, _)| *name == subject)?;
    let Flight { future, resident } = fly();
    Some(format!("{future} {resident}"))
}

fn fly<S: Guarded>(mut service: S) -> Flight {
    let mut cx = Context::from_waker(Waker::noop());
    let mut begin = || {
        assert!(service.poll_ready(&mut cx).is_ready(), "it is always ready");
        let mut future = Box::pin(service.call(0));
        assert!(future.as_mut().poll(&mut cx).is_pending(), "it never answers");
        future
    };
    let mut calls: Vec<Pin<Box<S::Future>>> = Vec::with_capacity(CALLS);
    // What is made once is made here.
    calls.push(begin());
    let before = resident();
    calls.extend((1..CALLS).map(|_| begin()));
    let resident = (resident() - before) / CALLS;
    Flight {
        future: size_of_val(&*calls[0]),
        resident,
    }
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size()
}
