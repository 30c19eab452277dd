//! YAML as a tree: version 1.2 with the core schema, so that `no` and `off` are text.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use super::{
    MAX_DEPTH, MAX_NODES, Node, Table, Value, check_length,
    lines::{Lines, without_mark},
    toml::large,
    too_deep, too_many,
};
use crate::composition::settings::{Issue, Place};

/// Reads the one document. The root is a table; an empty document is an empty one.
pub(crate) fn yaml(source: &Arc<str>, text: &str) -> Result<Node, Vec<Issue>> {
    check_length(source, text).map_err(|issue| vec![issue])?;
    let text = without_mark(text);
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        lines: Lines::new(source, text),
        anchors: HashMap::new(),
        nodes: 0,
        problems: Vec::new(),
    };
    let root = reader.document().map_err(|issue| vec![issue])?;
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    match root.value {
        Value::Table(_) => Ok(root),
        Value::Null => Ok(Node::new(Value::Table(Table::default()), root.place)),
        _ => Err(vec![root.error("", "accepted: a mapping, `key: value`")]),
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    lines: Lines<'t>,
    /// What anchors stand for.
    anchors: HashMap<usize, Node>,
    /// How many values were made, for anchors and aliases too.
    nodes: usize,
    problems: Vec<Issue>,
}

type Tagged<'t> = Option<Cow<'t, Tag>>;

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Node, Issue> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => {
                    return Ok(root.unwrap_or_else(|| Node::new(Value::Null, place)));
                }
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_none() => {
                    let (event, place) = self.next()?;
                    root = Some(self.value(event, place, 0)?);
                }
                _ => return Err(complain("this is a second document; accepted: one", place)),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Place), Issue> {
        match self.events.next_event() {
            Some(Ok((event, span))) => {
                let place = self.place(&span.start);
                Ok((event, place))
            }
            Some(Err(error)) => {
                let message = format!("this is not YAML: {}", error.info());
                Err(complain(message, self.place(error.marker())))
            }
            None => Ok((Event::StreamEnd, self.lines.at(1, 1))),
        }
    }

    fn place(&self, marker: &Marker) -> Place {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.lines
            .at(narrow(marker.line()), narrow(marker.col()).saturating_add(1))
    }

    fn value(&mut self, event: Event<'t>, place: Place, depth: usize) -> Result<Node, Issue> {
        if depth > MAX_DEPTH {
            return Err(complain(too_deep(), place));
        }
        self.count(1, &place)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                (scalar(text, plain, tag.as_deref(), &place)?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                collection(&tag, "seq", &place)?;
                (Value::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                collection(&tag, "map", &place)?;
                (Value::Table(self.table(depth)?), anchor)
            }
            Event::Alias(anchor) => {
                // An anchor is known from its end on: within itself it is not.
                let Some(known) = self.anchors.get(&anchor) else {
                    return Err(complain("this alias stands within what it means", place));
                };
                let (size, known) = (known.size(), known.value.clone());
                self.count(size, &place)?;
                (known, 0)
            }
            _ => return Err(complain("this is not YAML: a value is missing", place)),
        };
        let node = Node::new(value, place);
        if anchor != 0 {
            self.count(node.size(), &node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Issue> {
        let mut list = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(list);
            }
            list.push(self.value(event, place, depth + 1)?);
        }
    }

    fn table(&mut self, depth: usize) -> Result<Table, Issue> {
        let mut table = Table::default();
        loop {
            let (event, place) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(table),
                // A key is text, whatever it looks like: `404`, `on`.
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(complain("accepted as a key: text", place)),
            };
            let (event, value_place) = self.next()?;
            let node = self.value(event, value_place, depth + 1)?;
            if table.contains(&key) {
                let message = format!("the key {key:?} stands here for the second time");
                self.problems.push(complain(message, place));
            } else {
                table.insert(key, place, node);
            }
        }
    }

    fn count(&mut self, nodes: usize, place: &Place) -> Result<(), Issue> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(complain(too_many(), place.clone()));
        }
        Ok(())
    }
}

fn complain(message: impl Into<String>, place: Place) -> Issue {
    Issue::error("", message).at(Some(place))
}

/// Refuses tags that say anything but what a collection is anyway.
fn collection(tag: &Tagged<'_>, name: &str, place: &Place) -> Result<(), Issue> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == name) => Err(unknown_tag(tag, place)),
        _ => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, place: &Place) -> Issue {
    complain(format!("the tag `{tag}` means nothing here"), place.clone())
}

fn scalar(text: Cow<'_, str>, plain: bool, tag: Option<&Tag>, place: &Place) -> Result<Value, Issue> {
    match tag {
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Value::String(text.into_owned())),
        Some(tag) if !tag.is_yaml_core_schema() => Err(unknown_tag(tag, place)),
        Some(tag) => match (tag.suffix.as_str(), resolved(&text)) {
            ("str", _) => Ok(Value::String(text.into_owned())),
            ("int", Some(value @ Value::Integer(_)))
            | ("float", Some(value @ (Value::Integer(_) | Value::Float(_))))
            | ("bool", Some(value @ Value::Bool(_)))
            | ("null", Some(value @ Value::Null)) => Ok(value),
            _ => Err(unknown_tag(tag, place)),
        },
        None if plain => Ok(resolved(&text).unwrap_or_else(|| Value::String(text.into_owned()))),
        None => Ok(Value::String(text.into_owned())),
    }
}

/// What plain text means by the core schema (YAML 1.2.2, section 10.3.2); `None` for text.
fn resolved(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Some(Value::Float(sign * f64::INFINITY));
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            // What does not fit is beyond anything that is accepted.
            return Some(i64::from_str_radix(digits, radix).map_or(Value::Float(f64::MAX), Value::Integer));
        }
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !unsigned.is_empty() && digits(unsigned) {
        return Some(text.parse().map_or_else(|_| large(text), Value::Integer));
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let power = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let is_number = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && !power.is_empty()
        && digits(power);
    is_number.then(|| large(text))
}
