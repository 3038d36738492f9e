//! The text column of a batch, of any type that holds text: read row by row without a copy,
//! and written anew, in its own type, where texts have changed.
//!
//! Bytes are read, not strings: who hands over a batch may claim UTF-8 and be wrong.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray, StringArray,
    StringViewArray,
};
use arrow_buffer::NullBuffer;
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};

/// Most bytes of text in an array with offsets of 32 bits.
const MAX_SHORT_BYTES: usize = i32::MAX as usize;

/// Texts by row.
pub(super) struct Texts {
    values: Values,
    /// Of a dictionary: the value of each row.
    keys: Option<Vec<usize>>,
    nulls: Option<NullBuffer>,
    pub(super) num_rows: usize,
}

enum Values {
    Short(BinaryArray),
    Long(LargeBinaryArray),
    View(BinaryViewArray),
}

/// True for strings and bytes, dictionary-encoded or not, and for a column of nulls alone.
pub(super) fn holds_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_plain(values),
        _ => is_plain(kind),
    }
}

fn is_plain(kind: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Null, Utf8, Utf8View};
    matches!(kind, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | Null)
}

impl Texts {
    /// The texts of a column of a type that [`holds_text`].
    pub(super) fn new(column: &ArrayRef) -> Result<Self, ArrowError> {
        let (nulls, num_rows) = (column.nulls().cloned(), column.len());
        let Some(dictionary) = column.as_any_dictionary_opt() else {
            return Ok(Self { values: Values::new(column)?, keys: None, nulls, num_rows });
        };
        let values = Values::new(dictionary.values())?;
        // Without values there is no key to normalise: every row is null.
        let keys =
            if dictionary.values().is_empty() { vec![0; num_rows] } else { dictionary.normalized_keys() };
        Ok(Self { values, keys: Some(keys), nulls, num_rows })
    }

    /// The bytes of a row; `None` if it is null.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        self.values.get(self.keys.as_ref().map_or(row, |keys| keys[row]))
    }

    /// Bytes of a row; 0 if it is null.
    pub(super) fn num_bytes(&self, row: usize) -> usize {
        self.get(row).map_or(0, <[u8]>::len)
    }
}

impl Values {
    fn new(array: &dyn Array) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Utf8 | DataType::Binary => {
                Self::Short(cast(array, &DataType::Binary)?.as_binary().clone())
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                Self::Long(cast(array, &DataType::LargeBinary)?.as_binary().clone())
            }
            _ => Self::View(cast(array, &DataType::BinaryView)?.as_binary_view().clone()),
        })
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        match self {
            Self::Short(array) => (index < array.len() && array.is_valid(index)).then(|| array.value(index)),
            Self::Long(array) => (index < array.len() && array.is_valid(index)).then(|| array.value(index)),
            Self::View(array) => (index < array.len() && array.is_valid(index)).then(|| array.value(index)),
        }
    }
}

/// A column of these texts, of the type given.
///
/// # Errors
/// If they are more than the type can hold.
pub(super) fn write(texts: &[&str], kind: &DataType) -> Result<ArrayRef, ArrowError> {
    let texts_of_rows = texts.iter().copied();
    match kind {
        DataType::Utf8 if num_bytes(texts) <= MAX_SHORT_BYTES => {
            Ok(Arc::new(StringArray::from_iter_values(texts_of_rows)))
        }
        DataType::Utf8View => Ok(Arc::new(StringViewArray::from_iter_values(texts_of_rows))),
        _ => cast(&LargeStringArray::from_iter_values(texts_of_rows), kind),
    }
}

fn num_bytes(texts: &[&str]) -> usize {
    texts.iter().map(|text| text.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Vec<DataType> {
        use DataType::{
            Binary, BinaryView, Dictionary, Int8, LargeBinary, LargeUtf8, UInt32, Utf8, Utf8View,
        };
        let plain = [Utf8, LargeUtf8, Utf8View, Binary, LargeBinary, BinaryView];
        let encoded = [(Int8, Utf8), (UInt32, LargeUtf8), (Int8, Utf8View)];
        let encoded = encoded.map(|(key, value)| Dictionary(Box::new(key), Box::new(value)));
        plain.into_iter().chain(encoded).collect()
    }

    #[test]
    fn every_type_of_text_is_written_and_read_back() {
        for kind in kinds() {
            assert!(holds_text(&kind), "{kind}");
            let column = write(&["", "ä long text of more than twelve bytes", "b", "b"], &kind).unwrap();
            assert_eq!(column.data_type(), &kind);
            let texts = Texts::new(&column.slice(1, 3)).unwrap();
            let read: Vec<&[u8]> = (0..3).filter_map(|row| texts.get(row)).collect();
            assert_eq!(read, ["ä long text of more than twelve bytes".as_bytes(), b"b", b"b"], "{kind}");
        }
    }

    #[test]
    fn a_null_is_none_also_as_value_of_a_dictionary_and_where_there_are_no_values() {
        let texts = LargeStringArray::from(vec![Some("a"), None]);
        for kind in kinds() {
            let texts = Texts::new(&cast(&texts, &kind).unwrap()).unwrap();
            assert_eq!((texts.get(0), texts.get(1)), (Some(&b"a"[..]), None), "{kind}");
            let nulls = arrow_array::new_null_array(&kind, 2);
            assert_eq!(Texts::new(&nulls).unwrap().get(1), None, "{kind}");
        }
    }

    #[test]
    fn numbers_and_lists_hold_no_text() {
        assert!(!holds_text(&DataType::Int64));
        let numbers = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int64));
        assert!(!holds_text(&numbers));
    }
}
