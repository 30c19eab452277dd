//! Stacks by name, which take new settings without losing their state.
//!
//! | file | subject |
//! |---|---|
//! | `builder.rs` | what a registry is made from |
//! | `stack.rs` | one stack: from its settings to its stages, and to other settings |
//! | `reload.rs` | new settings for all of them, and what came of it |
//! | `observe.rs` | who watches which of them |
//! | `find.rs` | policies by name, those of keys too |
//! | `command.rs` | what an operator commands, and how it ends by itself |
//! | `housekeeping.rs` | what time makes due |
//! | `view.rs` | all that there is to see, at one moment |

mod builder;
mod command;
mod find;
mod housekeeping;
mod observe;
mod reload;
mod stack;
mod view;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub(crate) use self::stack::Policies;
pub use self::{
    builder::RegistryBuilder,
    command::{CommandError, Commanded},
    reload::Reload,
    view::{
        KeySnapshot, KeysSnapshot, OverrideSnapshot, PolicySnapshot, RegistrySnapshot, StackSnapshot,
        StageSnapshot,
    },
};
use self::{command::Overrides, housekeeping::House, observe::Watch, stack::Named};
use crate::{
    composition::{
        keyed::KeyedStack,
        settings::{ConfigErrors, KeyedBy, Predicates, Settings, StackConfig},
    },
    drivers::{answer::NoAnswer, replay::Cloned, stack::Stack},
    vocabulary::{clock::Clock, event::Observers},
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
    /// Whether the last settings were wrong.
    failing: AtomicBool,
    /// Who holds it gives the stacks other settings. It is held while observers of policies run; the state is not.
    turn: Mutex<()>,
    state: Mutex<State>,
    /// What commands brought about that lasts until another one.
    overrides: Mutex<Overrides>,
    house: Mutex<House>,
}

/// Where settings come from, each time anew.
type Loader = dyn Fn(&Predicates) -> Result<Settings, ConfigErrors> + Send + Sync;

struct State {
    settings: Arc<Settings>,
    stacks: BTreeMap<String, Named>,
    /// Observers of policies, of those to come too.
    watches: Vec<Watch>,
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

    /// Whether the last settings that it was to take were wrong, so that those in force are older.
    pub fn is_failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }

    /// The policies of all stacks, in the order of the stacks' names.
    pub(crate) fn policies(&self) -> Vec<Policies> {
        let state = self.state();
        state
            .stacks
            .values()
            .map(|named| named.policies().clone())
            .collect()
    }

    /// Whether anybody observes the registry's own events.
    #[cfg(all(feature = "watch", feature = "tracing"))]
    pub(crate) fn is_observed(&self) -> bool {
        !self.0.observers.is_empty()
    }

    /// The predicates that names in settings stand for.
    pub fn predicates(&self) -> &Predicates {
        &self.0.predicates
    }

    /// The files that its settings come from, as far as it was told.
    pub fn watched(&self) -> &[PathBuf] {
        &self.0.watched
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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
