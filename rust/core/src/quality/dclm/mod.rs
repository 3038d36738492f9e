//! The rules that made DCLM-Baseline from `RefinedWeb`'s (Li et al. 2024, appendix; Penedo et al. 2023;
//! `baselines_configs/dclm_baseline_refinedweb.yaml`), without those that need a list of sites or a model.
//!
//! Three steps: addresses go, a table of bounds, lines are edited. Words are those of `fastText` for the
//! word counts, of `str.split()` for the shares, and of Unicode (UAX 29) for n-grams.

mod lines;
mod links;

use memchr::memmem;

pub(super) use lines::{edit as edit_lines, Edited};
pub(super) use links::{edit as remove_links, Cut};

use super::feature::share_of_filled;
use super::{Bound, Reason};
use crate::text::{strip, Copies, Views};

/// Nothing is left of the text.
const EMPTY: Reason<'static> = Reason("dclm_empty");

/// The bounds, in order.
pub(super) static RULES: [Bound; 22] = [
    Bound::min("dclm_few_words", num_words, 50.0),
    Bound::max("dclm_many_words", num_words, 100_000.0),
    Bound::min("dclm_short_words", mean_word_length, 3.0),
    Bound::max("dclm_long_words", mean_word_length, 10.0),
    Bound::max("dclm_symbols", symbol_word_ratio, 0.1),
    Bound::max("dclm_bullet_lines", bullet_line_fraction, 0.9),
    Bound::max("dclm_ellipsis_lines", ellipsis_line_fraction, 0.3),
    Bound::max("dclm_few_letters", no_letter_word_fraction, 0.2),
    Bound::min("dclm_few_stop_words", num_stop_words, 2.0),
    Bound::max("dclm_duplicate_lines", copied_line_fraction, 0.3),
    Bound::max("dclm_duplicate_paragraphs", copied_paragraph_fraction, 0.3),
    Bound::max("dclm_duplicate_line_chars", copied_line_char_fraction, 0.2),
    Bound::max("dclm_duplicate_paragraph_chars", copied_paragraph_char_fraction, 0.2),
    Bound::max("dclm_frequent_2_grams", top_ngram_char_fraction::<2>, 0.2),
    Bound::max("dclm_frequent_3_grams", top_ngram_char_fraction::<3>, 0.18),
    Bound::max("dclm_frequent_4_grams", top_ngram_char_fraction::<4>, 0.16),
    Bound::max("dclm_repeated_5_grams", covered_char_fraction::<5>, 0.15),
    Bound::max("dclm_repeated_6_grams", covered_char_fraction::<6>, 0.14),
    Bound::max("dclm_repeated_7_grams", covered_char_fraction::<7>, 0.13),
    Bound::max("dclm_repeated_8_grams", covered_char_fraction::<8>, 0.12),
    Bound::max("dclm_repeated_9_grams", covered_char_fraction::<9>, 0.11),
    Bound::max("dclm_repeated_10_grams", covered_char_fraction::<10>, 0.1),
];

fn ratio(count: usize, of: usize) -> f64 {
    count as f64 / of as f64
}

/// Lower case as `re` finds it where case is ignored.
fn lower(char: char) -> std::iter::Take<std::char::ToLowercase> {
    let char = match char {
        'İ' | 'ı' => 'i',
        'ſ' => 's',
        _ => char,
    };
    char.to_lowercase().take(1)
}

fn num_words(text: &str, _: &mut Views) -> f64 {
    lines::count_words(text) as f64
}

fn mean_word_length(text: &str, views: &mut Views) -> f64 {
    let scan = views.scan(text);
    ratio(scan.num_word_chars(), scan.num_words)
}

fn symbol_word_ratio(text: &str, views: &mut Views) -> f64 {
    let count = |symbol: &str| memmem::find_iter(text.as_bytes(), symbol.as_bytes()).count();
    let num_symbols: usize = ["#", "...", ". . .", "…"].into_iter().map(count).sum();
    ratio(num_symbols, views.scan(text).num_words)
}

fn bullet_line_fraction(text: &str, views: &mut Views) -> f64 {
    share_of_filled(text, views, |line| strip(line).starts_with(['●', '•', '*', '-']))
}

fn ellipsis_line_fraction(text: &str, views: &mut Views) -> f64 {
    share_of_filled(text, views, |line| {
        let line = strip(line);
        line.ends_with("...") || line.ends_with(". . .") || line.ends_with('…')
    })
}

fn no_letter_word_fraction(text: &str, views: &mut Views) -> f64 {
    let words = views.split_words(text);
    ratio(words.num_words() - words.num_with_letter, words.num_words())
}

fn num_stop_words(text: &str, views: &mut Views) -> f64 {
    views.split_words(text).num_any_case_stop_word_copies as f64
}

fn part_fraction(copies: Copies) -> f64 {
    ratio(copies.num_copies, copies.num_parts)
}

fn char_fraction(copies: Copies) -> f64 {
    ratio(copies.copied_chars, copies.num_chars)
}

fn copied_line_fraction(text: &str, views: &mut Views) -> f64 {
    part_fraction(views.copied_stripped_lines(text))
}

fn copied_paragraph_fraction(text: &str, views: &mut Views) -> f64 {
    part_fraction(views.copied_stripped_paragraphs(text))
}

fn copied_line_char_fraction(text: &str, views: &mut Views) -> f64 {
    char_fraction(views.copied_stripped_lines(text))
}

fn copied_paragraph_char_fraction(text: &str, views: &mut Views) -> f64 {
    char_fraction(views.copied_stripped_paragraphs(text))
}

/// An n-gram that stands once is not frequent; among equally frequent ones the longest counts.
fn top_ngram_char_fraction<const N: usize>(text: &str, views: &mut Views) -> f64 {
    let top = views.recurring_unicode_ngrams(text, N);
    let is_frequent = usize::from(top.top_copies > 1);
    ratio(is_frequent * top.longest_top_chars * top.top_copies, views.unicode_words(text).word_chars())
}

fn covered_char_fraction<const N: usize>(text: &str, views: &mut Views) -> f64 {
    let covered = views.recurring_unicode_ngrams(text, N).covered_chars;
    ratio(covered, views.unicode_words(text).word_chars())
}
