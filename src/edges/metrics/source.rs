//! The handles that are looked at.

use std::{fmt, sync::Arc};

use crate::{
    composition::{
        counting::{Role, Visitor, visit_stages},
        keyed::{Keyed, KeyedSnapshot},
        registry::{Policies, Registry},
    },
    drivers::stack::{AnyPolicy, Stages},
    policies::per_key::PerKey,
};

/// One handle, or one for each key.
///
/// It does not keep what it looks at alive: closures stand here for what is left of it.
#[derive(Clone)]
pub(super) struct Source {
    visit: Arc<Visit>,
    keys: Arc<Keys>,
    is_alive: Arc<IsAlive>,
}

type Visit = dyn Fn(&mut Visitor<'_>) + Send + Sync;
type Keys = dyn Fn() -> Option<(Arc<str>, KeyedSnapshot)> + Send + Sync;
type IsAlive = dyn Fn() -> bool + Send + Sync;

impl Source {
    pub(super) fn of_policy(policy: &AnyPolicy) -> Self {
        let policy = weakly(policy);
        let is_alive = Arc::clone(&policy);
        Self {
            visit: Arc::new(move |visit| {
                if let Some(policy) = policy() {
                    visit(&policy, Role::Single);
                }
            }),
            keys: Arc::new(|| None),
            is_alive: Arc::new(move || is_alive().is_some()),
        }
    }

    pub(super) fn of_keyed<P: PerKey + Into<AnyPolicy>>(keyed: &Keyed<P>) -> Self {
        Self::of_keys(keyed, |keyed, visit| {
            let each: AnyPolicy = keyed.each().clone().into();
            visit(&each, Role::Template);
            keyed.for_each(|policy| visit(&policy.into(), Role::OfKey(&each)));
        })
    }

    pub(super) fn of_keyed_stages(keyed: &Keyed<Stages>) -> Self {
        Self::of_keys(keyed, visit_stages)
    }

    fn of_keys<P: PerKey>(keyed: &Keyed<P>, each: fn(&Keyed<P>, &mut Visitor<'_>)) -> Self {
        let keyed = keyed.weakly();
        let (keys, is_alive) = (keyed.clone(), keyed.clone());
        Self {
            visit: Arc::new(move |visit| {
                if let Some(keyed) = keyed() {
                    each(&keyed, visit);
                }
            }),
            keys: Arc::new(move || {
                let keyed = keys()?;
                Some((Arc::clone(keyed.each().name()), keyed.snapshot()))
            }),
            is_alive: Arc::new(move || is_alive().is_some()),
        }
    }

    /// All stacks of a registry, as they are now.
    pub(super) fn of_registry(registry: &Registry) -> impl Iterator<Item = Self> + use<> {
        registry
            .policies()
            .into_iter()
            .flat_map(|policies| match policies {
                Policies::One(stages) => {
                    let stages = stages.list().iter();
                    stages.map(|stage| Self::of_policy(&stage.policy)).collect()
                }
                Policies::Keyed(keyed) => vec![Self::of_keyed_stages(&keyed)],
            })
    }

    pub(super) fn visit(&self, visit: &mut Visitor<'_>) {
        (self.visit)(visit);
    }

    /// The keys, where there is one for each: the name of what they are made from, and how many there are.
    pub(super) fn keys(&self) -> Option<(Arc<str>, KeyedSnapshot)> {
        (self.keys)()
    }

    pub(super) fn is_alive(&self) -> bool {
        (self.is_alive)()
    }
}

/// What gives a policy back for as long as somebody else has it.
fn weakly(policy: &AnyPolicy) -> Arc<dyn Fn() -> Option<AnyPolicy> + Send + Sync> {
    fn back<P: Into<AnyPolicy> + 'static>(
        policy: impl Fn() -> Option<P> + Send + Sync + 'static,
    ) -> Arc<dyn Fn() -> Option<AnyPolicy> + Send + Sync> {
        Arc::new(move || policy().map(Into::into))
    }
    match policy {
        AnyPolicy::CircuitBreaker(policy) => back(policy.weakly()),
        AnyPolicy::Retry(policy) => back(policy.weakly()),
        AnyPolicy::Timeout(policy) => back(policy.weakly()),
        AnyPolicy::Bulkhead(policy) => back(policy.weakly()),
        AnyPolicy::Fallback(policy) => back(policy.weakly()),
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("is_alive", &self.is_alive())
            .finish()
    }
}
