//! Where a pattern that begins with `\b\d` can begin: digits that no word character
//! precedes. They are found once and serve all three patterns of digits.

use crate::text::{char_before, is_decimal, is_word};

/// A pattern of digits: the end of its match at this start, if it matches.
pub(super) type Pattern = fn(text: &str, start: usize) -> Option<usize>;

/// Bytes looked at together; one comparison in sixteen lanes at a time.
const CHUNK: usize = 32;

/// Byte positions of all digits (category Nd) after a non-word character or the start.
pub(super) fn starts(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
        if !chunk.iter().fold(false, |any, byte| any | may_begin_digit(*byte)) {
            continue;
        }
        let positions = index * CHUNK..index * CHUNK + chunk.len();
        found.extend(positions.filter(|at| may_begin_digit(bytes[*at]) && is_start(text, *at)));
    }
    found
}

/// First bytes of UTF-8 sequences among which all of category Nd are (Unicode 14).
#[inline]
fn may_begin_digit(byte: u8) -> bool {
    byte.wrapping_sub(b'0') < 10 || matches!(byte, 0xD9 | 0xDB | 0xDF | 0xE0 | 0xE1 | 0xEA | 0xEF | 0xF0)
}

fn is_start(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    if at > 0 && bytes[at - 1] < 0x80 && is_word(bytes[at - 1] as char) {
        return false;
    }
    digit_end(text, at).is_some() && !char_before(text, at).is_some_and(is_word)
}

/// End of the digit at byte `at`, if there is one.
#[inline]
fn digit_end(text: &str, at: usize) -> Option<usize> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 0x80 {
        return byte.is_ascii_digit().then_some(at + 1);
    }
    let char = text[at..].chars().next().filter(|char| is_decimal(*char))?;
    Some(at + char.len_utf8())
}

/// End of exactly `count` digits from `at`.
pub(super) fn skip_digits(text: &str, at: usize, count: usize) -> Option<usize> {
    (0..count).try_fold(at, |at, _| digit_end(text, at))
}

/// End of the longest run of at most `most` digits from `at`; `None` if there is none.
pub(super) fn skip_up_to(text: &str, at: usize, most: usize) -> Option<usize> {
    let first = digit_end(text, at)?;
    Some((1..most).try_fold(first, |at, _| digit_end(text, at).ok_or(at)).unwrap_or_else(|end| end))
}

/// End of this one byte at `at`.
pub(super) fn skip_byte(text: &str, at: usize, byte: u8) -> Option<usize> {
    (text.as_bytes().get(at) == Some(&byte)).then_some(at + 1)
}

/// `at`, if the digit before it ends a word: `\d\b`.
pub(super) fn word_end(text: &str, at: usize) -> Option<usize> {
    (!text[at..].chars().next().is_some_and(is_word)).then_some(at)
}

/// The text with every match at one of `starts` replaced by `tag`; `None` without one.
pub(super) fn substitute(text: &str, starts: &[usize], pattern: Pattern, tag: &str) -> Option<(String, u64)> {
    super::replace_all(text, tag, matches(text, starts, pattern))
}

/// The matches that begin at one of `starts`, in order.
pub(super) fn matches<'t>(
    text: &'t str,
    starts: &'t [usize],
    pattern: Pattern,
) -> impl Iterator<Item = (usize, usize)> + 't {
    let mut from = 0;
    starts.iter().filter_map(move |&start| {
        let end = (start >= from).then(|| pattern(text, start)).flatten()?;
        from = end;
        Some((start, end))
    })
}
