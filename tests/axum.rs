//! The layer for axum, served on loopback.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/example.rs"]
mod example;

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, Version},
    response::{IntoResponse, Response},
    routing::{any, get, put},
};
use buttress::{
    AdaptLayer, AnswerBy, Backoff, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, Error, Fallback,
    Rejected, RejectedKind, RetryConfig, Stack, TimeoutConfig,
    axum::PolicyLayer,
    http::{AttemptsMade, HoldUntil, HttpExchange, HttpFacts, ReplayBodies},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, channel::Channel};
use hyper::server::conn::http1;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Barrier, mpsc},
    time::timeout,
};
use tower::{Layer, ServiceExt, service_fn, util::MapResponseLayer};

const PATIENCE: Duration = Duration::from_secs(20);

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn client(version: Version) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .http2_only(version == Version::HTTP_2)
        .build_http()
}

async fn send(version: Version, method: Method, address: SocketAddr, path: &str) -> Response {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .body(Full::default())
        .unwrap();
    let response = timeout(PATIENCE, client(version).request(request))
        .await
        .unwrap()
        .unwrap();
    response.map(Body::new)
}

async fn get_from(address: SocketAddr, path: &str) -> Response {
    send(Version::HTTP_11, Method::GET, address, path).await
}

async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Waits until the condition holds.
async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, met).await.expect("it never became true");
}

fn breaker_of(failures: u32) -> CircuitBreaker {
    CircuitBreakerConfig::new()
        .consecutive_failures(failures)
        .open_wait(Duration::from_secs(30))
        .open_jitter(0.0)
        .build("api")
        .unwrap()
}

fn breaker_layer(breaker: &CircuitBreaker) -> PolicyLayer {
    PolicyLayer::new(Stack::builder().circuit_breaker(breaker.clone()).build().unwrap())
}

#[derive(Clone)]
struct Crowd {
    inside: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    five: Arc<Barrier>,
}

async fn crowded(State(crowd): State<Crowd>) -> &'static str {
    let inside = crowd.inside.fetch_add(1, Ordering::SeqCst) + 1;
    crowd.most.fetch_max(inside, Ordering::SeqCst);
    // Nobody leaves before five are inside: fewer slots than that would never end.
    crowd.five.wait().await;
    tokio::task::yield_now().await;
    crowd.inside.fetch_sub(1, Ordering::SeqCst);
    "done"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_requests_over_two_routes_and_a_bulkhead_of_five_never_run_more_than_five() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let crowd = Crowd {
            inside: Arc::default(),
            most: Arc::default(),
            five: Arc::new(Barrier::new(5)),
        };
        let bulkhead = BulkheadConfig::new(5)
            .max_wait(PATIENCE)
            .max_queue(100)
            .build("api")
            .unwrap();
        let stack = Stack::builder()
            .bulkhead(bulkhead.clone())
            .queued()
            .build()
            .unwrap();
        let router = Router::new()
            .route("/a", get(crowded))
            .route("/b", get(crowded))
            .layer(PolicyLayer::new(stack))
            .with_state(crowd.clone());
        let address = serve(router).await;
        // HTTP/1 makes forty connections, HTTP/2 one with forty streams.
        let client = client(version);
        let calls: Vec<_> = (0..40)
            .map(|n| {
                let path = if n % 2 == 0 { "a" } else { "b" };
                let url = format!("http://{address}/{path}").parse().unwrap();
                let client = client.clone();
                tokio::spawn(async move {
                    timeout(PATIENCE, client.get(url))
                        .await
                        .unwrap()
                        .unwrap()
                        .status()
                })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap(), 200);
        }
        assert_eq!(crowd.most.load(Ordering::SeqCst), 5, "{version:?}");
        assert_eq!(bulkhead.snapshot().in_flight, 0);
    }
}

