//! Group 3: a call that an open breaker or a full bulkhead refuses. The inner service is not called.

use std::{
    future::{Future, pending},
    pin::pin,
    task::{Context, Waker},
};

use ::buttress::{Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerLayer, Error};
use tower::{Layer, Service, ServiceBuilder};
use tower_resilience::{
    bulkhead::BulkheadLayer as TheirBulkheadLayer, circuitbreaker::CircuitBreakerLayer as TheirBreakerLayer,
};

use crate::{
    effort::Effort,
    guards::{HOUR, buttress, failsafe, recloser, seatbelt},
    report::Line,
    rounds::{self, Row, row, task},
    services::{Broken, Echo, Fault, Never, Typed},
};

pub(crate) const NAME: &str = "rejection";

pub(crate) fn measure(effort: Effort) -> Vec<Line> {
    rounds::measure(NAME, rows(), effort.rounds(1001))
}

fn rows() -> Vec<Row> {
    let down = || Typed(Error::Service(Fault::Down));
    vec![
        row("bare", Echo),
        refusing(
            "buttress/reject-open",
            CircuitBreakerLayer::new(open()).layer(down()),
        ),
        refusing(
            "buttress/reject-open-boxed",
            CircuitBreakerLayer::new(open()).layer(Broken),
        ),
        refusing(
            "buttress/reject-forced",
            CircuitBreakerLayer::new(forced()).layer(down()),
        ),
        refusing("buttress/reject-full", BulkheadLayer::new(full()).layer(down())),
        refusing(
            "buttress/reject-full-boxed",
            BulkheadLayer::new(full()).layer(Broken),
        ),
        opened(
            "seatbelt/reject-open",
            seatbelt::breaker_over(|| Fault::Refused, Typed(Fault::Down)),
        ),
        opened(
            "seatbelt/reject-open-boxed",
            seatbelt::breaker_over(|| Fault::Refused.into(), Broken),
        ),
        opened("recloser/reject-open", recloser::breaker(Typed(Fault::Down))),
        opened("failsafe/reject-open", failsafe::fragile(Typed(Fault::Down))),
        tower_resilience_open(),
        tower_resilience_full(),
        tower_full(),
    ]
}

/// Calls that are all refused.
fn refusing<S: Service<u64> + 'static>(name: &str, mut service: S) -> Row {
    let succeeded = task(&mut service, 1, |request| request).run();
    assert_eq!(succeeded, 0, "{name} is to refuse");
    row(name, service)
}

/// The same for a breaker that opens by failures.
fn opened<S: Service<u64> + 'static>(name: &str, mut service: S) -> Row {
    task(&mut service, 500, |request| request).run();
    refusing(name, service)
}

fn open() -> CircuitBreaker {
    let breaker = buttress::count_config().open_wait(HOUR).build("bench").unwrap();
    breaker.open();
    breaker
}

fn forced() -> CircuitBreaker {
    let breaker = open();
    breaker.force_open();
    breaker
}

fn full() -> Bulkhead {
    let bulkhead = BulkheadConfig::new(1).build("bench").unwrap();
    std::mem::forget(bulkhead.try_acquire());
    bulkhead
}

fn tower_resilience_open() -> Row {
    let (layer, handle) = TheirBreakerLayer::builder()
        .wait_duration_in_open(HOUR)
        .build_with_handle()
        .unwrap();
    let mut opening = pin!(handle.force_open());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        opening.as_mut().poll(&mut cx).is_ready(),
        "nobody else has its lock"
    );
    refusing("tower-resilience/reject-open", layer.layer(Typed(Fault::Down)))
}

fn tower_resilience_full() -> Row {
    let layer = TheirBulkheadLayer::builder()
        .max_concurrent_calls(1)
        .reject_when_full()
        .build()
        .unwrap();
    let mut service = layer.layer(Never);
    let mut holding = Box::pin(service.call(0));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        holding.as_mut().poll(&mut cx).is_pending(),
        "it holds the only slot"
    );
    std::mem::forget(holding);
    refusing("tower-resilience/reject-full", service)
        .note("it waits for a timer of zero, which is rounded up to a millisecond, and is polled meanwhile")
}

fn tower_full() -> Row {
    let service = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(1)
        .service(Never);
    let mut holder = service.clone();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(holder.poll_ready(&mut cx).is_ready(), "it gets the only slot");
    std::mem::forget((holder.call(0), pending::<()>()));
    refusing("tower/reject-full", service)
}
