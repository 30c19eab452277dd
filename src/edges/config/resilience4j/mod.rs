//! Settings from what Spring Boot's resilience4j is set up with (feature `yaml`).
//!
//! | file | subject |
//! |---|---|
//! | `documents.rs` | the documents of a file, and which of them count |
//! | `properties.rs` | Java's `.properties` |
//! | `names.rs` | dotted names in any spelling |
//! | `placeholders.rs` | `${name:default}` |
//! | `values.rs` | durations, numbers and words as Spring reads them |
//! | `keys.rs` | the keys that resilience4j knows |
//! | `sections.rs` | instances and configs as they were written |
//! | `chain.rs` | an instance with the configs below it |
//! | `circuit_breaker.rs`, `retry.rs`, `limits.rs` | the modules |
//! | `classes.rs` | what classes of exceptions mean here |
//! | `stacks.rs` | instances of one name become a stack |
//! | `report.rs` | what there is to say |

mod chain;
mod circuit_breaker;
mod classes;
mod documents;
mod keys;
mod limits;
mod names;
mod placeholders;
mod properties;
mod report;
mod retry;
mod sections;
mod stacks;
mod values;

use std::{
    borrow::Cow,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    documents::{Format, documents},
    placeholders::Lookup,
    report::Report,
    sections::Sections,
    stacks::stacks,
};
use super::{environment::Environment, source::read_text};
use crate::composition::settings::{ConfigErrors, Issue, Place, Predicates, Settings};

/// What Spring Boot's resilience4j is set up with: its YAML and its `.properties`, as they are.
///
/// An instance becomes a stack of its name; where several modules have one of that name, they are its stages, in the order
/// of their aspects. Absent keys take resilience4j's defaults, not this crate's. What differs, and what resilience4j
/// ignores without a word, is in [`Settings::notes`].
///
/// Classes of exceptions are names of [`Predicates`]: common ones have a meaning (`java.io.IOException` is `io` and what
/// belongs to it), and a program registers the others under their full names.
///
/// ```
/// use buttress::{Predicate, Predicates, config::Resilience4j};
///
/// # #[derive(Debug)]
/// # struct BusinessError;
/// # impl std::fmt::Display for BusinessError {
/// #     fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) }
/// # }
/// # impl std::error::Error for BusinessError {}
/// let predicates =
///     Predicates::new().with("com.example.BusinessException", Predicate::error::<BusinessError>());
/// let settings = Resilience4j::yaml(
///     "
/// resilience4j.circuitbreaker:
///   instances:
///     myService:
///       failureRateThreshold: 50
///       recordExceptions:
///         - java.io.IOException
///       ignoreExceptions:
///         - com.example.BusinessException
/// ",
/// )
/// .load(&predicates)?;
/// assert_eq!(settings.stacks["myService"].stages[0].name, "circuit_breaker");
/// # Ok::<(), buttress::ConfigErrors>(())
/// ```
#[derive(Clone)]
pub struct Resilience4j {
    what: What,
    lenient: bool,
    profiles: Vec<String>,
    /// `None`: that of the process.
    environment: Option<Environment>,
}

#[derive(Clone)]
enum What {
    Path(PathBuf),
    Text {
        name: Arc<str>,
        text: String,
        format: Format,
    },
}

impl Resilience4j {
    fn of(what: What) -> Self {
        Self {
            what,
            lenient: false,
            profiles: Vec::new(),
            environment: None,
        }
    }

    fn text(name: &str, text: impl Into<String>, format: Format) -> Self {
        Self::of(What::Text {
            name: Arc::from(name),
            text: text.into(),
            format,
        })
    }

