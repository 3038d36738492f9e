//! Readers: a file of any format becomes blocks of JSON lines.
//!
//! Whatever the format, what comes out is the same: whole lines of JSON, one record
//! each, a few megabytes together, and the places of what could not be read. So one
//! path follows, and it is the same for all.

mod inputs;
mod lines;
mod parquet;
mod raw;
mod whole;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::ledger::Counts;

pub use inputs::{resolve, Input};
pub use raw::Limits;

/// Bytes of decompressed text in a block, before it is cut at a line.
pub const BLOCK_BYTES: usize = 4 << 20;

/// Formats that can be read, by the end of the file's name.
const FORMATS: [(&str, Format); 4] = [
    (".jsonl", Format::Lines),
    (".ndjson", Format::Lines),
    (".txt", Format::Text),
    (".parquet", Format::Parquet),
];

/// Ends of names that say how a file is compressed.
const COMPRESSIONS: [(&str, Compression); 2] = [(".gz", Compression::Gzip), (".zst", Compression::Zstd)];

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    Text,
    Parquet,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// Whole lines of JSON from one file.
#[derive(Debug, Default)]
pub struct Block {
    /// Index of the file among the inputs.
    pub file: usize,
    /// Number of the block in its file, from 0.
    pub number: usize,
    /// The lines.
    pub bytes: Vec<u8>,
    /// 1-based number of the first line (row, for Parquet).
    pub first_line: u64,
    /// Offset of the first byte in the decompressed file; `None` if lines were made here.
    pub first_byte: Option<u64>,
    /// Records that the reader could not give, each to be counted as read and quarantined.
    pub bad: Vec<BadRecord>,
    /// Bytes of the file, as on disk, read since the last block.
    pub disk_bytes: u64,
    /// What a part of the run has counted of this block, if one has prepared it.
    pub counts: Option<Counts>,
    /// XXH3-128 of the lines of this file up to the end of this block.
    pub content: u128,
}

/// Where a record could not be read, and why. Never its text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BadRecord {
    /// 1-based line or row.
    pub line: u64,
    /// Offset of the line's first byte in the decompressed file.
    pub byte: u64,
    /// What was expected and found.
    pub reason: String,
}

/// Size and hash of a file that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileFacts {
    /// The path as it was given.
    pub file: String,
    /// Size on disk.
    pub bytes: u64,
    /// SHA-256 of the file on disk.
    pub sha256: String,
}

/// A reader of one file.
pub trait Reader: Send {
    /// The next block, or `None` at the end.
    fn next_block(&mut self) -> Result<Option<Block>>;

    /// Takes back the memory of a block, for another.
    fn recycle(&mut self, _bytes: Vec<u8>) {}

    /// Size and hash of the file, after its last block.
    fn finish(&mut self) -> Result<(u64, String)>;
}

/// Opens the file by the end of its name.
pub fn open(path: &Path, text_field: &str, limits: Limits) -> Result<Box<dyn Reader>> {
    let (format, compression) = kind(path).ok_or_else(|| unreadable(path))?;
    match format {
        Format::Lines => Ok(Box::new(lines::LineReader::open(path, compression, limits)?)),
        Format::Text => Ok(Box::new(whole::TextReader::open(path, compression, text_field, limits)?)),
        Format::Parquet => Ok(Box::new(parquet::ParquetReader::open(path, text_field)?)),
    }
}

/// The name of a file without the ends that say format and compression.
pub fn source_name(path: &Path) -> String {
    let name = file_name(path);
    let plain = COMPRESSIONS.iter().find_map(|(end, _)| name.strip_suffix(end)).unwrap_or(&name);
    FORMATS.iter().find_map(|(end, _)| plain.strip_suffix(end)).unwrap_or(plain).to_owned()
}

/// The name of a file without its folder.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn kind(path: &Path) -> Option<(Format, Compression)> {
    let name = file_name(path);
    let compressed = COMPRESSIONS.iter().find_map(|(end, kind)| Some((name.strip_suffix(end)?, *kind)));
    let (plain, compression) = compressed.unwrap_or((&name, Compression::Plain));
    let format = FORMATS.iter().find(|(end, _)| plain.ends_with(end)).map(|(_, format)| *format)?;
    (format != Format::Parquet || compression == Compression::Plain).then_some((format, compression))
}

fn unreadable(path: &Path) -> Error {
    let found =
        path.extension().map_or_else(|| "no extension".into(), |end| format!("`.{}`", end.to_string_lossy()));
    Error::InvalidValue {
        what: format!("input `{}`", path.display()),
        expected: "`.jsonl`, `.ndjson` or `.txt` (also with `.gz` or `.zst`), or `.parquet`".to_owned(),
        found,
    }
}

fn invalid_file(path: &Path, expected: &str, found: &dyn std::fmt::Display) -> Error {
    Error::InvalidFile { path: PathBuf::from(path), expected: expected.to_owned(), found: found.to_string() }
}
