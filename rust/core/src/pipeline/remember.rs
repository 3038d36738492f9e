//! The n-grams of shards that are written, for a run that goes on after them.

use std::path::Path;

use memchr::memchr_iter;

use super::Progress;
use crate::dedup::{hash_ngrams, NgramIndex};
use crate::document::Record;
use crate::error::{Error, Result};
use crate::read::{self, Block, Limits};
use crate::text::{scan, Scan};

/// Adds the n-grams of every document of a shard to `index`.
///
/// # Errors
/// `Integrity` if a line of the shard is no document; `Interrupted` if whoever watches the run wants it to stop.
pub(super) fn remember(path: &Path, n: usize, index: &mut NgramIndex, progress: &dyn Progress) -> Result<()> {
    let mut reader = read::open(path, "text", Limits::of_own_files())?;
    let (mut scanned, mut ngrams, mut documents) = (Scan::default(), Vec::new(), 0_u64);
    while let Some(block) = reader.next_block()? {
        if let Some(bad) = block.bad.first() {
            return Err(damaged(path, bad.line, &bad.reason));
        }
        for line in lines(&block) {
            documents += 1;
            let record =
                Record::parse(line, "text").map_err(|fault| damaged(path, documents, &fault.reason))?;
            ngrams.clear();
            scan(&record.text, &mut scanned);
            hash_ngrams(&record.text, &scanned, n, &mut ngrams);
            index.remember(&ngrams)?;
        }
        reader.recycle(block.bytes);
        if progress.is_stopped() {
            return Err(Error::Interrupted);
        }
    }
    Ok(())
}

fn lines(block: &Block) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b'\n', &block.bytes).map(move |end| &block.bytes[std::mem::replace(&mut start, end + 1)..end])
}

fn damaged(path: &Path, line: u64, reason: &str) -> Error {
    Error::Integrity {
        path: path.to_owned(),
        expected: "a document on every line".to_owned(),
        found: format!("line {line}: {reason}"),
    }
}
