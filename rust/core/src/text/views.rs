//! Everything the quality rules read of a text, computed when first asked for and then kept.
//!
//! One arena a thread: lines, words, distinct words and n-grams of the document at hand.
//! Every method takes that text again; [`Views::reset`] goes to the next one.

use std::collections::BTreeMap;

use super::english::Splitter;
use super::giant;
use super::lines::{self, count_copies, count_repeats, Copies, Repeats, Span, Split};
use super::ngrams::{Ceilings, Letters, Numbered, Recurring, Spelled, Top};
use super::scan::scan_within;
use super::slots::Slots;
use super::unicode_words::unicode_words;
use super::vocabulary::{Found, Vocabulary};
use super::Scan;

/// The views of one text.
#[derive(Debug, Default)]
pub struct Views {
    has: Has,
    scan: Scan,
    /// Most words that the scan holds, if few are enough.
    most_words: Option<usize>,
    lines: Parts,
    filled: Parts,
    parts: Parts,
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
        [&mut self.english, &mut self.split, &mut self.unicode].into_iter().for_each(Vocabulary::reset);
        self.ceilings.reset();
        self.numbered.reset();
        self.spelled.reset();
        self.split_numbered.reset();
        self.unicode_numbered.reset();
    }

    /// From now on the scan holds the words of a text that has no more than this; of others they are counted.
    pub(crate) fn hold_within(&mut self, most_words: Option<usize>) {
        self.most_words = most_words;
    }

    /// True the first time that a view is asked for.
    fn needs(&mut self, view: View) -> bool {
        !std::mem::replace(&mut self.has.views[view as usize], true)
    }

    /// Words of `str.split()` and counts of character classes.
    pub fn scan(&mut self, text: &str) -> &Scan {
        if self.needs(View::Scan) {
            scan_within(text, self.most_words.unwrap_or(usize::MAX), &mut self.scan);
        }
        &self.scan
    }

    /// Code points.
    pub fn num_chars(&mut self, text: &str) -> usize {
        *self.has.num_chars.get_or_insert_with(|| lines::count_chars(text))
    }

    /// Gives the lines of `str.splitlines()`.
    pub fn each_line(&mut self, text: &str, take: impl FnMut(Span)) {
        if self.needs(View::Lines) {
            self.lines.hold(text, Split::Lines);
        }
        self.lines.each(text, Split::Lines, take);
    }

    /// Gives what stands between line feeds and is not blank.
    pub fn each_filled_line(&mut self, text: &str, take: impl FnMut(Span)) {
        self.num_filled_lines(text);
        self.filled.each(text, Split::Filled, take);
    }

    /// How many of those there are.
    pub fn num_filled_lines(&mut self, text: &str) -> usize {
        if self.needs(View::Filled) {
            self.filled.hold(text, Split::Filled);
        }
        self.filled.num_parts
    }

    /// English words.
    pub fn english(&mut self, text: &str) -> &Vocabulary {
        self.fill_english(text);
        &self.english
    }

    #[inline]
    fn fill_english(&mut self, text: &str) {
        if self.needs(View::English) {
            self.english.fill(text, |words| match words {
                Found::Held(words) => self.splitter.words(text, words),
                Found::Each(take) => self.splitter.for_each_word(text, take),
            });
        }
    }

    /// Distinct English words.
    pub fn num_english_forms(&mut self, text: &str) -> usize {
        self.fill_english(text);
        if let Some(giant) = self.english.giant() {
            return giant.num_forms();
        }
        self.number_english(text);
        self.english.num_forms()
    }

    /// Tells the English words apart.
    fn number_english(&mut self, text: &str) {
        if self.needs(View::EnglishForms) {
            self.english.number(text, &mut self.slots);
        }
    }

    /// Distinct words among the first `num_words` of English, or somewhat fewer; none of a giant.
    pub fn num_english_forms_at_least(&mut self, text: &str, num_words: usize) -> usize {
        self.fill_english(text);
        self.english.num_forms_at_least(num_words)
    }

    /// The most frequent n-gram of English words, n from 2 to 10.
    pub fn top_ngram(&mut self, text: &str, n: usize) -> Top {
        self.fill_english(text);
        if let Some(giant) = self.english.giant() {
            return giant.top(n);
        }
        self.number_english(text);
        self.numbered.top(n, &self.english, &mut self.slots)
    }

    /// Code points of all copies of any n-gram of English words at most, spaces between its words included, n
    /// from 2 to 4.
    pub fn top_ngram_ceiling(&mut self, text: &str, n: usize) -> usize {
        self.fill_english(text);
        if let Some(giant) = self.english.giant() {
            return giant.top_ceiling(n);
        }
        self.ceilings.top(n, &self.english)
    }

    /// At least what [`Views::repeated_ngram_chars`] is, n from 5 to 10.
    pub fn repeated_ngram_ceiling(&mut self, text: &str, n: usize) -> usize {
        self.fill_english(text);
        if let Some(giant) = self.english.giant() {
            return giant.repeated_ceiling(n);
        }
        self.join_letters(text);
        self.ceilings.repeated_chars(n, &self.letters, &self.english)
    }

    /// Code points in n-grams of English words that repeat an earlier one, n from 2 to 10.
    pub fn repeated_ngram_chars(&mut self, text: &str, n: usize) -> usize {
        self.fill_english(text);
        if let Some(giant) = self.english.giant() {
            return giant.repeated_chars(n);
        }
        self.join_letters(text);
        self.spelled.repeated_chars(n, &self.letters, &self.english, &mut self.slots)
    }

    fn join_letters(&mut self, text: &str) {
        if self.needs(View::Letters) {
            self.letters.join(text.as_bytes(), &self.english.words);
        }
    }

    /// Words of `str.split()`, each looked at.
    pub fn split_words(&mut self, text: &str) -> &Vocabulary {
        self.scan(text);
        if self.needs(View::Split) {
            let Self { split, scan, slots, .. } = self;
            split.fill(text, |mut words| match (&mut words, scan.held_words()) {
                (Found::Held(words), Some(held)) => {
                    words.extend(held.iter().map(|[start, end]| (*start, *end)));
                }
                _ => scan.each_word(text, |word| words.push(word)),
            });
            split.number(text, slots);
        }
        &self.split
    }

    /// Median length of the words of `str.split()`, in code points; 0 if there are none.
    pub fn median_split_word_length(&mut self, text: &str) -> f64 {
        self.split_words(text);
        let Self { has, split, lengths, .. } = self;
        *has.median_length.get_or_insert_with(|| {
            if let Some(giant) = split.giant() {
                return median_of_numbers(&giant.num_by_length());
            }
            lengths.clear();
            lengths.extend(split.lengths().map(|length| length as u32));
            median(lengths)
        })
    }

    /// What recurs among the n-grams of words of `str.split()`, n from 2 to 10.
    pub fn recurring_split_ngrams(&mut self, text: &str, n: usize) -> Recurring {
        self.split_words(text);
        match self.split.giant() {
            Some(giant) => giant.recurring(n),
            None => self.split_numbered.recurring(n, &self.split, &mut self.slots),
        }
    }

    /// Words of Unicode (UAX 29) that begin with a letter, a digit or a numeral.
    pub fn unicode_words(&mut self, text: &str) -> &Vocabulary {
        if self.needs(View::Unicode) {
            self.unicode.fill(text, |mut words| unicode_words(text, |word| words.push(word)));
            self.unicode.number(text, &mut self.slots);
        }
        &self.unicode
    }

    /// What recurs among the n-grams of those, n from 2 to 10.
    pub fn recurring_unicode_ngrams(&mut self, text: &str, n: usize) -> Recurring {
        self.unicode_words(text);
        match self.unicode.giant() {
            Some(giant) => giant.recurring(n),
            None => self.unicode_numbered.recurring(n, &self.unicode, &mut self.slots),
        }
    }

    /// The lines between line feeds that have an equal, empty ones too.
    pub fn copied_lines(&mut self, text: &str) -> Copies {
        self.copies(0, text, Split::Each)
    }

    /// The lines between line feeds that have an equal, stripped; blank ones left out.
    pub fn copied_stripped_lines(&mut self, text: &str) -> Copies {
        self.copies(1, text, Split::EachStripped)
    }

    /// The same of paragraphs, which stand between two line feeds.
    pub fn copied_stripped_paragraphs(&mut self, text: &str) -> Copies {
        self.copies(2, text, Split::PairsStripped)
    }

    fn copies(&mut self, kind: usize, text: &str, split: Split) -> Copies {
        let Self { has, parts, slots, is_copied, .. } = self;
        *has.copies[kind].get_or_insert_with(|| {
            parts.hold(text, split);
            match parts.held() {
                Some(parts) => count_copies(text, parts, slots, is_copied),
                None => giant::count_copies(text, &|take| split.each(text, take)),
            }
        })
    }

    /// Repeats among the pieces between blank lines of the stripped text.
    pub fn repeated_paragraphs(&mut self, text: &str) -> Repeats {
        let stripped = lines::strip(text);
        self.repeats(0, stripped, Split::Feeds(2))
    }

    /// Repeats among the pieces between runs of line feeds.
    pub fn repeated_lines(&mut self, text: &str) -> Repeats {
        self.repeats(1, text, Split::Feeds(1))
    }

    /// Repeats among the lines that are not blank.
    pub fn repeated_filled_lines(&mut self, text: &str) -> Repeats {
        self.repeats(2, text, Split::Filled)
    }

    fn repeats(&mut self, kind: usize, text: &str, split: Split) -> Repeats {
        let Self { has, parts, slots, .. } = self;
        *has.repeats[kind].get_or_insert_with(|| {
            parts.hold(text, split);
            match parts.held() {
                Some(parts) => count_repeats(text, parts, slots),
                None => giant::count_repeats(text, &|take| split.each(text, take)),
            }
        })
    }
}

