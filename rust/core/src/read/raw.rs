//! Bytes of a file, decompressed, hashed on the way, within limits.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::Compression;
use crate::error::{Error, Result};

/// What a single file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest line kept, in bytes; a longer one is quarantined without being held.
    pub max_line_bytes: usize,
    /// Most bytes that a compressed file may decompress to.
    pub max_file_bytes: u64,
    /// Most decompressed bytes per compressed byte, once past [`EXPANSION_FREE_BYTES`].
    pub max_expansion: u64,
}

impl Limits {
    /// For files that were written here: their lines are longer by what was added to them, and
    /// they may expand to what was read, however much that is.
    pub(crate) fn of_own_files() -> Self {
        Self { max_line_bytes: usize::MAX >> 1, max_file_bytes: u64::MAX, max_expansion: u64::from(u32::MAX) }
    }
}

/// Decompressed size below which any ratio is fine: 64 MiB fit anywhere.
pub const EXPANSION_FREE_BYTES: u64 = 64 << 20;

/// What is known of the file on disk while it is being read.
#[derive(Debug, Default)]
struct Disk {
    hasher: Sha256,
    bytes: u64,
    /// The disk itself failed, so that a decoder's complaint is not about the data.
    failed: bool,
}

#[derive(Debug)]
struct HashingFile {
    file: File,
    disk: Arc<Mutex<Disk>>,
}

impl Read for HashingFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.file.read(buffer);
        let mut disk = lock(&self.disk);
        match &result {
            Ok(count) => {
                disk.hasher.update(&buffer[..*count]);
                disk.bytes += *count as u64;
            }
            Err(error) => disk.failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        result
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How reading a piece ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// More may follow.
    More,
    /// The file ended well.
    End,
    /// The compressed data ended early or is damaged, as the message says.
    Damaged(String),
}

/// A file being read.
pub(super) struct RawFile {
    path: PathBuf,
    decoder: Box<dyn Read + Send>,
    disk: Arc<Mutex<Disk>>,
    is_compressed: bool,
    limits: Limits,
    /// Decompressed bytes so far.
    pub(super) offset: u64,
    reported: u64,
}

/// Bytes asked from the disk at once.
const DISK_BYTES: usize = 256 << 10;

impl RawFile {
    pub(super) fn open(path: &Path, compression: Compression, limits: Limits) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let disk = Arc::new(Mutex::new(Disk::default()));
        let source = HashingFile { file, disk: Arc::clone(&disk) };
        let is_compressed = compression != Compression::Plain;
        let decoder = decoder(source, compression).map_err(Error::io("read", path))?;
        Ok(Self { path: path.to_owned(), decoder, disk, is_compressed, limits, offset: 0, reported: 0 })
    }

    /// Appends up to `count` decompressed bytes.
    pub(super) fn read(&mut self, count: usize, buffer: &mut Vec<u8>) -> Result<Piece> {
        let before = buffer.len();
        let result = self.decoder.by_ref().take(count as u64).read_to_end(buffer);
        self.offset += (buffer.len() - before) as u64;
        self.check_limits()?;
        match result {
            Ok(read) if read < count => Ok(Piece::End),
            Ok(_) => Ok(Piece::More),
            Err(source) if lock(&self.disk).failed || !self.is_compressed => {
                Err(Error::Io { action: "read", path: self.path.clone(), source })
            }
            Err(error) => Ok(Piece::Damaged(error.to_string())),
        }
    }

    /// Bytes read from disk since this was last asked.
    pub(super) fn take_disk_bytes(&mut self) -> u64 {
        let bytes = lock(&self.disk).bytes;
        bytes - std::mem::replace(&mut self.reported, bytes)
    }

    /// Reads what the decoder left, and gives size and hash of the whole file.
    pub(super) fn finish(&mut self) -> Result<(u64, String)> {
        let bytes = lock(&self.disk).bytes;
        let size = std::fs::metadata(&self.path).map_err(Error::io("read", &self.path))?.len();
        if bytes != size {
            return Ok((size, crate::manifest::sha256_file(&self.path)?));
        }
        let hasher = std::mem::take(&mut lock(&self.disk).hasher);
        Ok((bytes, crate::manifest::hex(&hasher.finalize())))
    }

    fn check_limits(&self) -> Result<()> {
        let allowed = (lock(&self.disk).bytes * self.limits.max_expansion).max(EXPANSION_FREE_BYTES);
        if !self.is_compressed || self.offset <= allowed.min(self.limits.max_file_bytes) {
            return Ok(());
        }
        Err(Error::Resource {
            what: format!(
                "decompressing `{}`, {} bytes on disk",
                self.path.display(),
                lock(&self.disk).bytes
            ),
            limit: format!(
                "{} bytes (`max_file_bytes` or {} times its size, `max_expansion`)",
                allowed.min(self.limits.max_file_bytes),
                self.limits.max_expansion
            ),
            needed: format!("more than {} bytes", self.offset),
        })
    }
}

/// Decoders read all members of a gzip file and all frames of a zstd file.
fn decoder(source: HashingFile, compression: Compression) -> io::Result<Box<dyn Read + Send>> {
    match compression {
        Compression::Plain => Ok(Box::new(source)),
        Compression::Gzip => {
            Ok(Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(DISK_BYTES, source))))
        }
        Compression::Zstd => {
            Ok(Box::new(zstd::Decoder::with_buffer(BufReader::with_capacity(DISK_BYTES, source))?))
        }
    }
}
