//! Policies by name, those of keys too.

use super::{NotFound, Registry, State, stack::Policies};
use crate::{
    drivers::stack::{AnyPolicy, Stages},
    policies::{bulkhead::Bulkhead, circuit_breaker::CircuitBreaker, retry::Retry, timeout::Timeout},
};

impl Registry {
    /// The circuit breaker of that name: `payments/circuit_breaker`, or `payments` where that stack has one only.
    ///
    /// Those of a keyed stack belong to its keys: `web/circuit_breaker[https://api.example:443]`, while the key is known,
    /// and `web/circuit_breaker[*]` for the keys that find no place.
    ///
    /// # Errors
    ///
    /// There is none, or more than one.
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
            0 => state.of_key(name).and_then(|policy| pick(&policy)),
            1 => found.pop(),
            _ => None,
        }
        .ok_or_else(|| NotFound::new(what, name, known.into_iter()))
    }
}

impl State {
    /// The policy of a key: `web/circuit_breaker[KEY]`.
    fn of_key(&self, name: &str) -> Option<AnyPolicy> {
        let inner = name.strip_suffix(']')?;
        self.stacks.values().find_map(|named| {
            let Policies::Keyed(keyed) = named.policies() else {
                return None;
            };
            keyed.each().newest().list().iter().find_map(|stage| {
                let key = inner.strip_prefix(&**stage.policy.name())?.strip_prefix('[')?;
                let stages: Stages = match keyed.peek(key) {
                    Some(stages) => stages,
                    None if key == "*" => keyed.overflow().clone(),
                    None => return None,
                };
                let of_key = stages.newest();
                let found = of_key
                    .list()
                    .iter()
                    .find(|stage| **stage.policy.name() == *name)?;
                Some(found.policy.clone())
            })
        })
    }

    /// The policy of that name, `payments/bulkhead`, those of keys too.
    pub(super) fn by_whole_name(&self, name: &str) -> Option<AnyPolicy> {
        let plain = self.stacks.values().find_map(|named| match named.policies() {
            Policies::One(stages) => {
                let found = stages
                    .list()
                    .iter()
                    .find(|stage| **stage.policy.name() == *name)?;
                Some(found.policy.clone())
            }
            Policies::Keyed(_) => None,
        });
        plain.or_else(|| self.of_key(name))
    }

    /// The name that the policy has in its stack's settings, `web/circuit_breaker`, and its stack's name, for its own
    /// name or that of one of its keys.
    pub(super) fn base_of<'a>(&'a self, name: &str) -> Option<(&'a str, String)> {
        self.stacks.iter().find_map(|(stack, named)| {
            let names = named.config().stages.iter();
            names
                .map(|stage| format!("{stack}/{}", stage.name))
                .find(|base| name == base || name.strip_prefix(base.as_str()).is_some_and(is_key))
                .map(|base| (stack.as_str(), base))
        })
    }

    /// What the policy of that name is called in its stack: `circuit_breaker`.
    pub(super) fn stage_of(&self, name: &str) -> Option<String> {
        let (stack, base) = self.base_of(name)?;
        Some(base.strip_prefix(stack)?.strip_prefix('/')?.to_owned())
    }
}

/// Whether this is a key in brackets.
fn is_key(rest: &str) -> bool {
    rest.starts_with('[') && rest.ends_with(']')
}