/// Parts of a text, unless there are more than are held.
#[derive(Debug, Default)]
struct Parts {
    held: Vec<Span>,
    num_parts: usize,
}

impl Parts {
    /// Takes the parts of the next text.
    fn hold(&mut self, text: &str, split: Split) {
        let max_held = giant::max_held(text);
        self.held.clear();
        self.num_parts = 0;
        // A part takes a byte, but the last.
        if text.len() < max_held {
            split.each(text, |part| self.held.push(part));
            self.num_parts = self.held.len();
            return;
        }
        split.each(text, |part| {
            self.num_parts += 1;
            if self.num_parts <= max_held {
                self.held.push(part);
            }
        });
    }

    /// The parts; `None` if there are more than are held.
    fn held(&self) -> Option<&[Span]> {
        (self.held.len() == self.num_parts).then_some(&self.held)
    }

    /// Gives each part; the text and how it is parted are as before.
    fn each(&self, text: &str, split: Split, mut take: impl FnMut(Span)) {
        match self.held() {
            Some(parts) => parts.iter().copied().for_each(take),
            None => split.each(text, &mut take as &mut dyn FnMut(Span)),
        }
    }
}

/// The median of numbers of which there are so many each; 0 of none.
fn median_of_numbers(numbers: &BTreeMap<usize, usize>) -> f64 {
    let count: usize = numbers.values().sum();
    let at = |place: usize| {
        let mut left = place;
        let found = numbers.iter().find(|(_, count)| {
            let is_in = left < **count;
            left = left.saturating_sub(**count);
            is_in
        });
        found.map_or(0.0, |(number, _)| *number as f64)
    };
    at(count.saturating_sub(1) / 2) / 2.0 + at(count / 2) / 2.0
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
