//! Buttress holds a Tower service up when what it calls fails: circuit breaker, retry with backoff, timeout and
//! bulkhead as [`tower::Layer`]s that compose in any order.

mod drivers;
mod edges;
mod policies;
mod vocabulary;

pub use tower::BoxError;

pub use crate::{
    drivers::{
        adapt::{AdaptFuture, AdaptLayer, AdaptService},
        answer::{Answer, AnswerBy, AnswerFrom, AnswerWith, NoAnswer},
        attempts::{Attempts, ServiceAttempts},
        builder_ext::ServiceBuilderExt,
        driven::Driven,
        exchange::{Exchange, JudgeBy, LimitBy, NoteBy, Plain},
        function::AsyncFunction,
        held::Held,
        layers::{
            BulkheadLayer, BulkheadService, CircuitBreakerLayer, CircuitBreakerService, FallbackLayer,
            FallbackService, RetryLayer, RetryService, TimeoutLayer, TimeoutService,
        },
        replay::{Cloned, CopyBy, Once, Prepared, Queued, Renew, Replay},
        service::{Guard, GuardFuture, GuardLayer},
        stack::{Stack, StackBuilder, StackLayer, StackPass, StackService, Stages},
        timer::{NoTimer, OneTimer, Timed, Timer},
    },
    policies::{
        backoff::{Backoff, BackoffFunction, Jitter},
        bulkhead::{Bulkhead, BulkheadConfig, BulkheadPass, BulkheadSnapshot, Slot},
        circuit_breaker::{
            CircuitBreaker, CircuitBreakerConfig, CircuitBreakerPass, CircuitBreakerSnapshot, HalfOpenConfig,
            OpenConfig, Permit, SlowCallConfig, StayEnd, WindowConfig,
        },
        fallback::{Fallback, FallbackPass},
        retry::{
            BudgetChoice, Retry, RetryBudget, RetryBudgetConfig, RetryBudgetSnapshot, RetryConfig, RetryPass,
        },
        step::{Ask, Expired, Next, Policy, Step},
        timeout::{Timeout, TimeoutConfig, TimeoutPass},
    },
    vocabulary::{
        clock::{Clock, ClockHand, Timestamp},
        error::{Error, HoldsRejected, find_rejected},
        event::{Event, GaveUp, Observer, PolicyKind, What},
        outcome::{Abandoned, Advice, Outcome, Verdict},
        predicate::{Predicate, Rules},
        rate::Rate,
        rejected::{OpenCause, Reason, Rejected, RejectedKind},
        settings::ConfigError,
        state::State,
        status::StatusSet,
    },
};

#[cfg(feature = "axum")]
pub use crate::edges::axum;
#[cfg(feature = "http")]
pub use crate::edges::http;
