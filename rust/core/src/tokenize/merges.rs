//! Byte-pair merges (Gage 1994; Sennrich et al. 2016) learnt from counted words.
//!
//! Pair counts are kept up to date instead of counted again after each merge. What a merge changes
//! is gathered by neighbour first, in arrays indexed by token, so that the table of pairs is asked
//! once a neighbour and not once a word. Ties go to the smaller pair of ids, so the result depends
//! on the counts alone, not on the order of the words. A long word stands in pieces, so that a merge
//! looks at what is near its pair and not at a whole genome.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::count::WordCounts;
use super::gather::Gathered;

/// Two adjacent token ids.
pub type Pair = (u32, u32);

/// Most symbols of a piece: longer than words of prose are.
const PIECE_LEN: usize = 512;

/// The distinct words of the corpus, one after the other.
#[derive(Default)]
struct Words {
    symbols: Vec<u32>,
    spans: Vec<Span>,
}

/// Where a word, or a piece of one, stands among the symbols, and the number of the word's occurrences.
struct Span {
    start: usize,
    len: u32,
    /// Whether the word goes on in the next span.
    goes_on: bool,
    count: u64,
}

/// What is known of a pair.
#[derive(Default)]
struct Entry {
    count: u64,
    /// Spans in which the pair begins, or once began.
    places: Places,
    /// Whether it is among the merges: where two pairs make one token, a pair can come up again.
    is_merged: bool,
}

/// Spans, of which one takes no memory of its own: of long words most pairs occur once.
enum Places {
    One(u32),
    Many(Vec<u32>),
}

impl Default for Places {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Places {
    fn last(&self) -> Option<u32> {
        match self {
            Self::One(place) => Some(*place),
            Self::Many(places) => places.last().copied(),
        }
    }

    fn extend(&mut self, more: &[u32]) {
        match (&mut *self, more) {
            (_, []) => {}
            (Self::Many(places), [place]) if places.is_empty() => *self = Self::One(*place),
            (Self::Many(places), _) => places.extend_from_slice(more),
            (Self::One(place), _) => *self = Self::Many([&[*place], more].concat()),
        }
    }

    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(place) => vec![place],
            Self::Many(places) => places,
        }
    }
}

/// Learns merges; token `id` is the bytes `vocabulary[id]`, ids under 256 are single bytes.
pub struct Merger {
    words: Words,
    pairs: PairTable,
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    vocabulary: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
    /// Tokens that are not learnt, because special tokens are spelt like that.
    reserved: HashSet<Vec<u8>>,
}

impl Merger {
    /// Counts the pairs of the words; pairs that would make a `reserved` token are not merged.
    pub(super) fn new(counts: &WordCounts, reserved: HashSet<Vec<u8>>) -> Self {
        Self::in_pieces(counts, reserved, PIECE_LEN)
    }

    fn in_pieces(counts: &WordCounts, reserved: HashSet<Vec<u8>>, piece_len: usize) -> Self {
        let vocabulary: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut merger = Self {
            words: Words::new(counts, piece_len),
            pairs: PairTable::default(),
            queue: BinaryHeap::new(),
            ids: vocabulary.iter().cloned().zip(0..).collect(),
            vocabulary,
            reserved,
        };
        merger.count_all();
        merger
    }

