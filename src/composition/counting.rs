//! Policies that begin to count, and what they have counted.

use std::sync::Arc;

use super::{
    keyed::Keyed,
    registry::{Policies, Registry},
};
use crate::{
    drivers::stack::{AnyPolicy, Stages},
    policies::{
        bulkhead::meter::BulkheadMeter, circuit_breaker::meter::CircuitBreakerMeter, fallback::FallbackMeter,
        retry::meter::RetryMeter, timeout::TimeoutMeter,
    },
};

/// Calls that ended or were refused, from when somebody asked for counting, by what the policy made of them.
///
/// The words are those of the label `outcome` of the metric `calls_total`: of a circuit breaker `success`, `failure`,
/// `ignored` and `rejected`; of a retry `success`, `failure`, `ignored` and `dropped`; of a timeout `completed`,
/// `rejected` and `dropped`; of a bulkhead `admitted`, `rejected` and `dropped`; of a fallback `passed`, `answered` and
/// `dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallCounts(Vec<(&'static str, u64)>);

impl CallCounts {
    /// All calls.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, calls)| calls).sum()
    }

    /// Those that the policy made this of; 0 where it has no such outcome.
    pub fn of(&self, outcome: &str) -> u64 {
        let found = self.0.iter().find(|(word, _)| *word == outcome);
        found.map_or(0, |(_, calls)| *calls)
    }

    /// Each outcome that there may be, and its calls.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }
}

/// `{"success": 97, "failure": 3, "ignored": 0, "rejected": 0}`
#[cfg(feature = "serde")]
impl serde::Serialize for CallCounts {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

impl Registry {
    /// Lets all policies count their calls from now on: a [snapshot](Self::snapshot) then has
    /// [`StageSnapshot::calls`](crate::StageSnapshot::calls).
    ///
    /// A call then pays a few nanoseconds for each policy, and of a circuit breaker two readings of the clock. Policies
    /// that come later count from the next time that this is asked for; [`Metrics`](crate::Metrics) and the
    /// [admin page](crate::admin) ask every second.
    pub fn count_calls(&self) {
        for policies in self.policies() {
            match policies {
                Policies::One(stages) => {
                    for stage in stages.list() {
                        AnyMeter::begin(&stage.policy, Role::Single);
                    }
                }
                Policies::Keyed(keyed) => visit_stages(&keyed, &mut |policy, role| {
                    AnyMeter::begin(policy, role);
                }),
            }
        }
    }
}

/// What a policy has counted, those of its keys with it; `None` where it does not count.
pub(crate) fn counted(policy: &AnyPolicy) -> Option<CallCounts> {
    match policy {
        AnyPolicy::CircuitBreaker(policy) => policy.counted().map(|calls| calls.to_vec()),
        AnyPolicy::Retry(policy) => policy.counted().map(|calls| calls.to_vec()),
        AnyPolicy::Timeout(policy) => policy.counted().map(|calls| calls.to_vec()),
        AnyPolicy::Bulkhead(policy) => policy.counted().map(|calls| calls.to_vec()),
        AnyPolicy::Fallback(policy) => policy.counted().map(|calls| calls.to_vec()),
    }
    .map(CallCounts)
}

/// What a policy is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role<'a> {
    /// One that calls share.
    Single,
    /// What those of the keys are made from, and which no call goes by.
    Template,
    /// That of a key, or of all that find no place, made from this one.
    OfKey(&'a AnyPolicy),
}

/// What is done with each policy.
pub(crate) type Visitor<'a> = dyn FnMut(&AnyPolicy, Role<'_>) + 'a;

/// Lets `visit` see the policies of all keys, each after what it was made from.
pub(crate) fn visit_stages(keyed: &Keyed<Stages>, visit: &mut Visitor<'_>) {
    let each = keyed.each().newest();
    for stage in each.list() {
        visit(&stage.policy, Role::Template);
    }
    keyed.for_each(|stages| {
        for stage in stages.newest().list() {
            let made_from = each
                .list()
                .iter()
                .find(|each| is_made_from(&stage.policy, &each.policy));
            if let Some(made_from) = made_from {
                visit(&stage.policy, Role::OfKey(&made_from.policy));
            }
        }
    });
}

