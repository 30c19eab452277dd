//! One stack of a registry: from its settings to its stages, and on to other settings.

use std::sync::Arc;

use super::observe::Watch;
use crate::{
    composition::{
        keyed::Keyed,
        settings::{PolicyConfig, Predicates, StackConfig, StageConfig},
    },
    drivers::stack::{AnyPolicy, Stage, Stages},
    policies::per_key::keyed_name,
    vocabulary::{clock::Clock, events::WeakObserver, predicate::Rules, settings::ConfigError},
};

/// A stack under its name.
#[derive(Clone)]
pub(super) struct Named {
    config: StackConfig,
    policies: Policies,
    /// Whether it is gone from the settings.
    orphaned: bool,
}

/// Its policies.
#[derive(Clone)]
pub(crate) enum Policies {
    /// All calls share them.
    One(Stages),
    /// Each key has its own.
    Keyed(Keyed<Stages>),
}

/// What new settings changed in a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Policies took other settings, or there may be another number of keys.
    pub(super) reconfigured: bool,
    /// Stages came, went or moved, or see outcomes otherwise.
    pub(super) restacked: bool,
    /// Breakers whose window was emptied, because it has another shape.
    pub(super) emptied: Vec<String>,
}

/// What a stack is built with besides its settings.
pub(super) struct Around<'a> {
    pub(super) predicates: &'a Predicates,
    pub(super) clock: &'a Clock,
    pub(super) watches: &'a [Watch],
}

impl Named {
    /// Builds a stack of checked settings.
    pub(super) fn new(name: &str, config: StackConfig, around: &Around<'_>) -> Result<Self, ConfigError> {
        let mut stages = Vec::new();
        for stage in &config.stages {
            let policy = around.make(name, stage)?;
            stages.push(Stage {
                policy,
                rules: around.rules(&stage.policy),
            });
        }
        let stages = Stages::reloadable(Arc::from(name), stages);
        let policies = match &config.keyed {
            None => Policies::One(stages),
            Some(keyed) => Policies::Keyed(keyed.config.build(stages)?),
        };
        Ok(Self {
            config,
            policies,
            orphaned: false,
        })
    }

    pub(super) const fn config(&self) -> &StackConfig {
        &self.config
    }

    pub(super) const fn policies(&self) -> &Policies {
        &self.policies
    }

    pub(super) const fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    /// Notes that it is gone from the settings. Whether that is news.
    pub(super) fn orphan(&mut self) -> bool {
        !std::mem::replace(&mut self.orphaned, true)
    }

    pub(super) fn observe(&self, stack: &str, watch: &Watch) {
        self.visit(|policy| {
            if watch.scope.covers(stack, policy.name()) {
                policy.add_observer(Arc::clone(&watch.observer));
            }
        });
    }

    pub(super) fn unobserve(&self, observer: &WeakObserver) {
        self.visit(|policy| policy.remove_observer(observer));
    }

    /// All policies, of keys too, and what those of later keys are made from.
    fn visit(&self, visit: impl Fn(&AnyPolicy)) {
        let visit = |stages: &Stages| stages.list().iter().for_each(|stage| visit(&stage.policy));
        match &self.policies {
            Policies::One(stages) => visit(stages),
            Policies::Keyed(keyed) => keyed.visit(visit),
        }
    }

    /// Takes other settings, which are checked. Policies of stages that stay are the same as before.
    pub(super) fn take(
        &mut self,
        name: &str,
        config: StackConfig,
        around: &Around<'_>,
    ) -> Result<Changed, ConfigError> {
        self.orphaned = false;
        if config == self.config {
            return Ok(Changed::default());
        }
        let plan = Plan {
            old: &self.config,
            new: &config,
            around,
            name,
        };
        let changed = plan.changed();
        match (&mut self.policies, &config.keyed) {
            (Policies::One(stages), None) => {
                if let Some(next) = plan.next(stages, None)? {
                    stages.supersede(&next);
                    *stages = next;
                }
            }
            (Policies::Keyed(keyed), Some(by)) => {
                keyed.reconfigure(&by.config)?;
                let each = keyed.each().newest();
                if let Some(next) = plan.next(&each, None)? {
                    each.supersede(&next);
                }
                let each = each.newest();
                for (key, stages) in keyed.all_entries() {
                    if let Some(next) = plan.next(&stages, Some((&key, &each)))? {
                        stages.supersede(&next);
                    }
                }
                keyed.renew();
            }
            // Refused when the settings were checked.
            (Policies::One(_), Some(_)) | (Policies::Keyed(_), None) => {}
        }
        self.config = config;
        Ok(changed)
    }
}

/// From some settings of a stack to others.
struct Plan<'a> {
    old: &'a StackConfig,
    new: &'a StackConfig,
    around: &'a Around<'a>,
    name: &'a str,
}

