//! Parquet, in ranges of rows of a row group; every column is carried as JSON.
//!
//! The reader checks what a row group says of itself and shares out its rows; whoever takes a
//! range opens the file again and decodes the pages that hold it. So damage to a page costs
//! the ranges that it lies in, and one large row group keeps all threads busy.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::basic::Compression;
use ::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef, Fields, Schema};

use super::hashed::HashedFile;
use super::pages::{self, Cuts};
use super::raw::Limits;
use super::rows::{self, Rows, ROWS};
use super::unit::{Decode, FULL_BYTES};
use super::whole::LostFile;
use super::{Block, Reading, Unit};
use crate::error::Result;

/// Why rows are lost that no page holds.
const TOO_FEW_ROWS: &str = "the row group has fewer rows than it says";

/// A row group of which more is in one range is decoded by the reader, a batch at a time.
const MAX_RANGE_BYTES: usize = 32 << 20;

/// Times that columns of lists may be read, to pass over rows of which only a decoder knows where they end.
const MAX_LIST_PASSES: u64 = 2;

/// Reader of `.parquet`.
struct ParquetReader {
    file: HashedFile,
    /// For looking at pages.
    pages: File,
    text_field: String,
    limits: Limits,
    metadata: ArrowReaderMetadata,
    group: usize,
    /// Where the current group is cut; `None` before it is known.
    cuts: Option<Cuts>,
    /// The current group, if it is decoded here.
    batches: Option<Batches>,
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
            rows::refused(path, &reason).map_or(Ok(()), Err)?;
            let reason = format!("not Parquet, or damaged: {}", rows::sentence(&reason));
            return Ok(Box::new(LostFile::new(path, reason)));
        }
    };
    rows::check_text(path, "Parquet", metadata.schema(), text_field)?;
    if let Some(codec) = unread_codec(metadata.metadata()) {
        let reason = format!("pages compressed by {codec}, which is not read: write them by zstd or snappy");
        return Ok(Box::new(LostFile::new(path, reason)));
    }
    let (text_field, cuts, batches) = (text_field.to_owned(), None, None);
    let (group, given, before) = (0, 0, 0);
    let reader =
        ParquetReader { file, pages, text_field, limits, metadata, group, cuts, batches, given, before };
    Ok(Box::new(reader))
}

