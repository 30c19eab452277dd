//! The retry: how often, when not, what pays for it, and what the caller learns.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/lab.rs"]
mod lab;

use std::{
    collections::VecDeque,
    fmt,
    future::{Ready, ready},
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Advice, Backoff, BoxError, BulkheadConfig, BulkheadLayer, CircuitBreaker, CircuitBreakerConfig,
    CircuitBreakerLayer, Clock, Exchange, GaveUp, Held, HoldsRejected, Jitter, Outcome, Policy, Predicate,
    Reason, RejectedKind, Replay, Retry, RetryBudget, RetryBudgetConfig, RetryConfig, RetryLayer, Rules,
    Stack, State, TimeoutConfig, TimeoutLayer, Timestamp, Verdict, What, find_rejected,
};
use lab::{Boxed, Call, Events, Failed, Lab, Order, Reply, advance, ms, paused};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

/// Waits 100 ms before each retry, and nothing but the number of attempts stops it.
fn config() -> RetryConfig {
    RetryConfig::new()
        .backoff(Backoff::fixed(ms(100)))
        .jitter(Jitter::None)
        .no_budget()
}

fn build(config: RetryConfig) -> (Retry, Events) {
    let (retry, events) = (config.build("again").unwrap(), Events::new());
    retry.observe(events.observer());
    (retry, events)
}

/// What a service answers, one after the other; then it succeeds. Counts its calls.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<u32>>>,
    ready: bool,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Reply>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            ..Self::default()
        }
    }

    /// Fails so often, then succeeds.
    fn failing(times: usize) -> Self {
        Self::new((0..times).map(|_| Err(Failed.into())))
    }

    fn calls(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Service<u32> for Script {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Reply>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Ready<Reply> {
        assert!(std::mem::take(&mut self.ready), "not polled ready");
        self.requests.lock().unwrap().push(request);
        let answer = self.answers.lock().unwrap().pop_front();
        ready(answer.unwrap_or(Ok(request)))
    }
}

fn now() -> Timestamp {
    Clock::tokio().now()
}

/// What comes of a call, and how long it takes.
async fn send<L>(layer: &L, script: &Script) -> (Reply, Duration)
where
    L: Layer<Script>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let began = now();
    let reply = layer.layer(script.clone()).oneshot(7).await;
    (reply, now().since(began))
}

// ---- How often.

#[tokio::test(start_paused = true)]
async fn the_first_attempt_counts() {
    for attempts in [1, 2, 3, 10] {
        let (retry, events) = build(config().max_attempts(attempts));
        let script = Script::failing(20);
        let (reply, took) = send(&RetryLayer::new(retry), &script).await;
        assert!(reply.unwrap_err().is::<Failed>(), "the last outcome, as it was");
        assert_eq!(script.calls(), attempts as usize);
        assert_eq!(took, ms(100) * (attempts - 1));
        let gave_up = events.pick(|what| match what {
            What::GaveUp { attempts, why } => Some((*attempts, *why)),
            _ => None,
        });
        assert_eq!(gave_up, [(attempts, GaveUp::Attempts)]);
    }
}

