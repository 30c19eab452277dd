//! Metrics for the recorder of the crate `metrics` (feature `metrics`, on by default).
//!
//! | file | subject |
//! |---|---|
//! | `mod.rs` | [`Metrics`]: what is published, and when |
//! | `catalog.rs` | the names, units and meanings of all metrics |
//! | `source.rs` | the handles that are looked at |
//! | `meter.rs` | the counts that they keep |
//! | `gauges.rs` | their values of one moment |
//! | `sink.rs` | series on their way to the recorder |
//!
//! Handles count in atomics of their own from when they are given to [`Metrics`]; a task hands what they counted to the
//! recorder, every second. So no call pays an exporter, and it does not matter whether the recorder is installed before a
//! stack is built or after.
//!
//! ```
//! use buttress::{CircuitBreaker, Metrics, Retry, Stack};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stack = Stack::builder()
//!     .retry(Retry::with_defaults("payments")?)
//!     .circuit_breaker(CircuitBreaker::with_defaults("payments")?)
//!     .build()?;
//! // For as long as it is kept.
//! let publishing = Metrics::new().stack(&stack).spawn()?;
//! # drop(publishing);
//! # Ok(())
//! # }
//! ```

mod catalog;
mod gauges;
mod meter;
mod sink;
mod source;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::{Handle, TryCurrentError},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use self::{
    gauges::{Gauges, Shown},
    meter::Counted,
    sink::Sink,
    source::Source,
};
use crate::{
    composition::{
        counting::Role,
        keyed::{KeyedBulkhead, KeyedCircuitBreaker, KeyedStack},
        registry::Registry,
    },
    drivers::stack::{AnyPolicy, Stack},
    policies::{
        bulkhead::Bulkhead, circuit_breaker::CircuitBreaker, fallback::Fallback, retry::Retry,
        timeout::Timeout,
    },
};

/// Publishes what policies count, for the recorder that the program installs.
///
/// A policy counts from when it is given here: its calls pay a few nanoseconds for it, a circuit breaker's two readings of
/// the clock, and the counts take 6 KiB at most, once for all keys. One that is not given here, and that no admin page shows, pays nothing.
/// What is published, under which names and what to do about it, the page `docs/metrics.md` of the repository says.
///
/// The labels are the policy's kind and name and words from short lists. Policies of the same kind and name are one
/// series each: their counts are added up. So are those of all keys of a keyed policy, under the name of the one that they
/// are made from: a key never becomes a label, and the handle of one key counts with the others.
///
/// Handles are not kept alive by this. What is gone goes on with its last counts, and its gauges go to zero. A registry
/// is kept, and its stacks are looked up each time, new ones too.
#[derive(Debug)]
#[must_use = "nothing is published until `spawn`, `run` or `publish`"]
pub struct Metrics {
    prefix: String,
    every: Duration,
    registries: Vec<Registry>,
    sources: Vec<Source>,
    series: BTreeMap<Series, Counted>,
    shown: Shown,
}

