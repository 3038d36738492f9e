//! Classes of characters as spaCy's patterns have them: one table answers for all of them.

use wide::u8x16;

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

/// A byte that ends a chunk: ASCII white space.
pub(super) const BLANK: u8 = 1;
/// A byte of a character beyond ASCII, which may be white space.
pub(super) const HIGH: u8 = 2;
/// Any other byte.
const VISIBLE: u8 = 0;

/// What each byte says of the chunk that it stands in.
pub(super) static BYTES: [u8; 256] = byte_kinds();

const fn byte_kinds() -> [u8; 256] {
    let mut kinds = [HIGH; 256];
    let mut byte = 0;
    while byte < 128 {
        let is_space = BLOCKS[STAGE[byte >> 6] as usize][byte & 63] & SPACE != 0;
        kinds[byte] = if is_space { BLANK } else { VISIBLE };
        byte += 1;
    }
    kinds
}

/// A 1 in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of every byte.
const HIGHEST: u64 = 0x80 * ONES;

/// How many ASCII letters `bytes` begins with; eight are looked at in one step.
#[inline]
pub(in crate::text) fn count_letters(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk() {
        let others = not_letters(u64::from_le_bytes(*chunk));
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

/// Bytes that [`first_letters`] and [`first_end`] look at in one step.
pub(super) const STEP_BYTES: usize = 16;

/// How many ASCII letters sixteen bytes begin with.
#[inline]
pub(super) fn first_letters(bytes: &[u8; STEP_BYTES]) -> usize {
    let lower = u8x16::new(*bytes) | u8x16::splat(0x20);
    (!in_range(lower, b'a', 26).to_bitmask()).trailing_zeros() as usize
}

/// How many of sixteen bytes stand before the first that is [`BLANK`] or [`HIGH`].
#[inline]
pub(super) fn first_end(bytes: &[u8; STEP_BYTES]) -> usize {
    let bytes = u8x16::new(*bytes);
    let ends = in_range(bytes, 9, 5) | in_range(bytes, 28, 5) | bytes; // the highest bit of each counts
    (ends.to_bitmask() | 1 << STEP_BYTES).trailing_zeros() as usize
}

/// All bits of the bytes in `low..low + count`; those below `low` wrap round and are too large.
#[inline]
fn in_range(bytes: u8x16, low: u8, count: u8) -> u8x16 {
    let above = bytes - u8x16::splat(low);
    above.min(u8x16::splat(count - 1)).simd_eq(above)
}

/// The highest bit of each byte that is no ASCII letter.
#[inline]
pub(in crate::text) fn not_letters(block: u64) -> u64 {
    let lower = (block | (0x20 * ONES)) & !HIGHEST;
    let is_a_or_more = lower + (0x80 - u64::from(b'a')) * ONES;
    let is_beyond_z = lower + (0x7f - u64::from(b'z')) * ONES;
    (!is_a_or_more | is_beyond_z | block) & HIGHEST
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
    fn letters_are_counted_up_to_the_first_byte_that_is_none() {
        for other in (0..=255_u8).filter(|byte| !byte.is_ascii_alphabetic()) {
            for length in 0..20 {
                let mut bytes = vec![b"azAZ"[length % 4]; length];
                bytes.extend([other, b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h']);
                assert_eq!(count_letters(&bytes), length, "{other}");
                assert_eq!(count_letters(&bytes[..length]), length);
            }
        }
    }

    #[test]
    fn sixteen_bytes_tell_where_their_letters_and_their_chunk_end() {
        for byte in 0..=255_u8 {
            for at in 0..STEP_BYTES {
                let mut bytes = *b"azAZazAZmiddleAZ";
                bytes[at] = byte;
                let letters = if byte.is_ascii_alphabetic() { STEP_BYTES } else { at };
                let end = if BYTES[byte as usize] == VISIBLE { STEP_BYTES } else { at };
                assert_eq!((first_letters(&bytes), first_end(&bytes)), (letters, end), "{byte} at {at}");
            }
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
