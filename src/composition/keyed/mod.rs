//! Keyed policies: a policy of its own for each key, such as each host or each tenant.
//!
//! | file | subject |
//! |---|---|
//! | `config.rs` | settings, and which are refused |
//! | `table.rs` | the keys and their policies: lookup, bound, forgetting |
//! | `lines.rs` | the hash table of one part |
//! | `step.rs` | a keyed policy as a step machine around a call |
//! | `layer.rs` | the layer, the service, and where keys come from |
//! | `stack.rs` | a stack of its own for each key |

mod config;
mod layer;
mod lines;
mod stack;
mod step;
mod table;

pub use self::{
    config::KeyedConfig,
    layer::{KeyBy, KeyOf, KeyedLayer, KeyedService},
    stack::KeyedStack,
    step::KeyedPass,
    table::{Keyed, KeyedSnapshot},
};
use crate::{
    drivers::stack::Stages,
    policies::{bulkhead::Bulkhead, circuit_breaker::CircuitBreaker},
};

/// A circuit breaker for each key.
pub type KeyedCircuitBreaker = Keyed<CircuitBreaker>;
/// A bulkhead for each key.
pub type KeyedBulkhead = Keyed<Bulkhead>;
/// The policies of a stack for each key; see [`KeyedStack`].
pub type KeyedStages = Keyed<Stages>;
