//! Who watches which policies of a registry.

use std::sync::{Arc, Weak};

use super::{NotFound, Registry};
use crate::vocabulary::{
    event::{Observer, PolicyKind, What},
    events::{Events, Subscribe, WeakObserver},
};

/// An observer, and what it watches.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) scope: Scope,
    pub(super) observer: Arc<dyn Observer>,
}

/// Which policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    All,
    /// Those of a stack.
    Stack(String),
    /// The one of that name, and of each key where there is one for each.
    Policy(String),
}

impl Scope {
    /// Whether that policy of that stack is among them.
    pub(super) fn covers(&self, stack: &str, policy: &str) -> bool {
        match self {
            Self::All => true,
            Self::Stack(name) => name == stack,
            Self::Policy(name) => {
                let rest = policy.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
            }
        }
    }
}

impl Watch {
    pub(super) fn all(observer: Arc<dyn Observer>) -> Self {
        Self {
            scope: Scope::All,
            observer,
        }
    }

    fn is(&self, observer: *const dyn Observer) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.observer), observer)
    }

    pub(super) fn is_in(&self, list: &[Self]) -> bool {
        list.iter().any(|other| other.is(Arc::as_ptr(&self.observer)))
    }
}

impl Registry {
    /// Adds an observer of the events of all its policies, of those to come too, and of its own.
    pub fn observe(&self, observer: &Arc<dyn Observer>) {
        self.add_watch(Watch::all(Arc::clone(observer)));
    }

