//! Rows of Arrow columns as lines of JSON, for Parquet and Arrow alike.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::{DataType, Field, Schema};

use super::row_size::json_bytes;
use super::unit::Decode;
use super::values::Values;
use super::{invalid_file, BadRecord, Block, Unit, BLOCK_BYTES};
use crate::error::{Error, Result};
use crate::guard;

/// Rows turned into JSON at once: at 4 kB a row, about a block.
pub(super) const ROWS: usize = 1024;

/// Rows are turned into JSON fewer at once if they take more than this.
const MAX_BYTES: u64 = 8 * BLOCK_BYTES as u64;

/// Longest reason in characters; some decoders print what they were given.
const MAX_REASON_CHARS: usize = 300;

/// Most rows that are quarantined one by one; beyond, all that are lost together are one record.
const MAX_LOST_ROWS: u64 = 1 << 20;

/// Reasons for which a row is no record.
const NULL: &str = "the text is null";
const NOT_UTF8: &str = "the text is not UTF-8";

/// Checks that there is a text column of a type that holds text.
///
/// # Errors
/// `InvalidFile`, naming the columns that there are, or the type.
pub(super) fn check_text(path: &Path, format: &str, schema: &Schema, text_field: &str) -> Result<()> {
    let expected = format!("{format} with a text column `{text_field}`");
    let columns = schema.fields();
    let Some(column) = columns.iter().find(|column| column.name() == text_field) else {
        let names: Vec<&str> = columns.iter().map(|column| column.name().as_str()).collect();
        let found = format!("columns {}: set `text_field` to the one that holds the text", names.join(", "));
        return Err(invalid_file(path, &expected, &found));
    };
    if holds_text(column.data_type()) {
        return Ok(());
    }
    Err(invalid_file(path, &expected, &format!("type {}", column.data_type())))
}

fn holds_text(kind: &DataType) -> bool {
    match kind {
        // Null is what writers make of a column in which every text is null.
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, values) => holds_text(values) && !is_binary(values),
        _ => is_binary(kind),
    }
}

