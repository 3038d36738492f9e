//! Everything the quality rules read of a text, computed when first asked for and then kept.
//!
//! One arena a thread: lines, words, distinct words and n-grams of the document at hand.
//! Every method takes that text again; [`Views::reset`] goes to the next one.

use super::english::Splitter;
use super::lines::{self, count_copies, count_repeats, Copies, Repeats, Span};
use super::ngrams::{Ceilings, Letters, Numbered, Recurring, Spelled, Top};
use super::slots::Slots;
use super::unicode_words::unicode_words;
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
    /// Letters of the English words.
    letters: Letters,
    ceilings: Ceilings,
    numbered: Numbered,
    spelled: Spelled,
    /// Words of `str.split()`.
    split: Vocabulary,
    split_numbered: Numbered,
    /// Words of Unicode.
    unicode: Vocabulary,
    unicode_numbered: Numbered,
    lengths: Vec<u32>,
    is_copied: Vec<bool>,
    slots: Slots,
}

/// What was computed of the text at hand.
#[derive(Debug, Default)]
struct Has {
    views: [bool; 8],
    num_chars: Option<usize>,
    repeats: [Option<Repeats>; 3],
    copies: [Option<Copies>; 3],
    median_length: Option<f64>,
}

/// Index into [`Has::views`].
#[derive(Clone, Copy)]
enum View {
    Scan,
    Lines,
    Filled,
    English,
    EnglishForms,
    Letters,
    Split,
    Unicode,
}

impl Views {
    /// Goes to the next text.
    pub fn reset(&mut self) {
        self.has = Has::default();
        self.ceilings.reset();
        self.numbered.reset();
        self.spelled.reset();
        self.split_numbered.reset();
        self.unicode_numbered.reset();
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
            self.english.fill(text, |text, words| self.splitter.words(text, words));
        }
        &self.english
    }

    /// English words, told apart.
    pub fn english_forms(&mut self, text: &str) -> &Vocabulary {
        self.english(text);
        if self.needs(View::EnglishForms) {
            self.english.number(text, &mut self.slots);
        }
        &self.english
    }

    /// Distinct words among the first `num_words` of English, or somewhat fewer.
    pub fn num_english_forms_at_least(&mut self, text: &str, num_words: usize) -> usize {
        self.english(text);
        self.english.num_forms_at_least(num_words)
    }

    /// The most frequent n-gram of English words, n from 2 to 10.
    pub fn top_ngram(&mut self, text: &str, n: usize) -> Top {
        self.english_forms(text);
        self.numbered.top(n, &self.english, &mut self.slots)
    }

    /// Code points of all copies of any n-gram of English words at most, spaces between its words included, n
    /// from 2 to 4.
    pub fn top_ngram_ceiling(&mut self, text: &str, n: usize) -> usize {
        self.english(text);
        self.ceilings.top(n, &self.english)
    }

    /// At least what [`Views::repeated_ngram_chars`] is, n from 5 to 10.
    pub fn repeated_ngram_ceiling(&mut self, text: &str, n: usize) -> usize {
        self.join_letters(text);
        self.ceilings.repeated_chars(n, &self.letters, &self.english)
    }

    /// Code points in n-grams of English words that repeat an earlier one, n from 2 to 10.
    pub fn repeated_ngram_chars(&mut self, text: &str, n: usize) -> usize {
        self.join_letters(text);
        self.spelled.repeated_chars(n, &self.letters, &self.english, &mut self.slots)
    }

    fn join_letters(&mut self, text: &str) {
        self.english(text);
        if self.needs(View::Letters) {
            self.letters.join(text.as_bytes(), &self.english.words);
        }
    }

    /// Words of `str.split()`, each looked at.
    pub fn split_words(&mut self, text: &str) -> &Vocabulary {
        self.scan(text);
        if self.needs(View::Split) {
            let Self { split, scan, slots, .. } = self;
            split.fill(text, |_, words| words.extend_from_slice(&scan.words));
            split.number(text, slots);
        }
        &self.split
    }

    /// Median length of the words of `str.split()`, in code points; 0 if there are none.
    pub fn median_split_word_length(&mut self, text: &str) -> f64 {
        self.split_words(text);
        let Self { has, split, lengths, .. } = self;
        *has.median_length.get_or_insert_with(|| {
            lengths.clear();
            lengths.extend(split.lengths().map(|length| length as u32));
            median(lengths)
        })
    }

    /// What recurs among the n-grams of words of `str.split()`, n from 2 to 10.
    pub fn recurring_split_ngrams(&mut self, text: &str, n: usize) -> Recurring {
        self.split_words(text);
        self.split_numbered.recurring(n, &self.split, &mut self.slots)
    }

    /// Words of Unicode (UAX 29) that begin with a letter, a digit or a numeral.
    pub fn unicode_words(&mut self, text: &str) -> &Vocabulary {
        if self.needs(View::Unicode) {
            self.unicode.fill(text, unicode_words);
            self.unicode.number(text, &mut self.slots);
        }
        &self.unicode
    }

    /// What recurs among the n-grams of those, n from 2 to 10.
    pub fn recurring_unicode_ngrams(&mut self, text: &str, n: usize) -> Recurring {
        self.unicode_words(text);
        self.unicode_numbered.recurring(n, &self.unicode, &mut self.slots)
    }

    /// The lines between line feeds that have an equal, empty ones too.
    pub fn copied_lines(&mut self, text: &str) -> Copies {
        self.copies(0, text, |parts| lines::split_each(text, parts))
    }

    /// The lines between line feeds that have an equal, stripped; blank ones left out.
    pub fn copied_stripped_lines(&mut self, text: &str) -> Copies {
        self.copies(1, text, |parts| {
            lines::split_each(text, parts);
            lines::strip_parts(text, parts);
        })
    }

    /// The same of paragraphs, which stand between two line feeds.
    pub fn copied_stripped_paragraphs(&mut self, text: &str) -> Copies {
        self.copies(2, text, |parts| {
            lines::split_pairs(text, parts);
            lines::strip_parts(text, parts);
        })
    }

    fn copies(&mut self, kind: usize, text: &str, split: impl FnOnce(&mut Vec<Span>)) -> Copies {
        let Self { has, parts, slots, is_copied, .. } = self;
        *has.copies[kind].get_or_insert_with(|| {
            split(parts);
            count_copies(text, parts, slots, is_copied)
        })
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

/// The middle one, or the mean of the two in the middle; 0 of none. Orders `lengths` in part.
fn median(lengths: &mut [u32]) -> f64 {
    if lengths.is_empty() {
        return 0.0;
    }
    let (middle, is_even) = (lengths.len() / 2, lengths.len().is_multiple_of(2));
    let (below, upper, _) = lengths.select_nth_unstable(middle);
    let lower = below.iter().max().copied().filter(|_| is_even).unwrap_or(*upper);
    f64::from(lower) / 2.0 + f64::from(*upper) / 2.0
}
