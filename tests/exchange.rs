//! An exchange of the user's own: what a policy layer, and a stack, ask it and tell it.
//!
//! The protocol is a shop's. An [`Order`] is answered by a [`Reply`], of which the head is known at once and the rest,
//! where it streams, later. [`Shop`] is the exchange; each test runs it under one policy's layer and under a stack.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long it took")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    Abandoned, Advice, Backoff, BoxError, Bulkhead, BulkheadConfig, BulkheadLayer, CircuitBreaker,
    CircuitBreakerConfig, CircuitBreakerLayer, Exchange, Fallback, FallbackLayer, Held, HoldsRejected,
    Jitter, Outcome, Policy, Predicate, Rejected, RejectedKind, Retry, RetryConfig, RetryLayer, Rules, Stack,
    Timeout, TimeoutConfig, TimeoutLayer, Verdict, find_rejected,
};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneService};

const SECOND: Duration = Duration::from_secs(1);

/// What is sent.
#[derive(Clone, Default)]
struct Order {
    /// Whether it may be sent twice.
    idempotent: bool,
    /// How long its sender waits, by the name of the timeout.
    patience: Vec<(&'static str, Duration)>,
}

impl Order {
    fn idempotent() -> Self {
        Self {
            idempotent: true,
            ..Self::default()
        }
    }

    fn patient(timeout: &'static str, patience: Duration) -> Self {
        Self {
            patience: vec![(timeout, patience)],
            ..Self::default()
        }
    }
}

/// What the service answers.
#[derive(Clone, Copy)]
struct Reply {
    code: u16,
    /// Whether the rest follows.
    streams: bool,
    attempts: u32,
}

fn code(code: u16) -> Reply {
    Reply {
        code,
        streams: false,
        attempts: 0,
    }
}

fn streaming(code: u16) -> Reply {
    Reply {
        streams: true,
        ..self::code(code)
    }
}

/// What the caller gets.
struct Given {
    code: u16,
    attempts: u32,
    /// What the exchange knew of the order.
    idempotent: bool,
    /// Where the rest follows: what is to be told how that ended.
    rest: Option<Box<dyn Rest>>,
}

/// A [`Held`], whatever the policy.
trait Rest: Send {
    fn settle(self: Box<Self>, outcome: &Outcome<'_>);
    fn abandon(self: Box<Self>, why: Abandoned);
    fn pended(&mut self) -> Option<Instant>;
    fn expire(&mut self) -> Option<Rejected>;
    fn policy(&self) -> String;
}

impl<P: Policy> Rest for Held<P> {
    fn settle(self: Box<Self>, outcome: &Outcome<'_>) {
        Held::settle(*self, outcome);
    }

    fn abandon(self: Box<Self>, why: Abandoned) {
        Held::abandon(*self, why);
    }

    fn pended(&mut self) -> Option<Instant> {
        Held::pended(self)
    }

    fn expire(&mut self) -> Option<Rejected> {
        Held::expire(self)
    }

    fn policy(&self) -> String {
        Held::policy(self).name().to_string()
    }
}

/// The exchange.
#[derive(Clone, Default)]
struct Shop {
    /// What it was asked and told, in this order.
    asked: Arc<Mutex<Vec<String>>>,
    /// Whether timeouts cover the rest of a reply.
    covers: bool,
    /// Whether a reply of 200 is a plain success.
    quick: bool,
}

impl Shop {
    fn covering() -> Self {
        Self {
            covers: true,
            ..Self::default()
        }
    }

