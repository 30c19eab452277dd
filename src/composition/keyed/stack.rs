//! A stack of its own for each key.

use std::{fmt, sync::Arc};

use super::table::Keyed;
use crate::{
    drivers::{
        answer::NoAnswer,
        replay::Cloned,
        stack::{Stack, Stages},
    },
    vocabulary::{
        event::Observer,
        events::{Events, Subscribe},
    },
};

/// A [`Stack`] of its own for each key: a cheap handle on shared state. Built by
/// [`KeyedConfig::build_stack`](crate::KeyedConfig::build_stack).
///
/// Each of its policies is one for each key, the budget of a retry too unless it is shared
/// ([`RetryConfig::shared_budget`](crate::RetryConfig::shared_budget)). Where only a breaker is to be one for each key,
/// put a [`KeyedLayer`](crate::KeyedLayer) of that between the layers of the others.
///
/// ```
/// use buttress::{BulkheadConfig, CircuitBreaker, KeyedConfig, Stack};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let each = Stack::builder()
///     .circuit_breaker(CircuitBreaker::with_defaults("reports")?)
///     .bulkhead(BulkheadConfig::new(8).build("reports")?)
///     .build()?;
/// let tenants = KeyedConfig::new().build_stack(each)?;
/// let answer = tenants.get("acme").run(|| async { Ok::<_, std::io::Error>(42) }).await?;
/// assert_eq!(answer, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KeyedStack<R = Cloned, A = NoAnswer> {
    pub(super) stages: Keyed<Stages>,
    pub(super) replay: R,
    pub(super) answer: A,
}

impl<R, A> KeyedStack<R, A> {
    pub(crate) const fn new(stages: Keyed<Stages>, replay: R, answer: A) -> Self {
        Self {
            stages,
            replay,
            answer,
        }
    }

    /// The policies of the keys: to look at, to observe, to sweep.
    pub const fn stages(&self) -> &Keyed<Stages> {
        &self.stages
    }

    /// Adds an observer of the events of all policies of all keys.
    pub fn observe(&self, observer: &Arc<dyn Observer>) {
        self.stages.observe(observer);
    }

    /// Subscribes to the events of all policies of all keys, as a stream that never makes a call wait.
    pub fn subscribe(&self, to: impl Into<Subscribe>) -> Events {
        self.stages.subscribe(to)
    }
}

impl<R: Clone, A: Clone> KeyedStack<R, A> {
    /// The stack for `key`, made now where there is none; see [`Keyed::get`].
    pub fn get(&self, key: &str) -> Stack<R, A> {
        Stack {
            stages: self.stages.get(key),
            replay: self.replay.clone(),
            answer: self.answer.clone(),
        }
    }
}

impl<R, A> fmt::Debug for KeyedStack<R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyedStack").field(&self.stages).finish()
    }
}
