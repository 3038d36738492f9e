//! The merges by pair: a hash table of two ids to what their merge is.
//!
//! Most pairs that are asked for do not merge, and each of them would be anywhere in the table, which
//! is too large to stay near the processor. So a filter is asked first: a bit for each hash, few
//! enough to stay there. Those that merge are mostly the same few.

use std::hint::{black_box, select_unpredictable};

use super::large::Large;

/// Ids are under this: four times the largest vocabulary in use.
pub(in crate::tokenize) const MAX_ID: u32 = (1 << 20) - 1;

/// Ranks are under this.
const MAX_RANK: usize = 1 << 24;

/// A merge: its rank, lower first, and below it the id that it makes.
pub(super) type Merge = u64;

/// The merge of a pair that does not merge: larger than all.
pub(super) const NO_MERGE: Merge = Merge::MAX;

/// The id that a merge makes.
#[inline]
pub(super) fn made(merge: Merge) -> u32 {
    merge as u32
}

/// Bits of the filter for a merge, at least.
const FILTER_BITS: usize = 8;

/// Merges in a bucket.
const BUCKET_MERGES: usize = 4;

/// Pairs as numbers, of which 0 is none, each with its merge: a cache line.
type Bucket = [[u64; 2]; BUCKET_MERGES];

/// The merges of a vocabulary, in a power of two of buckets half full, and one that stays empty.
#[derive(Debug)]
pub(in crate::tokenize) struct Pairs {
    buckets: Large<Bucket>,
    /// A bit for each hash that a merge has, eight to sixteen bits a merge.
    filter: Vec<u64>,
}

impl Pairs {
    /// The merges in the order of their ranks, each as (left, right, made); of equal pairs the last counts.
    ///
    /// # Errors
    /// A sentence for more merges than there are ranks.
    pub(in crate::tokenize) fn new(merges: &[(u32, u32, u32)]) -> Result<Self, String> {
        if merges.len() >= MAX_RANK {
            return Err(format!("{} merges in `model.merges`, over the limit of {MAX_RANK}", merges.len()));
        }
        let num_buckets = (merges.len() * 2).div_ceil(BUCKET_MERGES).next_power_of_two();
        let num_words = (merges.len() * FILTER_BITS).div_ceil(64).next_power_of_two();
        let mut pairs = Self { buckets: Large::zeros(num_buckets + 1), filter: vec![0; num_words] };
        for (rank, (left, right, made)) in (0_u64..).zip(merges) {
            pairs.insert(number(*left, *right), rank << 32 | u64::from(*made));
        }
        Ok(pairs)
    }

    fn insert(&mut self, pair: u64, merge: Merge) {
        let hash = hash(pair);
        let (word, bit) = place(hash, self.filter.len());
        self.filter[word] |= bit;
        let mask = self.buckets.len() - 2;
        let mut at = hash & mask;
        loop {
            let mut slots = self.buckets.as_mut_slice()[at].iter_mut();
            if let Some(slot) = slots.find(|slot| slot[0] == pair || slot[0] == 0) {
                *slot = [pair, merge];
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// The merges to look up in.
    #[inline]
    pub(super) fn table(&self) -> Table<'_> {
        Table { buckets: self.buckets.as_slice(), filter: &self.filter }
    }
}

/// The merges where they are looked up.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    buckets: &'a [Bucket],
    filter: &'a [u64],
}

/// A pair that is looked up, with the bucket in which it is if it merges.
#[derive(Clone, Copy, Default)]
pub(super) struct Seek {
    pair: u64,
    bucket: usize,
}

impl Table<'_> {
    /// The merge of two ids, or [`NO_MERGE`].
    #[inline]
    pub(super) fn merge(&self, left: u32, right: u32) -> Merge {
        self.found(self.seek(left, right))
    }

    /// Begins to look up the merge of two ids.
    #[inline]
    pub(super) fn seek(&self, left: u32, right: u32) -> Seek {
        let pair = number(left, right);
        let hash = hash(pair);
        let (word, bit) = place(hash, self.filter.len());
        let empty = self.buckets.len() - 1;
        let bucket = hash & (empty - 1);
        // All pairs that do not merge are looked for in one bucket, which stays near the processor.
        Seek { pair, bucket: select_unpredictable(self.filter[word] & bit == 0, empty, bucket) }
    }

    /// Reads the buckets of several pairs, one after the other: memory answers all at once.
    #[inline]
    pub(super) fn read_ahead<'a>(&self, seeks: impl Iterator<Item = &'a Seek>) {
        black_box(seeks.fold(0, |all, seek| all ^ self.buckets[seek.bucket][0][0]));
    }

    /// The merge that was looked up, or [`NO_MERGE`].
    #[inline]
    pub(super) fn found(&self, Seek { pair, bucket: at }: Seek) -> Merge {
        let bucket = &self.buckets[at];
        let found = find(bucket, pair);
        // A full bucket is rare, and its other pairs are in the next.
        if found == NO_MERGE && bucket[BUCKET_MERGES - 1][0] != 0 {
            return self.merge_beyond(pair, at);
        }
        found
    }

    #[cold]
    fn merge_beyond(&self, pair: u64, mut at: usize) -> Merge {
        loop {
            at = (at + 1) & (self.buckets.len() - 2);
            let found = find(&self.buckets[at], pair);
            if found != NO_MERGE || self.buckets[at][BUCKET_MERGES - 1][0] == 0 {
                return found;
            }
        }
    }
}

/// The merge of a pair in its bucket: all four are compared, without a choice between them.
#[inline]
fn find(bucket: &Bucket, pair: u64) -> Merge {
    let choose = |found, [other, merge]: &[u64; 2]| select_unpredictable(*other == pair, *merge, found);
    bucket.iter().fold(NO_MERGE, choose)
}

/// The word of the filter that has the bit of a hash, and that bit.
#[inline]
fn place(hash: usize, num_words: usize) -> (usize, u64) {
    (hash >> 8 & (num_words - 1), 1 << (hash >> 26 & 63))
}

#[inline]
fn number(left: u32, right: u32) -> u64 {
    (u64::from(left) << 20 | u64::from(right)) + 1
}

#[inline]
fn hash(pair: u64) -> usize {
    pair.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_gives_its_merge_and_of_equal_pairs_the_last_counts() {
        let pairs = Pairs::new(&[(1, 2, 9), (2, 1, 8), (1, 2, 7), (MAX_ID - 1, MAX_ID - 1, 3)]).unwrap();
        let table = pairs.table();
        assert_eq!((table.merge(1, 2) >> 32, made(table.merge(1, 2))), (2, 7));
        assert_eq!((table.merge(2, 1) >> 32, made(table.merge(2, 1))), (1, 8));
        assert_eq!((table.merge(1, 1), made(table.merge(MAX_ID - 1, MAX_ID - 1))), (NO_MERGE, 3));
        assert_eq!(Pairs::new(&[]).unwrap().table().merge(0, 0), NO_MERGE);
    }

    #[test]
    fn every_merge_of_many_is_found_also_in_full_buckets() {
        let merges: Vec<(u32, u32, u32)> = (0..50_000).map(|id| (id % 311, id / 311, id)).collect();
        let pairs = Pairs::new(&merges).unwrap();
        let table = pairs.table();
        assert!(merges.iter().all(|(left, right, id)| made(table.merge(*left, *right)) == *id));
        assert!((0..1000).all(|id| table.merge(400 + id, id) == NO_MERGE));
    }
}
