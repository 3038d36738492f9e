//! One word merged: the pair of lowest rank first, the leftmost of equal ones, until none is left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pairs::{Pairs, NO_RANK};

/// Symbols up to which searching all ranks is faster than keeping a heap; a power of two.
const SHORT_SYMBOLS: usize = 32;

/// The symbols of a word while they are merged, and memory for it that is used again.
#[derive(Debug, Default)]
pub(in crate::tokenize) struct Word {
    /// The symbols, and after [`Word::merge`] the tokens.
    pub(in crate::tokenize) ids: Vec<u32>,
    /// The rank of the merge of each symbol with the one after it.
    ranks: Vec<u32>,
    /// Places of the symbols after and before.
    next: Vec<u32>,
    previous: Vec<u32>,
    heap: BinaryHeap<Reverse<u64>>,
}

impl Word {
    /// Merges the symbols in `ids`.
    pub(in crate::tokenize) fn merge(&mut self, pairs: &Pairs) {
        if self.ids.len() <= SHORT_SYMBOLS {
            Short::new(&self.ids, pairs).merge(pairs, &mut self.ids);
        } else {
            self.merge_long(pairs);
        }
    }

    /// Merges with a heap of ranks and places; what a merge outdates stays in it and is skipped.
    fn merge_long(&mut self, pairs: &Pairs) {
        let len = self.ids.len() as u32;
        self.ranks.clear();
        self.ranks.extend(self.ids.windows(2).map(|two| pairs.rank(two[0], two[1])));
        self.ranks.push(NO_RANK);
        self.next.clear();
        self.next.extend(1..=len);
        self.previous.clear();
        self.previous.extend((0..len).map(|at| at.wrapping_sub(1)));
        self.heap.clear();
        let starts = self.ranks.iter().zip(0..).filter(|(rank, _)| **rank != NO_RANK);
        self.heap.extend(starts.map(|(rank, at)| entry(*rank, at)));
        while let Some(Reverse(entry)) = self.heap.pop() {
            let (rank, at) = ((entry >> 32) as u32, entry as u32 as usize);
            if self.ranks[at] == rank {
                self.merge_at(at, pairs);
            }
        }
        self.gather();
    }

    /// Merges the symbol at `at` with the next one.
    fn merge_at(&mut self, at: usize, pairs: &Pairs) {
        let right = self.next[at] as usize;
        self.ids[at] = pairs.merged(self.ranks[at]);
        self.ranks[right] = NO_RANK;
        self.next[at] = self.next[right];
        let after = self.next[at] as usize;
        if after < self.ids.len() {
            self.previous[after] = at as u32;
        }
        self.refresh(at, pairs);
        let before = self.previous[at] as usize;
        if before < self.ids.len() {
            self.refresh(before, pairs);
        }
    }

    /// Looks up the rank of the symbol at `at` with the next one again.
    fn refresh(&mut self, at: usize, pairs: &Pairs) {
        let right = self.ids.get(self.next[at] as usize);
        self.ranks[at] = right.map_or(NO_RANK, |right| pairs.rank(self.ids[at], *right));
        if self.ranks[at] != NO_RANK {
            self.heap.push(entry(self.ranks[at], at));
        }
    }

    /// Moves the symbols that are left together.
    fn gather(&mut self) {
        let (mut from, mut to) = (0, 0);
        while from < self.ids.len() {
            self.ids[to] = self.ids[from];
            (from, to) = (self.next[from] as usize, to + 1);
        }
        self.ids.truncate(to);
    }
}

/// A place in the heap, ordered by rank and then by place.
fn entry(rank: u32, at: usize) -> Reverse<u64> {
    Reverse(u64::from(rank) << 32 | at as u64)
}

/// A short word: a list of symbols in place, whose lowest rank is searched for.
struct Short {
    len: usize,
    ids: [u32; SHORT_SYMBOLS],
    /// Rank of each symbol with the next one; [`NO_RANK`] for the last and for those merged away.
    ranks: [u32; SHORT_SYMBOLS],
    next: [u8; SHORT_SYMBOLS],
    previous: [u8; SHORT_SYMBOLS],
}

