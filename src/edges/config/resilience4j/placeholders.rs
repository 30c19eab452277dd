//! Spring's `${name}` and `${name:default}` in values.

use super::names::{parts, uniform};
use crate::edges::config::{
    environment::Environment,
    tree::{Node, Table, Value},
};

/// How deep placeholders may stand for others.
const DEEPEST: usize = 8;

/// How many there may be in one value, those that they stand for included.
const MOST: u32 = 100;

/// What values may refer to: the file's own properties, and the environment.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'l> {
    /// Later ones win.
    pub(super) documents: &'l [Table],
    pub(super) environment: &'l Environment,
}

impl Lookup<'_> {
    /// A value with what its placeholders stand for in their place; the same where it has none.
    pub(super) fn filled(&self, node: &Node) -> Result<Node, String> {
        match node.text() {
            Some(text) if text.contains("${") => {
                let text = self.fill(text, 0, &mut 0)?;
                Ok(Node::new(Value::String(text), node.place.clone()))
            }
            _ => Ok(node.clone()),
        }
    }

    fn fill(&self, text: &str, depth: usize, count: &mut u32) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            filled.push_str(before);
            *count += 1;
            if *count > MOST || depth > DEEPEST {
                return Err("too many placeholders, or they refer to themselves".to_owned());
            }
            let end = closing(behind).ok_or("a placeholder has no end: `}` is missing")?;
            filled.push_str(&self.value(&behind[..end], depth, count)?);
            rest = &behind[end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, inside: &str, depth: usize, count: &mut u32) -> Result<String, String> {
        let (name, default) = match inside.split_once(':') {
            Some((name, default)) => (name.trim(), Some(default)),
            None => (inside.trim(), None),
        };
        let found = self.property(name).or_else(|| self.variable(name));
        match (found, default) {
            (Some(value), _) => self.fill(&value, depth + 1, count),
            (None, Some(default)) => self.fill(default, depth + 1, count),
            (None, None) => Err(format!(
                "`{name}` is neither a property of this file nor in the environment; `${{{name}:…}}` gives a default"
            )),
        }
    }

    fn property(&self, name: &str) -> Option<String> {
        let parts: Vec<String> = parts(name)?.iter().map(|part| uniform(part)).collect();
        self.documents.iter().rev().find_map(|document| {
            let (first, deeper) = parts.split_first()?;
            let mut node = within(document, first)?;
            for part in deeper {
                node = within(node.table()?, part)?;
            }
            match &node.value {
                Value::String(text) => Some(text.clone()),
                Value::Bool(_) | Value::Integer(_) | Value::Float(_) => Some(node.value.to_string()),
                Value::Null | Value::List(_) | Value::Table(_) => None,
            }
        })
    }

    /// A variable of the environment by its own name, or by the one that Spring makes of a property's.
    fn variable(&self, name: &str) -> Option<String> {
        let as_variable = || name.replace('.', "_").replace('-', "").to_uppercase();
        let known = |name: &str| self.environment.get(name).map(str::to_owned);
        known(name).or_else(|| known(&as_variable()))
    }
}

fn within<'t>(table: &'t Table, part: &str) -> Option<&'t Node> {
    let mut entries = table.entries();
    entries
        .find(|(key, ..)| uniform(key) == part)
        .map(|(_, _, node)| node)
}

/// Where the brace is that closes a placeholder.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}
