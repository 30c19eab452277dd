//! The environment: `${VAR}` in strings, and variables that override keys.

use std::{collections::BTreeMap, ffi::OsString, sync::Arc};

use super::{
    kind::Kind,
    merge::put_over,
    report::Report,
    tree::{MAX_DEPTH, Node, Table, Value, toml_value},
};
use crate::{
    composition::settings::{Issue, Place, path},
    vocabulary::nearest::suggestion,
};

/// The variables of an environment. What is not Unicode is there, without a value.
#[derive(Clone, Debug)]
pub(crate) struct Environment(BTreeMap<String, Option<String>>);

impl Environment {
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables.into_iter().filter_map(|(name, value)| {
            // Nobody can ask for a name that is not Unicode.
            let name = name.into_string().ok()?;
            Some((name, value.into_string().ok()))
        });
        Self(variables.collect())
    }

    /// The value of a variable.
    #[cfg(feature = "yaml")]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }

    /// Replaces `${VAR}` and `${VAR:-default}` in every string below `root`. A string that had one in it is read anew,
    /// as the value of a variable is: `"${RETRIES:-3}"` is a number.
    pub(crate) fn expand(&self, root: &mut Node, report: &mut Report) {
        self.expand_at(root, &mut Vec::new(), report);
    }

    fn expand_at(&self, node: &mut Node, keys: &mut Vec<String>, report: &mut Report) {
        match &mut node.value {
            Value::String(text) if text.contains("${") => match self.expanded(text) {
                Ok((expanded, true)) => node.value = retyped(expanded),
                Ok((expanded, false)) => *text = expanded,
                Err(message) => {
                    let issue = node.error(path(keys.iter().map(String::as_str)), message);
                    report.add_broken(issue);
                }
            },
            Value::List(list) => {
                for (index, node) in list.iter_mut().enumerate() {
                    keys.push(index.to_string());
                    self.expand_at(node, keys, report);
                    keys.pop();
                }
            }
            Value::Table(table) => {
                for (key, node) in table.entries_mut() {
                    keys.push(key.to_owned());
                    self.expand_at(node, keys, report);
                    keys.pop();
                }
            }
            _ => {}
        }
    }

    /// The text with its variables replaced, and whether it had any.
    fn expanded(&self, text: &str) -> Result<(String, bool), String> {
        let mut expanded = String::with_capacity(text.len());
        let mut any = false;
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = &from[2..];
                continue;
            }
            expanded.push_str(before);
            let Some((inside, behind)) = from[2..].split_once('}') else {
                return Err("`${` is never closed; for the text itself write `$${`".to_owned());
            };
            any = true;
            expanded.push_str(&self.value(inside)?);
            rest = behind;
        }
        expanded.push_str(rest);
        Ok((expanded, any))
    }

    /// What stands for the text between `${` and `}`.
    fn value(&self, inside: &str) -> Result<String, String> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || character == '_');
        if !is_name {
            return Err(format!(
                "`${{{inside}}}` is no variable; accepted: `${{NAME}}` and `${{NAME:-default}}`, and `$${{` for the text \
                 itself"
            ));
        }
        match (self.0.get(name), default) {
            (Some(None), _) => Err(format!("the environment variable {name} is not valid Unicode")),
            // As a shell does it: what is empty is taken for unset where there is a default.
            (Some(Some(value)), Some(default)) if value.is_empty() => Ok(default.to_owned()),
            (Some(Some(value)), _) => Ok(value.clone()),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(format!(
                "the environment variable {name} is not set; for a default write `${{{name}:-…}}`"
            )),
        }
    }

    /// Sets the keys that variables with this prefix name: `PREFIX__STACKS__PAYMENTS__TIMEOUT=1s`.
    pub(crate) fn override_keys(&self, prefix: &str, root: &mut Table, report: &mut Report) {
        let prefix = format!("{prefix}__");
        for (name, value) in &self.0 {
            let Some(keys) = name.strip_prefix(&prefix) else {
                continue;
            };
            let place = Place {
                source: Arc::from(format!("environment variable {name}")),
                line_column: None,
            };
            let set = value
                .as_deref()
                .ok_or_else(|| "the value is not valid Unicode".to_owned())
                .and_then(|value| override_key(root, keys, value, &place));
            if let Err(message) = set {
                // The path that was meant, as far as the name tells it.
                let meant: Vec<String> = keys.split("__").map(str::to_lowercase).collect();
                let meant = path(meant.iter().map(String::as_str));
                let mut issue = Issue::error(meant, message).at(Some(place.clone()));
                issue.value = value.as_ref().map(|value| typed(value, &place).shown());
                report.add(issue);
            }
        }
    }
}

