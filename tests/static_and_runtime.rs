//! A stack in an order known at run time behaves as the same layers nested by `ServiceBuilder` do.

#[macro_use]
#[path = "support/orders.rs"]
mod orders;
#[path = "support/script.rs"]
mod script;

use buttress::{BulkheadLayer, CircuitBreakerLayer, RetryLayer, Stack, TimeoutLayer};
use proptest::prelude::*;
use script::{Guarded, Policies, Script, Scripted, late_scripts, play, scripts};
use tower::{ServiceBuilder, util::BoxCloneService};

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