    /// Merges until the vocabulary holds `size` tokens or no pair occurs `min_count` times.
    ///
    /// Returns the bytes of every token and the merged pairs in order; or what `progress` fails with.
    pub fn run<E>(
        mut self,
        size: usize,
        min_count: u64,
        mut progress: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(Vec<Vec<u8>>, Vec<Pair>), E> {
        let mut merges = Vec::with_capacity(size.saturating_sub(256));
        let mut gathered = Gathered::new(size);
        let frequent = self.pairs.iter().filter(|(_, entry)| entry.count >= min_count);
        self.queue = frequent.map(|(pair, entry)| (entry.count, Reverse(pair))).collect();
        while self.vocabulary.len() < size {
            let Some((pair, places)) = self.most_frequent(min_count) else { break };
            let Some(id) = self.token_of(pair) else { continue };
            self.merge(pair, id, places, &mut gathered);
            gathered.drain_gained(|pair| self.wait(pair, min_count));
            if !std::mem::replace(&mut self.pairs.entry(pair).is_merged, true) {
                merges.push(pair);
            }
            progress(self.vocabulary.len())?;
        }
        Ok((self.vocabulary, merges))
    }

    fn count_all(&mut self) {
        for (index, span) in (0..).zip(&self.words.spans) {
            // A word is whole at first: the first symbol of its next piece stands behind this piece.
            let len = span.len as usize + usize::from(span.goes_on);
            for two in self.words.symbols[span.start..][..len].windows(2) {
                let entry = self.pairs.entry((two[0], two[1]));
                entry.count += span.count;
                if entry.places.last() != Some(index) {
                    entry.places.extend(&[index]);
                }
            }
        }
    }

    /// Lets a pair wait for its turn, if it occurs often enough to have one: of long words most pairs do not.
    fn wait(&mut self, pair: Pair, min_count: u64) {
        let count = self.pairs.entry(pair).count;
        if count >= min_count {
            self.queue.push((count, Reverse(pair)));
        }
    }

    /// Takes the pair that occurs most; an entry of the heap whose count has fallen goes back with it.
    fn most_frequent(&mut self, min_count: u64) -> Option<(Pair, Vec<u32>)> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let entry = self.pairs.entry(pair);
            if entry.count == count {
                entry.count = 0;
                return Some((pair, std::mem::take(&mut entry.places).into_vec()));
            }
            if entry.count < count {
                self.wait(pair, min_count);
            }
        }
        None
    }

    /// The id of the joined bytes: "ab"+"c" and "a"+"bc" are one token. `None` if they are reserved.
    fn token_of(&mut self, (left, right): Pair) -> Option<u32> {
        let bytes = [self.vocabulary[left as usize].as_slice(), &self.vocabulary[right as usize]].concat();
        if self.reserved.contains(&bytes) {
            return None;
        }
        let next = self.vocabulary.len() as u32;
        Some(*self.ids.entry(bytes).or_insert_with_key(|bytes| {
            self.vocabulary.push(bytes.clone());
            next
        }))
    }

    fn merge(&mut self, pair: Pair, id: u32, mut places: Vec<u32>, gathered: &mut Gathered) {
        if pair.0 == pair.1 {
            places.sort_unstable(); // a run is paired from its left, also from piece to piece
        }
        for place in places {
            self.words.merge(place, pair, id, gathered);
        }
        let pairs = &mut self.pairs;
        gathered.drain_gains(id, |pair, count, places| {
            let entry = pairs.entry(pair);
            entry.count += count;
            entry.places.extend(places);
        });
        gathered.drain_losses(pair, |lost, count| {
            if lost != pair {
                let entry = pairs.entry(lost);
                entry.count = entry.count.saturating_sub(count); // what is reserved counts for nothing
            }
        });
    }
}

impl Words {
    /// The words of two bytes and more: others have no pair.
    fn new(counts: &WordCounts, piece_len: usize) -> Self {
        let mut words = Self::default();
        counts.each(|bytes, count| {
            let mut left = if bytes.len() > 1 { bytes } else { &[] };
            while !left.is_empty() {
                let (piece, rest) = left.split_at(left.len().min(piece_len));
                let (start, len) = (words.symbols.len(), piece.len() as u32);
                words.spans.push(Span { start, len, goes_on: !rest.is_empty(), count });
                words.symbols.extend(piece.iter().map(|byte| u32::from(*byte)));
                left = rest;
            }
        });
        words
    }

    /// Replaces each `pair` that begins in a span, from the left, by `id`, and gathers what its neighbours
    /// lose and gain.
    fn merge(&mut self, place: u32, pair: Pair, id: u32, gathered: &mut Gathered) {
        let (before, after) = (self.before(place), self.first(self.after(place)));
        let span = &mut self.spans[place as usize];
        let symbols = &mut self.symbols[span.start..][..span.len as usize];
        let (mut from, mut to) = (0, 0);
        while from < symbols.len() {
            if from + 1 < symbols.len() && (symbols[from], symbols[from + 1]) == pair {
                if to > 0 {
                    gathered.before(symbols[to - 1], span.count, place);
                } else if let Some((token, place)) = before {
                    gathered.before(token, span.count, place);
                }
                if let Some(next) = symbols.get(from + 2).copied().or(after) {
                    gathered.after(next, span.count, place);
                }
                symbols[to] = id;
                from += 2;
            } else {
                symbols[to] = symbols[from];
                from += 1;
            }
            to += 1;
        }
        span.len = to as u32;
        if after == Some(pair.1) && to > 0 && symbols[to - 1] == pair.0 {
            self.merge_across(place, id, gathered);
        }
    }

    /// Replaces the last symbol of a piece and the first one behind it by `id`.
    fn merge_across(&mut self, place: u32, id: u32, gathered: &mut Gathered) {
        let Some(next) = self.after(place) else { return };
        self.spans[next].start += 1;
        self.spans[next].len -= 1;
        let Span { start, len, count, .. } = self.spans[place as usize];
        let last = start + len as usize - 1;
        let inside = (len > 1).then(|| (self.symbols[last - 1], place));
        if let Some((token, place)) = inside.or_else(|| self.before(place)) {
            gathered.before(token, count, place);
        }
        if let Some(token) = self.first(self.after(place)) {
            gathered.after(token, count, place);
        }
        self.symbols[last] = id;
    }

