//! Floor 4: where the policies meet protocols and frameworks. Each edge stands behind a feature.

#[cfg(feature = "http")]
pub mod http;
