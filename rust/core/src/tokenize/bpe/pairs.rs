//! The merges by pair: a flat hash table of two ids to rank.
//!
//! Two ids of 20 bits and a rank of 24 make one number, so a look-up touches eight bytes.

/// Ids are under this, and ranks under [`MAX_RANK`]: four times the largest vocabulary in use.
pub(in crate::tokenize) const MAX_ID: u32 = (1 << 20) - 1;

/// Bits of a rank.
const RANK_BITS: u32 = 24;

/// Ranks are under this.
const MAX_RANK: usize = 1 << RANK_BITS;

/// The rank of a pair that does not merge: larger than all.
pub(in crate::tokenize) const NO_RANK: u32 = u32::MAX;

/// A number that no pair and rank make.
const EMPTY: u64 = u64::MAX;

/// The merges of a vocabulary, in open addressing at most two thirds full.
#[derive(Debug)]
pub(in crate::tokenize) struct Pairs {
    slots: Vec<u64>,
    shift: u32,
    /// Id that the merge of each rank makes.
    merged: Vec<u32>,
}

impl Pairs {
    /// The merges in the order of their ranks, each as (left, right, merged); of equal pairs the last counts.
    ///
    /// # Errors
    /// A sentence for more merges than there are ranks.
    pub(in crate::tokenize) fn new(merges: &[(u32, u32, u32)]) -> Result<Self, String> {
        if merges.len() >= MAX_RANK {
            return Err(format!("{} merges in `model.merges`, over the limit of {MAX_RANK}", merges.len()));
        }
        let size = (merges.len() * 3 / 2).next_power_of_two().max(2);
        let made = merges.iter().map(|merge| merge.2).collect();
        let mut pairs = Self { slots: vec![EMPTY; size], shift: 64 - size.trailing_zeros(), merged: made };
        for (rank, (left, right, _)) in (0..).zip(merges) {
            let slot = pairs.slot(number(*left, *right));
            pairs.slots[slot] = number(*left, *right) << RANK_BITS | rank;
        }
        Ok(pairs)
    }

    /// The rank of the merge of two ids, or [`NO_RANK`].
    #[inline]
    pub(in crate::tokenize) fn rank(&self, left: u32, right: u32) -> u32 {
        match self.slots[self.slot(number(left, right))] {
            EMPTY => NO_RANK,
            found => found as u32 & (MAX_RANK as u32 - 1),
        }
    }

    /// The id that the merge of a rank makes.
    #[inline]
    pub(in crate::tokenize) fn merged(&self, rank: u32) -> u32 {
        self.merged[rank as usize]
    }

    /// The slot that holds the pair, or the empty one where it belongs.
    #[inline]
    fn slot(&self, pair: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize & mask;
        while self.slots[slot] >> RANK_BITS != pair && self.slots[slot] != EMPTY {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

#[inline]
fn number(left: u32, right: u32) -> u64 {
    u64::from(left) << 20 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_gives_its_rank_and_id_and_of_equal_pairs_the_last_counts() {
        let pairs = Pairs::new(&[(1, 2, 9), (2, 1, 8), (1, 2, 7), (MAX_ID - 1, MAX_ID - 1, 3)]).unwrap();
        assert_eq!((pairs.rank(1, 2), pairs.merged(2)), (2, 7));
        assert_eq!((pairs.rank(2, 1), pairs.merged(1)), (1, 8));
        assert_eq!((pairs.rank(1, 1), pairs.rank(MAX_ID - 1, MAX_ID - 1)), (NO_RANK, 3));
        assert_eq!(Pairs::new(&[]).unwrap().rank(0, 0), NO_RANK);
    }
}
