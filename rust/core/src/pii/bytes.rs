//! Reading around an anchor: bytes of ASCII, boundaries of what is not.

use crate::text::{char_at, char_before, is_word};

/// The byte at `at`, 0 past the end.
#[inline]
pub(super) fn byte(text: &str, at: usize) -> u8 {
    text.as_bytes().get(at).copied().unwrap_or(0)
}

/// The byte `back` before `at`, 0 before the start.
#[inline]
pub(super) fn before(text: &str, at: usize, back: usize) -> u8 {
    at.checked_sub(back).map_or(0, |at| byte(text, at))
}

/// True if no word goes on before byte `at`: the underscores of `_emphasis_` and the letter of a written-out
/// `\n` are none.
pub(super) fn starts_word(text: &str, at: usize) -> bool {
    let start = at - run_before(text, at, MAX_EMPHASIS, |byte| byte == b'_');
    !char_before(text, start).is_some_and(joins) || follows_escape(text, at)
}

/// True if no word goes on at byte `at`.
pub(super) fn ends_word(text: &str, at: usize) -> bool {
    let end = at + run(text, at, MAX_EMPHASIS, |byte| byte == b'_');
    !char_at(text, end).is_some_and(joins)
}

/// Most marks of Markdown before what is set in italics, bold or both.
pub(super) const MAX_EMPHASIS: usize = 3;

/// What stands in a string of JSON for white space and angle brackets, where that string is part of a text.
const ESCAPES: [&[u8]; 7] = [b"\\n", b"\\r", b"\\t", b"\\u003c", b"\\u003C", b"\\u003e", b"\\u003E"];

/// True if an escape ends before byte `at`.
fn follows_escape(text: &str, at: usize) -> bool {
    ESCAPES.iter().any(|escape| text.as_bytes()[..at].ends_with(escape))
}

/// True for a character that makes one word with ASCII beside it; scripts without spaces do not.
fn joins(char: char) -> bool {
    is_word(char) && (!is_unspaced(char) || char.is_numeric())
}

/// Scripts in which a word does not end at a space: Thai to Khmer, kana, Han, Hangul.
pub(super) fn is_unspaced(char: char) -> bool {
    matches!(char as u32, 0xE00..=0xEFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x2E80..=0xA4CF | 0xAC00..=0xD7FF
        | 0xF900..=0xFAFF | 0xFF00..=0xFFEF | 0x20000..=0x3FFFF)
}

/// Bytes from `at` on, at most `most`, that `accepts` is true of.
pub(super) fn run(text: &str, at: usize, most: usize, accepts: impl Fn(u8) -> bool) -> usize {
    text.as_bytes()[at.min(text.len())..].iter().take(most).take_while(|byte| accepts(**byte)).count()
}

/// Bytes before `at`, at most `most`, that `accepts` is true of.
pub(super) fn run_before(text: &str, at: usize, most: usize, accepts: impl Fn(u8) -> bool) -> usize {
    text.as_bytes()[..at].iter().rev().take(most).take_while(|byte| accepts(**byte)).count()
}

/// Width and ASCII stand-in of a mark that parts groups of digits, those of print too; width 0 if there is none.
pub(super) fn mark_at(text: &str, at: usize) -> (usize, u8) {
    match text.as_bytes().get(at..).unwrap_or_default() {
        [mark @ (b' ' | b'-' | b'.' | b'/'), ..] => (1, *mark),
        [0xC2, 0xA0, ..] => (2, b' '),
        [0xE2, 0x80, 0x89 | 0xAF, ..] => (3, b' '),
        [0xE2, 0x80, 0x90 | 0x91 | 0x93, ..] => (3, b'-'),
        _ => (0, 0),
    }
}

/// Luhn's check of decimal digits, given as numbers from left to right (ISO/IEC 7812-1).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().rev().enumerate().map(|(index, digit)| luhn_term(index, *digit)).sum();
    sum.is_multiple_of(10)
}

fn luhn_term(index: usize, digit: u8) -> u32 {
    let doubled = u32::from(digit) << (index & 1);
    if doubled > 9 {
        doubled - 9
    } else {
        doubled
    }
}

/// The last words before byte `at`, up to `most` bytes away, nearest first; `phoneNumber` is two.
pub(super) fn words_before(text: &str, at: usize, most: usize) -> impl Iterator<Item = &str> {
    let mut from = at.saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let words = text[from..at].rsplit(|char: char| !char.is_alphabetic());
    words.flat_map(move |word| humps(without_escape(text, word)))
}

/// A word of `text` without the letter of a written-out `\n` before it: that of `\nPhone` is `Phone`. A `t` belongs
/// to the word where it may be a command, as `\tel`.
fn without_escape<'t>(text: &str, word: &'t str) -> &'t str {
    if word.is_empty() {
        return word; // what stands at its place is no part of it
    }
    let start = word.as_ptr() as usize - text.as_ptr() as usize;
    let capital = byte(text, start + 1).is_ascii_uppercase();
    match byte(text, start) {
        b'n' | b'r' if before(text, start, 1) == b'\\' => &word[1..],
        b't' if before(text, start, 1) == b'\\' && capital => &word[1..],
        _ => word,
    }
}

/// Names that are one word in spite of a capital letter within.
const ONE_WORD: &[&str] = &["WhatsApp", "arXiv"];

/// The words that a name in camel case is made of, the last first. One letter is none: `iPhone` is one word.
fn humps(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let is_hump = |pair: &[u8]| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase();
        let rest_is_one = ONE_WORD.contains(&rest);
        let cut = rest
            .as_bytes()
            .windows(2)
            .rposition(is_hump)
            .filter(|at| *at > 0 && !rest_is_one)
            .map_or(0, |at| at + 1);
        let (head, last) = rest.split_at(cut);
        rest = head;
        (!last.is_empty()).then_some(last)
    })
}

/// The first words after byte `at`, up to `most` bytes away.
pub(super) fn words_after(text: &str, at: usize, most: usize) -> impl Iterator<Item = &str> {
    let mut to = text.len().min(at + most);
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    text[at..to].split(|char: char| !char.is_alphabetic()).filter(|word| !word.is_empty())
}

/// True if `word` is in the list, in lower or upper case.
pub(super) fn is_one_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|each| each.len() == word.len() && each.eq_ignore_ascii_case(word))
}
