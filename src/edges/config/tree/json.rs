//! JSON as a tree.

use std::sync::Arc;

use jsonc_parser::{CollectOptions, ParseOptions, ast, common::Ranged, parse_to_ast};

use super::{
    Node, Table, Value, check_length,
    lines::{Lines, without_mark},
    toml::large,
    too_deep,
};
use crate::composition::settings::{Issue, Place};

/// JSON as RFC 8259 has it.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Reads a document. The root is a table.
pub(crate) fn json(source: &Arc<str>, text: &str) -> Result<Node, Vec<Issue>> {
    check_length(source, text).map_err(|issue| vec![issue])?;
    let text = without_mark(text);
    let lines = Lines::new(source, text);
    let complain = |message: &str, offset: usize| {
        vec![Issue::error("", format!("this is not JSON: {message}")).at(Some(lines.place(offset)))]
    };
    let document = parse_to_ast(text, &CollectOptions::default(), &STRICT)
        .map_err(|error| complain(&lower(&error.kind().to_string()), error.range().start))?;
    let Some(root) = document.value else {
        return Err(complain("it is empty; for no stacks write {}", 0));
    };
    if root.as_object().is_none() {
        let place = lines.place(root.range().start);
        return Err(vec![
            Issue::error("", "accepted: an object, { … }").at(Some(place)),
        ]);
    }
    let mut reader = Reader {
        lines,
        problems: Vec::new(),
    };
    let root = reader.value(root, 0);
    if reader.problems.is_empty() {
        Ok(root)
    } else {
        Err(reader.problems)
    }
}

fn lower(message: &str) -> String {
    let mut characters = message.chars();
    characters
        .next()
        .map(|first| first.to_lowercase().chain(characters).collect())
        .unwrap_or_default()
}

struct Reader<'t> {
    lines: Lines<'t>,
    problems: Vec<Issue>,
}

impl Reader<'_> {
    fn value(&mut self, value: ast::Value<'_>, depth: usize) -> Node {
        let place = self.lines.place(value.range().start);
        if depth > super::MAX_DEPTH {
            self.complain(&place, too_deep());
            return Node::new(Value::Null, place);
        }
        let value = match value {
            ast::Value::StringLit(text) => Value::String(text.value.into_owned()),
            ast::Value::NumberLit(number) => match number.value.parse() {
                Ok(whole) => Value::Integer(whole),
                Err(_) => large(number.value),
            },
            ast::Value::BooleanLit(truth) => Value::Bool(truth.value),
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::Array(list) => {
                let values = list
                    .elements
                    .into_iter()
                    .map(|value| self.value(value, depth + 1));
                Value::List(values.collect())
            }
            ast::Value::Object(object) => Value::Table(self.table(object, depth)),
        };
        Node::new(value, place)
    }

    fn table(&mut self, object: ast::Object<'_>, depth: usize) -> Table {
        let mut read = Table::default();
        for property in object.properties {
            let key_place = self.lines.place(property.name.range().start);
            let node = self.value(property.value, depth + 1);
            let key = property.name.into_string();
            if read.contains(&key) {
                self.complain(
                    &key_place,
                    format!("the key {key:?} stands here for the second time"),
                );
            } else {
                read.insert(key, key_place, node);
            }
        }
        read
    }

    fn complain(&mut self, place: &Place, message: String) {
        self.problems
            .push(Issue::error("", message).at(Some(place.clone())));
    }
}
