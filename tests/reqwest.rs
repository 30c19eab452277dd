//! The reqwest client against real servers on loopback.

#![allow(clippy::unwrap_used)]

#[path = "support/example.rs"]
mod example;

use std::{
    borrow::Cow,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{extract::Request as AxumRequest, response::IntoResponse};
use buttress::{
    AdaptLayer, Backoff, Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer,
    Clock, Event, KeyedConfig, KeyedLayer, Observer, Registry, RejectedKind, Retry, RetryConfig, RetryLayer,
    Settings, Stack, StackConfig, State, Timeout, TimeoutConfig, What, find_rejected,
    http::{AttemptsMade, HoldUntil, HttpExchange, PerAuthority},
    reqwest::{Client, Error, ReqwestExchange},
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::{Service, ServiceBuilder, ServiceExt};

/// No test takes longer, and nothing sleeps for it.
const BOUND: Duration = Duration::from_secs(20);

/// Far longer than anything on loopback takes, and far shorter than [`BOUND`].
const SOON: Duration = Duration::from_millis(200);

async fn bounded<T>(test: impl Future<Output = T>) -> T {
    timeout(BOUND, test).await.expect("it hangs")
}

/// What a server saw of one request.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers the n-th request, counted from 0, as `answer` says.
    async fn answering<R>(answer: impl Fn(usize) -> R + Clone + Send + Sync + 'static) -> Self
    where
        R: IntoResponse,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let app = {
            let seen = Arc::clone(&seen);
            axum::Router::new().fallback(move |request: AxumRequest| async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let mut seen = seen.lock().unwrap();
                let call = seen.len();
                seen.push(Seen {
                    method: head.method,
                    uri: head.uri.to_string(),
                    headers: head.headers,
                    body,
                });
                answer(call).into_response()
            })
        };
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen }
    }

    /// The first answers have these statuses, all that follow 200.
    async fn with_statuses(statuses: &'static [u16]) -> Self {
        Self::answering(move |call| {
            let status = statuses.get(call).copied().unwrap_or(200);
            (StatusCode::from_u16(status).unwrap(), format!("answer {call}"))
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn key(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// A peer that does with each connection what `behave` says. Counts them.
async fn peer<F>(behave: impl Fn(TcpStream) -> F + Send + 'static) -> (String, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(behave(stream));
        }
    });
    (url, count)
}

/// Reads the head of a request.
async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        head.push(byte[0]);
    }
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

fn retry() -> Retry {
    RetryConfig::new()
        .max_attempts(3)
        .backoff(Backoff::fixed(Duration::from_millis(1)))
        .no_budget()
        .build("web")
        .unwrap()
}

fn breaker() -> CircuitBreaker {
    CircuitBreakerConfig::new()
        .count_window(4)
        .minimum_calls(2)
        .build("web")
        .unwrap()
}

fn bulkhead(slots: u32) -> Bulkhead {
    BulkheadConfig::new(slots).build("web").unwrap()
}

fn limit(limit: Duration) -> Timeout {
    TimeoutConfig::new(limit).build("web").unwrap()
}

fn plain() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn retrying() -> Client {
    Client::new(plain(), Stack::builder().retry(retry()).build().unwrap())
}

fn one(breaker: &CircuitBreaker) -> Client {
    let stack = Stack::builder().circuit_breaker(breaker.clone()).build().unwrap();
    Client::new(plain(), stack)
}

fn kind(result: Result<reqwest::Response, Error>) -> RejectedKind {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Rejected(_)), "{error:?}");
    error.as_rejected().unwrap().kind()
}

/// A body that streams, in frames of 1 KiB.
fn stream(length: usize) -> reqwest::Body {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(4);
    tokio::spawn(async move {
        for at in (0..length).step_by(1024) {
            let frame = vec![b'x'; 1024.min(length - at)];
            if sender.send_data(frame.into()).await.is_err() {
                return;
            }
        }
    });
    let body = SyncBody(Mutex::new(Box::pin(body)));
    reqwest::Body::wrap(body)
}

/// reqwest wants bodies to be `Sync`.
struct SyncBody<B>(Mutex<std::pin::Pin<Box<B>>>);

impl<B: http_body::Body> http_body::Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        self.0.get_mut().unwrap().as_mut().poll_frame(cx)
    }
}

// It is used as reqwest's own

