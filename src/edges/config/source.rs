//! Where settings are read from.

use std::{
    borrow::Cow,
    ffi::OsString,
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(feature = "yaml")]
use super::resilience4j::Resilience4j;
use super::{
    environment::Environment,
    report::Report,
    stacks::read_file,
    tree::{self, MAX_TEXT, Node},
};
use crate::composition::settings::{ConfigErrors, Issue, Place, Predicates, Settings};

/// A file, or a text, that describes stacks; see the [module](crate::config).
///
/// It can be [loaded](Source::load) again and again: a file is read each time.
#[derive(Clone)]
pub struct Source {
    what: What,
    /// `None`: that of the process.
    environment: Option<Environment>,
    prefix: String,
}

#[derive(Clone)]
enum What {
    Path(PathBuf),
    Text {
        name: Arc<str>,
        text: String,
        format: Format,
    },
    #[cfg(feature = "yaml")]
    Resilience4j(Resilience4j),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Json,
    #[cfg(feature = "yaml")]
    Yaml,
}

#[cfg(feature = "yaml")]
const EXTENSIONS: &str = ".toml, .json, .yaml and .yml";
#[cfg(not(feature = "yaml"))]
const EXTENSIONS: &str = ".toml and .json; with feature `yaml` also .yaml and .yml";

impl Source {
    fn of(what: What) -> Self {
        Self {
            what,
            environment: None,
            prefix: "BUTTRESS".to_owned(),
        }
    }

    fn text(name: &str, text: impl Into<String>, format: Format) -> Self {
        Self::of(What::Text {
            name: Arc::from(name),
            text: text.into(),
            format,
        })
    }

    /// The file at this path, in the format that its extension names: `.toml`, `.json`, and with feature `yaml` also
    /// `.yaml` and `.yml`.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::of(What::Path(path.into()))
    }

    /// A text in TOML.
    pub fn toml(text: impl Into<String>) -> Self {
        Self::text("TOML", text, Format::Toml)
    }

    /// A text in JSON.
    pub fn json(text: impl Into<String>) -> Self {
        Self::text("JSON", text, Format::Json)
    }

    /// A text in YAML 1.2.
    #[cfg(feature = "yaml")]
    pub fn yaml(text: impl Into<String>) -> Self {
        Self::text("YAML", text, Format::Yaml)
    }

    /// What errors call a text in place of a file's name. Default: its format. A file keeps its path.
    pub fn named(mut self, name: &str) -> Self {
        match &mut self.what {
            What::Path(_) => {}
            What::Text { name: known, .. } => *known = Arc::from(name),
            #[cfg(feature = "yaml")]
            What::Resilience4j(source) => *source = source.clone().named(name),
        }
        self
    }

    /// Takes these variables for the environment. Default: the variables of the process, as they are when it is
    /// loaded; `.env([("", ""); 0])` is none.
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

    /// What the names of variables begin with that override keys. Default: `BUTTRESS`, so that
    /// `BUTTRESS__STACKS__PAYMENTS__TIMEOUT` is one.
    pub fn env_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The path, where it is a file.
    pub fn file(&self) -> Option<&Path> {
        match &self.what {
            What::Path(path) => Some(path),
            What::Text { .. } => None,
            #[cfg(feature = "yaml")]
            What::Resilience4j(source) => source.file(),
        }
    }

    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, with its place; or why the file cannot be read.
    pub fn load(&self, predicates: &Predicates) -> Result<Settings, ConfigErrors> {
        let mut root = match &self.what {
            What::Path(path) => parse_file(path),
            What::Text { name, text, format } => parse(name, text, *format),
            #[cfg(feature = "yaml")]
            What::Resilience4j(source) => return source.load_in(self.environment.as_ref(), predicates),
        }?;
        let environment = match &self.environment {
            Some(environment) => Cow::Borrowed(environment),
            None => Cow::Owned(Environment::new(std::env::vars_os())),
        };
        let mut report = Report::default();
        environment.expand(&mut root, &mut report);
        if let Some(table) = root.table_mut() {
            environment.override_keys(&self.prefix, table, &mut report);
        }
        read_file(&root, predicates, report)
    }
}

/// What [`Resilience4j`] reads, as it was set up. An environment that is given to the source counts in place of its own;
/// variables override no keys of it.
#[cfg(feature = "yaml")]
impl From<Resilience4j> for Source {
    fn from(source: Resilience4j) -> Self {
        Self::of(What::Resilience4j(source))
    }
}

fn parse_file(path: &Path) -> Result<Node, ConfigErrors> {
    let name: Arc<str> = Arc::from(path.to_string_lossy());
    let format = Format::of(path).ok_or_else(|| {
        let message = format!("the extension does not tell the format; accepted: {EXTENSIONS}");
        about(&name, None, message)
    })?;
    let text = read_text(path, &name)?;
    parse(&name, &text, format)
}

fn parse(name: &Arc<str>, text: &str, format: Format) -> Result<Node, ConfigErrors> {
    match format {
        Format::Toml => tree::toml(name, text),
        Format::Json => tree::json(name, text),
        #[cfg(feature = "yaml")]
        Format::Yaml => tree::yaml(name, text),
    }
    .map_err(ConfigErrors::new)
}

pub(super) fn read_text(path: &Path, name: &Arc<str>) -> Result<String, ConfigErrors> {
    let mut bytes = Vec::new();
    // What is longer is refused without having been read to its end, which may never come.
    let longest = MAX_TEXT as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(longest).read_to_end(&mut bytes))
        .map_err(|error| about(name, None, format!("the file cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default());
        let lines = 1 + text.matches('\n').count();
        let column = 1 + text
            .chars()
            .rev()
            .take_while(|character| *character != '\n')
            .count();
        let place = u32::try_from(lines).ok().zip(u32::try_from(column).ok());
        about(name, place, "this is not UTF-8".to_owned())
    })
}

fn about(name: &Arc<str>, line_column: Option<(u32, u32)>, message: String) -> ConfigErrors {
    let place = Place {
        source: Arc::clone(name),
        line_column,
    };
    Issue::error("", message).at(Some(place)).into()
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            #[cfg(feature = "yaml")]
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Neither the text nor the environment, which may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.what {
            What::Path(path) => path.to_string_lossy(),
            What::Text { name, .. } => (&**name).into(),
            #[cfg(feature = "yaml")]
            What::Resilience4j(source) => return f.debug_tuple("Source").field(source).finish(),
        };
        f.debug_tuple("Source").field(&name).finish()
    }
}
