//! One tree for what any format says, with the place of every key and value.
//!
//! | file | subject |
//! |---|---|
//! | `lines.rs` | from an offset in a text to line and column |
//! | `toml.rs`, `json.rs`, `yaml.rs` | the formats |
//! | `write.rs` | a tree as text, and to serde |
//!
//! What a text can make of it is bounded: its length by [`MAX_TEXT`], its depth by [`MAX_DEPTH`], its values by
//! [`MAX_NODES`], so that aliases in YAML cannot blow it up.

mod json;
mod lines;
mod toml;
mod write;
#[cfg(feature = "yaml")]
mod yaml;

use std::sync::Arc;

use indexmap::IndexMap;

#[cfg(feature = "yaml")]
pub(crate) use self::yaml::yaml;
pub(crate) use self::{
    json::json,
    toml::{toml, toml_value},
    write::Key,
};
use crate::composition::settings::{Issue, Place};

/// The longest text that is read, in bytes: four thousand stacks of forty lines.
pub(crate) const MAX_TEXT: usize = 4 << 20;

/// How deep tables and lists may be nested. Settings need seven.
pub(crate) const MAX_DEPTH: usize = 64;

/// How many values there may be, those that aliases repeat counted each time.
pub(crate) const MAX_NODES: usize = 500_000;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    pub(crate) via: Via,
    /// Whether it was written in the place of its table: `timeout = "2s"`.
    pub(crate) short: bool,
}

/// How a value came to where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Via {
    /// It was written there.
    #[default]
    Here,
    /// From the defaults of the stage's kind.
    Defaults,
    /// From this stack, which the stack at hand extends.
    Extends(Arc<str>),
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// `null` of JSON and YAML.
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    List(Vec<Node>),
    Table(Table),
}

/// Values by key, in the order of the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(IndexMap<String, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    key_place: Place,
    node: Node,
}

impl Node {
    pub(crate) const fn new(value: Value, place: Place) -> Self {
        Self {
            value,
            place,
            via: Via::Here,
            short: false,
        }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// What lies below by these keys; for a list a key is an index.
    pub(crate) fn at<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> Option<&Self> {
        path.into_iter().try_fold(self, |node, key| match &node.value {
            Value::Table(table) => table.get(key),
            Value::List(list) => list.get(key.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Says of it and of all below how it came here, where nothing was said before.
    pub(crate) fn came(&mut self, via: &Via) {
        if self.via == Via::Here {
            self.via = via.clone();
        }
        match &mut self.value {
            Value::List(list) => list.iter_mut().for_each(|node| node.came(via)),
            Value::Table(table) => table.values_mut().for_each(|node| node.came(via)),
            _ => {}
        }
    }

    /// How many values it is made of, itself included.
    pub(crate) fn size(&self) -> usize {
        1 + match &self.value {
            Value::List(list) => list.iter().map(Self::size).sum(),
            Value::Table(table) => table.values().map(Self::size).sum(),
            _ => 0,
        }
    }

    /// An error about this value.
    pub(crate) fn error(&self, path: impl Into<String>, message: impl Into<String>) -> Issue {
        Issue::error(path, message)
            .with_value(self.shown())
            .at(Some(self.place.clone()))
    }
}

impl Table {
    /// One value under this key, both at its place.
    pub(crate) fn short_for(key: &str, mut node: Node) -> Self {
        node.short = true;
        let mut table = Self::default();
        table.insert(key, node.place.clone(), node);
        table
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.0.get(key).map(|entry| &entry.node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.get_mut(key).map(|entry| &mut entry.node)
    }

    pub(crate) fn key_place(&self, key: &str) -> Option<&Place> {
        self.0.get(key).map(|entry| &entry.key_place)
    }

    /// An error about a key, with what it holds.
    pub(crate) fn key_error(&self, key: &str, path: impl Into<String>, message: impl Into<String>) -> Issue {
        let mut issue = Issue::error(path, message).at(self.key_place(key).cloned());
        issue.value = self.get(key).map(Node::shown);
        issue
    }

    /// Puts a value there, in the place of the one before, which is returned.
    pub(crate) fn insert(&mut self, key: impl Into<String>, key_place: Place, node: Node) -> Option<Node> {
        self.0
            .insert(key.into(), Entry { key_place, node })
            .map(|entry| entry.node)
    }

    /// Takes a value out; the order of the others stays.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Node> {
        self.0.shift_remove(key).map(|entry| entry.node)
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Node> {
        self.0.values().map(|entry| &entry.node)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.0.values_mut().map(|entry| &mut entry.node)
    }

    /// Each key and its value, without the places of the keys.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (String, Node)> {
        self.0.into_iter().map(|(key, entry)| (key, entry.node))
    }

    /// Each key and its value.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.0
            .iter_mut()
            .map(|(key, entry)| (key.as_str(), &mut entry.node))
    }

    /// Each key, where it stands, and its value.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Place, &Node)> {
        self.0
            .iter()
            .map(|(key, entry)| (key.as_str(), &entry.key_place, &entry.node))
    }
}

/// Whether a text is short enough to be read.
fn check_length(source: &Arc<str>, text: &str) -> Result<(), Issue> {
    if text.len() <= MAX_TEXT {
        return Ok(());
    }
    Err(Issue::error(
        "",
        format!("the text has {} bytes; accepted: at most {MAX_TEXT}", text.len()),
    )
    .at(Some(Place {
        source: Arc::clone(source),
        line_column: None,
    })))
}

fn too_deep() -> String {
    format!("nested too deep; accepted: at most {MAX_DEPTH} tables and lists within each other")
}

#[cfg(feature = "yaml")]
fn too_many() -> String {
    format!("too many values; accepted: at most {MAX_NODES}, repeated ones counted each time")
}

#[cfg(test)]
mod tests;
