//! From a tree to any type that serde can read.
//!
//! It differs from other deserializers in three things. An `Option` is `None` where the tree says `off`. A key that a
//! struct does not know is told to [`Read::unknown`] and skipped, so that one reading finds them all. An error knows
//! the path of the value that it is about.

use std::{cell::RefCell, fmt};

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::tree::{Node, Table, Value};
use crate::vocabulary::nearest::suggestion;

/// What can be said of an option that is to be `None`. YAML's older readers make `false` of `off`.
pub(crate) fn is_off(node: &Node) -> bool {
    match &node.value {
        Value::String(text) => matches!(text.as_str(), "off" | "none"),
        Value::Bool(truth) => !truth,
        _ => false,
    }
}

/// Reads a value from a tree.
///
/// # Errors
///
/// The first value that is not accepted.
pub(crate) fn read<'n, T: Deserialize<'n>>(node: &'n Node) -> Read<T> {
    let unknown = RefCell::new(Vec::new());
    let result = T::deserialize(Reader {
        node,
        path: &Path::Root,
        unknown: &unknown,
    });
    Read {
        result,
        unknown: unknown.into_inner(),
    }
}

/// What came of reading a tree.
pub(crate) struct Read<T> {
    pub(crate) result: Result<T, Error>,
    /// The keys that were skipped, because nothing knows them.
    pub(crate) unknown: Vec<Error>,
}

impl<T> Read<T> {
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Read<U> {
        Read {
            result: self.result.map(map),
            unknown: self.unknown,
        }
    }
}

/// A value, or a key, that is not accepted.
#[derive(Debug)]
pub(crate) struct Error {
    /// The keys that lead to it. `None` before it is known.
    pub(crate) path: Option<Vec<String>>,
    pub(crate) message: String,
    /// The key that a table lacks, where it says that.
    pub(crate) missing: Option<&'static str>,
}

impl Error {
    fn new(message: impl fmt::Display) -> Self {
        Self {
            path: None,
            message: message.to_string(),
            missing: None,
        }
    }

    fn at(mut self, path: &Path<'_>) -> Self {
        self.path.get_or_insert_with(|| path.keys());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format_args!("accepted: {expected}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format_args!("accepted: {expected}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(unknown_key(field, known))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let quoted: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
        let suggestion = suggestion(variant, known.iter().copied());
        Self::new(format_args!("{suggestion}accepted: {}", quoted.join(", ")))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format_args!("`{field}` is said twice, by two names of it"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            missing: Some(field),
            ..Self::new(format_args!("`{field}` is missing"))
        }
    }
}

/// What is said of a key that nothing knows.
pub(crate) fn unknown_key(key: &str, known: &[&str]) -> String {
    let suggestion = suggestion(key, known.iter().copied());
    format!("unknown key; {suggestion}accepted: {}", known.join(", "))
}

/// The keys that lead to a node, as the calls on the stack.
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn keys(&self) -> Vec<String> {
        let (mut keys, last) = match self {
            Self::Root => return Vec::new(),
            Self::Key(above, key) => (above.keys(), (*key).to_owned()),
            Self::Index(above, index) => (above.keys(), index.to_string()),
        };
        keys.push(last);
        keys
    }
}

#[derive(Clone, Copy)]
struct Reader<'n, 'p> {
    node: &'n Node,
    path: &'p Path<'p>,
    unknown: &'p RefCell<Vec<Error>>,
}

impl<'n> Reader<'n, '_> {
    /// Hands the value over as what it is.
    fn give<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::List(list) => visitor.visit_seq(List {
                rest: list.iter().enumerate(),
                of: self,
            }),
            Value::Table(table) => return self.give_table(table, visitor, None),
        };
        result.map_err(|error| error.at(self.path))
    }

    fn give_table<V: Visitor<'n>>(
        self,
        table: &'n Table,
        visitor: V,
        fields: Option<&'static [&'static str]>,
    ) -> Result<V::Value, Error> {
        let entries = Entries {
            rest: Box::new(table.entries().map(|(key, _, node)| (key, node))),
            value: None,
            of: self,
            fields,
        };
        visitor.visit_map(entries).map_err(|error| error.at(self.path))
    }

    /// A whole number within these bounds.
    fn whole<V: Visitor<'n>>(self, visitor: V, lowest: i64, highest: u64) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Integer(number)
                if *number >= lowest && u64::try_from(*number).is_ok_and(|number| number <= highest) =>
            {
                visitor
                    .visit_i64(*number)
                    .map_err(|error: Error| error.at(self.path))
            }
            _ => Err(Error::new(format_args!(
                "accepted: a whole number from {lowest} to {highest}"
            ))
            .at(self.path)),
        }
    }

    fn no_text(self) -> Error {
        Error::new("accepted: text").at(self.path)
    }
}

