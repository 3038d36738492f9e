//! Files read at given offsets, of which a process holds a bounded number open.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::integrity;
use crate::error::{Error, Result};

/// Files that are held open, of all shards of the process; the rest are opened for each read. A process may have
/// 1,024 on most systems, which shards of 137 billion tokens would use up.
const MAX_HELD: usize = 256;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// A file read at given offsets, from any number of threads.
#[derive(Debug)]
pub(super) struct PositionedFile {
    path: PathBuf,
    held: Option<Held>,
}

/// An open file that counts as held until it is dropped.
#[derive(Debug)]
struct Held(File);

impl Held {
    /// The file itself if as many are held as may be.
    fn new(file: File) -> std::result::Result<Self, File> {
        let below = |held: usize| (held < MAX_HELD).then_some(held + 1);
        match HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below) {
            Ok(_) => Ok(Self(file)),
            Err(_) => Err(file),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PositionedFile {
    /// Opens the file, and holds it open if there is room.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        Ok(Self { held: Held::new(file).ok(), path })
    }

    /// The file, for messages.
    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Fills `buffer` from byte `offset` on.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if let Some(Held(file)) = &self.held {
            return self.read_from(file, offset, buffer);
        }
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        self.read_from(&file, offset, buffer)
    }

    fn read_from(&self, file: &File, offset: u64, buffer: &mut [u8]) -> Result<()> {
        read_exact_at(file, buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let end = offset + buffer.len() as u64;
                integrity(&self.path, format!("at least {end} bytes"), "an end before")
            }
            _ => Error::io("read", &self.path)(error),
        })
    }
}

#[cfg(not(windows))]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Windows moves the file's own place at each read, which nobody here asks for.
#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}
