//! A file that others read at any place, hashed from front to back beside them.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::raw::{check_unchanged, open_file};
use super::Block;
use crate::error::{Error, Result};

/// Bytes hashed at once.
const STEP_BYTES: usize = 256 << 10;

/// A file and the hashes of its first bytes.
pub(super) struct HashedFile {
    pub(super) path: PathBuf,
    file: File,
    /// The file as it was when it was opened.
    opened: Metadata,
    whole: blake3::Hasher,
    content: Xxh3,
    /// Bytes that are hashed.
    at: u64,
    buffer: Vec<u8>,
}

impl HashedFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (file, opened) = open_file(path)?;
        let (whole, content, buffer) = (blake3::Hasher::new(), Xxh3::new(), vec![0; STEP_BYTES]);
        Ok(Self { path: path.to_owned(), file, opened, whole, content, at: 0, buffer })
    }

    /// The same file, opened once more, to be read by another thread.
    ///
    /// # Errors
    /// `Integrity` if another file has taken its name, or it was written to.
    pub(super) fn open_again(&self) -> Result<File> {
        let (file, _) = open_file(&self.path)?;
        check_unchanged(&self.path, &file, &self.opened, self.opened.len())?;
        Ok(file)
    }

    /// A block without lines, cut out of the file up to byte `end`.
    pub(super) fn block(&mut self, end: u64) -> Result<Block> {
        let before = self.at;
        self.hash_to(end)?;
        let content = self.content.digest128();
        Ok(Block { disk_bytes: self.at - before, content, ..Block::default() })
    }

    fn hash_to(&mut self, end: u64) -> Result<()> {
        while self.at < end {
            let step = (end - self.at).min(STEP_BYTES as u64) as usize;
            match self.file.read(&mut self.buffer[..step]) {
                Ok(0) => break,
                Ok(count) => {
                    self.whole.update(&self.buffer[..count]);
                    self.content.update(&self.buffer[..count]);
                    self.at += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(source) => return Err(Error::Io { action: "read", path: self.path.clone(), source }),
            }
        }
        Ok(())
    }

    /// Size and BLAKE3 of the whole file.
    pub(super) fn finish(&mut self) -> Result<(u64, String)> {
        self.hash_to(u64::MAX)?;
        check_unchanged(&self.path, &self.file, &self.opened, self.at)?;
        Ok((self.at, self.whole.finalize().to_string()))
    }
}