/// What is told when an attempt of a failing script is to be followed by another.
fn retrying(attempt: u32, after: Duration) -> What {
    What::Retrying {
        attempt,
        after,
        failure: Failed.to_string().into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_it_and_the_request_is_the_same_each_time() {
    let (retry, events) = build(config());
    let script = Script::failing(2);
    let (reply, took) = send(&RetryLayer::new(retry), &script).await;
    assert_eq!((reply.unwrap(), took), (7, ms(200)));
    assert_eq!(*script.requests.lock().unwrap(), [7; 3]);
    let after = ms(100);
    assert_eq!(
        events.take(),
        [
            retrying(1, after),
            retrying(2, after),
            What::Recovered { attempts: 3 },
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_told_in_words_of_a_bounded_length() {
    let (retry, events) = build(config().max_attempts(2));
    let failed = retry.run(|| async { Err::<(), _>(io::Error::other("ä".repeat(300))) });
    failed.await.unwrap_err();
    let What::Retrying { failure, .. } = &events.take()[0] else {
        panic!("a retry");
    };
    assert_eq!(**failure, "ä".repeat(200));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_at_once_is_nothing_to_tell() {
    let (retry, events) = build(config());
    let (reply, took) = send(&RetryLayer::new(retry), &Script::failing(0)).await;
    assert_eq!((reply.unwrap(), took), (7, Duration::ZERO));
    assert_eq!(events.take(), []);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_several_outcomes_is_what_the_caller_gets() {
    let first = io::Error::new(io::ErrorKind::ConnectionRefused, "first");
    let last = io::Error::new(io::ErrorKind::ConnectionReset, "last");
    let script = Script::new([Err(first.into()), Err(Failed.into()), Err(last.into())]);
    let (retry, _) = build(config());
    let (reply, _) = send(&RetryLayer::new(retry), &script).await;
    let error = reply.unwrap_err().downcast::<io::Error>().unwrap();
    assert_eq!(error.to_string(), "last");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_counts_as_a_failure_is_retried_and_the_last_one_is_given() {
    let script = Script::new([Ok(500), Ok(501), Ok(502), Ok(200)]);
    let layer = RetryLayer::new(build(config()).0);
    let layer = layer.judge_by(|result: Result<&u32, &BoxError>| match result {
        Ok(status) if *status < 500 => Verdict::Success,
        _ => Verdict::Failure,
    });
    let (reply, _) = send(&layer, &script).await;
    assert_eq!(reply.unwrap(), 502);
    let (reply, _) = send(&layer, &script).await;
    assert_eq!((reply.unwrap(), script.calls()), (200, 4));
}

#[tokio::test(start_paused = true)]
async fn a_guarded_function_is_called_anew_for_each_attempt() {
    let (retry, _) = build(config());
    let mut calls = 0;
    let reply = retry
        .run(|| {
            calls += 1;
            let call = calls;
            async move {
                if call < 3 {
                    Err(io::Error::other("not yet"))
                } else {
                    Ok(call)
                }
            }
        })
        .await;
    assert_eq!(reply.unwrap(), 3);
    let error = retry
        .run(|| async { Err::<(), _>(io::Error::other("never")) })
        .await;
    assert_eq!(error.unwrap_err().into_service().unwrap().to_string(), "never");
}

// ---- How long.

#[tokio::test(start_paused = true)]
async fn a_retry_whose_wait_would_end_past_the_longest_elapsed_time_is_not_begun() {
    for (longest, attempts) in [(299, 3_u32), (300, 4), (301, 4)] {
        let (retry, events) = build(config().max_attempts(10).max_elapsed(ms(longest)));
        let script = Script::failing(20);
        let (reply, took) = send(&RetryLayer::new(retry), &script).await;
        assert!(reply.is_err());
        assert_eq!(script.calls(), attempts as usize);
        assert_eq!(took, ms(100) * (attempts - 1));
        let last = events.take().pop().unwrap();
        let gave_up = What::GaveUp {
            attempts,
            why: GaveUp::Elapsed,
        };
        assert_eq!(last, gave_up);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_that_attempts_take_counts() {
    let lab = Lab::new();
    let (retry, _) = build(config().max_elapsed(ms(1_000)));
    let mut service = RetryLayer::new(retry).layer(lab.clone());
    for (takes, retried) in [(900, true), (901, false)] {
        let mut call = Call::pending(&mut service, 1);
        advance(takes).await;
        lab.order(1, Order::Fail);
        assert_eq!(call.poll().is_pending(), retried);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_counts_from_the_origin_of_a_clock_too() {
    let (clock, hand) = Clock::manual();
    let lab = Lab::new();
    let (retry, _) = build(config().max_elapsed(ms(1_000)).clock(clock));
    let mut service = RetryLayer::new(retry).layer(lab.clone());
    // It begins at zero, where a manual clock stands.
    let mut call = Call::pending(&mut service, 1);
    hand.advance(ms(5_000));
    lab.order(1, Order::Fail);
    call.poll().failed();
}

#[tokio::test(start_paused = true)]
async fn retries_that_are_not_begun_cost_no_budget() {
    let budget = RetryBudgetConfig::new().ratio(0.0).min_per_second(1);
    let budget = budget.window(Duration::from_secs(1)).build().unwrap();
    let (retry, _) = build(config().max_elapsed(ms(50)).shared_budget(&budget));
    send(&RetryLayer::new(retry), &Script::failing(1))
        .await
        .0
        .unwrap_err();
    let (retry, _) = build(config().shared_budget(&budget));
    let once = RetryLayer::new(retry.clone()).once();
    send(&once, &Script::failing(1)).await.0.unwrap_err();
    let (none, _) = build(config().max_attempts(1).shared_budget(&budget));
    send(&RetryLayer::new(none), &Script::failing(1))
        .await
        .0
        .unwrap_err();
    assert_eq!(budget.snapshot().retries, 0);
    assert_eq!(
        send(&RetryLayer::new(retry), &Script::failing(1))
            .await
            .0
            .unwrap(),
        7
    );
    assert_eq!(budget.snapshot().left, 0);
}

// ---- Hints of the server.

/// Every failure comes with a hint.
#[derive(Clone)]
struct Hinting(Duration);

impl<Req, Res, Err: HoldsRejected> Exchange<Req, Res, Err> for Hinting {
    type Facts = ();
    type Response<P: Policy> = Res;

    fn facts(&self, _request: &Req) {}

    fn judge<'a>(&self, (): &(), result: Result<&'a Res, &'a Err>) -> Outcome<'a> {
        let outcome = Outcome::of(result);
        match outcome.verdict() {
            Verdict::Failure => outcome.with_advice(Advice::RetryAfter(self.0)),
            _ => outcome,
        }
    }

    fn give<P: Policy>(&self, (): &(), response: Res) -> Res {
        response
    }

    fn carry<P: Policy>(&self, (): &(), response: Res, _held: Held<P>) -> Res {
        response
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_takes_the_place_of_the_backoff_up_to_its_cap() {
    for (hint, waits) in [(0, 0), (5, 5), (2_000, 2_000), (2_001, 2_000), (3_600_000, 2_000)] {
        let (retry, events) = build(config().max_hint(ms(2_000)).jitter(Jitter::Full));
        let layer = RetryLayer::new(retry).exchange(Hinting(ms(hint)));
        let (reply, took) = send(&layer, &Script::failing(1)).await;
        assert_eq!((reply.unwrap(), took), (7, ms(waits)), "a hint of {hint} ms");
        let after = ms(waits);
        assert_eq!(events.all()[0], retrying(1, after));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_ends_past_the_longest_elapsed_time_means_no_retry() {
    for (hint, calls) in [(1_000, 2), (1_001, 1)] {
        let (retry, _) = build(config().max_elapsed(ms(1_000)));
        let layer = RetryLayer::new(retry).exchange(Hinting(ms(hint)));
        let script = Script::failing(1);
        send(&layer, &script).await.0.ok();
        assert_eq!(script.calls(), calls);
    }
    // What counts is what would be waited: the hint after its cap.
    let (retry, _) = build(config().max_elapsed(ms(1_000)).max_hint(ms(500)));
    let layer = RetryLayer::new(retry).exchange(Hinting(ms(60_000)));
    let (reply, took) = send(&layer, &Script::failing(1)).await;
    assert_eq!((reply.unwrap(), took), (7, ms(500)));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_asks_for_a_retry_leaves_the_hint() {
    let (retry, _) = build(config());
    let layer = RetryLayer::new(retry).retry_on(Predicate::any_error());
    let layer = layer.exchange(Hinting(ms(700)));
    assert_eq!(send(&layer, &Script::failing(1)).await.1, ms(700));
}

// ---- Which failures.

/// An error that another one caused.
#[derive(Debug)]
struct CausedBy(io::Error);

impl fmt::Display for CausedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("caused by another")
    }
}

impl std::error::Error for CausedBy {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// How often a call is made of which the first attempt ends so.
async fn attempts<L>(layer: &L, first: impl Into<BoxError>) -> usize
where
    L: Layer<Script>,
    L::Service: Service<u32, Response = u32, Error = BoxError>,
{
    let script = Script::new([Err(first.into())]);
    send(layer, &script).await.0.ok();
    script.calls()
}

#[tokio::test(start_paused = true)]
async fn with_a_retry_list_only_what_it_names_is_retried_however_deep() {
    let (retry, _) = build(config());
    let connection = Predicate::error_if(|error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset);
    let layer = RetryLayer::new(retry).retry_on(connection);
    assert_eq!(attempts(&layer, reset()).await, 2);
    assert_eq!(attempts(&layer, CausedBy(reset())).await, 2);
    assert_eq!(attempts(&layer, io::Error::other("x")).await, 1);
    assert_eq!(attempts(&layer, Failed).await, 1);
    let either = layer.retry_on(Predicate::error::<Failed>());
    assert_eq!(attempts(&either, Failed).await, 2);
    assert_eq!(attempts(&either, reset()).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_list_wins_over_everything() {
    let (retry, _) = build(config());
    let layer = RetryLayer::new(retry).stop_on(Predicate::error::<io::Error>());
    assert_eq!(attempts(&layer, reset()).await, 1);
    assert_eq!(attempts(&layer, CausedBy(reset())).await, 1);
    assert_eq!(attempts(&layer, Failed).await, 2);
    let layer = layer.retry_on(Predicate::any_error());
    assert_eq!(attempts(&layer, reset()).await, 1);
    let not_io = Predicate::any_error().and(!Predicate::error::<io::Error>());
    let not_io = RetryLayer::new(build(config()).0).retry_on(not_io);
    assert_eq!(attempts(&not_io, reset()).await, 1);
    assert_eq!(attempts(&not_io, Failed).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_what_it_is_not_retries_no_success() {
    let not_io = || !Predicate::error::<io::Error>();
    let (retry, _) = build(config());
    let stack = Stack::builder().retry_with(retry.clone(), Rules::new().retry(not_io()));
    let stack = stack.build().unwrap();
    let layer = RetryLayer::new(retry).retry_on(not_io());
    let succeeding = [Script::failing(0), Script::failing(0)];
    assert_eq!(send(&layer, &succeeding[0]).await.0.unwrap(), 7);
    assert_eq!(send(&stack, &succeeding[1]).await.0.unwrap(), 7);
    assert_eq!(succeeding.map(|script| script.calls()), [1, 1]);
    assert_eq!(
        (attempts(&layer, reset()).await, attempts(&stack, reset()).await),
        (1, 1)
    );
    assert_eq!(
        (attempts(&layer, Failed).await, attempts(&stack, Failed).await),
        (2, 2)
    );
}

/// How calls gave up since this was asked before. None may have recovered.
fn gave_up(events: &Events) -> Vec<(u32, GaveUp)> {
    let gave_up = events.take().into_iter().filter_map(|what| match what {
        What::GaveUp { attempts, why } => Some((attempts, why)),
        What::Recovered { .. } => panic!("nothing succeeded"),
        _ => None,
    });
    gave_up.collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nothing_advises_to_retry_is_told_after_retries_and_without_any() {
    let (retry, events) = build(config().max_attempts(9));
    let layer = RetryLayer::new(retry.clone()).stop_on(Predicate::error::<io::Error>());
    let script = Script::new([Err(Failed.into()), Err(Failed.into()), Err(reset().into())]);
    assert!(send(&layer, &script).await.0.unwrap_err().is::<io::Error>());
    let after = ms(100);
    assert_eq!(
        events.take(),
        [
            retrying(1, after),
            retrying(2, after),
            What::GaveUp {
                attempts: 3,
                why: GaveUp::NotAdvised
            },
        ]
    );
    assert_eq!(attempts(&layer, reset()).await, 1);
    assert_eq!(gave_up(&events), [(1, GaveUp::NotAdvised)]);

    // A refusal of which it is the first attempt is no failure of the call's; the refuser tells of it.
    let refused = CircuitBreakerLayer::new(open_breaker()).layer(Script::failing(0));
    RetryLayer::new(retry.clone())
        .layer(refused)
        .oneshot(1)
        .await
        .unwrap_err();
    assert_eq!(events.take(), []);

    let breaker = CircuitBreakerConfig::new().consecutive_failures(2);
    let breaker = breaker.build("inventory").unwrap();
    let opening = CircuitBreakerLayer::new(breaker).layer(Script::failing(9));
    RetryLayer::new(retry)
        .layer(opening)
        .oneshot(1)
        .await
        .unwrap_err();
    assert_eq!(gave_up(&events), [(3, GaveUp::NotAdvised)]);
}

/// Answers as its script says, and is not ready again after that.
#[derive(Clone)]
struct Closing(Script);

impl Service<u32> for Closing {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Reply>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.0.calls() > 0 {
            return Poll::Ready(Err("closed".into()));
        }
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> Ready<Reply> {
        self.0.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_cannot_be_made_is_told_and_costs_no_budget() {
    let budgeted = || build(config().budget(RetryBudgetConfig::new()));
    let retries = |retry: &Retry| retry.budget().unwrap().snapshot().retries;
    for walked in [false, true] {
        let (retry, events) = budgeted();
        let closing = Closing(Script::failing(9));
        let service = if walked {
            let stack = Stack::builder().retry(retry.clone()).build().unwrap();
            Boxed::new(stack.layer(closing))
        } else {
            Boxed::new(RetryLayer::new(retry.clone()).layer(closing))
        };
        assert_eq!(service.oneshot(1).await.unwrap_err().to_string(), "closed");
        assert_eq!(gave_up(&events), [(1, GaveUp::NotReady)]);
        assert_eq!(retries(&retry), 0);

        let (retry, events) = budgeted();
        let (hook, letter) = (Numbering { again: None }, Letter { copies: 3 });
        let error = if walked {
            let stack = Stack::builder()
                .retry(retry.clone())
                .build()
                .unwrap()
                .prepare(hook);
            stack.layer(Script::failing(9)).oneshot(letter).await
        } else {
            let layer = RetryLayer::new(retry.clone()).prepare(hook);
            layer.layer(Script::failing(9)).oneshot(letter).await
        };
        assert!(error.unwrap_err().is::<Failed>());
        assert_eq!(gave_up(&events), [(1, GaveUp::NotRepeatable)]);
        assert_eq!(retries(&retry), 0);
    }
    // Nor one whose caller goes while it waits; one whose caller goes while it is made was made.
    let (retry, events) = budgeted();
    let lab = Lab::new();
    let mut service = RetryLayer::new(retry.clone()).layer(lab.clone());
    for (wait, spent) in [(99, 0), (100, 1)] {
        let mut call = Call::pending(&mut service, 1);
        lab.order(1, Order::Fail);
        assert!(call.poll().is_pending());
        advance(wait).await;
        assert!(call.poll().is_pending());
        drop(call);
        assert_eq!(retries(&retry), spent);
    }
    assert_eq!(gave_up(&events), [], "the calls were abandoned");
}

#[tokio::test(start_paused = true)]
async fn lists_work_in_a_stack_as_in_a_layer() {
    let rules = Rules::new()
        .retry(Predicate::any_error())
        .stop(Predicate::error::<io::Error>());
    let stack = Stack::builder().retry_with(build(config()).0, rules);
    let stack = stack.build().unwrap();
    assert_eq!(attempts(&stack, reset()).await, 1);
    assert_eq!(attempts(&stack, Failed).await, 2);
}

// ---- Rejections by this crate's own policies.

fn open_breaker() -> CircuitBreaker {
    let settings = CircuitBreakerConfig::new()
        .open_wait(ms(150))
        .initial_state(State::Open);
    settings.build("inventory").unwrap()
}

/// A retry around one other policy, as layers and as a stack.
fn both<L>(retry: &RetryLayer, around: L, stack: &Stack, inner: &Script) -> [Boxed; 2]
where
    L: Layer<Script>,
    L::Service: Service<u32, Response = u32, Error = BoxError> + Clone + Send + 'static,
    <L::Service as Service<u32>>::Future: Send,
{
    let nest = ServiceBuilder::new()
        .layer(retry)
        .layer(around)
        .service(inner.clone());
    [Boxed::new(nest), Boxed::new(stack.layer(inner.clone()))]
}

#[tokio::test(start_paused = true)]
async fn refusals_are_not_retried_and_cost_no_budget() {
    let (retry, events) = build(config().budget(RetryBudgetConfig::new()));
    let breaker = open_breaker();
    let bulkhead = BulkheadConfig::new(1).build("db").unwrap();
    let _slot = bulkhead.try_acquire().unwrap();
    let script = Script::failing(0);
    let layer = RetryLayer::new(retry.clone());
    let stack = Stack::builder()
        .retry(retry.clone())
        .circuit_breaker(breaker.clone());
    let over_breaker = both(
        &layer,
        CircuitBreakerLayer::new(breaker),
        &stack.build().unwrap(),
        &script,
    );
    let stack = Stack::builder().retry(retry.clone()).bulkhead(bulkhead.clone());
    let over_bulkhead = both(
        &layer,
        BulkheadLayer::new(bulkhead),
        &stack.build().unwrap(),
        &script,
    );
    for service in over_breaker.into_iter().chain(over_bulkhead) {
        let began = now();
        let error = service.oneshot(1).await.unwrap_err();
        assert_eq!(now(), began, "nothing was waited for");
        let rejected = find_rejected(&*error).unwrap();
        assert_ne!(rejected.kind(), RejectedKind::TimedOut);
        assert_eq!(rejected.attempts(), 1);
    }
    assert_eq!(script.calls(), 0);
    assert_eq!(retry.budget().unwrap().snapshot().retries, 0);
    assert_eq!(events.take(), []);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_retried_where_that_is_asked_for_and_cost_no_budget_then_either() {
    let budget = RetryBudgetConfig::new().ratio(0.001).min_per_second(0);
    let (retry, events) = build(config().budget(budget));
    let open = || Predicate::rejected(RejectedKind::CircuitOpen);
    for walked in [false, true] {
        let (breaker, script) = (open_breaker(), Script::failing(0));
        let service = if walked {
            let rules = Rules::new().retry(open());
            let stack = Stack::builder()
                .retry_with(retry.clone(), rules)
                .circuit_breaker(breaker);
            Boxed::new(stack.build().unwrap().layer(script.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(RetryLayer::new(retry.clone()).retry_on(open()))
                    .layer(CircuitBreakerLayer::new(breaker))
                    .service(script.clone()),
            )
        };
        let began = now();
        assert_eq!(service.oneshot(1).await.unwrap(), 1);
        assert_eq!(
            now().since(began),
            ms(200),
            "the third attempt found the wait of 150 ms over"
        );
        assert_eq!(script.calls(), 1);
        let refused = |left: u64| {
            format!("circuit breaker `inventory` refused the call: opened by command; retry in {left}ms")
                .into()
        };
        let after = ms(100);
        assert_eq!(
            events.take(),
            [
                What::Retrying {
                    attempt: 1,
                    after,
                    failure: refused(150)
                },
                What::Retrying {
                    attempt: 2,
                    after,
                    failure: refused(50)
                },
                What::Recovered { attempts: 3 },
            ]
        );
    }
    assert_eq!(retry.budget().unwrap().snapshot().retries, 0);
}

#[tokio::test(start_paused = true)]
async fn timeouts_are_retried_and_spend_budget() {
    let (retry, _) = build(config().budget(RetryBudgetConfig::new()));
    let timeout = TimeoutConfig::new(ms(50)).build("attempt").unwrap();
    let lab = Lab::new();
    let nest = ServiceBuilder::new()
        .layer(RetryLayer::new(retry.clone()))
        .layer(TimeoutLayer::new(timeout.clone()))
        .service(lab.clone());
    let stack = Stack::builder().retry(retry.clone()).timeout(timeout);
    let stack = stack.build().unwrap().layer(lab.clone());
    for (service, times) in [Boxed::new(nest), Boxed::new(stack)].into_iter().zip(1..) {
        let began = now();
        let error = service.oneshot(1).await.unwrap_err();
        assert_eq!(now().since(began), ms(350));
        let rejected = find_rejected(&*error).unwrap();
        assert_eq!(rejected.kind(), RejectedKind::TimedOut);
        assert!(rejected.may_have_reached_service());
        assert_eq!(rejected.attempts(), 3);
        assert_eq!(lab.made(), 3 * times);
        assert_eq!(retry.budget().unwrap().snapshot().retries, 2 * times);
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opens_between_two_attempts_ends_it_and_says_so() {
    for walked in [false, true] {
        let (retry, _) = build(config().max_attempts(10));
        let breaker = CircuitBreakerConfig::new().consecutive_failures(2);
        let breaker = breaker.build("inventory").unwrap();
        let script = Script::failing(20);
        let service = if walked {
            let stack = Stack::builder().retry(retry).circuit_breaker(breaker);
            Boxed::new(stack.build().unwrap().layer(script.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(RetryLayer::new(retry))
                    .layer(CircuitBreakerLayer::new(breaker))
                    .service(script.clone()),
            )
        };
        let error = service.oneshot(1).await.unwrap_err();
        let rejected = find_rejected(&*error).unwrap();
        assert_eq!(
            (rejected.kind(), rejected.attempts()),
            (RejectedKind::CircuitOpen, 3)
        );
        assert_eq!(script.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_tells_the_attempts_of_the_outermost_retry_and_none_where_there_is_none() {
    let timeout = TimeoutConfig::new(ms(50)).build("attempt").unwrap();
    let limited = TimeoutLayer::new(timeout).layer(Lab::new());
    let attempts = |error: BoxError| find_rejected(&*error).unwrap().attempts();
    assert_eq!(attempts(limited.clone().oneshot(1).await.unwrap_err()), 0);
    let retried = RetryLayer::new(build(config().max_attempts(4)).0).layer(limited);
    assert_eq!(attempts(retried.clone().oneshot(1).await.unwrap_err()), 4);
    let twice = RetryLayer::new(build(config().max_attempts(2)).0).layer(retried);
    assert_eq!(attempts(twice.oneshot(1).await.unwrap_err()), 2);
}

// ---- The budget.

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How many retries can be had now.
fn withdraw_all(budget: &RetryBudget) -> usize {
    std::iter::from_fn(|| budget.withdraw().then_some(()))
        .take(1_000)
        .count()
}

#[test]
fn retries_are_paid_by_a_share_of_the_calls_plus_a_floor() {
    for (ratio, per_second, calls, retries) in [
        (0.2, 0, 0, 0),
        (0.2, 0, 4, 0),
        (0.2, 0, 5, 1),
        (0.2, 0, 100, 20),
        (0.2, 3, 0, 30),
        (0.2, 3, 100, 50),
        (1.0, 0, 7, 7),
        (0.0, 1, 1000, 10),
        (0.01, 0, 99, 0),
        (0.01, 0, 100, 1),
    ] {
        let settings = RetryBudgetConfig::new().ratio(ratio).min_per_second(per_second);
        let (clock, _) = Clock::manual();
        let budget = settings.clock(clock).build().unwrap();
        for _ in 0..calls {
            budget.deposit();
        }
        assert_eq!(budget.snapshot().left, retries, "{ratio} {per_second} {calls}");
        assert_eq!(withdraw_all(&budget) as u64, retries);
        let shown = budget.snapshot();
        assert_eq!((shown.calls, shown.retries, shown.left), (calls, retries, 0));
    }
}

#[test]
fn calls_and_retries_leave_the_budget_when_its_window_has_passed() {
    let (clock, hand) = Clock::manual();
    let settings = RetryBudgetConfig::new().ratio(0.5).min_per_second(0);
    let budget = settings.window(secs(10)).clock(clock).build().unwrap();
    let deposit = |calls| (0..calls).for_each(|_| budget.deposit());
    deposit(20);
    assert_eq!(withdraw_all(&budget), 10);
    hand.advance(secs(5));
    // Calls count for the time at which the budget was last looked at.
    assert_eq!(budget.snapshot().left, 0);
    deposit(20);
    assert_eq!(withdraw_all(&budget), 10, "those of before are spent");
    hand.advance(ms(4_999));
    let shown = budget.snapshot();
    assert_eq!((shown.calls, shown.retries), (40, 20));
    hand.advance(ms(1));
    let shown = budget.snapshot();
    // Retries stay a tenth of the window longer than calls.
    assert_eq!((shown.calls, shown.retries, shown.left), (20, 20, 0));
    hand.advance(secs(6));
    assert_eq!(budget.snapshot().calls, 0);
    deposit(4);
    let shown = budget.snapshot();
    assert_eq!((shown.calls, shown.retries, shown.left), (4, 0, 2));
}

#[test]
fn no_window_sees_more_retries_than_its_calls_pay_for() {
    // Whatever the traffic: at each withdrawal the window before it is looked at. Its oldest tenth leaves at once,
    // so that only nine seconds of retries are sure to be in it.
    let (clock, hand) = Clock::manual();
    let settings = RetryBudgetConfig::new().ratio(0.2).min_per_second(1);
    let budget = settings.clock(clock.clone()).build().unwrap();
    let (mut calls, mut retries) = (Vec::new(), Vec::new());
    let mut step = 17_u64;
    for _ in 0..20_000 {
        step = step
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        hand.advance(ms(step >> 33 & 0x3F));
        let at = clock.now();
        budget.deposit();
        calls.push(at);
        if step >> 40 & 1 == 0 && budget.withdraw() {
            retries.push(at);
            let within = |points: &[Timestamp], length| {
                let recent = points.iter().rev();
                recent.take_while(|point| at.since(**point) < length).count()
            };
            let (paid, made) = (within(&calls, secs(10)) / 5 + 10, within(&retries, secs(9)));
            assert!(made <= paid, "{made} of {paid}");
        }
    }
    assert!(retries.len() > 3_000, "{} retries were granted", retries.len());
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_nothing_pays_for_is_not_made() {
    let budget = RetryBudgetConfig::new().ratio(0.5).min_per_second(0);
    let (retry, events) = build(config().budget(budget));
    let layer = RetryLayer::new(retry.clone());
    let mut calls = Vec::new();
    for _ in 0..8 {
        let script = Script::failing(20);
        send(&layer, &script).await.0.unwrap_err();
        calls.push(script.calls());
    }
    assert_eq!(
        calls,
        [1, 2, 1, 2, 1, 2, 1, 2],
        "each second call pays for a retry"
    );
    let shown = retry.budget().unwrap().snapshot();
    assert_eq!((shown.calls, shown.retries), (8, 4), "attempts pay nothing");
    let spent = events.pick(|what| match what {
        What::GaveUp { attempts, why } => Some((*attempts, *why)),
        _ => None,
    });
    assert_eq!(spent[..2], [(1, GaveUp::Budget), (2, GaveUp::Budget)]);
}

#[tokio::test(start_paused = true)]
async fn two_retries_share_a_budget() {
    let settings = RetryBudgetConfig::new().ratio(0.0).min_per_second(1);
    let budget = settings.window(secs(3)).build().unwrap();
    let (first, _) = build(config().shared_budget(&budget));
    let (second, _) = build(config().shared_budget(&budget));
    let stack = Stack::builder().retry(second.clone()).build().unwrap();
    let script = Script::failing(20);
    send(&RetryLayer::new(first.clone()), &script)
        .await
        .0
        .unwrap_err();
    assert_eq!(script.calls(), 3);
    send(&stack, &script).await.0.unwrap_err();
    assert_eq!(script.calls(), 5, "one was left");
    send(&RetryLayer::new(first), &script).await.0.unwrap_err();
    assert_eq!(script.calls(), 6);
    assert_eq!(second.budget().unwrap().snapshot(), budget.snapshot());
}

#[test]
fn a_budget_is_reconfigured_in_place() {
    let (clock, _) = Clock::manual();
    let settings = RetryBudgetConfig::new().ratio(0.2).min_per_second(0);
    let budget = settings.clone().clock(clock).build().unwrap();
    (0..100).for_each(|_| budget.deposit());
    assert_eq!(withdraw_all(&budget), 20);
    budget.reconfigure(&settings.clone().ratio(0.5)).unwrap();
    let shown = budget.snapshot();
    assert_eq!((shown.calls, shown.retries, shown.left), (100, 20, 30));
    budget.reconfigure(&settings.clone().ratio(0.1)).unwrap();
    assert_eq!(budget.snapshot().left, 0);
    assert!(budget.reconfigure(&settings.clone().ratio(2.0)).is_err());
    assert_eq!(budget.snapshot().calls, 100);
    budget.reconfigure(&settings.window(secs(20))).unwrap();
    assert_eq!(budget.snapshot().calls, 0, "another window empties it");
}

#[tokio::test(start_paused = true)]
async fn a_budget_can_be_switched_off_and_on_while_calls_are_made() {
    let tight = || RetryBudgetConfig::new().ratio(0.01).min_per_second(0);
    let (retry, _) = build(config().budget(tight()));
    let layer = RetryLayer::new(retry.clone());
    let script = Script::failing(100);
    send(&layer, &script).await.0.unwrap_err();
    assert_eq!(script.calls(), 1);
    retry.reconfigure(&config()).unwrap();
    assert!(retry.budget().is_none());
    send(&layer, &script).await.0.unwrap_err();
    assert_eq!(script.calls(), 4);
    retry.reconfigure(&config().budget(tight())).unwrap();
    assert!(retry.budget().is_some());
    send(&layer, &script).await.0.unwrap_err();
    assert_eq!(script.calls(), 5);
    let roomy = RetryBudgetConfig::new().ratio(1.0).min_per_second(0);
    retry.reconfigure(&config().budget(roomy)).unwrap();
    let shown = retry.budget().unwrap().snapshot();
    assert_eq!(
        (shown.calls, shown.retries, shown.left),
        (2, 0, 2),
        "the calls without a budget paid nothing"
    );
    send(&layer, &script).await.0.unwrap_err();
    assert_eq!(script.calls(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_goes_on_with_the_settings_it_began_with() {
    let lab = Lab::new();
    let (retry, _) = build(config().max_attempts(2));
    let mut service = RetryLayer::new(retry.clone()).layer(lab.clone());
    let mut under_way = Call::pending(&mut service, 1);
    retry
        .reconfigure(&config().max_attempts(5).backoff(Backoff::fixed(ms(10))))
        .unwrap();
    let mut new = Call::pending(&mut service, 2);
    lab.order_next(Order::Fail);
    for number in [1, 2] {
        lab.order(number, Order::Fail);
    }
    assert!(under_way.poll().is_pending());
    assert!(new.poll().is_pending());
    advance(10).await;
    assert!(under_way.poll().is_pending());
    assert!(new.poll().is_pending());
    assert_eq!(lab.made(), 3);
    advance(90).await;
    under_way.poll().failed();
    assert_eq!(lab.made(), 4, "two attempts, 100 ms apart");
}

// ---- Requests that are not `Clone`.

/// A request that cannot be copied; how often it may be sent is its own matter.
#[derive(Debug, PartialEq)]
struct Letter {
    copies: u32,
}

#[derive(Clone, Default)]
struct Post(Arc<Mutex<Vec<Letter>>>);

impl Service<Letter> for Post {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Reply>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, letter: Letter) -> Ready<Reply> {
        self.0.lock().unwrap().push(letter);
        ready(Err(Failed.into()))
    }
}

#[tokio::test(start_paused = true)]
async fn sent_once_a_request_needs_no_clone_and_a_failure_is_given_as_it_is() {
    let post = Post::default();
    let (retry, events) = build(config());
    let error = RetryLayer::new(retry)
        .once()
        .layer(post.clone())
        .oneshot(Letter { copies: 9 });
    assert!(error.await.unwrap_err().is::<Failed>());
    assert_eq!(*post.0.lock().unwrap(), [Letter { copies: 9 }]);
    let why = GaveUp::NotRepeatable;
    assert_eq!(events.take(), [What::GaveUp { attempts: 1, why }]);
}

#[tokio::test(start_paused = true)]
async fn a_closure_copies_requests_until_it_declines() {
    let post = Post::default();
    let (retry, events) = build(config().max_attempts(10));
    let copy = |letter: &Letter| {
        let copies = letter.copies.checked_sub(1)?;
        Some(Letter { copies })
    };
    let service = RetryLayer::new(retry).copy_by(copy).layer(post.clone());
    let error = service.clone().oneshot(Letter { copies: 2 }).await.unwrap_err();
    assert!(error.is::<Failed>());
    let sent = [2, 1, 0].map(|copies| Letter { copies });
    assert_eq!(std::mem::take(&mut *post.0.lock().unwrap()), sent);
    let gave_up = What::GaveUp {
        attempts: 3,
        why: GaveUp::NotRepeatable,
    };
    assert_eq!(events.take().last(), Some(&gave_up));
    service.oneshot(Letter { copies: 0 }).await.unwrap_err();
    assert_eq!(post.0.lock().unwrap().len(), 1);
}

/// Sends numbers for letters, and may break its word.
#[derive(Clone)]
struct Numbering {
    again: Option<u32>,
}

impl Replay<Letter> for Numbering {
    type Sent = u32;
    type Kept = u32;

    fn first(&self, letter: Letter) -> (u32, u32) {
        (letter.copies, letter.copies)
    }

    fn can_repeat(&self, kept: &u32) -> bool {
        *kept > 0
    }

    fn again(&self, kept: &mut u32) -> Option<u32> {
        *kept -= 1;
        self.again.map(|again| again + *kept)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_prepares_each_attempt_and_may_send_another_type() {
    let script = Script::failing(20);
    let layer = RetryLayer::new(build(config().max_attempts(10)).0);
    let service = layer
        .prepare(Numbering { again: Some(100) })
        .layer(script.clone());
    service.oneshot(Letter { copies: 3 }).await.unwrap_err();
    assert_eq!(*script.requests.lock().unwrap(), [3, 102, 101, 100]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_breaks_its_word_costs_the_retry_and_nothing_else() {
    for walked in [false, true] {
        let script = Script::failing(20);
        let (retry, _) = build(config());
        let bulkhead = BulkheadConfig::new(1).build("db").unwrap();
        let breaker = CircuitBreaker::with_defaults("inventory").unwrap();
        let hook = Numbering { again: None };
        let letter = Letter { copies: 3 };
        let error = if walked {
            let stack = Stack::builder()
                .bulkhead(bulkhead.clone())
                .circuit_breaker(breaker.clone())
                .retry(retry);
            let stack = stack.build().unwrap().prepare(hook);
            stack.layer(script.clone()).oneshot(letter).await.unwrap_err()
        } else {
            let nest = ServiceBuilder::new()
                .layer(BulkheadLayer::new(bulkhead.clone()))
                .layer(CircuitBreakerLayer::new(breaker.clone()))
                .layer(RetryLayer::new(retry).prepare(hook))
                .service(script.clone());
            nest.oneshot(letter).await.unwrap_err()
        };
        assert!(error.is::<Failed>());
        assert_eq!(script.calls(), 1);
        assert_eq!(bulkhead.snapshot().in_flight, 0);
        assert_eq!(
            breaker.snapshot().failed,
            1,
            "a breaker around it sees the failure, walked: {walked}"
        );
    }
}

// ---- The service between two attempts.

/// Ready when a test says so; a clone is not ready.
#[derive(Clone)]
struct Gate {
    script: Script,
    open: Arc<Mutex<Result<bool, ()>>>,
    polls: Arc<Mutex<u32>>,
}

impl Service<u32> for Gate {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Reply>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        *self.polls.lock().unwrap() += 1;
        match *self.open.lock().unwrap() {
            Ok(true) => self.script.poll_ready(cx),
            Ok(false) => Poll::Pending,
            Err(()) => Poll::Ready(Err("worn out".into())),
        }
    }

    fn call(&mut self, request: u32) -> Ready<Reply> {
        self.script.call(request)
    }
}

fn gate(script: Script) -> Gate {
    Gate {
        script,
        open: Arc::new(Mutex::new(Ok(true))),
        polls: Arc::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_is_driven_ready_before_each_attempt() {
    let gate = gate(Script::failing(2));
    let service = RetryLayer::new(build(config()).0).layer(gate.clone());
    assert_eq!(service.oneshot(1).await.unwrap(), 1);
    assert_eq!((*gate.polls.lock().unwrap(), gate.script.calls()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_becomes_ready_late_delays_the_attempt() {
    for walked in [false, true] {
        let gate = gate(Script::failing(1));
        let (retry, _) = build(config());
        let mut service = if walked {
            let stack = Stack::builder().retry(retry).build().unwrap();
            Boxed::new(stack.layer(gate.clone()))
        } else {
            Boxed::new(RetryLayer::new(retry).layer(gate.clone()))
        };
        let mut call = Call::pending(&mut service, 1);
        *gate.open.lock().unwrap() = Ok(false);
        advance(100).await;
        assert!(call.poll().is_pending());
        advance(5_000).await;
        assert!(call.poll().is_pending());
        assert_eq!(gate.script.calls(), 1);
        *gate.open.lock().unwrap() = Ok(true);
        call.poll().succeeded();
        assert_eq!(gate.script.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_worn_out_between_two_attempts_ends_it_with_its_own_error() {
    for walked in [false, true] {
        let gate = gate(Script::failing(1));
        let (retry, _) = build(config());
        let bulkhead = BulkheadConfig::new(1).build("db").unwrap();
        let mut service = if walked {
            let stack = Stack::builder().bulkhead(bulkhead.clone()).retry(retry);
            Boxed::new(stack.build().unwrap().layer(gate.clone()))
        } else {
            Boxed::new(
                ServiceBuilder::new()
                    .layer(BulkheadLayer::new(bulkhead.clone()))
                    .layer(RetryLayer::new(retry))
                    .service(gate.clone()),
            )
        };
        let mut call = Call::pending(&mut service, 1);
        *gate.open.lock().unwrap() = Err(());
        advance(100).await;
        let lab::Polled::Ready(Err(error)) = call.poll() else {
            panic!("it ends");
        };
        assert_eq!(error.to_string(), "worn out");
        assert_eq!(bulkhead.snapshot().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_polled_ready_is_refused_and_not_retried() {
    let (retry, _) = build(config());
    let script = Script::failing(0);
    let mut service = RetryLayer::new(retry).layer(script.clone());
    let error = service.call(1).await.unwrap_err();
    let rejected = find_rejected(&*error).unwrap();
    assert_eq!(rejected.reason(), &Reason::NotPolledReady);
    assert_eq!(script.calls(), 0);
}

// ---- Seeds.

/// The waits of a call with nine retries.
fn waits(config: RetryConfig) -> Vec<Duration> {
    paused(async {
        let (retry, events) = build(config.max_attempts(10));
        send(&RetryLayer::new(retry), &Script::failing(20))
            .await
            .0
            .unwrap_err();
        events.pick(|what| match what {
            What::Retrying { after, .. } => Some(*after),
            _ => None,
        })
    })
}

#[test]
fn a_seed_repeats_the_waits_and_another_does_not() {
    for backoff in [
        Backoff::exponential(ms(100), 2.0, secs(5)),
        Backoff::decorrelated(ms(100), secs(5)),
    ] {
        let seeded = |seed| waits(config().backoff(backoff.clone()).jitter(Jitter::Full).seed(seed));
        assert_eq!(seeded(1), seeded(1));
        assert_ne!(seeded(1), seeded(2));
        let unseeded = || waits(config().backoff(backoff.clone()).jitter(Jitter::Full));
        assert_ne!(unseeded(), unseeded());
    }
}
