//! Floor 4: where the policies meet protocols and frameworks. Each edge stands behind a feature.

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "watch")]
pub(crate) mod watch;

mod predicates;
