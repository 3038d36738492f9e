//! What n-grams of a giant take at most, as [`crate::text::ngrams::Ceilings`] finds it, with counters of a fixed number.

use super::edges::Edge;
use super::Giant;
use crate::text::ngrams::MAX_WORDS;
use crate::text::ngrams::{
    num_counters, pair_counter, Cover, Met, FEWEST_REPEATED, FEWEST_TOP, HALF_BYTES, HEAD_BYTES,
};
pub(super) use crate::text::ngrams::{NUM_REPEATED, NUM_TOPS};

/// Most words that counters are made for: fewer than there are raise a ceiling, which is one all the same.
const MAX_COUNTED: usize = 1 << 20;

impl Giant {
    /// Code points of all copies of an n-gram, its words joined by spaces, at most. `n` is 2 to 4.
    pub(in crate::text) fn top_ceiling(&mut self, n: usize) -> usize {
        let tops = self.top_ceilings.unwrap_or_else(|| self.find_top_ceilings());
        self.top_ceilings = Some(tops);
        tops[n - FEWEST_TOP]
    }

    /// Code points in the n-grams that repeat an earlier one, at most. `n` is 5 to 10.
    pub(in crate::text) fn repeated_ceiling(&mut self, n: usize) -> usize {
        let repeated = self.repeated_ceilings.unwrap_or_else(|| self.find_repeated_ceilings());
        self.repeated_ceilings = Some(repeated);
        repeated[n - FEWEST_REPEATED]
    }

    fn find_top_ceilings(&self) -> [usize; NUM_TOPS] {
        let mut counters = vec![0_u32; num_counters(self.num_words.min(MAX_COUNTED))];
        let num_counters = counters.len();
        let counter = |pair: &[Edge]| pair_counter(pair[0].hash, pair[1].hash, num_counters);
        self.each(FEWEST_TOP, |edges| {
            if edges.len() > FEWEST_TOP {
                counters[counter(edges)] += 1;
            }
        });
        let mut tops = [0; NUM_TOPS];
        self.each(FEWEST_TOP + NUM_TOPS - 1, |edges| {
            let mut copies = usize::MAX;
            for ((n, end), top) in (FEWEST_TOP..).zip(edges.iter().skip(FEWEST_TOP)).zip(&mut tops) {
                copies = copies.min(counters[counter(&edges[n - FEWEST_TOP..])] as usize);
                *top = (*top).max(copies * (end.chars - edges[0].chars + n - 1));
            }
        });
        tops
    }

    fn find_repeated_ceilings(&self) -> [usize; NUM_REPEATED] {
        let mut covers = [Cover::default(); NUM_REPEATED];
        let mut met = Met::default();
        met.reset(self.num_words.min(MAX_COUNTED));
        self.each(MAX_WORDS, |edges| {
            let start = edges[0].start;
            let head = self.head(start);
            let (half, whole) = head.hashes();
            let is_met = met.both_again(half, whole);
            for (end, cover) in edges.iter().skip(FEWEST_REPEATED).zip(&mut covers) {
                let is_repeated = match end.start - start {
                    num_bytes @ ..HALF_BYTES => met.again(head.hash_of_first(num_bytes)),
                    _ if !is_met[0] => break,
                    HALF_BYTES..HEAD_BYTES => true,
                    _ => is_met[1],
                };
                if is_repeated {
                    cover.add(edges[0].chars, end.chars);
                }
            }
        });
        covers.map(|cover| cover.chars)
    }
}
