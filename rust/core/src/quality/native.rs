//! The `native` profile: the published bounds, measured without the quirks of their sources.
//!
//! Each difference stands in docs/quality.md; none of the rules edits the text.

use super::feature::{
    duplicate_line_char_fraction, duplicate_line_fraction, duplicate_paragraph_char_fraction,
    duplicate_paragraph_fraction, ellipsis_word_ratio, hash_word_ratio, mean_word_length,
    num_no_symbol_words, of_chars, repeated_ngram_ceiling, repeated_ngram_char_fraction, share_of_filled,
    short_line_fraction, top_ngram_ceiling,
};
use super::Bound;
use crate::text::{class, is_terminal, strip_end, strip_start, Class, Views};

/// The rules, the cheap ones first.
pub(super) static RULES: [Bound; 26] = [
    Bound::max("bullet_lines", bullet_line_fraction, 0.9),
    Bound::max("ellipsis_lines", ellipsis_line_fraction, 0.3),
    Bound::min("few_sentence_ends", sentence_end_line_fraction, 0.12),
    Bound::max("short_lines", short_line_fraction, 0.67),
    Bound::max("duplicate_paragraphs", duplicate_paragraph_fraction, 0.3),
    Bound::max("duplicate_paragraph_chars", duplicate_paragraph_char_fraction, 0.2),
    Bound::max("duplicate_lines", duplicate_line_fraction, 0.3),
    Bound::max("duplicate_line_chars", duplicate_line_char_fraction, 0.2),
    Bound::min("few_words", num_no_symbol_words, 50.0),
    Bound::max("many_words", num_no_symbol_words, 100_000.0),
    Bound::min("short_words", mean_word_length, 3.0),
    Bound::max("long_words", mean_word_length, 10.0),
    Bound::max("hashes", hash_word_ratio, 0.1),
    Bound::max("ellipses", ellipsis_word_ratio, 0.1),
    Bound::min("few_letters", letter_word_fraction, 0.8),
    Bound::min("few_stop_words", num_any_case_stop_words, 2.0),
    Bound::max_below("frequent_2_grams", frequent_ngram_char_fraction::<2>, top_ngram_ceiling::<2>, 0.2),
    Bound::max_below("frequent_3_grams", frequent_ngram_char_fraction::<3>, top_ngram_ceiling::<3>, 0.18),
    Bound::max_below("frequent_4_grams", frequent_ngram_char_fraction::<4>, top_ngram_ceiling::<4>, 0.16),
    Bound::max_below(
        "repeated_5_grams",
        repeated_ngram_char_fraction::<5>,
        repeated_ngram_ceiling::<5>,
        0.15,
    ),
    Bound::max_below(
        "repeated_6_grams",
        repeated_ngram_char_fraction::<6>,
        repeated_ngram_ceiling::<6>,
        0.14,
    ),
    Bound::max_below(
        "repeated_7_grams",
        repeated_ngram_char_fraction::<7>,
        repeated_ngram_ceiling::<7>,
        0.13,
    ),
    Bound::max_below(
        "repeated_8_grams",
        repeated_ngram_char_fraction::<8>,
        repeated_ngram_ceiling::<8>,
        0.12,
    ),
    Bound::max_below(
        "repeated_9_grams",
        repeated_ngram_char_fraction::<9>,
        repeated_ngram_ceiling::<9>,
        0.11,
    ),
    Bound::max_below(
        "repeated_10_grams",
        repeated_ngram_char_fraction::<10>,
        repeated_ngram_ceiling::<10>,
        0.1,
    ),
    Bound::min_above("few_distinct_words", distinct_words_by_root, fewest_distinct_words_by_root, 2.0),
];

const BULLETS: [char; 7] = ['•', '●', '◦', '▪', '‣', '*', '-'];

fn bullet_line_fraction(text: &str, views: &mut Views) -> f64 {
    share_of_filled(text, views, |line| strip_start(line).starts_with(BULLETS))
}

fn ellipsis_line_fraction(text: &str, views: &mut Views) -> f64 {
    share_of_filled(text, views, |line| {
        let line = strip_end(line);
        line.ends_with("...") || line.ends_with('…')
    })
}

/// What may follow a sentence end, besides white space.
const CLOSERS: [char; 10] = ['"', '\'', '”', '’', '»', '«', '“', ')', ']', '」'];

fn sentence_end_line_fraction(text: &str, views: &mut Views) -> f64 {
    share_of_filled(text, views, |line| {
        let line = line.trim_end_matches(|char| class(char) == Class::Space || CLOSERS.contains(&char));
        line.chars().next_back().is_some_and(is_terminal)
    })
}

/// Of the words that are not symbols alone: marks, which spaCy takes for words, are no lack of letters.
fn letter_word_fraction(text: &str, views: &mut Views) -> f64 {
    let english = views.english(text);
    english.num_with_letter as f64 / english.num_no_symbol as f64
}

/// Distinct words by the root of all (Guiraud 1954): 6 and more in real text of any length, below 1 in a
/// page of a dozen keywords.
fn distinct_words_by_root(text: &str, views: &mut Views) -> f64 {
    views.num_english_forms(text) as f64 / (views.english(text).num_words() as f64).sqrt()
}

/// So many times the root of all words are looked at: of prose every third is new.
const WORDS_BY_ROOT: f64 = 16.0;

/// Never above [`distinct_words_by_root`]: words are counted where their hashes show that they are new.
#[allow(clippy::cast_sign_loss)] // a root is not negative
fn fewest_distinct_words_by_root(text: &str, views: &mut Views) -> f64 {
    let root = (views.english(text).num_words() as f64).sqrt();
    views.num_english_forms_at_least(text, (WORDS_BY_ROOT * root) as usize) as f64 / root
}

fn num_any_case_stop_words(text: &str, views: &mut Views) -> f64 {
    views.english(text).num_any_case_stop_words as f64
}

/// An n-gram that stands once is not frequent, however short the text.
fn frequent_ngram_char_fraction<const N: usize>(text: &str, views: &mut Views) -> f64 {
    let top = views.top_ngram(text, N);
    let is_frequent = top.num_copies > 1;
    of_chars(usize::from(is_frequent) * top.num_chars * top.num_copies, text, views)
}
