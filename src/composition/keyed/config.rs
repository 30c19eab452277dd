//! Settings of keyed policies, and what of them is refused.

use std::time::Duration;

use super::{stack::KeyedStack, table::Keyed};
use crate::{drivers::stack::Stack, policies::per_key::PerKey, vocabulary::settings::ConfigError};

/// Settings of [`Keyed`] policies: how many keys there may be, and when one is forgotten.
///
/// ```
/// use buttress::{CircuitBreakerConfig, KeyedConfig};
/// use std::time::Duration;
///
/// let each = CircuitBreakerConfig::new().count_window(50).minimum_calls(10).build("payments")?;
/// let hosts = KeyedConfig::new().max_keys(500).idle(Duration::from_secs(300)).build(each)?;
/// assert_eq!(hosts.get("https://api.example:443").name(), "payments[https://api.example:443]");
/// # Ok::<(), buttress::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct KeyedConfig {
    /// Keys that may have a policy of their own at once, from 1 to 10 000 000. Further keys share one policy, which has
    /// `*` for its key, until a key is forgotten. Default: 1024.
    pub max_keys: u32,
    /// A key that was not asked for so long may be forgotten, and its policy's state with it; from 1 ms. `None`: never,
    /// and then a lookup reads no clock. Default: 10 minutes.
    ///
    /// Choose it longer than the window and the open wait of a breaker: a key that is forgotten begins anew.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::vocabulary::serialized::optional_duration")
    )]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::vocabulary::schema::Duration>")
    )]
    pub idle: Option<Duration>,
}

impl Default for KeyedConfig {
    fn default() -> Self {
        Self {
            max_keys: 1024,
            idle: Some(Duration::from_secs(600)),
        }
    }
}

impl KeyedConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`max_keys`](Self::max_keys).
    pub fn max_keys(mut self, keys: u32) -> Self {
        self.max_keys = keys;
        self
    }

    /// Sets [`idle`](Self::idle).
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Forgets no key.
    pub fn no_idle(mut self) -> Self {
        self.idle = None;
        self
    }

    /// Builds keyed policies. Each has the settings, the observers and the clock of `each`, and its name with the key in
    /// brackets; `each` itself is called by nobody.
    ///
    /// # Errors
    ///
    /// A setting out of its range: the error names it, its value and what is accepted.
    pub fn build<P: PerKey>(self, each: P) -> Result<Keyed<P>, ConfigError> {
        self.check(each.name())?;
        Ok(Keyed::new(each, self))
    }

    /// Builds a stack for each key, with the settings of `each`.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_stack<R, A>(self, each: Stack<R, A>) -> Result<KeyedStack<R, A>, ConfigError> {
        let Stack {
            stages,
            replay,
            answer,
        } = each;
        let stages = self.build(stages)?;
        Ok(KeyedStack::new(stages, replay, answer))
    }

    pub(crate) fn check(self, name: &str) -> Result<(), ConfigError> {
        self.checked().map_err(|error| error.of("keyed", name))
    }

    pub(crate) fn checked(self) -> Result<(), ConfigError> {
        if !(1..=10_000_000).contains(&self.max_keys) {
            return Err(ConfigError::new(
                "max_keys",
                self.max_keys,
                "accepted: from 1 to 10000000",
            ));
        }
        match self.idle {
            Some(idle) if idle < Duration::from_millis(1) => Err(ConfigError::new(
                "idle",
                format_args!("{idle:?}"),
                "accepted: 1ms or more; leave it out to forget no key",
            )),
            _ => Ok(()),
        }
    }
}
