//! What a guarded call allocates on the heap: nothing, unless it waits for another attempt.

use std::{
    future::{Future, Ready, ready},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use buttress::{
    Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer,
    Error, KeyedConfig, Metrics, Registry, Retry, RetryConfig, RetryLayer, Settings, Stack, StackConfig,
    Timeout, TimeoutConfig, TimeoutLayer,
};
use tower::{BoxError, Layer, Service, ServiceBuilder};

/// Answers at once.
#[derive(Clone)]
struct AtOnce;

/// Answers when it is asked for the second time.
#[derive(Clone)]
struct Later;

struct SecondTime(bool);

impl Future for SecondTime {
    type Output = Result<u32, BoxError>;

    fn poll(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(Ok(1))
        } else {
            Poll::Pending
        }
    }
}

impl Service<u32> for AtOnce {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        ready(Ok(request))
    }
}

impl Service<u32> for Later {
    type Response = u32;
    type Error = BoxError;
    type Future = SecondTime;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: u32) -> SecondTime {
        SecondTime(false)
    }
}

/// Fails at once, with a typed error.
#[derive(Clone)]
struct Fails;

impl Service<u32> for Fails {
    type Response = u32;
    type Error = Error<io::Error>;
    type Future = Ready<Result<u32, Error<io::Error>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: u32) -> Self::Future {
        ready(Err(Error::Service(io::ErrorKind::Other.into())))
    }
}

fn counting() -> CircuitBreaker {
    CircuitBreakerConfig::new()
        .count_window(100)
        .build("breaker")
        .unwrap()
}

fn timing() -> CircuitBreaker {
    let config = CircuitBreakerConfig::new().time_window(Duration::from_secs(10));
    config.build("breaker").unwrap()
}

fn slow_calls() -> CircuitBreaker {
    let config = CircuitBreakerConfig::new().slow_calls(Duration::from_secs(1), 0.5);
    config.build("breaker").unwrap()
}

fn retry() -> Retry {
    Retry::with_defaults("retry").unwrap()
}

fn timeout() -> Timeout {
    Timeout::with_defaults("timeout").unwrap()
}

fn bulkhead() -> Bulkhead {
    let config = BulkheadConfig::new(8).max_wait(Duration::from_secs(1));
    config.build("bulkhead").unwrap()
}

/// Polls a call until it is over.
fn finish<S: Service<u32>>(service: &mut S) -> Result<S::Response, S::Error> {
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(ready) = service.poll_ready(cx) else {
        panic!("it is ready");
    };
    ready?;
    let mut call = pin!(service.call(1));
    loop {
        if let Poll::Ready(result) = call.as_mut().poll(cx) {
            return result;
        }
    }
}

const WARM_UP: usize = 300;
const CALLS: u64 = 1000;

/// Heap allocations of [`CALLS`] calls, after some others, on one service and on a clone for each call.
fn allocations<S: Service<u32> + Clone>(
    mut service: S,
    is_expected: fn(&Result<S::Response, S::Error>) -> bool,
) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _entered = runtime.enter();
    for _ in 0..WARM_UP {
        assert!(is_expected(&finish(&mut service)));
    }
    let counted = measure(|| {
        for _ in 0..CALLS / 2 {
            assert!(is_expected(&finish(&mut service)));
            assert!(is_expected(&finish(&mut service.clone())));
        }
    });
    counted.count_total
}

fn answers<E>(result: &Result<u32, E>) -> bool {
    matches!(result, Ok(1))
}

fn is_rejected(result: &Result<u32, Error<io::Error>>) -> bool {
    matches!(result, Err(Error::Rejected(_)))
}

fn fails(result: &Result<u32, Error<io::Error>>) -> bool {
    matches!(result, Err(Error::Service(_)))
}

#[test]
fn an_allocation_is_seen() {
    let boxes =
        tower::service_fn(|request: u32| ready(Ok::<_, BoxError>(*std::hint::black_box(Box::new(request)))));
    assert_eq!(allocations(boxes, answers), CALLS);
}