#[tokio::test]
async fn a_request_goes_out_as_reqwest_would_send_it() {
    let server = Server::with_statuses(&[]).await;
    let client = one(&breaker());
    let mut headers = HeaderMap::new();
    headers.insert("x-second", "2".parse().unwrap());
    let url = format!("{}path?a=b", server.url());
    let response = bounded(
        client
            .put(&url)
            .header("x-first", "1")
            .headers(headers)
            .basic_auth("user", Some("secret"))
            .version(http::Version::HTTP_11)
            .body("hello")
            .send(),
    );
    let response = response.await.unwrap();
    assert_eq!(
        (response.status(), response.url().as_str()),
        (StatusCode::OK, &*url)
    );
    assert_eq!(response.version(), http::Version::HTTP_11);
    assert_eq!(response.remote_addr(), Some(server.address));
    assert_eq!(response.content_length(), Some(8));
    assert_eq!(response.text().await.unwrap(), "answer 0");
    let seen = &server.seen()[0];
    assert_eq!(
        (&seen.method, &*seen.uri, &*seen.body),
        (&Method::PUT, "/path?a=b", &b"hello"[..])
    );
    assert_eq!(
        (&seen.headers["x-first"], &seen.headers["x-second"]),
        (&"1".parse().unwrap(), &"2".parse().unwrap())
    );
    assert_eq!(seen.headers["authorization"], "Basic dXNlcjpzZWNyZXQ=");
    client.get(&url).bearer_auth("token").send().await.unwrap();
    assert_eq!(server.seen()[1].headers["authorization"], "Bearer token");
    for (method, builder) in [
        (Method::POST, client.post(&url)),
        (Method::PATCH, client.patch(&url)),
        (Method::DELETE, client.delete(&url)),
        (Method::HEAD, client.head(&url)),
        (Method::OPTIONS, client.request(Method::OPTIONS, &url)),
    ] {
        bounded(builder.send()).await.unwrap();
        assert_eq!(server.seen().last().unwrap().method, method);
    }
}

#[cfg(all(feature = "reqwest-json", feature = "reqwest-form", feature = "reqwest-query"))]
#[tokio::test]
async fn json_forms_and_queries_are_sent_where_their_features_are_on() {
    let server = Server::with_statuses(&[]).await;
    let client = retrying();
    client.post(server.url()).json(&[1, 2]).send().await.unwrap();
    client
        .post(server.url())
        .form(&[("a", "b")])
        .send()
        .await
        .unwrap();
    client
        .get(server.url())
        .query(&[("c", "d")])
        .send()
        .await
        .unwrap();
    let seen = server.seen();
    assert_eq!(
        (&*seen[0].body, &*seen[1].body, &*seen[2].uri),
        (&b"[1,2]"[..], &b"a=b"[..], "/?c=d")
    );
    assert_eq!(seen[0].headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_request_can_be_built_first_and_sent_later() {
    let server = Server::with_statuses(&[503]).await;
    let client = retrying();
    let request = client.get(server.url()).header("x", "1").build().unwrap();
    assert_eq!(request.headers()["x"], "1");
    assert_eq!(bounded(client.execute(request)).await.unwrap().status(), 200);
    let (client, request) = client.get(server.url()).timeout(SOON).build_split();
    assert_eq!(request.as_ref().unwrap().timeout(), Some(&SOON));
    let again = buttress::reqwest::RequestBuilder::from_parts(client, request.unwrap()).header("y", "2");
    assert_eq!(bounded(again.send()).await.unwrap().status(), 200);
    assert_eq!(server.seen()[2].headers["y"], "2");
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn a_copy_of_a_request_wants_the_same_of_the_policies() {
    let server = Server::with_statuses(&[503; 9]).await;
    let request = retrying().post(server.url()).idempotent();
    let copy = request.try_clone().unwrap();
    bounded(copy.send()).await.unwrap();
    assert_eq!(server.calls(), 3);
    assert!(
        request.body(stream(10)).try_clone().is_none(),
        "a stream cannot be copied"
    );
}

#[tokio::test]
async fn errors_tell_status_transport_rejection_and_a_wrong_request_apart() {
    let server = Server::with_statuses(&[404, 500, 500]).await;
    let breaker = breaker();
    let client = one(&breaker);
    let error = Error::from(
        client
            .get(server.url())
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap_err(),
    );
    assert!(matches!(error, Error::Status(_)));
    assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
    assert_eq!(breaker.snapshot().failed, 0, "404 is no failure of the server");

    let error = client.get("no url").send().await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid(inner) if inner.is_builder()),
        "{error:?}"
    );
    assert_eq!(breaker.snapshot().calls, 1, "it was not sent");

    let error = bounded(client.get(nobody().await).send()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Transport(inner) if inner.is_connect()),
        "{error:?}"
    );
    assert!(error.as_rejected().is_none() && error.into_reqwest().is_some());

    breaker.force_open();
    let error = client.get(server.url()).send().await.unwrap_err();
    assert!(
        matches!(&error, Error::Rejected(rejected) if rejected.policy() == "web"),
        "{error:?}"
    );
    assert_eq!(find_rejected(&error).unwrap().kind(), RejectedKind::CircuitOpen);
    assert_eq!(server.calls(), 1);
}

// What is retried

