//! Words of a text, counted without being found: what every step of the funnel asks.

use super::scan::{in_range, HIGH};
use super::{class, Class};

/// The number of words of `str.split()`; ASCII is read eight bytes at a time.
pub fn count_words(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut count, mut after_space) = (0, 0, true);
    while at < bytes.len() {
        match bytes[at..].first_chunk().map(|chunk| u64::from_le_bytes(*chunk)) {
            Some(block) if block & HIGH == 0 => {
                let spaces = in_range(block, 9, 5) | in_range(block, 28, 5);
                let begins = !spaces & ((spaces << 8) | (u64::from(after_space) << 7)) & HIGH;
                count += begins.count_ones() as usize;
                after_space = spaces >> 63 == 1;
                at += 8;
            }
            _ => {
                let char = text[at..].chars().next().unwrap_or(' '); // `at` is a boundary inside the text
                let is_space = class(char) == Class::Space;
                count += usize::from(after_space && !is_space);
                after_space = is_space;
                at += char.len_utf8();
            }
        }
    }
    count
}

/// The last character boundary at or before `at`, or the end.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::super::{scan, Scan};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_count_is_that_of_the_scan(
            text in r"([ \t\n\x1b-\x21a-z\x7fé٣日\u{85}\u{a0}\u{1680}\u{2003}\u{3000}…]{0,9}(word ){0,70}){0,6}"
        ) {
            let mut found = Scan::default();
            scan(&text, &mut found);
            prop_assert_eq!(count_words(&text), found.words.len());
        }
    }
}
