//! Settings of a retry, and what of them is refused.

use std::{sync::Arc, time::Duration};

use super::{
    Retry,
    budget::{RetryBudget, RetryBudgetConfig},
};
use crate::{
    policies::backoff::{Backoff, Jitter},
    vocabulary::{
        clock::Clock,
        event::PolicyKind,
        random::Random,
        settings::{ConfigError, refuse_names},
    },
};

/// Settings of a [`Retry`]: the builder, and what [`reconfigure`](Retry::reconfigure) takes.
///
/// ```
/// use buttress::{Backoff, RetryConfig};
/// use std::time::Duration;
///
/// let retry = RetryConfig::new()
///     .max_attempts(4)
///     .backoff(Backoff::exponential(Duration::from_millis(50), 2.0, Duration::from_secs(1)))
///     .build("payments")?;
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize),
    serde(from = "super::shape::Shape")
)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Attempts in all, the first counted, from 1 to 1000. One: no retry. Default: 3.
    pub max_attempts: u32,
    /// A retry whose wait would end later than this after the call began is not made. Above zero.
    /// Default: `None`.
    pub max_elapsed: Option<Duration>,
    /// The wait before a retry. Default: exponential from 100 ms, factor 2, at most 5 s.
    pub backoff: Backoff,
    /// Which part of the wait is random. Default: full.
    pub jitter: Jitter,
    /// The longest that a server's hint (`Retry-After`) is obeyed; a longer one is cut to this. Zero: hints
    /// are not waited for at all. Default: 10 s.
    pub max_hint: Duration,
    /// What pays for retries. Default: a budget of its own with 20 % of calls over 10 s and 3 a second free.
    pub budget: BudgetChoice,
    /// Names of predicates whose matches are retried; with any, nothing else is. Default: none.
    ///
    /// A [`Registry`](crate::Registry) knows what names mean; a retry that is built alone takes none, and its layer
    /// takes predicates.
    pub on: Vec<String>,
    /// Names of predicates whose matches are not retried; they win over `on`. Default: none.
    pub never_on: Vec<String>,
    /// Seed for the jitter, for tests. Default: `None`, from the thread's generator.
    pub seed: Option<u64>,
    /// Where the time is read. Default: Tokio's clock.
    pub clock: Clock,
}

/// What pays for the retries of a [`Retry`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BudgetChoice {
    /// A budget of its own.
    Own(RetryBudgetConfig),
    /// A budget that others share.
    Shared(RetryBudget),
    /// Nothing: every failed call may be retried. An incident then sees up to `max_attempts` times the load.
    Unlimited,
}

/// Shared budgets are the same when they are the same one.
impl PartialEq for BudgetChoice {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own(one), Self::Own(other)) => one == other,
            (Self::Shared(one), Self::Shared(other)) => one.is(other),
            (Self::Unlimited, Self::Unlimited) => true,
            _ => false,
        }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            max_elapsed: None,
            backoff: Backoff::default(),
            jitter: Jitter::Full,
            max_hint: Duration::from_secs(10),
            budget: BudgetChoice::Own(RetryBudgetConfig::default()),
            on: Vec::new(),
            never_on: Vec::new(),
            seed: None,
            clock: Clock::tokio(),
        }
    }
}