/// Keeps an index in bounds, so that it needs no check.
const IN_BOUNDS: usize = SHORT_SYMBOLS - 1;

impl Short {
    fn new(symbols: &[u32], pairs: &Pairs) -> Self {
        let len = symbols.len();
        let mut ids = [0; SHORT_SYMBOLS];
        ids[..len].copy_from_slice(symbols);
        let mut ranks = [NO_RANK; SHORT_SYMBOLS];
        for (rank, two) in ranks.iter_mut().zip(symbols.windows(2)) {
            *rank = pairs.rank(two[0], two[1]);
        }
        let next = std::array::from_fn(|at| at as u8 + 1);
        let previous = std::array::from_fn(|at| (at as u8).wrapping_sub(1));
        Self { len, ids, ranks, next, previous }
    }

    fn merge(mut self, pairs: &Pairs, out: &mut Vec<u32>) {
        while let Some(at) = self.lowest() {
            let right = self.next[at] as usize & IN_BOUNDS;
            let after = self.next[right] as usize;
            self.ids[at] = pairs.merged(self.ranks[at]);
            self.ranks[right] = NO_RANK;
            self.next[at] = after as u8;
            self.ranks[at] = NO_RANK;
            if after < self.len {
                self.previous[after & IN_BOUNDS] = at as u8;
                self.ranks[at] = pairs.rank(self.ids[at], self.ids[after & IN_BOUNDS]);
            }
            let before = self.previous[at] as usize;
            if before < self.len {
                self.ranks[before & IN_BOUNDS] = pairs.rank(self.ids[before & IN_BOUNDS], self.ids[at]);
            }
        }
        out.clear();
        let mut at = 0;
        while at < self.len {
            out.push(self.ids[at & IN_BOUNDS]);
            at = self.next[at & IN_BOUNDS] as usize;
        }
    }

    /// The leftmost place of the lowest rank.
    #[inline]
    fn lowest(&self) -> Option<usize> {
        let (mut lowest, mut place) = (NO_RANK, 0);
        for (at, rank) in self.ranks[..self.len].iter().enumerate() {
            if *rank < lowest {
                (lowest, place) = (*rank, at);
            }
        }
        (lowest != NO_RANK).then_some(place & IN_BOUNDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: look for the pair of lowest rank again after each merge.
    fn naive(ids: &[u32], merges: &[(u32, u32, u32)]) -> Vec<u32> {
        let mut ids = ids.to_vec();
        let rank = |left, right| merges.iter().rposition(|merge| (merge.0, merge.1) == (left, right));
        loop {
            let ranked = (1..ids.len()).filter_map(|at| Some((rank(ids[at - 1], ids[at])?, at)));
            let Some((rank, at)) = ranked.min() else { return ids };
            ids.splice(at - 1..=at, [merges[rank].2]);
        }
    }

    /// Merges as training makes them: of symbols under 4 and of what earlier merges made.
    fn merges() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
        proptest::collection::vec((any::<u32>(), any::<u32>()), 0..40).prop_map(|pairs| {
            let made = (4..).zip(pairs);
            made.map(|(id, (left, right))| (left % id, right % id, id)).collect()
        })
    }

    proptest! {
        #[test]
        fn short_and_long_words_are_merged_by_definition(
            merges in merges(),
            ids in proptest::collection::vec(0_u32..4, 0..160),
            order in any::<bool>(),
        ) {
            let merges = if order { merges.into_iter().rev().collect() } else { merges };
            let pairs = Pairs::new(&merges).unwrap();
            for ids in [&ids[..], &ids[..ids.len().min(SHORT_SYMBOLS)]] {
                let mut word = Word { ids: ids.to_vec(), ..Word::default() };
                word.merge(&pairs);
                prop_assert_eq!(&word.ids, &naive(ids, &merges));
            }
        }
    }
}
