//! Prefixes and suffixes: what spaCy cuts from the front and the back of a chunk of text
//! without white space, such as brackets, quotes, `'s` and the unit after a number.

use super::classes::{class, is, BEFORE_DOT, PREFIX, SUFFIX, UPPER};
use super::tables::UNITS;
use crate::text::char_before;

/// Length in bytes of the prefix of `chunk`; 0 if it has none.
pub(super) fn prefix_length(chunk: &str) -> usize {
    let Some(first) = chunk.chars().next() else { return 0 };
    let next = chunk.as_bytes().get(1);
    match first {
        '.' => run_of_dots(chunk.bytes()),
        '+' => usize::from(!next.is_some_and(u8::is_ascii_digit)),
        'U' if chunk.starts_with("US$") => 3,
        'C' | 'A' if next == Some(&b'$') => 2,
        _ if class(first) & PREFIX != 0 => first.len_utf8(),
        _ => 0,
    }
}

/// Length in bytes of the longest suffix of `chunk`; 0 if it has none.
pub(super) fn suffix_length(chunk: &str) -> usize {
    let Some(last) = chunk.chars().next_back() else { return 0 };
    let before = &chunk[..chunk.len() - last.len_utf8()];
    match last {
        '.' => dot_length(chunk, before),
        's' | 'S' if before.ends_with('\'') => 2,
        's' | 'S' if before.ends_with('’') => 1 + '’'.len_utf8(),
        '…' if before.ends_with('…') => 2 * '…'.len_utf8(),
        _ if class(last) & SUFFIX != 0 => last.len_utf8(),
        _ => unit_length(chunk),
    }
}

/// An ellipsis of any length, or a full stop that does not follow a lone capital.
fn dot_length(chunk: &str, before: &str) -> usize {
    let dots = run_of_dots(chunk.bytes().rev());
    if dots > 0 {
        return dots;
    }
    let mut chars = before.chars().rev();
    let (last, second) = (chars.next(), chars.next());
    let after_capitals = is(last, UPPER) && is(second, UPPER);
    let after_degrees = matches!(last, Some('F' | 'C' | 'K')) && second == Some('°');
    usize::from(is(last, BEFORE_DOT) || after_capitals || after_degrees)
}

/// How many dots stand first, if at least two do.
fn run_of_dots(bytes: impl Iterator<Item = u8>) -> usize {
    let dots = bytes.take_while(|byte| *byte == b'.').count();
    if dots > 1 {
        dots
    } else {
        0
    }
}

/// Bytes of the longest of `UNITS`.
const MAX_UNIT_BYTES: usize = 10;

/// Length of the unit, currency or plus sign that ends `chunk` and follows a digit.
/// No unit has a digit in it, so it begins after the last one.
fn unit_length(chunk: &str) -> usize {
    let bytes = chunk.as_bytes();
    let tail = bytes.iter().rev().take(MAX_UNIT_BYTES + 1).position(u8::is_ascii_digit);
    match tail {
        Some(length) if UNITS.binary_search(&&chunk[chunk.len() - length..]).is_ok() => length,
        _ => 0,
    }
}

/// The characters on both sides of `chunk[at..at + length]`.
pub(super) fn neighbours(chunk: &str, at: usize, length: usize) -> (Option<char>, Option<char>) {
    (char_before(chunk, at), chunk[at + length..].chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_one_character_but_for_dots_and_dollars() {
        let cases =
            [("(a", 1), ("«a", 2), ("...a", 3), (".a", 0), ("+1", 0), ("+a", 1), ("US$1", 3), ("A$", 2)];
        for (chunk, length) in cases {
            assert_eq!(prefix_length(chunk), length, "{chunk}");
        }
        assert_eq!(prefix_length(""), 0);
    }

    #[test]
    fn the_suffix_is_the_longest_that_matches() {
        let cases = [("a's", 2), ("a’S", 4), ("10km", 2), ("10US$", 3), ("US$", 0), ("km", 0), ("a……", 6)];
        for (chunk, length) in cases {
            assert_eq!(suffix_length(chunk), length, "{chunk}");
        }
    }

    #[test]
    fn a_full_stop_is_a_suffix_unless_it_follows_a_lone_capital() {
        for (chunk, length) in [("a.", 1), ("U.S.", 0), ("USA.", 1), ("20°F.", 1), ("F.", 0), ("a...", 3)] {
            assert_eq!(suffix_length(chunk), length, "{chunk}");
        }
    }

    #[test]
    fn no_unit_is_longer_than_the_bytes_that_are_looked_at_and_none_has_a_digit() {
        assert_eq!(UNITS.iter().map(|unit| unit.len()).max(), Some(MAX_UNIT_BYTES));
        assert!(UNITS.iter().all(|unit| !unit.contains(|char: char| char.is_ascii_digit())));
        assert!(UNITS.is_sorted());
    }

    /// `suffix_length` looks for a unit only where there is no other suffix.
    #[test]
    fn no_unit_ends_as_another_suffix_does() {
        assert!(UNITS.iter().all(|unit| suffix_length(unit) == 0));
    }
}
