//! All that there is to see of a registry, at one moment.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    NotFound, Registry,
    command::Overrides,
    stack::{Named, Policies},
};
use crate::{
    composition::{
        counting::{CallCounts, counted},
        keyed::{Keyed, KeyedSnapshot},
        settings::StageConfig,
    },
    drivers::stack::{AnyPolicy, Stages},
    policies::{
        bulkhead::BulkheadSnapshot, circuit_breaker::CircuitBreakerDetail, retry::RetrySnapshot,
        timeout::TimeoutSnapshot,
    },
    vocabulary::{
        clock::{Timestamp, time_of_day},
        command::{By, Command},
        event::PolicyKind,
        state::State,
    },
};

/// Cells of a window's picture.
const CELLS: u32 = 100;

/// Keys of a stack that are shown.
const KEYS: usize = 100;

/// A registry at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RegistrySnapshot {
    /// When, by the system's clock.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::vocabulary::json::at"))]
    pub at: SystemTime,
    /// The number of the settings that it took last.
    pub generation: u64,
    /// How many settings it was to take that were wrong.
    pub failed_reloads: u64,
    /// Its stacks, in the order of their names.
    pub stacks: Vec<StackSnapshot>,
}

/// A stack at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StackSnapshot {
    /// Its name.
    pub name: String,
    /// Whether it is gone from the settings, and goes on under the last that it had.
    pub orphaned: bool,
    /// Its stages, outermost first. Of a keyed stack they are what those of new keys are made from.
    pub stages: Vec<StageSnapshot>,
    /// Its keys, where it has policies for each.
    pub keys: Option<KeysSnapshot>,
}

/// A stage of a stack at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StageSnapshot {
    /// Its name in its stack: `circuit_breaker`.
    pub name: String,
    /// Its policy's name: `payments/circuit_breaker`.
    pub policy: Arc<str>,
    /// The kind of its policy.
    pub kind: PolicyKind,
    /// Its policy.
    pub snapshot: PolicySnapshot,
    /// Its calls since somebody [asked it to count](Registry::count_calls), of a stage of a keyed stack those of all keys.
    /// `None` where nobody did, and of a single key, which is not counted alone.
    pub calls: Option<CallCounts>,
    /// What a command brought about that stands.
    #[cfg_attr(feature = "serde", serde(rename = "override"))]
    pub overridden: Option<OverrideSnapshot>,
}

/// A policy at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(untagged))]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "most are circuit breakers, and they live briefly"
)]
pub enum PolicySnapshot {
    /// A circuit breaker.
    CircuitBreaker(CircuitBreakerDetail),
    /// A retry.
    Retry(RetrySnapshot),
    /// A timeout.
    Timeout(TimeoutSnapshot),
    /// A bulkhead.
    Bulkhead(BulkheadSnapshot),
    /// A fallback, of which there is nothing to see.
    Fallback {},
}

/// What a command brought about, while it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverrideSnapshot {
    /// The command.
    pub command: Command,
    /// Who gave it, and why.
    pub by: By,
    /// What is left of its time to live; `None` where it lasts until another command.
    pub left: Option<Duration>,
}

/// The keys of a stack at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeysSnapshot {
    /// What a key is: `authority`.
    pub per: String,
    /// Counts.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub counts: KeyedSnapshot,
    /// The first 100 keys: those with a circuit breaker that is not closed, then those with a full bulkhead, then the
    /// others, each in the order of the keys. The policies of keys that find no place are there as `*`, if they were used.
    pub shown: Vec<KeySnapshot>,
    /// So many keys are not shown.
    pub hidden: usize,
}

/// A key of a stack at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeySnapshot {
    /// The key.
    pub key: String,
    /// Its stages, outermost first.
    pub stages: Vec<StageSnapshot>,
}

impl Registry {
    /// All that there is to see at this moment: every stack, in its order.
    ///
    /// It is for who looks, once a second, not for each call: each policy is asked one after the other, and of the window
    /// of a circuit breaker a picture is made.
    pub fn snapshot(&self) -> RegistrySnapshot {
        // Copies: nothing is asked while the state is held.
        let stacks: Vec<(String, Named)> = {
            let state = self.state();
            let stacks = state.stacks.iter();
            stacks
                .map(|(name, named)| (name.clone(), named.clone()))
                .collect()
        };
        let seen = Seen {
            overrides: Overridden::of(&self.overrides(), self.0.clock.now()),
        };
        RegistrySnapshot {
            at: time_of_day(),
            generation: self.generation(),
            failed_reloads: self.failed_reloads(),
            stacks: stacks
                .into_iter()
                .map(|(name, named)| seen.stack(name, &named))
                .collect(),
        }
    }
}

impl Registry {
    /// One policy at this moment, by its whole name: `payments/circuit_breaker`, or of a key
    /// `web/circuit_breaker[https://api.example:443]`.
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub fn policy_snapshot(&self, name: &str) -> Result<StageSnapshot, NotFound> {
        let (policy, in_stack, is_of_key) = {
            let state = self.state();
            let found = state.by_whole_name(name).zip(state.stage_of(name));
            let (policy, in_stack) = found.ok_or_else(|| NotFound::new("policy", name, state.names()))?;
            let is_of_key = state.base_of(name).is_some_and(|(_, base)| base != name);
            (policy, in_stack, is_of_key)
        };
        let overridden = Overridden::of(&self.overrides(), self.0.clock.now());
        Ok(Seen {
            overrides: overridden,
        }
        .stage(in_stack, &policy, is_of_key))
    }
}

