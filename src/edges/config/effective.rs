//! The effective configuration: every value of every stack, and where it came from.

use std::{collections::BTreeMap, fmt, fmt::Write as _, sync::Arc};

use serde::{Serialize, Serializer};

use super::{
    kind::Kind,
    ser::write,
    tree::{Key, Node, Table, Value},
};
use crate::composition::settings::{
    ConfigErrors, Issue, KeyedBy, Origin, Place, PolicyConfig, Settings, StackConfig, path,
};

/// Every value of every stack, those included that nobody wrote, and where each came from.
///
/// It is shown as TOML with the origins as comments, and serialized in the shape of a file, without origins; either
/// reads back as the same settings, whatever the environment says. For the origins as data see
/// [`entries`](Effective::entries).
///
/// ```
/// use buttress::{Predicates, config::{Effective, Source}};
///
/// let source = Source::toml("[stacks.payments]\ntimeout = \"2s\"").named("stacks.toml").env([("", ""); 0]);
/// let effective = Effective::of(&source.load(&Predicates::default())?)?;
/// assert_eq!(
///     effective.to_string(),
///     r#"[stacks.payments]
/// order = ["timeout"]  # built in
///
/// [stacks.payments.timeout]
/// limit = "2s"  # stacks.toml:2
/// "#,
/// );
/// # Ok::<(), buttress::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct Effective {
    root: Node,
    origins: BTreeMap<String, Origin>,
}

/// One value of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The path of its keys: `stacks.payments.timeout.limit`.
    pub path: String,
    /// The value, as TOML writes it.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Effective {
    /// What these settings say.
    ///
    /// # Errors
    ///
    /// Settings that a program made and that no file can hold: a backoff that is a closure, a budget that is shared,
    /// two stages of one name.
    pub fn of(settings: &Settings) -> Result<Self, ConfigErrors> {
        let mut stacks = Table::default();
        let mut issues = Vec::new();
        let place = nowhere();
        for (name, stack) in &settings.stacks {
            match stack_table(name, stack, &place) {
                Ok(table) => {
                    stacks.insert(name.as_str(), place.clone(), table);
                }
                Err(issue) => issues.push(issue),
            }
        }
        if !issues.is_empty() {
            return Err(ConfigErrors::new(issues));
        }
        let mut root = Table::default();
        root.insert(
            "stacks",
            place.clone(),
            Node::new(Value::Table(stacks), place.clone()),
        );
        Ok(Self {
            root: Node::new(Value::Table(root), place),
            origins: settings.origins.clone(),
        })
    }

    /// Each value with its path and its origin, stack by stack.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.visit(&self.root, &mut Vec::new(), &mut |keys, node, origin| {
            entries.push(Entry {
                path: path(keys.iter().copied()),
                value: node.value.to_string(),
                origin: origin.clone(),
            });
        });
        entries
    }

    /// Hands every value that is no table to `see`.
    fn visit<'s>(
        &'s self,
        node: &'s Node,
        keys: &mut Vec<&'s str>,
        see: &mut impl FnMut(&[&'s str], &'s Node, &Origin),
    ) {
        if let Some(table) = node.table() {
            for (key, _, node) in table.entries() {
                keys.push(key);
                self.visit(node, keys, see);
                keys.pop();
            }
        } else {
            let origin = self.origins.get(&path(keys.iter().copied()));
            see(keys, node, origin.unwrap_or(&Origin::BuiltIn));
        }
    }
}

fn nowhere() -> Place {
    Place {
        source: Arc::from(""),
        line_column: None,
    }
}

fn stack_table(name: &str, stack: &StackConfig, place: &Place) -> Result<Node, Issue> {
    let mut table = Table::default();
    let put = |table: &mut Table, key: &str, node: Node| table.insert(key, place.clone(), node);
    let text = |text: &str| Node::new(Value::String(escaped(text)), place.clone());
    let order = stack.stages.iter().map(|stage| text(&stage.name)).collect();
    put(&mut table, "order", Node::new(Value::List(order), place.clone()));
    if let Some(KeyedBy { per, config }) = &stack.keyed {
        put(&mut table, "per", text(per));
        let written =
            write(config, place).map_err(|error| Issue::error(path(["stacks", name]), error.to_string()))?;
        if let Value::Table(fields) = written.value {
            for (key, node) in fields.into_entries() {
                put(&mut table, &key, node);
            }
        }
    }
    for stage in &stack.stages {
        let at = path(["stacks", name, &stage.name]);
        let written = match &stage.policy {
            PolicyConfig::CircuitBreaker(config) => write(config, place),
            PolicyConfig::Retry(config) => write(config, place),
            PolicyConfig::Timeout(config) => write(config, place),
            PolicyConfig::Bulkhead(config) => write(config, place),
        };
        let mut written = written.map_err(|error| Issue::error(at.clone(), error.to_string()))?;
        escape(&mut written);
        let kind = Kind::of(stage.policy.kind());
        if let (Some(kind), Some(fields)) = (kind, written.table_mut())
            && kind.name() != stage.name
        {
            let mut named = Table::default();
            put(&mut named, "kind", text(kind.name()));
            for (key, node) in std::mem::take(fields).into_entries() {
                put(&mut named, &key, node);
            }
            *fields = named;
        }
        if put(&mut table, &stage.name, written).is_some() {
            return Err(Issue::error(at, "two stages of one name cannot be written"));
        }
    }
    Ok(Node::new(Value::Table(table), place.clone()))
}

/// Text in which nothing is taken for a variable.
fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

fn escape(node: &mut Node) {
    match &mut node.value {
        Value::String(text) => *text = escaped(text),
        Value::List(list) => list.iter_mut().for_each(escape),
        Value::Table(table) => table.values_mut().for_each(escape),
        _ => {}
    }
}

/// TOML, with the origin of each value in a comment behind it.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut header: Vec<&str> = Vec::new();
        let mut result = Ok(());
        // A stack's own keys stand in its table, those of a stage in the stage's: the first two or three keys.
        self.visit(&self.root, &mut Vec::new(), &mut |keys, node, origin| {
            let depth = if keys.len() == 3 { 2 } else { 3 };
            let (above, below) = keys.split_at(depth.min(keys.len()));
            let mut line = String::new();
            if header != above {
                let blank = if header.is_empty() { "" } else { "\n" };
                let _ = writeln!(line, "{blank}[{}]", Dotted(above));
                header = above.to_vec();
            }
            let _ = write!(line, "{} = {}", Dotted(below), node.value);
            // The kind goes with the name.
            if below != ["kind"] {
                let origin: String = origin
                    .to_string()
                    .chars()
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect();
                let _ = write!(line, "  # {origin}");
            }
            if result.is_ok() {
                result = writeln!(f, "{line}");
            }
        });
        result
    }
}

struct Dotted<'k>(&'k [&'k str]);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, key) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{}", Key(key))?;
        }
        Ok(())
    }
}

/// The shape of a file.
impl Serialize for Effective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root.serialize(serializer)
    }
}

/// The shape of a file: what [`Effective`] says, without origins.
impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Effective::of(self)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}
