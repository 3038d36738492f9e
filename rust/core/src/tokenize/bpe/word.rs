//! One word merged: the pair of lowest rank first, the leftmost of equal ones, until none is left.

use super::pairs::{Pairs, Rank, Table, NO_MERGE};
use super::queue::Queue;
use super::short::Short;

/// Symbols under which searching all ranks is faster than keeping a queue; a power of two.
const SHORT_SYMBOLS: usize = 32;

/// The symbols of a word while they are merged, and memory for it that is used again.
#[derive(Debug, Default)]
pub(in crate::tokenize) struct Word {
    /// The symbols, and after [`Word::merge`] the tokens.
    pub(in crate::tokenize) ids: Vec<u32>,
    /// The rank of the merge of each symbol with the one after it.
    ranks: Vec<Rank>,
    /// Places of the symbols after and before.
    next: Vec<u32>,
    previous: Vec<u32>,
    queue: Queue,
}

impl Word {
    /// Merges the symbols in `ids`.
    pub(in crate::tokenize) fn merge(&mut self, pairs: &Pairs) {
        if self.ids.len() < SHORT_SYMBOLS {
            let merge = |_, left, right| pairs.table().merge(left, right);
            let mut short = Short::<SHORT_SYMBOLS>::new(self.ids.iter().copied(), merge);
            short.merge(pairs.table());
            self.ids.clear();
            self.ids.extend(short.ids());
        } else {
            self.merge_long(pairs.table());
        }
    }

    /// Merges rank by rank, from the left: what a merge outdates stays in its queue and is skipped.
    fn merge_long(&mut self, table: Table) {
        let len = self.ids.len() as u32;
        self.ranks.clear();
        self.ranks.extend(self.ids.windows(2).map(|two| table.merge(two[0], two[1])));
        self.ranks.push(NO_MERGE);
        self.next.clear();
        self.next.extend(1..=len);
        self.previous.clear();
        self.previous.extend((0..len).map(|at| at.wrapping_sub(1)));
        self.queue.clear(self.ids.len());
        for (at, rank) in (0..).zip(&self.ranks) {
            self.queue.push(*rank, at);
        }
        while let Some((rank, at)) = self.queue.pop() {
            let at = at as usize;
            if self.ranks[at] == rank {
                self.merge_at(at, table);
            }
        }
        self.gather();
    }

    /// Merges the symbol at `at` with the next one.
    fn merge_at(&mut self, at: usize, table: Table) {
        let right = self.next[at] as usize;
        self.ids[at] = table.made(self.ranks[at]);
        self.ranks[right] = NO_MERGE;
        self.next[at] = self.next[right];
        let after = self.next[at] as usize;
        if after < self.ids.len() {
            self.previous[after] = at as u32;
        }
        let before = self.previous[at] as usize;
        if before < self.ids.len() {
            self.refresh(before, table);
        }
        self.refresh(at, table);
    }

    /// Looks up the merge of the symbol at `at` with the next one again.
    fn refresh(&mut self, at: usize, table: Table) {
        let right = self.ids.get(self.next[at] as usize);
        self.ranks[at] = right.map_or(NO_MERGE, |right| table.merge(self.ids[at], *right));
        self.queue.push(self.ranks[at], at as u32);
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
            for ids in [&ids[..], &ids[..ids.len().min(SHORT_SYMBOLS - 1)]] {
                let mut word = Word { ids: ids.to_vec(), ..Word::default() };
                word.merge(&pairs);
                prop_assert_eq!(&word.ids, &naive(ids, &merges));
            }
        }
    }
}
