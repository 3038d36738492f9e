//! Byte-pair merges (Gage 1994; Sennrich et al. 2016) learnt from counted words.
//!
//! Pair counts are kept up to date instead of counted again after each merge. What a merge changes
//! is gathered by neighbour first, in arrays indexed by token, so that the table of pairs is asked
//! once a neighbour and not once a word. Ties go to the smaller pair of ids, so the result depends
//! on the counts alone, not on the order of the words.
//!
//! Pairs that occur too rarely to be merged are not known: of random text they are almost all. A pair
//! comes to occur more only where a token is made again, of two others; then those of its pairs that
//! are not known are counted again in all words.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::count::WordCounts;
use super::gather::Gathered;
use super::pair_table::PairTable;
use super::pieces::{Symbol, Words};

/// Two adjacent token ids.
pub type Pair = (u32, u32);

/// The bytes of every token, and the merged pairs in order.
type Learnt = (Vec<Vec<u8>>, Vec<Pair>);

/// Most symbols of a piece: longer than words of prose are.
const PIECE_LEN: usize = 512;

/// What is to be learnt.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    /// Most tokens.
    pub(super) size: usize,
    /// How often a pair has to occur, at least, to be merged.
    pub(super) min_count: u64,
    /// Tokens that are not learnt, because special tokens are spelt like that.
    pub(super) reserved: HashSet<Vec<u8>>,
}

/// Merges until the vocabulary holds `size` tokens or no pair occurs `min_count` times; token `id` is the bytes
/// `vocabulary[id]`, ids under 256 are single bytes.
///
/// # Errors
/// What `progress` fails with, which is told how many tokens there are.
pub(super) fn learn<E>(
    counts: WordCounts,
    aim: Aim,
    progress: impl FnMut(usize) -> Result<(), E>,
) -> Result<Learnt, E> {
    if aim.size <= 1 << 16 {
        Merger::<u16>::new(counts, aim, PIECE_LEN).run(progress)
    } else {
        Merger::<u32>::new(counts, aim, PIECE_LEN).run(progress)
    }
}

struct Merger<S> {
    words: Words<S>,
    pairs: PairTable,
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    vocabulary: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
    aim: Aim,
}

impl<S: Symbol> Merger<S> {
    /// Counts the pairs of the words; pairs that would make a `reserved` token are not merged.
    fn new(counts: WordCounts, aim: Aim, piece_len: usize) -> Self {
        let vocabulary: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut merger = Self {
            words: Words::new(counts, piece_len),
            pairs: PairTable::default(),
            queue: BinaryHeap::new(),
            ids: vocabulary.iter().cloned().zip(0..).collect(),
            vocabulary,
            aim,
        };
        merger.count_all();
        merger
    }

    fn run<E>(mut self, mut progress: impl FnMut(usize) -> Result<(), E>) -> Result<Learnt, E> {
        let mut merges = Vec::with_capacity(self.aim.size.saturating_sub(256));
        let (mut gathered, mut learnt) = (Gathered::new(self.aim.size), HashSet::new());
        let frequent = self.pairs.iter().filter(|(_, count)| *count >= self.aim.min_count);
        self.queue = frequent.map(|(pair, count)| (count, Reverse(pair))).collect();
        while self.vocabulary.len() < self.aim.size {
            let Some((pair, places)) = self.most_frequent() else { break };
            let num_known = self.vocabulary.len();
            let Some(id) = self.token_of(pair) else { continue };
            let is_new = self.vocabulary.len() > num_known;
            self.merge(pair, (id, is_new), places, &mut gathered);
            // Where two pairs make one token, a pair can come up again.
            if learnt.insert(pair) {
                merges.push(pair);
            }
            progress(self.vocabulary.len())?;
        }
        Ok((self.vocabulary, merges))
    }

    fn count_all(&mut self) {
        let pairs = &mut self.pairs;
        self.words.each_pair(|pair, count, place| {
            let entry = pairs.entry(pair);
            entry.count += count;
            if entry.places.last() != Some(place) {
                entry.places.extend(&[place]);
            }
        });
    }

