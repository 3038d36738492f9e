//! Parquet, a row group at a time; every column is carried as JSON.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef, Fields, Schema};

use super::pages;
use super::raw::{check_unchanged, open_file, Limits};
use super::rows::{self, Lines, ROWS};
use super::whole::LostFile;
use super::{BadRecord, Block, Reader};
use crate::error::Result;

/// Most rows that are quarantined one by one; beyond, a row group's rest is one record.
const MAX_LOST_ROWS: u64 = 1 << 20;

/// Reader of `.parquet`.
struct ParquetReader {
    path: PathBuf,
    file: File,
    /// The file as it was when it was opened.
    opened: Metadata,
    text_field: String,
    limits: Limits,
    metadata: ArrowReaderMetadata,
    /// Rows of the current row group.
    batches: Option<ParquetRecordBatchReader>,
    /// Rows that are decoded and not given.
    decoded: Option<RecordBatch>,
    group: usize,
    /// Rows of the current group that were given.
    given: u64,
    /// Rows of all groups before the current one.
    before: u64,
}

/// Opens a Parquet file; one without a footer that can be read is lost, as one record.
///
/// # Errors
/// The disk, and `InvalidFile` if the text column is missing or holds no text.
pub(super) fn open(path: &Path, text_field: &str, limits: Limits) -> Result<Box<dyn Reader>> {
    let (mut file, opened) = open_file(path)?;
    let metadata = match rows::guarded(|| load(&mut file)) {
        Ok(metadata) => metadata,
        Err(reason) => {
            return Ok(Box::new(LostFile::new(
                path,
                format!("not Parquet, or damaged: {}", rows::sentence(&reason)),
            )))
        }
    };
    rows::check_text(path, "Parquet", metadata.schema(), text_field)?;
    let (path, text_field) = (path.to_owned(), text_field.to_owned());
    let (batches, decoded) = (None, None);
    Ok(Box::new(ParquetReader {
        path,
        file,
        opened,
        text_field,
        limits,
        metadata,
        batches,
        decoded,
        group: 0,
        given: 0,
        before: 0,
    }))
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
    fn group_rows(&self) -> u64 {
        self.metadata.metadata().row_group(self.group).num_rows().unsigned_abs()
    }

    fn open_group(&mut self) -> std::result::Result<(), String> {
        pages::check_group(&mut self.file, self.metadata.metadata().row_group(self.group), self.limits)?;
        let file = self.file.try_clone().map_err(|error| error.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let reader = builder.with_row_groups(vec![self.group]).with_batch_size(ROWS).build();
        self.batches = Some(reader.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// The next rows of the group as lines; `None` at its end.
    fn next_lines(&mut self) -> std::result::Result<Option<(Lines, u64)>, String> {
        if self.batches.is_none() {
            self.open_group()?;
        }
        let decoded = match self.decoded.take() {
            Some(batch) => batch,
            None => match self.batches.as_mut().and_then(Iterator::next) {
                Some(batch) => batch.map_err(|error| error.to_string())?,
                None => return Ok(None),
            },
        };
        let (batch, rest) = rows::split(&decoded);
        self.decoded = rest;
        let first_row = self.before + self.given + 1;
        let lines = rows::lines(&batch, &self.text_field, first_row, self.limits.max_line_bytes)?;
        Ok(Some((lines, batch.num_rows() as u64)))
    }

    fn next_group(&mut self) {
        self.before = self.before.saturating_add(self.group_rows());
        (self.group, self.given) = (self.group + 1, 0);
        (self.batches, self.decoded) = (None, None);
    }

    /// One bad record for each row that the group still owes, or one for all if they are too many.
    fn lost_rows(&mut self, reason: &str) -> Block {
        let first = self.before.saturating_add(self.given + 1);
        let owed = self.group_rows().saturating_sub(self.given);
        let bad = if owed > MAX_LOST_ROWS {
            vec![BadRecord { line: first, byte: 0, reason: format!("{reason} ({owed} rows)") }]
        } else {
            (first..first.saturating_add(owed))
                .map(|line| BadRecord { line, byte: 0, reason: reason.to_owned() })
                .collect()
        };
        self.next_group();
        Block { bad, ..Block::default() }
    }
}

impl Reader for ParquetReader {
    fn next_block(&mut self) -> Result<Option<Block>> {
        while self.group < self.metadata.metadata().num_row_groups() {
            match rows::guarded(|| self.next_lines()) {
                Ok(Some(((bytes, bad), rows))) => {
                    let first_line = self.before + self.given + 1;
                    self.given += rows;
                    return Ok(Some(Block { bytes, first_line, bad, ..Block::default() }));
                }
                Ok(None) if self.given >= self.group_rows() => self.next_group(),
                Ok(None) => return Ok(Some(self.lost_rows("the row group has fewer rows than it says"))),
                Err(reason) => {
                    return Ok(Some(
                        self.lost_rows(&format!("damaged row group: {}", rows::sentence(&reason))),
                    ))
                }
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        let sha256 = crate::manifest::sha256_file(&self.path)?;
        let bytes = self.opened.len();
        check_unchanged(&self.path, &self.file, &self.opened, bytes)?;
        Ok((bytes, sha256))
    }
}
