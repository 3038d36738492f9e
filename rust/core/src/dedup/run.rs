//! Sorted 128-bit hashes in a file, looked up by one read of 4 KiB.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::error::{Error, Result};

const HASH_BYTES: usize = 16;

/// Hashes in a page: 4 KiB, what a disk reads at once.
const PAGE_HASHES: usize = 256;

/// Memory for reading or writing one run while runs are merged.
const BUFFER_BYTES: usize = 256 << 10;

/// The file, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
    file: File,
    num_hashes: usize,
    /// Upper half of the first hash of each page: 1/512 of the file.
    fences: Vec<u64>,
}

impl Run {
    /// Writes hashes that come in order, each once, unless somebody `stops` it.
    pub(super) fn write(
        path: &Path,
        hashes: impl Iterator<Item = io::Result<u128>>,
        stops: &AtomicBool,
    ) -> Result<Self> {
        Self::try_write(path, hashes, stops).map_err(Error::io("write", path))
    }

    fn try_write(
        path: &Path,
        hashes: impl Iterator<Item = io::Result<u128>>,
        stops: &AtomicBool,
    ) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        // Made first, so that the file goes also when it cannot be written.
        let mut run = Self { path: path.to_owned(), file, num_hashes: 0, fences: Vec::new() };
        let mut writer = BufWriter::with_capacity(BUFFER_BYTES, run.file.try_clone()?);
        let mut last = None;
        for hash in hashes {
            let hash = hash?;
            if last.replace(hash) == Some(hash) {
                continue;
            }
            if run.num_hashes.is_multiple_of(PAGE_HASHES) {
                run.fences.push(upper(hash));
                if stops.load(Ordering::Relaxed) {
                    return Err(ErrorKind::Interrupted.into());
                }
            }
            run.num_hashes += 1;
            writer.write_all(&hash.to_le_bytes())?;
        }
        writer.flush()?;
        Ok(run)
    }

    /// True if the run holds the hash.
    pub(super) fn contains(&self, hash: u128) -> Result<bool> {
        let after = self.fences.partition_point(|fence| *fence < upper(hash));
        // The page before may end with it. Halves of hashes agree once in 2^64, so one page is read, rarely two.
        for page in after.saturating_sub(1)..self.fences.len() {
            if self.fences[page] > upper(hash) {
                break;
            }
            if self.page_contains(page, hash).map_err(Error::io("read", &self.path))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn page_contains(&self, page: usize, hash: u128) -> io::Result<bool> {
        let first = page * PAGE_HASHES;
        let mut bytes = [0; PAGE_HASHES * HASH_BYTES];
        let bytes = &mut bytes[..(self.num_hashes - first).min(PAGE_HASHES) * HASH_BYTES];
        let mut file = &self.file;
        file.seek(SeekFrom::Start((first * HASH_BYTES) as u64))?;
        file.read_exact(bytes)?;
        Ok(bytes.chunks_exact(HASH_BYTES).any(|chunk| chunk == hash.to_le_bytes()))
    }

    /// The hashes from the first on.
    fn hashes(&self) -> io::Result<impl Iterator<Item = io::Result<u128>>> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, File::open(&self.path)?);
        let next = move |_| {
            let mut bytes = [0; HASH_BYTES];
            reader.read_exact(&mut bytes).map(|()| u128::from_le_bytes(bytes))
        };
        Ok((0..self.num_hashes).map(next))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // what stays is removed when the folder is resumed or cleared
    }
}

/// One run of the hashes of all.
pub(super) fn merge(runs: &[Arc<Run>], path: &Path, stops: &AtomicBool) -> Result<Run> {
    let open = |run: &Arc<Run>| run.hashes().map_err(Error::io("read", &run.path));
    let mut sources: Vec<_> = runs.iter().map(open).collect::<Result<_>>()?;
    let mut heads = BinaryHeap::new();
    for (index, source) in sources.iter_mut().enumerate() {
        let first = source.next().transpose().map_err(Error::io("read", &runs[index].path))?;
        heads.extend(first.map(|hash| Reverse((hash, index))));
    }
    let merged = std::iter::from_fn(|| {
        let mut head = heads.peek_mut()?;
        let Reverse((hash, index)) = *head;
        match sources[index].next() {
            Some(Ok(next)) => *head = Reverse((next, index)),
            Some(Err(error)) => return Some(Err(error)),
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
        Some(Ok(hash))
    });
    Run::write(path, merged, stops)
}

fn upper(hash: u128) -> u64 {
    (hash >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_agree_in_their_upper_half_are_found_across_pages() {
        let dir = tempfile::tempdir().unwrap();
        let hashes: Vec<u128> = (0..1000).map(|number| (7 << 64) + 2 * number).collect();
        let sorted = hashes.iter().map(|hash| Ok(*hash));
        let run = Run::write(&dir.path().join("a"), sorted, &AtomicBool::new(false)).unwrap();
        assert!(hashes.iter().all(|hash| run.contains(*hash).unwrap()));
        assert!(!hashes.iter().any(|hash| run.contains(hash + 1).unwrap()));
        assert!(!run.contains(6 << 64).unwrap() && !run.contains(8 << 64).unwrap());
    }

    #[test]
    fn a_merged_run_holds_what_its_parts_hold_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let never = AtomicBool::new(false);
        let part = |first: u128| {
            let hashes = (0..700).map(move |number| Ok((first + 3 * number) << 64));
            Arc::new(Run::write(&dir.path().join(format!("{first}")), hashes, &never).unwrap())
        };
        let merged = merge(&[part(0), part(1), part(2)], &dir.path().join("merged"), &never).unwrap();
        let hashes: Vec<u128> = merged.hashes().unwrap().map(|hash| hash.unwrap() >> 64).collect();
        assert_eq!(hashes, (0..2100).collect::<Vec<u128>>());
    }
}
