//! The document table of a shard, as Parquet: id, source, offset, length.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::{WriterProperties, DEFAULT_WRITE_BATCH_SIZE};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::integrity;
use crate::error::{io_of_parquet, Error, Result};
use crate::guard;

/// Column numbers in the file.
const ID: usize = 0;
const SOURCE: usize = 1;
const OFFSET: usize = 2;
const LENGTH: usize = 3;

/// Values that are held at once where a column is looked through.
const PART_ROWS: usize = 1 << 16;

/// The table of one shard while it is written.
///
/// Strings lie one after the other: an allocation each took 165 bytes a document.
#[derive(Debug, Default)]
pub struct DocTable {
    ids: Strings,
    sources: Strings,
    lengths: Vec<i64>,
    tokens: u64,
}

/// Strings, and where each ends.
#[derive(Debug, Default)]
struct Strings {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    fn push(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = ByteArray> + '_ {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| self.text[*start..*end].to_vec().into())
    }
}

impl DocTable {
    /// Adds a document that follows the one before.
    pub fn push(&mut self, id: &str, source: &str, length: u64) {
        self.ids.push(id);
        self.sources.push(source);
        self.lengths.push(signed(length));
        self.tokens += length;
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.lengths.len() as u64
    }

    /// Tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    fn offsets(&self) -> impl Iterator<Item = i64> + '_ {
        self.lengths.iter().scan(0, |end, length| {
            let offset = *end;
            *end += length;
            Some(offset)
        })
    }

    /// Writes the table as one row group.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.try_write(path).map_err(|error| Error::io("write", path)(io_of_parquet(error)))
    }

    fn try_write(&self, path: &Path) -> ParquetResult<()> {
        let properties =
            WriterProperties::builder().set_created_by(format!("triptych {}", crate::VERSION)).build();
        let mut writer = SerializedFileWriter::new(File::create(path)?, schema()?, Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        write_column::<ByteArrayType>(&mut group, self.ids.iter())?;
        write_column::<ByteArrayType>(&mut group, self.sources.iter())?;
        write_column::<Int64Type>(&mut group, self.offsets())?;
        write_column::<Int64Type>(&mut group, self.lengths.iter().copied())?;
        group.close()?;
        writer.close().map(drop)
    }
}

/// Parquet stores uint64 in the bits of int64.
fn signed(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}

fn unsigned(value: i64) -> u64 {
    u64::from_ne_bytes(value.to_ne_bytes())
}

fn schema() -> ParquetResult<Arc<Type>> {
    let text = |name| {
        let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY);
        column
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(LogicalType::String))
            .build()
            .map(Arc::new)
    };
    let count = |name| {
        let column = Type::primitive_type_builder(name, Physical::INT64);
        let column = column.with_repetition(Repetition::REQUIRED).with_converted_type(ConvertedType::UINT_64);
        column.build().map(Arc::new)
    };
    let fields = vec![text("id")?, text("source")?, count("offset")?, count("length")?];
    Type::group_type_builder("documents").with_fields(fields).build().map(Arc::new)
}

/// The columns must be those that are written: no others, in this order. A writer of other tables, as pyarrow,
/// says of every column that it may have nulls; whether it has any is seen where it is read.
fn check_schema(found: &SchemaDescriptor) -> ParquetResult<()> {
    let expected = SchemaDescriptor::new(schema()?);
    let column = |schema: &SchemaDescriptor, index: usize| {
        let column = schema.column(index);
        let kind = if column.max_rep_level() == 0 && column.max_def_level() <= 1 { "" } else { " (nested)" };
        format!("{} {}{kind}", column.name(), column.physical_type())
    };
    let columns = |schema: &SchemaDescriptor| -> Vec<_> {
        (0..schema.num_columns()).map(|index| column(schema, index)).collect()
    };
    if columns(found) == columns(&expected) {
        return Ok(());
    }
    Err(ParquetError::General(format!("the columns {}", columns(found).join(", "))))
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    mut values: impl Iterator<Item = T::T>,
) -> ParquetResult<()> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    let mut batch: Vec<T::T> = Vec::new();
    loop {
        batch.clear();
        batch.extend(values.by_ref().take(DEFAULT_WRITE_BATCH_SIZE));
        if batch.is_empty() {
            return column.close();
        }
        column.typed::<T>().write_batch(&batch, None, None)?;
    }
}

