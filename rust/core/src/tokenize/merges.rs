//! Byte-pair merges (Gage 1994; Sennrich et al. 2016) learnt from counted words.
//!
//! Pair counts are kept up to date instead of counted again after each merge, and a
//! heap with stale entries gives the next pair: O(size of the words that change) a merge.
//! Ties go to the smaller pair of ids, and words are sorted first, so the result
//! depends on the counts alone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Two adjacent token ids.
pub type Pair = (u32, u32);

/// A distinct word of the corpus as ids, with the number of its occurrences.
struct Word {
    ids: Vec<u32>,
    count: u64,
}

/// Learns merges; token `id` is the bytes `vocabulary[id]`, ids under 256 are single bytes.
pub struct Merger {
    words: Vec<Word>,
    counts: HashMap<Pair, u64>,
    /// Words that hold, or once held, the pair.
    places: HashMap<Pair, Vec<u32>>,
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    vocabulary: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
}

impl Merger {
    /// Counts the pairs of the words; `words` in any order give the same merges.
    pub fn new(words: HashMap<Vec<u8>, u64>) -> Self {
        let mut sorted: Vec<(Vec<u8>, u64)> = words.into_iter().collect();
        sorted.sort_unstable();
        let vocabulary: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut merger = Self {
            words: sorted.into_iter().map(|(bytes, count)| Word { ids: widen(&bytes), count }).collect(),
            counts: HashMap::new(),
            places: HashMap::new(),
            queue: BinaryHeap::new(),
            ids: vocabulary.iter().cloned().zip(0..).collect(),
            vocabulary,
        };
        merger.count_all();
        merger
    }

    /// Merges until the vocabulary holds `size` tokens or no pair occurs `min_count` times.
    ///
    /// Returns the bytes of every token and the merged pairs in order.
    pub fn run(
        mut self,
        size: usize,
        min_count: u64,
        mut progress: impl FnMut(usize),
    ) -> (Vec<Vec<u8>>, Vec<Pair>) {
        let mut merges = Vec::with_capacity(size.saturating_sub(256));
        while self.vocabulary.len() < size {
            let Some(pair) = self.most_frequent(min_count) else { break };
            let id = self.token_of(pair);
            self.merge(pair, id);
            merges.push(pair);
            progress(self.vocabulary.len());
        }
        (self.vocabulary, merges)
    }

    fn count_all(&mut self) {
        for (index, word) in self.words.iter().enumerate() {
            for pair in word.ids.windows(2).map(|two| (two[0], two[1])) {
                *self.counts.entry(pair).or_default() += word.count;
                self.places.entry(pair).or_default().push(index as u32);
            }
        }
        self.queue = self.counts.iter().map(|(pair, count)| (*count, Reverse(*pair))).collect();
    }

    /// The pair on top of the heap whose count is still true.
    fn most_frequent(&mut self, min_count: u64) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            if count < min_count {
                return None;
            }
            if self.counts.get(&pair) == Some(&count) {
                return Some(pair);
            }
        }
        None
    }

    /// The id of the joined bytes: "ab"+"c" and "a"+"bc" are one token.
    fn token_of(&mut self, (left, right): Pair) -> u32 {
        let bytes = [self.vocabulary[left as usize].as_slice(), &self.vocabulary[right as usize]].concat();
        let next = self.vocabulary.len() as u32;
        *self.ids.entry(bytes).or_insert_with_key(|bytes| {
            self.vocabulary.push(bytes.clone());
            next
        })
    }

    fn merge(&mut self, pair: Pair, id: u32) {
        let mut indices = self.places.remove(&pair).unwrap_or_default();
        indices.sort_unstable();
        indices.dedup();
        let mut changed = Vec::new();
        for index in indices {
            self.merge_in_word(index, pair, id, &mut changed);
        }
        self.counts.remove(&pair);
        changed.sort_unstable();
        changed.dedup();
        for pair in changed {
            self.requeue(pair);
        }
    }

    /// Recounts the pairs of one word before and after the merge.
    fn merge_in_word(&mut self, index: u32, pair: Pair, id: u32, changed: &mut Vec<Pair>) {
        let word = &mut self.words[index as usize];
        let Some(merged) = replace_pair(&word.ids, pair, id) else { return };
        for old in word.ids.windows(2).map(|two| (two[0], two[1])) {
            if let Some(count) = self.counts.get_mut(&old) {
                *count -= word.count;
            }
            changed.push(old);
        }
        for new in merged.windows(2).map(|two| (two[0], two[1])) {
            *self.counts.entry(new).or_default() += word.count;
            if new.0 == id || new.1 == id {
                self.places.entry(new).or_default().push(index);
            }
            changed.push(new);
        }
        word.ids = merged;
    }

    fn requeue(&mut self, pair: Pair) {
        match self.counts.get(&pair) {
            Some(0) => {
                self.counts.remove(&pair);
            }
            Some(count) => self.queue.push((*count, Reverse(pair))),
            None => {}
        }
    }
}

