//! The last minute of each policy, one sample a second.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    composition::{
        counting::CallCounts,
        registry::{PolicySnapshot, RegistrySnapshot, StageSnapshot},
    },
    vocabulary::{event::PolicyKind, state::State},
};

/// Samples that are kept.
const KEPT: usize = 60;

/// The samples of all policies, by name.
///
/// Of a key there is one series, under the name of its circuit breaker or else its bulkhead, and only while the key is
/// among those that are shown: there may be many more. Of a keyed stack's own stages, which no call goes by, there is
/// what all keys count together.
#[derive(Debug, Default)]
pub(super) struct Series {
    policies: BTreeMap<Arc<str>, Samples>,
    /// Seconds so far.
    ticks: u64,
}

#[derive(Debug, Default)]
struct Samples {
    kept: VecDeque<Sample>,
    /// What was counted up to the newest sample.
    seen: Seen,
}

/// What a policy has counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    rejected: u64,
    /// `None` where it does not count calls.
    calls: Option<u64>,
}

/// One policy in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Of a circuit breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// Of a circuit breaker the share of failures in its window, of a bulkhead the calls in flight, of a retry what is left
    /// of its budget.
    value: Option<f64>,
    /// Calls rejected within the second; of a key by any of its policies.
    rejected: u64,
    /// Calls that ended or were rejected within the second; none in the first sample. A key has none: it does not count
    /// alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
}

