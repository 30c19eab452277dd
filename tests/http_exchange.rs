//! What HTTP requests and responses mean to the policies, on a paused clock and without a socket.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long it took")]
#![allow(clippy::unnecessary_wraps, reason = "what a service gives is a result")]

use std::{
    future::{pending, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use buttress::{
    Backoff, BoxError, Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitBreakerLayer,
    Jitter, KeyedConfig, KeyedLayer, Predicate, RejectedKind, Retry, RetryConfig, RetryLayer, Rules, Stack,
    StatusSet, Timeout, TimeoutConfig, TimeoutLayer, Verdict, find_rejected,
    http::{
        AttemptsMade, CallLimit, HoldUntil, HttpExchange, PerAuthority, ReplayBodies, ReplayBody, Resend,
    },
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, channel::Channel};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

type Answer = Result<Response<Full<Bytes>>, BoxError>;

const BACKOFF: Duration = Duration::from_millis(100);

fn full(text: impl Into<Bytes>) -> Full<Bytes> {
    Full::new(text.into())
}

fn retry() -> Retry {
    retry_with(|config| config)
}

fn retry_with(set: impl FnOnce(RetryConfig) -> RetryConfig) -> Retry {
    let config = RetryConfig::new()
        .max_attempts(3)
        .backoff(Backoff::fixed(BACKOFF))
        .jitter(Jitter::None)
        .no_budget();
    set(config).build("upstream").unwrap()
}

fn breaker() -> CircuitBreaker {
    CircuitBreakerConfig::new().build("upstream").unwrap()
}

fn answer(status: u16) -> Answer {
    Ok(Response::builder().status(status).body(full("body")).unwrap())
}

fn request(method: &str) -> http::request::Builder {
    Request::builder().method(method).uri("/x")
}

/// Sends one request through a retry whose service gives these answers in turn, the last one again and again. Gives
/// what came of it, how often it was sent, and how long that took.
async fn sent(
    retry: Retry,
    exchange: HttpExchange,
    request: Request<Full<Bytes>>,
    answers: impl Fn(u32) -> Answer + Clone + Send + 'static,
) -> (
    Result<Response<impl Body<Data = Bytes, Error = BoxError>>, BoxError>,
    u32,
    Duration,
) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let began = Instant::now();
    let result = RetryLayer::new(retry)
        .prepare(ReplayBodies::new())
        .exchange(exchange)
        .layer(service_fn(move |_| {
            let answer = answers(counted.fetch_add(1, Ordering::Relaxed));
            async move { answer }
        }))
        .oneshot(request)
        .await;
    (result, count.load(Ordering::Relaxed), began.elapsed())
}

async fn times_sent(exchange: HttpExchange, request: Request<Full<Bytes>>, status: u16) -> u32 {
    sent(retry(), exchange, request, move |_| answer(status)).await.1
}

#[tokio::test(start_paused = true)]
async fn a_breaker_counts_5xx_but_501_and_429_as_failures_and_other_4xx_as_successes() {
    for (status, failure) in [
        (200, false),
        (204, false),
        (302, false),
        (400, false),
        (401, false),
        (404, false),
        (408, false),
        (425, false),
        (429, true),
        (500, true),
        (501, false),
        (502, true),
        (503, true),
        (504, true),
        (507, true),
    ] {
        for exchange in [HttpExchange::client(), HttpExchange::server()] {
            let breaker = breaker();
            let response = CircuitBreakerLayer::new(breaker.clone())
                .exchange(exchange)
                .layer(service_fn(async |_| answer(status)))
                .oneshot(request("GET").body(()).unwrap())
                .await
                .unwrap();
            response.into_body().collect().await.unwrap();
            let snapshot = breaker.snapshot();
            assert_eq!(
                (snapshot.calls, snapshot.failed),
                (1, u64::from(failure)),
                "{status}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_sent_twice_is_retried() {
    let client = HttpExchange::client;
    for (method, times) in [
        ("GET", 3),
        ("HEAD", 3),
        ("OPTIONS", 3),
        ("TRACE", 3),
        ("PUT", 3),
        ("DELETE", 3),
        ("POST", 1),
        ("PATCH", 1),
        ("CONNECT", 1),
        ("PURGE", 1),
    ] {
        let plain = request(method).body(Full::default()).unwrap();
        assert_eq!(times_sent(client(), plain, 503).await, times, "{method}");
    }
    let keyed = request("POST").header("Idempotency-Key", "8e03978e");
    assert_eq!(
        times_sent(client(), keyed.body(Full::default()).unwrap(), 503).await,
        3
    );
    let empty_key = request("POST").header("Idempotency-Key", "");
    assert_eq!(
        times_sent(client(), empty_key.body(Full::default()).unwrap(), 503).await,
        1
    );
    let marked = request("POST").extension(Resend::Safe);
    assert_eq!(
        times_sent(client(), marked.body(Full::default()).unwrap(), 503).await,
        3
    );
    let never = request("GET").extension(Resend::Never);
    assert_eq!(
        times_sent(client(), never.body(Full::default()).unwrap(), 503).await,
        1
    );
    let by_path = client().resend_if(|request| request.path == "/x");
    let post = request("POST").body(Full::default()).unwrap();
    assert_eq!(times_sent(by_path.clone(), post, 503).await, 3);
    let never = request("POST").extension(Resend::Never);
    assert_eq!(
        times_sent(by_path, never.body(Full::default()).unwrap(), 503).await,
        1
    );
}

#[tokio::test(start_paused = true)]
async fn the_statuses_that_will_pass_are_retried_and_plain_500_on_request() {
    let get = || request("GET").body(Full::default()).unwrap();
    for (status, times) in [
        (200, 1),
        (404, 1),
        (408, 3),
        (425, 3),
        (429, 3),
        (500, 1),
        (501, 1),
        (502, 3),
        (503, 3),
        (504, 3),
    ] {
        assert_eq!(
            times_sent(HttpExchange::client(), get(), status).await,
            times,
            "{status}"
        );
    }
    let with_500 = HttpExchange::client().retry_statuses("500, 503".parse().unwrap());
    assert_eq!(times_sent(with_500.clone(), get(), 500).await, 3);
    assert_eq!(times_sent(with_500.clone(), get(), 502).await, 1);
    let post = request("POST").body(Full::default()).unwrap();
    assert_eq!(times_sent(with_500, post, 500).await, 1);
}

#[tokio::test(start_paused = true)]
async fn sets_closures_and_rules_override_what_counts() {
    let failed = async |exchange: HttpExchange, rules: Option<Predicate>, status: u16| {
        let breaker = breaker();
        let mut layer = CircuitBreakerLayer::new(breaker.clone()).exchange(exchange);
        if let Some(ignored) = rules {
            layer = layer.ignore(ignored);
        }
        let service = layer.layer(service_fn(async |_| answer(status)));
        let response = service.oneshot(request("GET").body(()).unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
        let snapshot = breaker.snapshot();
        (snapshot.calls, snapshot.failed)
    };
    let set = |text: &str| text.parse::<StatusSet>().unwrap();
    for new in [HttpExchange::client, HttpExchange::server] {
        let own = new().failure_statuses(set("404, 5xx"));
        assert_eq!(failed(own.clone(), None, 404).await, (1, 1));
        assert_eq!(failed(own.clone(), None, 501).await, (1, 1));
        assert_eq!(failed(own, None, 429).await, (1, 0));
        let judged = new().judge_by(|_, head| (head.status == 200).then_some(Verdict::Failure));
        assert_eq!(failed(judged.clone(), None, 200).await, (1, 1));
        assert_eq!(failed(judged, None, 404).await, (1, 0));
        // The rules of a layer hold at the end of the body too.
        let ignored = Predicate::status_in(set("502..504"));
        assert_eq!(failed(new(), Some(ignored.clone()), 503).await, (0, 0));
        assert_eq!(failed(new(), Some(ignored), 500).await, (1, 1));
    }
    let get = || request("GET").body(Full::default()).unwrap();
    let teapots = HttpExchange::client().retry_by(|_, head| match head.status.as_u16() {
        418 => Some(true),
        503 => Some(false),
        _ => None,
    });
    assert_eq!(times_sent(teapots.clone(), get(), 418).await, 3);
    assert_eq!(times_sent(teapots.clone(), get(), 503).await, 1);
    assert_eq!(times_sent(teapots, get(), 502).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_never_made_is_retried_whatever_the_method_and_a_broken_one_is_not() {
    let times = async |kind: io::ErrorKind, request: Request<Full<Bytes>>| {
        let answers = move |_| Err(BoxError::from(io::Error::from(kind)));
        sent(retry(), HttpExchange::client(), request, answers).await.1
    };
    let post = || request("POST").body(full("x")).unwrap();
    assert_eq!(times(io::ErrorKind::ConnectionRefused, post()).await, 3);
    assert_eq!(times(io::ErrorKind::ConnectionReset, post()).await, 1);
    assert_eq!(times(io::ErrorKind::BrokenPipe, post()).await, 1);
    let get = request("GET").body(Full::default()).unwrap();
    assert_eq!(times(io::ErrorKind::ConnectionReset, get).await, 3);
    let never = request("POST")
        .extension(Resend::Never)
        .body(Full::default())
        .unwrap();
    assert_eq!(times(io::ErrorKind::ConnectionRefused, never).await, 1);
    let known = HttpExchange::client().never_connected(Predicate::error_if(|error: &io::Error| {
        error.kind() == io::ErrorKind::HostUnreachable
    }));
    let answers = |_| Err(BoxError::from(io::Error::from(io::ErrorKind::HostUnreachable)));
    assert_eq!(sent(retry(), known, post(), answers).await.1, 3);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_may_have_reached_the_service_so_a_post_is_not_sent_again() {
    for (method, times) in [("POST", 1), ("GET", 3)] {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let timeout = TimeoutConfig::new(Duration::from_secs(1)).build("t").unwrap();
        let error = ServiceBuilder::new()
            .layer(
                RetryLayer::new(retry())
                    .prepare(ReplayBodies::new())
                    .exchange(HttpExchange::client()),
            )
            .layer(TimeoutLayer::new(timeout).exchange(HttpExchange::client()))
            .service(service_fn(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<Answer>()
            }))
            .oneshot(request(method).body(Full::<Bytes>::default()).unwrap())
            .await
            .unwrap_err();
        assert_eq!(find_rejected(&*error).unwrap().kind(), RejectedKind::TimedOut);
        assert_eq!(count.load(Ordering::Relaxed), times, "{method}");
    }
}

/// How long the retry waited for a second attempt, or `None` when it made none.
async fn waited(retry: Retry, status: u16, headers: &[(&'static str, &str)]) -> Option<Duration> {
    let mut first = Response::builder().status(status);
    for (name, value) in headers {
        first = first.header(*name, *value);
    }
    let first = first.body(Full::default()).unwrap();
    let get = request("GET").body(Full::default()).unwrap();
    let (result, times, waited) = sent(retry, HttpExchange::client(), get, move |attempt| match attempt {
        0 => Ok(first.clone()),
        _ => answer(200),
    })
    .await;
    assert_eq!(
        result.unwrap().status().as_u16(),
        if times == 1 { status } else { 200 }
    );
    (times > 1).then_some(waited)
}

/// Timers fire on whole milliseconds.
fn about(expected: Duration) -> impl Fn(Option<Duration>) -> bool {
    move |waited| waited.is_some_and(|waited| waited.abs_diff(expected) <= Duration::from_millis(2))
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_waited_for_in_both_its_forms() {
    let seconds = waited(retry(), 503, &[("retry-after", "1")]).await;
    assert!(about(Duration::from_secs(1))(seconds), "{seconds:?}");
    let date = waited(
        retry(),
        429,
        &[
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT"),
        ],
    )
    .await;
    assert!(about(Duration::from_secs(3))(date), "{date:?}");
    let past = waited(retry(), 503, &[("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")]).await;
    assert!(about(Duration::ZERO)(past), "{past:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_cut_to_its_setting_and_given_up_where_it_does_not_fit() {
    for century in [
        "3153600000",
        "99999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ] {
        let header = [("retry-after", century)];
        let cut = retry_with(|config| config.max_hint(Duration::from_secs(20)));
        let waited_for = waited(cut, 503, &header).await;
        assert!(
            about(Duration::from_secs(20))(waited_for),
            "{century}: {waited_for:?}"
        );
        let short = retry_with(|config| config.max_elapsed(Duration::from_secs(5)));
        let began = Instant::now();
        assert_eq!(waited(short, 503, &header).await, None, "{century}");
        assert_eq!(began.elapsed(), Duration::ZERO, "it gives up at once");
    }
    let fits = retry_with(|config| config.max_elapsed(Duration::from_secs(5)));
    assert!(waited(fits, 503, &[("retry-after", "4")]).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_that_a_timeout_around_would_cut_off_gives_up_at_once() {
    for (answers_after, hint, attempts) in [(0, "2", 1), (0, "1", 2), (1500, "1", 1), (400, "1", 2)] {
        let timeout = TimeoutConfig::new(Duration::from_secs(2)).build("total").unwrap();
        let stack = Stack::builder().timeout(timeout).retry(retry()).build().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let service = stack
            .prepare(ReplayBodies::new())
            .exchange(HttpExchange::client())
            .layer(service_fn(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                async move {
                    tokio::time::sleep(Duration::from_millis(answers_after)).await;
                    let response = Response::builder().status(503).header("retry-after", hint);
                    Ok::<_, BoxError>(response.body(Full::<Bytes>::default()).unwrap())
                }
            }));
        let began = Instant::now();
        let get = request("GET").body(Full::<Bytes>::default()).unwrap();
        let status = service.oneshot(get).await.map(|response| response.status());
        let shown = format!("{answers_after} {hint} {:?}", began.elapsed());
        assert_eq!(status.unwrap(), 503, "{shown}");
        assert_eq!(count.load(Ordering::Relaxed), attempts, "{shown}");
    }
}

/// Answers 503 with that `Retry-After` after so many milliseconds, and counts.
fn asks_to_wait(
    hint: &'static str,
    answers_after: u64,
    count: &Arc<AtomicU32>,
) -> impl Service<
    Request<ReplayBody<Full<Bytes>>>,
    Response = Response<Full<Bytes>>,
    Error = BoxError,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let count = Arc::clone(count);
    service_fn(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            if answers_after > 0 {
                tokio::time::sleep(Duration::from_millis(answers_after)).await;
            } else {
                tokio::task::yield_now().await;
            }
            let response = Response::builder().status(503).header("retry-after", hint);
            Ok::<_, BoxError>(response.body(Full::<Bytes>::default()).unwrap())
        }
    })
}

fn timeout_of(limit: u64) -> Timeout {
    TimeoutConfig::new(Duration::from_millis(limit))
        .build("total")
        .unwrap()
}

/// Milliseconds until the service answers, `Retry-After`, and the attempts that a timeout of 2 s around leaves time for.
const TIMELY: [(u64, &str, u32); 4] = [(0, "2", 1), (0, "1", 2), (1500, "1", 1), (400, "1", 2)];

#[tokio::test(start_paused = true)]
async fn a_retry_after_that_a_layer_of_a_timeout_around_would_cut_off_gives_up_at_once() {
    for (answers_after, hint, attempts) in TIMELY {
        let count = Arc::new(AtomicU32::new(0));
        let retrying = ServiceBuilder::new()
            .layer(CircuitBreakerLayer::new(breaker()))
            .layer(
                RetryLayer::new(retry())
                    .prepare(ReplayBodies::new())
                    .exchange(HttpExchange::client()),
            )
            .layer(TimeoutLayer::new(timeout_of(10_000)))
            .service(asks_to_wait(hint, answers_after, &count));
        let limited = ServiceBuilder::new()
            .layer(TimeoutLayer::new(timeout_of(10_000)))
            .layer(TimeoutLayer::new(timeout_of(2_000)))
            .service(retrying.clone());
        let limited_by_key = ServiceBuilder::new()
            .layer(KeyedLayer::by(
                KeyedConfig::new().build(timeout_of(2_000)).unwrap(),
                PerAuthority,
            ))
            .layer(TimeoutLayer::new(timeout_of(10_000)))
            .service(retrying);
        for service in [
            BoxCloneSyncService::new(limited),
            BoxCloneSyncService::new(limited_by_key),
        ] {
            let get = request("GET").body(Full::<Bytes>::default()).unwrap();
            let status = service.oneshot(get).await.map(|response| response.status());
            assert_eq!(status.unwrap(), 503, "{answers_after} {hint}");
            assert_eq!(
                count.swap(0, Ordering::Relaxed),
                attempts,
                "{answers_after} {hint}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_in_a_call_within_a_call_knows_the_limit_of_the_outer_one() {
    for (answers_after, hint, attempts) in TIMELY {
        let outer = Stack::builder()
            .bulkhead(BulkheadConfig::new(1).build("outer").unwrap())
            .timeout(timeout_of(2_000))
            .build()
            .unwrap();
        let inner = Stack::builder()
            .timeout(timeout_of(10_000))
            .retry(retry())
            .build()
            .unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let service = inner
            .prepare(ReplayBodies::new())
            .exchange(HttpExchange::client())
            .layer(asks_to_wait(hint, answers_after, &count));
        let call = async || {
            let get = request("GET").body(Full::<Bytes>::default()).unwrap();
            service
                .clone()
                .oneshot(get)
                .await
                .map(|response| response.status())
        };
        let status = outer.run_flat(call).await;
        assert_eq!(status.unwrap(), 503, "{answers_after} {hint}");
        assert_eq!(count.load(Ordering::Relaxed), attempts, "{answers_after} {hint}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_in_force_for_what_it_guards_and_for_nothing_else() {
    let count = Arc::new(AtomicU32::new(0));
    let service = RetryLayer::new(retry())
        .prepare(ReplayBodies::new())
        .exchange(HttpExchange::client())
        .layer(asks_to_wait("1", 10, &count));
    let call = || {
        let get = request("GET").body(Full::<Bytes>::default()).unwrap();
        let service = service.clone();
        async move { service.oneshot(get).await.map(|_| ()) }
    };
    let attempts = || count.swap(0, Ordering::Relaxed);
    let half_a_second = timeout_of(500);

    // A task that a guarded call begins, a call beside one, and one after a panic in one.
    let spawned = half_a_second.run_flat(async || Ok::<_, BoxError>(tokio::spawn(call())));
    spawned.await.unwrap().await.unwrap().unwrap();
    assert_eq!(attempts(), 3, "a task of its own");
    let (cut, beside) = tokio::join!(half_a_second.run_flat(pending::<Result<(), BoxError>>), call());
    assert!(cut.is_err() && beside.is_ok());
    assert_eq!(attempts(), 3, "a call beside");
    let mut panics = pin!(half_a_second.run_flat(async || panic!("on purpose") as Answer));
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| panics.as_mut().poll(cx)));
        assert!(polled.is_err());
        Poll::Ready(())
    })
    .await;
    call().await.unwrap();
    assert_eq!(attempts(), 3, "after a panic");
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_that_is_no_wait_leaves_it_to_the_backoff() {
    for bad in ["-1", "soon", "1.5", "NaN", ""] {
        let waited_for = waited(retry(), 503, &[("retry-after", bad)]).await;
        assert!(about(BACKOFF)(waited_for), "{bad}: {waited_for:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_says_how_many_attempts_it_took() {
    let get = || request("GET").body(Full::default()).unwrap();
    let saved = |attempt| answer(if attempt < 2 { 503 } else { 200 });
    let (response, _, _) = sent(retry(), HttpExchange::client(), get(), saved).await;
    assert_eq!(response.unwrap().extensions().get(), Some(&AttemptsMade(3)));
    let (response, _, _) = sent(retry(), HttpExchange::client(), get(), |_| answer(200)).await;
    assert_eq!(response.unwrap().extensions().get::<AttemptsMade>(), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_chooses_its_limit_for_every_timeout_or_one_by_name() {
    let elapsed = async |limit: CallLimit| {
        let timeout = TimeoutConfig::new(Duration::from_secs(9))
            .build("attempt")
            .unwrap();
        let began = Instant::now();
        TimeoutLayer::new(timeout)
            .exchange(HttpExchange::client())
            .layer(service_fn(|_| std::future::pending::<Answer>()))
            .oneshot(request("GET").extension(limit).body(()).unwrap())
            .await
            .unwrap_err();
        began.elapsed().as_secs()
    };
    assert_eq!(elapsed(CallLimit::new(Duration::from_secs(2))).await, 2);
    assert_eq!(elapsed(CallLimit::of("attempt", Duration::from_secs(3))).await, 3);
    assert_eq!(elapsed(CallLimit::of("total", Duration::from_secs(3))).await, 9);
}

// Bodies of responses.

type Framed = Result<Frame<Bytes>, BoxError>;
type Frames = Vec<(u64, Framed)>;

/// A body whose frames come so many milliseconds after each other; it panics at a frame of "panic".
struct Timed {
    frames: std::vec::IntoIter<(u64, Framed)>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    frame: Option<Framed>,
    never_ends: bool,
}

impl Timed {
    fn new(frames: Frames) -> Self {
        Self {
            frames: frames.into_iter(),
            sleep: None,
            frame: None,
            never_ends: false,
        }
    }

    fn hanging(frames: Frames) -> Self {
        Self {
            never_ends: true,
            ..Self::new(frames)
        }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        use std::task::Poll;
        if self.sleep.is_none() {
            let Some((wait, frame)) = self.frames.next() else {
                return if self.never_ends {
                    Poll::Pending
                } else {
                    Poll::Ready(None)
                };
            };
            self.sleep = Some(Box::pin(tokio::time::sleep(Duration::from_millis(wait))));
            self.frame = Some(frame);
        }
        std::task::ready!(self.sleep.as_mut().unwrap().as_mut().poll(cx));
        self.sleep = None;
        let frame = self.frame.take();
        if let Some(Ok(frame)) = &frame
            && frame.data_ref().is_some_and(|data| *data == "panic")
        {
            panic!("on purpose");
        }
        Poll::Ready(frame)
    }
}

use std::future::Future as _;

fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

struct Upstream {
    breaker: CircuitBreaker,
    bulkhead: Bulkhead,
}

impl Upstream {
    fn new() -> Self {
        Self {
            breaker: CircuitBreakerConfig::new()
                .dropped_after(Duration::from_secs(1))
                .build("upstream")
                .unwrap(),
            bulkhead: BulkheadConfig::new(1).build("upstream").unwrap(),
        }
    }

    fn seen(&self) -> (u64, u64, u32) {
        let snapshot = self.breaker.snapshot();
        (
            snapshot.calls,
            snapshot.failed,
            self.bulkhead.snapshot().in_flight,
        )
    }

    /// The response to a request through a stack of a timeout of a second, a breaker and a bulkhead.
    async fn get(
        &self,
        exchange: HttpExchange,
        body: Timed,
    ) -> Response<impl Body<Data = Bytes, Error = BoxError> + Unpin + use<>> {
        let timeout = TimeoutConfig::new(Duration::from_secs(1)).build("total").unwrap();
        let stack = Stack::builder()
            .timeout(timeout)
            .circuit_breaker(self.breaker.clone())
            .bulkhead(self.bulkhead.clone())
            .build()
            .unwrap();
        let body = Mutex::new(Some(body));
        let service = stack.exchange(exchange).layer(service_fn(move |_| {
            let body = body.lock().unwrap().take().unwrap();
            async move { Ok::<_, BoxError>(Response::new(body)) }
        }));
        service.oneshot(request("GET").body(()).unwrap()).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_holds_slot_and_verdict_to_the_end_of_the_body_and_a_server_to_the_head() {
    let upstream = Upstream::new();
    let frames = || vec![(10, data("a")), (10, data("b"))];
    let mut response = upstream.get(HttpExchange::client(), Timed::new(frames())).await;
    assert_eq!(upstream.seen(), (0, 0, 1));
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(upstream.seen(), (0, 0, 1));
    response.body_mut().frame().await.unwrap().unwrap();
    assert!(response.body_mut().frame().await.is_none());
    assert_eq!(
        upstream.seen(),
        (1, 0, 0),
        "the body has ended, though it was not dropped"
    );

    let upstream = Upstream::new();
    let response = upstream.get(HttpExchange::server(), Timed::new(frames())).await;
    assert_eq!(upstream.seen(), (1, 0, 0));
    drop(response);
    let upstream = Upstream::new();
    let to_body = HttpExchange::server().hold_until(HoldUntil::Body);
    let response = upstream.get(to_body, Timed::new(frames())).await;
    assert_eq!(upstream.seen(), (0, 0, 1));
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_body_the_call_ends_with_the_head() {
    let breaker = breaker();
    let response = CircuitBreakerLayer::new(breaker.clone())
        .exchange(HttpExchange::client())
        .layer(service_fn(async |_| {
            Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()))
        }))
        .oneshot(request("HEAD").body(()).unwrap())
        .await
        .unwrap();
    assert_eq!(breaker.snapshot().calls, 1);
    assert!(!response.body().holds());
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_half_way_releases_at_once() {
    let upstream = Upstream::new();
    let body = Timed::hanging(vec![(10, data("a"))]);
    let mut response = upstream.get(HttpExchange::client(), body).await;
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(upstream.seen(), (0, 0, 1));
    drop(response);
    assert_eq!(
        upstream.seen(),
        (1, 0, 0),
        "nothing was awaited of it: the head's verdict"
    );

    // A caller that waited for a body that stood still is a dropped call like any other.
    for (patience, failed) in [(100, 0), (2000, 1)] {
        let upstream = Upstream::new();
        let mut response = upstream.get(HttpExchange::client(), Timed::hanging(vec![])).await;
        let waiting = response.body_mut().frame();
        assert!(
            tokio::time::timeout(Duration::from_millis(patience), waiting)
                .await
                .is_err()
        );
        drop(response);
        assert_eq!(upstream.seen(), (failed, failed, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_head_stays_a_failure_when_its_body_is_dropped() {
    let breaker = breaker();
    let response = CircuitBreakerLayer::new(breaker.clone())
        .exchange(HttpExchange::client())
        .layer(service_fn(async |_| answer(503)))
        .oneshot(request("GET").body(()).unwrap())
        .await
        .unwrap();
    drop(response);
    assert_eq!(breaker.snapshot().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_counts_when_the_breaker_is_inside_of_a_retry() {
    let breaker = breaker();
    let response = ServiceBuilder::new()
        .layer(
            RetryLayer::new(retry())
                .prepare(ReplayBodies::new())
                .exchange(HttpExchange::client()),
        )
        .layer(CircuitBreakerLayer::new(breaker.clone()).exchange(HttpExchange::client()))
        .service(service_fn(async |_| answer(503)))
        .oneshot(request("GET").body(Full::<Bytes>::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(breaker.snapshot().failed, 2, "the last body is not read yet");
    drop(response);
    assert_eq!(breaker.snapshot().failed, 3);
}

#[tokio::test(start_paused = true)]
async fn an_error_or_a_panic_in_the_body_is_a_failure() {
    let upstream = Upstream::new();
    let body = Timed::new(vec![(1, data("a")), (1, Err("cut".into()))]);
    let response = upstream.get(HttpExchange::client(), body).await;
    let error = response.into_body().collect().await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "cut");
    assert_eq!(upstream.seen(), (1, 1, 0));

    let upstream = Upstream::new();
    let body = Timed::new(vec![(1, data("panic"))]);
    let response = upstream.get(HttpExchange::client(), body).await;
    let reading = tokio::spawn(async move { response.into_body().collect().await.is_ok() });
    assert!(reading.await.unwrap_err().is_panic());
    assert_eq!(upstream.seen(), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_covers_the_body_where_it_is_set_to() {
    let drip = || {
        let frames = (0..100).map(|_| (100, data("."))).collect();
        Timed::new(frames)
    };
    let upstream = Upstream::new();
    let began = Instant::now();
    let covering = HttpExchange::client().timeouts_cover_body(true);
    let response = upstream.get(covering, drip()).await;
    let error = response.into_body().collect().await.map(drop).unwrap_err();
    let rejected = find_rejected(&*error).unwrap();
    assert_eq!(
        (rejected.kind(), rejected.policy()),
        (RejectedKind::TimedOut, "total")
    );
    assert_eq!(began.elapsed().as_millis() / 10, 100);
    assert_eq!(upstream.seen(), (1, 1, 0), "the breaker inside counts it");

    let upstream = Upstream::new();
    let response = upstream.get(HttpExchange::client(), drip()).await;
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes().len(),
        100
    );
    assert_eq!(upstream.seen(), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_idle_limit_is_for_the_time_between_frames() {
    let idle = || {
        HttpExchange::client()
            .idle_limit(Duration::from_millis(300))
            .unwrap()
    };
    let upstream = Upstream::new();
    let body = Timed::new(vec![(200, data("a")), (200, data("b")), (200, data("c"))]);
    let response = upstream.get(idle(), body).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");
    assert_eq!(upstream.seen(), (1, 0, 0));

    for exchange in [idle(), idle().hold_until(HoldUntil::Head)] {
        let held = format!("{exchange:?}").contains("hold: Body");
        let upstream = Upstream::new();
        let mut response = upstream
            .get(exchange, Timed::new(vec![(200, data("a")), (400, data("b"))]))
            .await;
        response.body_mut().frame().await.unwrap().unwrap();
        // The time that the reader takes does not count.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let began = Instant::now();
        let error = response.body_mut().frame().await.unwrap().unwrap_err();
        assert_eq!(began.elapsed().as_millis(), 300);
        assert!(
            error.to_string().contains("no frame of the body for 300ms"),
            "{error}"
        );
        assert!(response.body_mut().frame().await.is_none());
        assert!(response.body().is_end_stream());
        assert_eq!(upstream.seen(), (1, u64::from(held), 0));
    }
    let error = HttpExchange::client().idle_limit(Duration::ZERO).unwrap_err();
    assert_eq!(error.field(), "idle_limit");
}

#[tokio::test(start_paused = true)]
async fn the_body_keeps_its_length_its_frames_and_its_trailers() {
    let upstream = Upstream::new();
    let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
    let body = Timed::new(vec![(1, data("a")), (1, Ok(Frame::trailers(trailers.clone())))]);
    let mut response = upstream.get(HttpExchange::client(), body).await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "a");
    let second = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(second.into_trailers().unwrap(), trailers);
    assert_eq!(upstream.seen(), (1, 0, 0), "nothing follows trailers");

    let response = CircuitBreakerLayer::new(breaker())
        .exchange(HttpExchange::client())
        .layer(service_fn(async |_| answer(200)))
        .oneshot(request("GET").body(()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.body().size_hint().exact(), Some(4));
}

// Bodies of requests.

/// What a service that fails with 503 until its last attempt reads of each.
async fn replayed<B>(hook: ReplayBodies, body: B) -> Vec<Bytes>
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let read = Arc::new(Mutex::new(Vec::new()));
    let reading = Arc::clone(&read);
    let service = RetryLayer::new(retry())
        .prepare(hook)
        .exchange(HttpExchange::client())
        .layer(service_fn(
            move |request: Request<buttress::http::ReplayBody<B>>| {
                let read = Arc::clone(&reading);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    read.lock().unwrap().push(body);
                    answer(503)
                }
            },
        ));
    let response = service.oneshot(request("PUT").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 503);
    std::mem::take(&mut *read.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_body_within_the_bound_is_sent_again_whole() {
    for size in [1, 1000, 64 * 1024] {
        let whole = Bytes::from(vec![7; size]);
        let read = replayed(ReplayBodies::new(), full(whole.clone())).await;
        assert_eq!(read, vec![whole.clone(); 3], "{size}");
        // The same in frames of one byte, with no length told beforehand.
        let frames = whole
            .iter()
            .map(|&byte| (0, Ok(Frame::data(Bytes::from(vec![byte])))));
        let read = replayed(ReplayBodies::new(), Timed::new(frames.take(3000).collect())).await;
        assert_eq!(read, vec![whole.slice(..size.min(3000)); 3], "{size}");
    }
    assert_eq!(
        replayed(ReplayBodies::new(), Empty::<Bytes>::new()).await,
        vec![Bytes::new(); 3]
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_bound_is_sent_once_and_is_no_error() {
    let whole = Bytes::from(vec![7; 64 * 1024 + 1]);
    assert_eq!(
        replayed(ReplayBodies::new(), full(whole.clone())).await,
        std::slice::from_ref(&whole)
    );
    let frames = whole
        .chunks(1000)
        .map(|chunk| (0, Ok(Frame::data(Bytes::copy_from_slice(chunk)))));
    assert_eq!(
        replayed(ReplayBodies::new(), Timed::new(frames.collect())).await,
        [whole]
    );
    let small = ReplayBodies::up_to(3).unwrap();
    assert_eq!(replayed(small, full("abc")).await.len(), 3);
    assert_eq!(replayed(small, full("abcd")).await.len(), 1);
    let error = ReplayBodies::up_to(0).unwrap_err();
    assert_eq!((error.field(), error.value()), ("replay_bound", "0"));
}

#[tokio::test(start_paused = true)]
async fn trailers_of_a_request_are_sent_again() {
    let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
    let body = Timed::new(vec![(0, data("a")), (0, Ok(Frame::trailers(trailers.clone())))]);
    let (first, mut kept) = buttress::http::ReplayBody::new(body, 10);
    let mut next = Some(first);
    for _ in 0..3 {
        let collected = next.unwrap().collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "a");
        next = kept.again();
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_streams_and_the_next_goes_on_where_it_stopped() {
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let (seen, mut first_frame) = tokio::sync::mpsc::unbounded_channel();
    let service = RetryLayer::new(retry())
        .prepare(ReplayBodies::new())
        .exchange(HttpExchange::client())
        .layer(service_fn(
            move |request: Request<buttress::http::ReplayBody<_>>| {
                let attempt = counted.fetch_add(1, Ordering::Relaxed);
                let seen = seen.clone();
                async move {
                    let mut body = request.into_body();
                    if attempt == 0 {
                        let frame = body.frame().await.unwrap()?;
                        seen.send(frame.into_data().unwrap()).unwrap();
                        return answer(503);
                    }
                    let body = body.collect().await?.to_bytes();
                    Ok(Response::new(full(body)))
                }
            },
        ));
    let call = service.oneshot(request("PUT").body(body).unwrap());
    let upload = async move {
        sender.send_data(Bytes::from_static(b"one ")).await.unwrap();
        // The second frame exists only once the service has seen the first.
        assert_eq!(first_frame.recv().await.unwrap(), "one ");
        sender.send_data(Bytes::from_static(b"two")).await.unwrap();
    };
    let (response, ()) = tokio::join!(call, upload);
    let response = response.unwrap();
    assert_eq!(response.extensions().get(), Some(&AttemptsMade(2)));
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "one two"
    );
}

#[tokio::test(start_paused = true)]
async fn a_large_body_of_which_nothing_was_read_is_sent_again() {
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let whole = Bytes::from(vec![7; 10_000_000]);
    let service = RetryLayer::new(retry())
        .prepare(ReplayBodies::new())
        .exchange(HttpExchange::client())
        .layer(service_fn(
            move |request: Request<buttress::http::ReplayBody<_>>| {
                let refused = counted.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    if refused {
                        return Err(BoxError::from(io::Error::from(io::ErrorKind::ConnectionRefused)));
                    }
                    let body = request.into_body().collect().await?.to_bytes();
                    Ok(Response::new(full(body)))
                }
            },
        ));
    let post = request("POST").body(full(whole.clone())).unwrap();
    let response = service.oneshot(post).await.unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes() == whole);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_failed_is_not_sent_again() {
    let body = Timed::new(vec![(0, data("a")), (0, Err("disk".into()))]);
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let service = RetryLayer::new(retry())
        .prepare(ReplayBodies::new())
        .exchange(HttpExchange::client())
        .layer(service_fn(
            move |request: Request<buttress::http::ReplayBody<_>>| {
                counted.fetch_add(1, Ordering::Relaxed);
                async move {
                    request.into_body().collect().await?;
                    answer(200)
                }
            },
        ));
    let error = service
        .oneshot(request("PUT").body(body).unwrap())
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(error.to_string(), "disk");
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_given_up_cannot_read_what_the_next_one_needs() {
    let body = Timed::new(vec![(0, data("a")), (0, data("b"))]);
    let (mut first, mut kept) = buttress::http::ReplayBody::new(body, 10);
    assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
    let second = kept.again().unwrap();
    let error = first.frame().await.unwrap().unwrap_err();
    assert!(error.is::<buttress::http::Superseded>());
    assert_eq!(second.collect().await.unwrap().to_bytes(), "ab");
}

#[tokio::test(start_paused = true)]
async fn a_stack_takes_it_all_at_once() {
    let breaker = breaker();
    let stack = Stack::builder()
        .retry_with(
            retry(),
            Rules::new().stop(Predicate::status_in("504".parse().unwrap())),
        )
        .circuit_breaker(breaker.clone())
        .build()
        .unwrap()
        .prepare(ReplayBodies::new())
        .exchange(HttpExchange::client());
    let mut service = stack.layer(service_fn(async |request: Request<_>| {
        answer(request.uri().path()[1..].parse().unwrap())
    }));
    for (path, failed) in [("/503", 3), ("/504", 4), ("/404", 4)] {
        let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        drop(response);
        assert_eq!(breaker.snapshot().failed, failed, "{path}");
    }
}

proptest::proptest! {
    /// However a body is cut into frames, and however far each attempt reads it: while what was read fits into the
    /// bound, the next attempt gets it from the beginning, and past the bound there is no other attempt.
    #[test]
    fn each_attempt_reads_the_body_from_its_beginning(
        sizes in proptest::collection::vec(0_usize..3000, 0..12),
        reads in proptest::collection::vec(0_usize..14, 1..5),
        bound in 1_usize..20_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut count = 0_u8;
            let frames: Vec<Bytes> = sizes
                .iter()
                .map(|&size| {
                    count = count.wrapping_add(1);
                    Bytes::from(vec![count; size])
                })
                .collect();
            let whole = frames.concat();
            let body = Timed::new(frames.into_iter().map(|frame| (0, Ok(Frame::data(frame)))).collect());
            let (mut body, mut kept) = buttress::http::ReplayBody::new(body, bound);
            let mut furthest = 0;
            for frames in reads {
                let mut read = Vec::new();
                for _ in 0..frames {
                    let Some(frame) = body.frame().await else { break };
                    read.extend_from_slice(frame.unwrap().data_ref().unwrap());
                }
                assert_eq!(read, whole[..read.len()]);
                furthest = furthest.max(read.len());
                assert_eq!(kept.can_repeat(), furthest <= bound, "{furthest} of {bound}");
                match kept.again() {
                    Some(next) => body = next,
                    None => return,
                }
            }
            let rest = body.collect().await.unwrap().to_bytes();
            assert_eq!(rest, whole);
            assert_eq!(kept.can_repeat(), whole.len() <= bound);
        });
    }
}
