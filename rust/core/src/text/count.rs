//! Words of a text, counted without being found: what every step of the funnel asks.

use super::{class, Class, ASCII};

/// Bytes looked at together.
const PIECE_BYTES: usize = 256;

/// The number of words of `str.split()`.
pub fn count_words(text: &str) -> usize {
    let (mut at, mut count, mut after_space) = (0, 0, true);
    while at < text.len() {
        let end = floor(text, at + PIECE_BYTES);
        let piece = &text[at..end];
        let step = if may_hold_space(piece.as_bytes()) { count_chars_wise } else { count_bytes_wise };
        count += step(piece, &mut after_space);
        at = end;
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

/// True if a byte is the first of a white space outside ASCII (U+0085 to U+3000).
fn may_hold_space(piece: &[u8]) -> bool {
    piece.iter().fold(false, |any, byte| any | matches!(byte, 0xc2 | 0xe1 | 0xe2 | 0xe3))
}

fn count_bytes_wise(piece: &str, after_space: &mut bool) -> usize {
    let bytes = piece.as_bytes();
    let is_space = |byte: u8| byte.wrapping_sub(9) < 5 || byte.wrapping_sub(28) < 5;
    let first = usize::from(*after_space && !is_space(bytes[0]));
    let begins = |(before, byte): (&u8, &u8)| usize::from(is_space(*before) & !is_space(*byte));
    *after_space = is_space(bytes[bytes.len() - 1]);
    first + bytes.iter().zip(&bytes[1..]).map(begins).sum::<usize>()
}

fn count_chars_wise(piece: &str, after_space: &mut bool) -> usize {
    let begins = |char: char| {
        let class = if char.is_ascii() { ASCII[char as usize] } else { class(char) };
        let is_space = class == Class::Space;
        usize::from(std::mem::replace(after_space, is_space) && !is_space)
    };
    piece.chars().map(begins).sum()
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
