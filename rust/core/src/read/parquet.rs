//! Parquet, a row group at a time; every column is carried as JSON.

use std::fs::File;
use std::path::{Path, PathBuf};

use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::raw::{Limits, EXPANSION_FREE_BYTES};
use super::rows::{self, Lines, ROWS};
use super::whole::LostFile;
use super::{BadRecord, Block, Reader};
use crate::error::{Error, Result};

/// Most rows that are quarantined one by one; beyond, a row group's rest is one record.
const MAX_LOST_ROWS: u64 = 1 << 20;

/// Reader of `.parquet`.
struct ParquetReader {
    path: PathBuf,
    text_field: String,
    limits: Limits,
    metadata: ArrowReaderMetadata,
    /// Rows of the current row group.
    batches: Option<ParquetRecordBatchReader>,
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
    let file = File::open(path).map_err(Error::io("open", path))?;
    let load =
        || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|error| error.to_string());
    let metadata = match rows::guarded(load) {
        Ok(metadata) => metadata,
        Err(reason) => {
            return Ok(Box::new(LostFile::new(path, format!("not Parquet, or damaged: {reason}"))))
        }
    };
    rows::check_text(path, "Parquet", metadata.schema(), text_field)?;
    let (path, text_field) = (path.to_owned(), text_field.to_owned());
    Ok(Box::new(ParquetReader {
        path,
        text_field,
        limits,
        metadata,
        batches: None,
        group: 0,
        given: 0,
        before: 0,
    }))
}

impl ParquetReader {
    fn group_rows(&self) -> u64 {
        self.metadata.metadata().row_group(self.group).num_rows().unsigned_abs()
    }

    fn open_group(&mut self) -> std::result::Result<(), String> {
        self.check_size()?;
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let reader = builder.with_row_groups(vec![self.group]).with_batch_size(ROWS).build();
        self.batches = Some(reader.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Refuses a row group that is larger than its bytes on disk allow, before any of it is read.
    fn check_size(&self) -> std::result::Result<(), String> {
        let group = self.metadata.metadata().row_group(self.group);
        let on_disk = group.compressed_size().unsigned_abs();
        let allowed = on_disk.saturating_mul(self.limits.max_expansion).max(EXPANSION_FREE_BYTES);
        let allowed = allowed.min(self.limits.max_file_bytes);
        let size = group.total_byte_size().unsigned_abs();
        if size <= allowed {
            return Ok(());
        }
        Err(format!(
            "{on_disk} bytes claim to hold {size}: limit {allowed} (`max_expansion`, `max_file_bytes`)"
        ))
    }

    /// The next rows of the group as lines; `None` at its end.
    fn next_lines(&mut self) -> std::result::Result<Option<(Lines, u64)>, String> {
        if self.batches.is_none() {
            self.open_group()?;
        }
        let Some(batch) = self.batches.as_mut().and_then(Iterator::next) else { return Ok(None) };
        let batch = batch.map_err(|error| error.to_string())?;
        let first_row = self.before + self.given + 1;
        Ok(Some((rows::lines(&batch, &self.text_field, first_row)?, batch.num_rows() as u64)))
    }

    fn next_group(&mut self) {
        self.before = self.before.saturating_add(self.group_rows());
        (self.group, self.given, self.batches) = (self.group + 1, 0, None);
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
                Err(reason) => return Ok(Some(self.lost_rows(&format!("damaged row group: {reason}")))),
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        let bytes = std::fs::metadata(&self.path).map_err(Error::io("read", &self.path))?.len();
        Ok((bytes, crate::manifest::sha256_file(&self.path)?))
    }
}
