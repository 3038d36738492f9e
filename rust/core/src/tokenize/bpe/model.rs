//! A vocabulary with its merges: one word in, its ids out.

use std::collections::HashMap;

use super::super::words::Span;
use super::batch::{Scratch, NO_KEY};
use super::byte_cuts::ByteCuts;
use super::cache::{pack, write, Packed, WRITTEN_IDS};
use super::key::{halves, key, Key, MAX_BYTES};
use super::pairs::{Pairs, Rank, Table, NO_MERGE};
use super::short::Short;
use super::symbols::Symbols;
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
    /// The ranks of all pairs of bytes, if words are bytes.
    first_ranks: Vec<Rank>,
    /// Words that are one token though merges do not make it (`ignore_merges`), as they stand in text.
    whole: HashMap<Box<[u8]>, u32>,
    /// Where long words are cut, if words are bytes.
    cuts: Option<ByteCuts>,
    /// The tokens that are short words, the rarest first, with their ids: what a cache begins with.
    pub(super) seed: Vec<(Key, Packed)>,
}

/// A word that has a key has less symbols; half of the new ones have at most half as many.
const KEY_SYMBOLS: usize = MAX_BYTES + 1;

impl Model {
    /// A model whose `tokens` are spelt as they stand in text, those first that are used most.
    pub(in crate::tokenize) fn new(
        alphabet: Alphabet,
        pairs: Pairs,
        cuts: Option<ByteCuts>,
        whole: HashMap<Box<[u8]>, u32>,
        tokens: impl DoubleEndedIterator<Item = Box<[u8]>>,
    ) -> Self {
        let first_ranks = first_ranks(&alphabet, pairs.table());
        let mut model = Self { alphabet, pairs, first_ranks, cuts, whole: HashMap::new(), seed: Vec::new() };
        model.whole = model.not_made(whole);
        let mut seed = Vec::new();
        for token in tokens.rev() {
            let key = key(&token, 0, token.len());
            let ids = key.and_then(|_| pack(model.merged(&token, &mut [0; KEY_SYMBOLS])));
            seed.extend(key.zip(ids));
        }
        model.seed = seed;
        model
    }

    /// Those of `tokens` that merges do not make of their own symbols: nearly none, so that no word waits for a search.
    fn not_made(&self, mut tokens: HashMap<Box<[u8]>, u32>) -> HashMap<Box<[u8]>, u32> {
        let (mut word, mut ids) = (Word::default(), Vec::new());
        tokens.retain(|token, id| {
            ids.clear();
            self.push_merged(token, &mut word, &mut ids);
            ids != [*id]
        });
        tokens
    }

    /// Appends the ids of words of `text`, at most a batch of them, which begin and end with characters.
    #[inline]
    pub(in crate::tokenize) fn push(
        &self,
        text: &str,
        words: &[Span],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let text = text.as_bytes();
        let Scratch { cache, batch, .. } = scratch;
        batch.ask(text, words, cache);
        let (num_ids, num_gaps) = batch.find(words.len(), cache);
        let mut done = 0;
        for gap in 0..num_gaps {
            let (index, before) = scratch.batch.gaps[gap];
            out.extend_from_slice(&scratch.batch.ids[done..before]);
            done = before;
            self.push_gap(&text[words[index].0..words[index].1], scratch.batch.keys[index], scratch, out);
        }
        out.extend_from_slice(&scratch.batch.ids[done..num_ids]);
    }

    /// Appends the ids of a word that was not in its set: merged one at a time, since eight together waited less
    /// for memory and took as long.
    #[inline(never)]
    fn push_gap(&self, text: &[u8], key: [u64; 2], scratch: &mut Scratch, out: &mut Vec<u32>) {
        if key == NO_KEY {
            return self.push_other(text, scratch, out);
        }
        let Some(packed) = scratch.cache.recall(key) else {
            let mut ids = [0; KEY_SYMBOLS];
            let ids = self.merged(text, &mut ids);
            scratch.cache.insert(key, text, ids);
            return out.extend_from_slice(ids);
        };
        let mut ids = [0; WRITTEN_IDS];
        match write(packed, &mut ids) {
            Some(count) => out.extend_from_slice(&ids[..count]),
            None => self.push_other(text, scratch, out),
        }
    }

    /// The ids of a word that has a key.
    fn merged<'a>(&self, text: &[u8], ids: &'a mut [u32; KEY_SYMBOLS]) -> &'a [u32] {
        let mut len = 0;
        let each = |(to, id): (&mut u32, u32)| {
            *to = id;
            len += 1;
        };
        if text.len() <= KEY_SYMBOLS / 2 {
            ids.iter_mut().zip(self.short::<{ KEY_SYMBOLS / 2 }>(text).ids()).for_each(each);
        } else {
            ids.iter_mut().zip(self.short::<KEY_SYMBOLS>(text).ids()).for_each(each);
        }
        &ids[..len]
    }

    /// A word of up to `N` bytes, merged.
    #[inline]
    fn short<const N: usize>(&self, word: &[u8]) -> Short<N> {
        let table = self.pairs.table();
        let mut short = match (&self.alphabet, self.whole(word)) {
            (_, Some(id)) => Short::new(std::iter::once(id), |_, _, _| NO_MERGE),
            (Alphabet::Bytes(ids), None) => {
                let symbols = word.iter().map(|byte| ids[*byte as usize]);
                Short::new(symbols, |at, _, _| self.first_ranks[byte_pair(word[at], word[at + 1])])
            }
            (Alphabet::Chars(_), None) => {
                let mut symbols = Vec::with_capacity(KEY_SYMBOLS);
                self.push_symbols(word, &mut symbols);
                Short::new(symbols.into_iter(), |_, left, right| table.merge(left, right))
            }
        };
        short.merge(table);
        short
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
        if !self.push_parts(word, scratch, out) {
            self.push_merged(word, &mut scratch.word, out);
        }
        scratch.cache.store.insert(word, &out[before..]);
    }

    /// Appends the ids of the parts of a long word, if it has some that are found alone.
    fn push_parts(&self, word: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) -> bool {
        let Some(cuts) = self.cuts.as_ref().filter(|_| word.len() > MAX_BYTES && !word.is_ascii()) else {
            return false;
        };
        let Ok(text) = std::str::from_utf8(word) else { return false };
        let is_token = |part: &[u8]| self.whole(part).is_some();
        if is_token(word) || cuts.parts(text).any(|(start, end)| is_token(&word[start..end])) {
            return false;
        }
        for (start, end) in cuts.parts(text) {
            match key(word, start, end) {
                Some(key) => self.push_gap(&word[start..end], halves(key), scratch, out),
                None => self.push_part(&word[start..end], scratch, out),
            }
        }
        true
    }

    /// Appends the ids of a part that has no key: it may come in other words too.
    fn push_part(&self, part: &[u8], scratch: &mut Scratch, out: &mut Vec<u32>) {
        if scratch.cache.store.push(part, out) {
            return;
        }
        let before = out.len();
        self.push_merged(part, &mut scratch.word, out);
        scratch.cache.store.insert(part, &out[before..]);
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

/// The rank of each pair of bytes; nothing if words are characters.
fn first_ranks(alphabet: &Alphabet, table: Table) -> Vec<Rank> {
    let Alphabet::Bytes(ids) = alphabet else { return Vec::new() };
    ids.iter().flat_map(|left| ids.iter().map(|right| table.merge(*left, *right))).collect()
}

/// Where the rank of two bytes stands.
#[inline]
fn byte_pair(left: u8, right: u8) -> usize {
    (left as usize) << 8 | right as usize
}