/// The codec of a file of which no row group can be decoded, since it is not built in.
fn unread_codec(metadata: &ParquetMetaData) -> Option<&'static str> {
    let codec = |group: &RowGroupMetaData| {
        group.columns().iter().find_map(|column| match column.compression() {
            Compression::BROTLI(_) => Some("Brotli"),
            Compression::LZO => Some("LZO"),
            _ => None,
        })
    };
    let groups = metadata.row_groups();
    groups.iter().all(|group| codec(group).is_some()).then(|| groups.first().and_then(codec)).flatten()
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

    fn open_group(&mut self) -> std::result::Result<(), String> {
        let group = self.metadata.metadata().row_group(self.group);
        let cuts = pages::check_group(&mut self.pages, group, self.limits)?;
        if !has_ranges(group, &cuts) {
            let file = self.pages.try_clone().map_err(|error| error.to_string())?;
            self.batches = Some(Batches::open(file, &self.metadata, self.group, (0, cuts.rows))?);
        }
        self.cuts = Some(cuts);
        Ok(())
    }

    fn next_group(&mut self) {
        self.before = self.before.saturating_add(self.group_rows());
        (self.group, self.given) = (self.group + 1, 0);
        (self.cuts, self.batches) = (None, None);
    }

    /// The next rows of the group; `None` at its end.
    fn next_piece(&mut self) -> std::result::Result<Option<Piece>, String> {
        if self.cuts.is_none() {
            self.open_group()?;
        }
        let group_rows = self.group_rows();
        let cuts = self.cuts.as_ref().map_or(&[][..], |cuts| &cuts.ends);
        let end = cuts.get(cuts.partition_point(|end| *end <= self.given)).copied();
        match (end, &mut self.batches) {
            (Some(_), Some(batches)) => batches.next().map(|batch| Some(Piece::Decoded(batch))),
            (Some(end), None) => Ok(Some(Piece::Range(end - self.given))),
            (None, _) if self.given < group_rows => Err(TOO_FEW_ROWS.to_owned()),
            (None, _) => Ok(None),
        }
    }

    fn unit(&mut self, piece: Piece) -> Result<Unit> {
        let block = self.file.block(end_of(self.meta()))?;
        let (text_field, max_line_bytes) = (self.text_field.clone(), self.limits.max_line_bytes);
        let first_row = self.before.saturating_add(self.given + 1);
        match piece {
            Piece::Decoded(batch) => {
                self.given += batch.num_rows() as u64;
                Ok(Rows { batch, text_field, first_row, max_line_bytes, damaged }.into_unit(block))
            }
            Piece::Range(count) => {
                let num_bytes = num_bytes(self.meta(), count);
                let (file, metadata) = (self.file.open_again()?, self.metadata.clone());
                let path = self.file.path.clone();
                let (group, first, batches) = (self.group, self.given, None);
                self.given += count;
                let range = Range {
                    path,
                    file,
                    metadata,
                    batches,
                    text_field,
                    max_line_bytes,
                    group,
                    first,
                    count,
                    first_row,
                    num_bytes,
                };
                Ok(Unit::later(block, num_bytes, range))
            }
        }
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

/// Rows of a group: decoded ones, or how many are left to whoever takes them.
enum Piece {
    Decoded(RecordBatch),
    Range(u64),
}

/// True if a group can be decoded in ranges.
///
/// Pages of flat columns are passed over unread. Columns of lists are decoded from their first row to the
/// range, which is too much if there are many ranges. A page is held whole by each who decodes a part of it.
fn has_ranges(group: &RowGroupMetaData, cuts: &Cuts) -> bool {
    let lists = group.columns().iter().filter(|column| !pages::is_flat(column));
    let list_bytes =
        lists.map(|column| column.uncompressed_size().unsigned_abs()).fold(0, u64::saturating_add);
    let passed = list_bytes.saturating_mul(cuts.ends.len() as u64 - 1);
    let starts = std::iter::once(0).chain(cuts.ends.iter().copied());
    let most_rows = starts.zip(&cuts.ends).map(|(start, end)| end - start).max().unwrap_or(0);
    passed <= group.total_byte_size().unsigned_abs().saturating_mul(MAX_LIST_PASSES)
        && num_bytes(group, most_rows) <= MAX_RANGE_BYTES
}

/// Where the last column of a group ends in the file.
fn end_of(group: &RowGroupMetaData) -> u64 {
    group.columns().iter().filter_map(pages::byte_range).map(|(_, end)| end).max().unwrap_or(0)
}

/// Bytes that so many rows of a group take when they are decoded, by the size it says it has.
fn num_bytes(group: &RowGroupMetaData, count: u64) -> usize {
    let bytes = u128::from(group.total_byte_size().unsigned_abs()) * u128::from(count);
    (bytes / u128::from(group.num_rows().unsigned_abs().max(1))) as usize
}

impl Reading for ParquetReader {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        while self.group < self.metadata.metadata().num_row_groups() {
            match rows::guarded(|| self.next_piece()) {
                Ok(Some(piece)) => return self.unit(piece).map(Some),
                Ok(None) => self.next_group(),
                Err(reason) => {
                    rows::refused(&self.file.path, &reason).map_or(Ok(()), Err)?;
                    let reason =
                        located(&reason, &mut self.pages, self.metadata.metadata().row_group(self.group));
                    return self.lost_rows(&damaged(&reason)).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        self.file.finish()
    }
}

/// Rows of a group, decoded one batch after the other.
struct Batches {
    reader: ParquetRecordBatchReader,
    /// Rows that are decoded and not given.
    decoded: Option<RecordBatch>,
}

impl Batches {
    /// The rows of `group` from the first on, and no more than `count`.
    fn open(
        file: File,
        metadata: &ArrowReaderMetadata,
        group: usize,
        (first, count): (u64, u64),
    ) -> std::result::Result<Self, String> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
        let builder = builder.with_row_groups(vec![group]).with_batch_size(ROWS);
        let builder = builder.with_offset(first as usize).with_limit(count as usize);
        Ok(Self { reader: builder.build().map_err(|error| error.to_string())?, decoded: None })
    }

    fn next(&mut self) -> std::result::Result<RecordBatch, String> {
        let decoded = match self.decoded.take() {
            Some(batch) => batch,
            None => match self.reader.next() {
                Some(batch) => batch.map_err(|error| error.to_string())?,
                None => return Err(TOO_FEW_ROWS.to_owned()),
            },
        };
        let (batch, rest) = rows::split(&decoded);
        self.decoded = rest;
        Ok(batch)
    }
}

/// Rows of a group that are not decoded yet.
struct Range {
    path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
    /// `None` before the first row is asked for.
    batches: Option<Batches>,
    text_field: String,
    max_line_bytes: usize,
    group: usize,
    /// Rows of the group before those that are left, and how many are left.
    first: u64,
    count: u64,
    /// 1-based number in the file of the first that is left.
    first_row: u64,
    /// Bytes that all take when they are decoded.
    num_bytes: usize,
}

impl Range {
    /// Adds the next rows to the block.
    fn append(&mut self, block: &mut Block) -> std::result::Result<(), String> {
        let batches = match &mut self.batches {
            Some(batches) => batches,
            none => {
                let file = self.file.try_clone().map_err(|error| error.to_string())?;
                none.insert(Batches::open(file, &self.metadata, self.group, (self.first, self.count))?)
            }
        };
        let batch = batches.next()?;
        rows::append(&batch, &self.text_field, self.first_row, self.max_line_bytes, block)?;
        self.pass(batch.num_rows() as u64);
        Ok(())
    }

    fn pass(&mut self, count: u64) {
        self.first_row += count;
        self.count = self.count.saturating_sub(count);
    }
}

impl Decode for Range {
    fn decode(&mut self, block: &mut Block) -> bool {
        block.first_line = self.first_row;
        while self.count > 0 && block.bytes.len() < FULL_BYTES {
            if let Err(reason) = rows::guarded(|| self.append(block)) {
                block.refused = rows::refused(&self.path, &reason);
                let group = self.metadata.metadata().row_group(self.group);
                let reason = damaged(&located(&reason, &mut self.file, group));
                block.bad.extend(rows::lost(self.first_row, self.count, &reason));
                self.pass(self.count);
            }
        }
        self.count > 0
    }

    fn longest_bytes(&self) -> usize {
        self.num_bytes / self.count.max(1) as usize
    }
}

/// The reason why a group cannot be decoded, with the page if a checksum tells it.
fn located(reason: &str, file: &mut File, group: &RowGroupMetaData) -> String {
    let page = reason.contains("CRC").then(|| pages::wrong_checksum(file, group)).flatten();
    page.unwrap_or_else(|| reason.to_owned())
}

fn damaged(reason: &str) -> String {
    format!("damaged row group: {}", rows::sentence(reason))
}
