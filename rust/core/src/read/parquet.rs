//! Parquet, a row group at a time; every column is carried as JSON.

use std::fs::File;
use std::path::{Path, PathBuf};

use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use arrow_array::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::DataType;

use super::{invalid_file, BadRecord, Block, Reader};
use crate::error::{Error, Result};

/// Rows turned into JSON at once: at 4 kB a row, about a block.
const ROWS: usize = 1024;

/// Reader of `.parquet`.
pub(super) struct ParquetReader {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// Rows of the current row group.
    batches: Option<::parquet::arrow::arrow_reader::ParquetRecordBatchReader>,
    group: usize,
    /// Rows of the current group that were given.
    given: u64,
    /// Rows of all groups before the current one.
    before: u64,
}

impl ParquetReader {
    pub(super) fn open(path: &Path, text_field: &str) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|error| invalid_file(path, "Parquet", &error))?;
        check_text(path, &metadata, text_field)?;
        Ok(Self { path: path.to_owned(), metadata, batches: None, group: 0, given: 0, before: 0 })
    }

    fn group_rows(&self) -> u64 {
        self.metadata.metadata().row_group(self.group).num_rows().unsigned_abs()
    }

    fn open_group(&mut self) -> std::result::Result<(), String> {
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let reader = builder.with_row_groups(vec![self.group]).with_batch_size(ROWS).build();
        self.batches = Some(reader.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// The next rows of the group as lines; `None` at its end.
    fn next_lines(&mut self) -> std::result::Result<Option<(Vec<u8>, u64)>, String> {
        if self.batches.is_none() {
            self.open_group()?;
        }
        let Some(batch) = self.batches.as_mut().and_then(Iterator::next) else { return Ok(None) };
        let batch = batch.map_err(|error| error.to_string())?;
        Ok(Some((json_lines(&batch)?, batch.num_rows() as u64)))
    }

    fn next_group(&mut self) {
        self.before += self.group_rows();
        (self.group, self.given, self.batches) = (self.group + 1, 0, None);
    }

    /// One bad record for each row that the group still owes.
    fn lost_rows(&mut self, reason: &str) -> Block {
        let rows = self.before + self.given + 1..=self.before + self.group_rows();
        let bad = rows.map(|line| BadRecord { line, byte: 0, reason: reason.to_owned() }).collect();
        self.next_group();
        Block { bad, ..Block::default() }
    }
}

impl Reader for ParquetReader {
    fn next_block(&mut self) -> Result<Option<Block>> {
        while self.group < self.metadata.metadata().num_row_groups() {
            match self.next_lines() {
                Ok(Some((bytes, rows))) => {
                    let first_line = self.before + self.given + 1;
                    self.given += rows;
                    return Ok(Some(Block { bytes, first_line, ..Block::default() }));
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

fn json_lines(batch: &RecordBatch) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
    drop(writer);
    Ok(bytes)
}

fn check_text(path: &Path, metadata: &ArrowReaderMetadata, text_field: &str) -> Result<()> {
    let columns = metadata.schema().fields();
    let expected = format!("Parquet with a text column `{text_field}`");
    let Some(column) = columns.iter().find(|column| column.name() == text_field) else {
        let names: Vec<&str> = columns.iter().map(|column| column.name().as_str()).collect();
        return Err(invalid_file(path, &expected, &format!("columns {}", names.join(", "))));
    };
    if matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return Ok(());
    }
    Err(invalid_file(path, &expected, &format!("type {}", column.data_type())))
}
