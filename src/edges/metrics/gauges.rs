//! Values of one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Series, catalog, sink::Sink};
use crate::{
    composition::{keyed::KeyedSnapshot, registry::Registry},
    drivers::stack::AnyPolicy,
    policies::{bulkhead::BulkheadSnapshot, circuit_breaker::CircuitBreakerSnapshot},
    vocabulary::{event::PolicyKind, rate::Rate, state::State},
};

/// The values of all policies at one moment, and of the tables of keys.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    policies: BTreeMap<Series, Values>,
    keys: BTreeMap<Arc<str>, KeyedSnapshot>,
}

/// The values of policies of one kind and name, all together. Those of none are zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values {
    /// Breakers in each of [`State::ALL`].
    states: [u32; State::ALL.len()],
    failure_rate: f64,
    slow_rate: f64,
    calls: u64,
    failed: u64,
    slow: u64,
    budget_left: Option<u64>,
    in_flight: u64,
    queued: u64,
    limit: u64,
    occupancy: f64,
}

/// What has a gauge now or had one before, so that it would stay as it was.
#[derive(Debug, Default)]
pub(super) struct Shown {
    budgets: BTreeSet<Arc<str>>,
    keys: BTreeSet<Arc<str>>,
}

impl Gauges {
    pub(super) fn add(&mut self, series: Series, policy: &AnyPolicy) {
        let values = self.policies.entry(series).or_default();
        match policy {
            AnyPolicy::CircuitBreaker(breaker) => values.add_breaker(&breaker.snapshot()),
            AnyPolicy::Bulkhead(bulkhead) => values.add_bulkhead(bulkhead.snapshot()),
            AnyPolicy::Retry(retry) => {
                if let Some(budget) = retry.budget() {
                    let left = budget.snapshot().left;
                    values.budget_left = Some(values.budget_left.map_or(left, |lowest| lowest.min(left)));
                }
            }
            AnyPolicy::Timeout(_) | AnyPolicy::Fallback(_) => {}
        }
    }

    pub(super) fn add_keys(&mut self, name: Arc<str>, snapshot: KeyedSnapshot) {
        let all = self.keys.entry(name).or_default();
        all.keys += snapshot.keys;
        all.max_keys += snapshot.max_keys;
        all.forgotten += snapshot.forgotten;
        all.overflowed += snapshot.overflowed;
    }

    /// Publishes those of one kind and name.
    pub(super) fn publish(&self, sink: &Sink<'_>, kind: PolicyKind, series: &Series, shown: &mut Shown) {
        let values = self.policies.get(series).copied().unwrap_or_default();
        match kind {
            PolicyKind::CircuitBreaker => values.publish_breaker(sink),
            PolicyKind::Bulkhead => values.publish_bulkhead(sink),
            PolicyKind::Retry => {
                let (_, name) = series;
                if let Some(left) = values.budget_left {
                    shown.budgets.insert(Arc::clone(name));
                    sink.gauge(catalog::BUDGET_LEFT, &[], left as f64);
                } else if shown.budgets.contains(name) {
                    // Zero would say that it is spent.
                    sink.gauge(catalog::BUDGET_LEFT, &[], f64::NAN);
                }
            }
            PolicyKind::Timeout | PolicyKind::Fallback | PolicyKind::Registry => {}
        }
    }

    pub(super) fn publish_keys(&self, sink: &Sink<'_>, shown: &mut Shown) {
        shown.keys.extend(self.keys.keys().cloned());
        for name in &shown.keys {
            let sink = sink.of("keyed", name);
            let snapshot = self.keys.get(name).copied().unwrap_or_default();
            sink.gauge(catalog::KEYS, &[], f64::from(snapshot.keys));
            sink.gauge(catalog::KEYS_LIMIT, &[], f64::from(snapshot.max_keys));
            sink.counter(catalog::KEYS_FORGOTTEN, &[], snapshot.forgotten);
            sink.counter(catalog::KEYS_OVERFLOWED, &[], snapshot.overflowed);
        }
    }
}

impl Values {
    fn add_breaker(&mut self, snapshot: &CircuitBreakerSnapshot) {
        for (breakers, state) in self.states.iter_mut().zip(State::ALL) {
            *breakers += u32::from(state == snapshot.state);
        }
        let fraction = |rate: Option<Rate>| rate.map_or(0.0, Rate::as_fraction);
        self.failure_rate = self.failure_rate.max(fraction(snapshot.failure_rate));
        self.slow_rate = self.slow_rate.max(fraction(snapshot.slow_call_rate));
        self.calls += snapshot.calls;
        self.failed += snapshot.failed;
        self.slow += snapshot.slow;
    }

    fn add_bulkhead(&mut self, snapshot: BulkheadSnapshot) {
        self.in_flight += u64::from(snapshot.in_flight);
        self.queued += snapshot.queued as u64;
        self.limit += u64::from(snapshot.limit);
        let occupancy = f64::from(snapshot.in_flight) / f64::from(snapshot.limit.max(1));
        self.occupancy = self.occupancy.max(occupancy);
    }

    fn publish_breaker(&self, sink: &Sink<'_>) {
        for (breakers, state) in self.states.into_iter().zip(State::ALL) {
            sink.gauge(catalog::STATE, &[("state", state.word())], f64::from(breakers));
        }
        sink.gauge(catalog::FAILURE_RATIO, &[], self.failure_rate);
        sink.gauge(catalog::SLOW_RATIO, &[], self.slow_rate);
        sink.gauge(catalog::WINDOW_CALLS, &[], self.calls as f64);
        sink.gauge(catalog::WINDOW_FAILURES, &[], self.failed as f64);
        sink.gauge(catalog::WINDOW_SLOW, &[], self.slow as f64);
    }

    fn publish_bulkhead(&self, sink: &Sink<'_>) {
        sink.gauge(catalog::IN_FLIGHT, &[], self.in_flight as f64);
        sink.gauge(catalog::QUEUED, &[], self.queued as f64);
        sink.gauge(catalog::LIMIT, &[], self.limit as f64);
        sink.gauge(catalog::OCCUPANCY, &[], self.occupancy);
    }
}

/// What registries say of their settings. Of more than one, the sums.
pub(super) fn publish_config(sink: &Sink<'_>, registries: &[Registry]) {
    let generation: u64 = registries.iter().map(Registry::generation).sum();
    let failures = registries.iter().map(Registry::failed_reloads).sum();
    let failing = registries.iter().any(Registry::is_failing);
    let stacks = registries.iter().flat_map(Registry::stacks);
    let orphaned = stacks.filter(|stack| stack.orphaned).count();
    sink.gauge(catalog::GENERATION, &[], generation as f64);
    sink.counter(catalog::RELOADS, &[], generation);
    sink.counter(catalog::RELOAD_FAILURES, &[], failures);
    sink.gauge(catalog::RELOAD_FAILING, &[], f64::from(u8::from(failing)));
    sink.gauge(catalog::ORPHANED, &[], orphaned as f64);
}
