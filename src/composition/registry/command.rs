//! What an operator commands, and how it ends by itself.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use super::{NotFound, Registry, Reload};
use crate::{
    composition::settings::{ConfigErrors, PolicyConfig},
    drivers::stack::AnyPolicy,
    policies::{bulkhead::Bulkhead, circuit_breaker::CircuitBreaker},
    vocabulary::{
        clock::Timestamp,
        command::{By, Command, OverrideEnd},
        event::What,
        settings::ConfigError,
        state::State,
    },
};

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commanded {
    /// The policy, by its whole name; the registry's for a reload.
    pub name: Arc<str>,
    /// What the reload changed, where it was one.
    pub reload: Option<Reload>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such policy.
    NotFound(NotFound),
    /// Something about the command cannot be: its field is `reason`, `label`, `ttl` or `max_concurrent`.
    Refused(ConfigError),
    /// The settings that were loaded are wrong; nothing changed.
    Reload(ConfigErrors),
}

/// By the policies' names.
pub(super) type Overrides = BTreeMap<Arc<str>, Override>;

/// What a command brought about that lasts until another one, or until its time is over.
pub(super) struct Override {
    pub(super) command: Command,
    pub(super) by: By,
    /// When it ends; `None` until another command.
    pub(super) until: Option<Timestamp>,
    target: Target,
}

enum Target {
    /// In the state of this generation.
    CircuitBreaker {
        breaker: CircuitBreaker,
        generation: u32,
    },
    /// With this limit.
    Bulkhead { bulkhead: Bulkhead, limit: u32 },
}

