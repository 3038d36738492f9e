//! Shards of documents: `NNNNN.jsonl.zst`, `.jsonl` or `.parquet`, a new one after the
//! block in which one has taken `shard_bytes` of text.

mod frames;
mod hashed;
mod parquet;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::manifest::FileEntry;

use frames::Packer;
use hashed::HashedFile;
use parquet::ParquetShard;

/// Bytes of lines after which they are written, or packed into a frame of zstd: at 1 MiB the sample
/// corpora pack to within 1 % of what one frame a shard packs them to.
const FRAME_BYTES: usize = 1 << 20;

/// Format of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputFormat {
    /// JSON lines in seekable frames of zstd.
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
    /// The format of the parts of a run: rows of Parquet are not the lines that are to be merged.
    pub(crate) fn of_parts(self) -> Self {
        if self == Self::Parquet {
            Self::JsonlZst
        } else {
            self
        }
    }

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
    /// Packs the frames of all shards, in turn.
    packer: Packer,
    /// Shards begun.
    pub num_shards: usize,
    room_bytes: u64,
    /// Documents written.
    pub documents: u64,
    /// Their text, in bytes of UTF-8 as it stands in JSON.
    pub text_bytes: u64,
}

enum Shard {
    Lines(Lines),
    Parquet(Box<ParquetShard>),
}

impl<'d> ShardWriter<'d> {
    /// A writer into `draft` that goes on after so many (shards, documents, bytes of text). Files are made
    /// when there is something to write; frames are packed on so many threads, or on the calling one.
    pub fn resume(
        draft: &'d Draft,
        (format, shard_bytes): (OutputFormat, u64),
        (num_shards, documents, text_bytes): (usize, u64, u64),
        num_threads: usize,
    ) -> Result<Self> {
        let num_threads = if format == OutputFormat::JsonlZst { num_threads } else { 0 };
        let packer = Packer::new(num_threads).map_err(Error::io("start a thread for", draft.path("")))?;
        let (shard, room_bytes) = (None, 0);
        Ok(Self { draft, format, shard_bytes, shard, packer, num_shards, room_bytes, documents, text_bytes })
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
        shard.write(line, &mut self.packer).map_err(|error| failed("write", path, error))
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
        let entry = shard.finish(&mut self.packer).map_err(|error| failed("write", &path, error))?;
        self.draft.know(&path, entry);
        Ok(())
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}

impl Shard {
    fn create(path: &Path, format: OutputFormat) -> io::Result<Self> {
        let file = HashedFile::create(path)?;
        Ok(match format {
            OutputFormat::Parquet => Self::Parquet(Box::new(ParquetShard::new(file)?)),
            _ => Self::Lines(Lines { file, held: Vec::new(), is_packed: format == OutputFormat::JsonlZst }),
        })
    }

    fn write(&mut self, line: &[u8], packer: &mut Packer) -> io::Result<()> {
        match self {
            Self::Lines(lines) => lines.write(line, packer),
            Self::Parquet(shard) => shard.write(line),
        }
    }

    fn finish(self, packer: &mut Packer) -> io::Result<FileEntry> {
        match self {
            Self::Lines(lines) => lines.finish(packer),
            Self::Parquet(shard) => shard.finish(),
        }
    }
}

/// A shard of JSON lines.
struct Lines {
    file: HashedFile,
    /// Lines not written yet.
    held: Vec<u8>,
    is_packed: bool,
}

impl Lines {
    fn write(&mut self, line: &[u8], packer: &mut Packer) -> io::Result<()> {
        self.held.extend_from_slice(line);
        if self.held.len() < FRAME_BYTES {
            return Ok(());
        }
        self.pass_on(packer)
    }

    fn pass_on(&mut self, packer: &mut Packer) -> io::Result<()> {
        if self.is_packed {
            return packer.push(&mut self.held, &mut self.file);
        }
        self.file.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }

    fn finish(mut self, packer: &mut Packer) -> io::Result<FileEntry> {
        if !self.held.is_empty() {
            self.pass_on(packer)?;
        }
        if self.is_packed {
            packer.finish(&mut self.file)?;
        }
        self.file.finish()
    }
}
