//! Parquet, in ranges of rows of a row group; every column is carried as JSON.
//!
//! The reader checks what a row group says of itself and shares out its rows; whoever takes a
//! range opens the file again and decodes the pages that hold it. So damage to a page costs
//! the ranges that it lies in, and one large row group keeps all threads busy.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::file::metadata::RowGroupMetaData;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef, Fields, Schema};

use super::hashed::HashedFile;
use super::pages;
use super::raw::Limits;
use super::rows::{self, ROWS};
use super::unit::{Decode, FULL_BYTES};
use super::whole::LostFile;
use super::{Block, Reading, Unit};
use crate::error::Result;

/// Most rows in a range, however short they are.
const MAX_RANGE_ROWS: u64 = 1 << 14;

/// Times that columns of lists may be read, to pass over rows of which only a decoder knows where they end.
const MAX_LIST_PASSES: u64 = 4;

/// Reader of `.parquet`.
struct ParquetReader {
    file: HashedFile,
    /// For looking at pages.
    pages: File,
    text_field: String,
    limits: Limits,
    metadata: ArrowReaderMetadata,
    group: usize,
    /// Rows that the pages of the current group hold; `None` before they are counted.
    held_rows: Option<u64>,
    /// Rows of the current group that were given.
    given: u64,
    /// Rows of all groups before the current one.
    before: u64,
}

/// Opens a Parquet file; one without a footer that can be read is lost, as one record.
///
/// # Errors
/// The disk, and `InvalidFile` if the text column is missing or holds no text.
pub(super) fn open(path: &Path, text_field: &str, limits: Limits) -> Result<Box<dyn Reading>> {
    let file = HashedFile::open(path)?;
    let mut pages = file.open_again()?;
    let metadata = match rows::guarded(|| load(&mut pages)) {
        Ok(metadata) => metadata,
        Err(reason) => {
            let reason = format!("not Parquet, or damaged: {}", rows::sentence(&reason));
            return Ok(Box::new(LostFile::new(path, reason)));
        }
    };
    rows::check_text(path, "Parquet", metadata.schema(), text_field)?;
    let (text_field, held_rows) = (text_field.to_owned(), None);
    let (group, given, before) = (0, 0, 0);
    Ok(Box::new(ParquetReader { file, pages, text_field, limits, metadata, group, held_rows, given, before }))
}

/// Reads the footer. Strings are to be views: rows that share a value of a dictionary share its memory.
fn load(file: &mut File) -> std::result::Result<ArrowReaderMetadata, String> {
    pages::check_footer(file)?;
    let loaded = ArrowReaderMetadata::load(file, ArrowReaderOptions::new());
    let loaded = loaded.map_err(|error| error.to_string())?;
    let fields: Vec<FieldRef> = loaded.schema().fields().iter().map(with_views).collect();
    let schema = Schema::new_with_metadata(fields, loaded.schema().metadata().clone());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    ArrowReaderMetadata::try_new(Arc::clone(loaded.metadata()), options).map_err(|error| error.to_string())
}

/// A column with string and binary views in place of strings and binaries, also inside lists and structures.
fn with_views(field: &FieldRef) -> FieldRef {
    let inner = |fields: &Fields| fields.iter().map(with_views).collect();
    let kind = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(item) => DataType::List(with_views(item)),
        DataType::LargeList(item) => DataType::LargeList(with_views(item)),
        DataType::Struct(fields) => DataType::Struct(inner(fields)),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(kind))
}

impl ParquetReader {
    fn meta(&self) -> &RowGroupMetaData {
        self.metadata.metadata().row_group(self.group)
    }

    /// Rows that the group says it has.
    fn group_rows(&self) -> u64 {
        self.meta().num_rows().unsigned_abs()
    }

    fn next_group(&mut self) {
        self.before = self.before.saturating_add(self.group_rows());
        (self.group, self.given, self.held_rows) = (self.group + 1, 0, None);
    }

    /// The next rows of the group, or the group's end.
    fn next_range(&mut self) -> std::result::Result<Option<(u64, u64)>, String> {
        let held = match self.held_rows {
            Some(held) => held,
            None => pages::check_group(
                &mut self.pages,
                self.metadata.metadata().row_group(self.group),
                self.limits,
            )?,
        };
        self.held_rows = Some(held);
        if self.given < held {
            let count = range_rows(self.meta()).min(held - self.given);
            return Ok(Some((self.given, count)));
        }
        if self.given < self.group_rows() {
            return Err(pages::TOO_FEW_ROWS.to_owned());
        }
        Ok(None)
    }

    fn range(&mut self, first: u64, count: u64) -> Result<Unit> {
        let block = self.file.block(end_of(self.meta()))?;
        let num_bytes = num_bytes(self.meta(), count);
        let range = Range {
            file: Some(self.file.open_again()?),
            metadata: self.metadata.clone(),
            text_field: self.text_field.clone(),
            max_line_bytes: self.limits.max_line_bytes,
            group: self.group,
            first,
            count,
            first_row: self.before.saturating_add(first + 1),
            batches: None,
            decoded: None,
            given: 0,
        };
        self.given += count;
        Ok(Unit::later(block, num_bytes, range))
    }

