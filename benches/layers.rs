//! What a guarded call costs over the bare service, beside Tower's own layers, in one run.
//!
//! ```text
//! cargo bench --bench layers
//! ```
//!
//! Each row is timed in turn, round after round; the median and the fastest round are shown. Compare rows of one
//! run with each other, never with another machine's.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench reads the clock and prints"
)]

use std::{
    future::{Future, Ready, poll_fn, ready},
    hint::black_box,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Bulkhead, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer, Metrics,
    Retry, RetryLayer, Stack, Timeout, TimeoutLayer,
};
use tower::{Service, ServiceBuilder, limit::ConcurrencyLimitLayer, retry::budget::Budget};

#[derive(Clone)]
struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = BoxError;
    type Future = Ready<Result<u64, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(black_box(request)))
    }
}

/// Fails every hundredth call.
#[derive(Clone, Default)]
struct Flaky(u64);

impl Service<u64> for Flaky {
    type Response = u64;
    type Error = BoxError;
    type Future = Ready<Result<u64, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        self.0 += 1;
        ready(if self.0.is_multiple_of(100) {
            Err("flaky".into())
        } else {
            Ok(black_box(request))
        })
    }
}

/// Pending once, then ready.
#[derive(Clone)]
struct Late;

struct PendingOnce(bool, u64);

impl Future for PendingOnce {
    type Output = Result<u64, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Ok(self.1));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Service<u64> for Late {
    type Response = u64;
    type Error = BoxError;
    type Future = PendingOnce;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        PendingOnce(false, black_box(request))
    }
}

/// Tower's retry with its budget.
#[derive(Clone)]
struct Budgeted(std::sync::Arc<tower::retry::budget::TpsBudget>);

impl<Res> tower::retry::Policy<u64, Res, BoxError> for Budgeted {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<Res, BoxError>) -> Option<Ready<()>> {
        match result {
            Ok(_) => {
                self.0.deposit();
                None
            }
            Err(_) => self.0.withdraw().then(|| ready(())),
        }
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

#[derive(Clone)]
struct Unbudgeted;

impl<Res> tower::retry::Policy<u64, Res, BoxError> for Unbudgeted {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<Res, BoxError>) -> Option<Ready<()>> {
        result.is_err().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

/// Calls that are awaited one after the other, in a future that lies on the heap and is reached through a vtable, as those
/// of a program are. `benches/peers/src/rounds.rs` says why; it makes them in the same way.
async fn calls<S: Service<u64>>(service: &mut S, calls: u64) -> u64 {
    let border = Border;
    let mut succeeded = 0;
    for request in 0..calls {
        let result = match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => service.call(request).await,
            Err(error) => Err(error),
        };
        succeeded += u64::from(black_box(result.is_ok()));
    }
    black_box(&border);
    succeeded
}

/// Where tasks of Tokio begin.
#[repr(align(128))]
struct Border;

struct Row {
    name: &'static str,
    group: &'static str,
    round: Box<dyn FnMut(u64) -> Duration>,
    rounds: Vec<f64>,
}

fn row<S: Service<u64> + 'static>(group: &'static str, name: &'static str, mut service: S) -> Row {
    let round = Box::new(move |number: u64| {
        let mut task: Pin<Box<dyn Future<Output = u64> + '_>> = Box::pin(calls(&mut service, number));
        let mut cx = Context::from_waker(Waker::noop());
        let began = Instant::now();
        while task.as_mut().poll(&mut cx).is_pending() {}
        began.elapsed()
    });
    Row {
        name,
        group,
        round,
        rounds: Vec::new(),
    }
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::with_defaults("bench").unwrap()
}

fn four<S>(inner: S) -> impl Service<u64> + 'static
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + 'static,
    S::Future: 'static,
{
    ServiceBuilder::new()
        .layer(RetryLayer::new(Retry::with_defaults("bench").unwrap()))
        .layer(CircuitBreakerLayer::new(breaker()))
        .layer(TimeoutLayer::new(Timeout::with_defaults("bench").unwrap()))
        .layer(BulkheadLayer::new(Bulkhead::with_defaults("bench").unwrap()))
        .service(inner)
}

fn walked<S>(inner: S) -> impl Service<u64> + 'static
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + 'static,
    S::Future: 'static,
{
    let stack = Stack::builder()
        .retry(Retry::with_defaults("bench").unwrap())
        .circuit_breaker(breaker())
        .timeout(Timeout::with_defaults("bench").unwrap())
        .bulkhead(Bulkhead::with_defaults("bench").unwrap())
        .build()
        .unwrap();
    ServiceBuilder::new().layer(stack).service(inner)
}

/// The same, counting for metrics.
fn walked_counting() -> impl Service<u64> + 'static {
    let stack = Stack::builder()
        .retry(Retry::with_defaults("bench").unwrap())
        .circuit_breaker(breaker())
        .timeout(Timeout::with_defaults("bench").unwrap())
        .bulkhead(Bulkhead::with_defaults("bench").unwrap())
        .build()
        .unwrap();
    drop(Metrics::new().stack(&stack));
    ServiceBuilder::new().layer(stack).service(Echo)
}

fn tower_three<S>(inner: S, budget: bool) -> Box<dyn FnMut(u64) -> Duration>
where
    S: Service<u64, Response = u64, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let builder = ServiceBuilder::new();
    if budget {
        let budgeted = Budgeted(std::sync::Arc::default());
        let stack = builder
            .retry(budgeted)
            .timeout(Duration::from_secs(10))
            .layer(ConcurrencyLimitLayer::new(256))
            .service(inner);
        row("", "", stack).round
    } else {
        let stack = builder
            .retry(Unbudgeted)
            .timeout(Duration::from_secs(10))
            .layer(ConcurrencyLimitLayer::new(256))
            .service(inner);
        row("", "", stack).round
    }
}

