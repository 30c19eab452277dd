//! The keys that resilience4j knows, and what each takes.

use std::time::Duration;

use super::values::{self, Class, WindowType};
use crate::{edges::config::tree::Node, policies::circuit_breaker::StayEnd, vocabulary::state::State};

/// The modules that have a counterpart, in the default order of their aspects: outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Module {
    Retry,
    CircuitBreaker,
    TimeLimiter,
    Bulkhead,
}

/// What is known beside them, and why it has no counterpart. `None`: it is about Spring or Java alone.
pub(super) const OTHER_MODULES: [(&str, Option<&str>); 5] = [
    (
        "ratelimiter",
        Some("there is no rate limiter here; tower has a layer for it, `tower::limit::RateLimit`"),
    ),
    (
        "thread-pool-bulkhead",
        Some("calls run on no pool of their own here; `resilience4j.bulkhead` limits how many are in flight"),
    ),
    ("scheduled", None),
    ("micrometer", None),
    ("thread", None),
];

/// What is known at the top of a module beside its order, and is about Spring alone.
pub(super) const OTHER_SECTIONS: [&str; 2] = ["tags", "metrics"];

/// A key of an instance or a config.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Takes {
    /// The name of a config.
    Base,
    /// A duration, not below this.
    Time(Duration),
    /// A whole number from 1 to this.
    Count(u32),
    Percent,
    Multiplier,
    Share,
    Truth,
    Window,
    State,
    StayEnd,
    /// Names of classes of exceptions.
    Classes,
    /// The name of the class of a predicate.
    Class,
    /// It is about Spring or Java alone.
    Noted,
    /// A truth value, of which one says what is done here anyway, and the other what is not done.
    Only(bool, &'static str),
    /// It has no counterpart.
    Nothing(&'static str),
}

/// What was written for a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Setting {
    Time(Duration),
    Count(u32),
    Number(f64),
    Truth(bool),
    Window(WindowType),
    State(State),
    StayEnd(StayEnd),
    Name(String),
    Classes(Vec<Class>),
    /// Nothing that would change a policy.
    Void,
}

const fn key(name: &'static str, takes: Takes) -> Key {
    Key { name, takes }
}

const MILLISECOND: Takes = Takes::Time(Duration::from_millis(1));
const ANY_TIME: Takes = Takes::Time(Duration::ZERO);

const CIRCUIT_BREAKER: &[Key] = &[
    key("baseConfig", Takes::Base),
    key("failureRateThreshold", Takes::Percent),
    key("slowCallRateThreshold", Takes::Percent),
    key("slowCallDurationThreshold", Takes::Time(Duration::from_nanos(1))),
    key("slidingWindowType", Takes::Window),
    key("slidingWindowSize", Takes::Count(1_000_000)),
    key("minimumNumberOfCalls", Takes::Count(u32::MAX)),
    key("permittedNumberOfCallsInHalfOpenState", Takes::Count(10_000)),
    key("maxWaitDurationInHalfOpenState", ANY_TIME),
    key("transitionToStateAfterWaitDuration", Takes::StayEnd),
    key("waitDurationInOpenState", MILLISECOND),
    key("enableExponentialBackoff", Takes::Truth),
    key("exponentialBackoffMultiplier", Takes::Multiplier),
    key("exponentialMaxWaitDurationInOpenState", MILLISECOND),
    key("enableRandomizedWait", Takes::Truth),
    key("randomizedWaitFactor", Takes::Share),
    key("automaticTransitionFromOpenToHalfOpenEnabled", Takes::Truth),
    key("initialState", Takes::State),
    key("recordExceptions", Takes::Classes),
    key("ignoreExceptions", Takes::Classes),
    key("recordFailurePredicate", Takes::Class),
    key("recordResultPredicate", Takes::Class),
    key("ignoreExceptionPredicate", Takes::Class),
    key(
        "ignoreClassBindingExceptions",
        Takes::Only(
            false,
            "resilience4j then drops classes that it does not find without a word; here a name that nothing is registered for \
             is always an error",
        ),
    ),
    key("writableStackTraceEnabled", Takes::Noted),
    key("registerHealthIndicator", Takes::Noted),
    key("allowHealthIndicatorToFail", Takes::Noted),
    key("eventConsumerBufferSize", Takes::Noted),
];

const RETRY: &[Key] = &[
    key("baseConfig", Takes::Base),
    key("maxAttempts", Takes::Count(1_000)),
    key("waitDuration", ANY_TIME),
    key("enableExponentialBackoff", Takes::Truth),
    key("exponentialBackoffMultiplier", Takes::Multiplier),
    key("exponentialMaxWaitDuration", MILLISECOND),
    key("enableRandomizedWait", Takes::Truth),
    key("randomizedWaitFactor", Takes::Share),
    key("retryExceptions", Takes::Classes),
    key("ignoreExceptions", Takes::Classes),
    key("retryExceptionPredicate", Takes::Class),
    key("resultPredicate", Takes::Class),
    key(
        "intervalBiFunction",
        Takes::Nothing("a closure says the waits where the stack is built in code, by `Backoff::function`"),
    ),
    key(
        "consumeResultBeforeRetryAttempt",
        Takes::Nothing("an observer is told of each retry"),
    ),
    key(
        "failAfterMaxAttempts",
        Takes::Only(
            false,
            "the caller gets the last result here, also where a predicate would have had it retried",
        ),
    ),
    key("eventConsumerBufferSize", Takes::Noted),
];