#[tokio::test]
async fn a_get_is_sent_again_and_its_response_says_how_often() {
    let server = Server::with_statuses(&[503, 502]).await;
    let response = bounded(retrying().get(server.url()).send()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.extensions().get(), Some(&AttemptsMade(3)));
    assert_eq!(response.text().await.unwrap(), "answer 2");
}

#[tokio::test]
async fn a_post_is_sent_once_unless_it_says_that_it_may_be_sent_again() {
    let server = Server::with_statuses(&[503; 9]).await;
    let client = retrying();
    let post = || client.post(server.url()).body("x");
    assert_eq!(bounded(post().send()).await.unwrap().status(), 503);
    assert_eq!(server.calls(), 1);
    bounded(post().header("idempotency-key", "7").send())
        .await
        .unwrap();
    assert_eq!(server.calls(), 4);
    bounded(post().idempotent().send()).await.unwrap();
    assert_eq!(server.calls(), 7);
    assert!(server.seen().iter().all(|seen| &*seen.body == b"x"));
}

#[tokio::test]
async fn a_get_that_is_not_to_be_retried_is_sent_once() {
    let server = Server::with_statuses(&[503; 9]).await;
    bounded(retrying().get(server.url()).no_retry().send())
        .await
        .unwrap();
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_connection_that_was_never_made_is_tried_again_whatever_the_method_and_the_body() {
    let retry = retry();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    retry.observe(Arc::new(move |event: &Event| {
        if matches!(event.what, What::Retrying { .. }) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let client = Client::new(plain(), Stack::builder().retry(retry).build().unwrap());
    let url = nobody().await;
    bounded(client.post(&url).body("x").send()).await.unwrap_err();
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    bounded(client.post(&url).body(stream(1 << 20)).send())
        .await
        .unwrap_err();
    assert_eq!(
        tries.load(Ordering::SeqCst),
        4,
        "nothing of the stream was consumed"
    );
    bounded(client.post(&url).no_retry().send()).await.unwrap_err();
    assert_eq!(tries.load(Ordering::SeqCst), 4);
}

struct KnowsNoName(Arc<AtomicUsize>);

impl reqwest::dns::Resolve for KnowsNoName {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err("no such name".into()) })
    }
}

#[tokio::test]
async fn a_name_that_is_not_known_is_asked_for_again_whatever_the_method() {
    let asked = Arc::new(AtomicUsize::new(0));
    let resolver = Arc::new(KnowsNoName(Arc::clone(&asked)));
    let inner = reqwest::Client::builder()
        .no_proxy()
        .dns_resolver(resolver)
        .build()
        .unwrap();
    let client = Client::new(inner, Stack::builder().retry(retry()).build().unwrap());
    bounded(client.post("http://name.invalid/").body("x").send())
        .await
        .unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let server = Server::answering(|call| match call {
        0 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]),
        _ => (StatusCode::OK, [("x", "y")]),
    })
    .await;
    let began = Clock::tokio().now();
    assert_eq!(
        bounded(retrying().get(server.url()).send())
            .await
            .unwrap()
            .status(),
        200
    );
    let took = Clock::tokio().now().since(began);
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_retry_after_of_a_century_gives_up_at_once_where_it_cannot_fit() {
    let server =
        Server::answering(|_| (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "3155760000")])).await;
    let retry = RetryConfig::new()
        .max_hint(Duration::from_secs(3600))
        .max_elapsed(Duration::from_secs(60))
        .build("web")
        .unwrap();
    let client = Client::new(plain(), Stack::builder().retry(retry).build().unwrap());
    assert_eq!(
        bounded(client.get(server.url()).send()).await.unwrap().status(),
        503
    );
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_small_stream_is_sent_again_and_a_large_one_once() {
    let server = Server::with_statuses(&[503, 200, 503, 200]).await;
    let client = retrying();
    let small = bounded(client.put(server.url()).body(stream(1024)).send())
        .await
        .unwrap();
    assert_eq!(small.status(), 200);
    let seen = server.seen();
    assert_eq!((seen.len(), seen[0].body.len()), (2, 1024));
    assert_eq!(seen[0].body, seen[1].body);
    let large = bounded(client.put(server.url()).body(stream(10 << 20)).send())
        .await
        .unwrap();
    assert_eq!(large.status(), 503, "never an error for being large");
    assert_eq!((server.calls(), server.seen()[2].body.len()), (3, 10 << 20));
}

#[tokio::test]
async fn how_much_of_a_stream_is_kept_is_a_setting() {
    let server = Server::with_statuses(&[503, 200]).await;
    let stack = || Stack::builder().retry(retry()).build().unwrap();
    let client = Client::builder(plain())
        .stack(stack())
        .replay_up_to(1 << 20)
        .build()
        .unwrap();
    bounded(client.put(server.url()).body(stream(200_000)).send())
        .await
        .unwrap();
    assert_eq!((server.calls(), server.seen()[1].body.len()), (2, 200_000));
    let error = Client::builder(plain())
        .stack(stack())
        .replay_up_to(0)
        .build()
        .unwrap_err();
    assert_eq!(error.field(), "replay_bound");
}

