//! A vocabulary with its merges: one word in, its ids out.

use std::collections::HashMap;

use super::super::words::{Span, BATCH_WORDS};
use super::{key, Cache, Key, Pairs, Symbols, Word};

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
    pub(in crate::tokenize) alphabet: Alphabet,
    pub(in crate::tokenize) pairs: Pairs,
    /// Words that are one token whatever the merges say (`ignore_merges`), as they stand in text.
    pub(in crate::tokenize) whole: HashMap<Box<[u8]>, u32>,
}

/// Memory of one thread for encoding words; the cache belongs to one model.
#[derive(Debug, Default)]
pub(in crate::tokenize) struct Scratch {
    cache: Cache,
    word: Word,
    /// Keeps what was read ahead from being left out as unused.
    touched: u64,
}

impl Model {
    /// Appends the ids of words of `text`, at most [`BATCH_WORDS`], which begin and end with characters.
    #[inline]
    pub(in crate::tokenize) fn push(
        &self,
        text: &str,
        words: &[Span],
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let mut keys = [None; BATCH_WORDS];
        let mut touched = 0;
        for (slot, (start, end)) in keys.iter_mut().zip(words) {
            *slot = key(text.as_bytes(), *start, *end);
            touched ^= slot.map_or(0, |key| scratch.cache.touch(key));
        }
        scratch.touched = touched;
        for (key, (start, end)) in keys.iter().zip(words) {
            if !key.is_some_and(|key| scratch.cache.push(key, out)) {
                self.push_new(&text[*start..*end], *key, scratch, out);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn push_new(&self, word: &str, key: Option<Key>, scratch: &mut Scratch, out: &mut Vec<u32>) {
        if scratch.cache.store.push(word.as_bytes(), out) {
            return;
        }
        let before = out.len();
        match self.whole.get(word.as_bytes()) {
            Some(id) => out.push(*id),
            None => self.push_merged(word, &mut scratch.word, out),
        }
        let ids = &out[before..];
        if !key.is_some_and(|key| scratch.cache.insert(key, ids)) {
            scratch.cache.store.insert(word.as_bytes(), ids);
        }
    }

    fn push_merged(&self, text: &str, word: &mut Word, out: &mut Vec<u32>) {
        word.ids.clear();
        match &self.alphabet {
            Alphabet::Bytes(ids) => word.ids.extend(text.bytes().map(|byte| ids[byte as usize])),
            Alphabet::Chars(symbols) => symbols.push(text, &mut word.ids),
        }
        word.merge(&self.pairs);
        out.extend_from_slice(&word.ids);
    }
}
