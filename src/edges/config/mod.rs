//! Settings from a file: named stacks, in TOML or JSON (feature `config`) and YAML (feature `yaml`).
//!
//! | type | what it does |
//! |---|---|
//! | [`Source`] | a file or a text, and the environment around it; [`load`](Source::load) makes [`Settings`](crate::Settings) of it |
//! | [`Effective`] | every value of every stack with its origin, as TOML, as JSON, as a list |
//! | [`Resilience4j`] | what Spring Boot's resilience4j is set up with, as a source of settings (feature `yaml`) |
//! | [`schema`](fn@schema) | the JSON Schema of a file, for editors (feature `schema`) |
//!
//! `docs/config.md` in the repository lists every key.
//!
//! # What a file says
//!
//! - `stacks.NAME` is a stack. A stage is in it when its table is: `retry`, `circuit_breaker`, `timeout`, `bulkhead`, or
//!   any other name whose table says its `kind`. `timeout = "2s"` and `bulkhead = 64` are short forms.
//! - `order` names the stages, the outermost first; without one it is retry, circuit breaker, timeout, bulkhead.
//! - `extends` takes what another stack says, key by key. It copies settings, never state.
//! - `defaults.KIND` lies below every stage of that kind; it adds none. Tables merge; lists and windows replace.
//! - Durations have a unit (`250ms`, `1m30s`), rates are percentages or fractions (`"50%"`, `0.5`). What may be absent may
//!   be `"off"`.
//! - Predicates stand there by name; see [`Predicates`](crate::Predicates).
//! - `${VAR}` and `${VAR:-default}` in strings stand for variables of the environment, `$${` for itself. The variable
//!   `BUTTRESS__STACKS__PAYMENTS__TIMEOUT` overrides that key, whatever the case; `-` in a key is `_` in its name.
//!
//! Everything that is wrong is told at once, each fault with its file, line, column, key, value, and what is accepted.
//!
//! # Example
//!
//! ```
//! use buttress::{Predicates, StackConfig, TimeoutConfig, config::Source};
//! use std::time::Duration;
//!
//! let predicates = Predicates::default();
//! let source = Source::toml(
//!     r#"
//!     [stacks.payments]
//!     retry = { max_attempts = 4, on = ["connect", "503"] }
//!     timeout = "${PAYMENTS_LIMIT:-2s}"
//!
//!     [stacks.search]
//!     extends = "payments"
//!     timeout = "500ms"
//!     "#,
//! );
//! let settings = source.env([("BUTTRESS__STACKS__SEARCH__RETRY__MAX_ATTEMPTS", "1")]).load(&predicates)?;
//! assert_eq!(settings.stacks["search"].stages.len(), 2);
//! assert_eq!(
//!     settings.origins["stacks.search.retry.max_attempts"].to_string(),
//!     "environment variable BUTTRESS__STACKS__SEARCH__RETRY__MAX_ATTEMPTS",
//! );
//!
//! let faulty = Source::toml("[stacks.payments]\ntimeout = 2\nretry = { max_atempts = 3 }").named("stacks.toml");
//! let errors = faulty.env([("", ""); 0]).load(&predicates).unwrap_err();
//! assert_eq!(
//!     errors.issues()[0].to_string(),
//!     "stacks.toml:2:11: stacks.payments.timeout = 2: a bare number is no duration; for seconds write \"2s\", for \
//!      milliseconds \"2ms\"",
//! );
//! assert!(errors.issues()[1].message.contains("did you mean `max_attempts`?"));
//! # Ok::<(), buttress::ConfigErrors>(())
//! ```

// | file or folder | subject |
// |---|---|
// | `source.rs` | where settings are read from |
// | `tree/` | what any format says, as one tree with the place of every key and value |
// | `environment.rs` | variables in strings, and variables that override keys |
// | `stacks.rs` | from a tree to settings: defaults and what extends what |
// | `stack.rs`, `kind.rs` | one stack: its stages, their order and kinds |
// | `merge.rs` | one value over another |
// | `reading.rs` | one table into its settings, with everything that is wrong with it |
// | `report.rs` | the faults that were found, each told once |
// | `de.rs`, `ser.rs` | serde over the tree |
// | `effective.rs` | every value with its origin |
// | `schema.rs` | the JSON Schema |
// | `registry.rs` | a registry that is set up from a file |
// | `resilience4j/` | what Spring Boot's resilience4j is set up with |

mod de;
mod effective;
mod environment;
mod kind;
mod merge;
mod reading;
mod registry;
mod report;
#[cfg(feature = "yaml")]
mod resilience4j;
#[cfg(feature = "schema")]
mod schema;
mod ser;
mod source;
mod stack;
mod stacks;
mod tree;

#[cfg(feature = "yaml")]
pub use self::resilience4j::Resilience4j;
#[cfg(feature = "schema")]
pub use self::schema::schema;
pub use self::{
    effective::{Effective, Entry},
    source::Source,
};