#[tokio::test]
async fn state_is_one_over_routes_connections_and_routers_however_the_layer_is_applied() {
    let fails = || get(async || StatusCode::INTERNAL_SERVER_ERROR);
    for apply in 0..3 {
        let breaker = breaker_of(3);
        let layer = breaker_layer(&breaker);
        let router = match apply {
            0 => Router::new()
                .route("/a", fails())
                .route("/b", fails())
                .layer(layer),
            1 => Router::new()
                .route("/a", fails())
                .route("/b", fails())
                .route_layer(layer),
            _ => Router::new()
                .route("/a", fails().layer(layer.clone()))
                .route("/b", fails().layer(layer)),
        };
        let addresses = [serve(router.clone()).await, serve(router).await];
        for (address, path) in [(addresses[0], "/a"), (addresses[0], "/b"), (addresses[1], "/a")] {
            // Each request has a client, and so a connection, of its own.
            assert_eq!(get_from(address, path).await.status(), 500);
        }
        assert_eq!(breaker.state(), buttress::State::Open);
        assert_eq!(get_from(addresses[1], "/b").await.status(), 503);
        let unknown = get_from(addresses[0], "/unknown").await.status();
        assert_eq!(
            unknown,
            if apply == 0 { 503 } else { 404 },
            "`Router::layer` guards the fallback too"
        );
    }
}

#[tokio::test]
async fn state_is_one_however_the_router_is_served() {
    let breaker = breaker_of(4);
    let fails = get(async || StatusCode::INTERNAL_SERVER_ERROR);
    let router = Router::new().route("/", fails).layer(breaker_layer(&breaker));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let made = listener.local_addr().unwrap();
    let service = router.clone().into_make_service();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let by_hyper = listener.local_addr().unwrap();
    let service = TowerToHyperService::new(router.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
            tokio::spawn(served);
        }
    });
    let served = serve(router.clone()).await;
    for address in [made, by_hyper, served] {
        assert_eq!(get_from(address, "/").await.status(), 500);
    }
    let in_process = || router.clone().oneshot(Request::new(Body::empty()));
    assert_eq!(in_process().await.unwrap().status(), 500);
    for address in [made, by_hyper, served] {
        assert_eq!(get_from(address, "/").await.status(), 503);
    }
    assert_eq!(in_process().await.unwrap().status(), 503);
}

#[tokio::test]
async fn responses_are_judged_by_their_status() {
    let breaker = breaker_of(1000);
    let status = async |request: Request| {
        let status: u16 = request.uri().path()[1..].parse().unwrap();
        StatusCode::from_u16(status).unwrap()
    };
    let address = serve(Router::new().fallback(status).layer(breaker_layer(&breaker))).await;
    for (status, failed) in [(200, 0), (404, 0), (501, 0), (429, 1), (500, 2), (503, 3)] {
        assert_eq!(get_from(address, &format!("/{status}")).await.status(), status);
        assert_eq!(breaker.snapshot().failed, failed, "{status}");
    }
    assert_eq!(breaker.snapshot().calls, 6);
}

async fn problem_of(response: Response) -> serde_json::Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    serde_json::from_str(&text(response).await).unwrap()
}

#[tokio::test]
async fn an_open_breaker_answers_503_with_retry_after_and_a_problem() {
    let breaker = breaker_of(1);
    let fails = get(async || StatusCode::INTERNAL_SERVER_ERROR);
    let address = serve(Router::new().route("/", fails).layer(breaker_layer(&breaker))).await;
    assert_eq!(get_from(address, "/").await.status(), 500);
    let response = get_from(address, "/").await;
    assert_eq!(response.status(), 503);
    let retry_after: u64 = response.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=30).contains(&retry_after), "{retry_after}");
    let problem = problem_of(response).await;
    assert_eq!(
        problem,
        serde_json::json!({
            "type": "https://docs.rs/buttress/latest/buttress/enum.RejectedKind.html#variant.CircuitOpen",
            "title": "Circuit breaker open",
            "status": 503,
            "policy": "api",
            "reason": "1 failures in a row",
            "retry_after": retry_after,
        })
    );
}