/// Lengths of the documents of a shard, checked to be contiguous from offset 0; no other column has nulls.
pub fn read_lengths(path: &Path, documents: u64, tokens: u64) -> Result<Vec<u64>> {
    read(path, |file| check_strings(file, documents))?;
    let offsets = read_column::<Int64Type>(path, OFFSET, documents)?;
    let lengths = read_column::<Int64Type>(path, LENGTH, documents)?;
    let mut end = 0;
    for (index, (offset, length)) in offsets.iter().zip(&lengths).enumerate() {
        if *offset != end || *length < 1 {
            let expected = format!("document {index} at offset {end} with at least one token");
            return Err(integrity(path, expected, format!("offset {offset}, length {length}")));
        }
        end = end.saturating_add(*length);
    }
    if unsigned(end) != tokens {
        return Err(integrity(path, format!("documents of {tokens} tokens in all"), format!("{end} tokens")));
    }
    Ok(lengths.into_iter().map(unsigned).collect())
}

/// Ids of the documents of a shard.
pub fn read_ids(path: &Path, documents: u64) -> Result<Vec<String>> {
    let ids = read_column::<ByteArrayType>(path, ID, documents)?;
    ids.iter().map(|id| Ok(id.as_utf8().map_err(|error| unreadable(path, &error))?.to_owned())).collect()
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    integrity(path, "a Parquet table with the columns id, source, offset, length", error.to_string())
}

fn read_column<T: DataType>(path: &Path, column: usize, documents: u64) -> Result<Vec<T::T>> {
    let values = read(path, |file| try_read_column::<T>(file, column, documents))?;
    if values.len() as u64 == documents {
        return Ok(values);
    }
    Err(integrity(path, format!("{documents} documents"), format!("{} documents", values.len())))
}

fn read<T>(path: &Path, read: impl FnOnce(File) -> ParquetResult<T>) -> Result<T> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    guarded(|| read(file)).map_err(|error| unreadable(path, &error))
}

/// The decoder asserts what a table says of itself: a panic there is damage as much as an error.
fn guarded<T>(read: impl FnOnce() -> ParquetResult<T>) -> ParquetResult<T> {
    guard::guarded(read)
        .unwrap_or_else(|| Err(ParquetError::General("sizes that contradict each other".to_owned())))
}

fn try_read_column<T: DataType>(file: File, column: usize, documents: u64) -> ParquetResult<Vec<T::T>> {
    let mut values = Vec::new();
    each_part::<T>(&open(file, documents)?, column, |part| values.extend(part))?;
    Ok(values)
}

/// Looks at the strings where the table says that they may be null: ours are not read when shards are opened.
fn check_strings(file: File, documents: u64) -> ParquetResult<()> {
    let reader = open(file, documents)?;
    let may_be_null = |column: &usize| schema_of(&reader).column(*column).max_def_level() > 0;
    let mut columns = [ID, SOURCE].into_iter().filter(may_be_null);
    columns.try_for_each(|column| each_part::<ByteArrayType>(&reader, column, drop))
}

fn open(file: File, documents: u64) -> ParquetResult<SerializedFileReader<File>> {
    let reader = SerializedFileReader::new(file)?;
    check_schema(schema_of(&reader))?;
    let rows = reader.metadata().file_metadata().num_rows();
    if u64::try_from(rows) != Ok(documents) {
        return Err(ParquetError::General(format!("{rows} rows for {documents} documents")));
    }
    Ok(reader)
}

fn schema_of(reader: &SerializedFileReader<File>) -> &SchemaDescriptor {
    reader.metadata().file_metadata().schema_descr()
}

/// Hands the values of a column to `take`, some thousand at a time; a null among them is an error.
fn each_part<T: DataType>(
    table: &SerializedFileReader<File>,
    column: usize,
    mut take: impl FnMut(Vec<T::T>),
) -> ParquetResult<()> {
    let schema = schema_of(table).column(column);
    for group in 0..table.num_row_groups() {
        let group = table.get_row_group(group)?;
        let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
        let mut reader = get_typed_column_reader::<T>(group.get_column_reader(column)?);
        while left > 0 {
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            let levels = (schema.max_def_level() > 0).then_some(&mut levels);
            let (rows, found, _) = reader.read_records(left.min(PART_ROWS), levels, None, &mut values)?;
            if found < rows {
                return Err(ParquetError::General(format!("a null in the column {}", schema.name())));
            }
            left = if rows == 0 { 0 } else { left - rows }; // what is missing is counted by who reads
            take(values);
        }
    }
    Ok(())
}
