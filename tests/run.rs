//! Guarding async functions without a service.

use std::{future::Future, io, pin::Pin};

use buttress::{BoxError, Bulkhead, CircuitBreaker, Error, RejectedKind, Retry, Stack, State, Timeout};

fn stack() -> Stack {
    Stack::builder()
        .retry(Retry::with_defaults("r").unwrap())
        .circuit_breaker(CircuitBreaker::with_defaults("b").unwrap())
        .timeout(Timeout::with_defaults("t").unwrap())
        .bulkhead(Bulkhead::with_defaults("k").unwrap())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_guarded_function_can_be_spawned_whatever_its_error() {
    let (stack, breaker) = (stack(), CircuitBreaker::with_defaults("b").unwrap());
    let retry = Retry::with_defaults("r").unwrap();
    let spawned = tokio::spawn(async move {
        let io = stack.run(|| async { Ok::<_, io::Error>(1) }).await.unwrap();
        let boxed = breaker.run_flat(|| async { Ok::<_, BoxError>(2) }).await.unwrap();
        let pinned = retry.run(
            || -> Pin<Box<dyn Future<Output = Result<u8, io::Error>> + Send>> { Box::pin(async { Ok(3) }) },
        );
        io + boxed + pinned.await.unwrap()
    });
    assert_eq!(spawned.await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_guarded_call_outlives_the_handle_that_made_it() {
    let call = {
        let breaker = CircuitBreaker::with_defaults("b").unwrap();
        breaker.run(|| async { Ok::<_, io::Error>(1) })
    };
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_function_is_called_anew_for_each_attempt() {
    let mut calls = 0;
    let result = stack()
        .run(|| {
            calls += 1;
            let attempt = calls;
            async move {
                if attempt < 3 {
                    Err(io::Error::other("no"))
                } else {
                    Ok(attempt)
                }
            }
        })
        .await;
    assert_eq!(result.unwrap(), 3);
    assert_eq!(calls, 3);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_stands_beside_the_functions_own_error() {
    let breaker = CircuitBreaker::with_defaults("b").unwrap();
    let error = breaker
        .run(|| async { Err::<(), _>(io::Error::other("no")) })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Service(_)));
    breaker.force_open();
    assert_eq!(breaker.state(), State::ForcedOpen);
    let error = breaker
        .run(|| async { Ok::<_, io::Error>(()) })
        .await
        .unwrap_err();
    assert_eq!(error.as_rejected().unwrap().kind(), RejectedKind::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_a_breaker_inside_refuses_costs_the_budget_nothing() {
    let budget = buttress::RetryBudgetConfig::new()
        .min_per_second(3)
        .build()
        .unwrap();
    let retry = buttress::RetryConfig::new()
        .shared_budget(&budget)
        .build("r")
        .unwrap();
    let breaker = buttress::CircuitBreakerConfig::new()
        .consecutive_failures(1)
        .build("b")
        .unwrap();
    let stack = Stack::builder()
        .retry(retry)
        .circuit_breaker(breaker.clone())
        .build()
        .unwrap();
    let before = budget.snapshot().left;
    // The first attempt opens the breaker, and the second is refused by it.
    let error = stack
        .run(|| async { Err::<(), _>(io::Error::other("no")) })
        .await
        .unwrap_err();
    assert_eq!(error.as_rejected().unwrap().kind(), RejectedKind::CircuitOpen);
    assert_eq!(error.as_rejected().unwrap().attempts(), 2);
    assert_eq!(budget.snapshot().left, before);
    // One that reaches the service is paid for.
    breaker.disable();
    stack
        .run(|| async { Err::<(), _>(io::Error::other("no")) })
        .await
        .unwrap_err();
    assert_eq!(budget.snapshot().retries, 2);
}