#[tokio::test]
async fn a_body_in_memory_is_sent_again_whatever_its_size() {
    let server = Server::with_statuses(&[503, 200]).await;
    let body = vec![7_u8; 1 << 20];
    bounded(retrying().put(server.url()).body(body).send())
        .await
        .unwrap();
    assert_eq!((server.calls(), server.seen()[1].body.len()), (2, 1 << 20));
}

// Over HTTP/2; over TLS see `tests/tls`

fn http2() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    builder.http2_prior_knowledge().build().unwrap()
}

#[tokio::test]
async fn over_http2_too_a_get_is_sent_again_and_a_post_once() {
    let server = Server::with_statuses(&[503, 503, 200, 503]).await;
    let client = Client::new(http2(), Stack::builder().retry(retry()).build().unwrap());
    let got = bounded(client.get(server.url()).send()).await.unwrap();
    assert_eq!((got.status(), got.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(got.extensions().get(), Some(&AttemptsMade(3)));
    assert_eq!(bounded(got.text()).await.unwrap(), "answer 2");
    let posted = bounded(client.post(server.url()).body("7").send()).await.unwrap();
    assert_eq!(
        (posted.status(), server.calls()),
        (StatusCode::SERVICE_UNAVAILABLE, 4)
    );
}

#[tokio::test]
async fn over_http2_too_a_small_stream_is_sent_again_and_a_large_one_once_and_whole() {
    let server = Server::with_statuses(&[503, 200, 503, 200]).await;
    let client = Client::new(http2(), Stack::builder().retry(retry()).build().unwrap());
    for (length, status) in [(1024, 200), (10 << 20, 503)] {
        let sent = client.put(server.url()).body(stream(length)).send();
        assert_eq!(bounded(sent).await.unwrap().status(), status);
    }
    let lengths: Vec<_> = server.seen().iter().map(|seen| seen.body.len()).collect();
    assert_eq!(lengths, [1024, 1024, 10 << 20]);
}

#[tokio::test]
async fn over_http2_too_a_slot_is_taken_until_the_body_is_read_or_dropped() {
    let server = Server::with_statuses(&[]).await;
    let slots = bulkhead(1);
    let stack = Stack::builder().bulkhead(slots.clone()).build().unwrap();
    let client = Client::new(http2(), stack);
    for reads in [true, false, true] {
        let response = bounded(client.get(server.url()).send()).await.unwrap();
        assert_eq!(slots.snapshot().in_flight, 1);
        if reads {
            bounded(response.text()).await.unwrap();
        } else {
            drop(response);
        }
        assert_eq!(slots.snapshot().in_flight, 0);
    }
}

// How long a call lasts

#[tokio::test]
async fn a_slot_is_taken_until_the_body_is_read_or_dropped() {
    let server = Server::with_statuses(&[]).await;
    let bulkhead = bulkhead(1);
    let stack = || Stack::builder().bulkhead(bulkhead.clone()).build().unwrap();
    let client = Client::new(plain(), stack());
    let response = client.get(server.url()).send().await.unwrap();
    assert_eq!(
        kind(client.get(server.url()).send().await),
        RejectedKind::BulkheadFull
    );
    assert_eq!(response.text().await.unwrap(), "answer 0");
    assert_eq!(bulkhead.snapshot().in_flight, 0);
    let response = client.get(server.url()).send().await.unwrap();
    assert_eq!(bulkhead.snapshot().in_flight, 1);
    drop(response);
    assert_eq!(bulkhead.snapshot().in_flight, 0, "at once");

    let head = HttpExchange::client().hold_until(HoldUntil::Head);
    let client = Client::builder(plain())
        .stack(stack())
        .exchange(head)
        .build()
        .unwrap();
    let _response = client.get(server.url()).send().await.unwrap();
    assert_eq!(
        bulkhead.snapshot().in_flight,
        0,
        "where it is told to last to the head"
    );
}

#[tokio::test]
async fn a_request_that_is_dropped_frees_its_slot_at_once() {
    let (url, _) = peer(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let bulkhead = bulkhead(1);
    let client = Client::new(
        plain(),
        Stack::builder().bulkhead(bulkhead.clone()).build().unwrap(),
    );
    let sending = client.get(&url).send();
    timeout(SOON, sending).await.unwrap_err();
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failure() {
    let (url, _) = peer(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
        stream.write_all(head).await.unwrap();
    })
    .await;
    let breaker = breaker();
    let response = bounded(one(&breaker).get(&url).send()).await.unwrap();
    assert_eq!(breaker.snapshot().calls, 0, "the verdict is open");
    let error = Error::from(bounded(response.text()).await.unwrap_err());
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failed), (1, 1));
}

#[tokio::test]
async fn a_body_that_stands_still_is_cut_by_the_idle_limit() {
    let (url, _) = peer(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let breaker = breaker();
    let exchange = HttpExchange::client().idle_limit(SOON).unwrap();
    let guarded = Stack::builder().circuit_breaker(breaker.clone()).build().unwrap();
    let client = Client::builder(plain())
        .stack(guarded)
        .exchange(exchange)
        .build()
        .unwrap();
    let response = bounded(client.get(&url).send()).await.unwrap();
    let error = Error::from(bounded(response.text()).await.unwrap_err());
    assert_eq!(error.as_rejected().unwrap().kind(), RejectedKind::TimedOut);
    assert_eq!(breaker.snapshot().failed, 1);
}

#[tokio::test]
async fn a_dripping_body_is_cut_where_the_timeout_covers_it() {
    let (url, _) = peer(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut every = tokio::time::interval(SOON / 20);
        while stream.write_all(b".").await.is_ok() {
            every.tick().await;
        }
    })
    .await;
    let breaker = breaker();
    let stack = Stack::builder()
        .circuit_breaker(breaker.clone())
        .timeout(limit(SOON))
        .build()
        .unwrap();
    let client = Client::builder(plain())
        .stack(stack)
        .exchange(HttpExchange::client().timeouts_cover_body(true))
        .build()
        .unwrap();
    let response = bounded(client.get(&url).send()).await.unwrap();
    let error = Error::from(bounded(response.text()).await.unwrap_err());
    assert_eq!(error.as_rejected().unwrap().kind(), RejectedKind::TimedOut);
    assert_eq!(breaker.snapshot().failed, 1);
}

#[tokio::test]
async fn a_head_request_and_an_upgrade_end_their_calls_with_the_head() {
    let (url, _) = peer(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.unwrap();
        stream.write_all(&four).await.unwrap();
    })
    .await;
    let server = Server::with_statuses(&[]).await;
    let slots = bulkhead(1);
    let idle = HttpExchange::client().idle_limit(BOUND).unwrap();
    for exchange in [HttpExchange::client(), idle] {
        let stack = Stack::builder()
            .retry(retry())
            .bulkhead(slots.clone())
            .build()
            .unwrap();
        let client = Client::builder(plain())
            .stack(stack)
            .exchange(exchange)
            .build()
            .unwrap();
        let response = bounded(client.head(server.url()).send()).await.unwrap();
        assert_eq!(response.headers()["content-length"], "8");
        assert_eq!(slots.snapshot().in_flight, 0);

        let request = client
            .get(&url)
            .header("connection", "upgrade")
            .header("upgrade", "echo");
        let response = bounded(request.send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(
            slots.snapshot().in_flight,
            0,
            "the call is over, the connection is not"
        );
        let mut io = bounded(response.upgrade()).await.unwrap();
        io.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        bounded(io.read_exact(&mut echo)).await.unwrap();
        assert_eq!(&echo, b"ping");
    }
}

// Misbehaving peers

#[tokio::test]
async fn a_peer_that_never_answers_is_cut_off_by_the_timeout_of_the_stack_or_of_the_request() {
    let (url, _) = peer(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let breaker = breaker();
    let stack = Stack::builder()
        .circuit_breaker(breaker.clone())
        .timeout(limit(SOON))
        .build()
        .unwrap();
    let client = Client::new(plain(), stack);
    assert_eq!(
        kind(bounded(client.get(&url).send()).await),
        RejectedKind::TimedOut
    );
    assert_eq!(breaker.snapshot().failed, 1);

    let patient = Client::new(
        plain(),
        Stack::builder().timeout(limit(BOUND * 10)).build().unwrap(),
    );
    assert_eq!(
        kind(bounded(patient.get(&url).timeout(SOON).send()).await),
        RejectedKind::TimedOut
    );
    let named = patient.get(&url).timeout_of("web", SOON).send();
    assert_eq!(kind(bounded(named).await), RejectedKind::TimedOut);
    let other = patient.get(&url).timeout_of("other", Duration::ZERO).send();
    timeout(SOON, other).await.unwrap_err();

    // Where no timeout is in the stack, it is reqwest's own.
    let error = bounded(one(&breaker).get(&url).timeout(SOON).send())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Transport(inner) if inner.is_timeout()),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_peer_that_closes_early_resets_or_answers_garbage_is_a_failure_and_tried_again() {
    let closes = peer(|mut stream| async move { read_head(&mut stream).await }).await;
    let resets = peer(|stream| async move {
        // What was not read makes the closing a reset.
        stream.readable().await.unwrap();
        drop(stream);
    })
    .await;
    let garbage = peer(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"\x00\x01 this is not HTTP\r\n\r\n").await;
    })
    .await;
    for (url, connections) in [closes, resets, garbage] {
        let breaker = CircuitBreakerConfig::new().build("web").unwrap();
        let stack = Stack::builder()
            .retry(retry())
            .circuit_breaker(breaker.clone())
            .build()
            .unwrap();
        let client = Client::new(plain(), stack);
        let error = bounded(client.get(&url).send()).await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.calls, snapshot.failed), (3, 3), "{error:?}");
        assert_eq!(connections.load(Ordering::SeqCst), 3);
        bounded(client.post(&url).body("x").send()).await.unwrap_err();
        assert_eq!(
            connections.load(Ordering::SeqCst),
            4,
            "a POST may have arrived: {error:?}"
        );
    }
}

