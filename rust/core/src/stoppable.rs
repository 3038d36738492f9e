//! A file whose reading can be stopped: to hash gigabytes takes minutes, in which Ctrl-C must be heard.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file that is read until somebody asks to stop.
pub(crate) struct Stoppable<'s> {
    file: File,
    path: PathBuf,
    is_stopped: &'s dyn Fn() -> bool,
}

impl<'s> Stoppable<'s> {
    pub(crate) fn open(path: &Path, is_stopped: &'s dyn Fn() -> bool) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Ok(Self { file, path: path.to_owned(), is_stopped })
    }

    /// Has `take` read the file.
    ///
    /// # Errors
    /// `Interrupted`, or `Io`.
    pub(crate) fn read_by<T>(mut self, take: impl FnOnce(&mut Self) -> io::Result<T>) -> Result<T> {
        take(&mut self).map_err(|source| {
            if (self.is_stopped)() {
                return Error::Interrupted;
            }
            Error::Io { action: "read", path: self.path, source }
        })
    }
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.is_stopped)() {
            return Err(io::Error::other("stopped"));
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_file_is_read_until_somebody_asks_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let asked = Cell::new(0);
        let hash = |most: u32| {
            let is_stopped = || asked.replace(asked.get() + 1) >= most;
            asked.set(0);
            crate::manifest::sha256_file_until(&path, &is_stopped)
        };
        assert_eq!(hash(u32::MAX).unwrap(), crate::manifest::sha256(&vec![7; 1 << 20]));
        assert!(matches!(hash(3), Err(Error::Interrupted)));
        assert!(asked.get() < 6, "{} blocks were read", asked.get());
    }
}