/// Whether it is that of a key: `NAME[KEY]`.
fn is_made_from(policy: &AnyPolicy, each: &AnyPolicy) -> bool {
    let rest = policy.name().strip_prefix(&**each.name());
    policy.kind() == each.kind() && rest.is_some_and(|rest| rest.starts_with('['))
}

/// The meter of a policy.
#[derive(Clone, Debug)]
pub(crate) enum AnyMeter {
    CircuitBreaker(Arc<CircuitBreakerMeter>),
    Retry(Arc<RetryMeter>),
    Timeout(Arc<TimeoutMeter>),
    Bulkhead(Arc<BulkheadMeter>),
    Fallback(Arc<FallbackMeter>),
}

impl AnyMeter {
    /// Lets a policy count from now on, that of a key by the meter of what it was made from. What it counts by.
    pub(crate) fn begin(policy: &AnyPolicy, role: Role<'_>) -> Self {
        match role {
            Role::Single | Role::Template => Self::begin_by(policy, None),
            Role::OfKey(template) => Self::begin_by(policy, Some(&Self::begin_by(template, None))),
        }
    }

    /// The same, by `shared` where it does not count yet.
    fn begin_by(policy: &AnyPolicy, shared: Option<&Self>) -> Self {
        match (policy, shared) {
            (AnyPolicy::CircuitBreaker(policy), Some(Self::CircuitBreaker(shared))) => {
                Self::CircuitBreaker(policy.begin_counting(Some(shared)))
            }
            (AnyPolicy::Retry(policy), Some(Self::Retry(shared))) => {
                Self::Retry(policy.begin_counting(Some(shared)))
            }
            (AnyPolicy::Timeout(policy), Some(Self::Timeout(shared))) => {
                Self::Timeout(policy.begin_counting(Some(shared)))
            }
            (AnyPolicy::Bulkhead(policy), Some(Self::Bulkhead(shared))) => {
                Self::Bulkhead(policy.begin_counting(Some(shared)))
            }
            (AnyPolicy::Fallback(policy), Some(Self::Fallback(shared))) => {
                Self::Fallback(policy.begin_counting(Some(shared)))
            }
            (AnyPolicy::CircuitBreaker(policy), _) => Self::CircuitBreaker(policy.begin_counting(None)),
            (AnyPolicy::Retry(policy), _) => Self::Retry(policy.begin_counting(None)),
            (AnyPolicy::Timeout(policy), _) => Self::Timeout(policy.begin_counting(None)),
            (AnyPolicy::Bulkhead(policy), _) => Self::Bulkhead(policy.begin_counting(None)),
            (AnyPolicy::Fallback(policy), _) => Self::Fallback(policy.begin_counting(None)),
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::CircuitBreaker(one), Self::CircuitBreaker(other)) => Arc::ptr_eq(one, other),
            (Self::Retry(one), Self::Retry(other)) => Arc::ptr_eq(one, other),
            (Self::Timeout(one), Self::Timeout(other)) => Arc::ptr_eq(one, other),
            (Self::Bulkhead(one), Self::Bulkhead(other)) => Arc::ptr_eq(one, other),
            (Self::Fallback(one), Self::Fallback(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether a policy still counts by it.
    #[cfg(feature = "metrics")]
    pub(crate) fn is_in_use(&self) -> bool {
        let holders = match self {
            Self::CircuitBreaker(meter) => Arc::strong_count(meter),
            Self::Retry(meter) => Arc::strong_count(meter),
            Self::Timeout(meter) => Arc::strong_count(meter),
            Self::Bulkhead(meter) => Arc::strong_count(meter),
            Self::Fallback(meter) => Arc::strong_count(meter),
        };
        holders > 1
    }
}