// Which stack

fn per_authority(each: Stack) -> Client {
    Client::builder(plain())
        .stack_per_authority(each, KeyedConfig::new())
        .build()
        .unwrap()
}

fn keyed_stack() -> Stack {
    Stack::builder()
        .circuit_breaker(breaker())
        .timeout(limit(BOUND))
        .bulkhead(bulkhead(1))
        .build()
        .map(Stack::cloned)
        .unwrap()
}

#[tokio::test]
async fn a_host_that_is_down_opens_its_own_breaker_and_no_other() {
    let (down, well) = (
        Server::with_statuses(&[500; 9]).await,
        Server::with_statuses(&[]).await,
    );
    let client = per_authority(keyed_stack());
    for _ in 0..2 {
        assert_eq!(
            client
                .get(down.url())
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
                .len(),
            8
        );
    }
    let error = client
        .get(format!("{}other/path", down.url()))
        .send()
        .await
        .unwrap_err();
    let rejected = error.as_rejected().unwrap();
    assert_eq!(rejected.kind(), RejectedKind::CircuitOpen);
    assert_eq!(rejected.policy(), format!("web[{}]", down.key()));
    assert_eq!(down.calls(), 2);
    assert_eq!(client.get(well.url()).send().await.unwrap().status(), 200);
    assert_eq!(client.keyed().unwrap().snapshot().keys, 2);
}

