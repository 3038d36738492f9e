//! The newest n-grams, in memory.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Sets that the n-grams are divided over. Each grows alone, into memory that others left: of one set, new and old
/// table lay side by side, and doubling it up to 36 MB took 72 MB of fresh pages, 8 to 12 % of the time of the `seed` profile.
const NUM_PARTS: usize = 32;

/// A set of n-grams, which are hashes already.
#[derive(Debug)]
pub(super) struct Fresh {
    parts: Vec<HashSet<u128, BuildHasherDefault<Identity>>>,
    len: usize,
}

impl Default for Fresh {
    fn default() -> Self {
        Self { parts: vec![HashSet::default(); NUM_PARTS], len: 0 }
    }
}

impl Fresh {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, ngram: u128) {
        self.len += usize::from(self.parts[part(ngram)].insert(ngram));
    }

    pub(super) fn contains(&self, ngram: u128) -> bool {
        self.parts[part(ngram)].contains(&ngram)
    }

    /// All of them, in order. A part is sorted when it is asked for: it fits into the cache of a core, and all of them
    /// need not be held twice.
    pub(super) fn sorted(&self) -> impl Iterator<Item = u128> + '_ {
        self.parts.iter().flat_map(|part| {
            let mut ngrams: Vec<u128> = part.iter().copied().collect();
            ngrams.sort_unstable();
            ngrams
        })
    }

    /// Forgets them; their memory stays for the next.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.parts.iter_mut().for_each(HashSet::clear);
    }
}

/// By the highest bits, so that those of one part stand together in order: tables take their places from the lower half.
fn part(ngram: u128) -> usize {
    (ngram >> (u128::BITS - NUM_PARTS.ilog2())) as usize
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |state, byte| state << 8 | u64::from(*byte));
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}
