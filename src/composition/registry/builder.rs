//! What a registry is made from.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use super::{Loader, Registry, Shared, State};
use crate::{
    composition::settings::{ConfigErrors, Predicates, Settings},
    vocabulary::{
        clock::Clock,
        event::{Observer, Observers},
        predicate::Predicate,
    },
};

/// Makes a [`Registry`].
#[derive(Clone)]
pub struct RegistryBuilder {
    predicates: Predicates,
    keys: Vec<String>,
    clock: Clock,
    observers: Vec<Arc<dyn Observer>>,
    watched: Vec<PathBuf>,
}

impl Default for RegistryBuilder {
    fn default() -> Self {
        Self {
            predicates: Predicates::new(),
            keys: vec!["authority".to_owned()],
            clock: Clock::tokio(),
            observers: Vec::new(),
            watched: Vec::new(),
        }
    }
}

impl RegistryBuilder {
    /// Gives a name that settings may use in `record`, `ignore`, `on` and `never_on` a meaning.
    #[must_use]
    pub fn predicate(mut self, name: &str, predicate: Predicate) -> Self {
        self.predicates = self.predicates.with(name, predicate);
        self
    }

    /// Takes these predicates, in place of those that it has.
    #[must_use]
    pub fn predicates(mut self, predicates: Predicates) -> Self {
        self.predicates = predicates;
        self
    }

    /// Allows `per = "NAME"` in settings, beside `authority`. What the key of a request is, the layer of the
    /// [keyed stack](Registry::keyed_stack) says.
    #[must_use]
    pub fn key(mut self, name: &str) -> Self {
        self.keys.push(name.to_owned());
        self
    }

    /// Lets all policies live by this clock. Default: Tokio's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Adds an observer of the events of all policies, and of the registry's own.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Names a file that the settings come from, for [`Registry::watch`].
    #[must_use]
    pub fn watched(mut self, file: impl Into<PathBuf>) -> Self {
        self.watched.push(file.into());
        self
    }

    /// Builds the registry with these settings. It takes others by [`Registry::apply`].
    ///
    /// # Errors
    ///
    /// All that is wrong with them.
    pub fn build(self, settings: Settings) -> Result<Registry, ConfigErrors> {
        let registry = self.empty(None);
        registry.apply(settings)?;
        Ok(registry)
    }

    /// Builds the registry with the settings that the closure gives, now and at each [`Registry::reload`].
    ///
    /// # Errors
    ///
    /// What the closure says, or all that is wrong with the settings.
    pub fn build_from(
        self,
        load: impl Fn(&Predicates) -> Result<Settings, ConfigErrors> + Send + Sync + 'static,
    ) -> Result<Registry, ConfigErrors> {
        let registry = self.empty(Some(Box::new(load)));
        registry.reload()?;
        Ok(registry)
    }

    fn empty(self, loader: Option<Box<Loader>>) -> Registry {
        let observers = Observers::default();
        for observer in &self.observers {
            observers.add_once(Arc::clone(observer));
        }
        Registry(Arc::new(Shared {
            predicates: self.predicates,
            keys: self.keys,
            clock: self.clock,
            loader,
            watched: self.watched,
            name: Arc::from("registry"),
            observers,
            generation: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            turn: Mutex::default(),
            state: Mutex::new(State {
                settings: Arc::new(Settings::default()),
                stacks: BTreeMap::new(),
                observers: self.observers,
            }),
        }))
    }
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryBuilder")
            .field("predicates", &self.predicates)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
