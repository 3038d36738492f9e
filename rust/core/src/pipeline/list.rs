//! A list that grows while a run goes on: lines of JSON in a file, cut back to what the
//! journal knows when the run is resumed.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::error::{Error, Result};

/// The list and its size.
pub(super) struct List {
    path: PathBuf,
    file: BufWriter<File>,
    /// Bytes written.
    pub(super) bytes: u64,
}

impl List {
    /// Opens the list for writing after its first `bytes`.
    pub(super) fn open(path: PathBuf, bytes: u64) -> Result<Self> {
        let open = || -> std::io::Result<File> {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.set_len(bytes)?;
            Ok(file)
        };
        let file = open().map_err(Error::io("open", &path))?;
        Ok(Self { path, file: BufWriter::new(file), bytes })
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// Never: entries hold only JSON values.
    pub(super) fn push(&mut self, entry: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(entry).expect("an entry holds only JSON values");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// All that was added is in the file.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }

    /// All that was added is on the disk.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.file.get_ref().sync_data().map_err(Error::io("write", &self.path))
    }
}
