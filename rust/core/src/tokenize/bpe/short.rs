//! A word of few symbols merged in place: the lowest rank is searched for again after each merge.

use std::hint::select_unpredictable;

use crate::text::ones;

use super::pairs::{Rank, Table, NO_MERGE};

/// A word of up to `N` symbols, a power of two that is at most 32.
pub(super) struct Short<const N: usize> {
    ids: [u32; N],
    /// The rank of the merge of each symbol with the next one, and below it the place of the symbol, so that
    /// the least is the leftmost of the lowest rank; [`NONE`] for the last and for those merged away.
    ranks: [u64; N],
    /// A bit for each symbol that is not merged away.
    symbols: u64,
}

/// Stands for a merge that there is not: larger than all.
const NONE: u64 = u64::MAX;

/// Bits of a place.
const PLACE_BITS: u32 = 8;

impl<const N: usize> Short<N> {
    /// Keeps an index in bounds, so that it needs no check.
    const IN_BOUNDS: usize = N - 1;

    /// A word of `symbols`, where `merge(at, left, right)` is the rank of the one at `at` with the next.
    #[inline]
    pub(super) fn new(symbols: impl Iterator<Item = u32>, merge: impl Fn(usize, u32, u32) -> Rank) -> Self {
        let (mut ids, mut len) = ([0; N], 0);
        for (id, symbol) in ids.iter_mut().zip(symbols) {
            *id = symbol;
            len += 1;
        }
        let mut word = Self { ids, ranks: [NONE; N], symbols: (1 << len) - 1 };
        for at in 1..len {
            word.ranks[at - 1] = ranked(merge(at - 1, ids[at - 1], ids[at]), at - 1);
        }
        word
    }

    /// Merges until nothing is left to merge.
    #[inline]
    pub(super) fn merge(&mut self, table: Table) {
        loop {
            let lowest = self.lowest();
            if lowest == NONE {
                return;
            }
            self.merge_at(
                lowest as usize & Self::IN_BOUNDS,
                table.made((lowest >> PLACE_BITS) as Rank),
                table,
            );
        }
    }

    /// The lowest rank with its place. Numbers of 64 bits are not compared several at once on every processor,
    /// and reading several at once would wait for the one that was written last.
    #[inline]
    fn lowest(&self) -> u64 {
        let mut lowest = [NONE; 4];
        for four in self.ranks.chunks_exact(4) {
            lowest = std::array::from_fn(|lane| lowest[lane].min(four[lane]));
        }
        lowest[0].min(lowest[1]).min(lowest[2].min(lowest[3]))
    }

    /// Merges the symbol at `at` with the next one to `id`.
    #[inline]
    fn merge_at(&mut self, at: usize, id: u32, table: Table) {
        let before = self.symbols & ((1 << at) - 1);
        let behind = self.symbols >> at >> 1 << at << 1;
        let after = behind & behind.wrapping_sub(1);
        let right = behind.trailing_zeros() as usize & Self::IN_BOUNDS;
        // Both neighbours are looked up whether there are such symbols or not.
        let left = select_unpredictable(before == 0, right, (before | 1).ilog2() as usize & Self::IN_BOUNDS);
        let next_id = self.ids[after.trailing_zeros() as usize & Self::IN_BOUNDS];
        let with_next = table.merge(id, next_id);
        let with_left = table.merge(self.ids[left], id);
        self.ids[at] = id;
        self.symbols &= !(1 << right);
        self.ranks[right] = NONE;
        self.ranks[left] = select_unpredictable(before == 0, NONE, ranked(with_left, left));
        self.ranks[at] = select_unpredictable(after == 0, NONE, ranked(with_next, at));
    }

    /// The symbols that are left.
    #[inline]
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        ones(self.symbols).map(|at| self.ids[at & Self::IN_BOUNDS])
    }
}

/// A rank with the place of its symbol.
#[inline]
fn ranked(rank: Rank, at: usize) -> u64 {
    let ranked = u64::from(rank) << PLACE_BITS | at as u64;
    select_unpredictable(rank == NO_MERGE, NONE, ranked)
}