macro_rules! allocates_nothing {
    ($($name:ident: $layers:expr,)*) => { $(
        #[test]
        fn $name() {
            let layers = $layers;
            assert_eq!(allocations(Layer::layer(&layers, AtOnce), answers), 0, "a call that is ready at once");
            assert_eq!(allocations(Layer::layer(&layers, Later), answers), 0, "a call that is pending once");
        }
    )* };
}

allocates_nothing! {
    a_breaker_with_a_count_window_allocates_nothing: CircuitBreakerLayer::new(counting()),
    a_breaker_with_a_time_window_allocates_nothing: CircuitBreakerLayer::new(timing()),
    a_breaker_that_looks_at_slow_calls_allocates_nothing: CircuitBreakerLayer::new(slow_calls()),
    a_retry_allocates_nothing_unless_it_retries: RetryLayer::new(retry()),
    a_timeout_allocates_nothing: TimeoutLayer::new(timeout()),
    a_bulkhead_allocates_nothing_unless_a_call_waits: BulkheadLayer::new(bulkhead()),
    a_nest_of_all_four_allocates_nothing: ServiceBuilder::new()
        .layer(RetryLayer::new(retry()))
        .layer(CircuitBreakerLayer::new(counting()))
        .layer(TimeoutLayer::new(timeout()))
        .layer(BulkheadLayer::new(bulkhead())),
    a_nest_of_all_four_with_a_time_window_allocates_nothing: ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(timing()))
        .layer(RetryLayer::new(retry()))
        .layer(BulkheadLayer::new(bulkhead()))
        .layer(TimeoutLayer::new(timeout())),
    a_stack_of_four_allocates_nothing: Stack::builder()
        .retry(retry())
        .circuit_breaker(counting())
        .timeout(timeout())
        .bulkhead(bulkhead())
        .build()
        .unwrap(),
    a_stack_of_four_with_a_time_window_allocates_nothing: Stack::builder()
        .circuit_breaker(timing())
        .retry(retry())
        .bulkhead(bulkhead())
        .timeout(timeout())
        .build()
        .unwrap(),
    a_stack_of_six_allocates_nothing: Stack::builder()
        .timeout(timeout())
        .retry(retry())
        .circuit_breaker(slow_calls())
        .circuit_breaker(timing())
        .timeout(timeout())
        .bulkhead(bulkhead())
        .build()
        .unwrap(),
}

/// The same stack from a registry, after its stages were exchanged.
fn reloaded() -> Stack {
    let config = || {
        StackConfig::new()
            .stage("retry", RetryConfig::new())
            .stage("circuit_breaker", CircuitBreakerConfig::new())
            .stage("timeout", TimeoutConfig::default())
    };
    let registry = Registry::builder()
        .build(Settings::new().stack("four", config()))
        .unwrap();
    let stack = registry.stack("four").unwrap();
    let four = config().stage("bulkhead", BulkheadConfig::new(8));
    registry.apply(Settings::new().stack("four", four)).unwrap();
    assert_eq!(stack.clone().layer(Fails).policy().len(), 4);
    stack
}

allocates_nothing! {
    a_stack_of_a_registry_allocates_nothing_before_and_after_a_reload: reloaded(),
}

/// The same, counting for metrics.
fn counted<R, A>(stack: Stack<R, A>) -> Stack<R, A> {
    drop(Metrics::new().stack(&stack));
    stack
}

allocates_nothing! {
    a_stack_of_four_that_counts_for_metrics_allocates_nothing: counted(
        Stack::builder()
            .retry(retry())
            .circuit_breaker(counting())
            .timeout(timeout())
            .bulkhead(bulkhead())
            .build()
            .unwrap(),
    ),
    a_stack_with_a_time_window_that_counts_for_metrics_allocates_nothing: counted(
        Stack::builder()
            .circuit_breaker(timing())
            .retry(retry())
            .bulkhead(bulkhead())
            .timeout(timeout())
            .build()
            .unwrap(),
    ),
}

#[test]
fn a_rejection_that_is_counted_for_metrics_allocates_nothing() {
    let breaker = counting();
    breaker.force_open();
    let stack = Stack::builder()
        .retry(retry())
        .circuit_breaker(breaker)
        .timeout(timeout())
        .bulkhead(bulkhead());
    let stack = counted(stack.build().unwrap());
    assert_eq!(allocations(stack.layer(Fails), is_rejected), 0);
}

