//! How much of a giant its repeated n-grams take, as [`crate::text::ngrams::Spelled`] finds it.

use super::edges::Edge;
use super::Giant;
pub(super) use crate::text::ngrams::HEAD_BYTES;
use crate::text::ngrams::{hash_letters, Head};

/// Pairs of words of bits, at most: 16 MB.
const MAX_MET: usize = 1 << 20;
/// Fewest slots.
const MIN_SLOTS: usize = 1 << 10;

impl Giant {
    /// Code points in the n-grams that repeat an earlier one, read from left to right: a repeated one is counted and
    /// jumped over, any other is remembered and the next word begins one.
    pub(in crate::text) fn repeated_chars(&mut self, n: usize) -> usize {
        if let Some(chars) = self.repeated[n] {
            return chars;
        }
        let chars = self.find_repeated(n);
        self.repeated[n] = Some(chars);
        chars
    }

    fn find_repeated(&self, n: usize) -> usize {
        let (met, num_again) = self.meet(n);
        // Of those that stand twice or more at most half are remembered, and of others there are few.
        let mut firsts = Firsts { giant: self, n, slots: Vec::new(), num_used: 0 };
        firsts.slots.resize((num_again / 4 * 3).max(MIN_SLOTS), 0);
        let (mut from, mut chars) = (0, 0);
        self.each_spelled(n, |edges, hash| {
            if edges[0].start >= from && met.is_again(hash) && !firsts.remember(edges[0].start, hash) {
                chars += edges[n].chars - edges[0].chars;
                from = edges[n].start;
            }
        });
        chars
    }

    /// Meets every n-gram; how many seem to stand twice or more, the first copies left out.
    fn meet(&self, n: usize) -> (Met, usize) {
        let num_met = (self.num_words / 4).next_power_of_two().min(MAX_MET);
        let (mut met, mut num_again) = (Met(vec![(0, 0); num_met]), 0);
        self.each_spelled(n, |_, hash| num_again += usize::from(met.meet(hash)));
        (met, num_again)
    }

    fn each_spelled(&self, n: usize, mut take: impl FnMut(&[Edge], u64)) {
        self.each(n, |edges| {
            if let Some(end) = edges.get(n) {
                take(edges, hash_letters(&self.letters, edges[0].start, end.start - edges[0].start));
            }
        });
    }

    pub(super) fn head(&self, start: usize) -> Head {
        Head::of(&self.letters, start)
    }

    /// Where the n-gram ends that begins at `start`.
    fn end_of(&self, start: usize, n: usize) -> usize {
        let mut end = start;
        for _ in 0..n {
            end = self.starts.next(end + 1).unwrap_or(self.num_bytes);
        }
        end
    }
}

/// A bit for each n-gram met, and one for each met again.
struct Met(Vec<(u64, u64)>);

impl Met {
    /// True if it, or another with its bit, was met before.
    fn meet(&mut self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        let (met, again) = &mut self.0[word];
        let is_again = *met & bit != 0;
        *again |= *met & bit;
        *met |= bit;
        is_again
    }

    fn is_again(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        self.0[word].1 & bit != 0
    }

    fn place(&self, hash: u64) -> (usize, u64) {
        ((hash >> 38) as usize & (self.0.len() - 1), 1 << (hash >> 32 & 63))
    }
}

/// The n-grams that are remembered: where each stands first, and 1; 0 is an empty slot.
struct Firsts<'g> {
    giant: &'g Giant,
    n: usize,
    slots: Vec<u32>,
    num_used: usize,
}

impl Firsts<'_> {
    /// True if the n-gram is new, and now remembered.
    fn remember(&mut self, start: usize, hash: u64) -> bool {
        if 5 * self.num_used >= 4 * self.slots.len() {
            self.grow();
        }
        let end = self.giant.end_of(start, self.n);
        let letters = &self.giant.letters[start..end];
        let mut slot = self.first_slot(hash);
        while let Some(other) = self.slots[slot].checked_sub(1) {
            let other = other as usize;
            if self.giant.letters[other..self.giant.end_of(other, self.n)] == *letters {
                return false;
            }
            slot = (slot + 1) % self.slots.len();
        }
        self.slots[slot] = start as u32 + 1;
        self.num_used += 1;
        true
    }

    /// Any number of slots will do, so that half of them is not spent on a power of two.
    fn first_slot(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    fn grow(&mut self) {
        let size = self.slots.len() / 2 * 3;
        for start in std::mem::replace(&mut self.slots, vec![0; size]).into_iter().filter(|start| *start > 0)
        {
            let at = start as usize - 1;
            let num_bytes = self.giant.end_of(at, self.n) - at;
            let mut slot = self.first_slot(hash_letters(&self.giant.letters, at, num_bytes));
            while self.slots[slot] != 0 {
                slot = (slot + 1) % self.slots.len();
            }
            self.slots[slot] = start;
        }
    }
}
