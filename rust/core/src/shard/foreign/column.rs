//! The numbers of an index, read one after another: an index of any size costs 64 KiB of memory.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::cut_while_read;
use crate::error::{Error, Result};

/// Numbers of an index, read in order.
pub(super) struct Column {
    path: PathBuf,
    file: BufReader<File>,
    /// Offset of the next number.
    pub at_byte: u64,
}

impl Column {
    /// The numbers that begin at `first_byte`.
    pub fn open(path: &Path, first_byte: u64) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        file.seek(SeekFrom::Start(first_byte)).map_err(Error::io("read", path))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(64 << 10, file),
            at_byte: first_byte,
        })
    }

    /// The bytes of the next number.
    pub fn next<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|error| cut_while_read(&self.path, error))?;
        self.at_byte += N as u64;
        Ok(bytes)
    }
}