    /// The last symbol of the word before this piece, and the piece that it stands in.
    fn before(&self, place: u32) -> Option<(u32, u32)> {
        let earlier = self.spans[..place as usize].iter().rev().take_while(|span| span.goes_on);
        let (span, place) = earlier.zip((0..place).rev()).find(|(span, _)| span.len > 0)?;
        Some((self.symbols[span.start + span.len as usize - 1], place))
    }

    /// The next piece of the word that has symbols left.
    fn after(&self, place: u32) -> Option<usize> {
        let mut next = place as usize;
        while self.spans[next].goes_on {
            next += 1;
            if self.spans[next].len > 0 {
                return Some(next);
            }
        }
        None
    }

    fn first(&self, span: Option<usize>) -> Option<u32> {
        span.map(|span| self.symbols[self.spans[span].start])
    }
}

/// The pairs, in open addressing at most half full: keys apart from what is known of them.
#[derive(Default)]
struct PairTable {
    /// Pair as one number, and the index of its entry; [`NO_PAIR`] marks what is free.
    slots: Vec<(u64, u32)>,
    entries: Vec<(Pair, Entry)>,
}

/// Larger than any pair: ids stay under 2^20.
const NO_PAIR: u64 = u64::MAX;

impl PairTable {
    /// What is known of a pair, new if nothing is.
    fn entry(&mut self, pair: Pair) -> &mut Entry {
        if self.entries.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let slot = self.slot(pair);
        if self.slots[slot].0 == NO_PAIR {
            self.slots[slot] = (number(pair), self.entries.len() as u32);
            self.entries.push((pair, Entry::default()));
        }
        &mut self.entries[self.slots[slot].1 as usize].1
    }

    fn slot(&self, pair: Pair) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (number(pair).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.slots[slot].0 != number(pair) && self.slots[slot].0 != NO_PAIR {
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[cold]
    fn grow(&mut self) {
        self.slots = vec![(NO_PAIR, 0); (self.slots.len() * 2).max(1 << 12)];
        for index in 0..self.entries.len() {
            let pair = self.entries[index].0;
            let slot = self.slot(pair);
            self.slots[slot] = (number(pair), index as u32);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Pair, &Entry)> {
        self.entries.iter().map(|(pair, entry)| (*pair, entry))
    }
}

fn number((left, right): Pair) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    type Table = HashMap<Vec<u8>, u64>;

    fn words(table: &[(&str, u64)]) -> Table {
        table.iter().map(|(word, count)| (word.as_bytes().to_vec(), *count)).collect()
    }

    fn merger(words: &Table) -> Merger {
        merger_in_pieces(words, PIECE_LEN)
    }

    fn merger_in_pieces(words: &Table, piece_len: usize) -> Merger {
        let mut counts = WordCounts::default();
        for (word, count) in words {
            counts.add(word, 0, word.len(), *count);
        }
        Merger::in_pieces(&counts, HashSet::from([b"cab".to_vec()]), piece_len)
    }

    fn run(merger: Merger, size: usize) -> (Vec<Vec<u8>>, Vec<Pair>) {
        merger.run(size, 2, |_| Ok::<(), Infallible>(())).unwrap()
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
    fn naive(words: &Table, size: usize) -> Vec<Pair> {
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
            let Some((2.., Reverse(pair))) = best else { break };
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
        let (vocabulary, merges) = run(merger(&words(&[("abab", 1), ("cd", 2)])), 258);
        assert_eq!(merges, [(97, 98), (99, 100)]);
        assert_eq!(vocabulary[256..], [b"ab".to_vec(), b"cd".to_vec()]);
    }

    proptest::proptest! {
        #[test]
        fn kept_counts_give_the_merges_of_counting_again(table in proptest::collection::hash_map("[abc]{1,9}", 1u64..9, 1..30)) {
            let words: Table = table.into_iter().map(|(w, c)| (w.into_bytes(), c)).collect();
            let expected = naive(&words, 290);
            proptest::prop_assert_eq!(run(merger(&words), 290).1, expected);
        }

        #[test]
        fn pieces_of_words_give_the_merges_of_whole_words(
            table in proptest::collection::hash_map("a{0,9}[ab]{1,20}[abc]{0,9}", 1u64..9, 1..12), piece_len in 1usize..6
        ) {
            let words: Table = table.into_iter().map(|(w, c)| (w.into_bytes(), c)).collect();
            let expected = naive(&words, 290);
            proptest::prop_assert_eq!(run(merger_in_pieces(&words, piece_len), 290).1, expected);
        }
    }
}
