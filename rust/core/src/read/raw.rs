//! Bytes of a file, decompressed, hashed on the way, within limits.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::decompress::{self, Undecodable, HEAD_BYTES};
use super::frames::Frames;
use super::{Block, Compression, STANDARD_INPUT};
use crate::error::{Error, Place, Result};

/// What a single file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest line kept, in bytes; a longer one is quarantined without being held.
    pub max_line_bytes: usize,
    /// Most bytes that a compressed file may decompress to.
    pub max_file_bytes: u64,
    /// Most decompressed bytes per compressed byte, once past [`EXPANSION_FREE_BYTES`].
    pub max_expansion: u64,
    /// Threads that prepare what is read, for which some are started that decompress; 0 for none.
    pub num_threads: usize,
}

impl Limits {
    /// For files that were written here: their lines are longer by what was added to them, and
    /// they may expand to what was read, however much that is.
    pub(crate) fn of_own_files() -> Self {
        Self {
            max_line_bytes: usize::MAX >> 1,
            max_file_bytes: u64::MAX,
            max_expansion: u64::from(u32::MAX),
            num_threads: 0,
        }
    }
}

/// Decompressed size below which any ratio is fine: 64 MiB fit anywhere.
pub const EXPANSION_FREE_BYTES: u64 = 64 << 20;

/// The file on disk, or standard input, and what is known of it while it is being read.
struct Disk {
    source: Box<dyn Read + Send>,
    /// What is read, and how it was when it was opened; `None` for what is no file.
    file: Option<(File, Metadata)>,
    hasher: blake3::Hasher,
    bytes: u64,
    /// The disk itself failed, so that a decoder's complaint is not about the data.
    failed: bool,
}

impl Disk {
    fn open(path: &Path) -> Result<Self> {
        let (source, file): (Box<dyn Read + Send>, _) = if path.as_os_str() == STANDARD_INPUT {
            (Box::new(io::stdin()), None)
        } else {
            let (file, metadata) = open_file(path)?;
            (Box::new(file.try_clone().map_err(Error::io("open", path))?), Some((file, metadata)))
        };
        Ok(Self { source, file, hasher: blake3::Hasher::new(), bytes: 0, failed: false })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.source.read(buffer);
        match &result {
            Ok(count) => {
                self.hasher.update(&buffer[..*count]);
                self.bytes += *count as u64;
            }
            Err(error) => self.failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        result
    }
}

/// Opens a file, and says how it is now.
pub(super) fn open_file(path: &Path) -> Result<(File, Metadata)> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let metadata = file.metadata().map_err(Error::io("open", path))?;
    Ok((file, metadata))
}

/// Checks that a file of which `read` bytes were read is as it was when it was opened.
///
/// # Errors
/// `Integrity` if it was written to or cut meanwhile: what was read is neither the old nor the new content.
pub(super) fn check_unchanged(path: &Path, file: &File, before: &Metadata, read: u64) -> Result<()> {
    let now = file.metadata().map_err(Error::io("read", path))?;
    let is_same = now.len() == before.len() && now.modified().ok() == before.modified().ok();
    if !before.is_file() || is_same && read == now.len() {
        return Ok(());
    }
    Err(Error::Integrity {
        path: path.to_owned(),
        expected: format!("a file that nobody writes to while it is read, {} bytes", before.len()),
        found: format!("{} bytes, of which {read} were read", now.len()),
    })
}

/// A decoder's end of the disk; the other end is kept, to read what the decoder leaves.
struct SharedDisk(Arc<Mutex<Disk>>);

impl Read for SharedDisk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).read(buffer)
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
    /// The compressed data ended early or is damaged, or the file is of another kind, as the message says.
    Damaged(String),
}

/// A file being read.
pub(super) struct RawFile {
    path: PathBuf,
    decoder: Box<dyn Read + Send>,
    disk: Arc<Mutex<Disk>>,
    is_compressed: bool,
    /// It is to be UTF-8 text.
    is_text: bool,
    limits: Limits,
    /// Decompressed bytes so far.
    pub(super) offset: u64,
    /// Of the decompressed bytes so far.
    content: Xxh3,
    reported: u64,
}

/// Bytes asked from the disk at once.
const DISK_BYTES: usize = 256 << 10;

impl RawFile {
    /// Opens a file of UTF-8 text.
    pub(super) fn open(path: &Path, named: Compression, limits: Limits) -> Result<Self> {
        Self::open_as(path, named, limits, true)
    }

