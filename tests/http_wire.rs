//! A hyper-util client under the policies, against real servers and against peers that misbehave.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long it took")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body, http::StatusCode, response::IntoResponse, routing::any};
use buttress::{
    AdaptLayer, Backoff, CircuitBreaker, CircuitBreakerConfig, Error, Predicate, RejectedKind, RetryConfig,
    Stack, StackService, TimeoutConfig, find_rejected,
    http::{AttemptsMade, HttpExchange, ReplayBodies, ReplayBody, Resend},
};
use buttress::{AdaptService, Prepared};
use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full, channel::Channel};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::{Service, ServiceBuilder};

const PATIENCE: Duration = Duration::from_secs(20);

type Inner<B> = AdaptService<Client<HttpConnector, ReplayBody<B>>>;
type Guarded<B> = StackService<Inner<B>, HttpExchange, Prepared<ReplayBodies>>;

/// A client that retries up to three attempts, each of at most `limit`, and its breaker.
fn guarded<B>(version: Version, limit: Duration, exchange: HttpExchange) -> (Guarded<B>, CircuitBreaker)
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<tower::BoxError>,
{
    let retry = RetryConfig::new()
        .backoff(Backoff::fixed(Duration::from_millis(1)))
        .no_budget()
        .build("peer")
        .unwrap();
    let breaker = CircuitBreakerConfig::new().build("peer").unwrap();
    let stack = Stack::builder()
        .retry(retry)
        .circuit_breaker(breaker.clone())
        .timeout(TimeoutConfig::new(limit).build("peer").unwrap())
        .build()
        .unwrap();
    let client = Client::builder(TokioExecutor::new())
        .http2_only(version == Version::HTTP_2)
        .build_http();
    let service = ServiceBuilder::new()
        .layer(stack.prepare(ReplayBodies::new()).exchange(exchange))
        .layer(AdaptLayer::new())
        .service(client);
    (service, breaker)
}

fn small(method: Method, address: SocketAddr) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from("x".repeat(1024))));
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://{address}/").parse().unwrap();
    request
}

async fn send<B>(
    service: Guarded<B>,
    request: Request<B>,
) -> Result<
    Response<impl http_body::Body<Data = Bytes, Error = tower::BoxError>>,
    Error<hyper_util::client::legacy::Error>,
>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<tower::BoxError>,
{
    timeout(PATIENCE, service.oneshot(request))
        .await
        .expect("it hangs")
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Reset,
    CloseEarly,
    Garbage,
    Never,
    BreakOffTheBody,
    Answer,
}

/// A peer whose connections do these things in turn, then answer. Gives how many requests it has seen.
async fn peer(script: Vec<Does>) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    let script = Mutex::new(script.into_iter());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !read_request(&mut stream).await {
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            let does = script.lock().unwrap().next().unwrap_or(Does::Answer);
            let answer: &[u8] = match does {
                Does::Reset => {
                    reset_on_close(&stream);
                    continue;
                }
                Does::CloseEarly => b"HTTP/1.1 200",
                Does::Garbage => b"\x00\xff\x16\x03 what?\r\n\r\n",
                Does::BreakOffTheBody => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
                Does::Answer => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
                Does::Never => {
                    kept.push(stream);
                    continue;
                }
            };
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (address, seen)
}

/// Makes the close of a connection a reset.
#[allow(deprecated)]
fn reset_on_close(stream: &TcpStream) {
    stream.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads a head and the kilobyte that follows; false when the client leaves before.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    loop {
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return false;
        }
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n")
            && seen.len() >= end + 4 + 1024
        {
            return true;
        }
    }
}

