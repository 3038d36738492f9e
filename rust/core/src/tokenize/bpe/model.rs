//! A vocabulary with its merges: one word in, its ids out.

use std::collections::HashMap;

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
}

impl Model {
    /// Appends the ids of the word `text[start..end]`, which begins and ends with a character.
    #[inline]
    pub(in crate::tokenize) fn push(
        &self,
        text: &str,
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let key = key(text.as_bytes(), start, end);
        if key.is_some_and(|key| scratch.cache.push(key, out)) {
            return;
        }
        self.push_new(&text[start..end], key, scratch, out);
    }

    #[cold]
    #[inline(never)]
    fn push_new(&self, word: &str, key: Option<Key>, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let before = out.len();
        match self.whole.get(word.as_bytes()) {
            Some(id) => out.push(*id),
            None => self.push_merged(word, &mut scratch.word, out),
        }
        if let Some(key) = key {
            scratch.cache.insert(key, &out[before..]);
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