/// Which policy, or policies, series are about.
type Series = (&'static str, Arc<str>);

impl Default for Metrics {
    fn default() -> Self {
        Self {
            prefix: "buttress_".to_owned(),
            every: Duration::from_secs(1),
            registries: Vec::new(),
            sources: Vec::new(),
            series: BTreeMap::new(),
            shown: Shown::default(),
        }
    }
}

impl Metrics {
    /// Nothing to publish so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// What all names begin with. Default: `buttress_`.
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// How often [`run`](Self::run) and [`spawn`](Self::spawn) publish; at most every millisecond. Default: 1 s.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every.max(Duration::from_millis(1));
        self
    }

    /// Adds all stacks of a registry, those to come too, and the registry's own counts.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registries.push(registry.clone());
        self.look();
        self
    }

    /// Adds the policies of a stack. For one that comes from a registry, give the registry.
    pub fn stack<R, A>(self, stack: &Stack<R, A>) -> Self {
        let stages = stack.stages.newest();
        let policies = stages.list().iter().map(|stage| stage.policy.clone());
        policies.fold(self, |metrics, policy| metrics.policy(&policy))
    }

    /// Adds a circuit breaker.
    pub fn circuit_breaker(self, breaker: &CircuitBreaker) -> Self {
        self.policy(&breaker.clone().into())
    }

    /// Adds a retry.
    pub fn retry(self, retry: &Retry) -> Self {
        self.policy(&retry.clone().into())
    }

    /// Adds a timeout.
    pub fn timeout(self, timeout: &Timeout) -> Self {
        self.policy(&timeout.clone().into())
    }

    /// Adds a bulkhead.
    pub fn bulkhead(self, bulkhead: &Bulkhead) -> Self {
        self.policy(&bulkhead.clone().into())
    }

    /// Adds a fallback.
    pub fn fallback(self, fallback: &Fallback) -> Self {
        self.policy(&fallback.clone().into())
    }

    /// Adds circuit breakers that there is one of for each key.
    pub fn keyed_circuit_breaker(self, keyed: &KeyedCircuitBreaker) -> Self {
        self.source(Source::of_keyed(keyed))
    }

    /// Adds bulkheads that there is one of for each key.
    pub fn keyed_bulkhead(self, keyed: &KeyedBulkhead) -> Self {
        self.source(Source::of_keyed(keyed))
    }

    /// Adds the policies of a stack that there is one of for each key.
    pub fn keyed_stack<R, A>(self, keyed: &KeyedStack<R, A>) -> Self {
        self.source(Source::of_keyed_stages(keyed.stages()))
    }

    fn policy(self, policy: &AnyPolicy) -> Self {
        self.source(Source::of_policy(policy))
    }

    fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self.look();
        self
    }

    /// Publishes once.
    ///
    /// It goes through all keys of keyed policies, which takes some 100 ns for each.
    pub fn publish(&mut self) {
        self.housekeep();
        let gauges = self.look();
        metrics::with_recorder(|recorder| {
            let sink = Sink::new(recorder, &self.prefix);
            sink.describe();
            for (series, counted) in &mut self.series {
                let (policy, name) = series;
                let sink = sink.of(policy, name);
                counted.publish(&sink);
                gauges.publish(&sink, counted.kind(), series, &mut self.shown);
            }
            gauges.publish_keys(&sink, &mut self.shown);
            if !self.registries.is_empty() {
                gauges::publish_config(&sink, &self.registries);
            }
        });
    }

    /// Does what time has made due and nobody did: the state of a breaker that no call comes to goes on as well, and a
    /// registry ends what was commanded for a while.
    ///
    /// It comes before the looking, so that what is published is up to date.
    fn housekeep(&self) {
        for registry in &self.registries {
            registry.tick();
        }
        for source in &self.sources {
            source.visit(&mut |policy, _| {
                if let AnyPolicy::CircuitBreaker(breaker) = policy {
                    breaker.tick();
                }
            });
        }
    }

    /// Looks at all policies, which count from now on, and takes in what they have counted.
    fn look(&mut self) -> Gauges {
        let mut gauges = Gauges::default();
        let series = &mut self.series;
        for source in sources(&self.sources, &self.registries) {
            source.visit(&mut |policy, role| {
                let kind = policy.kind();
                let name = match role {
                    Role::OfKey(template) => template.name(),
                    Role::Single | Role::Template => policy.name(),
                };
                let place = (kind.word(), Arc::clone(name));
                if !matches!(role, Role::Template) {
                    gauges.add(place.clone(), policy);
                }
                let counted = series.entry(place).or_insert_with(|| Counted::new(kind));
                counted.begin(policy, role);
            });
            if let Some((name, snapshot)) = source.keys() {
                gauges.add_keys(name, snapshot);
            }
        }
        self.sources.retain(Source::is_alive);
        gauges
    }

    /// Publishes again and again, for ever.
    ///
    /// # Panics
    ///
    /// It needs a Tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the publishing between two times.
    pub async fn run(mut self) {
        let mut times = interval(self.every);
        // Late is late: what was counted meanwhile is published at once.
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            self.publish();
        }
    }

    /// Publishes again and again on a task of its own, until what comes back is dropped.
    ///
    /// # Errors
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn(self) -> Result<Publishing, TryCurrentError> {
        let runtime = Handle::try_current()?;
        Ok(Publishing {
            task: Some(runtime.spawn(self.run())),
        })
    }
}

/// Those that were added, and those of the registries as they are now.
fn sources(added: &[Source], registries: &[Registry]) -> impl Iterator<Item = Source> {
    added
        .iter()
        .cloned()
        .chain(registries.iter().flat_map(Source::of_registry))
}

/// A task that publishes metrics, until this is dropped.
#[must_use = "dropping it ends the publishing; see `detach`"]
pub struct Publishing {
    /// `None` once it is detached.
    task: Option<JoinHandle<()>>,
}

impl Publishing {
    /// Publishes for as long as the runtime runs.
    pub fn detach(mut self) {
        self.task = None;
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publishing").finish_non_exhaustive()
    }
}