const TIME_LIMITER: &[Key] = &[
    key("baseConfig", Takes::Base),
    key("timeoutDuration", MILLISECOND),
    key(
        "cancelRunningFuture",
        Takes::Only(
            true,
            "a timeout always drops the call here; spawn what is to run on, and guard the wait for it",
        ),
    ),
    key("eventConsumerBufferSize", Takes::Noted),
];

const BULKHEAD: &[Key] = &[
    key("baseConfig", Takes::Base),
    key("maxConcurrentCalls", Takes::Count(1_000_000)),
    key("maxWaitDuration", ANY_TIME),
    key("writableStackTraceEnabled", Takes::Noted),
    key("eventConsumerBufferSize", Takes::Noted),
];

/// Names that older versions had, and what became of them. Today's version ignores them without a word.
pub(super) const RENAMED: [(Module, &str, &str); 6] = [
    (
        Module::CircuitBreaker,
        "ringBufferSizeInClosedState",
        "slidingWindowSize",
    ),
    (
        Module::CircuitBreaker,
        "ringBufferSizeInHalfOpenState",
        "permittedNumberOfCallsInHalfOpenState",
    ),
    (Module::CircuitBreaker, "waitInterval", "waitDurationInOpenState"),
    (Module::Retry, "maxRetryAttempts", "maxAttempts"),
    (Module::Bulkhead, "maxConcurrentCall", "maxConcurrentCalls"),
    (Module::Bulkhead, "maxWaitTime", "maxWaitDuration"),
];

impl Module {
    pub(super) const ALL: [Self; 4] = [
        Self::Retry,
        Self::CircuitBreaker,
        Self::TimeLimiter,
        Self::Bulkhead,
    ];

    /// As it stands behind `resilience4j.`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::CircuitBreaker => "circuitbreaker",
            Self::TimeLimiter => "timelimiter",
            Self::Bulkhead => "bulkhead",
        }
    }

    /// The name of its stage.
    pub(super) const fn stage(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::CircuitBreaker => "circuit_breaker",
            Self::TimeLimiter => "timeout",
            Self::Bulkhead => "bulkhead",
        }
    }

    /// The key of the order of its aspect.
    pub(super) const fn order_key(self) -> &'static str {
        match self {
            Self::Retry => "retryAspectOrder",
            Self::CircuitBreaker => "circuitBreakerAspectOrder",
            Self::TimeLimiter => "timeLimiterAspectOrder",
            Self::Bulkhead => "bulkheadAspectOrder",
        }
    }

    /// The order of its aspect where none is written: Spring's `LOWEST_PRECEDENCE` less a few. Lower is outer. The rate
    /// limiter's stands between the circuit breaker's and the time limiter's.
    pub(super) const fn default_order(self) -> i32 {
        match self {
            Self::Retry => i32::MAX - 5,
            Self::CircuitBreaker => i32::MAX - 4,
            Self::TimeLimiter => i32::MAX - 2,
            Self::Bulkhead => i32::MAX - 1,
        }
    }

    pub(super) const fn keys(self) -> &'static [Key] {
        match self {
            Self::Retry => RETRY,
            Self::CircuitBreaker => CIRCUIT_BREAKER,
            Self::TimeLimiter => TIME_LIMITER,
            Self::Bulkhead => BULKHEAD,
        }
    }
}

impl Module {
    /// Keys that are settings of the stage by themselves, and which.
    pub(super) const fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Retry => &[
                ("maxAttempts", "max_attempts"),
                ("retryExceptions", "on"),
                ("ignoreExceptions", "never_on"),
            ],
            Self::CircuitBreaker => &[
                ("failureRateThreshold", "failure_rate"),
                ("slowCallRateThreshold", "slow_call.rate"),
                ("slowCallDurationThreshold", "slow_call.longer_than"),
                ("minimumNumberOfCalls", "minimum_calls"),
                ("waitDurationInOpenState", "open.wait"),
                ("permittedNumberOfCallsInHalfOpenState", "half_open.probes"),
                ("maxWaitDurationInHalfOpenState", "half_open.max_stay"),
                ("transitionToStateAfterWaitDuration", "half_open.stay_end"),
                (
                    "automaticTransitionFromOpenToHalfOpenEnabled",
                    "open.automatic_half_open",
                ),
                ("initialState", "initial_state"),
                ("recordExceptions", "record"),
                ("ignoreExceptions", "ignore"),
            ],
            Self::TimeLimiter => &[("timeoutDuration", "limit")],
            Self::Bulkhead => &[
                ("maxConcurrentCalls", "max_concurrent"),
                ("maxWaitDuration", "max_wait"),
            ],
        }
    }
}

impl Takes {
    /// What the value means.
    pub(super) fn read(self, node: &Node) -> Result<Setting, String> {
        Ok(match self {
            Self::Base | Self::Class => Setting::Name(values::name(node)?),
            Self::Time(least) => {
                let time = values::duration(node)?;
                if time < least {
                    return Err(format!("accepted: {least:?} or longer"));
                }
                Setting::Time(time)
            }
            Self::Count(most) => Setting::Count(values::count(node, most)?),
            Self::Percent => Setting::Number(values::percent(node)?),
            Self::Multiplier => Setting::Number(values::multiplier(node)?),
            Self::Share => Setting::Number(values::share(node)?),
            Self::Truth | Self::Only(..) => Setting::Truth(values::truth(node)?),
            Self::Window => Setting::Window(values::window_type(node)?),
            Self::State => Setting::State(values::state(node)?),
            Self::StayEnd => Setting::StayEnd(values::stay_end(node)?),
            Self::Classes => Setting::Classes(values::classes(node)?),
            Self::Noted | Self::Nothing(_) => Setting::Void,
        })
    }
}
