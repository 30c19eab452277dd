//! The last minute of each policy, one sample a second.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    composition::registry::{PolicySnapshot, RegistrySnapshot},
    vocabulary::state::State,
};

/// Samples that are kept.
const KEPT: usize = 60;

/// The samples of all policies, by name. Those of keys have none: there may be many.
#[derive(Debug, Default)]
pub(super) struct Series {
    policies: BTreeMap<Arc<str>, Samples>,
    /// Seconds so far.
    ticks: u64,
}

#[derive(Debug, Default)]
struct Samples {
    kept: VecDeque<Sample>,
    /// Calls rejected before the newest sample.
    rejected: u64,
}

/// One policy in one second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Of a circuit breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// Of a circuit breaker the share of failures in its window, of a bulkhead the calls in flight, of a retry what is left
    /// of its budget.
    value: Option<f64>,
    /// Calls rejected within the second.
    rejected: u64,
}

impl Series {
    /// Takes a sample of each policy, and forgets those of policies that are gone.
    pub(super) fn sample(&mut self, snapshot: &RegistrySnapshot) {
        self.ticks += 1;
        let mut before = std::mem::take(&mut self.policies);
        let stages = snapshot.stacks.iter().filter(|stack| stack.keys.is_none());
        for stage in stages.flat_map(|stack| &stack.stages) {
            let (sample, rejected) = look(&stage.snapshot);
            let mut samples = before.remove(&stage.policy).unwrap_or_else(|| Samples {
                kept: VecDeque::new(),
                rejected,
            });
            if samples.kept.len() == KEPT {
                samples.kept.pop_front();
            }
            samples.kept.push_back(Sample {
                rejected: rejected.saturating_sub(samples.rejected),
                ..sample
            });
            samples.rejected = rejected;
            self.policies.insert(Arc::clone(&stage.policy), samples);
        }
    }

    pub(super) const fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The newest sample of each policy.
    pub(super) fn newest(&self) -> BTreeMap<Arc<str>, Sample> {
        let newest = self.policies.iter().filter_map(|(name, samples)| {
            let newest = samples.kept.back()?;
            Some((Arc::clone(name), *newest))
        });
        newest.collect()
    }
}

/// `{"ticks": 61, "policies": {"payments/bulkhead": [{"value": 3.0, "rejected": 0}]}}`, oldest first.
impl Serialize for Series {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        struct Policies<'a>(&'a BTreeMap<Arc<str>, Samples>);

        impl Serialize for Policies<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_map(self.0.iter().map(|(name, samples)| (name, &samples.kept)))
            }
        }

        let mut map = to.serialize_map(Some(2))?;
        map.serialize_entry("ticks", &self.ticks)?;
        map.serialize_entry("policies", &Policies(&self.policies))?;
        map.end()
    }
}

/// What is to be seen, and the calls rejected so far.
fn look(policy: &PolicySnapshot) -> (Sample, u64) {
    let (state, value, rejected) = match policy {
        PolicySnapshot::CircuitBreaker(breaker) => {
            let snapshot = &breaker.snapshot;
            let rate = (snapshot.calls > 0).then(|| snapshot.failed as f64 / snapshot.calls as f64);
            (Some(snapshot.state), rate, snapshot.rejected)
        }
        PolicySnapshot::Bulkhead(bulkhead) => (None, Some(f64::from(bulkhead.in_flight)), bulkhead.rejected),
        PolicySnapshot::Retry(retry) => (None, retry.budget.map(|budget| budget.left as f64), 0),
        PolicySnapshot::Timeout(timeout) => (None, None, timeout.timed_out),
        PolicySnapshot::Fallback {} => (None, None, 0),
    };
    let sample = Sample {
        state,
        value,
        rejected: 0,
    };
    (sample, rejected)
}