#[tokio::test]
async fn a_full_bulkhead_answers_503_and_a_timeout_504() {
    let bulkhead = BulkheadConfig::new(1).build("db \"main\"").unwrap();
    let limit = TimeoutConfig::new(Duration::from_millis(20))
        .build("api")
        .unwrap();
    let layer = PolicyLayer::new(
        Stack::builder()
            .timeout(limit)
            .bulkhead(bulkhead.clone())
            .build()
            .unwrap(),
    );
    let router = Router::new().route("/", get(pending::<()>)).layer(layer);
    let address = serve(router).await;
    let response = get_from(address, "/").await;
    assert_eq!(response.status(), 504);
    assert!(!response.headers().contains_key("retry-after"));
    let problem = problem_of(response).await;
    assert_eq!(
        (&problem["status"], &problem["title"]),
        (&504.into(), &"Timed out".into())
    );
    assert_eq!(problem["reason"], "not done within 20ms");
    assert_eq!(problem["retry_after"], serde_json::Value::Null);

    let slot = bulkhead.try_acquire().unwrap();
    let response = get_from(address, "/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let problem = problem_of(response).await;
    assert_eq!(problem["policy"], "db \"main\"");
    assert_eq!(problem["retry_after"], 1);
    drop(slot);
}

#[tokio::test]
async fn an_open_breaker_says_when_to_come_back_also_where_it_does_not_know() {
    let breaker = CircuitBreakerConfig::new().probes(1).build("api").unwrap();
    let router = Router::new()
        .route("/", get(async || "hello"))
        .layer(breaker_layer(&breaker));
    let address = serve(router).await;
    breaker.force_open();
    let response = get_from(address, "/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    breaker.half_open();
    let _probe = breaker.try_acquire().unwrap();
    let response = get_from(address, "/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(problem_of(response).await["retry_after"], 1);
}

#[tokio::test]
async fn a_hook_replaces_what_rejections_become() {
    let breaker = breaker_of(1);
    breaker.force_open();
    let layer = breaker_layer(&breaker).respond_by(|rejected| {
        assert_eq!(rejected.kind(), RejectedKind::CircuitOpen);
        (StatusCode::IM_A_TEAPOT, format!("{} is away", rejected.policy())).into_response()
    });
    let address = serve(Router::new().route("/", get(async || "hello")).layer(layer)).await;
    let response = get_from(address, "/").await;
    assert_eq!(response.status(), 418);
    assert_eq!(text(response).await, "api is away");
}

#[tokio::test]
async fn a_rejection_is_an_extension_of_its_response_for_a_middleware_further_out() {
    let breaker = breaker_of(1);
    breaker.force_open();
    let tell = |response: Response| {
        let rejected = response.extensions().get::<Rejected>();
        let told = rejected.map(|rejected| (rejected.kind(), rejected.policy().to_owned()));
        format!("{told:?}")
    };
    for layer in [
        breaker_layer(&breaker),
        breaker_layer(&breaker).respond_by(|_| StatusCode::IM_A_TEAPOT.into_response()),
    ] {
        let router = Router::new()
            .route("/", get(async || "hello"))
            .layer(layer)
            .layer(MapResponseLayer::new(tell));
        let address = serve(router).await;
        assert_eq!(
            text(get_from(address, "/").await).await,
            r#"Some((CircuitOpen, "api"))"#
        );
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_its_slot() {
    let bulkhead = BulkheadConfig::new(1).build("api").unwrap();
    let layer = PolicyLayer::new(Stack::builder().bulkhead(bulkhead.clone()).build().unwrap());
    let (entered, mut entries) = mpsc::unbounded_channel();
    let handler = get(async move || {
        entered.send(()).unwrap();
        pending::<()>().await;
    });
    let address = serve(Router::new().route("/", handler).layer(layer)).await;
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    timeout(PATIENCE, entries.recv()).await.unwrap().unwrap();
    assert_eq!(bulkhead.snapshot().in_flight, 1);
    drop(connection);
    until(|| bulkhead.snapshot().in_flight == 0).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_one_stream_of_http2_frees_its_slot() {
    let bulkhead = BulkheadConfig::new(2).build("api").unwrap();
    let layer = PolicyLayer::new(Stack::builder().bulkhead(bulkhead.clone()).build().unwrap());
    let address = serve(Router::new().route("/", get(pending::<()>)).layer(layer)).await;
    // Two streams of one connection, which goes on.
    let client = client(Version::HTTP_2);
    let begin = || {
        let url = format!("http://{address}/").parse().unwrap();
        tokio::spawn(client.get(url))
    };
    let (stays, goes) = (begin(), begin());
    until(|| bulkhead.snapshot().in_flight == 2).await;
    goes.abort();
    until(|| bulkhead.snapshot().in_flight == 1).await;
    assert!(!stays.is_finished());
}

#[tokio::test]
async fn a_streaming_response_holds_its_slot_to_the_end_where_that_is_set() {
    for hold in [HoldUntil::Head, HoldUntil::Body] {
        let bulkhead = BulkheadConfig::new(1).build("api").unwrap();
        let layer = PolicyLayer::new(Stack::builder().bulkhead(bulkhead.clone()).build().unwrap())
            .exchange(HttpExchange::server().hold_until(hold));
        let (senders, mut streams) = mpsc::unbounded_channel();
        let handler = get(async move || {
            let (sender, body) = Channel::<Bytes>::new(1);
            senders.send(sender).unwrap();
            Body::new(body)
        });
        let address = serve(Router::new().route("/", handler).layer(layer)).await;
        let mut response = get_from(address, "/").await;
        let mut sender = streams.recv().await.unwrap();
        sender.send_data(Bytes::from_static(b"first")).await.unwrap();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "first", "it is not collected first");
        assert_eq!(bulkhead.snapshot().in_flight, u32::from(hold == HoldUntil::Body));
        drop(sender);
        assert_eq!(text(response).await, "");
        until(|| bulkhead.snapshot().in_flight == 0).await;

        // A client that leaves half-way.
        let response = get_from(address, "/").await;
        let sender = streams.recv().await.unwrap();
        drop(response);
        until(|| bulkhead.snapshot().in_flight == 0).await;
        drop(sender);
    }
}

#[tokio::test]
async fn an_upgrade_and_head_requests_pass() {
    let retry = RetryConfig::new().build("api").unwrap();
    let bulkhead = BulkheadConfig::new(1).build("api").unwrap();
    let plain = Stack::builder().bulkhead(bulkhead.clone()).build().unwrap();
    let retrying = Stack::builder()
        .retry(retry)
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    for layer in [
        PolicyLayer::new(plain.clone()),
        PolicyLayer::new(retrying),
        PolicyLayer::new(plain).exchange(HttpExchange::server().hold_until(HoldUntil::Body)),
    ] {
        let upgrade = async |mut request: Request| {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut four = [0; 4];
                io.read_exact(&mut four).await.unwrap();
                io.write_all(&four).await.unwrap();
            });
            let headers = [("connection", "upgrade"), ("upgrade", "echo")];
            (StatusCode::SWITCHING_PROTOCOLS, headers)
        };
        let router = Router::new()
            .route("/upgrade", any(upgrade))
            .route("/", get(async || "hello"))
            .layer(layer);
        let address = serve(router).await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        let head = b"GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        connection.write_all(head).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(connection.read_u8().await.unwrap());
        }
        assert!(
            seen.starts_with(b"HTTP/1.1 101 "),
            "{}",
            String::from_utf8_lossy(&seen)
        );
        assert_eq!(
            bulkhead.snapshot().in_flight,
            0,
            "the call is over, the connection is not"
        );
        connection.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        timeout(PATIENCE, connection.read_exact(&mut echo))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&echo, b"ping");

        let response = send(Version::HTTP_11, Method::HEAD, address, "/").await;
        assert_eq!(
            (
                response.status().as_u16(),
                response.headers()["content-length"].as_bytes()
            ),
            (200, &b"5"[..])
        );
        assert_eq!(text(response).await, "");
        until(|| bulkhead.snapshot().in_flight == 0).await;
    }
    let breaker = breaker_of(1);
    breaker.force_open();
    let address = serve(
        Router::new()
            .route("/", get(async || "hello"))
            .layer(breaker_layer(&breaker)),
    )
    .await;
    let response = send(Version::HTTP_11, Method::HEAD, address, "/").await;
    assert_eq!(response.status(), 503);
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_retry_handles_a_request_again_with_its_body() {
    let retry = RetryConfig::new()
        .backoff(Backoff::fixed(Duration::from_millis(1)))
        .no_budget()
        .build("api")
        .unwrap();
    let times = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&times);
    let handler = put(async move |body: String| {
        if count.fetch_add(1, Ordering::SeqCst) % 3 < 2 {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        body.into_response()
    });
    let stack = Stack::builder().retry(retry).build().unwrap();
    let note = async |response: Response| {
        let attempts = response
            .extensions()
            .get()
            .map_or(1, |AttemptsMade(attempts)| *attempts);
        ([("attempts", attempts.to_string())], response)
    };
    let router = Router::new()
        .route("/", handler)
        .layer(PolicyLayer::new(stack))
        .layer(axum::middleware::map_response(note));
    let address = serve(router).await;
    let request = Request::put(format!("http://{address}/"))
        .body(Full::new(Bytes::from("x".repeat(1024))))
        .unwrap();
    let response = client(Version::HTTP_11)
        .request(request)
        .await
        .unwrap()
        .map(Body::new);
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["attempts"].as_bytes()
        ),
        (200, &b"3"[..])
    );
    assert_eq!(text(response).await, "x".repeat(1024));
    assert_eq!(times.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_fallback_answers_in_place_of_responses_and_rejections() {
    let breaker = breaker_of(1);
    let stack = Stack::builder()
        .fallback(
            Fallback::new("cached"),
            AnswerBy(|facts: &HttpFacts, hidden: Result<Response, Error<Infallible>>| {
                let what = match &hidden {
                    Ok(response) => response.status().to_string(),
                    Err(error) => error.to_string(),
                };
                Ok((StatusCode::OK, format!("{} instead of: {what}", facts.method())).into_response())
            }),
        )
        .circuit_breaker(breaker)
        .build()
        .unwrap();
    let fails = get(async || StatusCode::INTERNAL_SERVER_ERROR);
    let address = serve(Router::new().route("/", fails).layer(PolicyLayer::new(stack))).await;
    for hidden in ["500 Internal Server Error", "refused"] {
        let response = get_from(address, "/").await;
        assert_eq!(response.status(), 200);
        let said = text(response).await;
        assert!(
            said.starts_with("GET instead of: ") && said.contains(hidden),
            "{said}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_in_a_handler_knows_the_limit_of_the_layer_around_it() {
    let total = TimeoutConfig::new(Duration::from_secs(2)).build("total").unwrap();
    let retry = RetryConfig::new().build("upstream").unwrap();
    let upstream = Stack::builder()
        .retry(retry)
        .build()
        .unwrap()
        .prepare(ReplayBodies::new())
        .exchange(HttpExchange::client())
        .layer(AdaptLayer::new().layer(service_fn(async |_| {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let busy = (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "2")]);
            Ok::<_, Infallible>(busy.into_response())
        })));
    let handler = get(async move |request: Request| {
        let answer = upstream.clone().oneshot(request).await;
        answer.map_or(StatusCode::INTERNAL_SERVER_ERROR, |answer| answer.status())
    });
    let router = Router::new()
        .route("/", handler)
        .layer(PolicyLayer::new(Stack::builder().timeout(total).build().unwrap()));
    let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(response.status(), 503, "two seconds more would end in 504");
}

#[test]
fn the_example_shows_a_timeout_and_an_open_breaker_and_ends() {
    let ran = example::example("axum_server").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    for part in [
        "200 OK hello",
        "504 Gateway Timeout {",
        "503 Service Unavailable {",
        "come back in ",
    ] {
        assert!(said.contains(part), "`{part}` in:\n{said}");
    }
}