fn widen(bytes: &[u8]) -> Vec<u32> {
    bytes.iter().map(|byte| u32::from(*byte)).collect()
}

/// `ids` with each `pair`, from the left, replaced by `id`; `None` if there is none.
fn replace_pair(ids: &[u32], pair: Pair, id: u32) -> Option<Vec<u32>> {
    let first = ids.windows(2).position(|two| (two[0], two[1]) == pair)?;
    let mut merged = ids[..first].to_vec();
    let mut i = first;
    while i < ids.len() {
        if i + 1 < ids.len() && (ids[i], ids[i + 1]) == pair {
            merged.push(id);
            i += 2;
        } else {
            merged.push(ids[i]);
            i += 1;
        }
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(table: &[(&str, u64)]) -> HashMap<Vec<u8>, u64> {
        table.iter().map(|(word, count)| (word.as_bytes().to_vec(), *count)).collect()
    }

    /// Counts every pair again after each merge: slow, and obviously right.
    fn naive(words: &HashMap<Vec<u8>, u64>, size: usize) -> Vec<Pair> {
        let mut vocabulary: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut words: Vec<(Vec<u32>, u64)> = words.iter().map(|(w, c)| (widen(w), *c)).collect();
        let mut merges = Vec::new();
        while vocabulary.len() < size {
            let mut counts: HashMap<Pair, u64> = HashMap::new();
            for (ids, count) in &words {
                ids.windows(2).for_each(|two| *counts.entry((two[0], two[1])).or_default() += count);
            }
            let best = counts.iter().map(|(pair, count)| (*count, Reverse(*pair))).max();
            let Some((2.., Reverse(pair))) = best else { break };
            let bytes = [vocabulary[pair.0 as usize].clone(), vocabulary[pair.1 as usize].clone()].concat();
            let id = vocabulary.iter().position(|token| *token == bytes).unwrap_or(vocabulary.len());
            if id == vocabulary.len() {
                vocabulary.push(bytes);
            }
            for (ids, _) in &mut words {
                if let Some(merged) = replace_pair(ids, pair, id as u32) {
                    *ids = merged;
                }
            }
            merges.push(pair);
        }
        merges
    }

    #[test]
    fn the_most_frequent_pair_merges_first_and_ties_go_to_the_smaller_ids() {
        let (vocabulary, merges) = Merger::new(words(&[("abab", 1), ("cd", 2)])).run(258, 2, |_| {});
        assert_eq!(merges, [(97, 98), (99, 100)]);
        assert_eq!(vocabulary[256..], [b"ab".to_vec(), b"cd".to_vec()]);
    }

    proptest::proptest! {
        #[test]
        fn kept_counts_give_the_merges_of_counting_again(table in proptest::collection::hash_map("[abc]{1,9}", 1u64..9, 1..30)) {
            let words: HashMap<Vec<u8>, u64> = table.into_iter().map(|(w, c)| (w.into_bytes(), c)).collect();
            let expected = naive(&words, 290);
            proptest::prop_assert_eq!(Merger::new(words).run(290, 2, |_| {}).1, expected);
        }
    }
}