#[tokio::test]
async fn the_keyed_stack_of_a_registry_guards_each_authority_and_follows_the_settings() {
    let web = |limit| {
        Settings::new().stack(
            "web",
            StackConfig::new()
                .stage("bulkhead", BulkheadConfig::new(limit))
                .keyed("authority", KeyedConfig::new()),
        )
    };
    let registry = Registry::builder().build(web(1)).unwrap();
    let client = Client::builder(plain())
        .keyed_stack(&registry.keyed_stack("web").unwrap())
        .build()
        .unwrap();
    let (one, other) = (Server::with_statuses(&[]).await, Server::with_statuses(&[]).await);
    let held = client.get(one.url()).send().await.unwrap();
    let refused = client.get(one.url()).send().await.unwrap_err();
    let authority = one.url().trim_end_matches('/').to_owned();
    assert_eq!(
        find_rejected(&refused).unwrap().policy(),
        format!("web/bulkhead[{authority}]")
    );
    assert_eq!(client.get(other.url()).send().await.unwrap().status(), 200);
    registry.apply(web(2)).unwrap();
    assert_eq!(client.get(one.url()).send().await.unwrap().status(), 200);
    drop(held);
}

#[tokio::test]
async fn two_names_of_one_machine_have_a_breaker_each() {
    let server = Server::with_statuses(&[500, 500]).await;
    let inner = reqwest::Client::builder()
        .no_proxy()
        .resolve("one.test", server.address)
        .resolve("two.test", server.address)
        .build()
        .unwrap();
    let client = Client::builder(inner)
        .stack_per_authority(keyed_stack(), KeyedConfig::new())
        .build()
        .unwrap();
    let get = async |host: &str| {
        let url = format!("http://{host}:{}/", server.address.port());
        bounded(client.get(url).send()).await
    };
    for _ in 0..2 {
        bounded(get("one.test").await.unwrap().text()).await.unwrap();
    }
    assert_eq!(kind(get("ONE.test").await), RejectedKind::CircuitOpen);
    assert_eq!(get("two.test").await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_bulkhead_is_one_for_each_host() {
    let (one, two) = (Server::with_statuses(&[]).await, Server::with_statuses(&[]).await);
    let client = per_authority(keyed_stack());
    let held = client.get(one.url()).send().await.unwrap();
    assert_eq!(
        kind(client.get(one.url()).send().await),
        RejectedKind::BulkheadFull
    );
    assert_eq!(client.get(two.url()).send().await.unwrap().status(), 200);
    drop(held);
    assert_eq!(client.get(one.url()).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_host_with_a_response_that_is_being_read_is_not_forgotten() {
    let server = Server::with_statuses(&[]).await;
    let client = Client::builder(plain())
        .stack_per_authority(keyed_stack(), KeyedConfig::new().idle(Duration::from_millis(1)))
        .build()
        .unwrap();
    let response = client.get(server.url()).send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(client.keyed().unwrap().sweep(), 0);
    assert_eq!(
        kind(client.get(server.url()).send().await),
        RejectedKind::BulkheadFull
    );
    response.text().await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(client.keyed().unwrap().sweep(), 1);
}

#[tokio::test]
async fn a_request_may_choose_its_key_its_stack_and_the_limit_of_a_keyed_timeout() {
    let server = Server::with_statuses(&[]).await;
    let client = per_authority(keyed_stack());
    let held = client.get(server.url()).key("tenant").send().await.unwrap();
    let refused = client.get(server.url()).key("tenant").send().await.unwrap_err();
    assert_eq!(refused.as_rejected().unwrap().policy(), "web[tenant]");
    assert_eq!(client.get(server.url()).send().await.unwrap().status(), 200);
    drop(held);

    let closed = BulkheadConfig::new(1).build("closed").unwrap();
    let _slot = closed.try_acquire().unwrap();
    let other = Stack::builder().bulkhead(closed.clone()).build().unwrap();
    let refused = client.get(server.url()).stack(&other).send().await.unwrap_err();
    assert_eq!(refused.as_rejected().unwrap().policy(), "closed");

    let (silent, _) = peer(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let cut = timeout(BOUND / 4, client.get(&silent).timeout_of("web", SOON).send());
    assert_eq!(
        kind(cut.await.expect("its own limit is far longer")),
        RejectedKind::TimedOut
    );
}

#[tokio::test]
async fn settings_of_the_keys_are_checked() {
    let error = Client::builder(plain())
        .stack_per_authority(keyed_stack(), KeyedConfig::new().max_keys(0))
        .build()
        .unwrap_err();
    assert_eq!(error.field(), "max_keys");
}

// The plain client as a Tower service

#[tokio::test]
async fn the_plain_client_stands_under_layers_with_the_adapter() {
    let server = Server::with_statuses(&[503, 200, 503]).await;
    let breaker = CircuitBreakerConfig::new().build("web").unwrap();
    let service = ServiceBuilder::new()
        .layer(
            RetryLayer::new(retry())
                .copy_by(reqwest::Request::try_clone)
                .exchange(ReqwestExchange::new()),
        )
        .layer(CircuitBreakerLayer::new(breaker.clone()).exchange(ReqwestExchange::new()))
        .layer(AdaptLayer::new())
        .service(plain());
    let get = reqwest::Request::new(Method::GET, server.url().parse().unwrap());
    let response = bounded(service.clone().oneshot(get)).await.unwrap();
    assert_eq!(
        (response.status(), response.url().as_str()),
        (StatusCode::OK, &*server.url())
    );
    assert_eq!(response.text().await.unwrap(), "answer 1");
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failed), (2, 1));
    let post = reqwest::Request::new(Method::POST, server.url().parse().unwrap());
    assert_eq!(bounded(service.oneshot(post)).await.unwrap().status(), 503);
    assert_eq!(server.calls(), 3, "a POST is sent once");
}

#[tokio::test]
async fn the_plain_client_stands_under_a_stack() {
    let server = Server::with_statuses(&[503]).await;
    let bulkhead = bulkhead(1);
    let stack = Stack::builder()
        .retry(retry())
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let mut service = ServiceBuilder::new()
        .layer(
            stack
                .copy_by(reqwest::Request::try_clone)
                .exchange(ReqwestExchange::new()),
        )
        .layer(AdaptLayer::new())
        .service(plain());
    let get = reqwest::Request::new(Method::GET, server.url().parse().unwrap());
    let ready = ServiceExt::<reqwest::Request>::ready(&mut service).await.unwrap();
    let response = bounded(ready.call(get)).await.unwrap();
    assert_eq!(
        (response.status(), bulkhead.snapshot().in_flight),
        (StatusCode::OK, 1)
    );
    response.text().await.unwrap();
    assert_eq!((server.calls(), bulkhead.snapshot().in_flight), (2, 0));
}

#[tokio::test]
async fn the_plain_client_stands_under_keyed_layers() {
    let (down, well) = (
        Server::with_statuses(&[500; 9]).await,
        Server::with_statuses(&[]).await,
    );
    let breakers = KeyedConfig::new().build(breaker()).unwrap();
    let service = ServiceBuilder::new()
        .layer(KeyedLayer::by(breakers.clone(), PerAuthority).exchange(ReqwestExchange::new()))
        .layer(AdaptLayer::new())
        .service(plain());
    let get = |server: &Server| reqwest::Request::new(Method::GET, server.url().parse().unwrap());
    for _ in 0..2 {
        bounded(service.clone().oneshot(get(&down)))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }
    assert_eq!(breakers.peek(&down.key()).unwrap().state(), State::Open);
    bounded(service.clone().oneshot(get(&down))).await.unwrap_err();
    assert_eq!(bounded(service.oneshot(get(&well))).await.unwrap().status(), 200);
    assert_eq!((down.calls(), well.calls()), (2, 1));

    let by_path =
        KeyedLayer::circuit_breaker(breakers.clone(), |request: &reqwest::Request| -> Cow<'_, str> {
            request.url().path().into()
        });
    let service = ServiceBuilder::new()
        .layer(by_path)
        .layer(AdaptLayer::new())
        .service(plain());
    service.oneshot(get(&well)).await.unwrap();
    assert!(breakers.peek("/").is_some());
}

// Spans

#[cfg(feature = "tracing")]
mod spans {
    use std::collections::BTreeMap;

    use tracing::{
        Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
    };
    use tracing_subscriber::{Layer, layer::Context, prelude::*};

    use super::*;

    type Fields = BTreeMap<String, String>;

    /// Keeps the fields of spans, in the order in which they began.
    #[derive(Clone, Default)]
    struct Spans(Arc<Mutex<Vec<Began>>>);

    type Began = (Id, &'static str, Fields);

    struct Into<'a>(&'a mut Fields);

    impl Visit for Into<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            let text = format!("{value:?}");
            self.0
                .insert(field.name().to_owned(), text.trim_matches('"').to_owned());
        }
    }

    impl<S: Subscriber> Layer<S> for Spans {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
            let mut fields = Fields::new();
            attributes.record(&mut Into(&mut fields));
            self.0
                .lock()
                .unwrap()
                .push((id.clone(), attributes.metadata().name(), fields));
        }

        fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
            let mut spans = self.0.lock().unwrap();
            if let Some((_, _, fields)) = spans.iter_mut().rev().find(|(span, ..)| span == id) {
                record.record(&mut Into(fields));
            }
        }
    }

    #[tokio::test]
    async fn each_attempt_is_a_span_with_its_number() {
        let server = Server::with_statuses(&[503]).await;
        let spans = Spans::default();
        let _guard = tracing_subscriber::registry().with(spans.clone()).set_default();
        bounded(retrying().get(format!("{}secret?token=1", server.url())).send())
            .await
            .unwrap();
        bounded(retrying().get(nobody().await).no_retry().send())
            .await
            .unwrap_err();
        let attempts: Vec<Fields> = {
            let all = spans.0.lock().unwrap();
            all.iter()
                .filter(|span| span.1 == "HTTP attempt")
                .map(|span| span.2.clone())
                .collect()
        };
        let field = |name: &str| -> Vec<&str> {
            attempts
                .iter()
                .map(|fields| fields.get(name).map_or("", String::as_str))
                .collect()
        };
        assert_eq!(field("http.request.resend_count"), ["0", "1", "0"]);
        assert_eq!(field("http.response.status_code"), ["503", "200", ""]);
        assert_eq!(field("http.request.method"), ["GET", "GET", "GET"]);
        assert_eq!(field("server.port")[0], server.address.port().to_string());
        assert_eq!(field("error.type"), ["", "", "connect"]);
        assert!(
            !format!("{attempts:?}").contains("secret"),
            "neither path nor query"
        );
    }
}

