//! Email: `\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Z|a-z]{2,}\b` becomes `[EMAIL]`.
//!
//! The class of the top-level domain really holds a `|`. Neither class holds `@`, so a
//! match has exactly one and the scanner goes from one `@` to the next.

use memchr::memchr;

use crate::text::is_boundary;

/// The text with every address replaced; `None` if there is none.
pub(super) fn substitute(text: &str) -> Option<(String, u64)> {
    super::replace_all(text, "[EMAIL]", matches(text))
}

/// The addresses, in order.
pub(super) fn matches(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut from = 0; // end of the last match: no character is matched twice
    let mut at = 0; // where to look for the next `@`
    std::iter::from_fn(move || loop {
        let sign = at + memchr(b'@', text.as_bytes().get(at..)?)?;
        at = sign + 1;
        if let Some((start, end)) = match_around(text, sign, from) {
            (from, at) = (end, end);
            return Some((start, end));
        }
    })
}

/// The match whose `@` stands at `sign` and that begins at `from` or after.
fn match_around(text: &str, sign: usize, from: usize) -> Option<(usize, usize)> {
    let start = local_start(text, sign, from)?;
    Some((start, domain_end(text, sign + 1)?))
}

/// The leftmost word boundary in the run of local characters before `sign`.
fn local_start(text: &str, sign: usize, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let length = bytes[from..sign].iter().rev().take_while(|byte| is_local(**byte)).count();
    (sign - length..sign).find(|start| is_boundary(text, *start))
}

/// End of the longest domain that begins at `start`, tried as `re` backtracks: from
/// the last dot to the first.
fn domain_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let length = bytes[start..].iter().take_while(|byte| is_domain(**byte)).count();
    let mut dots = (start + 1..start + length).rev().filter(|dot| bytes[*dot] == b'.');
    dots.find_map(|dot| top_level_end(text, dot + 1))
}

/// The last word boundary at least two characters into the run of `[A-Z|a-z]`.
fn top_level_end(text: &str, start: usize) -> Option<usize> {
    let length = text.as_bytes()[start..].iter().take_while(|byte| is_top_level(**byte)).count();
    (start + 2..=start + length).rev().find(|end| is_boundary(text, *end))
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
}

fn is_top_level(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'|'
}
