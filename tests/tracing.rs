//! Log lines of policies, and spans of calls and attempts.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    AttemptSpanLayer, BoxError, BulkheadConfig, CallSpanLayer, CircuitBreaker, CircuitBreakerConfig, Clock,
    Registry, RetryConfig, Settings, Stack, StackConfig, TracingObserver,
};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

type Fields = BTreeMap<String, String>;

/// Name, the name of what is around it, and fields.
type Span = (&'static str, Option<&'static str>, Fields);

#[derive(Default)]
struct Read(Fields);

impl Visit for Read {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

/// Keeps what is logged, and the spans that are over.
#[derive(Clone, Default)]
struct Seen {
    lines: Arc<Mutex<Vec<(Level, Fields)>>>,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut read = Read::default();
        event.record(&mut read);
        self.lines
            .lock()
            .unwrap()
            .push((*event.metadata().level(), read.0));
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut read = Read::default();
        attributes.record(&mut read);
        context.span(id).unwrap().extensions_mut().insert(read);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(span.extensions_mut().get_mut::<Read>().unwrap());
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let fields = span.extensions_mut().remove::<Read>().unwrap().0;
        let parent = span.parent().map(|parent| parent.name());
        self.spans.lock().unwrap().push((span.name(), parent, fields));
    }
}

impl Seen {
    fn begin() -> (Self, DefaultGuard) {
        let seen = Self::default();
        let guard = tracing_subscriber::registry().with(seen.clone()).set_default();
        (seen, guard)
    }

    /// Lines at least as severe as that.
    fn lines(&self, level: Level) -> Vec<(Level, String)> {
        let lines = self.lines.lock().unwrap();
        let severe = lines.iter().filter(|(of, _)| *of <= level);
        severe
            .map(|(level, fields)| (*level, fields["message"].clone()))
            .collect()
    }

    fn spans(&self, name: &str) -> Vec<Fields> {
        let spans = self.spans.lock().unwrap();
        let named = spans.iter().filter(|(of, ..)| *of == name);
        named.map(|(.., fields)| fields.clone()).collect()
    }
}

fn breaker(clock: Clock) -> CircuitBreaker {
    let config = CircuitBreakerConfig::new().count_window(10).minimum_calls(4);
    let config = config
        .open_wait(Duration::from_secs(25))
        .open_jitter(0.0)
        .probes(1);
    config.clock(clock).build("payments").unwrap()
}

#[test]
fn an_open_breaker_under_10_000_calls_a_second_logs_a_handful_of_lines() {
    let (seen, _guard) = Seen::begin();
    let (clock, hand) = Clock::manual();
    let breaker = breaker(clock.clone());
    breaker.observe(Arc::new(TracingObserver::new().clock(clock)));
    for _ in 0..4 {
        breaker.try_acquire().unwrap().failure();
    }
    let mut refused = 0;
    for _ in 0..250_000 {
        refused += usize::from(breaker.try_acquire().is_err());
        hand.advance(Duration::from_micros(100));
    }
    hand.advance(Duration::from_millis(1));
    breaker.try_acquire().unwrap().success();
    let at_info = seen.lines(Level::INFO);
    let texts: Vec<_> = at_info
        .iter()
        .map(|(level, text)| (*level, text.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (Level::WARN, "circuit breaker opened"),
            (Level::INFO, "100001 calls refused in the last 10 s"),
            (Level::INFO, "100000 calls refused in the last 10 s"),
            (Level::INFO, "circuit breaker changed state"),
            (Level::INFO, "circuit breaker changed state"),
            (Level::INFO, "49999 calls refused in the last 5 s"),
        ]
    );
    assert_eq!(refused, 250_000, "each is in one of the counts");
    // Each is told of where somebody asks for it.
    assert_eq!(seen.lines(Level::DEBUG).len(), at_info.len() + refused);
    let lines = seen.lines.lock().unwrap();
    let (_, opened) = &lines[0];
    assert_eq!(
        (&*opened["name"], &*opened["cause"]),
        ("payments", "failure rate 100 % of 4 calls")
    );
    let (_, rejected) = lines.iter().find(|(level, _)| *level == Level::DEBUG).unwrap();
    assert_eq!(rejected["reason"], "failure rate 100 % of 4 calls");
}

