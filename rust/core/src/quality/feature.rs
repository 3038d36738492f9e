//! What can be measured of a text, by name: the rules are bounds on these (table in docs/quality.md).

use memchr::{memchr_iter, memmem};

use crate::text::{count_chars, is_terminal, strip_end, strip_start, Repeats, Views};

/// Measures a text; the views are of that text.
pub type Measure = fn(&str, &mut Views) -> f64;

/// Every feature by its name.
pub const FEATURES: [(&str, Measure); 37] = [
    ("num_bytes", |text, _| text.len() as f64),
    ("num_chars", num_chars),
    ("num_words", num_words),
    ("num_no_symbol_words", num_no_symbol_words),
    ("num_split_words", |text, views| views.scan(text).num_words as f64),
    ("num_lines", |text, views| num_lines(text, views)),
    ("num_filled_lines", num_filled_lines),
    ("num_stop_words", num_stop_words),
    ("mean_word_length", mean_word_length),
    ("mean_split_word_length", mean_split_word_length),
    ("mean_line_length", mean_line_length),
    ("letter_word_fraction", letter_word_fraction),
    ("distinct_word_fraction", distinct_word_fraction),
    ("alnum_char_fraction", |text, views| of_chars(views.scan(text).num_alnum, text, views)),
    ("space_char_fraction", |text, views| of_chars(views.scan(text).num_spaces, text, views)),
    ("symbol_char_fraction", |text, views| of_chars(views.scan(text).num_symbols(), text, views)),
    ("hash_word_ratio", hash_word_ratio),
    ("ellipsis_word_ratio", ellipsis_word_ratio),
    ("newline_word_ratio", newline_word_ratio),
    ("bullet_line_fraction", bullet_line_fraction),
    ("ellipsis_line_fraction", ellipsis_line_fraction),
    ("terminal_line_fraction", terminal_line_fraction),
    ("short_line_fraction", short_line_fraction),
    ("duplicate_paragraph_fraction", duplicate_paragraph_fraction),
    ("duplicate_paragraph_char_fraction", duplicate_paragraph_char_fraction),
    ("duplicate_line_fraction", duplicate_line_fraction),
    ("duplicate_line_char_fraction", duplicate_line_char_fraction),
    ("duplicate_filled_line_char_fraction", duplicate_filled_line_char_fraction),
    ("top_2_gram_char_fraction", top_ngram_char_fraction::<2>),
    ("top_3_gram_char_fraction", top_ngram_char_fraction::<3>),
    ("top_4_gram_char_fraction", top_ngram_char_fraction::<4>),
    ("repeated_5_gram_char_fraction", repeated_ngram_char_fraction::<5>),
    ("repeated_6_gram_char_fraction", repeated_ngram_char_fraction::<6>),
    ("repeated_7_gram_char_fraction", repeated_ngram_char_fraction::<7>),
    ("repeated_8_gram_char_fraction", repeated_ngram_char_fraction::<8>),
    ("repeated_9_gram_char_fraction", repeated_ngram_char_fraction::<9>),
    ("repeated_10_gram_char_fraction", repeated_ngram_char_fraction::<10>),
];

/// A quotient of counts; 0 of 0 is not a number and breaks no bound.
fn ratio(count: usize, of: usize) -> f64 {
    count as f64 / of as f64
}

pub(super) fn of_chars(count: usize, text: &str, views: &mut Views) -> f64 {
    ratio(count, views.num_chars(text))
}

fn of_words(count: usize, text: &str, views: &mut Views) -> f64 {
    ratio(count, views.english(text).num_words())
}

pub(super) fn num_chars(text: &str, views: &mut Views) -> f64 {
    views.num_chars(text) as f64
}

pub(super) fn num_words(text: &str, views: &mut Views) -> f64 {
    views.english(text).num_words() as f64
}

pub(super) fn num_no_symbol_words(text: &str, views: &mut Views) -> f64 {
    views.english(text).num_no_symbol as f64
}

pub(super) fn num_filled_lines(text: &str, views: &mut Views) -> f64 {
    views.num_filled_lines(text) as f64
}

pub(super) fn num_stop_words(text: &str, views: &mut Views) -> f64 {
    views.english(text).num_stop_words as f64
}

pub(super) fn mean_word_length(text: &str, views: &mut Views) -> f64 {
    let english = views.english(text);
    ratio(english.no_symbol_chars, english.num_no_symbol)
}

fn mean_split_word_length(text: &str, views: &mut Views) -> f64 {
    let scan = views.scan(text);
    ratio(scan.num_word_chars(), scan.num_words)
}

fn num_lines(text: &str, views: &mut Views) -> f64 {
    let mut num_lines = 0_usize;
    views.each_line(text, |_| num_lines += 1);
    num_lines as f64
}

fn mean_line_length(text: &str, views: &mut Views) -> f64 {
    let mut num_chars = 0;
    views.each_filled_line(text, |(start, end)| num_chars += count_chars(&text[start..end]));
    ratio(num_chars, views.num_filled_lines(text))
}

pub(super) fn letter_word_fraction(text: &str, views: &mut Views) -> f64 {
    of_words(views.english(text).num_with_letter, text, views)
}

