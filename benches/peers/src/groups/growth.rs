//! Group 6: what grows, and what does not.

use std::time::Duration;

use super::{flight, keyed};
use crate::{
    effort::Effort,
    guards::{buttress, seatbelt, tower_resilience},
    report::Line,
    rounds::{self, Row, task},
    services::{Echo, Guarded},
};

pub(crate) const NAME: &str = "growth";

/// Longer than the group takes: no call leaves the window by itself.
const WINDOW: Duration = Duration::from_mins(5);

/// Calls in a slice.
const CALLS: u64 = 100;

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    let mut lines = rounds::measure(NAME, windows(effort), effort.rounds(301));
    lines.extend(keyed::measure(effort));
    lines.extend(flight::measure());
    lines
}

fn windows(effort: Effort) -> Vec<Row> {
    let mut rows = vec![filled("bare", 100, || Echo)];
    for calls in (2..=7).map(|power| 10_u64.pow(power)) {
        rows.push(filled("buttress/breaker-time", calls, || {
            buttress::breaker(buttress::count_config().time_window(WINDOW), Echo)
        }));
    }
    for calls in (2..=7).map(|power| 10_u64.pow(power)) {
        rows.push(sliding(calls));
    }
    for calls in (2..=6).map(|power| 10_u64.pow(power)) {
        rows.push(filled("seatbelt/breaker-time", calls, || {
            seatbelt::breaker(WINDOW, Echo)
        }));
    }
    // It looks at each of them at each call: more would take minutes to fill.
    let most = if effort.quick { 3 } else { 4 };
    for calls in (2..=most).map(|power| 10_u64.pow(power)) {
        rows.push(filled("tower-resilience/breaker-time", calls, || {
            tower_resilience::breaker_time(WINDOW, Echo)
        }));
    }
    rows
}

/// A time window with so many calls in it, give or take a tenth, where that is more than a slice.
fn filled<S: Guarded>(name: &str, calls: u64, build: fn() -> S) -> Row {
    let mut service = None;
    let mut more = 0;
    let name = match name {
        "bare" => name.to_owned(),
        _ => format!("{name}-{calls}"),
    };
    Row::new(name, move |slice, meter| {
        if service.is_none() || more > calls / 10 {
            let mut fresh = build();
            task(&mut fresh, calls, |request| request).run();
            (service, more) = (Some(fresh), 0);
        }
        let service = service.as_mut().unwrap();
        let mut task = task(service, slice, |request| request);
        meter.of(|| {
            task.run();
        });
        more += slice;
    })
    .calls(CALLS)
}

/// The same while time passes: so many calls come in ten seconds, old ones leave, and buckets are emptied.
fn sliding(calls: u64) -> Row {
    let (clock, hand) = ::buttress::Clock::manual();
    let config = buttress::time_config().clock(clock);
    let mut service = buttress::breaker(config, Echo);
    let step = Duration::from_secs(10) / u32::try_from(calls).unwrap();
    let mut missing = calls;
    Row::new(
        format!("buttress/breaker-time-sliding-{calls}"),
        move |slice, meter| {
            let on = |request| {
                hand.advance(step);
                request
            };
            task(&mut service, std::mem::take(&mut missing), on).run();
            let mut task = task(&mut service, slice, on);
            meter.of(|| {
                task.run();
            });
        },
    )
    .calls(CALLS * 10)
}