impl Series {
    /// Takes a sample of each policy, and forgets those of policies that are gone.
    pub(super) fn sample(&mut self, snapshot: &RegistrySnapshot) {
        self.ticks += 1;
        let mut before = std::mem::take(&mut self.policies);
        let mut add = |name: &Arc<str>, sample: Sample, seen: Seen| {
            // Of the first sample it is not known over how long its calls came.
            let first = Samples {
                kept: VecDeque::new(),
                seen: Seen { calls: None, ..seen },
            };
            let mut samples = before.remove(name).unwrap_or(first);
            if samples.kept.len() == KEPT {
                samples.kept.pop_front();
            }
            let calls = seen.calls.zip(samples.seen.calls);
            samples.kept.push_back(Sample {
                rejected: seen.rejected.saturating_sub(samples.seen.rejected),
                calls: calls.map(|(now, before)| now.saturating_sub(before)),
                ..sample
            });
            samples.seen = seen;
            self.policies.insert(Arc::clone(name), samples);
        };
        for stack in &snapshot.stacks {
            for stage in &stack.stages {
                let (mut sample, mut seen) = look(&stage.snapshot);
                if stack.keys.is_some() {
                    (sample, seen) = Default::default();
                }
                seen.calls = stage.calls.as_ref().map(CallCounts::total);
                add(&stage.policy, sample, seen);
            }
            for key in stack.keys.iter().flat_map(|keys| &keys.shown) {
                if let Some(shown) = shown_of(&key.stages) {
                    let (sample, _) = look(&shown.snapshot);
                    let rejected = key.stages.iter().map(|stage| look(&stage.snapshot).1.rejected);
                    let seen = Seen {
                        rejected: rejected.sum(),
                        calls: None,
                    };
                    add(&shown.policy, sample, seen);
                }
            }
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

/// The policy that stands for a key: its circuit breaker, or else its bulkhead. The page looks for the same.
fn shown_of(stages: &[StageSnapshot]) -> Option<&StageSnapshot> {
    let of = |kind| stages.iter().find(move |stage| stage.kind == kind);
    of(PolicyKind::CircuitBreaker).or_else(|| of(PolicyKind::Bulkhead))
}

/// What is to be seen, and what was rejected so far.
fn look(policy: &PolicySnapshot) -> (Sample, Seen) {
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
        ..Sample::default()
    };
    (
        sample,
        Seen {
            rejected,
            calls: None,
        },
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        composition::{
            keyed::KeyedConfig,
            registry::Registry,
            settings::{Settings, StackConfig},
        },
        policies::{bulkhead::BulkheadConfig, circuit_breaker::CircuitBreakerConfig},
    };

    fn registry() -> Registry {
        let breaker = CircuitBreakerConfig::new().count_window(2).minimum_calls(1);
        let one = StackConfig::new()
            .stage("bulkhead", BulkheadConfig::new(4))
            .stage("circuit_breaker", breaker.clone());
        let hosts = StackConfig::new()
            .stage("bulkhead", BulkheadConfig::new(4))
            .stage("circuit_breaker", breaker)
            .keyed("host", KeyedConfig::new());
        let registry = Registry::builder()
            .key("host")
            .build(Settings::new().stack("one", one).stack("hosts", hosts))
            .unwrap();
        registry.count_calls();
        registry
    }

    async fn succeed() -> io::Result<()> {
        Ok(())
    }

    async fn fail() -> io::Result<()> {
        Err(io::Error::other("no"))
    }

    fn of(series: &Series, policy: &str) -> Value {
        serde_json::to_value(series).unwrap()["policies"][policy].clone()
    }

    #[tokio::test]
    async fn a_sample_tells_what_came_since_the_one_before() {
        let registry = registry();
        let one = registry.stack("one").unwrap();
        one.run(succeed).await.unwrap();
        let mut series = Series::default();
        series.sample(&registry.snapshot());
        for _ in 0..3 {
            one.run(succeed).await.unwrap();
        }
        one.run(fail).await.unwrap_err();
        one.run(succeed).await.unwrap_err();
        series.sample(&registry.snapshot());
        assert_eq!(
            of(&series, "one/circuit_breaker"),
            json!([
                {"state": "closed", "value": 0.0, "rejected": 0},
                {"state": "open", "value": 0.5, "rejected": 1, "calls": 5},
            ])
        );
        let newest = serde_json::to_value(series.newest()).unwrap();
        assert_eq!(
            newest["one/bulkhead"],
            json!({"value": 0.0, "rejected": 0, "calls": 5})
        );
    }

    #[tokio::test]
    async fn a_key_has_a_series_of_its_own_while_it_is_shown_and_its_stack_counts_all() {
        let registry = registry();
        let hosts = registry.keyed_stack("hosts").unwrap();
        let mut series = Series::default();
        series.sample(&registry.snapshot());
        hosts.get("well").run(succeed).await.unwrap();
        hosts.get("sick").run(fail).await.unwrap_err();
        series.sample(&registry.snapshot());
        hosts.get("sick").run(succeed).await.unwrap_err();
        series.sample(&registry.snapshot());
        let sick = |rejected| json!({"state": "open", "value": 1.0, "rejected": rejected});
        assert_eq!(
            of(&series, "hosts/circuit_breaker[sick]"),
            json!([sick(0), sick(1)])
        );
        let well = json!({"state": "closed", "value": 0.0, "rejected": 0});
        assert_eq!(of(&series, "hosts/circuit_breaker[well]"), json!([well, well]));
        assert_eq!(
            of(&series, "hosts/bulkhead[sick]"),
            Value::Null,
            "one for each key"
        );
        let first = json!({"value": null, "rejected": 0});
        let calls = |calls| json!({"value": null, "rejected": 0, "calls": calls});
        assert_eq!(of(&series, "hosts/bulkhead"), json!([first, calls(2), calls(1)]));

        // Keys that are not shown any more leave nothing behind.
        let mut later = registry.snapshot();
        for stack in &mut later.stacks {
            if let Some(keys) = &mut stack.keys {
                keys.shown.clear();
            }
        }
        series.sample(&later);
        assert_eq!(of(&series, "hosts/circuit_breaker[sick]"), Value::Null);
    }

    #[test]
    fn a_minute_is_kept() {
        let registry = registry();
        let mut series = Series::default();
        for _ in 0..KEPT + 5 {
            series.sample(&registry.snapshot());
        }
        assert_eq!(of(&series, "one/bulkhead").as_array().unwrap().len(), KEPT);
    }
}
