//! Classes of characters in the regex engine of the `tokenizers` library (Oniguruma).
//!
//! A class is a bit, so that a run of several classes is one test; ASCII has a table of its own.

use super::tables::{BLOCKS, STAGE};

/// General categories Lu and Lt.
pub(super) const UPPER: u8 = 1;
/// General category Ll.
pub(super) const LOWER: u8 = 2;
/// General categories Lm and Lo.
pub(super) const CASELESS: u8 = 4;
/// General category M.
pub(super) const MARK: u8 = 8;
/// General category N.
pub(super) const NUMBER: u8 = 16;
/// `\s`.
pub(super) const SPACE: u8 = 32;
/// Carriage return and line feed, which are [`SPACE`] too.
pub(super) const NEWLINE: u8 = 64;
/// Every other character.
pub(super) const OTHER: u8 = 128;
/// `\p{L}`.
pub(super) const LETTER: u8 = UPPER | LOWER | CASELESS;

/// Bits of the eight classes in the order of the tables.
const BITS: [u8; 8] = [OTHER, UPPER, LOWER, CASELESS, MARK, NUMBER, SPACE, SPACE | NEWLINE];

/// Bits of the ASCII bytes; 0 for the bytes of longer characters.
static ASCII: [u8; 256] = ascii();

const fn ascii() -> [u8; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 128 {
        table[code] = bits_in(STAGE[0], code);
        code += 1;
    }
    table
}

const fn bits_in(block: u8, code: usize) -> u8 {
    let word = BLOCKS[block as usize][code >> 4 & 7];
    BITS[(word >> (4 * (code & 15)) & 7) as usize]
}

/// Bits of a code point.
#[inline]
fn bits(code: usize) -> u8 {
    STAGE.get(code >> 7).map_or(OTHER, |block| bits_in(*block, code))
}

/// Bits and bytes of the character that begins at `at`; both are 0 at the end of the text.
#[inline]
pub(super) fn facts(text: &[u8], at: usize) -> (u8, usize) {
    let Some(&first) = text.get(at) else { return (0, 0) };
    match ASCII[first as usize] {
        0 => long_facts(text, at, first),
        bits => (bits, 1),
    }
}

/// The same for a character of two bytes or more; `text` is UTF-8 and `at` begins one.
#[inline]
fn long_facts(text: &[u8], at: usize, first: u8) -> (u8, usize) {
    let low = |offset: usize| text.get(at + offset).map_or(0, |byte| (byte & 0x3f) as usize);
    match first {
        0..0xe0 => (bits((first as usize & 0x1f) << 6 | low(1)), 2),
        0xe0..0xf0 => (bits((first as usize & 0x0f) << 12 | low(1) << 6 | low(2)), 3),
        _ => (bits((first as usize & 7) << 18 | low(1) << 12 | low(2) << 6 | low(3)), 4),
    }
}

/// Where the run of characters of the classes `mask` that begins at `at` ends.
#[inline]
pub(super) fn run(text: &[u8], mut at: usize, mask: u8) -> usize {
    loop {
        let (bits, len) = facts(text, at);
        if bits & mask == 0 {
            return at;
        }
        at += len;
    }
}

/// Where the run of letters, and of marks if `MARKS`, ends; ASCII letters are counted eight at a time.
#[inline]
pub(super) fn letters<const MARKS: bool>(text: &[u8], mut at: usize) -> usize {
    while let Some(Ok(eight)) = text.get(at..at + 8).map(TryInto::try_into) {
        let len = ascii_letters(u64::from_le_bytes(eight));
        at += len;
        if len < 8 {
            break;
        }
    }
    run(text, at, if MARKS { LETTER | MARK } else { LETTER })
}

/// How many of eight bytes are ASCII letters before one is not.
#[inline]
fn ascii_letters(bytes: u64) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const A: u64 = b'a' as u64;
    const Z: u64 = b'z' as u64;
    let lowered = (bytes & (0x7f * ONES)) | (0x20 * ONES);
    let from_a = lowered + (0x80 - A) * ONES;
    let after_z = lowered + (0x7f - Z) * ONES;
    let others = !(from_a & !after_z & !bytes) & (0x80 * ONES);
    others.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::utils::SysRegex;

    #[test]
    fn every_code_point_has_the_class_that_the_regex_engine_gives_it() {
        let text: String = ('\0'..=char::MAX).collect();
        let classes = [
            (r"[\p{Lu}\p{Lt}]+", UPPER),
            (r"\p{Ll}+", LOWER),
            (r"[\p{Lm}\p{Lo}]+", CASELESS),
            (r"\p{M}+", MARK),
            (r"\p{N}+", NUMBER),
            (r"\s+", SPACE),
            (r"[\r\n]+", NEWLINE),
            (r"[^\p{L}\p{M}\p{N}\s]+", OTHER),
        ];
        for (pattern, class) in classes {
            let mut at = 0;
            for (start, end) in SysRegex::new(pattern).unwrap().find_iter(&text) {
                assert!(text[at..start]
                    .char_indices()
                    .all(|(i, _)| facts(text.as_bytes(), at + i).0 & class == 0));
                assert_eq!(run(text.as_bytes(), start, class), end, "{pattern}");
                at = end;
            }
        }
    }

    #[test]
    fn eight_bytes_at_a_time_find_the_letters_that_one_at_a_time_find() {
        for byte in 0..=255_u8 {
            for place in 0..8 {
                let mut text = *b"AzMaZqbY";
                text[place] = byte;
                let expected = if byte.is_ascii_alphabetic() { 8 } else { place };
                assert_eq!(ascii_letters(u64::from_le_bytes(text)), expected, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn the_end_of_the_text_has_no_class_and_no_length() {
        assert_eq!(facts("é".as_bytes(), 2), (0, 0));
        assert_eq!(run(b"", 0, OTHER), 0);
    }
}
