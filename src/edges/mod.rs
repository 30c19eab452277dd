//! Floor 4: where the policies meet protocols and frameworks. Each edge stands behind a feature.

#[cfg(feature = "axum")]
pub mod axum;
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
