//! The rules of Dolma 1.6 for web pages (Soldaini et al. 2024; `configs/dolma-v1_6/mixing/cc-head.yaml`),
//! on the features of its tagger `gopher_v1`: words are those of `str.split()`, lines stand between line
//! feeds, and every copy of a repeated line or n-gram counts.
//!
//! The rules on the most frequent 2- to 4-gram are left out: the file asks for `...most_common_2gram`, the
//! tagger writes `...most_common_2grams`, so in Dolma they never fire.

use super::Bound;
use crate::text::Views;

/// The largest number that passes a bound in hundredths: Dolma rounds what it measures to five decimals.
const fn up_to(hundredths: u32) -> f64 {
    let halfway = hundredths as f64 / 100.0 + 0.000_005;
    match hundredths {
        15 | 30 => halfway,
        _ => halfway.next_down(), // the sum was rounded up, or is above the decimal number itself
    }
}

/// The smallest number that rounds to 0.8.
const FOUR_FIFTHS: f64 = 0.799_995;

/// The rules, in order.
pub(super) static RULES: [Bound; 17] = [
    Bound::min("dolma_few_words", num_words, 50.0),
    Bound::max("dolma_many_words", num_words, 100_000.0),
    Bound::min("dolma_short_words", median_word_length, 3.0),
    Bound::max("dolma_long_words", median_word_length, 10.0),
    Bound::max("dolma_symbols", mark_word_fraction, up_to(10)),
    Bound::min("dolma_few_letters", letter_word_fraction, FOUR_FIFTHS),
    Bound::min("dolma_few_stop_words", num_stop_words, 2.0),
    Bound::max("dolma_bullet_lines", bullet_line_fraction, up_to(90)),
    Bound::max("dolma_ellipsis_lines", ellipsis_line_fraction, up_to(30)),
    Bound::max("dolma_duplicate_lines", copied_line_fraction, up_to(30)),
    Bound::max("dolma_duplicate_line_chars", copied_line_char_fraction, up_to(30)),
    Bound::max("dolma_repeated_5_grams", copied_ngram_char_fraction::<5>, up_to(15)),
    Bound::max("dolma_repeated_6_grams", copied_ngram_char_fraction::<6>, up_to(14)),
    Bound::max("dolma_repeated_7_grams", copied_ngram_char_fraction::<7>, up_to(13)),
    Bound::max("dolma_repeated_8_grams", copied_ngram_char_fraction::<8>, up_to(12)),
    Bound::max("dolma_repeated_9_grams", copied_ngram_char_fraction::<9>, up_to(11)),
    Bound::max("dolma_repeated_10_grams", copied_ngram_char_fraction::<10>, up_to(10)),
];

/// A quotient of counts; 0 if the divisor is.
fn ratio(count: usize, of: usize) -> f64 {
    count as f64 / of.max(1) as f64
}

fn num_words(text: &str, views: &mut Views) -> f64 {
    views.scan(text).num_words as f64
}

fn median_word_length(text: &str, views: &mut Views) -> f64 {
    views.median_split_word_length(text)
}

fn mark_word_fraction(text: &str, views: &mut Views) -> f64 {
    let words = views.split_words(text);
    ratio(words.num_with_mark, words.num_words())
}

fn letter_word_fraction(text: &str, views: &mut Views) -> f64 {
    let words = views.split_words(text);
    ratio(words.num_with_letter, words.num_words())
}

fn num_stop_words(text: &str, views: &mut Views) -> f64 {
    views.split_words(text).num_stop_word_copies as f64
}

/// Share of the lines between line feeds that are as asked.
fn line_fraction(text: &str, is_counted: impl Fn(&str) -> bool) -> f64 {
    let (mut num_lines, mut num_counted) = (0, 0);
    for line in text.split('\n') {
        num_lines += 1;
        num_counted += usize::from(is_counted(line));
    }
    ratio(num_counted, num_lines)
}

fn bullet_line_fraction(text: &str, _: &mut Views) -> f64 {
    line_fraction(text, |line| line.starts_with(['*', '-']))
}

fn ellipsis_line_fraction(text: &str, _: &mut Views) -> f64 {
    line_fraction(text, |line| line.ends_with('…'))
}

fn copied_line_fraction(text: &str, views: &mut Views) -> f64 {
    let copies = views.copied_lines(text);
    ratio(copies.num_copies, copies.num_parts)
}

/// Of the code points in words, so it may pass 1.
fn copied_line_char_fraction(text: &str, views: &mut Views) -> f64 {
    let copied = views.copied_lines(text).copied_chars;
    ratio(copied, views.split_words(text).word_chars())
}

fn copied_ngram_char_fraction<const N: usize>(text: &str, views: &mut Views) -> f64 {
    let found = views.recurring_split_ngrams(text, N);
    ratio(found.copied_chars, found.num_chars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_parts_numbers_as_rounding_to_five_decimals_does() {
        let rounded = |value: f64| format!("{value:.5}").parse::<f64>().unwrap();
        for hundredths in [10, 11, 12, 13, 14, 15, 30, 90] {
            let (limit, bound) = (f64::from(hundredths) / 100.0, up_to(hundredths));
            assert!(rounded(bound) <= limit && rounded(bound.next_up()) > limit, "{limit}");
        }
        assert!(rounded(FOUR_FIFTHS) >= 0.8 && rounded(FOUR_FIFTHS.next_down()) < 0.8);
    }
}
