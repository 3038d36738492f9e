//! A file being written: under a temporary name beside its final one, synced, and renamed. A file under its final
//! name is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file under a temporary name beside its final one. Dropped before it is renamed, it is removed.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
    is_renamed: bool,
}

impl NewFile {
    /// Begins a file that will be called `path`.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default();
        let temporary = path.with_file_name(format!(".tmp-{}", name.to_string_lossy()));
        let file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { file, temporary, path: path.to_owned(), is_renamed: false })
    }

    /// Writes a part of it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.temporary))
    }

    /// Writes the rest of it and brings it to the disk.
    pub(crate) fn fill(mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<Self> {
        let file = &mut self.file;
        let written = write(file).and_then(|()| file.flush()).and_then(|()| file.get_ref().sync_all());
        written.map_err(Error::io("write", &self.temporary))?;
        Ok(self)
    }

    /// Gives the file its name.
    pub(crate) fn rename(mut self) -> Result<()> {
        fs::rename(&self.temporary, &self.path).map_err(Error::io("rename into place", &self.path))?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_renamed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