// What an application takes with it

#[test]
fn reqwest_is_taken_without_any_of_its_features() {
    let manifest = include_str!("../Cargo.toml");
    let own = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let own = own.split("\n[").next().unwrap();
    let taken = own.lines().find(|line| line.starts_with("reqwest =")).unwrap();
    assert!(taken.contains("default-features = false"), "{taken}");
    assert!(!taken.contains(" features ="), "{taken}");
}

#[test]
fn the_example_is_saved_by_retries_and_refused_by_the_breaker_of_the_host_that_is_down() {
    let ran = example::example("reqwest_client").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("well, at attempt 3"), "{said}");
    assert!(said.contains("503 Service Unavailable"), "{said}");
    assert!(said.contains("refused the call"), "{said}");
    assert!(said.lines().last().unwrap().ends_with("200 OK"), "{said}");
}

// What cannot be reached otherwise

#[tokio::test]
async fn a_client_is_cheap_to_clone_and_shares_its_policies() {
    let server = Server::with_statuses(&[500, 500]).await;
    let client = one(&breaker());
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let request = client.clone().get(server.url());
            tokio::spawn(async move { request.send().await.unwrap().text().await.unwrap() })
        })
        .collect();
    for task in tasks {
        bounded(task).await.unwrap();
    }
    assert_eq!(
        kind(client.get(server.url()).send().await),
        RejectedKind::CircuitOpen
    );
    let observer: Arc<dyn Observer> = Arc::new(|_: &Event| ());
    per_authority(keyed_stack()).keyed().unwrap().observe(&observer);
    assert_eq!(
        client.get_ref().get(server.url()).send().await.unwrap().status(),
        200,
        "the one inside is not guarded"
    );
    let bare = Client::builder(plain()).build().unwrap();
    assert_eq!(
        bare.get(server.url()).send().await.unwrap().status(),
        200,
        "without a stack there are no policies"
    );
}
