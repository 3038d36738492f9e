//! Values of Arrow columns that the writer of JSON does not write, or not truly: maps whose keys are no
//! strings, unions, and points in time beyond its calendar.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int64Array, UnionArray};
use arrow_buffer::{ArrowNativeType as _, OffsetBuffer};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{make_encoder, Encoder, EncoderFactory, EncoderOptions, NullableEncoder};
use arrow_schema::{ArrowError, DataType, FieldRef};

use crate::json;

type Made<T> = Result<T, ArrowError>;

/// Makes what writes these values; all others are left to the writer of JSON.
#[derive(Debug)]
pub(super) struct Values;

impl EncoderFactory for Values {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Made<Option<NullableEncoder<'a>>> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Map(..) if !has_text_keys(array) => Box::new(Entries::new(field, array, options)?),
            DataType::Union(..) => Box::new(Union::new(array, options)?),
            kind if kind.is_temporal() => Box::new(Times::new(array)),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.logical_nulls())))
    }
}

fn has_text_keys(map: &dyn Array) -> bool {
    matches!(map.as_map().keys().data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Points and spans of time as text, or as the number that stands for them where that has no place in the
/// calendar or in the table of time zones.
struct Times<'a> {
    formatter: Option<ArrayFormatter<'a>>,
    numbers: Option<ArrayRef>,
    text: String,
}

impl<'a> Times<'a> {
    fn new(array: &'a dyn Array) -> Self {
        const OPTIONS: FormatOptions = FormatOptions::new().with_display_error(false);
        let formatter = ArrayFormatter::try_new(array, &OPTIONS).ok();
        let integer = match array.data_type() {
            DataType::Date32 | DataType::Time32(_) => DataType::Int32,
            _ => DataType::Int64,
        };
        let numbers = cast(array, &integer).and_then(|numbers| cast(&numbers, &DataType::Int64)).ok();
        Self { formatter, numbers, text: String::new() }
    }

    /// True if `text` is the value now.
    fn write_text(&mut self, index: usize) -> bool {
        self.text.clear();
        let written =
            self.formatter.as_ref().map(|formatter| write!(self.text, "{}", formatter.value(index)));
        written.is_some_and(|written| written.is_ok()) && !self.text.starts_with('<')
        // a span that is too long
    }
}

impl Encoder for Times<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        if self.write_text(index) {
            return json::write_string(&self.text, out);
        }
        let numbers = self.numbers.as_ref().and_then(|numbers| numbers.as_any().downcast_ref::<Int64Array>());
        let number = numbers.map_or("null".to_owned(), |numbers| numbers.value(index).to_string());
        out.extend_from_slice(number.as_bytes());
    }
}

/// A map as an object: keys of JSON are strings, so each is what its value looks like.
struct Entries<'a> {
    offsets: OffsetBuffer<i32>,
    keys: NullableEncoder<'a>,
    values: NullableEncoder<'a>,
    key: Vec<u8>,
}

impl<'a> Entries<'a> {
    fn new(field: &'a FieldRef, array: &'a dyn Array, options: &'a EncoderOptions) -> Made<Self> {
        let map = array.as_map();
        let keys = make_encoder(field, map.keys(), options)?;
        let values = make_encoder(field, map.values(), options)?;
        Ok(Self { offsets: map.offsets().clone(), keys, values, key: Vec::new() })
    }

    fn write_key(&mut self, index: usize, out: &mut Vec<u8>) {
        self.key.clear();
        write_value(&mut self.keys, index, &mut self.key);
        if self.key.starts_with(b"\"") {
            return out.extend_from_slice(&self.key);
        }
        json::write_string(&String::from_utf8_lossy(&self.key), out);
    }
}

impl Encoder for Entries<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let (start, end) = (self.offsets[index].as_usize(), self.offsets[index + 1].as_usize());
        out.push(b'{');
        for entry in start..end {
            if entry > start {
                out.push(b',');
            }
            self.write_key(entry, out);
            out.push(b':');
            write_value(&mut self.values, entry, out);
        }
        out.push(b'}');
    }
}

/// A value of one of several types, as any value of that type.
struct Union<'a> {
    array: &'a UnionArray,
    children: BTreeMap<i8, NullableEncoder<'a>>,
}

impl<'a> Union<'a> {
    fn new(array: &'a dyn Array, options: &'a EncoderOptions) -> Made<Self> {
        let array = array.as_union();
        let fields = array.fields().iter();
        let child =
            |(id, field): (i8, &'a FieldRef)| Ok((id, make_encoder(field, array.child(id), options)?));
        Ok(Self { array, children: fields.map(child).collect::<Made<_>>()? })
    }
}

impl Encoder for Union<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        match self.children.get_mut(&self.array.type_id(index)) {
            Some(child) => write_value(child, self.array.value_offset(index), out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

fn write_value(encoder: &mut NullableEncoder, index: usize, out: &mut Vec<u8>) {
    if encoder.is_null(index) {
        return out.extend_from_slice(b"null");
    }
    encoder.encode(index, out);
}
