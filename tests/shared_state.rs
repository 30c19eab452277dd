//! State belongs to the handle: however often a layer is applied, every service and clone of it shares that state, also
//! below a real `axum::serve`, which applies layers per route and clones services per request.

use std::{
    convert::Infallible,
    future::{IntoFuture, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    error_handling::HandleErrorLayer,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use buttress::{
    AdaptLayer, Backoff, BoxError, Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker,
    CircuitBreakerConfig, CircuitBreakerLayer, Error, Fallback, FallbackLayer, Jitter, RejectedKind,
    RetryBudgetConfig, RetryConfig, RetryLayer, Stack, State, TimeoutConfig, TimeoutLayer, Verdict, What,
    find_rejected,
};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const LONG: Duration = Duration::from_secs(60);

fn a_breaker() -> CircuitBreaker {
    CircuitBreakerConfig::new()
        .count_window(10)
        .minimum_calls(10)
        .failure_rate(0.5)
        .open_wait(LONG)
        .build("breaker")
        .unwrap()
}

async fn fail(_request: u32) -> Result<u32, BoxError> {
    Err("broken".into())
}

fn kind(error: &BoxError) -> Option<RejectedKind> {
    find_rejected(&**error).map(buttress::Rejected::kind)
}

/// Applies the layer to a new service for each of ten failing calls, and sees the breaker open over all of them.
async fn trips_over_all_that_it_is_applied_to<L>(layer: L, breaker: &CircuitBreaker)
where
    L: Layer<tower::util::ServiceFn<fn(u32) -> std::future::Ready<Result<u32, BoxError>>>> + Clone,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    let broken: fn(u32) -> _ = |_| ready(Err("broken".into()));
    for call in 0..10 {
        assert_eq!(breaker.state(), State::Closed, "call {call}");
        // By turns the layer itself, a clone of it, and a clone of the service.
        let service = match call % 3 {
            0 => layer.layer(service_fn(broken)),
            1 => layer.clone().layer(service_fn(broken)),
            _ => layer.layer(service_fn(broken)).clone(),
        };
        let error = service.oneshot(call).await.unwrap_err();
        assert_eq!(kind(&error), None, "call {call}");
    }
    assert_eq!(breaker.state(), State::Open);
    let error = layer.layer(service_fn(broken)).oneshot(10).await.unwrap_err();
    assert_eq!(kind(&error), Some(RejectedKind::CircuitOpen));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_trips_over_all_services_of_its_layer() {
    let breaker = a_breaker();
    trips_over_all_that_it_is_applied_to(CircuitBreakerLayer::new(breaker.clone()), &breaker).await;
}

#[tokio::test(start_paused = true)]
async fn a_breaker_trips_over_all_services_of_its_stack() {
    let breaker = a_breaker();
    let stack = Stack::builder()
        .timeout(TimeoutConfig::new(LONG).build("timeout").unwrap())
        .circuit_breaker(breaker.clone())
        .build()
        .unwrap();
    trips_over_all_that_it_is_applied_to(stack, &breaker).await;
}

#[tokio::test(start_paused = true)]
async fn a_breaker_trips_over_a_layer_a_stack_a_function_and_permits_together() {
    let breaker = a_breaker();
    let layered = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(fail));
    let stack = Stack::builder().circuit_breaker(breaker.clone()).build().unwrap();
    let stacked = stack.layer(service_fn(fail));
    for request in 0..2 {
        layered.clone().oneshot(request).await.unwrap_err();
        stacked.clone().oneshot(request).await.unwrap_err();
        breaker.run_flat(|| fail(request)).await.unwrap_err();
        stack.run_flat(|| fail(request)).await.unwrap_err();
        assert_eq!(breaker.state(), State::Closed);
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().failed, 10);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_bounds_all_services_of_its_layers_together() {
    let bulkhead = BulkheadConfig::new(3).max_wait(LONG).build("bulkhead").unwrap();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let serve = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        move |request: u32| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                running.fetch_sub(1, SeqCst);
                Ok::<_, BoxError>(request)
            }
        }
    };
    let layer = BulkheadLayer::new(bulkhead.clone());
    let stack = Stack::builder()
        .bulkhead(bulkhead.clone())
        .queued()
        .build()
        .unwrap();
    let calls: Vec<_> = (0..40)
        .map(|request| match request % 2 {
            0 => tokio::spawn(layer.layer(service_fn(serve.clone())).oneshot(request)),
            _ => tokio::spawn(stack.layer(service_fn(serve.clone())).oneshot(request)),
        })
        .collect();
    for (request, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), request);
    }
    assert_eq!(most.load(SeqCst), 3);
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_spends_one_budget_over_all_services_of_its_layers() {
    let budget = RetryBudgetConfig::new()
        .ratio(0.0)
        .min_per_second(1)
        .window(5 * Duration::from_secs(1));
    let budget = budget.build().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    for name in ["one", "another"] {
        let retry = RetryConfig::new()
            .max_attempts(2)
            .backoff(Backoff::fixed(Duration::from_millis(1)))
            .jitter(Jitter::None)
            .shared_budget(&budget)
            .build(name)
            .unwrap();
        let layer = RetryLayer::new(retry);
        for request in 0..10 {
            let calls = Arc::clone(&calls);
            let counted = service_fn(move |request| {
                calls.fetch_add(1, SeqCst);
                fail(request)
            });
            layer.layer(counted).oneshot(request).await.unwrap_err();
        }
    }
    assert_eq!(
        calls.load(SeqCst),
        20 + 5,
        "five retries are free in five seconds"
    );
    assert_eq!(budget.snapshot().left, 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_takes_another_limit_in_all_services_of_its_layers() {
    let timeout = TimeoutConfig::new(LONG).build("timeout").unwrap();
    let layer = TimeoutLayer::new(timeout.clone());
    let hang = |_: u32| std::future::pending::<Result<u32, BoxError>>();
    let services = [layer.layer(service_fn(hang)), layer.layer(service_fn(hang))];
    let limit = Duration::from_millis(10);
    timeout.reconfigure(&TimeoutConfig::new(limit)).unwrap();
    let clock = buttress::Clock::tokio();
    for service in services {
        let began = clock.now();
        let error = service.oneshot(1).await.unwrap_err();
        assert_eq!(kind(&error), Some(RejectedKind::TimedOut));
        assert_eq!(clock.now().since(began), limit);
    }
}

#[tokio::test]
async fn an_observer_hears_a_fallback_of_all_services_of_its_layer() {
    let fallback = Fallback::new("fallback");
    let heard = Arc::new(AtomicUsize::new(0));
    let layer = FallbackLayer::value(fallback.clone(), 7);
    let before = layer.layer(service_fn(fail));
    fallback.observe({
        let heard = Arc::clone(&heard);
        Arc::new(move |event: &buttress::Event| {
            assert!(matches!(event.what, What::Answered { .. }));
            heard.fetch_add(1, SeqCst);
        })
    });
    assert_eq!(before.oneshot(1).await.unwrap(), 7);
    assert_eq!(layer.layer(service_fn(fail)).oneshot(1).await.unwrap(), 7);
    assert_eq!(heard.load(SeqCst), 2);
}

// Below `axum::serve`.

type Refused = Error<Infallible>;

/// What the client sees of a rejection.
async fn refuse(error: Refused) -> Response {
    match error {
        Error::Rejected(rejected) => {
            (StatusCode::SERVICE_UNAVAILABLE, rejected.policy().to_owned()).into_response()
        }
        Error::Service(never) => match never {},
    }
}

/// A server error is a failure.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "what the layer asks for")]
fn by_status(result: Result<&Response, &Refused>) -> Verdict {
    match result {
        Ok(response) if !response.status().is_server_error() => Verdict::Success,
        _ => Verdict::Failure,
    }
}

/// Serves the router on a port of its own, until the test is over.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    format!("http://{address}")
}

/// Asks on a connection of its own.
async fn ask(url: String) -> (StatusCode, String) {
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let response = client.get(url).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

/// Two routes, one of which always fails, and how often they were called.
fn two_routes() -> (Router, Arc<AtomicUsize>) {
    async fn well(Shared(calls): Shared<Arc<AtomicUsize>>) -> &'static str {
        calls.fetch_add(1, SeqCst);
        "well"
    }
    async fn broken(Shared(calls): Shared<Arc<AtomicUsize>>) -> (StatusCode, &'static str) {
        calls.fetch_add(1, SeqCst);
        (StatusCode::INTERNAL_SERVER_ERROR, "broken")
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let router = Router::new()
        .route("/well", get(well))
        .route("/broken", get(broken))
        .with_state(Arc::clone(&calls));
    (router, calls)
}

/// Five failures on one route and five successes on the other open the breaker for both.
async fn trips_over_all_connections_and_routes(
    server: String,
    calls: &AtomicUsize,
    breaker: &CircuitBreaker,
) {
    for call in 0..10 {
        assert_eq!(breaker.state(), State::Closed, "call {call}");
        let (path, expected) = match call % 2 {
            0 => ("well", StatusCode::OK),
            _ => ("broken", StatusCode::INTERNAL_SERVER_ERROR),
        };
        assert_eq!(ask(format!("{server}/{path}")).await, (expected, path.to_owned()));
    }
    assert_eq!(breaker.state(), State::Open);
    for path in ["well", "broken", "well"] {
        let refused = (StatusCode::SERVICE_UNAVAILABLE, "breaker".to_owned());
        assert_eq!(ask(format!("{server}/{path}")).await, refused);
    }
    assert_eq!(calls.load(SeqCst), 10, "no call reached a route after that");
}

#[tokio::test]
async fn a_breaker_trips_over_all_connections_and_routes_of_a_server() {
    let breaker = a_breaker();
    let (router, calls) = two_routes();
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .layer(CircuitBreakerLayer::new(breaker.clone()).judge_by(by_status))
        .layer(AdaptLayer::new());
    let server = serve(router.layer(layers)).await;
    trips_over_all_connections_and_routes(server, &calls, &breaker).await;
}

#[tokio::test]
async fn a_breaker_in_a_stack_trips_over_all_connections_and_routes_of_a_server() {
    let breaker = a_breaker();
    let (router, calls) = two_routes();
    let stack = Stack::builder()
        .timeout(TimeoutConfig::new(LONG).build("timeout").unwrap())
        .circuit_breaker(breaker.clone())
        .build()
        .unwrap();
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .layer(stack.exchange(buttress::Plain).judge_by(by_status))
        .layer(AdaptLayer::new());
    let server = serve(router.layer(layers)).await;
    trips_over_all_connections_and_routes(server, &calls, &breaker).await;
}

/// Handlers that wait for the test, and how many are under way.
#[derive(Clone)]
struct Held {
    release: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

async fn hold(Shared(held): Shared<Held>) -> &'static str {
    held.most.fetch_max(held.running.fetch_add(1, SeqCst) + 1, SeqCst);
    held.release.acquire().await.unwrap().forget();
    held.running.fetch_sub(1, SeqCst);
    "done"
}

/// Waits for what other threads bring about.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Asks often at once, on both routes, and never finds more than the bulkhead's four under way.
async fn bounds_all_connections_and_routes(layer: impl Fn(Router) -> Router, bulkhead: &Bulkhead) {
    const CALLS: usize = 32;
    let held = Held {
        release: Arc::new(Semaphore::new(0)),
        running: Arc::default(),
        most: Arc::default(),
    };
    let router = Router::new()
        .route("/one", get(hold))
        .route("/other", get(hold))
        .with_state(held.clone());
    let server = serve(layer(router)).await;
    let calls: Vec<_> = (0..CALLS)
        .map(|call| tokio::spawn(ask(format!("{server}/{}", ["one", "other"][call % 2]))))
        .collect();
    until("four run and the others wait", || {
        let snapshot = bulkhead.snapshot();
        held.running.load(SeqCst) == 4 && snapshot.queued == CALLS - 4
    })
    .await;
    held.release.add_permits(CALLS);
    for call in calls {
        assert_eq!(call.await.unwrap(), (StatusCode::OK, "done".to_owned()));
    }
    assert_eq!(held.most.load(SeqCst), 4);
    until("all slots are back", || bulkhead.snapshot().in_flight == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulkhead_bounds_all_connections_and_routes_of_a_server() {
    let bulkhead = BulkheadConfig::new(4).max_wait(LONG).build("bulkhead").unwrap();
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .layer(BulkheadLayer::new(bulkhead.clone()))
        .layer(AdaptLayer::new());
    bounds_all_connections_and_routes(|router| router.layer(layers.clone()), &bulkhead).await;
}

/// Applied to each route by itself, it is the same bulkhead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulkhead_in_a_stack_bounds_all_connections_and_routes_of_a_server() {
    let bulkhead = BulkheadConfig::new(4).max_wait(LONG).build("bulkhead").unwrap();
    let stack = Stack::builder()
        .bulkhead(bulkhead.clone())
        .queued()
        .build()
        .unwrap();
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .layer(stack)
        .layer(AdaptLayer::new());
    bounds_all_connections_and_routes(|router| router.route_layer(layers.clone()), &bulkhead).await;
}
