//! Floor 4: where the policies meet protocols and frameworks. Each edge stands behind a feature.

#[cfg(feature = "admin")]
pub mod admin;
#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "tracing")]
pub(crate) mod tracing;
#[cfg(feature = "watch")]
pub(crate) mod watch;

mod predicates;
