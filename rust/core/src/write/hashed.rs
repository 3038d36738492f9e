//! A file that is hashed as it is written and synced as it grows, so that finishing a
//! folder need not read it again, nor wait for all of it to reach the disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use crate::manifest::{self, FileEntry};

/// Bytes after which the disk is asked to begin: a tenth of a second's work of one thread.
/// Left to the end, the sync of 160 MB took a third of a whole run's time.
const SYNC_BYTES: u64 = 16 << 20;

/// A new file on its way to a manifest.
pub(super) struct HashedFile {
    file: File,
    hasher: Sha256,
    bytes: u64,
    synced_bytes: u64,
    /// A sync in the background, at most one.
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl HashedFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self { file, hasher: Sha256::new(), bytes: 0, synced_bytes: 0, syncing: None })
    }

    /// Syncs the whole file; gives its size and hash.
    pub(super) fn finish(mut self) -> io::Result<FileEntry> {
        self.end_sync()?;
        self.file.sync_all()?;
        Ok(FileEntry { bytes: self.bytes, sha256: manifest::hex(&self.hasher.finalize()) })
    }

    /// Begins a sync if there is enough to sync and none under way.
    fn begin_sync(&mut self) -> io::Result<()> {
        let is_busy = self.syncing.as_ref().is_some_and(|thread| !thread.is_finished());
        if is_busy || self.bytes - self.synced_bytes < SYNC_BYTES {
            return Ok(());
        }
        self.end_sync()?;
        self.synced_bytes = self.bytes;
        let file = self.file.try_clone()?;
        self.syncing = Some(std::thread::Builder::new().spawn(move || file.sync_data())?);
        Ok(())
    }

    /// Waits for the sync under way: the system reports a fault of the disk only once.
    fn end_sync(&mut self) -> io::Result<()> {
        let ended = |thread: JoinHandle<io::Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has ended")))
        };
        self.syncing.take().map_or(Ok(()), ended)
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        self.begin_sync()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // there is no buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_that_of_the_file_read_back_also_across_syncs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut file = HashedFile::create(&path).unwrap();
        for byte in 0..40 {
            file.write_all(&vec![byte; 1 << 20]).unwrap();
        }
        let entry = file.finish().unwrap();
        assert_eq!((entry.bytes, entry.sha256), (40 << 20, manifest::sha256_file(&path).unwrap()));
    }
}
