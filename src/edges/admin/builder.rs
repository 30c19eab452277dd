//! How the page and the interface are set up.

use std::{fmt, time::Duration};

use super::{Admin, auth::Tokens, health::Health};
use crate::{composition::registry::Registry, vocabulary::settings::ConfigError};

/// Sets up an [`Admin`].
#[must_use]
#[derive(Clone, Debug)]
pub struct AdminBuilder {
    registry: Registry,
    options: Options,
}

/// What was set.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) title: String,
    pub(super) tokens: Tokens,
    pub(super) history: usize,
    pub(super) readers: usize,
    pub(super) heartbeat: Duration,
    pub(super) health: Health,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            title: "buttress".to_owned(),
            tokens: Tokens::default(),
            history: 1_000,
            readers: 256,
            heartbeat: Duration::from_secs(15),
            health: Health::None,
        }
    }
}

impl AdminBuilder {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            options: Options::default(),
        }
    }

    /// What the page is headed: the program's name, say. Default: `buttress`.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.options.title = title.into();
        self
    }

    /// Obeys the commands of whoever has this token, of 16 to 256 bytes. The label stands for him in events, and must be
    /// another one for each token. Default: none, and no command is obeyed.
    pub fn token(mut self, label: impl Into<String>, token: impl Into<String>) -> Self {
        self.options.tokens.push(label.into(), token.into());
        self
    }

    /// How many events are kept, from 1 to 100 000. Default: 1000.
    pub fn history(mut self, events: usize) -> Self {
        self.options.history = events;
        self
    }

    /// How many streams may be read at once, from 1 to 100 000; who comes then gets 503. An open page is one. Default: 256.
    pub fn readers(mut self, readers: usize) -> Self {
        self.options.readers = readers;
        self
    }

    /// How long a stream may be silent before it says that it lives, from 1 s. Default: 15 s, below what most proxies wait.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.options.heartbeat = every;
        self
    }

    /// Which circuit breakers count for `GET /health`. Default: none, so that the failure of a service that this one calls
    /// does not take this one out of rotation too.
    pub fn health(mut self, health: Health) -> Self {
        self.options.health = health;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// A setting out of its range, or the name of a circuit breaker that the registry does not have.
    pub fn build(self) -> Result<Admin, ConfigError> {
        self.check().map_err(|error| error.about("admin"))?;
        Ok(Admin::of(self.registry, self.options))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let options = &self.options;
        options.tokens.check()?;
        let numbers = [("history", options.history), ("readers", options.readers)];
        for (field, number) in numbers {
            if !(1..=100_000).contains(&number) {
                return Err(ConfigError::new(field, number, "accepted: from 1 to 100000"));
            }
        }
        if options.heartbeat < Duration::from_secs(1) {
            let value = format!("{:?}", options.heartbeat);
            return Err(ConfigError::new("heartbeat", value, "accepted: from 1s"));
        }
        if let Health::Of(names) = &options.health {
            for name in names {
                self.registry.circuit_breaker(name).map_err(|unknown| {
                    ConfigError::new("health", format!("{name:?}"), unknown.to_string())
                })?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("title", &self.title)
            .field("tokens", &self.tokens)
            .field("history", &self.history)
            .field("readers", &self.readers)
            .field("heartbeat", &self.heartbeat)
            .field("health", &self.health)
            .finish()
    }
}