    /// The file at this path: `.yml`, `.yaml` or `.properties`.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::of(What::Path(path.into()))
    }

    /// A text in YAML.
    pub fn yaml(text: impl Into<String>) -> Self {
        Self::text("YAML", text, Format::Yaml)
    }

    /// A text as Java's `.properties`.
    pub fn properties(text: impl Into<String>) -> Self {
        Self::text("properties", text, Format::Properties)
    }

    /// What errors call a text in place of a file's name. Default: its format. A file keeps its path.
    pub fn named(mut self, name: &str) -> Self {
        if let What::Text { name: known, .. } = &mut self.what {
            *known = Arc::from(name);
        }
        self
    }

    /// Takes a key that resilience4j knows and that has no counterpart here (a rate limiter, `intervalBiFunction`) for a
    /// warning, and goes on without it. Without this it is an error.
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Makes one of Spring's profiles active: documents for it count. Default: none is, and documents for any do not
    /// count.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profiles.push(name.into());
        self
    }

    /// Takes these variables for the environment, in which `${NAME}` is looked up that is no property of the file.
    /// Default: the variables of the process, as they are when it is loaded.
    pub fn env<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.environment = Some(Environment::new(
            variables.map(|(name, value)| (name.into(), value.into())),
        ));
        self
    }

    /// The path, where it is a file.
    pub fn file(&self) -> Option<&Path> {
        match &self.what {
            What::Path(path) => Some(path),
            What::Text { .. } => None,
        }
    }

    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, with its place; or why the file cannot be read.
    pub fn load(&self, predicates: &Predicates) -> Result<Settings, ConfigErrors> {
        self.load_in(None, predicates)
    }

    /// The same in another environment, where there is one.
    pub(super) fn load_in(
        &self,
        environment: Option<&Environment>,
        predicates: &Predicates,
    ) -> Result<Settings, ConfigErrors> {
        let environment = match environment.or(self.environment.as_ref()) {
            Some(environment) => Cow::Borrowed(environment),
            None => Cow::Owned(Environment::new(std::env::vars_os())),
        };
        match &self.what {
            What::Text { name, text, format } => self.read(*format, name, text, &environment, predicates),
            What::Path(path) => {
                let name: Arc<str> = Arc::from(path.to_string_lossy());
                let ending = path.extension().and_then(|ending| ending.to_str());
                let format = match ending.map(str::to_ascii_lowercase).as_deref() {
                    Some("yml" | "yaml") => Format::Yaml,
                    Some("properties") => Format::Properties,
                    _ => {
                        let message =
                            "the extension does not tell the format; accepted: .yml, .yaml and .properties";
                        return Err(Issue::error("", message).at(Some(whole(&name))).into());
                    }
                };
                let text = read_text(path, &name)?;
                self.read(format, &name, &text, &environment, predicates)
            }
        }
    }

    fn read(
        &self,
        format: Format,
        source: &Arc<str>,
        text: &str,
        environment: &Environment,
        predicates: &Predicates,
    ) -> Result<Settings, ConfigErrors> {
        let mut report = Report::new(self.lenient);
        let documents = documents(format, source, text, &self.profiles, &mut report);
        let lookup = Lookup {
            documents: &documents,
            environment,
        };
        let mut sections = Sections::default();
        for (number, document) in documents.iter().enumerate() {
            sections.take(document, number, lookup, &mut report);
        }
        if !sections.any && !report.has_errors() {
            let message = "there is no `resilience4j` in it";
            report.say(Issue::error("", message).at(Some(whole(source))));
        }
        let mut settings = stacks(&sections, predicates, &mut report);
        settings.notes = report.end().map_err(ConfigErrors::new)?;
        settings.check(predicates)?;
        Ok(settings)
    }
}

fn whole(source: &Arc<str>) -> Place {
    Place {
        source: Arc::clone(source),
        line_column: None,
    }
}

/// Neither the text nor the environment, which may hold secrets.
impl fmt::Debug for Resilience4j {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.what {
            What::Path(path) => path.to_string_lossy(),
            What::Text { name, .. } => (&**name).into(),
        };
        f.debug_struct("Resilience4j")
            .field("source", &name)
            .field("lenient", &self.lenient)
            .field("profiles", &self.profiles)
            .finish_non_exhaustive()
    }
}
