//! English words and sentences as spaCy 3.8 splits them: `spacy.blank("en")` with its
//! `sentencizer`, which is what datatrove takes for words of English.
//!
//! A hand-written machine in place of spaCy's regular expressions, linear in the text. The
//! data in `tables.rs` and `special_cases.txt` are those of spaCy 3.8.18, written by `make_tables.py`
//! (<https://github.com/explosion/spaCy>, © 2016-2024 `ExplosionAI GmbH` and others, MIT License,
//! whose text is beside them in `LICENSE-spacy`).
//!
//! One difference is meant. datatrove deletes the letters `IS_ALPHA` from every text that has
//! them as a token, the first such text of a process apart, for a fault of spaCy; here they
//! are a token like any other, as they are in spaCy outside its memory zones.

mod affixes;
mod chunk;
mod classes;
mod infixes;
mod known;
mod lexicon;
mod rejoin;
mod sentences;
#[rustfmt::skip]
mod tables;
mod urls;
mod words;

pub(super) use classes::{count_letters, not_letters};
use rejoin::Kind;
use sentences::Sentences;

/// Splits texts one after the other, and keeps its memory between them.
#[derive(Debug, Default)]
pub struct Splitter {
    scratch: words::Scratch,
}

impl Splitter {
    /// Fills `words` with the byte ranges of the words of `text`, in order. None is empty or has
    /// white space, and they do not overlap.
    pub fn words(&mut self, text: &str, words: &mut Vec<(usize, usize)>) {
        words.clear();
        self.for_each_word(text, |word| words.push(word));
    }

    /// Calls `take` with the byte range of each word of `text`, in order.
    pub fn for_each_word(&mut self, text: &str, mut take: impl FnMut((usize, usize))) {
        words::tokens(text, &mut self.scratch, |token, kind| {
            if kind != Kind::Space {
                take(token);
            }
        });
    }

    /// Calls `take` with the byte range of each sentence of `text`, in order: from its first word
    /// to its last.
    pub fn for_each_sentence(&mut self, text: &str, mut take: impl FnMut((usize, usize))) {
        let mut sentences = Sentences::default();
        words::tokens(text, &mut self.scratch, |token, kind| {
            if let Some(sentence) = sentences.take(text, token, kind) {
                take(sentence);
            }
        });
        if let Some(sentence) = sentences.finish() {
            take(sentence);
        }
    }

    /// How many sentences `text` has.
    pub fn count_sentences(&mut self, text: &str) -> usize {
        let mut num_sentences = 0;
        self.for_each_sentence(text, |_| num_sentences += 1);
        num_sentences
    }
}

/// Fills `words` with the byte ranges of the words of `text`; see [`Splitter::words`], which
/// is for many texts.
pub fn words(text: &str, words: &mut Vec<(usize, usize)>) {
    Splitter::default().words(text, words);
}

/// How many sentences `text` has; see [`Splitter::count_sentences`], which is for many texts.
pub fn count_sentences(text: &str) -> usize {
    Splitter::default().count_sentences(text)
}
