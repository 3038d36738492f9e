//! The merges by pair: a flat hash table of two ids to rank and merged id.

/// A merge as one number, so that merges compare by rank: rank in the upper half, merged id below.
pub(in crate::tokenize) type Merge = u64;

/// No merge: larger than all.
pub(in crate::tokenize) const NO_MERGE: Merge = u64::MAX;

/// The id that a merge makes.
#[inline]
pub(super) fn merged(merge: Merge) -> u32 {
    merge as u32
}

/// The rank of a merge.
#[inline]
pub(super) fn rank(merge: Merge) -> u32 {
    (merge >> 32) as u32
}

/// A key that no pair of ids has: ids stay under 2^24.
const EMPTY: u64 = u64::MAX;

/// The merges of a vocabulary, in open addressing at most half full.
#[derive(Debug)]
pub(in crate::tokenize) struct Pairs {
    slots: Vec<(u64, Merge)>,
    shift: u32,
}

impl Pairs {
    /// The merges in the order of their ranks, each as (left, right, merged); of equal pairs the last counts.
    pub(in crate::tokenize) fn new(merges: &[(u32, u32, u32)]) -> Self {
        let size = (merges.len() * 2).next_power_of_two().max(2);
        let mut pairs = Self { slots: vec![(EMPTY, NO_MERGE); size], shift: 64 - size.trailing_zeros() };
        for (rank, (left, right, merged)) in (0_u64..).zip(merges) {
            let slot = pairs.slot(key(*left, *right));
            pairs.slots[slot] = (key(*left, *right), rank << 32 | u64::from(*merged));
        }
        pairs
    }

    /// The merge of two ids, or [`NO_MERGE`].
    #[inline]
    pub(in crate::tokenize) fn get(&self, left: u32, right: u32) -> Merge {
        self.slots[self.slot(key(left, right))].1
    }

    /// The slot that holds the key, or the empty one where it belongs.
    #[inline]
    fn slot(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize & mask;
        while self.slots[slot].0 != key && self.slots[slot].0 != EMPTY {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

#[inline]
fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_gives_its_rank_and_id_and_of_equal_pairs_the_last_counts() {
        let pairs = Pairs::new(&[(1, 2, 9), (2, 1, 8), (1, 2, 7)]);
        assert_eq!((rank(pairs.get(1, 2)), merged(pairs.get(1, 2))), (2, 7));
        assert_eq!((rank(pairs.get(2, 1)), merged(pairs.get(2, 1))), (1, 8));
        assert_eq!(pairs.get(1, 1), NO_MERGE);
        assert_eq!(Pairs::new(&[]).get(0, 0), NO_MERGE);
    }
}
