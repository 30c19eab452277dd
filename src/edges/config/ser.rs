//! From any type that serde can write to a tree. What is `None` becomes `off`.

use std::fmt;

use serde::{
    Serialize,
    ser::{self, Impossible},
};

use super::tree::{Node, Table, Value};
use crate::composition::settings::Place;

/// The tree of a value, all of it at one place.
///
/// # Errors
///
/// A value that files cannot hold.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, place: &Place) -> Result<Node, Error> {
    let value = value.serialize(Writer { place })?;
    Ok(Node::new(value, place.clone()))
}

/// Why a value cannot be written.
#[derive(Debug)]
pub(crate) struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

#[derive(Clone, Copy)]
struct Writer<'p> {
    place: &'p Place,
}

/// Nothing in settings is of this type.
fn unwritable<T>(what: &str) -> Result<T, Error> {
    Err(Error(format!("{what} cannot be written")))
}

fn whole(number: impl TryInto<i64>) -> Result<Value, Error> {
    number.try_into().map_or_else(
        |_| unwritable("so large a number"),
        |number| Ok(Value::Integer(number)),
    )
}

impl<'p> ser::Serializer for Writer<'p> {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = List<'p>;
    type SerializeTuple = Impossible<Value, Error>;
    type SerializeTupleStruct = Impossible<Value, Error>;
    type SerializeTupleVariant = Impossible<Value, Error>;
    type SerializeMap = Impossible<Value, Error>;
    type SerializeStruct = Fields<'p>;
    type SerializeStructVariant = Impossible<Value, Error>;

    fn serialize_bool(self, truth: bool) -> Result<Value, Error> {
        Ok(Value::Bool(truth))
    }

    fn serialize_i8(self, number: i8) -> Result<Value, Error> {
        whole(number)
    }

    fn serialize_i16(self, number: i16) -> Result<Value, Error> {
        whole(number)
    }

    fn serialize_i32(self, number: i32) -> Result<Value, Error> {
        whole(number)
    }

    fn serialize_i64(self, number: i64) -> Result<Value, Error> {
        whole(number)
    }

    fn serialize_u8(self, number: u8) -> Result<Value, Error> {
        whole(number)
    }

    fn serialize_u16(self, number: u16) -> Result<Value, Error> {
        whole(number)
    }

    fn serialize_u32(self, number: u32) -> Result<Value, Error> {
        whole(number)
    }

    fn serialize_u64(self, number: u64) -> Result<Value, Error> {
        whole(number)
    }

    fn serialize_f32(self, number: f32) -> Result<Value, Error> {
        Ok(Value::Float(number.into()))
    }

    fn serialize_f64(self, number: f64) -> Result<Value, Error> {
        Ok(Value::Float(number))
    }

    fn serialize_char(self, character: char) -> Result<Value, Error> {
        Ok(Value::String(character.to_string()))
    }

    fn serialize_str(self, text: &str) -> Result<Value, Error> {
        Ok(Value::String(text.to_owned()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Value, Error> {
        unwritable("bytes")
    }

    fn serialize_none(self) -> Result<Value, Error> {
        self.serialize_str("off")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        unwritable("nothing")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<Value, Error> {
        unwritable(name)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<Value, Error> {
        unwritable(name)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'p>, Error> {
        Ok(List {
            list: Vec::new(),
            place: self.place,
        })
    }

    fn serialize_tuple(self, _: usize) -> Result<Impossible<Value, Error>, Error> {
        unwritable("a tuple")
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Impossible<Value, Error>, Error> {
        unwritable(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _index: u32,
        _variant: &'static str,
        _: usize,
    ) -> Result<Impossible<Value, Error>, Error> {
        unwritable(name)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Impossible<Value, Error>, Error> {
        unwritable("a map")
    }

    fn serialize_struct(self, _name: &'static str, _: usize) -> Result<Fields<'p>, Error> {
        Ok(Fields {
            table: Table::default(),
            place: self.place,
        })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        _variant: &'static str,
        _: usize,
    ) -> Result<Impossible<Value, Error>, Error> {
        unwritable(name)
    }
}

struct List<'p> {
    list: Vec<Node>,
    place: &'p Place,
}

impl ser::SerializeSeq for List<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.list.push(write(value, self.place)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::List(self.list))
    }
}

struct Fields<'p> {
    table: Table,
    place: &'p Place,
}

impl ser::SerializeStruct for Fields<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        let node = write(value, self.place)?;
        self.table.insert(name, self.place.clone(), node);
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::Table(self.table))
    }
}
