//! A blocked Bloom filter of fixed size in front of the n-grams on disk: what it does not
//! hold is not there, so that only few look-ups touch the disk.
//!
//! Putze, Sanders and Singler, "Cache-, hash- and space-efficient Bloom filters" (2007).

use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a block: one line of the processor's cache.
const BLOCK_WORDS: usize = 8;

/// Blocks, as a power of two: 64 MiB in all. With three bits an n-gram one look-up in 200 is in vain at
/// 30 million n-grams (2.5 GB of text), one in six at 130 million (10 GB); none is ever wrong.
const LOG2_BLOCKS: u32 = 20;

/// The filter. One thread may add to it while others ask.
#[derive(Debug)]
pub(super) struct Filter {
    words: Vec<AtomicU64>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { words: (0..BLOCK_WORDS << LOG2_BLOCKS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Filter {
    /// Adds a hash; hashes in order touch memory in order. No two threads may do so at once: bits would be lost.
    pub(super) fn insert(&self, hash: u128) {
        let block = block(hash);
        for (word, bit) in bits(hash) {
            let word = &self.words[block + word];
            word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        }
    }

    /// False if the hash was never added.
    pub(super) fn may_contain(&self, hash: u128) -> bool {
        let block = block(hash);
        bits(hash).into_iter().all(|(word, bit)| self.words[block + word].load(Ordering::Relaxed) & bit != 0)
    }
}

/// Index of the first word of the block of a hash, by its highest bits.
fn block(hash: u128) -> usize {
    (hash >> (u128::BITS - LOG2_BLOCKS)) as usize * BLOCK_WORDS
}

/// Three bits of the 512 of a block, by the lowest bits of the hash.
fn bits(hash: u128) -> [(usize, u64); 3] {
    let bit = |shift: u32| ((hash >> shift) as usize & 7, 1 << ((hash >> (shift + 3)) & 63));
    [bit(0), bit(9), bit(18)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_128;

    #[test]
    fn nothing_added_is_missed_and_little_else_is_found() {
        let filter = Filter::default();
        let hash = |number: u32| xxh3_128(&number.to_le_bytes());
        (0..1_000_000).for_each(|number| filter.insert(hash(number)));
        assert!((0..1_000_000).all(|number| filter.may_contain(hash(number))));
        let in_vain = (1_000_000..1_100_000).filter(|number| filter.may_contain(hash(*number))).count();
        assert!(in_vain < 100, "{in_vain}");
    }
}