#[allow(clippy::too_many_lines, reason = "it is a table")]
fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let ten = Duration::from_secs(10);
    let slow = || {
        CircuitBreakerConfig::new()
            .slow_calls(Duration::from_secs(1), 0.5)
            .build("bench")
            .unwrap()
    };
    let timed = || {
        CircuitBreakerConfig::new()
            .time_window(ten)
            .build("bench")
            .unwrap()
    };
    let open = || {
        let breaker = breaker();
        breaker.force_open();
        breaker
    };
    let waiting = || {
        let breaker = CircuitBreakerConfig::new()
            .open_wait(Duration::from_secs(3600))
            .build("bench")
            .unwrap();
        breaker.open();
        breaker
    };
    let full = || {
        let bulkhead = Bulkhead::with_defaults("bench").unwrap();
        bulkhead.resize(1).unwrap();
        std::mem::forget(bulkhead.try_acquire());
        bulkhead
    };
    let budgeted = Budgeted(std::sync::Arc::default());
    let mut rows = vec![
        row("ready", "bare", Echo),
        row(
            "ready",
            "buttress breaker",
            CircuitBreakerLayer::new(breaker()).layer_of(Echo),
        ),
        row(
            "ready",
            "buttress breaker, slow calls on",
            CircuitBreakerLayer::new(slow()).layer_of(Echo),
        ),
        row(
            "ready",
            "buttress breaker, time window",
            CircuitBreakerLayer::new(timed()).layer_of(Echo),
        ),
        row(
            "ready",
            "buttress retry with budget",
            RetryLayer::new(Retry::with_defaults("b").unwrap()).layer_of(Echo),
        ),
        row(
            "ready",
            "buttress timeout",
            TimeoutLayer::new(Timeout::with_defaults("b").unwrap()).layer_of(Echo),
        ),
        row(
            "ready",
            "buttress bulkhead",
            BulkheadLayer::new(Bulkhead::with_defaults("b").unwrap()).layer_of(Echo),
        ),
        row("ready", "buttress static stack of four", four(Echo)),
        row("ready", "buttress run-time stack of four", walked(Echo)),
        row("ready", "the same, metrics on", walked_counting()),
        row(
            "ready",
            "tower timeout",
            ServiceBuilder::new().timeout(ten).service(Echo),
        ),
        row(
            "ready",
            "tower concurrency limit",
            ServiceBuilder::new().concurrency_limit(256).service(Echo),
        ),
        row(
            "ready",
            "tower retry",
            ServiceBuilder::new().retry(Unbudgeted).service(Echo),
        ),
        row(
            "ready",
            "tower retry with budget",
            ServiceBuilder::new().retry(budgeted).service(Echo),
        ),
        Row {
            name: "tower retry(timeout(limit))",
            group: "ready",
            round: tower_three(Echo, false),
            rounds: vec![],
        },
        Row {
            name: "tower retry(timeout(limit)), budget",
            group: "ready",
            round: tower_three(Echo, true),
            rounds: vec![],
        },
        row("1 % failing", "bare", Flaky::default()),
        row(
            "1 % failing",
            "buttress breaker",
            CircuitBreakerLayer::new(breaker()).layer_of(Flaky::default()),
        ),
        row("rejected", "bare", Echo),
        row(
            "rejected",
            "by a breaker forced open",
            CircuitBreakerLayer::new(open()).layer_of(Echo),
        ),
        row(
            "rejected",
            "by a breaker that waits",
            CircuitBreakerLayer::new(waiting()).layer_of(Echo),
        ),
        row(
            "rejected",
            "by a full bulkhead",
            BulkheadLayer::new(full()).layer_of(Echo),
        ),
        row("pending once", "bare", Late),
        row(
            "pending once",
            "buttress timeout",
            TimeoutLayer::new(Timeout::with_defaults("b").unwrap()).layer_of(Late),
        ),
        row("pending once", "buttress static stack of four", four(Late)),
        row("pending once", "buttress run-time stack of four", walked(Late)),
        row(
            "pending once",
            "tower timeout",
            ServiceBuilder::new().timeout(ten).service(Late),
        ),
        Row {
            name: "tower retry(timeout(limit))",
            group: "pending once",
            round: tower_three(Late, false),
            rounds: vec![],
        },
    ];
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let (rounds, calls) = if quick { (5, 1_000) } else { (401, 10_000) };
    for round in 0..=rounds {
        for row in &mut rows {
            let took = (row.round)(calls).as_nanos() as f64 / calls as f64;
            // The first round warms up.
            if round > 0 {
                row.rounds.push(took);
            }
        }
    }
    println!(
        "{:<14} {:<38} {:>9} {:>9} {:>10}",
        "group", "what", "median ns", "min ns", "over bare"
    );
    let mut bare = 0.0;
    for row in &mut rows {
        row.rounds.sort_by(f64::total_cmp);
        let median = row.rounds[row.rounds.len() / 2];
        if row.name == "bare" {
            bare = median;
        }
        let over = median - bare;
        println!(
            "{:<14} {:<38} {median:>9.1} {:>9.1} {over:>10.1}",
            row.group, row.name, row.rounds[0]
        );
    }
}

trait LayerOf<S> {
    type Service;
    fn layer_of(self, service: S) -> Self::Service;
}

impl<L: tower::Layer<S>, S> LayerOf<S> for L {
    type Service = L::Service;

    fn layer_of(self, service: S) -> L::Service {
        self.layer(service)
    }
}
