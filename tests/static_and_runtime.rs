//! A stack in an order known at run time behaves as the same layers nested by `ServiceBuilder` do.

#[macro_use]
#[path = "support/orders.rs"]
mod orders;
#[path = "support/script.rs"]
mod script;

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    time::Duration,
};

use buttress::{
    Answer, BulkheadLayer, CircuitBreakerLayer, FallbackLayer, Predicate, Rejected, RejectedKind, RetryLayer,
    Rules, Stack, TimeoutLayer, find_rejected,
};
use proptest::prelude::*;
use script::{Guarded, Policies, Script, Scripted, late_scripts, play, scripts};
use tokio::time::sleep;
use tower::{BoxError, ServiceBuilder, service_fn, util::BoxCloneService};

type Guard = fn(&Policies, Scripted) -> Guarded;

/// The layer of a policy.
macro_rules! layer {
    (breaker, $policies:ident) => {
        CircuitBreakerLayer::new($policies.breaker.clone())
    };
    (outer_breaker, $policies:ident) => {
        CircuitBreakerLayer::new($policies.outer_breaker.clone())
    };
    (retry, $policies:ident) => {
        RetryLayer::new($policies.retry.clone())
    };
    (outer_retry, $policies:ident) => {
        RetryLayer::new($policies.outer_retry.clone())
    };
    (timeout, $policies:ident) => {
        TimeoutLayer::new($policies.timeout.clone())
    };
    (outer_timeout, $policies:ident) => {
        TimeoutLayer::new($policies.outer_timeout.clone())
    };
    (bulkhead, $policies:ident) => {
        BulkheadLayer::new($policies.bulkhead.clone())
    };
    (outer_bulkhead, $policies:ident) => {
        BulkheadLayer::new($policies.outer_bulkhead.clone())
    };
    (retry_of_refusals, $policies:ident) => {
        RetryLayer::new($policies.outer_retry.clone())
            .retry_on(refusals())
            .stop_on(Predicate::rejected(RejectedKind::TimedOut))
    };
    (breaker_deaf_to_timeouts, $policies:ident) => {
        CircuitBreakerLayer::new($policies.outer_breaker.clone())
            .ignore(Predicate::rejected(RejectedKind::TimedOut))
    };
    (fallback, $policies:ident) => {
        FallbackLayer::service(
            $policies.fallback.clone(),
            service_fn(|()| Spare::answer()),
            |_: &u32| (),
        )
    };
    (fallback_at_once, $policies:ident) => {
        FallbackLayer::answer_by($policies.fallback.clone(), |_: &(), hidden| {
            Ok(attempts_to(&hidden))
        })
    };
}

/// The builder with that policy added.
macro_rules! stage {
    ($builder:expr, breaker, $policies:ident) => {
        $builder.circuit_breaker($policies.breaker.clone())
    };
    ($builder:expr, outer_breaker, $policies:ident) => {
        $builder.circuit_breaker($policies.outer_breaker.clone())
    };
    ($builder:expr, retry, $policies:ident) => {
        $builder.retry($policies.retry.clone())
    };
    ($builder:expr, outer_retry, $policies:ident) => {
        $builder.retry($policies.outer_retry.clone())
    };
    ($builder:expr, timeout, $policies:ident) => {
        $builder.timeout($policies.timeout.clone())
    };
    ($builder:expr, outer_timeout, $policies:ident) => {
        $builder.timeout($policies.outer_timeout.clone())
    };
    ($builder:expr, bulkhead, $policies:ident) => {
        $builder.bulkhead($policies.bulkhead.clone())
    };
    ($builder:expr, outer_bulkhead, $policies:ident) => {
        $builder.bulkhead($policies.outer_bulkhead.clone())
    };
    ($builder:expr, retry_of_refusals, $policies:ident) => {
        $builder.retry_with(
            $policies.outer_retry.clone(),
            Rules::new()
                .retry(refusals())
                .stop(Predicate::rejected(RejectedKind::TimedOut)),
        )
    };
    ($builder:expr, breaker_deaf_to_timeouts, $policies:ident) => {
        $builder.circuit_breaker_with(
            $policies.outer_breaker.clone(),
            Rules::new().ignore(Predicate::rejected(RejectedKind::TimedOut)),
        )
    };
    ($builder:expr, fallback, $policies:ident) => {
        $builder.fallback($policies.fallback.clone(), Spare)
    };
    ($builder:expr, fallback_at_once, $policies:ident) => {
        $builder.fallback($policies.fallback.clone(), SpareAtOnce)
    };
}

fn refusals() -> Predicate {
    Predicate::new(|outcome| outcome.rejected().is_some())
}

/// What the fallback answers, after a while.
#[derive(Clone)]
struct Spare;

type Answering = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

impl Spare {
    fn answer() -> Answering {
        Box::pin(async {
            sleep(Duration::from_millis(3)).await;
            Ok(u32::MAX)
        })
    }
}

