//! Classes of characters as spaCy's patterns have them: one table answers for all of them.

use super::tables::{BLOCKS, STAGE};

pub(super) use super::tables::{
    ALPHA, BEFORE_DOT, INFIX, LOWER, PREFIX, PUNCTUATION, QUOTE, SENTENCE_END, SPACE, SUFFIX, UPPER,
};

/// Bits of the classes that a character is in.
#[inline]
pub(super) fn class(char: char) -> u16 {
    let code = char as usize;
    match STAGE.get(code >> 6) {
        Some(&block) => BLOCKS[block as usize][code & 63],
        None => 0,
    }
}

/// True if the character is in one of `classes`; no character is in none.
#[inline]
pub(super) fn is(char: Option<char>, classes: u16) -> bool {
    char.is_some_and(|char| class(char) & classes != 0)
}

/// True for `[0-9]`.
#[inline]
pub(super) fn is_digit(char: Option<char>) -> bool {
    char.is_some_and(|char| char.is_ascii_digit())
}

/// A byte that is an ASCII letter.
pub(super) const LETTER: u8 = 1;
/// A byte that ends a chunk: ASCII white space.
pub(super) const BLANK: u8 = 2;
/// A byte of a character beyond ASCII, which may be white space.
pub(super) const HIGH: u8 = 4;
/// Any other ASCII byte.
pub(super) const MARK: u8 = 8;

/// What each byte says of the chunk that it stands in.
pub(super) static BYTES: [u8; 256] = byte_kinds();

const fn byte_kinds() -> [u8; 256] {
    let mut kinds = [HIGH; 256];
    let mut byte = 0;
    while byte < 128 {
        kinds[byte] = if (byte as u8).is_ascii_alphabetic() {
            LETTER
        } else if BLOCKS[STAGE[byte >> 6] as usize][byte & 63] & SPACE != 0 {
            BLANK
        } else {
            MARK
        };
        byte += 1;
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn white_space_is_that_of_python_for_every_character() {
        for char in '\0'..=char::MAX {
            let expected = text::class(char) == text::Class::Space;
            assert_eq!(is(Some(char), SPACE), expected, "{char:?}");
        }
    }

    #[test]
    fn a_character_is_in_all_the_classes_that_spacy_puts_it_in() {
        assert!(is(Some('('), PREFIX) && is(Some('('), SUFFIX) && !is(Some('('), INFIX));
        assert!(is(Some('é'), ALPHA) && is(Some('é'), LOWER) && !is(Some('é'), UPPER));
        assert!(is(Some('中'), LOWER) && is(Some('中'), UPPER)); // no case: both
        assert!(is(Some('😀'), INFIX) && !is(Some('\u{10ffff}'), INFIX));
        assert!(!is(None, u16::MAX));
    }
}
