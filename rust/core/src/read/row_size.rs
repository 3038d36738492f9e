//! How long rows become as JSON, told before they are written: a dictionary or a list can make
//! of a few bytes in a file as many as it likes.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, Int16Type, Int32Type, Int64Type, Int8Type, RunEndIndexType, UInt16Type,
    UInt32Type, UInt64Type, UInt8Type,
};
use arrow_array::{Array, ArrayRef, OffsetSizeTrait, RecordBatch, UnionArray};
use arrow_buffer::ArrowNativeType;
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
        DataType::ListView(_) => {
            let views = array.as_list_view::<i32>();
            viewed_bytes(views.value_offsets(), views.value_sizes(), views.values())
        }
        DataType::LargeListView(_) => {
            let views = array.as_list_view::<i64>();
            viewed_bytes(views.value_offsets(), views.value_sizes(), views.values())
        }
        DataType::RunEndEncoded(ends, _) => run_bytes(ends.data_type(), array),
        DataType::Union(..) => union_bytes(array.as_union()),
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

/// Sum over views, any of which may show the same values again.
fn viewed_bytes<O: OffsetSizeTrait>(offsets: &[O], sizes: &[O], values: &ArrayRef) -> u64 {
    let views = offsets.iter().zip(sizes).map(|(offset, size)| (offset.as_usize(), size.as_usize()));
    let views: Vec<(usize, usize)> =
        views.filter(|(offset, size)| offset.saturating_add(*size) <= values.len()).collect();
    let start = views.iter().map(|(offset, _)| *offset).min().unwrap_or(0);
    let end = views.iter().map(|(offset, size)| offset + size).max().unwrap_or(0);
    let mut before = vec![0_u64];
    for index in start..end {
        let sum = before[before.len() - 1];
        before.push(sum.saturating_add(array_bytes(&values.slice(index, 1))));
    }
    let bytes = |(offset, size): (usize, usize)| before[offset + size - start] - before[offset - start];
    views.into_iter().fold(0, |sum, view| sum.saturating_add(bytes(view)))
}

/// Sum over runs of what each repeats.
fn run_bytes(ends: &DataType, array: &ArrayRef) -> u64 {
    match ends {
        DataType::Int16 => repeated_bytes::<Int16Type>(array),
        DataType::Int32 => repeated_bytes::<Int32Type>(array),
        _ => repeated_bytes::<Int64Type>(array),
    }
}

fn repeated_bytes<R: RunEndIndexType>(array: &ArrayRef) -> u64 {
    let Some(runs) = array.as_run_opt::<R>() else { return 0 };
    let (first, last) = (runs.offset(), runs.offset() + runs.len());
    let ends = runs.run_ends().values().iter().map(|end| end.as_usize());
    let mut start = 0;
    ends.enumerate().fold(0, |sum: u64, (index, end)| {
        let count = end.min(last).saturating_sub(start.max(first)) as u64;
        start = end;
        if count == 0 {
            return sum;
        }
        sum.saturating_add(count.saturating_mul(array_bytes(&runs.values().slice(index, 1))))
    })
}

/// Sum over rows: a dense union may give many the same value.
fn union_bytes(union: &UnionArray) -> u64 {
    let row_bytes = |row: usize| {
        let (child, at) = (union.child(union.type_id(row)), union.value_offset(row));
        if at < child.len() {
            array_bytes(&child.slice(at, 1))
        } else {
            0
        }
    };
    (0..union.len()).fold(0, |sum, row| sum.saturating_add(row_bytes(row)))
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