/// A value from the environment: what TOML would make of it, else text.
fn typed(value: &str, place: &Place) -> Node {
    toml_value(value, place).unwrap_or_else(|| Node::new(Value::String(value.to_owned()), place.clone()))
}

/// A string that held a variable: a number or a truth where it is one, else text.
fn retyped(text: String) -> Value {
    let nowhere = Place {
        source: Arc::from(""),
        line_column: None,
    };
    match toml_value(&text, &nowhere).map(|node| node.value) {
        Some(value @ (Value::Integer(_) | Value::Float(_) | Value::Bool(_))) => value,
        _ => Value::String(text),
    }
}

/// Sets the key that the rest of a variable's name means.
fn override_key(root: &mut Table, name: &str, value: &str, place: &Place) -> Result<(), String> {
    let parts: Vec<&str> = name.split("__").collect();
    if parts.len() > MAX_DEPTH || parts.iter().any(|part| part.is_empty()) {
        return Err("accepted: names of keys with two underscores between them".to_owned());
    }
    let (key, level) = match parts[0] {
        first if same(first, "stacks") => ("stacks", Level::Stacks),
        first if same(first, "defaults") => ("defaults", Level::Stages),
        _ => return Err("accepted behind the prefix: STACKS or DEFAULTS".to_owned()),
    };
    let Some(below) = parts.get(1..).filter(|below| !below.is_empty()) else {
        return Err("accepted: with a key below it".to_owned());
    };
    if !root.contains(key) {
        let empty = Node::new(Value::Table(Table::default()), place.clone());
        root.insert(key, place.clone(), empty);
    }
    let Some(table) = root.get_mut(key).and_then(Node::table_mut) else {
        return Err(format!("`{key}` is no table, and has no keys below it"));
    };
    let known: Vec<&str> = table.keys().collect();
    if level == Level::Stacks && matching(&known, below)?.is_none() {
        let accepted = if known.is_empty() {
            "the file has none".to_owned()
        } else {
            format!("accepted: {}", known.join(", "))
        };
        let suggestion = suggestion(below[0], known.iter().copied());
        return Err(format!("it names no stack; {suggestion}{accepted}"));
    }
    set(table, below, typed(value, place), place, level)
}

/// What the keys of a table are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Stacks,
    Stages,
    Below,
}

/// Whether a part of a variable's name means this key.
fn same(part: &str, key: &str) -> bool {
    part.len() == key.len()
        && part
            .bytes()
            .zip(key.bytes())
            .all(|(part, key)| part.eq_ignore_ascii_case(&key) || (part == b'_' && key == b'-'))
}

/// The key that the first parts mean, and how many these are: a key may itself have two underscores in it.
fn matching<'k>(known: &[&'k str], parts: &[&str]) -> Result<Option<(&'k str, usize)>, String> {
    for count in (1..=parts.len()).rev() {
        let name = parts[..count].join("__");
        let mut found = known.iter().copied().filter(|key| same(&name, key));
        if let Some(key) = found.next() {
            return match found.next() {
                None => Ok(Some((key, count))),
                Some(other) => Err(format!("it may mean `{key}` or `{other}`")),
            };
        }
    }
    Ok(None)
}

/// Sets what lies below `table` by the keys that `parts` mean.
fn set(table: &mut Table, parts: &[&str], value: Node, place: &Place, level: Level) -> Result<(), String> {
    let known: Vec<&str> = table.keys().collect();
    let (key, count) = match matching(&known, parts)? {
        Some((key, count)) => (key.to_owned(), count),
        None => (parts[0].to_lowercase(), 1),
    };
    let below = &parts[count..];
    let next = if level == Level::Stacks {
        Level::Stages
    } else {
        Level::Below
    };
    let Some(node) = table.get_mut(&key) else {
        let node = if below.is_empty() {
            value
        } else {
            let mut inner = Table::default();
            set(&mut inner, below, value, place, next)?;
            Node::new(Value::Table(inner), place.clone())
        };
        table.insert(key, place.clone(), node);
        return Ok(());
    };
    let kind = (level == Level::Stages)
        .then(|| Kind::of_stage(&key, node))
        .flatten();
    if let Some(kind) = kind {
        kind.lengthen(node);
    }
    match node.table_mut() {
        Some(inner) if !below.is_empty() => set(inner, below, value, place, next),
        None if !below.is_empty() => Err(format!("`{key}` is no table, and has no keys below it")),
        inner => {
            let mut value = value;
            if let Some(kind) = kind {
                kind.lengthen(&mut value);
            }
            match (inner, value.table()) {
                (Some(inner), Some(over)) => put_over(inner, over),
                _ => *node = value,
            }
            Ok(())
        }
    }
}