    fn note(&self, asked: impl Into<String>) {
        self.asked.lock().unwrap().push(asked.into());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl<E: HoldsRejected> Exchange<Order, Reply, E> for Shop {
    type Facts = Order;
    type Response<P: Policy> = Given;

    const DEFERS: bool = true;

    fn facts(&self, order: &Order) -> Order {
        self.note("facts");
        order.clone()
    }

    fn judge<'a>(&self, order: &Order, result: Result<&'a Reply, &'a E>) -> Outcome<'a> {
        let outcome = match result {
            Err(error) => {
                self.note("judge an error");
                Outcome::of_error(error)
            }
            Ok(reply) => {
                self.note(format!("judge {}", reply.code));
                let judged = if reply.code < 500 {
                    Outcome::success()
                } else {
                    Outcome::failure()
                };
                judged
                    .with_status(reply.code)
                    .with_deferred(reply.streams)
                    .with_timed(self.covers)
            }
        };
        outcome.with_repeatable(order.idempotent)
    }

    fn limit(&self, order: &Order, timeout: &str) -> Option<Duration> {
        let mut patience = order.patience.iter();
        let (_, limit) = patience.find(|(name, _)| *name == timeout)?;
        Some(*limit)
    }

    fn note_attempts(&self, reply: &mut Reply, attempts: u32) {
        self.note(format!("attempts {attempts}"));
        reply.attempts = attempts;
    }

    fn is_plain_success(&self, _order: &Order, reply: &Reply) -> bool {
        self.quick && reply.code == 200 && !reply.streams
    }

    fn give<P: Policy>(&self, order: &Order, reply: Reply) -> Given {
        self.note("give");
        Given {
            code: reply.code,
            attempts: reply.attempts,
            idempotent: order.idempotent,
            rest: None,
        }
    }

    fn carry<P: Policy>(&self, order: &Order, reply: Reply, held: Held<P>) -> Given {
        self.note("carry");
        Given {
            code: reply.code,
            attempts: reply.attempts,
            idempotent: order.idempotent,
            rest: Some(Box::new(held)),
        }
    }
}

/// A guarded service whose type does not tell by what.
type Guarded = BoxCloneService<Order, Given, BoxError>;

/// What the service does with its n-th call: after how long, and what it answers.
type Replies = fn(usize) -> (Duration, Result<Reply, BoxError>);

fn at_once(reply: Reply) -> (Duration, Result<Reply, BoxError>) {
    (Duration::ZERO, Ok(reply))
}

fn replying(
    replies: Replies,
) -> impl tower::Service<Order, Response = Reply, Error = BoxError, Future: Send> + Clone + Send {
    let calls = Arc::new(Mutex::new(0));
    service_fn(move |_order| {
        let call = {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            *calls - 1
        };
        async move {
            let (after, reply) = replies(call);
            if !after.is_zero() {
                sleep(after).await;
            }
            reply
        }
    })
}

/// Guards by one policy: by its layer, or by a stack of it alone.
macro_rules! each_way {
    ($layer:ident, $stage:ident, $policy:expr, $shop:expr, $replies:expr) => {
        [false, true].map(|walked| {
            let (policy, shop) = ($policy, $shop);
            let service = replying($replies);
            let guarded = if walked {
                let stack = Stack::builder().$stage(policy.clone()).build().unwrap();
                Guarded::new(stack.exchange(shop.clone()).layer(service))
            } else {
                Guarded::new($layer::new(policy.clone()).exchange(shop.clone()).layer(service))
            };
            (guarded, policy, shop)
        })
    };
}

async fn send(guarded: &Guarded, order: Order) -> Result<Given, BoxError> {
    guarded.clone().oneshot(order).await
}

fn breaker() -> CircuitBreaker {
    CircuitBreakerConfig::new()
        .slow_calls(2 * SECOND, 1.0)
        .dropped_after(4 * SECOND)
        .build("stock")
        .unwrap()
}

fn bulkhead() -> Bulkhead {
    BulkheadConfig::new(1).build("stock").unwrap()
}

fn retry() -> Retry {
    RetryConfig::new()
        .max_attempts(3)
        .backoff(Backoff::fixed(SECOND))
        .jitter(Jitter::None)
        .no_budget()
        .build("stock")
        .unwrap()
}

fn timeout(name: &str, limit: Duration) -> Timeout {
    TimeoutConfig::new(limit).build(name).unwrap()
}

/// Calls, failed ones and slow ones of them.
fn counts(breaker: &CircuitBreaker) -> (u64, u64, u64) {
    let snapshot = breaker.snapshot();
    (snapshot.calls, snapshot.failed, snapshot.slow)
}

// ---- What it is asked, and when.

#[tokio::test(start_paused = true)]
async fn facts_are_taken_once_and_each_result_is_judged_and_only_the_last_is_given() {
    let replies: Replies = |call| at_once(code(if call < 2 { 503 } else { 200 }));
    for (guarded, _, shop) in each_way!(RetryLayer, retry, retry(), Shop::default(), replies) {
        let given = send(&guarded, Order::idempotent()).await.unwrap();
        assert_eq!((given.code, given.attempts), (200, 3));
        assert!(given.idempotent, "the facts are there when it is given");
        assert_eq!(
            shop.asked(),
            [
                "facts",
                "judge 503",
                "judge 503",
                "judge 200",
                "attempts 3",
                "give"
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_facts_say_whether_a_request_may_be_sent_again() {
    let replies: Replies = |_| at_once(code(503));
    for (guarded, _, shop) in each_way!(RetryLayer, retry, retry(), Shop::default(), replies) {
        let given = send(&guarded, Order::default()).await.unwrap();
        assert_eq!((given.code, given.attempts), (503, 0));
        assert_eq!(shop.asked(), ["facts", "judge 503", "give"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_judged_with_the_facts_and_neither_given_nor_carried() {
    let replies: Replies = |_| (Duration::ZERO, Err("no stock".into()));
    for (guarded, _, shop) in each_way!(RetryLayer, retry, retry(), Shop::default(), replies) {
        for (order, judged) in [(Order::default(), 1), (Order::idempotent(), 3)] {
            let error = send(&guarded, order).await.err().unwrap();
            assert_eq!(error.to_string(), "no stock");
            let mut asked = vec!["facts"];
            asked.extend(["judge an error"; 3].iter().take(judged));
            assert_eq!(shop.asked(), asked);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_judged_by_whoever_is_around_the_policy_that_made_it() {
    let stack = Stack::builder()
        .retry_with(
            retry(),
            Rules::new().retry(Predicate::rejected(RejectedKind::BulkheadFull)),
        )
        .bulkhead(bulkhead())
        .build()
        .unwrap();
    let shop = Shop::default();
    let replies: Replies = |_| at_once(streaming(200));
    let guarded = Guarded::new(stack.exchange(shop.clone()).layer(replying(replies)));
    let first = send(&guarded, Order::idempotent()).await.unwrap();
    shop.asked();
    let error = send(&guarded, Order::idempotent()).await.err().unwrap();
    assert_eq!(find_rejected(&*error).unwrap().attempts(), 3);
    assert_eq!(
        shop.asked(),
        ["facts", "judge an error", "judge an error", "judge an error"]
    );
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_plain_success_is_not_judged_unless_rules_look_at_it() {
    let replies: Replies = |_| at_once(code(200));
    let quick = || Shop {
        quick: true,
        ..Shop::default()
    };
    for (guarded, breaker, shop) in
        each_way!(CircuitBreakerLayer, circuit_breaker, breaker(), quick(), replies)
    {
        send(&guarded, Order::default()).await.unwrap();
        assert_eq!(shop.asked(), ["facts", "give"]);
        assert_eq!(counts(&breaker), (1, 0, 0));
    }

    let (ok_is_a_failure, shop) = (Predicate::status(200..=200), quick());
    let layer = CircuitBreakerLayer::new(breaker()).record(ok_is_a_failure.clone());
    let breaker = layer.policy().clone();
    let by_layer = Guarded::new(layer.exchange(shop.clone()).layer(replying(replies)));
    send(&by_layer, Order::default()).await.unwrap();
    assert_eq!(counts(&breaker), (1, 1, 0));
    let stack = Stack::builder()
        .circuit_breaker_with(breaker.clone(), Rules::new().record(ok_is_a_failure))
        .build()
        .unwrap();
    let by_stack = Guarded::new(stack.exchange(shop.clone()).layer(replying(replies)));
    send(&by_stack, Order::default()).await.unwrap();
    assert_eq!(counts(&breaker), (2, 2, 0));
    assert_eq!(
        shop.asked(),
        ["facts", "judge 200", "give", "facts", "judge 200", "give"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_looks_at_no_verdict_still_learns_that_one_is_deferred() {
    let replies: Replies = |_| at_once(streaming(200));
    for (guarded, bulkhead, shop) in each_way!(BulkheadLayer, bulkhead, bulkhead(), Shop::default(), replies)
    {
        let given = send(&guarded, Order::default()).await.unwrap();
        assert_eq!(shop.asked(), ["facts", "judge 200", "carry"]);
        assert_eq!(given.rest.as_ref().unwrap().policy(), "stock");
        assert_eq!(bulkhead.snapshot().in_flight, 1);
        drop(given);
        assert_eq!(bulkhead.snapshot().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_is_told_the_facts_and_the_attempts_of_what_it_hides() {
    let shop = Shop::default();
    let hidden = Arc::new(Mutex::new(None));
    let hides = Arc::clone(&hidden);
    let answer = buttress::AnswerBy(move |order: &Order, reply: Result<Reply, BoxError>| {
        *hides.lock().unwrap() = Some((order.idempotent, reply.unwrap().attempts));
        Ok(code(299))
    });
    let stack = Stack::builder()
        .fallback(Fallback::new("stock"), answer)
        .retry(retry())
        .build()
        .unwrap();
    let replies: Replies = |_| at_once(code(503));
    let guarded = Guarded::new(stack.exchange(shop.clone()).layer(replying(replies)));
    let given = send(&guarded, Order::idempotent()).await.unwrap();
    assert_eq!(*hidden.lock().unwrap(), Some((true, 3)));
    assert_eq!((given.code, given.attempts), (299, 0), "the answer took none");
    assert_eq!(
        shop.asked(),
        [
            "facts",
            "judge 503",
            "judge 503",
            "judge 503",
            "attempts 3",
            "judge 299",
            "give"
        ]
    );

    let alone = FallbackLayer::value(Fallback::new("stock"), code(298)).exchange(shop.clone());
    let guarded = Guarded::new(alone.layer(replying(replies)));
    assert_eq!(send(&guarded, Order::default()).await.unwrap().code, 298);
    assert_eq!(shop.asked(), ["facts", "judge 503", "judge 298", "give"]);
}

// ---- Verdicts.

#[tokio::test(start_paused = true)]
async fn a_verdict_at_the_head_is_recorded_there() {
    let replies: Replies = |call| at_once(code(if call == 0 { 404 } else { 503 }));
    for (guarded, breaker, _) in each_way!(
        CircuitBreakerLayer,
        circuit_breaker,
        breaker(),
        Shop::default(),
        replies
    ) {
        let given = send(&guarded, Order::default()).await.unwrap();
        assert_eq!(counts(&breaker), (1, 0, 0));
        assert!(given.rest.is_none());
        send(&guarded, Order::default()).await.unwrap();
        assert_eq!(counts(&breaker), (2, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deferred_verdict_is_the_one_that_the_end_tells() {
    let replies: Replies = |call| at_once(streaming(if call < 3 { 200 } else { 503 }));
    for (guarded, breaker, _) in each_way!(
        CircuitBreakerLayer,
        circuit_breaker,
        breaker(),
        Shop::default(),
        replies
    ) {
        for (told, after) in [
            (Outcome::success(), (1, 0, 0)),
            (Outcome::failure(), (2, 1, 0)),
            (Outcome::success().with_verdict(Verdict::Ignored), (2, 1, 0)),
            // It says that it is deferred once more: it counts as it stands.
            (Outcome::success().with_deferred(true), (3, 1, 0)),
        ] {
            let before = counts(&breaker);
            let given = send(&guarded, Order::default()).await.unwrap();
            assert_eq!(counts(&breaker), before, "nothing is known of it yet");
            given.rest.unwrap().settle(&told);
            assert_eq!(counts(&breaker), after);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rules_refine_a_verdict_that_the_end_tells() {
    let (not_found, replies): (_, Replies) = (Predicate::status(404..=404), |_| at_once(streaming(404)));
    let told = || Outcome::failure().with_status(404);
    let by_layer = {
        let breaker = breaker();
        let layer = CircuitBreakerLayer::new(breaker.clone())
            .ignore(not_found.clone())
            .record(Predicate::any_error());
        let guarded = layer.exchange(Shop::default()).layer(replying(replies));
        (breaker, Guarded::new(guarded))
    };
    let by_stack = {
        let breaker = breaker();
        let rules = Rules::new().ignore(not_found).record(Predicate::any_error());
        let stack = Stack::builder().circuit_breaker_with(breaker.clone(), rules);
        let stack = stack.build().unwrap().exchange(Shop::default());
        (breaker, Guarded::new(stack.layer(replying(replies))))
    };
    for (breaker, guarded) in [by_layer, by_stack] {
        let given = send(&guarded, Order::default()).await.unwrap();
        given.rest.unwrap().settle(&told());
        assert_eq!(counts(&breaker), (0, 0, 0), "it is ignored");
        let given = send(&guarded, Order::default()).await.unwrap();
        given.rest.unwrap().settle(&Outcome::failure());
        assert_eq!(counts(&breaker), (1, 0, 0), "it is no error");
        let given = send(&guarded, Order::default()).await.unwrap();
        let broken: BoxError = "broken off".into();
        given.rest.unwrap().settle(&Outcome::of_error(&broken));
        assert_eq!(counts(&breaker), (2, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_names_a_response_by_its_status_and_a_negation_names_no_success() {
    for (predicate, failed) in [
        (Predicate::status(404..=404), [0, 1, 0, 0]),
        (Predicate::status(500..=599), [0, 0, 1, 0]),
        (!Predicate::status(404..=404), [0, 0, 1, 1]),
        (!Predicate::any_error(), [0, 0, 1, 0]),
    ] {
        let replies: Replies = |call| match call {
            0 => at_once(code(200)),
            1 => at_once(code(404)),
            2 => at_once(code(503)),
            _ => (Duration::ZERO, Err("no stock".into())),
        };
        let by_layer = {
            let breaker = breaker();
            let layer = CircuitBreakerLayer::new(breaker.clone()).record(predicate.clone());
            (
                breaker,
                Guarded::new(layer.exchange(Shop::default()).layer(replying(replies))),
            )
        };
        let by_stack = {
            let breaker = breaker();
            let stack =
                Stack::builder().circuit_breaker_with(breaker.clone(), Rules::new().record(predicate));
            let stack = stack.build().unwrap().exchange(Shop::default());
            (breaker, Guarded::new(stack.layer(replying(replies))))
        };
        for (breaker, guarded) in [by_layer, by_stack] {
            let mut recorded = [0; 4];
            for (call, recorded) in recorded.iter_mut().enumerate() {
                let (_, before, _) = counts(&breaker);
                send(&guarded, Order::default()).await.ok();
                let (calls, after, _) = counts(&breaker);
                assert_eq!(calls, call as u64 + 1);
                *recorded = after - before;
            }
            assert_eq!(recorded, failed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_for_what_is_not_something_answers_for_no_success() {
    let replies: Replies = |call| match call {
        0 => at_once(code(200)),
        1 => at_once(code(503)),
        _ => (Duration::ZERO, Err("no stock".into())),
    };
    let fallback = Fallback::on("stock", !Predicate::any_error());
    let layer = FallbackLayer::value(fallback, code(299)).exchange(Shop::default());
    let guarded = Guarded::new(layer.layer(replying(replies)));
    assert_eq!(send(&guarded, Order::default()).await.unwrap().code, 200);
    assert_eq!(send(&guarded, Order::default()).await.unwrap().code, 299);
    assert!(send(&guarded, Order::default()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_retried_ends_its_call_there_and_only_the_last_is_carried() {
    let (breaker, bulkhead, shop) = (breaker(), bulkhead(), Shop::default());
    let stack = Stack::builder()
        .retry(retry())
        .circuit_breaker(breaker.clone())
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let replies: Replies = |call| at_once(streaming(if call < 2 { 503 } else { 200 }));
    let guarded = Guarded::new(stack.exchange(shop.clone()).layer(replying(replies)));
    let given = send(&guarded, Order::idempotent()).await.unwrap();
    assert_eq!(
        shop.asked(),
        [
            "facts",
            "judge 503",
            "judge 503",
            "judge 200",
            "attempts 3",
            "carry"
        ]
    );
    assert_eq!((given.code, given.attempts), (200, 3));
    assert_eq!(counts(&breaker), (2, 2, 0), "the heads that go nowhere");
    assert_eq!(bulkhead.snapshot().in_flight, 1);
    given.rest.unwrap().settle(&Outcome::success());
    assert_eq!(counts(&breaker), (3, 2, 0));
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

// ---- Limits.

#[tokio::test(start_paused = true)]
async fn a_request_chooses_its_limit_by_the_name_of_the_timeout() {
    let never: Replies = |_| (1000 * SECOND, Ok(code(200)));
    let nine = || timeout("attempt", 9 * SECOND);
    for (guarded, _, _) in each_way!(TimeoutLayer, timeout, nine(), Shop::default(), never) {
        for (order, limit) in [
            (Order::default(), 9 * SECOND),
            (Order::patient("attempt", 2 * SECOND), 2 * SECOND),
            (Order::patient("attempt", 20 * SECOND), 20 * SECOND),
            (Order::patient("total", 2 * SECOND), 9 * SECOND),
        ] {
            let began = Instant::now();
            let error = send(&guarded, order).await.err().unwrap();
            assert_eq!(find_rejected(&*error).unwrap().kind(), RejectedKind::TimedOut);
            assert_eq!(began.elapsed().as_millis(), limit.as_millis());
        }
    }

    // Each timeout of a stack asks for its own; that of the attempts anew for each.
    let stack = Stack::builder()
        .timeout(timeout("total", 30 * SECOND))
        .retry(retry())
        .timeout(nine())
        .build()
        .unwrap();
    let guarded = Guarded::new(stack.exchange(Shop::default()).layer(replying(never)));
    for (patience, policy, waited) in [
        (vec![("attempt", 2 * SECOND)], "attempt", 2 + 1 + 2 + 1 + 2),
        (vec![("attempt", 2 * SECOND), ("total", 5 * SECOND)], "total", 5),
    ] {
        let order = Order {
            patience,
            ..Order::idempotent()
        };
        let began = Instant::now();
        let error = send(&guarded, order).await.err().unwrap();
        assert_eq!(find_rejected(&*error).unwrap().policy(), policy);
        assert_eq!(began.elapsed().as_millis(), waited * 1000);
    }
}

// ---- The clock of a call whose head comes at the first poll.

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_reply_whose_head_comes_at_once_is_timed_as_any_other() {
    let at_once: Replies = |_| at_once(streaming(200));
    for looks_at_slow_calls in [true, false] {
        let breaker = || {
            let mut config = CircuitBreakerConfig::new().dropped_after(SECOND);
            if looks_at_slow_calls {
                config = config.slow_calls(2 * SECOND, 1.0);
            }
            config.build("stock").unwrap()
        };
        for (guarded, breaker, _) in each_way!(
            CircuitBreakerLayer,
            circuit_breaker,
            breaker(),
            Shop::default(),
            at_once
        ) {
            for (held, after) in [(SECOND / 2, (0, 0, 0)), (SECOND, (1, 1, 0))] {
                let given = send(&guarded, Order::default()).await.unwrap();
                advance(held).await;
                drop(given);
                assert_eq!(counts(&breaker), after, "it is dropped after {held:?}");
            }
            let given = send(&guarded, Order::default()).await.unwrap();
            advance(3 * SECOND).await;
            given.rest.unwrap().settle(&Outcome::success());
            assert_eq!(counts(&breaker), (2, 1, u64::from(looks_at_slow_calls)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_covers_the_rest_counts_from_a_head_that_comes_at_once() {
    let at_once: Replies = |_| at_once(streaming(200));
    let second = || timeout("total", SECOND);
    for (guarded, _, _) in each_way!(TimeoutLayer, timeout, second(), Shop::covering(), at_once) {
        let began = Instant::now();
        let mut rest = send(&guarded, Order::default()).await.unwrap().rest.unwrap();
        advance(SECOND / 2).await;
        assert_eq!((rest.pended().unwrap() - began).as_millis(), 1000);
        advance(SECOND / 2).await;
        assert_eq!(rest.expire().unwrap().kind(), RejectedKind::TimedOut);
    }
}

// ---- The rest of a reply: how it ends.

/// Its head takes a tenth of a second.
const SOON: Replies = |_| (SECOND / 10, Ok(streaming(200)));

#[tokio::test(start_paused = true)]
async fn a_slow_rest_makes_a_slow_call() {
    for (guarded, breaker, _) in each_way!(
        CircuitBreakerLayer,
        circuit_breaker,
        breaker(),
        Shop::default(),
        SOON
    ) {
        for (rest, after) in [(SECOND, (1, 0, 0)), (2 * SECOND, (2, 0, 1))] {
            let given = send(&guarded, Order::default()).await.unwrap();
            advance(rest).await;
            given.rest.unwrap().settle(&Outcome::success());
            assert_eq!(counts(&breaker), after, "the head counts too");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_is_dropped_half_way_is_a_dropped_call() {
    for (guarded, breaker, _) in each_way!(
        CircuitBreakerLayer,
        circuit_breaker,
        breaker(),
        Shop::default(),
        SOON
    ) {
        for (held, after) in [(SECOND, (0, 0, 0)), (4 * SECOND, (1, 1, 1))] {
            let given = send(&guarded, Order::default()).await.unwrap();
            advance(held).await;
            drop(given);
            assert_eq!(counts(&breaker), after);
        }
    }
    let given = {
        let bulkhead = bulkhead();
        let guarded = BulkheadLayer::new(bulkhead.clone())
            .exchange(Shop::default())
            .layer(replying(SOON));
        (bulkhead, guarded.oneshot(Order::default()).await.unwrap())
    };
    // The service is gone, and the slot is held all the same.
    assert_eq!(given.0.snapshot().in_flight, 1);
    drop(given.1);
    assert_eq!(given.0.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_is_abandoned_says_why() {
    for (guarded, breaker, _) in each_way!(
        CircuitBreakerLayer,
        circuit_breaker,
        breaker(),
        Shop::default(),
        SOON
    ) {
        for (why, after) in [
            (Abandoned::Dropped, (0, 0, 0)),
            (Abandoned::Panicked, (1, 1, 0)),
            (Abandoned::TimedOut, (2, 2, 0)),
        ] {
            let given = send(&guarded, Order::default()).await.unwrap();
            given.rest.unwrap().abandon(why);
            assert_eq!(counts(&breaker), after, "{why:?}");
        }
        // Where it is dropped while a panic unwinds, it need not be told.
        let given = send(&guarded, Order::default()).await.unwrap();
        let reading = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _given = given;
            std::panic::panic_any("as ordered");
        }));
        assert!(reading.is_err());
        assert_eq!(counts(&breaker), (3, 3, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn timeouts_end_at_the_head_unless_they_are_told_to_run_on() {
    let second = || timeout("total", SECOND);
    for (guarded, _, shop) in each_way!(TimeoutLayer, timeout, second(), Shop::default(), SOON) {
        let given = send(&guarded, Order::default()).await.unwrap();
        assert_eq!(shop.asked(), ["facts", "judge 200", "give"]);
        assert!(given.rest.is_none(), "there is nothing to hold");
    }
    for (guarded, _, shop) in each_way!(TimeoutLayer, timeout, second(), Shop::covering(), SOON) {
        let began = Instant::now();
        let given = send(&guarded, Order::default()).await.unwrap();
        assert_eq!(shop.asked(), ["facts", "judge 200", "carry"]);
        let mut rest = given.rest.unwrap();
        // Some of the rest comes at once, and the limit goes on from the beginning of the call.
        advance(SECOND / 2).await;
        let deadline = rest.pended().unwrap();
        assert_eq!((deadline - began).as_millis(), 1000);
        assert!(rest.expire().is_none(), "it is not over yet");
        advance(SECOND / 2).await;
        let rejected = rest.expire().unwrap();
        assert_eq!(
            (rejected.kind(), rejected.policy()),
            (RejectedKind::TimedOut, "total")
        );
        assert_eq!(rest.pended(), None, "it is refused once");
        rest.settle(&Outcome::of_error(&rejected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_cuts_the_rest_off_is_a_failure_of_what_is_inside_of_it_and_outside() {
    let (outside, inside, bulkhead) = (breaker(), breaker(), bulkhead());
    let stack = Stack::builder()
        .circuit_breaker(outside.clone())
        .timeout(timeout("total", 3 * SECOND))
        .circuit_breaker(inside.clone())
        .bulkhead(bulkhead.clone())
        .build()
        .unwrap();
    let guarded = Guarded::new(stack.exchange(Shop::covering()).layer(replying(SOON)));
    let given = send(&guarded, Order::default()).await.unwrap();
    let mut rest = given.rest.unwrap();
    tokio::time::sleep_until(rest.pended().unwrap()).await;
    let rejected = rest.expire().unwrap();
    assert_eq!((counts(&outside), counts(&inside)), ((0, 0, 0), (0, 0, 0)));
    assert_eq!(bulkhead.snapshot().in_flight, 1, "what is cut off is still there");
    rest.settle(&Outcome::of_error(&rejected));
    assert_eq!((counts(&outside), counts(&inside)), ((1, 1, 1), (1, 1, 1)));
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_or_cut_off_before_its_head_is_neither_judged_nor_carried() {
    let hanging: Replies = |_| (1000 * SECOND, Ok(streaming(200)));
    for (guarded, breaker, shop) in each_way!(
        CircuitBreakerLayer,
        circuit_breaker,
        breaker(),
        Shop::default(),
        hanging
    ) {
        for (patience, after) in [(SECOND, (0, 0, 0)), (5 * SECOND, (1, 1, 1))] {
            let call = send(&guarded, Order::default());
            assert!(tokio::time::timeout(patience, call).await.is_err());
            assert_eq!(counts(&breaker), after);
            assert_eq!(shop.asked(), ["facts"]);
        }
    }
    let shop = Shop::covering();
    let stack = Stack::builder()
        .timeout(timeout("total", SECOND))
        .circuit_breaker(breaker())
        .build()
        .unwrap();
    let guarded = Guarded::new(stack.exchange(shop.clone()).layer(replying(hanging)));
    let error = send(&guarded, Order::default()).await.err().unwrap();
    assert_eq!(find_rejected(&*error).unwrap().policy(), "total");
    assert_eq!(shop.asked(), ["facts", "judge an error"]);
}

#[tokio::test(start_paused = true)]
async fn advice_that_comes_with_the_end_is_too_late_for_another_attempt() {
    let replies: Replies = |_| at_once(streaming(200));
    for (guarded, _, shop) in each_way!(RetryLayer, retry, retry(), Shop::default(), replies) {
        let given = send(&guarded, Order::idempotent()).await.unwrap();
        assert_eq!(
            shop.asked(),
            ["facts", "judge 200", "give"],
            "a retry holds nothing"
        );
        assert!(given.rest.is_none());
    }
    let breaker = breaker();
    let stack = Stack::builder().retry(retry()).circuit_breaker(breaker.clone());
    let guarded = stack
        .build()
        .unwrap()
        .exchange(Shop::default())
        .layer(replying(replies));
    let given = Guarded::new(guarded).oneshot(Order::idempotent()).await.unwrap();
    let failed = Outcome::failure().with_advice(Advice::Retry);
    given.rest.unwrap().settle(&failed);
    assert_eq!(counts(&breaker), (1, 1, 0));
}
