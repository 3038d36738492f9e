//! How often each word occurs: what training reads of a corpus.
//!
//! Short words are numbers in one flat table; sums do not depend on who counted what.

use std::collections::HashMap;

use super::bpe::{halves, hash, key};

/// Words with the sum of their weights.
#[derive(Debug, Default)]
pub(super) struct WordCounts {
    /// Words of up to 15 bytes, in open addressing at most three quarters full.
    short: Vec<Slot>,
    num_short: usize,
    long: HashMap<Box<[u8]>, u64>,
}

/// The key of a word in two halves, which take a third less memory beside a sum than in one, and its sum.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    low: u64,
    /// 0 where there is no word.
    high: u64,
    sum: u64,
}

impl WordCounts {
    /// Counts the word `text[start..end]` with a weight.
    #[inline]
    pub(super) fn add(&mut self, text: &[u8], start: usize, end: usize, weight: u64) {
        match key(text, start, end) {
            Some(key) => self.add_short(halves(key), weight),
            None => self.add_long(&text[start..end], weight),
        }
    }

    #[inline]
    fn add_short(&mut self, [low, high]: [u64; 2], weight: u64) {
        if self.num_short * 4 >= self.short.len() * 3 {
            self.grow();
        }
        let mask = self.short.len() - 1;
        let mut at = hash(low, high) as usize & mask;
        loop {
            let slot = &mut self.short[at];
            if slot.low == low && slot.high == high {
                slot.sum += weight;
                return;
            }
            if slot.high == 0 {
                *slot = Slot { low, high, sum: weight };
                self.num_short += 1;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.short.len() * 2).max(1 << 12);
        let old = std::mem::replace(&mut self.short, vec![Slot::default(); size]);
        self.num_short = 0;
        old.iter()
            .filter(|slot| slot.high != 0)
            .for_each(|slot| self.add_short([slot.low, slot.high], slot.sum));
    }

    fn add_long(&mut self, word: &[u8], weight: u64) {
        match self.long.get_mut(word) {
            Some(sum) => *sum += weight,
            None => drop(self.long.insert(word.into(), weight)),
        }
    }

    /// Adds the counts of another.
    pub(super) fn merge(&mut self, other: Self) {
        for slot in other.short.into_iter().filter(|slot| slot.high != 0) {
            self.add_short([slot.low, slot.high], slot.sum);
        }
        for (word, weight) in other.long {
            self.add_long(&word, weight);
        }
    }

    /// Distinct words.
    pub(super) fn len(&self) -> usize {
        self.num_short + self.long.len()
    }

    /// Bytes of the distinct words.
    pub(super) fn num_bytes(&self) -> usize {
        let short: usize = self.short.iter().map(|slot| usize::from(slot.high.to_le_bytes()[7])).sum();
        short + self.long.keys().map(|word| word.len()).sum::<usize>()
    }

    /// Each word with its sum, in any order; long words give their memory back on the way.
    pub(super) fn drain(self, mut word: impl FnMut(&[u8], u64)) {
        for (bytes, sum) in self.long {
            word(&bytes, sum);
        }
        for slot in self.short.iter().filter(|slot| slot.high != 0) {
            let bytes: [u8; 16] = bytemuck::cast([slot.low.to_le_bytes(), slot.high.to_le_bytes()]);
            word(&bytes[..bytes[15] as usize], slot.sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted<'a>(words: impl IntoIterator<Item = &'a str>) -> WordCounts {
        let mut counts = WordCounts::default();
        words.into_iter().for_each(|word| counts.add(word.as_bytes(), 0, word.len(), 1));
        counts
    }

    fn sorted(counts: WordCounts) -> Vec<(Vec<u8>, u64)> {
        let mut all = Vec::new();
        counts.drain(|word, sum| all.push((word.to_vec(), sum)));
        all.sort();
        all
    }

    proptest! {
        #[test]
        fn parts_counted_apart_and_merged_are_the_whole(words in proptest::collection::vec("[ab]{1,3}|[a-c]{14,18}", 0..300), cut in 0_usize..300) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let cut = cut.min(words.len());
            let mut merged = counted(words[..cut].iter().copied());
            merged.merge(counted(words[cut..].iter().copied()));
            let mut expected: std::collections::BTreeMap<Vec<u8>, u64> = std::collections::BTreeMap::new();
            for word in &words {
                *expected.entry(word.as_bytes().to_vec()).or_default() += 1;
            }
            prop_assert_eq!(merged.len(), expected.len());
            prop_assert_eq!(sorted(merged), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