fn is_binary(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// The first rows of a batch, as many as become a block, and the others.
pub(super) fn split(batch: &RecordBatch) -> (RecordBatch, Option<RecordBatch>) {
    let mut count = batch.num_rows().min(ROWS);
    while count > 1 && json_bytes(&batch.slice(0, count)) > MAX_BYTES {
        count /= 2;
    }
    let rest = batch.num_rows() - count;
    (batch.slice(0, count), (rest > 0).then(|| batch.slice(count, rest)))
}

/// Adds the rows of a batch to a block, the first of them number `first_row`; one that is too long is not
/// written out. A row that is no record leaves an empty line.
///
/// # Errors
/// Why they cannot be written; then the block is as it was.
pub(super) fn append(
    batch: &RecordBatch,
    text_field: &str,
    first_row: u64,
    max_line_bytes: usize,
    block: &mut Block,
) -> std::result::Result<(), String> {
    let length = if batch.num_rows() == 1 { json_bytes(batch) } else { 0 };
    if length > max_line_bytes as u64 {
        let reason = format!("the row is too long: at most {max_line_bytes} bytes, found about {length}");
        block.bytes.push(b'\n');
        block.bad.push(BadRecord { line: first_row, byte: 0, reason });
        return Ok(());
    }
    let start = block.bytes.len();
    guarded(|| write(batch, text_field, first_row, block)).inspect_err(|_| block.bytes.truncate(start))
}

fn write(
    batch: &RecordBatch,
    text_field: &str,
    first_row: u64,
    block: &mut Block,
) -> std::result::Result<(), String> {
    let (batch, reason) = with_text(batch, text_field)?;
    let start = block.bytes.len();
    write_json(&batch, &mut block.bytes)?;
    let Some(nulls) = batch.column_by_name(text_field).and_then(Array::logical_nulls) else { return Ok(()) };
    let lines = block.bytes.split_off(start);
    let kept = lines.split_inclusive(|byte| *byte == b'\n').enumerate();
    kept.for_each(|(row, line)| block.bytes.extend_from_slice(if nulls.is_null(row) { b"\n" } else { line }));
    let bad = (0..batch.num_rows()).filter(|row| nulls.is_null(*row));
    let bad =
        bad.map(|row| BadRecord { line: first_row + row as u64, byte: 0, reason: reason(row).to_owned() });
    block.bad.extend(bad);
    Ok(())
}

/// Rows that are decoded and not JSON yet.
pub(super) struct Rows {
    pub(super) batch: RecordBatch,
    pub(super) text_field: String,
    /// 1-based number of the first.
    pub(super) first_row: u64,
    pub(super) max_line_bytes: usize,
    /// What is lost with them, said of a reason.
    pub(super) damaged: fn(&str) -> String,
}

impl Rows {
    pub(super) fn into_unit(self, block: Block) -> Unit {
        Unit::later(block, json_bytes(&self.batch) as usize, self)
    }
}

impl Decode for Rows {
    fn decode(&mut self, block: &mut Block) -> bool {
        block.first_line = self.first_row;
        let appended = append(&self.batch, &self.text_field, self.first_row, self.max_line_bytes, block);
        if let Err(reason) = appended {
            block.bad = lost(self.first_row, self.batch.num_rows() as u64, &(self.damaged)(&reason));
        }
        false
    }

    fn longest_bytes(&self) -> usize {
        json_bytes(&self.batch) as usize / self.batch.num_rows().max(1)
    }
}

/// A bad record for each of `count` rows, or one for all if they are too many.
pub(super) fn lost(first_row: u64, count: u64, reason: &str) -> Vec<BadRecord> {
    if count > MAX_LOST_ROWS {
        return vec![BadRecord { line: first_row, byte: 0, reason: format!("{reason} ({count} rows)") }];
    }
    let rows = first_row..first_row.saturating_add(count);
    rows.map(|line| BadRecord { line, byte: 0, reason: reason.to_owned() }).collect()
}

/// The batch with its text as a string column, and why a row of it is null.
fn with_text<'b>(
    batch: &'b RecordBatch,
    text_field: &str,
) -> std::result::Result<(RecordBatch, impl Fn(usize) -> &'static str + 'b), String> {
    let index = batch.schema().index_of(text_field).map_err(|error| error.to_string())?;
    let column = batch.column(index);
    let reason =
        |row: usize| if column.is_null(row) || !is_binary(column.data_type()) { NULL } else { NOT_UTF8 };
    if !is_binary(column.data_type()) {
        return Ok((batch.clone(), reason));
    }
    let text = arrow_cast::cast(column, &DataType::LargeUtf8).map_err(|error| error.to_string())?;
    Ok((replace_column(batch, index, text)?, reason))
}

fn replace_column(
    batch: &RecordBatch,
    index: usize,
    column: ArrayRef,
) -> std::result::Result<RecordBatch, String> {
    let schema = batch.schema();
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields[index] = Arc::new(Field::new(fields[index].name(), column.data_type().clone(), true));
    let mut columns = batch.columns().to_vec();
    columns[index] = column;
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())
}

fn write_json(batch: &RecordBatch, bytes: &mut Vec<u8>) -> std::result::Result<(), String> {
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Values));
    let mut writer = builder.build::<_, LineDelimited>(bytes);
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())
}

/// What the operating system refused, if that is why a foreign decoder gave up: the data may be whole.
pub(super) fn refused(path: &Path, reason: &str) -> Option<Error> {
    let (_, code) = reason.rsplit_once("(os error ")?;
    let source = io::Error::from_raw_os_error(code.strip_suffix(')')?.parse().ok()?);
    let is_said = reason.ends_with(&source.to_string());
    is_said.then(|| Error::Io { action: "read", path: path.to_owned(), source })
}

/// What a foreign decoder said, on one line and no longer than a line should be.
pub(super) fn sentence(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    words.join(" ").chars().take(MAX_REASON_CHARS).collect()
}

/// Runs a foreign decoder, whose panic on damaged data is a reason like any other, and is not printed.
pub(super) fn guarded<T>(
    decode: impl FnOnce() -> std::result::Result<T, String>,
) -> std::result::Result<T, String> {
    guard::guarded(decode).unwrap_or_else(|| Err("the decoder gave up".to_owned()))
}