/// What is overridden, by the policies' names.
struct Overridden(Vec<(Arc<str>, OverrideSnapshot)>);

impl Overridden {
    fn of(overrides: &Overrides, now: Timestamp) -> Self {
        let standing = overrides.iter().filter(|(_, over)| over.stands());
        let shown = standing.map(|(name, over)| {
            let snapshot = OverrideSnapshot {
                command: over.command,
                by: over.by.clone(),
                left: over.until.map(|until| until.since(now)),
            };
            (Arc::clone(name), snapshot)
        });
        Self(shown.collect())
    }
}

struct Seen {
    overrides: Overridden,
}

impl Seen {
    fn stack(&self, name: String, named: &Named) -> StackSnapshot {
        let config = &named.config().stages;
        let (stages, keys) = match named.policies() {
            Policies::One(stages) => (self.stages(config, stages, false), None),
            Policies::Keyed(keyed) => {
                let per = named
                    .config()
                    .keyed
                    .as_ref()
                    .map_or_else(String::new, |by| by.per.clone());
                let keys = self.keys(per, config, keyed);
                (self.stages(config, &keyed.each().newest(), false), Some(keys))
            }
        };
        StackSnapshot {
            name,
            orphaned: named.is_orphaned(),
            stages,
            keys,
        }
    }

    fn stages(&self, config: &[StageConfig], stages: &Stages, of_key: bool) -> Vec<StageSnapshot> {
        let stages = config.iter().zip(stages.list());
        stages
            .map(|(config, stage)| self.stage(config.name.clone(), &stage.policy, of_key))
            .collect()
    }

    fn stage(&self, name: String, policy: &AnyPolicy, of_key: bool) -> StageSnapshot {
        let whole = policy.name();
        let overridden = self.overrides.0.iter().find(|(name, _)| name == whole);
        StageSnapshot {
            name,
            policy: Arc::clone(whole),
            kind: policy.kind(),
            snapshot: look(policy),
            // A key counts with all others.
            calls: if of_key { None } else { counted(policy) },
            overridden: overridden.map(|(_, snapshot)| snapshot.clone()),
        }
    }

    fn keys(&self, per: String, config: &[StageConfig], keyed: &Keyed<Stages>) -> KeysSnapshot {
        let counts = keyed.snapshot();
        let mut keys = keyed.all_entries();
        if counts.overflowed == 0 {
            // The last is for keys without a place, and there were none.
            keys.pop();
        }
        let hidden = keys.len().saturating_sub(KEYS);
        let mut keys: Vec<_> = keys
            .into_iter()
            .map(|(key, stages)| {
                let stages = stages.newest();
                (calm(&stages), key, stages)
            })
            .collect();
        if hidden > 0 {
            keys.select_nth_unstable_by(KEYS, |one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
            keys.truncate(KEYS);
        }
        keys.sort_unstable_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        KeysSnapshot {
            per,
            counts,
            shown: keys
                .into_iter()
                .map(|(_, key, stages)| KeySnapshot {
                    key: key.into(),
                    stages: self.stages(config, &stages, true),
                })
                .collect(),
            hidden,
        }
    }
}

/// How little there is to see: 0 where a circuit breaker is not closed, 1 where a bulkhead is full, 2 else.
fn calm(stages: &Stages) -> u8 {
    let of = |policy: &AnyPolicy| match policy {
        AnyPolicy::CircuitBreaker(breaker) if breaker.state() != State::Closed => 0,
        AnyPolicy::Bulkhead(bulkhead) => {
            let now = bulkhead.snapshot();
            if now.in_flight >= now.limit { 1 } else { 2 }
        }
        _ => 2,
    };
    stages
        .list()
        .iter()
        .map(|stage| of(&stage.policy))
        .min()
        .unwrap_or(2)
}

fn look(policy: &AnyPolicy) -> PolicySnapshot {
    match policy {
        AnyPolicy::CircuitBreaker(policy) => PolicySnapshot::CircuitBreaker(policy.detail(CELLS)),
        AnyPolicy::Retry(policy) => PolicySnapshot::Retry(policy.snapshot()),
        AnyPolicy::Timeout(policy) => PolicySnapshot::Timeout(policy.snapshot()),
        AnyPolicy::Bulkhead(policy) => PolicySnapshot::Bulkhead(policy.snapshot()),
        AnyPolicy::Fallback(_) => PolicySnapshot::Fallback {},
    }
}

/// `{"command": "force_open", "by": {…}, "left_seconds": 12.5}`, of a resize also `max_concurrent`.
#[cfg(feature = "serde")]
impl serde::Serialize for OverrideSnapshot {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;

        use crate::vocabulary::json::{Seconds, commanded};

        let mut map = to.serialize_map(None)?;
        commanded(self.command, &self.by, &mut map)?;
        map.serialize_entry("left_seconds", &self.left.map(Seconds))?;
        map.end()
    }
}
