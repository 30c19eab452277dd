//! Group 4: the inner future is pending, so that timers are armed.

use crate::{
    effort::Effort,
    guards::{WINDOW, buttress, recloser, seatbelt, tower, tower_resilience},
    report::Line,
    rounds::{self, Row, row},
    services::{Guarded, Late, Sleepy, poll_ready},
};

pub(crate) const NAME: &str = "pending";

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    let once = vec![
        row("bare", Late),
        row("buttress/timeout-pending", buttress::timeout(Late)),
        row(
            "buttress/breaker-count-pending",
            buttress::breaker(buttress::count_config(), Late),
        ),
        row(
            "buttress/breaker-slow-pending",
            buttress::breaker(buttress::slow_config(), Late),
        ),
        row("buttress/bulkhead-pending", buttress::bulkhead(Late)),
        row("buttress/retry-pending", buttress::retry(Late)),
        row("buttress/stack-static-pending", buttress::stack_static(Late)),
        row("buttress/stack-runtime-pending", buttress::stack_runtime(Late)),
        row("tower/timeout-pending", tower::timeout(Late)),
        row("tower/stack-of-three-pending", tower::stack_of_three(Late)),
        row(
            "tower-resilience/timeout-pending",
            tower_resilience::time_limiter(Late),
        ),
        row(
            "tower-resilience/stack-of-four-pending",
            tower_resilience::stack_of_four(Late),
        ),
        row("recloser/breaker-count-pending", recloser::breaker(Late)),
        row("seatbelt/breaker-time-pending", seatbelt::breaker(WINDOW, Late)),
        row("seatbelt/timeout-pending", seatbelt::timeout(Late)),
        row("seatbelt/stack-of-three-pending", seatbelt::stack_of_three(Late)),
    ];
    let sleeping = vec![
        asleep("bare-sleeping", || Sleepy),
        asleep("buttress/timeout-sleeping", || buttress::timeout(Sleepy)),
        asleep("buttress/stack-static-sleeping", || {
            buttress::stack_static(Sleepy)
        }),
        asleep("buttress/stack-runtime-sleeping", || {
            buttress::stack_runtime(Sleepy)
        }),
        asleep("tower/timeout-sleeping", || tower::timeout(Sleepy)),
        asleep("tower/stack-of-three-sleeping", || tower::stack_of_three(Sleepy)),
        asleep("tower-resilience/stack-of-four-sleeping", || {
            tower_resilience::stack_of_four(Sleepy)
        }),
        asleep("seatbelt/stack-of-three-sleeping", || {
            seatbelt::stack_of_three(Sleepy)
        }),
    ];
    let mut lines = rounds::measure(NAME, once, effort.rounds(1001));
    lines.extend(rounds::measure(NAME, sleeping, effort.rounds(151)));
    lines
}

/// Calls at once, no more than a bulkhead admits.
const AT_ONCE: u64 = 200;
/// Times that they are made.
const TIMES: u64 = 10;

/// Calls of many tasks at the same time. What is timed is the thread that runs them all: sleep costs nothing.
fn asleep<S: Guarded>(name: &str, service: fn() -> S) -> Row {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let service = {
        let _entered = runtime.enter();
        service()
    };
    Row::new(name, move |_, meter| {
        let mut tasks: Vec<_> = (0..AT_ONCE).map(|_| service.clone()).collect();
        meter.of(|| {
            runtime.block_on(async {
                let tasks: Vec<_> = tasks.drain(..).map(|task| tokio::spawn(calls(task))).collect();
                for task in tasks {
                    assert!(task.await.unwrap(), "a call failed");
                }
            });
        });
    })
    .over("bare-sleeping")
    .calls(AT_ONCE * TIMES)
}

async fn calls<S: Guarded>(mut service: S) -> bool {
    let mut all = true;
    for request in 0..TIMES {
        all &= match poll_ready(&mut service).await {
            Ok(()) => service.call(request).await.is_ok(),
            Err(_) => false,
        };
    }
    all
}
