//! A registry that is set up from a file.

use std::path::PathBuf;

use super::source::Source;
use crate::composition::{
    registry::{Registry, RegistryBuilder},
    settings::ConfigErrors,
};

impl Registry {
    /// The stacks that the file at this path describes; see the [module](crate::config). It follows the file by
    /// [`reload`](Registry::reload), and by `watch` (feature `watch`).
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, with its place.
    pub fn from_path(path: impl Into<PathBuf>) -> Result<Self, ConfigErrors> {
        Self::builder().build_from_source(Source::path(path))
    }
}

impl RegistryBuilder {
    /// Builds the registry with what this file or text describes, read now and at each [`Registry::reload`]. A file is
    /// one that can be watched.
    ///
    /// ```
    /// use buttress::{Predicate, Registry, config::Source};
    ///
    /// # #[derive(Debug, thiserror::Error)]
    /// # #[error("declined")]
    /// # struct Declined;
    /// let registry = Registry::builder()
    ///     .predicate("declined", Predicate::error::<Declined>())
    ///     .build_from_source(Source::toml(
    ///         r#"
    ///         [stacks.payments]
    ///         circuit_breaker = { ignore = ["declined"] }
    ///         timeout = "2s"
    ///         "#,
    ///     ))?;
    /// assert_eq!(registry.timeout("payments").unwrap().limit().as_secs(), 2);
    /// # Ok::<(), buttress::ConfigErrors>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Everything that is wrong, with its place.
    pub fn build_from_source(self, source: impl Into<Source>) -> Result<Registry, ConfigErrors> {
        let source = source.into();
        let builder = match source.file() {
            Some(file) => self.watched(file),
            None => self,
        };
        builder.build_from(move |predicates| source.load(predicates))
    }
}
