//! A file that is being fetched: what there is of it, hashed as it comes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::manifest::{self, FileEntry};

/// A part of a file in the cache, under a name of its own until it is whole and checked.
pub(super) struct Part {
    path: PathBuf,
    target: PathBuf,
    file: File,
    hasher: Sha256,
    bytes: u64,
}

impl Part {
    /// Goes on with what an earlier try has left, or begins.
    pub fn open(target: &Path) -> Result<Self> {
        let path = path(target);
        let open = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let mut part = Self {
            file: open.map_err(Error::io("open", &path))?,
            target: target.to_owned(),
            hasher: Sha256::new(),
            bytes: 0,
            path,
        };
        part.hash_what_is_there().map_err(Error::io("read", &part.path))?;
        Ok(part)
    }

    fn hash_what_is_there(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                count => {
                    self.hasher.update(&buffer[..count]);
                    self.bytes += count as u64;
                }
            }
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds what came.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its name if it has the hash that it should have; else removes it, and gives the hash
    /// that it has.
    pub fn finish(self, expected: &FileEntry) -> Result<std::result::Result<(), String>> {
        let found = manifest::hex(&self.hasher.finalize());
        if found != expected.sha256 {
            discard(&self.target)?;
            return Ok(Err(found));
        }
        self.file.sync_all().map_err(Error::io("sync", &self.path))?;
        fs::rename(&self.path, &self.target).map_err(Error::io("rename into place", &self.target))?;
        Ok(Ok(()))
    }
}

/// Removes what there is of a file.
pub(super) fn discard(target: &Path) -> Result<()> {
    let path = path(target);
    fs::remove_file(&path).map_err(Error::io("remove", path))
}

fn path(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.part"))
}