    /// Subscribes to the events of all its policies, of those to come too, and to its own, as a stream that never makes a
    /// call wait.
    ///
    /// By default what comes with each call is not in it; [`What::Rejections`] counts rejections instead, where
    /// [housekeeping](Self::housekeeping) is done.
    ///
    /// ```
    /// use buttress::{CircuitBreakerConfig, EventKind, Registry, Settings, StackConfig, Subscribe};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let payments = StackConfig::new().stage("circuit_breaker", CircuitBreakerConfig::new());
    /// let registry = Registry::builder().build(Settings::new().stack("payments", payments))?;
    /// let mut events = registry.subscribe(Subscribe::default());
    /// registry.circuit_breaker("payments")?.disable();
    /// let told = events.recv().await.expect("the registry lives");
    /// assert_eq!(told.event.what.kind(), EventKind::Transition);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self, to: impl Into<Subscribe>) -> Events {
        self.subscribe_in(Scope::All, to.into(), None)
    }

    /// The same for one stack, `payments`, or one policy, `payments/circuit_breaker`; of a keyed stack for all keys, or for
    /// one, `web/circuit_breaker[https://api.example:443]`, which need not be known yet.
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub fn subscribe_to(&self, name: &str, to: impl Into<Subscribe>) -> Result<Events, NotFound> {
        let scope = {
            let state = self.state();
            if state.stacks.contains_key(name) {
                Scope::Stack(name.to_owned())
            } else {
                match state.base_of(name) {
                    Some((_, base)) => Scope::Policy(base),
                    None => return Err(NotFound::new("stack or policy", name, state.names())),
                }
            }
        };
        Ok(self.subscribe_in(scope, to.into(), Some(name)))
    }

    fn subscribe_in(&self, scope: Scope, to: Subscribe, only: Option<&str>) -> Events {
        let (events, observer) = Events::new(to, only);
        let weak = Arc::downgrade(&observer);
        self.add_watch(Watch { scope, observer });
        let registry = Arc::downgrade(&self.0);
        events.ended_by(move || {
            if let Some(shared) = registry.upgrade() {
                Self(shared).unwatch(&weak);
            }
        })
    }

    fn add_watch(&self, watch: Watch) {
        let mut state = self.state();
        for (name, named) in &state.stacks {
            named.observe(name, &watch);
        }
        self.0.observers.add_once(Arc::clone(&watch.observer));
        state.watches.push(watch);
    }

    fn unwatch(&self, observer: &WeakObserver) {
        let mut state = self.state();
        state.watches.retain(|watch| !watch.is(Weak::as_ptr(observer)));
        for named in state.stacks.values() {
            named.unobserve(observer);
        }
        self.0.observers.remove(observer);
    }

    pub(super) fn tell(&self, name: &Arc<str>, what: What) {
        self.0.observers.tell(PolicyKind::Registry, || name, || what);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        composition::{
            keyed::KeyedConfig,
            settings::{Settings, StackConfig},
        },
        policies::bulkhead::BulkheadConfig,
        vocabulary::{
            event::Event,
            event_kind::{EventKind, EventKinds},
        },
    };

    #[test]
    fn a_subscription_that_is_dropped_is_taken_out_everywhere() {
        let plain = StackConfig::new().stage("bulkhead", BulkheadConfig::new(2));
        let keyed = plain.clone().keyed("authority", KeyedConfig::new());
        let settings = Settings::new().stack("plain", plain).stack("keyed", keyed);
        let registry = Registry::builder().build(settings.clone()).unwrap();
        let keys = registry.keyed_stack("keyed").unwrap();
        keys.get("a");
        let events = registry.subscribe(EventKinds::all());
        keys.get("b");
        // A stage that comes with it in place.
        let mut more = settings;
        for stack in more.stacks.values_mut() {
            *stack = stack.clone().stage("inner", BulkheadConfig::new(1));
        }
        registry.apply(more).unwrap();
        keys.get("c");

        let observer = Arc::downgrade(&registry.state().watches[0].observer);
        let places = observer.strong_count();
        assert!(places > 4, "it is in many places, and not in {places}");
        drop(events);
        assert_eq!(observer.strong_count(), 0);
    }

    /// A registry of a bulkhead, and settings that change it and add another stage.
    fn registry_and_more() -> (Registry, Settings) {
        let stack = |limit| StackConfig::new().stage("bulkhead", BulkheadConfig::new(limit));
        let registry = Registry::builder().build(Settings::new().stack("plain", stack(2)));
        let more = stack(3).stage("inner", BulkheadConfig::new(1));
        (registry.unwrap(), Settings::new().stack("plain", more))
    }

    #[test]
    fn who_subscribes_while_settings_are_taken_is_told_of_what_they_bring() {
        let (registry, more) = registry_and_more();
        let subscribed = Arc::new(Mutex::new(None));
        let (other, taken) = (registry.clone(), Arc::clone(&subscribed));
        registry
            .bulkhead("plain")
            .unwrap()
            .observe(Arc::new(move |_: &Event| {
                *taken.lock().unwrap() = Some(other.subscribe(EventKind::Reconfigured));
            }));
        registry.apply(more).unwrap();
        let mut events = subscribed.lock().unwrap().take().unwrap();
        while events.try_recv().is_some() {}
        registry.bulkhead("plain/inner").unwrap().resize(5).unwrap();
        assert_eq!(&*events.try_recv().unwrap().event.name, "plain/inner");
    }

    #[test]
    fn who_leaves_while_settings_are_taken_is_not_kept_by_what_they_bring() {
        let (registry, more) = registry_and_more();
        let events = registry.subscribe(EventKinds::all());
        let observer = Arc::downgrade(&registry.state().watches[0].observer);
        let leaves = Mutex::new(Some(events));
        registry
            .bulkhead("plain")
            .unwrap()
            .observe(Arc::new(move |_: &Event| {
                drop(leaves.lock().unwrap().take());
            }));
        registry.apply(more).unwrap();
        assert_eq!(observer.strong_count(), 0);
    }

    #[test]
    fn a_scope_covers_keys_but_not_what_only_begins_alike() {
        let scope = Scope::Policy("web/breaker".to_owned());
        assert!(scope.covers("web", "web/breaker") && scope.covers("web", "web/breaker[a]"));
        assert!(!scope.covers("web", "web/breaker2"));
    }
}
