//! One word merged: the pair of lowest rank first, the leftmost of equal ones, until none is left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pairs::{merged, rank, Pairs, NO_MERGE};

/// Symbols up to which searching all ranks is faster than keeping a heap.
const SHORT_SYMBOLS: usize = 64;

/// The symbols of a word while they are merged, and memory for it that is used again.
#[derive(Debug, Default)]
pub(in crate::tokenize) struct Word {
    /// The symbols, and after [`Word::merge`] the tokens.
    pub(in crate::tokenize) ids: Vec<u32>,
    /// The merge of each symbol with the one after it.
    merges: Vec<u64>,
    /// Places of the symbols after and before; only in long words.
    next: Vec<u32>,
    previous: Vec<u32>,
    heap: BinaryHeap<Reverse<u64>>,
}

impl Word {
    /// Merges the symbols in `ids`.
    pub(in crate::tokenize) fn merge(&mut self, pairs: &Pairs) {
        self.merges.clear();
        self.merges.extend(self.ids.windows(2).map(|two| pairs.get(two[0], two[1])));
        if self.ids.len() <= SHORT_SYMBOLS {
            self.merge_short(pairs);
        } else {
            self.merge_long(pairs);
        }
    }

    fn merge_short(&mut self, pairs: &Pairs) {
        let (ids, merges) = (&mut self.ids, &mut self.merges);
        while let Some((at, merge)) = lowest(merges) {
            ids[at] = merged(merge);
            ids.remove(at + 1);
            merges.remove(at);
            if at > 0 {
                merges[at - 1] = pairs.get(ids[at - 1], ids[at]);
            }
            if at < merges.len() {
                merges[at] = pairs.get(ids[at], ids[at + 1]);
            }
        }
    }

    /// The same with a heap of ranks and places; what a merge outdates stays in it and is skipped.
    fn merge_long(&mut self, pairs: &Pairs) {
        let len = self.ids.len() as u32;
        self.merges.push(NO_MERGE);
        self.next.clear();
        self.next.extend(1..=len);
        self.previous.clear();
        self.previous.extend((0..len).map(|at| at.wrapping_sub(1)));
        self.heap.clear();
        let starts = self.merges.iter().zip(0..).filter(|(merge, _)| **merge != NO_MERGE);
        self.heap.extend(starts.map(|(merge, at)| entry(*merge, at)));
        while let Some(Reverse(entry)) = self.heap.pop() {
            let (entry_rank, at) = ((entry >> 32) as u32, entry as u32 as usize);
            if self.merges[at] != NO_MERGE && rank(self.merges[at]) == entry_rank {
                self.merge_at(at, pairs);
            }
        }
        self.gather();
    }

    /// Merges the symbol at `at` with the next one.
    fn merge_at(&mut self, at: usize, pairs: &Pairs) {
        let right = self.next[at] as usize;
        self.ids[at] = merged(self.merges[at]);
        self.merges[right] = NO_MERGE;
        self.next[at] = self.next[right];
        let after = self.next[at] as usize;
        if after < self.ids.len() {
            self.previous[after] = at as u32;
        }
        self.refresh(at, pairs);
        if let Some(before) = self.ids.get(self.previous[at] as usize).map(|_| self.previous[at]) {
            self.refresh(before as usize, pairs);
        }
    }

    /// Looks up the merge of the symbol at `at` with the next one again.
    fn refresh(&mut self, at: usize, pairs: &Pairs) {
        let right = self.ids.get(self.next[at] as usize);
        self.merges[at] = right.map_or(NO_MERGE, |right| pairs.get(self.ids[at], *right));
        if self.merges[at] != NO_MERGE {
            self.heap.push(entry(self.merges[at], at));
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
fn entry(merge: u64, at: usize) -> Reverse<u64> {
    Reverse(u64::from(rank(merge)) << 32 | at as u64)
}

/// The leftmost merge of the lowest rank.
#[inline]
fn lowest(merges: &[u64]) -> Option<(usize, u64)> {
    let lowest = *merges.iter().min()?;
    if lowest == NO_MERGE {
        return None;
    }
    merges.iter().position(|merge| *merge == lowest).map(|at| (at, lowest))
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
            let pairs = Pairs::new(&merges);
            for ids in [&ids[..], &ids[..ids.len().min(SHORT_SYMBOLS)]] {
                let mut word = Word { ids: ids.to_vec(), ..Word::default() };
                word.merge(&pairs);
                prop_assert_eq!(&word.ids, &naive(ids, &merges));
            }
        }
    }
}