impl Answer<(), u32, BoxError> for Spare {
    type Future = Answering;

    fn answer(&self, (): &(), _hidden: Result<u32, BoxError>) -> Answering {
        Self::answer()
    }
}

/// What the fallback answers that looks at the result that it hides.
#[derive(Clone)]
struct SpareAtOnce;

fn attempts_to(hidden: &Result<u32, BoxError>) -> u32 {
    let error = hidden.as_ref().unwrap_err();
    1000 + find_rejected(&**error).map_or(0, Rejected::attempts)
}

impl Answer<(), u32, BoxError> for SpareAtOnce {
    type Future = Ready<Result<u32, BoxError>>;

    fn answer(&self, (): &(), hidden: Result<u32, BoxError>) -> Self::Future {
        ready(Ok(attempts_to(&hidden)))
    }
}

/// Both ways to put the same policies around a service.
macro_rules! both_ways {
    ($($policy:ident)*) => {{
        fn nested(policies: &Policies, inner: Scripted) -> Guarded {
            let layers = ServiceBuilder::new()$(.layer(layer!($policy, policies)))*;
            BoxCloneService::new(layers.service(inner))
        }
        fn stacked(policies: &Policies, inner: Scripted) -> Guarded {
            let stack = Stack::builder();
            $(let stack = stage!(stack, $policy, policies);)*
            BoxCloneService::new(ServiceBuilder::new().layer(stack.build().unwrap()).service(inner))
        }
        [nested as Guard, stacked as Guard]
    }};
}

fn behave_alike(script: Script, guards: [Guard; 2]) -> Result<(), TestCaseError> {
    let [nested, stacked] = play(script, guards);
    prop_assert_eq!(&stacked.ends, &nested.ends, "calls, the stack's first");
    prop_assert_eq!(&stacked.attempts, &nested.attempts, "attempts, the stack's first");
    prop_assert_eq!(&stacked.events, &nested.events, "events, the stack's first");
    prop_assert_eq!(stacked, nested, "the stack's first");
    Ok(())
}

fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases / 2,
        failure_persistence: None,
        ..config
    }
}

macro_rules! alike {
    ($($name:ident: $($policy:ident)*,)*) => {
        mod over_a_service_that_is_ready {
            use super::*;

            proptest! {
                #![proptest_config(config())]
                $(#[test]
                fn $name(script in scripts()) {
                    behave_alike(script, both_ways!($($policy)*))?;
                })*
            }
        }

        mod over_a_service_that_is_ready_late {
            use super::*;

            proptest! {
                #![proptest_config(config())]
                $(#[test]
                fn $name(script in late_scripts()) {
                    behave_alike(script, both_ways!($($policy)*))?;
                })*
            }
        }
    };
}

mod the_four {
    use super::*;

    with_every_order!(alike);
}

mod the_same_kind_twice {
    use super::*;

    alike! {
        a_total_timeout_and_one_for_each_attempt: outer_timeout retry breaker timeout bulkhead,
        a_total_timeout_below_a_bulkhead: bulkhead outer_timeout breaker retry timeout,
        two_breakers_around_a_retry: outer_breaker retry breaker timeout bulkhead,
        two_breakers_in_a_row: outer_breaker breaker retry timeout,
        two_bulkheads_around_a_retry: outer_bulkhead retry bulkhead breaker,
        two_bulkheads_in_a_row: timeout outer_bulkhead bulkhead retry,
        two_retries: outer_retry breaker retry timeout,
        all_twice: outer_timeout outer_retry outer_breaker bulkhead retry timeout,
        eight: outer_timeout outer_bulkhead outer_retry outer_breaker breaker retry timeout bulkhead,
    }
}

mod with_a_fallback {
    use super::*;

    alike! {
        outside_of_all: fallback retry breaker timeout bulkhead,
        below_the_retry: retry fallback breaker timeout bulkhead,
        below_the_breaker: retry breaker fallback timeout bulkhead,
        below_the_timeout: retry breaker timeout fallback bulkhead,
        inside_of_all: bulkhead timeout breaker retry fallback,
        around_a_retry: bulkhead timeout fallback retry breaker,
        between_retries: outer_retry fallback breaker retry timeout bulkhead,
        at_once_around_a_retry: timeout fallback_at_once bulkhead retry breaker,
        at_once_between_retries: outer_retry fallback_at_once breaker retry timeout bulkhead,
    }
}

mod with_rules {
    use super::*;

    alike! {
        a_retry_of_refusals_by_a_breaker: retry_of_refusals breaker timeout bulkhead,
        a_retry_of_refusals_by_a_bulkhead: breaker retry_of_refusals bulkhead timeout,
        a_retry_of_refusals_around_another: timeout retry_of_refusals bulkhead breaker retry,
        a_breaker_deaf_to_timeouts: breaker_deaf_to_timeouts retry timeout bulkhead,
        a_breaker_deaf_to_timeouts_around_another: breaker_deaf_to_timeouts retry breaker timeout,
    }
}