    /// Lets a pair wait for its turn, if it occurs often enough to have one.
    fn wait(&mut self, pair: Pair) {
        if let Some(entry) = self.pairs.get_mut(pair) {
            if entry.count >= self.aim.min_count {
                self.queue.push((entry.count, Reverse(pair)));
            }
        }
    }

    /// Takes the pair that occurs most; an entry of the heap whose count has fallen goes back with it.
    fn most_frequent(&mut self) -> Option<(Pair, Vec<u32>)> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            match self.pairs.get_mut(pair) {
                Some(entry) if entry.count == count => return Some((pair, entry.forget().into_vec())),
                Some(entry) if entry.count < count => self.wait(pair),
                _ => {}
            }
        }
        None
    }

    /// The id of the joined bytes: "ab"+"c" and "a"+"bc" are one token. `None` if they are reserved.
    fn token_of(&mut self, (left, right): Pair) -> Option<u32> {
        let bytes = [self.vocabulary[left as usize].as_slice(), &self.vocabulary[right as usize]].concat();
        if self.aim.reserved.contains(&bytes) {
            return None;
        }
        let next = self.vocabulary.len() as u32;
        Some(*self.ids.entry(bytes).or_insert_with_key(|bytes| {
            self.vocabulary.push(bytes.clone());
            next
        }))
    }

    fn merge(
        &mut self,
        pair: Pair,
        (id, is_new): (u32, bool),
        mut places: Vec<u32>,
        gathered: &mut Gathered,
    ) {
        if pair.0 == pair.1 {
            places.sort_unstable(); // a run is paired from its left, also from piece to piece
        }
        for place in places {
            self.words.merge(place, pair, id, gathered);
        }
        let unknown = self.gain(id, is_new, gathered);
        self.lose(pair, gathered);
        if !unknown.is_empty() {
            self.recount(id, &unknown);
        }
        gathered.drain_gained(|pair| self.wait(pair));
    }

    /// Adds what pairs of a token gain, but for those of one made again that are not known: these are returned.
    fn gain(&mut self, id: u32, is_new: bool, gathered: &mut Gathered) -> Vec<Pair> {
        let (pairs, min_count, mut unknown) = (&mut self.pairs, self.aim.min_count, Vec::new());
        gathered.drain_gains(id, |pair, count, places| {
            // A token beside itself may be told twice.
            let is_known =
                if is_new { count >= min_count || pair.0 == pair.1 } else { pairs.get_mut(pair).is_some() };
            if is_known {
                let entry = pairs.entry(pair);
                entry.count += count;
                entry.places.extend(places);
            } else if !is_new {
                unknown.push(pair);
            }
        });
        unknown
    }

    /// Takes what pairs of the merged tokens lose, and forgets those that are rare then.
    fn lose(&mut self, pair: Pair, gathered: &mut Gathered) {
        let (pairs, min_count) = (&mut self.pairs, self.aim.min_count);
        gathered.drain_losses(pair, |lost, count| {
            let Some(entry) = pairs.get_mut(lost).filter(|_| lost != pair) else { return };
            entry.count = entry.count.saturating_sub(count); // what is reserved counts for nothing
            if entry.count < min_count {
                entry.forget();
            }
        });
    }

    fn recount(&mut self, id: u32, unknown: &[Pair]) {
        for (pair, (count, places)) in self.words.recount(id, unknown) {
            if count >= self.aim.min_count {
                let entry = self.pairs.entry(pair);
                (entry.count, entry.places) = (count, places);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    type Table = HashMap<Vec<u8>, u64>;

    fn words(table: &[(&str, u64)]) -> Table {
        table.iter().map(|(word, count)| (word.as_bytes().to_vec(), *count)).collect()
    }

    fn learnt<S: Symbol>(words: &Table, size: usize, min_count: u64, piece_len: usize) -> Learnt {
        let mut counts = WordCounts::default();
        for (word, count) in words {
            counts.add(word, 0, word.len(), *count);
        }
        let aim = Aim { size, min_count, reserved: HashSet::from([b"cab".to_vec()]) };
        Merger::<S>::new(counts, aim, piece_len).run(|_| Ok::<(), Infallible>(())).unwrap()
    }

    fn widen(bytes: &[u8]) -> Vec<u32> {
        bytes.iter().map(|byte| u32::from(*byte)).collect()
    }

    fn replace_pair(ids: &[u32], pair: Pair, id: u32) -> Vec<u32> {
        let (mut merged, mut i) = (Vec::new(), 0);
        while i < ids.len() {
            let is_pair = i + 1 < ids.len() && (ids[i], ids[i + 1]) == pair;
            merged.push(if is_pair { id } else { ids[i] });
            i += 1 + usize::from(is_pair);
        }
        merged
    }

    /// Counts every pair again after each merge: slow, and obviously right.
    fn naive(words: &Table, size: usize, min_count: u64) -> Vec<Pair> {
        let mut vocabulary: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut words: Vec<(Vec<u32>, u64)> = words.iter().map(|(w, c)| (widen(w), *c)).collect();
        let mut merges = Vec::new();
        while vocabulary.len() < size {
            let mut counts: HashMap<Pair, u64> = HashMap::new();
            for (ids, count) in &words {
                ids.windows(2).for_each(|two| *counts.entry((two[0], two[1])).or_default() += count);
            }
            let token = |id: u32| vocabulary[id as usize].clone();
            counts.retain(|pair, _| [token(pair.0), token(pair.1)].concat() != b"cab");
            let best = counts.iter().map(|(pair, count)| (*count, Reverse(*pair))).max();
            let Some((_, Reverse(pair))) = best.filter(|(count, _)| *count >= min_count) else { break };
            let bytes = [vocabulary[pair.0 as usize].clone(), vocabulary[pair.1 as usize].clone()].concat();
            let id = vocabulary.iter().position(|token| *token == bytes).unwrap_or(vocabulary.len());
            if id == vocabulary.len() {
                vocabulary.push(bytes);
            }
            for (ids, _) in &mut words {
                *ids = replace_pair(ids, pair, id as u32);
            }
            if !merges.contains(&pair) {
                merges.push(pair);
            }
        }
        merges
    }

    #[test]
    fn the_most_frequent_pair_merges_first_and_ties_go_to_the_smaller_ids() {
        let (vocabulary, merges) = learnt::<u16>(&words(&[("abab", 1), ("cd", 2)]), 258, 2, PIECE_LEN);
        assert_eq!(merges, [(97, 98), (99, 100)]);
        assert_eq!(vocabulary[256..], [b"ab".to_vec(), b"cd".to_vec()]);
    }

    proptest::proptest! {
        #[test]
        fn kept_counts_give_the_merges_of_counting_again(
            table in proptest::collection::hash_map("[abc]{1,9}", 1u64..9, 1..30), min_count in 1u64..40
        ) {
            let words: Table = table.into_iter().map(|(w, c)| (w.into_bytes(), c)).collect();
            let expected = naive(&words, 290, min_count);
            proptest::prop_assert_eq!(learnt::<u32>(&words, 290, min_count, PIECE_LEN).1, expected);
        }

        #[test]
        fn pieces_of_words_give_the_merges_of_whole_words(
            table in proptest::collection::hash_map("a{0,9}[ab]{1,20}[abc]{0,9}", 1u64..9, 1..12), piece_len in 1usize..6,
            min_count in 1u64..40
        ) {
            let words: Table = table.into_iter().map(|(w, c)| (w.into_bytes(), c)).collect();
            let expected = naive(&words, 290, min_count);
            proptest::prop_assert_eq!(learnt::<u16>(&words, 290, min_count, piece_len).1, expected);
        }
    }
}
