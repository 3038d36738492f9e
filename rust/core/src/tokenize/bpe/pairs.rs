//! The merges by pair: a hash table of two ids to what their merge is.
//!
//! Most pairs that are asked for do not merge, and each of them would be anywhere in the table, which
//! is too large to stay near the processor. So a filter is asked first: a bit for each hash, few
//! enough to stay there. Those that merge are mostly the same few.

use std::hint::select_unpredictable;

use super::large::Large;

/// Ids are under this: four times the largest vocabulary in use.
pub(in crate::tokenize) const MAX_ID: u32 = (1 << 20) - 1;

/// Bits of a rank, and of an id in a pair.
const RANK_BITS: u32 = 24;
const ID_BITS: u32 = 20;

/// The rank of a merge: of several, the lowest is done first.
pub(super) type Rank = u32;

/// The rank of a pair that does not merge: larger than all.
pub(super) const NO_MERGE: Rank = (1 << RANK_BITS) - 1;

/// Bits of the filter for a merge, at least.
const FILTER_BITS: usize = 8;

/// Merges in a bucket.
const BUCKET_MERGES: usize = 4;

/// Pairs as numbers, of which 0 is none, each with its rank below it: half a cache line.
type Bucket = [u64; BUCKET_MERGES];

/// The merges of a vocabulary, in a power of two of buckets half full, and one that stays empty.
#[derive(Debug)]
pub(in crate::tokenize) struct Pairs {
    buckets: Large<Bucket>,
    /// A bit for each hash that a merge has, eight to sixteen bits a merge.
    filter: Vec<u64>,
    /// The id that each merge makes, by rank.
    made: Vec<u32>,
    /// The id that the first merge makes, if each makes one more than the one before.
    first_made: Option<u32>,
}

impl Pairs {
    /// The merges in the order of their ranks, each as (left, right, made); of equal pairs the last counts.
    ///
    /// # Errors
    /// A sentence for more merges than there are ranks.
    pub(in crate::tokenize) fn new(merges: &[(u32, u32, u32)]) -> Result<Self, String> {
        if merges.len() > NO_MERGE as usize {
            return Err(format!("{} merges in `model.merges`, over the limit of {NO_MERGE}", merges.len()));
        }
        let num_buckets = (merges.len() * 2).div_ceil(BUCKET_MERGES).next_power_of_two();
        let num_words = (merges.len() * FILTER_BITS).div_ceil(64).next_power_of_two();
        let made: Vec<u32> = merges.iter().map(|(_, _, made)| *made).collect();
        let first_made =
            made.first().copied().filter(|_| made.windows(2).all(|two| two[1] == two[0].wrapping_add(1)));
        let mut pairs =
            Self { buckets: Large::zeros(num_buckets + 1), filter: vec![0; num_words], made, first_made };
        for (rank, (left, right, _)) in (0..).zip(merges) {
            pairs.insert(number(*left, *right), rank);
        }
        Ok(pairs)
    }

    fn insert(&mut self, pair: u64, rank: Rank) {
        let hash = hash(pair);
        let (word, bit) = place(hash, self.filter.len());
        self.filter[word] |= bit;
        let mask = self.buckets.len() - 2;
        let mut at = hash & mask;
        loop {
            let mut slots = self.buckets.as_mut_slice()[at].iter_mut();
            if let Some(slot) = slots.find(|slot| **slot >> RANK_BITS == pair || **slot == 0) {
                *slot = pair << RANK_BITS | u64::from(rank);
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// The merges to look up in.
    #[inline]
    pub(super) fn table(&self) -> Table<'_> {
        Table {
            buckets: self.buckets.as_slice(),
            filter: &self.filter,
            made: &self.made,
            first_made: self.first_made,
        }
    }
}

/// The merges where they are looked up.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    buckets: &'a [Bucket],
    filter: &'a [u64],
    made: &'a [u32],
    first_made: Option<u32>,
}

impl Table<'_> {
    /// The id that a merge makes. Trained ids follow the ranks: to look them up took a twentieth of the time of
    /// encoding 100 MB with 128 k tokens.
    #[inline]
    pub(super) fn made(&self, rank: Rank) -> u32 {
        if let Some(first) = self.first_made {
            return first.wrapping_add(rank);
        }
        self.made.get(rank as usize).copied().unwrap_or_default()
    }

    /// The rank of the merge of two ids, or [`NO_MERGE`].
    #[inline]
    pub(super) fn merge(&self, left: u32, right: u32) -> Rank {
        let pair = number(left, right);
        let hash = hash(pair);
        let (word, bit) = place(hash, self.filter.len());
        let empty = self.buckets.len() - 1;
        // All pairs that do not merge are looked for in one bucket, which stays near the processor.
        let at = select_unpredictable(self.filter[word] & bit == 0, empty, hash & (empty - 1));
        let bucket = &self.buckets[at];
        let found = find(bucket, pair);
        // A full bucket is rare, so it is asked for first; its other pairs are in the next.
        if bucket[BUCKET_MERGES - 1] != 0 && found == NO_MERGE {
            return self.merge_beyond(pair, at);
        }
        found
    }

    #[cold]
    fn merge_beyond(&self, pair: u64, mut at: usize) -> Rank {
        loop {
            at = (at + 1) & (self.buckets.len() - 2);
            let found = find(&self.buckets[at], pair);
            if found != NO_MERGE || self.buckets[at][BUCKET_MERGES - 1] == 0 {
                return found;
            }
        }
    }
}

/// The rank of a pair in its bucket: all four are compared, without a choice between them. What is not of
/// this pair differs from it above the rank, and so is larger than all ranks.
#[inline]
fn find(bucket: &Bucket, pair: u64) -> Rank {
    let none = u64::from(NO_MERGE);
    bucket.iter().map(|slot| slot ^ pair << RANK_BITS).fold(none, u64::min) as Rank
}

/// The word of the filter that has the bit of a hash, and that bit.
#[inline]
fn place(hash: usize, num_words: usize) -> (usize, u64) {
    (hash >> 8 & (num_words - 1), 1 << (hash >> 26 & 63))
}

#[inline]
fn number(left: u32, right: u32) -> u64 {
    (u64::from(left) << ID_BITS | u64::from(right)) + 1
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
        let merged = |left, right| (table.merge(left, right), table.made(table.merge(left, right)));
        assert_eq!((merged(1, 2), merged(2, 1), merged(MAX_ID - 1, MAX_ID - 1)), ((2, 7), (1, 8), (3, 3)));
        assert_eq!((table.merge(1, 1), Pairs::new(&[]).unwrap().table().merge(0, 0)), (NO_MERGE, NO_MERGE));
    }

    #[test]
    fn every_merge_of_many_is_found_also_in_full_buckets() {
        let merges: Vec<(u32, u32, u32)> = (0..50_000).map(|id| (id % 311, id / 311, id)).collect();
        let pairs = Pairs::new(&merges).unwrap();
        let table = pairs.table();
        assert!(merges.iter().all(|(left, right, id)| table.made(table.merge(*left, *right)) == *id));
        assert!((0..1000).all(|id| table.merge(400 + id, id) == NO_MERGE));
    }
}