impl Plan<'_> {
    fn changed(&self) -> Changed {
        let mut changed = Changed {
            restacked: self.restacks(),
            reconfigured: self.old.keyed != self.new.keyed,
            ..Changed::default()
        };
        for stage in &self.new.stages {
            let Some(old) = self.before(stage) else {
                continue;
            };
            changed.reconfigured |= old.policy != stage.policy;
            if let (PolicyConfig::CircuitBreaker(old), PolicyConfig::CircuitBreaker(new)) =
                (&old.policy, &stage.policy)
                && old.window != new.window
            {
                changed.emptied.push(policy_name(self.name, stage));
            }
        }
        changed
    }

    /// The settings before of a stage that stays: one of the same name and kind.
    fn before(&self, stage: &StageConfig) -> Option<&StageConfig> {
        let same = |old: &&StageConfig| old.name == stage.name && old.policy.kind() == stage.policy.kind();
        self.old.stages.iter().find(same)
    }

    /// Whether the list of stages is another one.
    fn restacks(&self) -> bool {
        let (old, new) = (&self.old.stages, &self.new.stages);
        old.len() != new.len()
            || old.iter().zip(new).any(|(old, new)| {
                old.name != new.name
                    || old.policy.kind() != new.policy.kind()
                    || old.policy.names() != new.policy.names()
            })
    }

    /// The stages under the new settings, with the policies of `stages` where these stay. `None`: they are the same
    /// list, and its policies took their settings in place. `of`: a key, and the stages that its own are made from, which
    /// have the new settings.
    fn next(&self, stages: &Stages, of: Option<(&str, &Stages)>) -> Result<Option<Stages>, ConfigError> {
        let find = |stages: &Stages, name: &str, stage: &StageConfig| {
            let mut policies = stages.list().iter().map(|known| &known.policy);
            policies
                .find(|known| **known.name() == *name && known.kind() == stage.policy.kind())
                .cloned()
        };
        let mut next = Vec::new();
        for stage in &self.new.stages {
            let plain = policy_name(self.name, stage);
            let name = match of {
                Some((key, _)) => keyed_name(&plain, key),
                None => plain.as_str().into(),
            };
            let known = find(stages, &name, stage);
            let policy = match known {
                Some(known) => {
                    if self.before(stage).is_none_or(|old| old.policy != stage.policy) {
                        reconfigure(&known, self.around.timed(&stage.policy))?;
                    }
                    known
                }
                None => match of {
                    None => self.around.make(self.name, stage)?,
                    // Made from what other keys' are, it shares with them what they share.
                    Some((key, each)) => match find(each, &plain, stage) {
                        Some(each) => each.for_key(key),
                        None => self.around.make(self.name, stage)?.for_key(key),
                    },
                },
            };
            next.push(Stage {
                policy,
                rules: self.around.rules(&stage.policy),
            });
        }
        if !self.restacks() {
            return Ok(None);
        }
        let mut name = Arc::from(self.name);
        if let Some((key, _)) = of {
            name = keyed_name(&name, key);
        }
        Ok(Some(Stages::reloadable(name, next)))
    }
}

impl Around<'_> {
    /// The policy of a stage.
    fn make(&self, stack: &str, stage: &StageConfig) -> Result<AnyPolicy, ConfigError> {
        let policy = build(self.timed(&stage.policy), &policy_name(stack, stage))?;
        for watch in self.watches {
            if watch.scope.covers(stack, policy.name()) {
                policy.add_observer(Arc::clone(&watch.observer));
            }
        }
        Ok(policy)
    }

    /// The settings with the registry's clock.
    fn timed(&self, config: &PolicyConfig) -> PolicyConfig {
        let clock = self.clock.clone();
        match config.clone() {
            PolicyConfig::CircuitBreaker(config) => config.clock(clock).into(),
            PolicyConfig::Retry(config) => config.clock(clock).into(),
            PolicyConfig::Timeout(config) => config.clock(clock).into(),
            PolicyConfig::Bulkhead(config) => config.clock(clock).into(),
        }
    }

    /// The rules of a stage whose names are known.
    fn rules(&self, config: &PolicyConfig) -> Option<Arc<Rules>> {
        let rules = match config {
            PolicyConfig::CircuitBreaker(config) => {
                self.predicates.rules(&config.record, &config.ignore, &[], &[])
            }
            PolicyConfig::Retry(config) => self.predicates.rules(&[], &[], &config.on, &config.never_on),
            PolicyConfig::Timeout(_) | PolicyConfig::Bulkhead(_) => Ok(None),
        };
        rules.ok().flatten().map(Arc::new)
    }
}

/// What a policy is called: `stack/stage`.
fn policy_name(stack: &str, stage: &StageConfig) -> String {
    format!("{stack}/{}", stage.name)
}

fn build(config: PolicyConfig, name: &str) -> Result<AnyPolicy, ConfigError> {
    Ok(match config {
        PolicyConfig::CircuitBreaker(config) => config.build_named(name)?.into(),
        PolicyConfig::Retry(config) => config.build_named(name)?.into(),
        PolicyConfig::Timeout(config) => config.build(name)?.into(),
        PolicyConfig::Bulkhead(config) => config.build(name)?.into(),
    })
}

/// Gives a policy other settings of its kind.
fn reconfigure(policy: &AnyPolicy, config: PolicyConfig) -> Result<(), ConfigError> {
    match (policy, config) {
        (AnyPolicy::CircuitBreaker(policy), PolicyConfig::CircuitBreaker(config)) => {
            policy.reconfigure(&config)
        }
        (AnyPolicy::Retry(policy), PolicyConfig::Retry(config)) => policy.reconfigure(&config),
        (AnyPolicy::Timeout(policy), PolicyConfig::Timeout(config)) => policy.reconfigure(&config),
        (AnyPolicy::Bulkhead(policy), PolicyConfig::Bulkhead(config)) => policy.reconfigure(&config),
        _ => Ok(()),
    }
}
