//! A shard in Parquet: columns `id`, `text`, `source`, and `fields` for whatever else a document holds.

use std::io;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow_array::{ArrayRef, RecordBatch, StringArray};

use super::hashed::HashedFile;
use crate::error::io_of_parquet;
use crate::json;
use crate::manifest::FileEntry;

/// Columns of a Parquet shard.
const COLUMNS: [&str; 4] = ["id", "text", "source", "fields"];

/// Bytes of rows held before they become a row group.
const ROW_GROUP_BYTES: usize = 32 << 20;

pub(super) struct ParquetShard {
    writer: ArrowWriter<HashedFile>,
    columns: [Vec<String>; 4],
    held_bytes: usize,
}

impl ParquetShard {
    pub(super) fn new(file: HashedFile) -> io::Result<Self> {
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let schema = record_batch(&[const { Vec::new() }; 4])?.schema();
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(io_of_parquet)?;
        Ok(Self { writer, columns: Default::default(), held_bytes: 0 })
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let line_text = std::str::from_utf8(line).map_err(io::Error::other)?;
        let fields = json::object(line_text).map_err(|fault| io::Error::other(fault.reason))?;
        let mut others = String::from("{");
        for (key, value) in fields {
            if let Some(column) = COLUMNS[..3].iter().position(|name| *name == key) {
                self.columns[column].push(json::decode_string(value).into_owned());
            } else {
                others.push_str(if others.len() > 1 { ",\"" } else { "\"" });
                others.extend([key, "\":", value]);
            }
        }
        self.columns[3].push(others + "}");
        self.held_bytes += line.len();
        if self.held_bytes >= ROW_GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let batch = record_batch(&self.columns)?;
        self.columns.iter_mut().for_each(Vec::clear);
        self.held_bytes = 0;
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(io_of_parquet)
    }

    pub(super) fn finish(mut self) -> io::Result<FileEntry> {
        self.flush()?;
        self.writer.into_inner().map_err(io_of_parquet)?.finish()
    }
}

fn record_batch(columns: &[Vec<String>; 4]) -> io::Result<RecordBatch> {
    let arrays = columns.iter().map(|values| Arc::new(StringArray::from_iter_values(values)) as ArrayRef);
    RecordBatch::try_from_iter(COLUMNS.into_iter().zip(arrays)).map_err(io::Error::other)
}
