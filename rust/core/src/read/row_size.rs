//! How long rows become as JSON, told before they are written: a dictionary or a list can make
//! of a few bytes in a file as many as it likes.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, Int16Type, Int32Type, Int64Type, Int8Type, UInt16Type, UInt32Type, UInt64Type,
    UInt8Type,
};
use arrow_array::{Array, ArrayRef, OffsetSizeTrait, RecordBatch};
use arrow_schema::DataType;

/// Bytes of a number, a truth value or a null, with its comma.
const SCALAR_BYTES: u64 = 8;

/// About how many bytes the rows of `batch` take as JSON: strings as long as they are, without escapes.
pub(super) fn json_bytes(batch: &RecordBatch) -> u64 {
    batch.columns().iter().fold(0, |sum, column| sum.saturating_add(array_bytes(column)))
}

fn array_bytes(array: &ArrayRef) -> u64 {
    let scalars = SCALAR_BYTES.saturating_mul(array.len() as u64);
    scalars.saturating_add(match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => span(array.as_string::<i64>().value_offsets()),
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => span(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => array.as_string_view().lengths().map(u64::from).sum(),
        DataType::BinaryView => array.as_binary_view().lengths().map(u64::from).sum(),
        DataType::FixedSizeBinary(size) => u64::from(size.unsigned_abs()).saturating_mul(array.len() as u64),
        DataType::List(_) => {
            list_bytes(array.as_list::<i32>().value_offsets(), array.as_list::<i32>().values())
        }
        DataType::LargeList(_) => {
            list_bytes(array.as_list::<i64>().value_offsets(), array.as_list::<i64>().values())
        }
        DataType::FixedSizeList(..) => array_bytes(array.as_fixed_size_list().values()),
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            list_bytes(map.value_offsets(), &entries)
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().fold(0, |sum, column| sum.saturating_add(array_bytes(column)))
        }
        DataType::Dictionary(key, _) => dictionary_bytes(key, array),
        _ => 0,
    })
}

fn span<O: OffsetSizeTrait>(offsets: &[O]) -> u64 {
    let ends = offsets.first().zip(offsets.last());
    ends.map_or(0, |(first, last)| last.as_usize().saturating_sub(first.as_usize()) as u64)
}

fn list_bytes<O: OffsetSizeTrait>(offsets: &[O], values: &ArrayRef) -> u64 {
    let Some((first, last)) = offsets.first().zip(offsets.last()) else { return 0 };
    let (first, last) = (first.as_usize(), last.as_usize().min(values.len()));
    array_bytes(&values.slice(first.min(last), last.saturating_sub(first)))
}

fn dictionary_bytes(key: &DataType, array: &ArrayRef) -> u64 {
    match key {
        DataType::Int8 => keyed_bytes::<Int8Type>(array),
        DataType::Int16 => keyed_bytes::<Int16Type>(array),
        DataType::Int32 => keyed_bytes::<Int32Type>(array),
        DataType::Int64 => keyed_bytes::<Int64Type>(array),
        DataType::UInt8 => keyed_bytes::<UInt8Type>(array),
        DataType::UInt16 => keyed_bytes::<UInt16Type>(array),
        DataType::UInt32 => keyed_bytes::<UInt32Type>(array),
        DataType::UInt64 => keyed_bytes::<UInt64Type>(array),
        _ => 0,
    }
}

/// Sum over the keys of what each stands for.
fn keyed_bytes<K: ArrowDictionaryKeyType>(array: &ArrayRef) -> u64 {
    let dictionary = array.as_dictionary::<K>();
    let values = dictionary.values();
    let keys = dictionary.keys_iter().flatten().filter(|key| *key < values.len());
    keys.fold(0, |sum: u64, key| sum.saturating_add(array_bytes(&values.slice(key, 1))))
}