#[tokio::test(start_paused = true)]
async fn a_registry_logs_what_becomes_of_its_settings() {
    let (seen, _guard) = Seen::begin();
    let stack = |limit| StackConfig::new().stage("bulkhead", BulkheadConfig::new(limit));
    let registry = Registry::builder()
        .observe(Arc::new(TracingObserver::new()))
        .build(Settings::new().stack("pay", stack(2)))
        .unwrap();
    registry
        .apply(Settings::new().stack("pay", stack(0)))
        .unwrap_err();
    registry.apply(Settings::new()).unwrap();
    let lines = seen.lines(Level::INFO);
    let lines: Vec<_> = lines
        .iter()
        .map(|(level, text)| (*level, text.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (Level::INFO, "settings taken"),
            (Level::ERROR, "settings are wrong and not taken"),
            (Level::WARN, "stack is gone from the settings and goes on"),
            (Level::INFO, "settings taken"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn retries_are_logged_at_debug() {
    let (seen, _guard) = Seen::begin();
    let retry = RetryConfig::new().max_attempts(2).build("pay").unwrap();
    retry.observe(Arc::new(TracingObserver::new()));
    let failed = retry
        .run(|| async { Err::<(), _>(io::Error::other("down")) })
        .await;
    failed.unwrap_err();
    assert!(seen.lines(Level::INFO).is_empty());
    let lines = seen.lines(Level::DEBUG);
    let lines: Vec<_> = lines.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(lines, ["attempt failed, retrying", "gave up"]);
    let lines = seen.lines.lock().unwrap();
    let (_, retrying) = &lines[0];
    assert_eq!((&*retrying["name"], &*retrying["reason"]), ("pay", "down"));
    assert_eq!(lines[1].1["why"], "attempts");
}

/// Succeeds with the third attempt.
fn flaky() -> impl FnMut(u32) -> std::future::Ready<Result<u32, BoxError>> + Clone {
    let attempts = Arc::new(Mutex::new(0));
    move |request| {
        let mut attempts = attempts.lock().unwrap();
        *attempts += 1;
        std::future::ready(if *attempts < 3 {
            Err("down".into())
        } else {
            Ok(request)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_span_and_each_attempt_one_within() {
    let (seen, _guard) = Seen::begin();
    let stack = Stack::builder()
        .retry(RetryConfig::new().max_attempts(5).build("pay").unwrap())
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(CallSpanLayer::new("pay"))
        .layer(stack)
        .layer(AttemptSpanLayer::new("pay"))
        .service(service_fn(flaky()));
    service.oneshot(1).await.unwrap();
    let calls = seen.spans("buttress.call");
    assert_eq!(calls.len(), 1);
    let call = &calls[0];
    assert_eq!(
        (&*call["stack"], &*call["outcome"], &*call["attempts"]),
        ("pay", "success", "3")
    );
    let attempts = seen.spans("buttress.attempt");
    let attempts: Vec<_> = attempts
        .iter()
        .map(|attempt| (&*attempt["attempt"], &*attempt["outcome"]))
        .collect();
    assert_eq!(attempts, [("1", "failure"), ("2", "failure"), ("3", "success")]);
    let spans = seen.spans.lock().unwrap();
    let within = |(name, parent, _): &Span| *name != "buttress.attempt" || *parent == Some("buttress.call");
    assert!(spans.iter().all(within));
}

#[tokio::test(start_paused = true)]
async fn a_span_says_that_a_call_was_rejected_and_that_it_was_dropped() {
    let (seen, _guard) = Seen::begin();
    let bulkhead = BulkheadConfig::new(1).build("pay").unwrap();
    let stack = Stack::builder().bulkhead(bulkhead).build().unwrap();
    let (calls, attempts) = (CallSpanLayer::new("pay"), AttemptSpanLayer::new("pay"));
    let call = || {
        let attempts = attempts.clone();
        calls.around(stack.run(move || attempts.around(std::future::pending::<Result<(), io::Error>>())))
    };
    let mut first = Box::pin(call());
    assert!(poll_once(first.as_mut()).is_pending());
    call().await.unwrap_err();
    drop(first);
    let calls = seen.spans("buttress.call");
    let calls: Vec<_> = calls
        .iter()
        .map(|call| (&*call["outcome"], call.get("rejected").map(String::as_str)))
        .collect();
    assert_eq!(calls, [("rejected", Some("bulkhead_full")), ("dropped", None)]);
    let attempts = seen.spans("buttress.attempt");
    assert_eq!(attempts.len(), 1, "the refused call made none");
    assert_eq!(attempts[0]["outcome"], "dropped");
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}
