//! A vocabulary with its merges: one word in, its ids out.

use std::collections::HashMap;
use std::hint::black_box;

use super::super::words::{Span, BATCH_WORDS};
use super::cache::{find, is_in, pack, write, Cache, Packed, WRITTEN_IDS};
use super::key::{halves, hash, key, Key, MAX_BYTES};
use super::pairs::{Merge, Pairs, Table, NO_MERGE};
use super::symbols::Symbols;
use super::together::{merge_together, Short, LANES};
use super::word::Word;

/// What a word is made of before it is merged.
#[derive(Debug)]
pub(in crate::tokenize) enum Alphabet {
    /// Every byte has a token.
    Bytes(Box<[u32; 256]>),
    /// Characters, of which some may have no token.
    Chars(Symbols),
}

/// The model of a `tokenizer.json`.
#[derive(Debug)]
pub(in crate::tokenize) struct Model {
    alphabet: Alphabet,
    pairs: Pairs,
    /// The merges of all pairs of bytes, if words are bytes.
    first_merges: Vec<Merge>,
    /// Words that are one token whatever the merges say (`ignore_merges`), as they stand in text.
    whole: HashMap<Box<[u8]>, u32>,
    /// The tokens that are short words, the rarest first, with their ids: what a cache begins with.
    seed: Vec<(Key, Packed)>,
}

/// A word that has a key has less symbols.
const KEY_SYMBOLS: usize = MAX_BYTES + 1;

/// What stands for a word that is too long for a key: no entry has it.
const NO_KEY: [u64; 2] = [1, 0];

/// Memory of one thread for encoding words; the cache belongs to one model.
#[derive(Debug)]
pub(in crate::tokenize) struct Scratch {
    cache: Cache,
    word: Word,
    batch: Box<Batch>,
}

/// A few words by their keys, and the ids of those that are known.
#[derive(Debug)]
struct Batch {
    keys: [[u64; 2]; BATCH_WORDS],
    hashes: [u64; BATCH_WORDS],
    ids: [u32; BATCH_WORDS * WRITTEN_IDS],
    /// Indices of those that are not known.
    new: [usize; BATCH_WORDS],
}

impl Scratch {
    /// For words of `model`.
    pub(in crate::tokenize) fn new(model: &Model) -> Self {
        let batch = Batch {
            keys: [[0; 2]; BATCH_WORDS],
            hashes: [0; BATCH_WORDS],
            ids: [0; BATCH_WORDS * WRITTEN_IDS],
            new: [0; BATCH_WORDS],
        };
        Self { cache: Cache::new(&model.seed), word: Word::default(), batch: Box::new(batch) }
    }
}

impl Model {
    /// A model whose `tokens` are spelt as they stand in text, those first that are used most.
    pub(in crate::tokenize) fn new(
        alphabet: Alphabet,
        pairs: Pairs,
        whole: HashMap<Box<[u8]>, u32>,
        tokens: impl DoubleEndedIterator<Item = Box<[u8]>>,
    ) -> Self {
        let first_merges = first_merges(&alphabet, pairs.table());
        let mut model = Self { alphabet, pairs, first_merges, whole, seed: Vec::new() };
        let with_key = |token: Box<[u8]>| Some((key(&token, 0, token.len())?, token));
        let short: Vec<(Key, Box<[u8]>)> = tokens.rev().filter_map(with_key).collect();
        let mut seed = Vec::with_capacity(short.len());
        for few in short.chunks(LANES) {
            model.merge_together(few.iter().map(|(_, word)| &**word), |lane, ids| {
                seed.extend(pack(ids).map(|packed| (few[lane].0, packed)));
            });
        }
        model.seed = seed;
        model
    }

    /// Appends the ids of words of `text`, at most [`BATCH_WORDS`], which begin and end with characters.
    #[inline]
    pub(in crate::tokenize) fn push(
        &self,
        text: &str,
        words: &[Span],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let text = text.as_bytes();
        scratch.take_keys(text, words);
        let num_new = scratch.find_new(words.len());
        if num_new > 0 {
            self.learn(text, words, num_new, scratch);
        }
        let (mut done, mut len) = (0, 0);
        while let Some(other) = scratch.write_known(words.len(), &mut done, &mut len) {
            out.extend_from_slice(&scratch.batch.ids[..len]);
            len = 0;
            let (start, end) = words[other];
            self.push_other(&text[start..end], scratch, out);
        }
        out.extend_from_slice(&scratch.batch.ids[..len]);
    }

    /// Remembers the short words that are not known, a few at a time.
    #[cold]
    #[inline(never)]
    fn learn(&self, text: &[u8], words: &[Span], num_new: usize, scratch: &mut Scratch) {
        let Scratch { cache, batch, .. } = scratch;
        let Batch { keys, new, .. } = &mut **batch;
        let word = |index: usize| &text[words[index].0..words[index].1];
        cache.read_neighbours(new[..num_new].iter().map(|index| keys[*index]));
        let mut num_short = 0;
        for at in 0..num_new {
            let index = new[at];
            if keys[index] != NO_KEY && !cache.is_known(keys[index]) {
                new[num_short] = index;
                num_short += 1;
            }
        }
        for few in new[..num_short].chunks(LANES) {
            self.merge_together(few.iter().map(|index| word(*index)), |lane, ids| {
                cache.remember(keys[few[lane]], word(few[lane]), ids);
            });
        }
    }