impl<'n> de::Deserializer<'n> for Reader<'n, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        self.give(visitor)
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Bool(_) => self.give(visitor),
            _ => Err(Error::new("accepted: true or false").at(self.path)),
        }
    }

    fn deserialize_u32<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        self.whole(visitor, 0, u64::from(u32::MAX))
    }

    fn deserialize_f64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Integer(_) | Value::Float(_) => self.give(visitor),
            _ => Err(Error::new("accepted: a number").at(self.path)),
        }
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        if is_off(self.node) {
            return visitor.visit_none();
        }
        visitor.visit_some(self).map_err(|mut error: Error| {
            let is_about_this = error.path.as_ref().is_none_or(|path| *path == self.path.keys());
            if is_about_this && error.message.starts_with("accepted: ") {
                let list_ends = error.message.find("; ").unwrap_or(error.message.len());
                error.message.insert_str(list_ends, ", or \"off\"");
            }
            error
        })
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(_) => self.give(visitor),
            Value::String(text) => {
                Err(Error::new(format_args!("accepted: a list; write [{text:?}]")).at(self.path))
            }
            _ => Err(Error::new("accepted: a list").at(self.path)),
        }
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Table(table) => self.give_table(table, visitor, Some(fields)),
            _ => Err(Error::new(format_args!("accepted: a table of {}", fields.join(", "))).at(self.path)),
        }
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::String(text) => visitor
                .visit_enum(text.as_str().into_deserializer())
                .map_err(|error: Error| error.at(self.path)),
            other => Err(<Error as de::Error>::unknown_variant(&other.to_string(), variants).at(self.path)),
        }
    }

    fn deserialize_identifier<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::String(_) => self.give(visitor),
            _ => Err(self.no_text()),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        <W: Visitor<'n>>
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct map
    }
}

struct List<'n, 'p> {
    rest: std::iter::Enumerate<std::slice::Iter<'n, Node>>,
    of: Reader<'n, 'p>,
}

impl<'n> SeqAccess<'n> for List<'n, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.rest.next() else {
            return Ok(None);
        };
        let path = Path::Index(self.of.path, index);
        seed.deserialize(Reader {
            node,
            path: &path,
            unknown: self.of.unknown,
        })
        .map(Some)
        .map_err(|error| error.at(&path))
    }
}

struct Entries<'n, 'p> {
    rest: Box<dyn Iterator<Item = (&'n str, &'n Node)> + 'n>,
    value: Option<(&'n str, &'n Node)>,
    of: Reader<'n, 'p>,
    /// The keys that are known, where that is known.
    fields: Option<&'static [&'static str]>,
}

impl<'n> MapAccess<'n> for Entries<'n, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        for (key, node) in self.rest.by_ref() {
            let path = Path::Key(self.of.path, key);
            if let Some(fields) = self.fields
                && !fields.contains(&key)
            {
                let error = Error::new(unknown_key(key, fields)).at(&path);
                self.of.unknown.borrow_mut().push(error);
                continue;
            }
            self.value = Some((key, node));
            let key: de::value::BorrowedStrDeserializer<'n, Error> =
                de::value::BorrowedStrDeserializer::new(key);
            return seed.deserialize(key).map(Some).map_err(|error| error.at(&path));
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, node) = self
            .value
            .take()
            .ok_or_else(|| Error::new("a value was asked for before its key"))?;
        let path = Path::Key(self.of.path, key);
        seed.deserialize(Reader {
            node,
            path: &path,
            unknown: self.of.unknown,
        })
        // What is refused only after it was read, by a conversion, has no path yet.
        .map_err(|error: Error| error.at(&path))
    }
}