#[tokio::test]
async fn a_peer_that_breaks_off_before_the_head_gets_an_idempotent_request_again_and_a_post_once() {
    for fault in [Does::Reset, Does::CloseEarly, Does::Garbage, Does::Never] {
        let limit = if fault == Does::Never {
            Duration::from_millis(100)
        } else {
            PATIENCE
        };
        let (service, breaker) = guarded(Version::HTTP_11, limit, HttpExchange::client());
        let (address, seen) = peer(vec![fault, fault]).await;
        let response = send(service.clone(), small(Method::PUT, address)).await.unwrap();
        assert_eq!(response.extensions().get(), Some(&AttemptsMade(3)), "{fault:?}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert_eq!(seen.load(Ordering::SeqCst), 3);
        assert_eq!(
            (breaker.snapshot().calls, breaker.snapshot().failed),
            (3, 2),
            "{fault:?}"
        );

        let (address, seen) = peer(vec![fault, fault]).await;
        let error = send(service.clone(), small(Method::POST, address))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(seen.load(Ordering::SeqCst), 1, "{fault:?}");
        let timed_out = error.as_rejected().map(buttress::Rejected::kind);
        assert_eq!(
            timed_out,
            (fault == Does::Never).then_some(RejectedKind::TimedOut),
            "{error}"
        );

        let (address, seen) = peer(vec![fault, fault]).await;
        let mut marked = small(Method::POST, address);
        marked.extensions_mut().insert(Resend::Safe);
        assert_eq!(send(service, marked).await.unwrap().status(), 200);
        assert_eq!(seen.load(Ordering::SeqCst), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn a_peer_that_breaks_off_an_http2_connection_gets_an_idempotent_request_again_and_a_post_once() {
    for fault in [Does::Reset, Does::CloseEarly, Does::Garbage, Does::Never] {
        let limit = if fault == Does::Never {
            Duration::from_millis(100)
        } else {
            PATIENCE
        };
        for (method, times) in [(Method::PUT, 3), (Method::POST, 1)] {
            let (service, breaker) = guarded(Version::HTTP_2, limit, HttpExchange::client());
            let (address, seen) = peer(vec![fault; 3]).await;
            let error = send(service, small(method, address)).await.map(drop).unwrap_err();
            let timed_out = error.as_rejected().map(buttress::Rejected::kind);
            assert_eq!(
                timed_out,
                (fault == Does::Never).then_some(RejectedKind::TimedOut),
                "{error}"
            );
            assert_eq!(
                seen.load(Ordering::SeqCst),
                if fault == Does::Never { 1 } else { times }
            );
            assert_eq!(
                (breaker.snapshot().calls, breaker.snapshot().failed),
                (times.into(), times.into()),
                "{fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failure_and_is_not_asked_for_again() {
    let (service, breaker) = guarded(Version::HTTP_11, PATIENCE, HttpExchange::client());
    let (address, seen) = peer(vec![Does::BreakOffTheBody]).await;
    let response = send(service, small(Method::GET, address)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(breaker.snapshot().calls, 0);
    assert!(response.into_body().collect().await.is_err());
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failed), (1, 1));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_is_refused_is_tried_again_even_for_a_post() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let known = HttpExchange::client()
        .never_connected(Predicate::error_if(hyper_util::client::legacy::Error::is_connect));
    for exchange in [HttpExchange::client(), known] {
        let (service, breaker) = guarded(Version::HTTP_11, PATIENCE, exchange);
        let error = send(service.clone(), small(Method::POST, gone))
            .await
            .map(drop)
            .unwrap_err();
        assert!(error.into_service().unwrap().is_connect());
        assert_eq!(breaker.snapshot().failed, 3);
        let mut never = small(Method::POST, gone);
        never.extensions_mut().insert(Resend::Never);
        send(service, never).await.map(drop).unwrap_err();
        assert_eq!(breaker.snapshot().failed, 4);
    }
}

#[tokio::test]
async fn a_head_request_and_an_upgrade_end_their_calls_with_the_head() {
    let upgrade = any(async |mut request: axum::extract::Request| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            let mut four = [0; 4];
            io.read_exact(&mut four).await.unwrap();
            io.write_all(&four).await.unwrap();
        });
        let headers = [("connection", "upgrade"), ("upgrade", "echo")];
        (StatusCode::SWITCHING_PROTOCOLS, headers)
    });
    let address = serve(
        Router::new()
            .route("/upgrade", upgrade)
            .fallback(any(async || "hello")),
    )
    .await;
    let (service, breaker) = guarded(Version::HTTP_11, PATIENCE, HttpExchange::client());
    let mut head = small(Method::HEAD, address);
    *head.body_mut() = Full::default();
    let response = send(service.clone(), head).await.unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failed), (1, 0));

    let request = Request::get(format!("http://{address}/upgrade"))
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Full::default())
        .unwrap();
    let response = send(service, request).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failed), (2, 0));
    let mut io = TokioIo::new(
        timeout(PATIENCE, hyper::upgrade::on(response))
            .await
            .unwrap()
            .unwrap(),
    );
    io.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    timeout(PATIENCE, io.read_exact(&mut echo))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&echo, b"ping");
}