#[test]
fn a_rejection_allocates_nothing_where_the_error_is_typed() {
    let breaker = counting();
    breaker.force_open();
    let nest = ServiceBuilder::new()
        .layer(RetryLayer::new(retry()))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(timeout()))
        .layer(BulkheadLayer::new(bulkhead()))
        .service(Fails);
    assert_eq!(allocations(nest, is_rejected), 0);
    let stack = Stack::builder()
        .retry(retry())
        .circuit_breaker(breaker)
        .timeout(timeout())
        .bulkhead(bulkhead());
    assert_eq!(allocations(stack.build().unwrap().layer(Fails), is_rejected), 0);

    let bulkhead = BulkheadConfig::new(1).build("bulkhead").unwrap();
    let _slot = bulkhead.try_acquire().unwrap();
    assert_eq!(
        allocations(BulkheadLayer::new(bulkhead).layer(Fails), is_rejected),
        0
    );
}

#[test]
fn a_failure_allocates_nothing_where_it_is_only_recorded() {
    for breaker in [counting(), timing()] {
        breaker.metrics_only();
        let nest = ServiceBuilder::new()
            .layer(CircuitBreakerLayer::new(breaker))
            .layer(TimeoutLayer::new(timeout()))
            .layer(BulkheadLayer::new(bulkhead()));
        assert_eq!(allocations(nest.service(Fails), fails), 0);
    }
}

#[cfg(feature = "http")]
#[test]
fn a_call_over_http_allocates_nothing_until_its_body_has_ended() {
    use buttress::{
        Stages,
        http::{HttpExchange, ReplayBodies, ResponseBody},
    };
    use http::{Request, Response};
    use http_body_util::{Empty, Full};

    type Carrying = ResponseBody<Stages, Full<&'static [u8]>>;

    let stack = || {
        Stack::builder()
            .retry(retry())
            .circuit_breaker(counting())
            .timeout(timeout())
            .bulkhead(bulkhead())
            .build()
            .unwrap()
            .prepare(ReplayBodies::new())
    };
    for exchange in [HttpExchange::server(), HttpExchange::client()] {
        let service = ServiceBuilder::new()
            .map_request(|_: u32| Request::new(Empty::<&[u8]>::new()))
            .map_result(|response: Result<Response<Carrying>, BoxError>| {
                let mut body = pin!(response?.into_body());
                let cx = &mut Context::from_waker(Waker::noop());
                while let Poll::Ready(Some(frame)) = http_body::Body::poll_frame(body.as_mut(), cx) {
                    frame?;
                }
                Ok::<_, BoxError>(1)
            })
            .layer(stack().exchange(exchange))
            .service(tower::service_fn(|_| {
                ready(Ok::<_, BoxError>(Response::new(Full::new(&b"ok"[..]))))
            }));
        assert_eq!(allocations(service, answers), 0);
    }
}

#[test]
fn a_healthy_breaker_of_a_key_takes_at_most_512_bytes() {
    let config = CircuitBreakerConfig::new().time_window(Duration::from_secs(10));
    let hosts = KeyedConfig::new().max_keys(1_000_000);
    let hosts = hosts.build(config.build("hosts").unwrap()).unwrap();
    let mut filled = 0;
    let bytes = |from: u32, to: u32| {
        let heap = measure(|| {
            for host in from..to {
                let breaker = hosts.get(&format!("https://{host:07}.test:443"));
                breaker.try_acquire().unwrap().success();
            }
        });
        heap.bytes_current
    };
    let mut held = 0;
    // However full the table happens to be.
    for keys in [10_000, 13_000, 17_000, 25_000, 40_000] {
        held += bytes(filled, keys);
        filled = keys;
        let each = held as f64 / f64::from(keys);
        assert!(each <= 512.0, "{each} bytes each with {keys} keys");
    }
}

#[test]
fn a_known_key_is_found_without_an_allocation() {
    let hosts = KeyedConfig::new().build(counting()).unwrap();
    let key = "https://a-host-with-a-name-that-is-longer-than-most.example:443";
    hosts.get(key);
    let heap = measure(|| {
        hosts.get(key).try_acquire().unwrap().success();
    });
    assert_eq!(heap.count_total, 0);
}
