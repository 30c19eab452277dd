//! A tree as text, and to serde.

use std::{fmt, fmt::Write as _};

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};

use super::{Node, Table, Value};

/// Longer values are cut in errors.
const LONGEST: usize = 100;

impl Node {
    /// The value as an error shows it.
    pub(crate) fn shown(&self) -> String {
        let mut shown = String::new();
        // What does not fit ends the writing.
        let mut short = Short(&mut shown, LONGEST);
        if write!(short, "{}", self.value).is_err() {
            shown.push('…');
        }
        shown
    }
}

struct Short<'s>(&'s mut String, usize);

impl fmt::Write for Short<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
            self.0.push(character);
        }
        Ok(())
    }
}

/// As TOML writes it within a line. `null`, which TOML has not, as it is.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => truth.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) if number.is_nan() => f.write_str("nan"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::String(text) => quoted(text, f),
            Self::List(list) => {
                f.write_str("[")?;
                for (at, node) in list.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", node.value)?;
                }
                f.write_str("]")
            }
            Self::Table(table) => table.fmt(f),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("{}");
        }
        f.write_str("{")?;
        for (at, (key, _, node)) in self.entries().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma} {} = {}", Key(key), node.value)?;
        }
        f.write_str(" }")
    }
}

/// A key as TOML writes it: bare where it can be.
pub(crate) struct Key<'k>(pub(crate) &'k str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !self.0.is_empty() && self.0.bytes().all(bare) {
            return f.write_str(self.0);
        }
        quoted(self.0, f)
    }
}

/// A basic string of TOML, which is one of JSON too.
fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if control.is_control() => write!(f, "\\u{:04X}", u32::from(control))?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('"')
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::Integer(number) => serializer.serialize_i64(*number),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::String(text) => serializer.serialize_str(text),
            Value::List(list) => {
                let mut values = serializer.serialize_seq(Some(list.len()))?;
                for node in list {
                    values.serialize_element(node)?;
                }
                values.end()
            }
            Value::Table(table) => {
                let mut entries = serializer.serialize_map(Some(table.len()))?;
                for (key, _, node) in table.entries() {
                    entries.serialize_entry(key, node)?;
                }
                entries.end()
            }
        }
    }
}
