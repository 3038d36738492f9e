//! The n-grams of all documents kept so far, in bounded memory: the newest in a hash
//! set, the rest in sorted runs on disk behind a filter.

use std::path::PathBuf;

use super::fresh::Fresh;
use super::spilled::Spilled;
use crate::error::Result;

/// How many n-grams of a document are looked up.
pub(super) const PROBES: usize = 5;

/// N-grams held in the set: the most before it would double from 36 to 71 MB, with room for parts
/// that got more than others.
const MAX_FRESH: usize = (1 << 21) / 8 * 7 - (1 << 15);

/// What deduplication says of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// New: kept, and its n-grams remembered.
    New,
    /// One of its first n-grams was seen.
    Duplicate,
}

/// The n-grams of all documents kept so far.
#[derive(Debug)]
pub struct NgramIndex {
    fresh: Fresh,
    /// At so many the newest leave.
    max_fresh: usize,
    /// Absent where everything is to stay in memory.
    spilled: Option<Spilled>,
}

impl Default for NgramIndex {
    fn default() -> Self {
        Self { fresh: Fresh::default(), max_fresh: usize::MAX, spilled: None }
    }
}

impl NgramIndex {
    /// An index that keeps in `folder` what memory is not to hold: it takes about 160 MB at most, or 200 where a
    /// thread `is_beside` that writes. Its files go when it goes.
    pub fn spilling(folder: PathBuf, is_beside: bool) -> Self {
        Self::spilling_after(MAX_FRESH, folder, is_beside)
    }

    fn spilling_after(max_fresh: usize, folder: PathBuf, is_beside: bool) -> Self {
        Self { fresh: Fresh::default(), max_fresh, spilled: Some(Spilled::new(folder, is_beside)) }
    }

    /// Judges the next document by its n-grams, all of them, in order.
    ///
    /// # Errors
    /// The disk that holds what memory does not.
    pub fn judge(&mut self, ngrams: &[u128]) -> Result<Verdict> {
        for ngram in ngrams.iter().take(PROBES) {
            if self.contains(*ngram)? {
                return Ok(Verdict::Duplicate);
            }
        }
        self.remember(ngrams)?;
        Ok(Verdict::New)
    }

    /// Adds the n-grams of a document that is kept.
    ///
    /// # Errors
    /// The disk.
    pub fn remember(&mut self, ngrams: &[u128]) -> Result<()> {
        for ngram in ngrams {
            self.fresh.insert(*ngram);
            if self.fresh.len() >= self.max_fresh {
                self.spill()?;
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        if let Some(spilled) = &mut self.spilled {
            self.fresh = spilled.take(std::mem::take(&mut self.fresh))?;
        }
        Ok(())
    }

    fn contains(&mut self, ngram: u128) -> Result<bool> {
        if self.fresh.contains(ngram) {
            return Ok(true);
        }
        self.spilled.as_mut().map_or(Ok(false), |spilled| spilled.contains(ngram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_128;

    proptest! {
        // Each case clears a filter of 64 MiB.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn an_index_on_disk_judges_as_one_in_memory(
            documents in prop::collection::vec(prop::collection::vec(0..4000_u32, 1..12), 1..300),
            is_beside: bool,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut spilling = NgramIndex::spilling_after(9, dir.path().to_owned(), is_beside);
            let mut whole = NgramIndex::default();
            for document in documents {
                let ngrams: Vec<u128> = document.iter().map(|word| xxh3_128(&word.to_le_bytes())).collect();
                prop_assert_eq!(spilling.judge(&ngrams).unwrap(), whole.judge(&ngrams).unwrap());
            }
            drop(spilling);
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn every_ngram_is_found_after_many_merges_and_no_other() {
        for is_beside in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut index = NgramIndex::spilling_after(1000, dir.path().to_owned(), is_beside);
            let hash = |number: u32| xxh3_128(&number.to_le_bytes());
            for number in 0..70_000 {
                index.remember(&[hash(number)]).unwrap();
                assert!(index.contains(hash(number / 2)).unwrap());
            }
            let found = |index: &mut NgramIndex, number| index.contains(hash(number)).unwrap();
            assert!((0..70_000).all(|number| found(&mut index, number)));
            assert!(!(70_000..140_000).any(|number| found(&mut index, number)));
        }
    }

    #[test]
    fn a_disk_that_fails_is_told_of_by_the_next_that_ask() {
        for is_beside in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("is not there");
            let mut index = NgramIndex::spilling_after(10, folder, is_beside);
            let ngrams: Vec<u128> = (0..20).map(|number| number << 70).collect();
            let error = index.remember(&ngrams).unwrap_err();
            assert!(error.to_string().contains("is not there"), "{error}");
        }
    }

    #[test]
    fn an_index_that_goes_while_it_writes_leaves_no_file() {
        for num_ngrams in [1000, 8000, 64_000] {
            let dir = tempfile::tempdir().unwrap();
            let mut index = NgramIndex::spilling_after(1000, dir.path().to_owned(), true);
            let ngrams: Vec<u128> =
                (0..num_ngrams).map(|number: u32| xxh3_128(&number.to_le_bytes())).collect();
            index.remember(&ngrams).unwrap();
            drop(index);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
