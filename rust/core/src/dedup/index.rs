//! The n-grams of all documents kept so far, in bounded memory: the newest in a hash
//! set, the rest in sorted runs on disk behind a filter.

use std::path::PathBuf;

use super::filter::Filter;
use super::fresh::Fresh;
use super::run::{self, Run};
use crate::error::Result;

/// How many n-grams of a document are looked up.
pub(super) const PROBES: usize = 5;

/// N-grams held in the set: the most before it would double from 36 to 71 MB, with room for parts
/// that got more than others.
const MAX_FRESH: usize = (1 << 21) / 8 * 7 - (1 << 15);

/// Runs of one size that become one of the next. More would slow down look-ups, fewer the merging.
const FAN_IN: usize = 8;

/// What deduplication says of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// New: kept, and its n-grams remembered.
    New,
    /// One of its first n-grams was seen.
    Duplicate,
}

/// The n-grams of all documents kept so far.
#[derive(Debug, Default)]
pub struct NgramIndex {
    fresh: Fresh,
    /// Absent where everything is to stay in memory.
    spilled: Option<Spilled>,
}

/// What no longer fits into memory.
#[derive(Debug)]
struct Spilled {
    folder: PathBuf,
    max_fresh: usize,
    /// Made when the first run is.
    filter: Option<Filter>,
    /// The runs, by how often their n-grams were merged.
    levels: Vec<Vec<Run>>,
    /// Runs made so far, which names the next.
    num_runs: usize,
}

impl NgramIndex {
    /// An index that keeps in `folder` what memory is not to hold: it takes about 160 MB at most. Its files
    /// go when it goes.
    pub fn spilling(folder: PathBuf) -> Self {
        Self::spilling_after(MAX_FRESH, folder)
    }

    fn spilling_after(max_fresh: usize, folder: PathBuf) -> Self {
        let spilled = Spilled { folder, max_fresh, filter: None, levels: Vec::new(), num_runs: 0 };
        Self { fresh: Fresh::default(), spilled: Some(spilled) }
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
            match &mut self.spilled {
                Some(spilled) if self.fresh.len() >= spilled.max_fresh => {
                    spilled.take(self.fresh.drain())?;
                }
                _ => (),
            }
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

impl Spilled {
    /// Writes n-grams, which are in order, as a run, and merges runs where there are enough.
    fn take(&mut self, ngrams: impl Iterator<Item = u128>) -> Result<()> {
        let path = self.next_path();
        let filter = self.filter.get_or_insert_with(Filter::default);
        let run = Run::write(&path, ngrams.inspect(|ngram| filter.insert(*ngram)).map(Ok))?;
        self.push(0, run);
        let mut level = 0;
        while self.levels[level].len() == FAN_IN {
            let runs = std::mem::take(&mut self.levels[level]);
            let merged = run::merge(&runs, &self.next_path())?;
            level += 1;
            self.push(level, merged);
        }
        Ok(())
    }

    fn push(&mut self, level: usize, run: Run) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
    }

    fn next_path(&mut self) -> PathBuf {
        self.num_runs += 1;
        self.folder.join(format!("ngrams-{:06}.run", self.num_runs))
    }

    fn contains(&mut self, ngram: u128) -> Result<bool> {
        if !self.filter.as_ref().is_some_and(|filter| filter.may_contain(ngram)) {
            return Ok(false);
        }
        for run in self.levels.iter_mut().flatten() {
            if run.contains(ngram)? {
                return Ok(true);
            }
        }
        Ok(false)
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
            documents in prop::collection::vec(prop::collection::vec(0..4000_u32, 1..12), 1..300)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut spilling = NgramIndex::spilling_after(9, dir.path().to_owned());
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
        let dir = tempfile::tempdir().unwrap();
        let mut index = NgramIndex::spilling_after(1000, dir.path().to_owned());
        let hash = |number: u32| xxh3_128(&number.to_le_bytes());
        for number in 0..70_000 {
            index.remember(&[hash(number)]).unwrap();
        }
        let found = |index: &mut NgramIndex, number| index.contains(hash(number)).unwrap();
        assert!((0..70_000).all(|number| found(&mut index, number)));
        assert!(!(70_000..140_000).any(|number| found(&mut index, number)));
    }
}
