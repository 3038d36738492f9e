//! Short words merged together, one merge of each at a time: they wait for memory at the same time.

use std::hint::select_unpredictable;

use super::pairs::{made, Merge, Seek, Table, NO_MERGE};

/// Words merged together.
pub(super) const LANES: usize = 8;

/// A word of less than `N` symbols, a power of two: a list in place, whose lowest rank is searched for.
pub(super) struct Short<const N: usize> {
    len: usize,
    ids: [u32; N],
    /// The rank of the merge of each symbol with the next one, and below it the place of the symbol, so that
    /// the least is the leftmost of the lowest rank; [`NONE`] for the last and for those merged away.
    ranks: [i32; N],
    /// The ids that the merges make.
    made: [u32; N],
    next: [u8; N],
    previous: [u8; N],
}

/// Stands for a merge that there is not: larger than all.
const NONE: i32 = i32::MAX;

/// Bits of a place.
const PLACE_BITS: u32 = 5;

/// A merge that was done, and what is to be looked up after it.
#[derive(Clone, Copy, Default)]
struct Change {
    at: usize,
    before: usize,
    after: usize,
    /// The merged symbol with the next one, and the previous one with it.
    seeks: [Seek; 2],
}

/// Merges the words; there may be fewer than lanes.
pub(super) fn merge_together<const N: usize>(words: &mut [Option<Short<N>>; LANES], table: Table) {
    let mut changes = [const { None }; LANES];
    loop {
        let mut is_done = true;
        for (change, word) in changes.iter_mut().zip(words.iter_mut()) {
            *change = word.as_mut().and_then(|word| word.begin(table));
            is_done &= change.is_none();
        }
        if is_done {
            return;
        }
        table.read_ahead(changes.iter().flatten().flat_map(|change: &Change| &change.seeks));
        for (change, word) in changes.iter().zip(words.iter_mut()) {
            if let (Some(change), Some(word)) = (change, word) {
                word.finish(change, table);
            }
        }
    }
}

// Ranks with places are under 2^29.
#[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss)]
impl<const N: usize> Short<N> {
    /// Keeps an index in bounds, so that it needs no check.
    const IN_BOUNDS: usize = N - 1;

    /// A word of `symbols`, where `merge(at, left, right)` is the merge of the one at `at` with the next.
    #[inline]
    pub(super) fn new(symbols: impl Iterator<Item = u32>, merge: impl Fn(usize, u32, u32) -> Merge) -> Self {
        let (mut ids, mut len) = ([0; N], 0);
        for (id, symbol) in ids.iter_mut().zip(symbols) {
            *id = symbol;
            len += 1;
        }
        let next = std::array::from_fn(|at| at as u8 + 1);
        let previous = std::array::from_fn(|at| (at as u8).wrapping_sub(1));
        let mut word = Self { len, ids, ranks: [NONE; N], made: [0; N], next, previous };
        for at in 1..len {
            word.note(at - 1, merge(at - 1, ids[at - 1], ids[at]));
        }
        word
    }

    /// Takes note of what the symbol at `at` merges with.
    #[inline]
    fn note(&mut self, at: usize, merge: Merge) {
        let rank = (merge >> 32 << PLACE_BITS) as i32 | at as i32;
        self.ranks[at] = select_unpredictable(merge == NO_MERGE, NONE, rank);
        self.made[at] = made(merge);
    }

    /// Merges until nothing is left to merge.
    pub(super) fn merge(&mut self, table: Table) {
        while let Some(change) = self.begin(table) {
            self.finish(&change, table);
        }
    }

    /// Merges two symbols; `None` if nothing is left to merge.
    #[inline]
    fn begin(&mut self, table: Table) -> Option<Change> {
        let lowest = *self.ranks.iter().min()?;
        if lowest == NONE {
            return None;
        }
        let at = lowest as usize & Self::IN_BOUNDS;
        let right = self.next[at] as usize & Self::IN_BOUNDS;
        let (before, after) = (self.previous[at] as usize, self.next[right] as usize);
        let id = self.made[at];
        self.ids[at] = id;
        self.ranks[right] = NONE;
        self.next[at] = after as u8;
        self.previous[after & Self::IN_BOUNDS] = at as u8;
        // Both are looked up whether there are such symbols or not.
        let (previous_id, next_id) = (self.ids[before & Self::IN_BOUNDS], self.ids[after & Self::IN_BOUNDS]);
        let seeks = [table.seek(id, next_id), table.seek(previous_id, id)];
        Some(Change { at, before, after, seeks })
    }

    /// Takes note of what the merged symbol merges with.
    #[inline]
    fn finish(&mut self, change: &Change, table: Table) {
        let [with_next, with_previous] = change.seeks.map(|seek| table.found(seek));
        self.note(change.at & Self::IN_BOUNDS, if change.after < self.len { with_next } else { NO_MERGE });
        if change.before < self.len {
            self.note(change.before & Self::IN_BOUNDS, with_previous);
        }
    }

    /// Calls `token` for each symbol that is left.
    pub(super) fn each(&self, mut token: impl FnMut(u32)) {
        let mut at = 0;
        while at < self.len {
            token(self.ids[at & Self::IN_BOUNDS]);
            at = self.next[at & Self::IN_BOUNDS] as usize;
        }
    }
}
