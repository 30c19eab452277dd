//! gRPC: codes in headers and trailers, pushback, and a tonic channel under the policies.
#![cfg(feature = "grpc")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long it took")]

#[path = "support/example.rs"]
mod example;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use buttress::{
    AdaptLayer, Backoff, BoxError, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer,
    RejectedKind, RetryConfig, Stack, find_rejected,
    http::{AttemptsMade, GrpcCode, GrpcCodes, HttpExchange, ReplayBodies, Resend},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, channel::Channel};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, time::timeout};
use tonic::{Code, body::Body as TonicBody, transport};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};
use tower::{Layer, ServiceBuilder, ServiceExt as _, service_fn};

const PATIENCE: Duration = Duration::from_secs(20);

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

/// Calls and failures that a breaker counts for a response with these headers and trailers.
async fn counted(exchange: HttpExchange, head: HeaderMap, trailers: Option<HeaderMap>) -> (u64, u64) {
    let breaker = CircuitBreakerConfig::new().build("x").unwrap();
    let frames = trailers.map(|trailers| Ok::<_, BoxError>(Frame::<Bytes>::trailers(trailers)));
    let frames = std::sync::Mutex::new(frames);
    let service = CircuitBreakerLayer::new(breaker.clone())
        .exchange(exchange)
        .layer(service_fn(move |_| {
            let (head, frame) = (head.clone(), frames.lock().unwrap().take());
            async move {
                let (mut sender, body) = Channel::<Bytes, BoxError>::new(2);
                sender.send_data(Bytes::from_static(b"message")).await.unwrap();
                if let Some(frame) = frame {
                    sender.send(frame.unwrap()).await.unwrap();
                }
                let mut response = Response::new(body);
                *response.headers_mut() = head;
                Ok::<_, BoxError>(response)
            }
        }));
    let response = service
        .oneshot(Request::post("/x.Y/Z").body(()).unwrap())
        .await
        .unwrap();
    response.into_body().collect().await.unwrap();
    let snapshot = breaker.snapshot();
    (snapshot.calls, snapshot.failed)
}