impl Override {
    /// Whether the policy is as it was commanded to be.
    pub(super) fn stands(&self) -> bool {
        match &self.target {
            Target::CircuitBreaker { breaker, generation } => breaker.generation() == *generation,
            Target::Bulkhead { bulkhead, limit } => bulkhead.snapshot().limit == *limit,
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    fn policy(&self) -> AnyPolicy {
        match &self.target {
            Target::CircuitBreaker { breaker, .. } => breaker.clone().into(),
            Target::Bulkhead { bulkhead, .. } => bulkhead.clone().into(),
        }
    }

    fn tell_end(&self, end: OverrideEnd) {
        // One that was given no time is ended by what is told as such.
        if self.until.is_some() {
            self.policy().tell_observers(What::OverrideEnded {
                command: self.command,
                by: self.by.clone(),
                end,
            });
        }
    }
}

impl Registry {
    /// Commands a policy, or lets the registry load its settings anew.
    ///
    /// The name is as for [`circuit_breaker`](Self::circuit_breaker): `payments/circuit_breaker`, or `payments` where that
    /// stack has one such policy only; for [`Command::Reload`] it is `registry`. Who and why must be said, and are told
    /// with the command as [`What::Commanded`].
    ///
    /// With a time to live, what the command brought about ends by itself: the circuit breaker closes, the bulkhead takes
    /// the limit of its settings, and [`What::OverrideEnded`] is told. That is so only while the policy still is in what
    /// the command brought it into; another command, by whomever, puts an end to it. Somebody must do the
    /// [housekeeping](Self::housekeeping), which notices that the time is over within a second.
    ///
    /// ```
    /// use buttress::{By, CircuitBreakerConfig, Command, Registry, Settings, StackConfig, State};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let payments = StackConfig::new().stage("circuit_breaker", CircuitBreakerConfig::new());
    /// let registry = Registry::builder().build(Settings::new().stack("payments", payments))?;
    /// registry.spawn_housekeeping();
    ///
    /// let by = By::new("anna", "the upstream is being moved");
    /// registry.command("payments", Command::ForceOpen, by, Some(Duration::from_secs(300)))?;
    /// assert_eq!(registry.circuit_breaker("payments")?.state(), State::ForcedOpen);
    ///
    /// tokio::time::sleep(Duration::from_secs(301)).await;
    /// assert_eq!(registry.circuit_breaker("payments")?.state(), State::Closed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such policy; a reason, a label, a time to live or a limit that cannot be; for a reload, all that is
    /// wrong with the settings.
    pub fn command(
        &self,
        name: &str,
        command: Command,
        by: By,
        ttl: Option<Duration>,
    ) -> Result<Commanded, CommandError> {
        check(command, &by, ttl)?;
        match (command, command.state()) {
            (Command::Resize { max_concurrent }, _) => self.resize(name, max_concurrent, by, ttl),
            (_, Some(state)) => self.transition(name, command, state, by, ttl),
            (_, None) => self.reload_by(name, by),
        }
    }

    fn transition(
        &self,
        name: &str,
        command: Command,
        state: State,
        by: By,
        ttl: Option<Duration>,
    ) -> Result<Commanded, CommandError> {
        let breaker = self.circuit_breaker(name)?;
        let policy = AnyPolicy::from(breaker.clone());
        tell(&policy, command, &by, ttl);
        let generation = breaker.command(state);
        let begun = command.is_override().then(|| Override {
            command,
            by,
            until: ttl.map(|ttl| self.0.clock.now().after(ttl)),
            target: Target::CircuitBreaker { breaker, generation },
        });
        self.put(policy.name(), begun);
        Ok(Commanded::of(&policy))
    }

    fn resize(
        &self,
        name: &str,
        limit: u32,
        by: By,
        ttl: Option<Duration>,
    ) -> Result<Commanded, CommandError> {
        let bulkhead = self.bulkhead(name)?;
        let policy = AnyPolicy::from(bulkhead.clone());
        let command = Command::Resize {
            max_concurrent: limit,
        };
        // Before it is told: it may be refused.
        bulkhead.resize(limit).map_err(CommandError::Refused)?;
        tell(&policy, command, &by, ttl);
        let begun = Override {
            command,
            by,
            until: ttl.map(|ttl| self.0.clock.now().after(ttl)),
            target: Target::Bulkhead { bulkhead, limit },
        };
        self.put(policy.name(), Some(begun));
        Ok(Commanded::of(&policy))
    }

    fn reload_by(&self, name: &str, by: By) -> Result<Commanded, CommandError> {
        if name != &*self.0.name {
            let known = std::iter::once(&*self.0.name);
            return Err(NotFound::new("registry", name, known).into());
        }
        let command = Command::Reload;
        self.tell(
            &self.0.name,
            What::Commanded {
                command,
                by,
                ttl: None,
            },
        );
        let reload = self.reload().map_err(CommandError::Reload)?;
        Ok(Commanded {
            name: Arc::clone(&self.0.name),
            reload: Some(reload),
        })
    }

    pub(super) fn overrides(&self) -> MutexGuard<'_, Overrides> {
        self.0.overrides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what stands for that policy from now on, in place of what stood.
    fn put(&self, name: &Arc<str>, begun: Option<Override>) {
        let ended = {
            let mut overrides = self.overrides();
            match begun {
                // Where two commands meet, the one that the policy obeyed last stands.
                Some(begun) if begun.stands() => overrides.insert(Arc::clone(name), begun),
                Some(begun) => Some(begun),
                None => overrides.remove(name),
            }
        };
        if let Some(ended) = ended {
            ended.tell_end(OverrideEnd::Replaced);
        }
    }

    /// Ends what is over.
    pub(super) fn end_overrides(&self, now: Timestamp) {
        let standing: Vec<Arc<str>> = self.overrides().keys().map(Arc::clone).collect();
        let gone: Vec<Arc<str>> = {
            let state = self.state();
            let is_gone = |name: &Arc<str>| state.base_of(name).is_none();
            standing.into_iter().filter(is_gone).collect()
        };
        let over: Vec<Override> = {
            let mut overrides = self.overrides();
            let names: Vec<Arc<str>> = overrides
                .iter()
                .filter(|(name, over)| over.is_due(now) || !over.stands() || gone.contains(name))
                .map(|(name, _)| Arc::clone(name))
                .collect();
            names.iter().filter_map(|name| overrides.remove(name)).collect()
        };
        // Without the lock: observers are told.
        for over in over {
            let expired = over.is_due(now) && self.release(&over);
            over.tell_end(if expired {
                OverrideEnd::Expired
            } else {
                OverrideEnd::Left
            });
        }
    }

    /// Gives a policy back to itself, where it still is as it was commanded to be.
    fn release(&self, over: &Override) -> bool {
        match &over.target {
            Target::CircuitBreaker { breaker, generation } => breaker.close_if_still(*generation),
            Target::Bulkhead { bulkhead, limit } => self
                .limit_of(bulkhead.name())
                .is_some_and(|to| bulkhead.resize_if_still(*limit, to)),
        }
    }

    /// The limit that a bulkhead has in the settings.
    fn limit_of(&self, name: &str) -> Option<u32> {
        let state = self.state();
        let (stack, _) = state.base_of(name)?;
        let config = state.stacks.get(stack)?.config();
        let name = state.stage_of(name)?;
        match &config.stages.iter().find(|known| known.name == name)?.policy {
            PolicyConfig::Bulkhead(config) => Some(config.max_concurrent),
            _ => None,
        }
    }
}

impl Commanded {
    fn of(policy: &AnyPolicy) -> Self {
        Self {
            name: Arc::clone(policy.name()),
            reload: None,
        }
    }
}

fn tell(policy: &AnyPolicy, command: Command, by: &By, ttl: Option<Duration>) {
    let by = by.clone();
    policy.tell_observers(What::Commanded { command, by, ttl });
}

fn check(command: Command, by: &By, ttl: Option<Duration>) -> Result<(), CommandError> {
    let refuse = |field, value: String, accepted: &str| {
        let error = ConfigError::new(field, value, accepted).about(format!("command `{}`", command.word()));
        Err(CommandError::Refused(error))
    };
    if by.reason.trim().is_empty() {
        return refuse(
            "reason",
            format!("{:?}", by.reason),
            "say why, for those who read of it later",
        );
    }
    if by.label.trim().is_empty() {
        return refuse("label", format!("{:?}", by.label), "say who");
    }
    match ttl {
        Some(ttl) if ttl.is_zero() => refuse("ttl", "0s".to_owned(), "accepted: above zero, or none"),
        Some(ttl) if !command.is_override() => refuse(
            "ttl",
            format!("{ttl:?}"),
            "accepted only with force_open, disable, metrics_only and resize: nothing else lasts until another command",
        ),
        _ => Ok(()),
    }
}

impl From<NotFound> for CommandError {
    fn from(error: NotFound) -> Self {
        Self::NotFound(error)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
            Self::Reload(errors) => errors.fmt(f),
        }
    }
}

impl std::error::Error for CommandError {}