/// A server that counts what it reads, and answers 503 to the first `refusals` requests once it has read them.
async fn counting(
    refusals: u32,
    headers: &'static [(&'static str, &'static str)],
) -> (SocketAddr, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    let handler = async move |body: Body| {
        let request = counted.requests.fetch_add(1, Ordering::SeqCst);
        let mut body = body;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            counted.bytes.fetch_add(length, Ordering::SeqCst);
        }
        if request < refusals {
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                axum::response::AppendHeaders(headers.to_vec()),
            )
                .into_response();
        }
        "ok".into_response()
    };
    (serve(Router::new().fallback(any(handler))).await, counts)
}

#[derive(Default)]
struct Counts {
    requests: AtomicU32,
    bytes: AtomicUsize,
}

impl Counts {
    fn get(&self) -> (u32, usize) {
        (
            self.requests.load(Ordering::SeqCst),
            self.bytes.load(Ordering::SeqCst),
        )
    }
}

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

#[tokio::test]
async fn a_small_upload_is_sent_again_and_a_post_once() {
    for version in VERSIONS {
        let (service, _) = guarded(version, PATIENCE, HttpExchange::client());
        let (address, counts) = counting(1, &[]).await;
        let response = send(service.clone(), small(Method::PUT, address)).await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
        assert_eq!(counts.get(), (2, 2 * 1024));

        let (address, counts) = counting(1, &[]).await;
        let response = send(service, small(Method::POST, address)).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(counts.get(), (1, 1024));
    }
}

#[tokio::test]
async fn a_streamed_upload_of_ten_megabytes_goes_out_once_and_whole() {
    const CHUNK: usize = 50_000;
    for version in VERSIONS {
        for refusals in [0, 1] {
            let (service, _) = guarded(version, PATIENCE, HttpExchange::client());
            let (address, counts) = counting(refusals, &[]).await;
            let (mut sender, body) = Channel::<Bytes>::new(1);
            let upload = tokio::spawn(async move {
                for _ in 0..200 {
                    sender.send_data(Bytes::from(vec![7; CHUNK])).await.unwrap();
                }
            });
            let request = Request::put(format!("http://{address}/")).body(body).unwrap();
            let response = send(service, request).await.unwrap();
            assert_eq!(response.status(), if refusals == 0 { 200 } else { 503 });
            upload.await.unwrap();
            assert_eq!(counts.get(), (1, 200 * CHUNK), "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_retry_after_of_a_second_is_waited_for() {
    let (service, _) = guarded(Version::HTTP_11, PATIENCE, HttpExchange::client());
    let (address, counts) = counting(1, &[("retry-after", "1")]).await;
    let began = Instant::now();
    let response = send(service, small(Method::PUT, address)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(counts.get().0, 2);
    let waited = began.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(8)).contains(&waited),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_dripping_body_is_cut() {
    let drip = any(async || {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(10));
            loop {
                every.tick().await;
                if sender.send_data(Bytes::from_static(b".")).await.is_err() {
                    return;
                }
            }
        });
        Body::new(body)
    });
    let address = serve(Router::new().fallback(drip)).await;
    for version in VERSIONS {
        let limit = Duration::from_millis(200);
        let covering = HttpExchange::client().timeouts_cover_body(true);
        let (service, breaker) = guarded(version, limit, covering);
        let began = Instant::now();
        let response = send(service, small(Method::GET, address)).await.unwrap();
        let reading = timeout(PATIENCE, response.into_body().collect());
        let error = reading.await.expect("it drips on").map(drop).unwrap_err();
        assert_eq!(find_rejected(&*error).unwrap().kind(), RejectedKind::TimedOut);
        assert!(began.elapsed() >= limit);
        assert_eq!((breaker.snapshot().calls, breaker.snapshot().failed), (1, 1));
    }
}

#[tokio::test]
async fn a_body_that_stands_still_is_cut_by_the_idle_limit() {
    let still = any(async || {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        tokio::spawn(async move {
            sender.send_data(Bytes::from_static(b"first")).await.unwrap();
            std::future::pending::<()>().await;
            drop(sender);
        });
        Body::new(body)
    });
    let address = serve(Router::new().fallback(still)).await;
    for version in VERSIONS {
        let exchange = HttpExchange::client()
            .idle_limit(Duration::from_millis(100))
            .unwrap();
        let (mut service, breaker) = guarded(version, PATIENCE, exchange);
        service.ready().await.unwrap();
        let response = service.call(small(Method::GET, address)).await.unwrap();
        let reading = timeout(PATIENCE, response.into_body().collect());
        let error = reading.await.expect("it stands still").map(drop).unwrap_err();
        assert!(
            error.to_string().contains("no frame of the body for 100ms"),
            "{error}"
        );
        assert_eq!(breaker.snapshot().failed, 1);
    }
}
