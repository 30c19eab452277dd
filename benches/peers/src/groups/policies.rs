//! Group 1: each policy alone, over a service that is ready at once.

use crate::{
    effort::Effort,
    guards::{WINDOW, buttress, failsafe, recloser, seatbelt, tower, tower_resilience},
    report::Line,
    rounds::{self, Row, row},
    services::{Echo, Flaky},
};

pub(crate) const NAME: &str = "policies";

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    let mut rows = vec![
        row("bare", Echo),
        row("bare-failing", Flaky::default()),
        row(
            "buttress/breaker-count",
            buttress::breaker(buttress::count_config(), Echo),
        ),
        row(
            "buttress/breaker-slow",
            buttress::breaker(buttress::slow_config(), Echo),
        ),
        row(
            "buttress/breaker-time",
            buttress::breaker(buttress::time_config(), Echo),
        ),
        row(
            "buttress/breaker-time-slow",
            buttress::breaker(buttress::slow_config().time_window(WINDOW), Echo),
        ),
        row("buttress/retry", buttress::retry(Echo)),
        row("buttress/timeout", buttress::timeout(Echo)),
        row("buttress/bulkhead", buttress::bulkhead(Echo)),
        row("tower/timeout", tower::timeout(Echo)),
        row("tower/concurrency-limit", tower::concurrency_limit(Echo)),
        row("tower/retry", tower::retry(Echo)),
        row("tower/retry-budget", tower::retry_budget(Echo)),
        row(
            "tower-resilience/breaker-count",
            tower_resilience::breaker_count(Echo),
        ),
        row(
            "tower-resilience/breaker-slow",
            tower_resilience::breaker_slow(Echo),
        ),
        row("tower-resilience/bulkhead", tower_resilience::bulkhead(Echo)),
        row("tower-resilience/timeout", tower_resilience::time_limiter(Echo)),
        row("tower-resilience/retry", tower_resilience::retry(Echo)),
        row("seatbelt/breaker-time", seatbelt::breaker(WINDOW, Echo)),
        row("seatbelt/timeout", seatbelt::timeout(Echo)),
        row("seatbelt/retry", seatbelt::retry(Echo)),
        row("recloser/breaker-count", recloser::breaker(Echo)),
        recloser_blocking(),
        row("failsafe/breaker-time", failsafe::breaker(Echo)),
    ];
    rows.extend(failing());
    rounds::measure(NAME, rows, effort.rounds(1001))
}

/// Breakers over a service of which each hundredth call fails.
fn failing() -> [Row; 8] {
    let flaky = Flaky::default;
    [
        row(
            "buttress/breaker-count-failing",
            buttress::breaker(buttress::count_config(), flaky()),
        ),
        row(
            "buttress/breaker-slow-failing",
            buttress::breaker(buttress::slow_config(), flaky()),
        ),
        row(
            "buttress/breaker-time-failing",
            buttress::breaker(buttress::time_config(), flaky()),
        ),
        row(
            "tower-resilience/breaker-count-failing",
            tower_resilience::breaker_count(flaky()),
        ),
        row(
            "seatbelt/breaker-time-failing",
            seatbelt::breaker(WINDOW, flaky()),
        ),
        row("recloser/breaker-count-failing", recloser::breaker(flaky())),
        row("failsafe/breaker-time-failing", failsafe::breaker(flaky())),
        row("tower/retry-failing", tower::retry(flaky())),
    ]
    .map(|row| row.over("bare-failing"))
}

/// recloser without a future: the closest that it comes to doing nothing else.
fn recloser_blocking() -> Row {
    let recloser = recloser::recloser();
    Row::new("recloser/breaker-count-blocking", move |calls, meter| {
        meter.of(|| {
            for request in 0..calls {
                let result = recloser.call(|| Ok::<_, ()>(std::hint::black_box(request)));
                std::hint::black_box(result.is_ok());
            }
        });
    })
}