#[tokio::test(start_paused = true)]
async fn the_verdict_is_that_of_the_code_in_the_trailers() {
    let client = HttpExchange::grpc_client;
    let by_trailers =
        async |code| counted(client(), headers(&[]), Some(headers(&[("grpc-status", code)]))).await;
    for (code, failed) in [("0", 0), ("1", 0), ("3", 0), ("5", 0), ("12", 0), ("16", 0)] {
        assert_eq!(by_trailers(code).await, (1, failed), "{code}");
    }
    for code in ["2", "4", "8", "13", "14", "15", "99", "odd"] {
        assert_eq!(by_trailers(code).await, (1, 1), "{code}");
    }
    assert_eq!(
        counted(client(), headers(&[]), None).await,
        (1, 1),
        "broken off without a status"
    );
    let aborted = client().grpc(GrpcCodes::new().failures(&[GrpcCode::Aborted]));
    let trailers = || Some(headers(&[("grpc-status", "10")]));
    assert_eq!(counted(aborted, headers(&[]), trailers()).await, (1, 1));
    assert_eq!(counted(client(), headers(&[]), trailers()).await, (1, 0));
    // Plain HTTP does not look at it.
    let unavailable = Some(headers(&[("grpc-status", "14")]));
    assert_eq!(
        counted(HttpExchange::client(), headers(&[]), unavailable).await,
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_verdict_is_that_of_the_code_in_the_headers() {
    for exchange in [HttpExchange::grpc_client, HttpExchange::grpc_server] {
        assert_eq!(
            counted(exchange(), headers(&[("grpc-status", "14")]), None).await,
            (1, 1)
        );
        assert_eq!(
            counted(exchange(), headers(&[("grpc-status", "5")]), None).await,
            (1, 0)
        );
        assert_eq!(
            counted(exchange(), headers(&[("grpc-status", "0")]), None).await,
            (1, 0)
        );
    }
}

/// How often a request is sent that is always answered with these headers alone.
async fn times_sent(exchange: HttpExchange, request: Request<Empty<Bytes>>, head: HeaderMap) -> u32 {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let retry = RetryConfig::new().no_budget().build("x").unwrap();
    let stack = Stack::builder().retry(retry).build().unwrap();
    stack
        .prepare(ReplayBodies::new())
        .exchange(exchange)
        .layer(service_fn(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.headers_mut() = head.clone();
            async move { Ok::<_, BoxError>(response) }
        }))
        .oneshot(request)
        .await
        .unwrap();
    count.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn calls_that_may_be_sent_twice_are_retried_by_their_code_unless_the_server_pushes_back() {
    let call = || Request::post("/x.Y/Z").body(Empty::new()).unwrap();
    let marked = || {
        let mut request = call();
        request.extensions_mut().insert(Resend::Safe);
        request
    };
    let client = HttpExchange::grpc_client;
    for (code, times) in [
        ("14", 3),
        ("8", 3),
        ("0", 1),
        ("4", 1),
        ("10", 1),
        ("13", 1),
        ("5", 1),
    ] {
        let head = headers(&[("grpc-status", code)]);
        assert_eq!(times_sent(client(), marked(), head).await, times, "{code}");
    }
    assert_eq!(
        times_sent(client(), call(), headers(&[("grpc-status", "14")])).await,
        1
    );
    for (pushback, times) in [("0", 3), ("40", 3), ("-1", 1), ("no", 1)] {
        let head = headers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", pushback)]);
        assert_eq!(times_sent(client(), marked(), head).await, times, "{pushback}");
    }
    let more = client().grpc(GrpcCodes::new().retries(&[GrpcCode::Internal]));
    assert_eq!(
        times_sent(more.clone(), marked(), headers(&[("grpc-status", "13")])).await,
        3
    );
    assert_eq!(
        times_sent(more, marked(), headers(&[("grpc-status", "14")])).await,
        1
    );
}

/// A health server that answers so many calls with this status alone first.
async fn health(refusals: u32, head: HeaderMap) -> (SocketAddr, Arc<AtomicU32>) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let refused = counted.fetch_add(1, Ordering::SeqCst) < refusals;
        let (health, head) = (health.clone(), head.clone());
        async move {
            if refused {
                let mut response = Response::new(TonicBody::empty());
                *response.headers_mut() = head;
                return Ok(response);
            }
            health.oneshot(request).await
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, calls)
}

const REFUSAL: [(&str, &str); 2] = [("content-type", "application/grpc"), ("grpc-status", "14")];

fn channel(address: SocketAddr) -> transport::Channel {
    transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

struct Policies {
    stack: Stack,
    breaker: CircuitBreaker,
    bulkhead: buttress::Bulkhead,
}

impl Policies {
    fn new() -> Self {
        let retry = RetryConfig::new()
            .backoff(Backoff::fixed(Duration::from_millis(1)))
            .no_budget()
            .build("health")
            .unwrap();
        let breaker = CircuitBreakerConfig::new().build("health").unwrap();
        let bulkhead = BulkheadConfig::new(1).build("health").unwrap();
        let stack = Stack::builder()
            .retry(retry)
            .circuit_breaker(breaker.clone())
            .bulkhead(bulkhead.clone())
            .build()
            .unwrap();
        Self {
            stack,
            breaker,
            bulkhead,
        }
    }

    fn failed(&self) -> (u64, u64) {
        let snapshot = self.breaker.snapshot();
        (snapshot.calls, snapshot.failed)
    }
}

macro_rules! guarded {
    ($policies:expr, $address:expr) => {
        HealthClient::new(
            ServiceBuilder::new()
                .layer(
                    $policies
                        .stack
                        .clone()
                        .prepare(ReplayBodies::new().wrapped(TonicBody::new))
                        .exchange(HttpExchange::grpc_client()),
                )
                .layer(AdaptLayer::new())
                .service(channel($address)),
        )
    };
}

fn check(resend: bool) -> tonic::Request<HealthCheckRequest> {
    let mut request = tonic::Request::new(HealthCheckRequest {
        service: "shop".to_owned(),
    });
    if resend {
        request.extensions_mut().insert(Resend::Safe);
    }
    request
}

#[tokio::test]
async fn a_tonic_call_waits_for_the_pushback_and_is_sent_again() {
    let mut head = headers(&REFUSAL);
    head.extend(headers(&[("grpc-retry-pushback-ms", "300")]));
    let (address, calls) = health(1, head).await;
    let policies = Policies::new();
    let mut client = guarded!(policies, address);
    let began = Instant::now();
    let response = timeout(PATIENCE, client.check(check(true)))
        .await
        .unwrap()
        .unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(response.extensions().get(), Some(&AttemptsMade(2)));
    assert_eq!(response.get_ref().status, ServingStatus::Serving as i32);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(policies.failed(), (2, 1));
    assert_eq!(policies.bulkhead.snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_tonic_call_that_is_pushed_back_for_good_or_may_not_be_resent_is_sent_once() {
    let mut stop = headers(&REFUSAL);
    stop.extend(headers(&[("grpc-retry-pushback-ms", "-1")]));
    for (head, resend) in [(stop, true), (headers(&REFUSAL), false)] {
        let (address, calls) = health(1, head).await;
        let policies = Policies::new();
        let mut client = guarded!(policies, address);
        let status = timeout(PATIENCE, client.check(check(resend)))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(policies.failed(), (1, 1));
        // The channel goes on.
        client.check(check(resend)).await.unwrap();
        assert_eq!(policies.failed(), (2, 1));
    }
}

#[tokio::test]
async fn a_code_that_comes_in_the_trailers_of_a_tonic_call_counts() {
    let (address, _) = health(0, HeaderMap::new()).await;
    let policies = Policies::new();
    let mut client = guarded!(policies, address);
    let mut unknown = check(true);
    unknown.get_mut().service = "nobody".to_owned();
    assert_eq!(client.check(unknown).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(policies.failed(), (1, 0));
}

#[tokio::test]
async fn a_stream_holds_its_slot_until_it_is_dropped() {
    let (address, _) = health(0, HeaderMap::new()).await;
    let policies = Policies::new();
    let mut client = guarded!(policies, address);
    let mut stream = client.watch(check(true)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert_eq!(policies.bulkhead.snapshot().in_flight, 1);
    let refused = client.check(check(true)).await.unwrap_err();
    let rejected = find_rejected(&refused).expect("a rejection in the status");
    assert_eq!(rejected.kind(), RejectedKind::BulkheadFull);
    drop(stream);
    assert_eq!(policies.bulkhead.snapshot().in_flight, 0);
    client.check(check(true)).await.unwrap();
}

#[tokio::test]
async fn a_channel_that_cannot_connect_is_tried_again_whatever_the_call() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let policies = Policies::new();
    let mut client = guarded!(policies, gone);
    let status = timeout(PATIENCE, client.check(check(false)))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(policies.failed(), (3, 3));
}

#[test]
fn the_example_is_served_at_its_second_attempt_and_ends() {
    let ran = example::example("grpc_client").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    assert!(said.starts_with("SERVING after 2 attempts and "), "{said}");
}
