//! Shards of documents: `NNNNN.jsonl.zst`, `.jsonl` or `.parquet`, a new one after the
//! block in which one has taken `shard_bytes` of text.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use serde::{Deserialize, Serialize};

use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::json;

/// Level 1 packs the sample corpora to 0.37 of their size at a third of level 3's CPU time (0.34).
const ZSTD_LEVEL: i32 = 1;

/// Format of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputFormat {
    /// JSON lines, compressed with zstd.
    #[serde(rename = "jsonl.zst")]
    JsonlZst,
    /// JSON lines.
    #[serde(rename = "jsonl")]
    Jsonl,
    /// Parquet with columns `id`, `text`, `source` and `fields` (the other fields as a JSON object).
    #[serde(rename = "parquet")]
    Parquet,
}

impl OutputFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::JsonlZst => "jsonl.zst",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

/// File name of a shard.
pub fn shard_name(number: usize, format: OutputFormat) -> String {
    format!("{number:05}.{}", format.extension())
}

/// Writer of the shards of one folder.
pub struct ShardWriter<'d> {
    draft: &'d Draft,
    format: OutputFormat,
    shard_bytes: u64,
    shard: Option<(PathBuf, Shard)>,
    /// Shards begun.
    pub num_shards: usize,
    room_bytes: u64,
    /// Documents written.
    pub documents: u64,
    /// Their text, in bytes of UTF-8 as it stands in JSON.
    pub text_bytes: u64,
}

enum Shard {
    Plain(BufWriter<File>),
    Zstd(Box<zstd::Encoder<'static, BufWriter<File>>>),
    Parquet(Box<ParquetShard>),
}

impl<'d> ShardWriter<'d> {
    /// A writer into `draft`; files are made when there is something to write.
    pub fn new(draft: &'d Draft, format: OutputFormat, shard_bytes: u64) -> Self {
        Self::resume(draft, format, shard_bytes, (0, 0, 0))
    }

    /// A writer that goes on after so many (shards, documents, bytes of text).
    pub fn resume(
        draft: &'d Draft,
        format: OutputFormat,
        shard_bytes: u64,
        (num_shards, documents, text_bytes): (usize, u64, u64),
    ) -> Self {
        Self { draft, format, shard_bytes, shard: None, num_shards, room_bytes: 0, documents, text_bytes }
    }

    /// Writes one document, given as its line of JSON.
    pub fn write(&mut self, line: &[u8], text_bytes: u64) -> Result<()> {
        if self.shard.is_none() {
            self.open()?;
        }
        self.room_bytes = self.room_bytes.saturating_sub(text_bytes.max(1));
        self.documents += 1;
        self.text_bytes += text_bytes;
        let Some((path, shard)) = &mut self.shard else { return Ok(()) };
        shard.write(line).map_err(|source| Error::Io { action: "write", path: path.clone(), source })
    }

    /// Completes the last shard; returns (documents, text bytes).
    pub fn finish(mut self) -> Result<(u64, u64)> {
        self.close()?;
        Ok((self.documents, self.text_bytes))
    }

    /// The documents of a block are written: closes the shard if it is full, and says so.
    pub fn end_block(&mut self) -> Result<bool> {
        let is_full = self.shard.is_some() && self.room_bytes == 0;
        if is_full {
            self.close()?;
        }
        Ok(is_full)
    }

    fn open(&mut self) -> Result<()> {
        let path = self.draft.path(&shard_name(self.num_shards, self.format));
        let shard = Shard::create(&path, self.format).map_err(Error::io("create", &path))?;
        self.shard = Some((path, shard));
        self.num_shards += 1;
        self.room_bytes = self.shard_bytes;
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some((path, shard)) = self.shard.take() else { return Ok(()) };
        let sync = || File::open(&path).and_then(|file| file.sync_data());
        shard.finish().and_then(|()| sync()).map_err(Error::io("write", &path))
    }
}

impl Shard {
    fn create(path: &PathBuf, format: OutputFormat) -> std::io::Result<Self> {
        let file = BufWriter::with_capacity(256 << 10, File::create(path)?);
        Ok(match format {
            OutputFormat::Jsonl => Self::Plain(file),
            OutputFormat::JsonlZst => {
                let mut encoder = zstd::Encoder::new(file, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(Box::new(encoder))
            }
            OutputFormat::Parquet => Self::Parquet(Box::new(ParquetShard::new(file)?)),
        })
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(line),
            Self::Zstd(encoder) => encoder.write_all(line),
            Self::Parquet(shard) => shard.write(line),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Zstd(encoder) => encoder.finish()?.flush(),
            Self::Parquet(shard) => shard.finish(),
        }
    }
}

/// Columns of a Parquet shard.
const COLUMNS: [&str; 4] = ["id", "text", "source", "fields"];

/// Bytes of rows held before they become a row group.
const ROW_GROUP_BYTES: usize = 32 << 20;

struct ParquetShard {
    writer: ArrowWriter<BufWriter<File>>,
    columns: [Vec<String>; 4],
    held_bytes: usize,
}

impl ParquetShard {
    fn new(file: BufWriter<File>) -> std::io::Result<Self> {
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let schema = record_batch(&[const { Vec::new() }; 4])?.schema();
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(std::io::Error::other)?;
        Ok(Self { writer, columns: Default::default(), held_bytes: 0 })
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        let line_text = std::str::from_utf8(line).map_err(std::io::Error::other)?;
        let fields = json::object(line_text).map_err(|fault| std::io::Error::other(fault.reason))?;
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

    fn flush(&mut self) -> std::io::Result<()> {
        let batch = record_batch(&self.columns)?;
        self.columns.iter_mut().for_each(Vec::clear);
        self.held_bytes = 0;
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(std::io::Error::other)
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.flush()?;
        self.writer.close().map(drop).map_err(std::io::Error::other)
    }
}

fn record_batch(columns: &[Vec<String>; 4]) -> std::io::Result<RecordBatch> {
    let arrays = columns.iter().map(|values| Arc::new(StringArray::from_iter_values(values)) as ArrayRef);
    RecordBatch::try_from_iter(COLUMNS.into_iter().zip(arrays)).map_err(std::io::Error::other)
}