impl RetryConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`max_attempts`](Self::max_attempts): the first attempt counts.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets [`max_elapsed`](Self::max_elapsed).
    pub fn max_elapsed(mut self, elapsed: Duration) -> Self {
        self.max_elapsed = Some(elapsed);
        self
    }

    /// Sets [`backoff`](Self::backoff).
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets [`jitter`](Self::jitter).
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets [`max_hint`](Self::max_hint).
    pub fn max_hint(mut self, hint: Duration) -> Self {
        self.max_hint = hint;
        self
    }

    /// Gives it a budget of its own.
    pub fn budget(mut self, budget: RetryBudgetConfig) -> Self {
        self.budget = BudgetChoice::Own(budget);
        self
    }

    /// Lets it share a budget.
    pub fn shared_budget(mut self, budget: &RetryBudget) -> Self {
        self.budget = BudgetChoice::Shared(budget.clone());
        self
    }

    /// Retries without a budget; see [`BudgetChoice::Unlimited`].
    pub fn no_budget(mut self) -> Self {
        self.budget = BudgetChoice::Unlimited;
        self
    }

    /// Adds a name to [`on`](Self::on).
    pub fn on(mut self, name: impl Into<String>) -> Self {
        self.on.push(name.into());
        self
    }

    /// Adds a name to [`never_on`](Self::never_on).
    pub fn never_on(mut self, name: impl Into<String>) -> Self {
        self.never_on.push(name.into());
        self
    }

    /// Sets [`seed`](Self::seed).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets [`clock`](Self::clock), of its own budget too.
    pub fn clock(mut self, clock: Clock) -> Self {
        if let BudgetChoice::Own(budget) = &mut self.budget {
            budget.clock = clock.clone();
        }
        self.clock = clock;
        self
    }

    /// Builds the retry called `name`.
    ///
    /// # Errors
    ///
    /// A setting out of its range: the error names it, its value and what is accepted.
    pub fn build(self, name: &str) -> Result<Retry, ConfigError> {
        refuse_names(&[("on", &self.on), ("never_on", &self.never_on)])
            .map_err(|error| error.of(PolicyKind::Retry, name))?;
        self.build_named(name)
    }

    /// The same, where somebody else sees to the names of predicates.
    pub(crate) fn build_named(self, name: &str) -> Result<Retry, ConfigError> {
        let settings = self.settings(name)?;
        let budget = match self.budget {
            BudgetChoice::Own(config) => config.build().map(|budget| (budget, true)),
            BudgetChoice::Shared(budget) => Ok((budget, false)),
            // It stays asleep until a reconfiguration asks for one.
            BudgetChoice::Unlimited => RetryBudgetConfig::new()
                .clock(self.clock.clone())
                .build()
                .map(|budget| (budget, true)),
        };
        let budget = budget.map_err(|error| error.of(PolicyKind::Retry, name))?;
        Ok(Retry::new(name, settings, budget, self.clock))
    }

    pub(super) fn settings(&self, name: &str) -> Result<Settings, ConfigError> {
        self.check().map_err(|error| error.of(PolicyKind::Retry, name))
    }

    pub(crate) fn check_values(&self) -> Result<(), ConfigError> {
        self.check().map(drop)
    }

    fn check(&self) -> Result<Settings, ConfigError> {
        if !(1..=1000).contains(&self.max_attempts) {
            let accepted = "accepted: from 1 to 1000; 1 is no retry";
            return Err(ConfigError::new("max_attempts", self.max_attempts, accepted));
        }
        if self.max_elapsed == Some(Duration::ZERO) {
            return Err(ConfigError::new(
                "max_elapsed",
                "0ns",
                "accepted: above zero; or leave it out",
            ));
        }
        self.backoff.check()?;
        if let BudgetChoice::Own(budget) = &self.budget {
            budget.check()?;
        }
        Ok(Settings {
            max_attempts: self.max_attempts,
            max_elapsed: self.max_elapsed,
            backoff: self.backoff.clone(),
            jitter: self.jitter,
            max_hint: self.max_hint,
            budgeted: !matches!(self.budget, BudgetChoice::Unlimited),
            random: Arc::new(Random::new(self.seed)),
        })
    }
}

/// Checked settings, as a call uses them.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_attempts: u32,
    pub(super) max_elapsed: Option<Duration>,
    pub(super) backoff: Backoff,
    pub(super) jitter: Jitter,
    pub(super) max_hint: Duration,
    pub(super) budgeted: bool,
    pub(super) random: Arc<Random>,
}