    /// Opens a file that need not be UTF-8 text.
    pub(super) fn open_binary(path: &Path, named: Compression, limits: Limits) -> Result<Self> {
        Self::open_as(path, named, limits, false)
    }

    fn open_as(path: &Path, named: Compression, limits: Limits, is_text: bool) -> Result<Self> {
        let disk = Arc::new(Mutex::new(Disk::open(path)?));
        let mut source = SharedDisk(Arc::clone(&disk));
        let mut head = Vec::new();
        source.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(Error::io("read", path))?;
        let found = decompress::detect(&head, named, is_text);
        let is_compressed = found != Ok(Compression::Plain);
        let source = BufReader::with_capacity(DISK_BYTES, io::Cursor::new(head).chain(source));
        let decoder = match found {
            Ok(framed @ (Compression::Zstd | Compression::Gzip)) => {
                Box::new(Frames::new(Box::new(source), framed, limits.num_threads))
            }
            Ok(compression) => decompress::decoder(source, compression).map_err(Error::io("read", path))?,
            Err(reason) => Box::new(Undecodable(reason)),
        };
        let (path, content) = (path.to_owned(), Xxh3::new());
        Ok(Self { path, decoder, disk, is_compressed, is_text, limits, offset: 0, content, reported: 0 })
    }

    /// Appends up to `count` decompressed bytes.
    pub(super) fn read(&mut self, count: usize, buffer: &mut Vec<u8>) -> Result<Piece> {
        let (before, is_head) = (buffer.len(), self.offset == 0);
        let result = self.decoder.by_ref().take(count as u64).read_to_end(buffer);
        self.offset += (buffer.len() - before) as u64;
        self.content.update(&buffer[before..]);
        self.check_limits()?;
        let foreign = (is_head && self.is_compressed && result.is_ok())
            .then(|| decompress::foreign_inside(&buffer[before..], self.is_text))
            .flatten();
        if let Some(reason) = foreign {
            buffer.truncate(before);
            return Ok(Piece::Damaged(reason));
        }
        match result {
            Ok(read) if read < count => Ok(Piece::End),
            Ok(_) => Ok(Piece::More),
            Err(source) if lock(&self.disk).failed || !self.is_compressed => {
                Err(Error::Io { action: "read", path: self.path.clone(), source })
            }
            Err(error) if decompress::is_over_window(&error) => Err(self.over_window(&error)),
            Err(error) if Undecodable::is_behind(&error) => Ok(Piece::Damaged(error.to_string())),
            Err(error) => {
                Ok(Piece::Damaged(format!("the compressed data ends early or is damaged: {error}")))
            }
        }
    }

    /// Bytes read from disk since this was last asked.
    fn take_disk_bytes(&mut self) -> u64 {
        let bytes = lock(&self.disk).bytes;
        bytes - std::mem::replace(&mut self.reported, bytes)
    }

    /// A block without lines, cut out of what was read.
    pub(super) fn block(&mut self) -> Block {
        let content = self.content.digest128();
        Block { disk_bytes: self.take_disk_bytes(), content, ..Block::default() }
    }

    /// Reads what the decoder left, and gives size and hash of the whole file.
    pub(super) fn finish(&mut self) -> Result<(u64, String)> {
        let mut buffer = vec![0; DISK_BYTES];
        let mut disk = lock(&self.disk);
        loop {
            match disk.read(&mut buffer) {
                Ok(0) => break,
                Err(source) if source.kind() != io::ErrorKind::Interrupted => {
                    return Err(Error::Io { action: "read", path: self.path.clone(), source });
                }
                _ => (),
            }
        }
        if let Some((file, before)) = &disk.file {
            check_unchanged(&self.path, file, before, disk.bytes)?;
        }
        Ok((disk.bytes, disk.hasher.finalize().to_string()))
    }

    fn over_window(&self, error: &io::Error) -> Error {
        Error::Resource {
            what: format!("decompressing `{}`", self.path.display()),
            limit: format!("a window of {} bytes, a quarter of free memory", decompress::max_window_bytes()),
            needed: format!("more ({error}); compress it again without `--long`"),
        }
        .at(self.place())
    }

    /// How far it was decompressed.
    fn place(&self) -> Place {
        Place { file: Some(self.path.clone()), line: None, byte: Some(self.offset) }
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
        }
        .at(self.place()))
    }
}
