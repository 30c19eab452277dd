//! Stacks by name, which take new settings without losing their state.
//!
//! | file | subject |
//! |---|---|
//! | `builder.rs` | what a registry is made from |
//! | `stack.rs` | one stack: from its settings to its stages, and to other settings |
//! | `reload.rs` | new settings for all of them, and what came of it |

mod builder;
mod reload;
mod stack;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use self::stack::{Named, Policies};
pub use self::{builder::RegistryBuilder, reload::Reload};
use crate::{
    composition::{
        keyed::KeyedStack,
        settings::{ConfigErrors, KeyedBy, Predicates, Settings, StackConfig},
    },
    drivers::{
        answer::NoAnswer,
        replay::Cloned,
        stack::{AnyPolicy, Stack},
    },
    policies::{bulkhead::Bulkhead, circuit_breaker::CircuitBreaker, retry::Retry, timeout::Timeout},
    vocabulary::{
        clock::Clock,
        event::{Observer, Observers, PolicyKind, What},
    },
};

/// Stacks by name: a cheap handle on shared state.
///
/// Asking twice for a stack gives the same one: [`stack`](Self::stack) and the handles of its policies share state. What
/// a policy is, is its stack's name and its stage's, `payments/circuit_breaker`, and that is its name in rejections and
/// events.
///
/// New settings ([`apply`](Self::apply), [`reload`](Self::reload)) are checked first, all of them: wrong ones change
/// nothing. What did not change keeps its state, thresholds and limits change in place, and stages may be added, removed
/// and moved while calls are under way: these end with the stages that they began with. A call costs no lock for this.
///
/// ```
/// use buttress::{CircuitBreakerConfig, Registry, RetryConfig, Settings, StackConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let payments = StackConfig::new()
///     .stage("retry", RetryConfig::new())
///     .stage("circuit_breaker", CircuitBreakerConfig::new().record("io"));
/// let registry = Registry::builder().build(Settings::new().stack("payments", payments))?;
///
/// let answer = registry.stack("payments")?.run(|| async { Ok::<_, std::io::Error>(42) }).await?;
/// assert_eq!(answer, 42);
/// registry.circuit_breaker("payments")?.force_open();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    predicates: Predicates,
    /// The words that `per` may say.
    keys: Vec<String>,
    clock: Clock,
    loader: Option<Box<Loader>>,
    watched: Vec<PathBuf>,
    name: Arc<str>,
    observers: Observers,
    generation: AtomicU64,
    failures: AtomicU64,
    /// Who holds it gives the stacks other settings. It is held while observers of policies run; the state is not.
    turn: Mutex<()>,
    state: Mutex<State>,
}

/// Where settings come from, each time anew.
type Loader = dyn Fn(&Predicates) -> Result<Settings, ConfigErrors> + Send + Sync;

struct State {
    settings: Arc<Settings>,
    stacks: BTreeMap<String, Named>,
    /// Observers of all policies, of those to come too.
    observers: Vec<Arc<dyn Observer>>,
}

/// What a registry does not have, and what it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {what} `{name}`: {known}")]
pub struct NotFound {
    what: &'static str,
    name: String,
    known: String,
}

impl NotFound {
    fn new<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        Self {
            what,
            name: name.to_owned(),
            known: if known.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there is {}", known.join(", "))
            },
        }
    }

    /// The name that was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One stack of a registry, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StackInfo {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: StackConfig,
    /// Whether it is gone from the settings, and goes on under the last that it had.
    pub orphaned: bool,
}

impl Registry {
    /// A registry with what is built in.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// The stack of that name: a Tower layer, and what guards an async function by [`run`](Stack::run). Requests and
    /// service are cloned where it repeats; for others see [`Stack::once`] and its siblings.
    ///
    /// It goes on following the registry's settings.
    ///
    /// # Errors
    ///
    /// There is none of that name; or it is keyed, for which see [`keyed_stack`](Self::keyed_stack).
    pub fn stack(&self, name: &str) -> Result<Stack, NotFound> {
        let state = self.state();
        match state.stacks.get(name).map(Named::policies) {
            Some(Policies::One(stages)) => Ok(Stack {
                stages: stages.clone(),
                replay: Cloned,
                answer: NoAnswer,
            }),
            Some(Policies::Keyed(_)) => Err(NotFound {
                what: "stack without keys",
                name: name.to_owned(),
                known: "it has policies for each key; ask for it by `keyed_stack`".to_owned(),
            }),
            None => Err(NotFound::new("stack", name, state.names())),
        }
    }