fn distinct_word_fraction(text: &str, views: &mut Views) -> f64 {
    of_words(views.num_english_forms(text), text, views)
}

pub(super) fn hash_word_ratio(text: &str, views: &mut Views) -> f64 {
    of_words(memchr_iter(b'#', text.as_bytes()).count(), text, views)
}

pub(super) fn ellipsis_word_ratio(text: &str, views: &mut Views) -> f64 {
    let count = |ellipsis: &str| memmem::find_iter(text.as_bytes(), ellipsis.as_bytes()).count();
    of_words(count("...") + count("…"), text, views)
}

fn num_newlines(text: &str) -> usize {
    memchr_iter(b'\n', text.as_bytes()).count()
}

pub(super) fn newline_word_ratio(text: &str, views: &mut Views) -> f64 {
    of_words(num_newlines(text), text, views)
}

/// Never below [`newline_word_ratio`], and much cheaper: no English word spans white space.
pub(super) fn newline_split_word_ratio(text: &str, views: &mut Views) -> f64 {
    ratio(num_newlines(text), views.scan(text).num_words)
}

/// Share of the lines that are as asked.
fn share_of_lines(text: &str, views: &mut Views, is_counted: impl Fn(&str) -> bool) -> f64 {
    let (mut num_lines, mut num_counted) = (0, 0);
    views.each_line(text, |(start, end)| {
        num_lines += 1;
        num_counted += usize::from(is_counted(&text[start..end]));
    });
    ratio(num_counted, num_lines)
}

/// Share of the lines that are as asked, of those that are not blank.
pub(super) fn share_of_filled(text: &str, views: &mut Views, is_counted: impl Fn(&str) -> bool) -> f64 {
    let mut num_counted = 0;
    views.each_filled_line(text, |(start, end)| num_counted += usize::from(is_counted(&text[start..end])));
    ratio(num_counted, views.num_filled_lines(text))
}

pub(super) fn bullet_line_fraction(text: &str, views: &mut Views) -> f64 {
    share_of_lines(text, views, |line| strip_start(line).starts_with(['•', '-']))
}

pub(super) fn ellipsis_line_fraction(text: &str, views: &mut Views) -> f64 {
    share_of_lines(text, views, |line| {
        let line = strip_end(line);
        line.ends_with("...") || line.ends_with('…')
    })
}

pub(super) fn terminal_line_fraction(text: &str, views: &mut Views) -> f64 {
    share_of_filled(text, views, |line| line.chars().next_back().is_some_and(is_terminal))
}

/// Code points of a line that `FineWeb` calls short (Penedo et al. 2024, section 3.6).
const SHORT_LINE_CHARS: usize = 30;

pub(super) fn short_line_fraction(text: &str, views: &mut Views) -> f64 {
    // A character has at most four bytes, so most lines need no count.
    share_of_filled(text, views, |line| {
        line.len() <= SHORT_LINE_CHARS
            || line.len() <= 4 * SHORT_LINE_CHARS && count_chars(line) <= SHORT_LINE_CHARS
    })
}

fn part_fraction(repeats: Repeats) -> f64 {
    ratio(repeats.num_repeated, repeats.num_parts)
}

pub(super) fn duplicate_paragraph_fraction(text: &str, views: &mut Views) -> f64 {
    part_fraction(views.repeated_paragraphs(text))
}

pub(super) fn duplicate_paragraph_char_fraction(text: &str, views: &mut Views) -> f64 {
    of_chars(views.repeated_paragraphs(text).repeated_chars, text, views)
}

pub(super) fn duplicate_line_fraction(text: &str, views: &mut Views) -> f64 {
    part_fraction(views.repeated_lines(text))
}

pub(super) fn duplicate_line_char_fraction(text: &str, views: &mut Views) -> f64 {
    of_chars(views.repeated_lines(text).repeated_chars, text, views)
}

/// Of the code points that are no line feed.
pub(super) fn duplicate_filled_line_char_fraction(text: &str, views: &mut Views) -> f64 {
    let repeated = views.repeated_filled_lines(text).repeated_chars;
    ratio(repeated, views.num_chars(text) - num_newlines(text))
}

pub(super) fn top_ngram_char_fraction<const N: usize>(text: &str, views: &mut Views) -> f64 {
    let top = views.top_ngram(text, N);
    of_chars(top.num_chars * top.num_copies, text, views)
}

pub(super) fn repeated_ngram_char_fraction<const N: usize>(text: &str, views: &mut Views) -> f64 {
    of_chars(views.repeated_ngram_chars(text, N), text, views)
}

/// Never below [`top_ngram_char_fraction`]: nothing is told apart.
pub(super) fn top_ngram_ceiling<const N: usize>(text: &str, views: &mut Views) -> f64 {
    of_chars(views.top_ngram_ceiling(text, N), text, views)
}

/// Never below [`repeated_ngram_char_fraction`]: nothing is told apart.
pub(super) fn repeated_ngram_ceiling<const N: usize>(text: &str, views: &mut Views) -> f64 {
    of_chars(views.repeated_ngram_ceiling(text, N), text, views)
}