    /// One bad record for each row that the group still owes, or one for all if they are too many.
    fn lost_rows(&mut self, reason: &str) -> Result<Unit> {
        let block = self.file.block(end_of(self.meta()))?;
        let first = self.before.saturating_add(self.given + 1);
        let bad = rows::lost(first, self.group_rows().saturating_sub(self.given), reason);
        self.next_group();
        Ok(Block { bad, ..block }.into())
    }
}

/// Where the last column of a group ends in the file.
fn end_of(group: &RowGroupMetaData) -> u64 {
    let end = |column: &::parquet::file::metadata::ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        start.unsigned_abs().saturating_add(column.compressed_size().unsigned_abs())
    };
    group.columns().iter().map(end).max().unwrap_or(0)
}

/// Bytes that so many rows of a group take when they are decoded, by the size it says it has.
fn num_bytes(group: &RowGroupMetaData, count: u64) -> usize {
    let bytes = u128::from(group.total_byte_size().unsigned_abs()) * u128::from(count);
    (bytes / u128::from(group.num_rows().unsigned_abs().max(1))) as usize
}

/// Rows in a range: as many as become a block.
///
/// Pages of flat columns are passed over unread. Columns of lists are decoded from their first row to the
/// range, so there are fewer ranges the more of the group they are.
fn range_rows(group: &RowGroupMetaData) -> u64 {
    let rows = group.num_rows().unsigned_abs();
    let bytes = group.total_byte_size().unsigned_abs().max(1);
    let lists = group.columns().iter().filter(|column| column.column_descr().max_rep_level() > 0);
    let list_bytes: u64 =
        lists.map(|column| column.uncompressed_size().unsigned_abs()).fold(0, u64::saturating_add);
    let share = |part: u64, whole: u64| (u128::from(rows) * u128::from(part) / u128::from(whole)) as u64;
    let full = share(FULL_BYTES as u64, bytes).clamp(1, MAX_RANGE_ROWS);
    full.max(share(list_bytes.min(bytes), bytes.saturating_mul(MAX_LIST_PASSES)))
}

impl Reading for ParquetReader {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        while self.group < self.metadata.metadata().num_row_groups() {
            match rows::guarded(|| self.next_range()) {
                Ok(Some((first, count))) => return self.range(first, count).map(Some),
                Ok(None) => self.next_group(),
                Err(reason) => return self.lost_rows(&damaged(&reason)).map(Some),
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        self.file.finish()
    }
}

/// Rows of a group that are not decoded yet.
struct Range {
    /// The file, until decoding begins.
    file: Option<File>,
    metadata: ArrowReaderMetadata,
    text_field: String,
    max_line_bytes: usize,
    group: usize,
    /// Rows of the group before the range, and in it.
    first: u64,
    count: u64,
    /// 1-based number in the file of the range's first row.
    first_row: u64,
    batches: Option<ParquetRecordBatchReader>,
    /// Rows that are decoded and not given.
    decoded: Option<RecordBatch>,
    /// Rows of the range that were given.
    given: u64,
}

impl Range {
    fn batches(&mut self) -> std::result::Result<&mut ParquetRecordBatchReader, String> {
        if let Some(file) = self.file.take() {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
            let builder = builder.with_row_groups(vec![self.group]).with_batch_size(ROWS);
            let reader = builder.with_offset(self.first as usize).with_limit(self.count as usize).build();
            self.batches = Some(reader.map_err(|error| error.to_string())?);
        }
        self.batches.as_mut().ok_or_else(|| pages::TOO_FEW_ROWS.to_owned())
    }

    /// Adds the next rows to the block.
    fn append(&mut self, block: &mut Block) -> std::result::Result<(), String> {
        let decoded = match self.decoded.take() {
            Some(batch) => batch,
            None => match self.batches()?.next() {
                Some(batch) => batch.map_err(|error| error.to_string())?,
                None => return Err(pages::TOO_FEW_ROWS.to_owned()),
            },
        };
        let (batch, rest) = rows::split(&decoded);
        self.decoded = rest;
        let first_row = self.first_row + self.given;
        rows::append(&batch, &self.text_field, first_row, self.max_line_bytes, block)?;
        self.given += batch.num_rows() as u64;
        Ok(())
    }
}

impl Decode for Range {
    fn decode(&mut self, block: &mut Block) -> bool {
        block.first_line = self.first_row + self.given;
        while self.given < self.count && block.bytes.len() < FULL_BYTES {
            if let Err(reason) = rows::guarded(|| self.append(block)) {
                let (first, owed) = (self.first_row + self.given, self.count - self.given);
                block.bad.extend(rows::lost(first, owed, &damaged(&reason)));
                self.given = self.count;
            }
        }
        self.given < self.count
    }
}

fn damaged(reason: &str) -> String {
    format!("damaged row group: {}", rows::sentence(reason))
}