    /// The stack of that name where it is keyed (`per`): one for each key.
    ///
    /// # Errors
    ///
    /// There is none of that name, or it is not keyed.
    pub fn keyed_stack(&self, name: &str) -> Result<KeyedStack, NotFound> {
        let state = self.state();
        match state.stacks.get(name).map(Named::policies) {
            Some(Policies::Keyed(stages)) => Ok(KeyedStack::new(stages.clone(), Cloned, NoAnswer)),
            Some(Policies::One(_)) => Err(NotFound {
                what: "keyed stack",
                name: name.to_owned(),
                known: "it has no `per`; ask for it by `stack`".to_owned(),
            }),
            None => Err(NotFound::new("stack", name, state.names())),
        }
    }

    /// The circuit breaker of that name: `payments/circuit_breaker`, or `payments` where that stack has one only.
    ///
    /// # Errors
    ///
    /// There is none, or more than one. Those of a keyed stack belong to its keys.
    pub fn circuit_breaker(&self, name: &str) -> Result<CircuitBreaker, NotFound> {
        self.policy("circuit breaker", name, |policy| match policy {
            AnyPolicy::CircuitBreaker(policy) => Some(policy.clone()),
            _ => None,
        })
    }

    /// The retry of that name; see [`circuit_breaker`](Self::circuit_breaker).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn retry(&self, name: &str) -> Result<Retry, NotFound> {
        self.policy("retry", name, |policy| match policy {
            AnyPolicy::Retry(policy) => Some(policy.clone()),
            _ => None,
        })
    }

    /// The timeout of that name; see [`circuit_breaker`](Self::circuit_breaker).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn timeout(&self, name: &str) -> Result<Timeout, NotFound> {
        self.policy("timeout", name, |policy| match policy {
            AnyPolicy::Timeout(policy) => Some(policy.clone()),
            _ => None,
        })
    }

    /// The bulkhead of that name; see [`circuit_breaker`](Self::circuit_breaker).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn bulkhead(&self, name: &str) -> Result<Bulkhead, NotFound> {
        self.policy("bulkhead", name, |policy| match policy {
            AnyPolicy::Bulkhead(policy) => Some(policy.clone()),
            _ => None,
        })
    }

    fn policy<P>(
        &self,
        what: &'static str,
        name: &str,
        pick: impl Fn(&AnyPolicy) -> Option<P>,
    ) -> Result<P, NotFound> {
        let state = self.state();
        let mut known = Vec::new();
        let mut found = Vec::new();
        for (stack, named) in &state.stacks {
            let Policies::One(stages) = named.policies() else {
                continue;
            };
            for stage in stages.list() {
                let Some(policy) = pick(&stage.policy) else {
                    continue;
                };
                let full = &**stage.policy.name();
                known.push(full);
                if full == name || stack == name {
                    found.push(policy);
                }
            }
        }
        match found.len() {
            1 => found
                .pop()
                .ok_or_else(|| NotFound::new(what, name, known.into_iter())),
            _ => Err(NotFound::new(what, name, known.into_iter())),
        }
    }

    /// All stacks, in the order of their names.
    pub fn stacks(&self) -> Vec<StackInfo> {
        let state = self.state();
        let stacks = state.stacks.iter();
        stacks
            .map(|(name, named)| StackInfo {
                name: name.clone(),
                config: named.config().clone(),
                orphaned: named.is_orphaned(),
            })
            .collect()
    }

    /// The settings that it took last.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.state().settings)
    }

    /// The number of the settings that it took last; the first have 1.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Relaxed)
    }

    /// How many settings it was to take that were wrong.
    pub fn failed_reloads(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// The predicates that names in settings stand for.
    pub fn predicates(&self) -> &Predicates {
        &self.0.predicates
    }

    /// The files that its settings come from, as far as it was told.
    pub fn watched(&self) -> &[PathBuf] {
        &self.0.watched
    }

    /// Adds an observer of the events of all its policies, of those to come too, and of its own.
    pub fn observe(&self, observer: &Arc<dyn Observer>) {
        let mut state = self.state();
        state.observers.push(Arc::clone(observer));
        for named in state.stacks.values() {
            named.observe(observer);
        }
        self.0.observers.add_once(Arc::clone(observer));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, name: &Arc<str>, what: What) {
        self.0.observers.tell(PolicyKind::Registry, name, || what);
    }
}

impl State {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.stacks.keys().map(String::as_str)
    }
}

impl Shared {
    /// Whether `per` says something that is known.
    fn knows_key(&self, keyed: &KeyedBy) -> bool {
        self.keys.contains(&keyed.per)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Registry")
            .field("generation", &self.generation())
            .field("stacks", &state.names().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