    /// Calls `done` with each of up to [`LANES`] words and its ids.
    fn merge_together<'a>(&self, words: impl Iterator<Item = &'a [u8]>, mut done: impl FnMut(usize, &[u32])) {
        let table = self.pairs.table();
        let mut symbols = [0; KEY_SYMBOLS];
        let mut lanes = [const { None }; LANES];
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = Some(self.short(word, table));
        }
        merge_together(&mut lanes, table);
        for (index, lane) in lanes.iter().flatten().enumerate() {
            let mut len = 0;
            lane.each(|id| {
                symbols[len] = id;
                len += 1;
            });
            done(index, &symbols[..len]);
        }
    }

    /// A word that has a key, before its merges.
    fn short(&self, word: &[u8], table: Table) -> Short<KEY_SYMBOLS> {
        match (&self.alphabet, self.whole(word)) {
            (_, Some(id)) => Short::new(std::iter::once(id), |_, _, _| NO_MERGE),
            (Alphabet::Bytes(ids), None) => {
                let symbols = word.iter().map(|byte| ids[*byte as usize]);
                Short::new(symbols, |at, _, _| self.first_merges[byte_pair(word[at], word[at + 1])])
            }
            (Alphabet::Chars(_), None) => {
                let mut symbols = Vec::with_capacity(KEY_SYMBOLS);
                self.push_symbols(word, &mut symbols);
                Short::new(symbols.into_iter(), |_, left, right| table.merge(left, right))
            }
        }
    }

    /// The token that a word is, if the merges do not count.
    #[inline]
    fn whole(&self, word: &[u8]) -> Option<u32> {
        if self.whole.is_empty() {
            return None;
        }
        self.whole.get(word).copied()
    }

    /// Appends the ids of a word that is not among the short ones: long, of many ids, or put out again.
    #[cold]
    #[inline(never)]
    fn push_other(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        if scratch.cache.store.push(word, out) {
            return;
        }
        let before = out.len();
        self.push_merged(word, &mut scratch.word, out);
        scratch.cache.store.insert(word, &out[before..]);
    }

    fn push_merged(&self, text: &[u8], word: &mut Word, out: &mut Vec<u32>) {
        if let Some(id) = self.whole(text) {
            return out.push(id);
        }
        word.ids.clear();
        self.push_symbols(text, &mut word.ids);
        word.merge(&self.pairs);
        out.extend_from_slice(&word.ids);
    }

    fn push_symbols(&self, word: &[u8], out: &mut Vec<u32>) {
        match &self.alphabet {
            Alphabet::Bytes(ids) => out.extend(word.iter().map(|byte| ids[*byte as usize])),
            Alphabet::Chars(symbols) => symbols.push(std::str::from_utf8(word).unwrap_or_default(), out),
        }
    }
}

/// The merge of each pair of bytes; nothing if words are characters.
fn first_merges(alphabet: &Alphabet, table: Table) -> Vec<Merge> {
    let Alphabet::Bytes(ids) = alphabet else { return Vec::new() };
    ids.iter().flat_map(|left| ids.iter().map(|right| table.merge(*left, *right))).collect()
}

/// Where the merge of two bytes stands.
#[inline]
fn byte_pair(left: u8, right: u8) -> usize {
    (left as usize) << 8 | right as usize
}

impl Scratch {
    /// Makes the keys of words.
    #[inline]
    fn take_keys(&mut self, text: &[u8], words: &[Span]) {
        let batch = &mut *self.batch;
        for ((slot_key, slot_hash), (start, end)) in batch.keys.iter_mut().zip(&mut batch.hashes).zip(words) {
            let [low, high] = key(text, *start, *end).map_or(NO_KEY, halves);
            *slot_key = [low, high];
            *slot_hash = hash(low, high);
        }
    }

    /// Lists the words that are not known in front of the batch's `new`, and returns their number.
    #[inline]
    fn find_new(&mut self, num_words: usize) -> usize {
        let sets = &*self.cache.sets();
        let mask = sets.len() - 1;
        let Batch { keys, hashes, new, .. } = &mut *self.batch;
        let num_words = num_words.min(BATCH_WORDS);
        // Their sets are read first with nothing in between: memory answers all at once.
        let first = |hash: &u64| sets[*hash as usize & mask][0][0];
        black_box(hashes[..num_words].iter().map(first).fold(0, |all, one| all ^ one));
        let mut num_new = 0;
        for index in 0..num_words {
            new[num_new & (BATCH_WORDS - 1)] = index;
            num_new += usize::from(!is_in(&sets[hashes[index] as usize & mask], keys[index]));
        }
        num_new
    }

    /// Writes the ids of the words from `done` on, up to the first that is not among the short ones.
    #[inline]
    fn write_known(&mut self, num_words: usize, done: &mut usize, len: &mut usize) -> Option<usize> {
        let sets = &*self.cache.sets();
        let mask = sets.len() - 1;
        let Batch { keys, hashes, ids, .. } = &mut *self.batch;
        let mut written = *len;
        for index in *done..num_words.min(BATCH_WORDS) {
            let entry = find(&sets[hashes[index] as usize & mask], keys[index]);
            let room = ids[written..].first_chunk_mut()?; // as long as the words have room for all
            let Some(count) = entry.and_then(|packed| write(packed, room)) else {
                (*done, *len) = (index + 1, written);
                return Some(index);
            };
            written += count;
        }
        *len = written;
        None
    }
}
