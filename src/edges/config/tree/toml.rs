//! TOML as a tree.

use std::{ops::Range, sync::Arc};

use ::toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{
    Node, Table, Value, check_length,
    lines::{Lines, without_mark},
    too_deep,
};
use crate::composition::settings::{Issue, Place};

/// Reads a document. The root is a table.
pub(crate) fn toml(source: &Arc<str>, text: &str) -> Result<Node, Vec<Issue>> {
    check_length(source, text).map_err(|issue| vec![issue])?;
    let text = without_mark(text);
    let lines = Lines::new(source, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax_errors(&lines, &errors));
    }
    let mut reader = Reader {
        lines,
        problems: Vec::new(),
    };
    let root = reader.table(root.into_inner(), 0..0, 0);
    if reader.problems.is_empty() {
        Ok(root)
    } else {
        Err(reader.problems)
    }
}

/// Reads one value, as it would stand behind `=`; `None` where it is none. Its place is `place`.
pub(crate) fn toml_value(text: &str, place: &Place) -> Option<Node> {
    // Dates have no meaning in settings, and `10:30` may well be meant as text.
    fn has_date(value: &DeValue<'_>) -> bool {
        match value {
            DeValue::Datetime(_) => true,
            DeValue::Array(list) => list.iter().any(|value| has_date(value.get_ref())),
            DeValue::Table(table) => table.values().any(|value| has_date(value.get_ref())),
            _ => false,
        }
    }
    fn settle(node: &mut Node, place: &Place) {
        node.place = place.clone();
        match &mut node.value {
            Value::List(list) => list.iter_mut().for_each(|node| settle(node, place)),
            Value::Table(table) => {
                for entry in table.0.values_mut() {
                    entry.key_place = place.clone();
                    settle(&mut entry.node, place);
                }
            }
            _ => {}
        }
    }
    let value = DeValue::parse(text.trim()).ok()?;
    if has_date(value.get_ref()) {
        return None;
    }
    let mut reader = Reader {
        lines: Lines::new(&place.source, ""),
        problems: Vec::new(),
    };
    let mut node = reader.value(value, 0..0, 0);
    settle(&mut node, place);
    reader.problems.is_empty().then_some(node)
}

/// The first error of each line: what follows on the same line follows from it.
fn syntax_errors(lines: &Lines<'_>, errors: &[Error]) -> Vec<Issue> {
    let mut found: Vec<(Place, &str)> = errors
        .iter()
        .map(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            (lines.place(offset), error.message())
        })
        .collect();
    found.sort_by_key(|(place, _)| place.line_column);
    found.dedup_by_key(|(place, _)| place.line_column.map(|(line, _)| line));
    found
        .into_iter()
        .map(|(place, message)| Issue::error("", format!("this is not TOML: {message}")).at(Some(place)))
        .collect()
}

struct Reader<'t> {
    lines: Lines<'t>,
    problems: Vec<Issue>,
}

impl Reader<'_> {
    fn table(&mut self, table: DeTable<'_>, span: Range<usize>, depth: usize) -> Node {
        let place = self.lines.place(span.start);
        let mut read = Table::default();
        if self.is_too_deep(&place, depth) {
            return Node::new(Value::Null, place);
        }
        for (key, value) in table {
            let key_span = key.span();
            let key_place = self.lines.place(key_span.start);
            let node = self.value(value, key_span, depth + 1);
            read.insert(key.into_inner(), key_place, node);
        }
        Node::new(Value::Table(read), place)
    }

    fn value(&mut self, value: Spanned<DeValue<'_>>, key_span: Range<usize>, depth: usize) -> Node {
        let mut span = value.span();
        if span.is_empty() {
            span = key_span;
        }
        let place = self.lines.place(span.start);
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| large(number.as_str()), Value::Integer),
            DeValue::Float(number) => {
                let text = number.as_str();
                text.parse()
                    .map_or_else(|_| Value::String(text.to_owned()), Value::Float)
            }
            DeValue::Boolean(truth) => Value::Bool(truth),
            // They have no meaning in settings: what wants text complains about this text.
            DeValue::Datetime(date) => Value::String(date.to_string()),
            DeValue::Array(list) => {
                if self.is_too_deep(&place, depth) {
                    return Node::new(Value::Null, place);
                }
                let values = list.into_iter().map(|value| self.value(value, 0..0, depth + 1));
                Value::List(values.collect())
            }
            DeValue::Table(table) => return self.table(table, span, depth),
        };
        Node::new(value, place)
    }

    fn is_too_deep(&mut self, place: &Place, depth: usize) -> bool {
        let deep = depth > super::MAX_DEPTH;
        if deep {
            self.problems
                .push(Issue::error("", too_deep()).at(Some(place.clone())));
        }
        deep
    }
}

/// A whole number beyond what is ever accepted, in decimal: as a float, it is refused as what it is.
pub(crate) fn large(text: &str) -> Value {
    text.parse()
        .map_or_else(|_| Value::String(text.to_owned()), Value::Float)
}
