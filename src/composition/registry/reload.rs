//! New settings for all stacks of a registry, and what came of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use super::{
    Registry,
    stack::{Around, Named, Policies},
};
use crate::{
    composition::settings::{ConfigErrors, Issue, Names, Settings, StackConfig, path},
    vocabulary::event::What,
};

type Stacks = BTreeMap<String, Named>;

/// What new settings changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reload {
    /// The number of these settings; the first have 1.
    pub generation: u64,
    /// Stacks that are new.
    pub added: Vec<String>,
    /// Stacks some of whose policies took other settings, or whose stages are others.
    pub changed: Vec<String>,
    /// Of these, the ones whose stages came, went or moved.
    pub restacked: Vec<String>,
    /// Stacks that are gone from the settings; each goes on under the last that it had.
    pub orphaned: Vec<String>,
    /// Circuit breakers whose window was emptied, because it has another shape now.
    pub emptied: Vec<String>,
}

impl Reload {
    /// Whether nothing changed.
    pub fn is_unchanged(&self) -> bool {
        let lists = [&self.added, &self.changed, &self.orphaned];
        lists.iter().all(|list| list.is_empty())
    }
}

impl Registry {
    /// Loads its settings anew from where it was built from, and takes them.
    ///
    /// It reads files, and blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings: nothing changes then. Of a registry that was built from settings themselves,
    /// that it has nowhere to load them from.
    pub fn reload(&self) -> Result<Reload, ConfigErrors> {
        let loaded = match &self.0.loader {
            Some(load) => load(&self.0.predicates),
            None => Err(Issue::error(
                "",
                "this registry was not built from a source: give it settings by `apply`",
            )
            .into()),
        };
        loaded
            .and_then(|settings| self.take(settings))
            .inspect_err(|errors| self.fail(errors))
    }

    /// Takes these settings: all of them, or, where anything is wrong, none.
    ///
    /// - A policy that did not change keeps its state, and so does one whose thresholds and limits did: calls under way
    ///   end with the attempts, waits and limits that they began with, and a breaker's thresholds hold from the next
    ///   record on. Only another shape of its window empties that.
    /// - Stages that come, go or move do so from the next call on.
    /// - A stack that is gone from the settings goes on under the last that it had.
    ///
    /// # Errors
    ///
    /// All that is wrong with them.
    pub fn apply(&self, settings: Settings) -> Result<Reload, ConfigErrors> {
        self.take(settings).inspect_err(|errors| self.fail(errors))
    }

    fn fail(&self, errors: &ConfigErrors) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        self.0.failing.store(true, Ordering::Relaxed);
        self.tell(
            &self.0.name,
            What::ReloadFailed {
                errors: errors.to_string().into(),
            },
        );
    }

    fn take(&self, settings: Settings) -> Result<Reload, ConfigErrors> {
        let reload = {
            let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
            // A copy: policies tell their observers what changes, and these may ask the registry.
            let (mut stacks, watches) = {
                let state = self.state();
                (state.stacks.clone(), state.watches.clone())
            };
            let around = Around {
                predicates: &self.0.predicates,
                clock: &self.0.clock,
                watches: &watches,
            };
            let issues = self.check(&stacks, &settings);
            if !issues.is_empty() {
                return Err(ConfigErrors::new(issues));
            }
            let mut reload = change(&around, &mut stacks, &settings)?;
            let mut state = self.state();
            // Those that came meanwhile watch what is new, too, and those that went do not.
            for (name, named) in &stacks {
                for watch in state.watches.iter().filter(|watch| !watch.is_in(&watches)) {
                    named.observe(name, watch);
                }
                for watch in watches.iter().filter(|watch| !watch.is_in(&state.watches)) {
                    named.unobserve(&Arc::downgrade(&watch.observer));
                }
            }
            state.stacks = stacks;
            state.settings = Arc::new(settings);
            reload.generation = self.0.generation.fetch_add(1, Ordering::Relaxed) + 1;
            self.0.failing.store(false, Ordering::Relaxed);
            reload
        };
        for name in &reload.restacked {
            self.tell(&Arc::from(name.as_str()), What::Restacked);
        }
        for name in &reload.orphaned {
            self.tell(&Arc::from(name.as_str()), What::Orphaned);
        }
        let generation = reload.generation;
        self.tell(&self.0.name, What::Reloaded { generation });
        Ok(reload)
    }

    /// All that is wrong with settings, and with what this registry would have to make of them.
    fn check(&self, stacks: &Stacks, settings: &Settings) -> Vec<Issue> {
        let mut issues = settings.issues(&self.0.predicates, Names::Any);
        for (name, config) in &settings.stacks {
            issues.extend(self.check_keys(stacks, name, config));
        }
        issues
    }

    fn check_keys(&self, stacks: &Stacks, name: &str, config: &StackConfig) -> Option<Issue> {
        let path = path(["stacks", name, "per"]);
        if let Some(keyed) = &config.keyed
            && !self.0.knows_key(keyed)
        {
            let accepted = format!(
                "accepted: {}; a program names others by `RegistryBuilder::key`",
                self.0.keys.join(", ")
            );
            return Some(Issue::error(path, accepted).with_value(format!("{:?}", keyed.per)));
        }
        let was_keyed = stacks
            .get(name)
            .map(|named| matches!(named.policies(), Policies::Keyed(_)));
        if was_keyed.is_some_and(|was| was != config.keyed.is_some()) {
            let message = "a stack cannot begin or end to have policies for each key while the program runs";
            return Some(Issue::error(path, message));
        }
        None
    }
}

/// Lets the stacks take settings that are checked.
fn change(around: &Around<'_>, stacks: &mut Stacks, settings: &Settings) -> Result<Reload, ConfigErrors> {
    let failed = |name: &str, error| ConfigErrors::from(Issue::of_setting(&format!("stacks.{name}"), &error));
    let mut reload = Reload::default();
    for (name, config) in &settings.stacks {
        let Some(named) = stacks.get_mut(name) else {
            let named = Named::new(name, config.clone(), around).map_err(|error| failed(name, error))?;
            stacks.insert(name.clone(), named);
            reload.added.push(name.clone());
            continue;
        };
        let changed = named
            .take(name, config.clone(), around)
            .map_err(|error| failed(name, error))?;
        if changed.reconfigured || changed.restacked {
            reload.changed.push(name.clone());
        }
        if changed.restacked {
            reload.restacked.push(name.clone());
        }
        reload.emptied.extend(changed.emptied);
    }
    for (name, named) in stacks {
        if !settings.stacks.contains_key(name) && named.orphan() {
            reload.orphaned.push(name.clone());
        }
    }
    Ok(reload)
}
