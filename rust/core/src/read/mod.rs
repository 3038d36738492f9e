//! Readers: a file of any format becomes blocks of JSON lines.
//!
//! Whatever the format, what comes out is the same: whole lines of JSON, one record
//! each, about a megabyte together, and the places of what could not be read. So one
//! path follows, and it is the same for all. A reader only cuts a file into units, which
//! takes its order; what a unit costs to decode is left to the thread that takes it.

mod arrow;
mod charset;
mod decompress;
mod frames;
mod hashed;
mod html;
mod inputs;
mod lines;
mod pages;
mod parquet;
mod raw;
mod row_size;
mod rows;
mod thrift;
mod unit;
mod values;
mod warc;
mod whole;
mod window;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::ledger::Counts;
use crate::stoppable::Stoppable;

pub use charset::{decode, Decoded};
pub use html::{extract, Page};
pub use inputs::{distinct, passed_over, resolve, resolve_beside, Input};
pub use raw::Limits;
pub use unit::{Reader, Unit};

/// Bytes of decompressed text in a block, before it is cut at a line.
pub const BLOCK_BYTES: usize = 1 << 20;

/// The name that stands for standard input: JSON lines, plain or compressed.
pub const STANDARD_INPUT: &str = "-";

/// Formats that can be read, by the end of the file's name.
const FORMATS: [(&str, Format); 14] = [
    (".jsonl", Format::Lines),
    (".ndjson", Format::Lines),
    (".txt", Format::Text),
    (".md", Format::Text),
    (".markdown", Format::Text),
    (".html", Format::Html),
    (".htm", Format::Html),
    (".xhtml", Format::Html),
    (".warc", Format::Warc),
    (".warc.wet", Format::Warc),
    (".wet", Format::Warc),
    (".parquet", Format::Parquet),
    (".arrow", Format::Arrow),
    (".feather", Format::Arrow),
];

/// Ends of names that say how a file is compressed.
const COMPRESSIONS: [(&str, Compression); 5] = [
    (".gz", Compression::Gzip),
    (".zst", Compression::Zstd),
    (".zstd", Compression::Zstd),
    (".xz", Compression::Xz),
    (".bz2", Compression::Bzip2),
];

/// Ends of names of archives, which hold files and are none.
const ARCHIVES: [&str; 9] =
    [".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".7z", ".rar"];

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    Text,
    Parquet,
    Arrow,
    Html,
    Warc,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain text",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// Whole lines of JSON from one file.
#[derive(Debug, Default)]
pub struct Block {
    /// Index of the file among the inputs.
    pub file: usize,
    /// Number of its unit in the file, from 0.
    pub number: usize,
    /// More of its unit follows.
    pub is_partial: bool,
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
    /// XXH3-128 of the file (of what it decompresses to) up to where the reader was when it cut this out.
    pub content: u128,
    /// Records that by their kind are no documents (requests of a WARC, say), by kind. Each takes a number,
    /// as an empty line does.
    pub skipped: BTreeMap<&'static str, u64>,
    /// What the disk refused while its lines were decoded: the run ends with it, and no record is bad by it.
    pub refused: Option<Error>,
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
    /// BLAKE3 of the file on disk, in hexadecimal as `b3sum` prints it; empty where it was not read.
    pub blake3: String,
}

/// BLAKE3 of a file's content in hexadecimal.
///
/// # Errors
/// `Io` if the file cannot be read; `Interrupted` once somebody asks to stop.
pub(crate) fn blake3_file(path: &Path, is_stopped: &dyn Fn() -> bool) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    Stoppable::open(path, is_stopped)?.read_by(|file| hasher.update_reader(file).map(drop))?;
    Ok(hasher.finalize().to_string())
}

/// A file of one format while it is read, from front to back.
trait Reading: Send {
    /// The next unit, or `None` at the end.
    fn next_unit(&mut self) -> Result<Option<Unit>>;

    /// Takes back the memory of a block, for another.
    fn recycle(&mut self, _bytes: Vec<u8>) {}

    /// Size and hash of the file, after its last unit.
    fn finish(&mut self) -> Result<(u64, String)>;
}

/// Opens the file by the end of its name.
pub fn open(path: &Path, text_field: &str, limits: Limits) -> Result<Reader> {
    let (format, compression) = kind(path).ok_or_else(|| unreadable(path))?;
    let reading: Box<dyn Reading> = match format {
        Format::Lines => Box::new(lines::LineReader::open(path, compression, limits)?),
        Format::Text => Box::new(whole::FileReader::open_text(path, compression, text_field, limits)?),
        Format::Html => Box::new(whole::FileReader::open_html(path, compression, text_field, limits)?),
        Format::Warc => Box::new(warc::WarcReader::open(path, compression, text_field, limits)?),
        Format::Parquet => parquet::open(path, text_field, limits)?,
        Format::Arrow => arrow::open(path, compression, text_field, limits)?,
    };
    Ok(Reader::new(reading))
}

/// True for a name of a format that is read.
pub fn is_readable(path: &Path) -> bool {
    kind(path).is_some()
}

/// The name of a file without the ends that say format and compression.
pub fn source_name(path: &Path) -> String {
    let name = file_name(path);
    let plain = COMPRESSIONS.iter().find_map(|(end, _)| without_end(&name, end)).unwrap_or(&name);
    FORMATS.iter().find_map(|(end, _)| without_end(plain, end)).unwrap_or(plain).to_owned()
}

/// A name without its end, in capitals or not: some systems write `INDEX.HTM`.
fn without_end<'n>(name: &'n str, end: &str) -> Option<&'n str> {
    let (plain, found) = name.split_at_checked(name.len().checked_sub(end.len())?)?;
    found.eq_ignore_ascii_case(end).then_some(plain)
}

/// The name of a file without its folder; `stdin` for standard input.
pub fn file_name(path: &Path) -> String {
    if path.as_os_str() == STANDARD_INPUT {
        return "stdin".to_owned();
    }
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn kind(path: &Path) -> Option<(Format, Compression)> {
    if path.as_os_str() == STANDARD_INPUT {
        return Some((Format::Lines, Compression::Plain));
    }
    let name = file_name(path);
    let compressed = COMPRESSIONS.iter().find_map(|(end, kind)| Some((without_end(&name, end)?, *kind)));
    let (plain, compression) = compressed.unwrap_or((&name, Compression::Plain));
    let found = FORMATS.iter().find(|(end, _)| without_end(plain, end).is_some());
    let format = found.map(|(_, format)| *format)?;
    (format != Format::Parquet || compression == Compression::Plain).then_some((format, compression))
}

fn unreadable(path: &Path) -> Error {
    let name = file_name(path);
    let archive = ARCHIVES.iter().find(|end| without_end(&name, end).is_some());
    let found = match (archive, path.extension()) {
        (Some(end), _) => format!("`{end}`, an archive: unpack it and name the files that were in it"),
        (None, Some(end)) => format!("`.{}`", end.to_string_lossy()),
        (None, None) => "no extension".to_owned(),
    };
    let names: Vec<String> = FORMATS.iter().map(|(end, _)| format!("`{end}`")).collect();
    let ends: Vec<String> = COMPRESSIONS.iter().map(|(end, _)| format!("`{end}`")).collect();
    Error::InvalidValue {
        what: format!("input `{}`", path.display()),
        expected: format!("a name in {}, which may be followed by {}", names.join(", "), ends.join(", ")),
        found,
    }
}

fn invalid_file(path: &Path, expected: &str, found: &dyn std::fmt::Display) -> Error {
    Error::InvalidFile { path: PathBuf::from(path), expected: expected.to_owned(), found: found.to_string() }
}
