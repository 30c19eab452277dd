//! Buttress holds a Tower service up when what it calls fails: circuit breaker, retry with backoff, timeout and
//! bulkhead as [`tower::Layer`]s that compose in any order.
//!
//! - [`CircuitBreaker`], [`Retry`], [`Timeout`], [`Bulkhead`] and [`Fallback`] are the policies: cheap handles on shared
//!   state, built from their settings (such as [`CircuitBreakerConfig`]).
//! - [`CircuitBreakerLayer`] and its siblings put one around a Tower service; [`Stack`] puts several in an order known at
//!   run time; `run` of each guards an async function.
//! - [`Rejected`] is what a caller gets when a policy does not let a call through; [`HoldsRejected`] is what its error type
//!   must be able to do, and [`AdaptLayer`] makes one that can.
//! - [`Outcome`], [`Predicate`] and [`Rules`] say what a result counts as; an [`Exchange`] says what requests and responses
//!   mean.
//! - [`Event`]s tell an [`Observer`] what happens. `Metrics` publishes counts (feature `metrics`), and `TracingObserver` logs
//!   (feature `tracing`); both features are on by default.
//!
//! # How it is built
//!
//! The code lies on floors, and a file uses only those below it: `vocabulary` (0), `policies` (1, state machines without
//! I/O), `drivers` (2, what runs them around a service), and above them composition and edges.

// A library neither prints nor panics; tests and examples may.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod composition;
mod drivers;
mod edges;
mod policies;
mod vocabulary;

pub use tower::BoxError;

pub use crate::{
    composition::{
        counting::CallCounts,
        keyed::{
            KeyBy, KeyOf, Keyed, KeyedBulkhead, KeyedCircuitBreaker, KeyedConfig, KeyedLayer, KeyedPass,
            KeyedService, KeyedSnapshot, KeyedStack, KeyedStages,
        },
        lint::{LintReport, WorstCase},
        registry::{
            CommandError, Commanded, KeySnapshot, KeysSnapshot, NotFound, OverrideSnapshot, PolicySnapshot,
            Registry, RegistryBuilder, RegistrySnapshot, Reload, StackInfo, StackSnapshot, StageSnapshot,
        },
        settings::{
            ConfigErrors, Issue, KeyedBy, Origin, Place, PolicyConfig, Predicates, Settings, Severity,
            StackConfig, StageConfig, UnknownName,
        },
    },
    drivers::{
        adapt::{AdaptFuture, AdaptLayer, AdaptService},
        answer::{Answer, AnswerBy, AnswerFrom, AnswerWith, NoAnswer},
        attempts::{Attempts, Guarded, ServiceAttempts},
        builder_ext::ServiceBuilderExt,
        driven::{Driven, DrivenBy},
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
            CircuitBreaker, CircuitBreakerConfig, CircuitBreakerDetail, CircuitBreakerPass,
            CircuitBreakerSnapshot, CircuitBreakerThresholds, HalfOpenConfig, OpenConfig, Permit,
            SlowCallConfig, StayEnd, WindowCell, WindowConfig, WindowPicture,
        },
        fallback::{Fallback, FallbackPass},
        in_force::InForce,
        per_key::PerKey,
        retry::{
            BudgetChoice, Retry, RetryBudget, RetryBudgetConfig, RetryBudgetSnapshot, RetryConfig, RetryPass,
            RetrySnapshot,
        },
        step::{Ask, Expired, Next, Policy, Refuser, Step},
        timeout::{Timeout, TimeoutConfig, TimeoutPass, TimeoutSnapshot},
    },
    vocabulary::{
        clock::{Clock, ClockHand, Now, Timestamp},
        command::{By, Command, OverrideEnd},
        error::{Error, HoldsRejected, find_rejected},
        event::{Event, GaveUp, Observer, PolicyKind, What},
        event_kind::{EventKind, EventKinds},
        events::{Events, Subscribe, Told},
        outcome::{Abandoned, Advice, Outcome, Verdict},
        predicate::{Predicate, Rules},
        rate::Rate,
        rejected::{OpenCause, Reason, Rejected, RejectedKind},
        settings::ConfigError,
        state::State,
        status::StatusSet,
    },
};

#[cfg(feature = "admin")]
pub use crate::edges::admin;
#[cfg(feature = "axum")]
pub use crate::edges::axum;
#[cfg(feature = "config")]
pub use crate::edges::config;
#[cfg(feature = "http")]
pub use crate::edges::http;
#[cfg(feature = "metrics")]
pub use crate::edges::metrics::{Metrics, Publishing};
#[cfg(feature = "reqwest")]
pub use crate::edges::reqwest;
#[cfg(feature = "tracing")]
pub use crate::edges::tracing::{AttemptSpanLayer, CallSpanLayer, SpanFuture, SpanService, TracingObserver};
#[cfg(feature = "watch")]
pub use crate::edges::watch::{Watch, WatchError};

/// The README's snippets are compiled and run as tests, where all that they show is there.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are those of the guide for who comes from resilience4j.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../docs/resilience4j.md")]
struct Resilience4jGuide;
