//! Everything the quality rules read of a text, computed when first asked for and then kept.
//!
//! One arena a thread: lines, words, distinct words and n-grams of the document at hand.
//! Every method takes that text again; [`Views::reset`] goes to the next one.

use super::english::Splitter;
use super::lines::{self, count_repeats, Repeats, Span};
use super::ngrams::{Ngrams, Top};
use super::slots::Slots;
use super::vocabulary::Vocabulary;
use super::{scan, Scan};

/// The views of one text.
#[derive(Debug, Default)]
pub struct Views {
    has: Has,
    scan: Scan,
    lines: Vec<Span>,
    filled: Vec<Span>,
    parts: Vec<Span>,
    splitter: Splitter,
    english: Vocabulary,
    ngrams: Ngrams,
    slots: Slots,
}

/// What was computed of the text at hand.
#[derive(Debug, Default)]
struct Has {
    views: [bool; 4],
    num_chars: Option<usize>,
    repeats: [Option<Repeats>; 3],
}

/// Index into [`Has::views`].
#[derive(Clone, Copy)]
enum View {
    Scan,
    Lines,
    Filled,
    English,
}

impl Views {
    /// Goes to the next text.
    pub fn reset(&mut self) {
        self.has = Has::default();
        self.ngrams.reset();
    }

    /// True the first time that a view is asked for.
    fn needs(&mut self, view: View) -> bool {
        !std::mem::replace(&mut self.has.views[view as usize], true)
    }

    /// Words of `str.split()` and counts of character classes.
    pub fn scan(&mut self, text: &str) -> &Scan {
        if self.needs(View::Scan) {
            scan(text, &mut self.scan);
        }
        &self.scan
    }

    /// Code points.
    pub fn num_chars(&mut self, text: &str) -> usize {
        *self.has.num_chars.get_or_insert_with(|| lines::count_chars(text))
    }

    /// Lines of `str.splitlines()`.
    pub fn lines(&mut self, text: &str) -> &[Span] {
        if self.needs(View::Lines) {
            lines::split_lines(text, &mut self.lines);
        }
        &self.lines
    }

    /// What stands between line feeds and is not blank.
    pub fn filled_lines(&mut self, text: &str) -> &[Span] {
        if self.needs(View::Filled) {
            lines::split_filled(text, &mut self.filled);
        }
        &self.filled
    }

    /// English words.
    pub fn english(&mut self, text: &str) -> &Vocabulary {
        if self.needs(View::English) {
            self.english.fill(text, &mut self.slots, |text, words| self.splitter.words(text, words));
        }
        &self.english
    }

    /// The most frequent n-gram of English words, n from 2 to 10.
    pub fn top_ngram(&mut self, text: &str, n: usize) -> Top {
        self.english(text);
        self.ngrams.top(n, &self.english, &mut self.slots)
    }

    /// Code points in n-grams of English words that repeat an earlier one, n from 2 to 10.
    pub fn repeated_ngram_chars(&mut self, text: &str, n: usize) -> usize {
        self.english(text);
        self.ngrams.repeated_chars(n, text, &self.english, &mut self.slots)
    }

    /// Repeats among the pieces between blank lines of the stripped text.
    pub fn repeated_paragraphs(&mut self, text: &str) -> Repeats {
        let stripped = lines::strip(text);
        self.repeats(0, stripped, |parts| lines::split_feeds(stripped, 2, parts))
    }

    /// Repeats among the pieces between runs of line feeds.
    pub fn repeated_lines(&mut self, text: &str) -> Repeats {
        self.repeats(1, text, |parts| lines::split_feeds(text, 1, parts))
    }

    /// Repeats among the lines that are not blank.
    pub fn repeated_filled_lines(&mut self, text: &str) -> Repeats {
        self.repeats(2, text, |parts| lines::split_filled(text, parts))
    }

    fn repeats(&mut self, kind: usize, text: &str, split: impl FnOnce(&mut Vec<Span>)) -> Repeats {
        let Self { has, parts, slots, .. } = self;
        *has.repeats[kind].get_or_insert_with(|| {
            split(parts);
            count_repeats(text, parts, slots)
        })
    }
}
