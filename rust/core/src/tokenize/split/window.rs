//! The pattern of GPT-2 over sixty-four bytes at once: a class is an integer with a bit a byte.
//!
//! Each window begins where a word does, so nothing is carried from one to the next; its last
//! word, whose end may lie beyond, begins the next window. What has no bit here (white space beyond
//! ASCII, words longer than a window, the end of the text) is split by the scanner.

use wide::u8x16;

use super::classes::{facts, LETTER, NUMBER, SPACE};
use super::scan::gpt2;
use crate::text::ones;

/// Bytes in a window.
const WINDOW_BYTES: usize = 64;

/// Where words may begin in a window: one that begins later may hang on what follows.
const DECIDED: u64 = (1 << (WINDOW_BYTES - 3)) - 2;

/// Calls `word(start, end)` for each word.
#[inline]
pub(super) fn split_gpt2(text: &[u8], mut word: impl FnMut(usize, usize)) {
    let mut start = 0;
    while start < text.len() {
        let window = text[start..].first_chunk();
        let starts = window.map_or(0, |window| starts(text, start, window));
        let mut end = start;
        for offset in ones(starts) {
            word(end, start + offset);
            end = start + offset;
        }
        if starts == 0 {
            end = gpt2(text, start);
            word(start, end);
        }
        start = end;
    }
}

/// The bytes of each class.
struct Classes {
    letters: u64,
    numbers: u64,
    /// White space, and of it U+0020.
    white: u64,
    spaces: u64,
    apostrophes: u64,
}

/// Where words begin after the first; 0 if that is not known.
#[inline]
fn starts(text: &[u8], start: usize, window: &[u8; WINDOW_BYTES]) -> u64 {
    let (mut classes, others) = Classes::of(window);
    if others != 0 && !classes.add(text, start, others) {
        return 0;
    }
    let Classes { letters, numbers, white, spaces, apostrophes } = classes;
    let symbols = !(letters | numbers | white);
    let goes_on = |class: u64| class & class << 1;
    let in_white = white & white << 1 & white >> 1;
    let in_word = goes_on(letters) | goes_on(numbers) | goes_on(symbols) | !white & spaces << 1;
    let mut starts = !(in_white | in_word);
    for at in ones(apostrophes & (starts | 1) & (DECIDED | 1)) {
        if let Some(len) = contraction(window, at) {
            starts = starts & !(2 << at) | 1 << (at + len);
        }
    }
    starts & DECIDED
}

/// The length of a contraction that begins at an apostrophe.
fn contraction(window: &[u8; WINDOW_BYTES], at: usize) -> Option<usize> {
    match (window.get(at + 1)?, window.get(at + 2)?) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', b'e') | (b'l', b'l') => Some(3),
        _ => None,
    }
}

impl Classes {
    /// Those of ASCII, and which bytes are not.
    #[inline]
    fn of(window: &[u8; WINDOW_BYTES]) -> (Self, u64) {
        let (parts, _) = window.as_chunks();
        let parts: [u8x16; 4] = std::array::from_fn(|index| u8x16::new(parts[index]));
        let spaces = mask(&parts, |part| part.simd_eq(u8x16::splat(b' ')));
        let classes = Self {
            letters: mask(&parts, |part| in_range(part | u8x16::splat(0x20), b'a', 26)),
            numbers: mask(&parts, |part| in_range(part, b'0', 10)),
            white: spaces | mask(&parts, |part| in_range(part, b'\t', 5)),
            spaces,
            apostrophes: mask(&parts, |part| part.simd_eq(u8x16::splat(b'\''))),
        };
        (classes, mask(&parts, |part| part))
    }

    /// Adds the bytes `others`, of longer characters; false if one is white space.
    fn add(&mut self, text: &[u8], start: usize, mut others: u64) -> bool {
        while others != 0 {
            let at = others.trailing_zeros() as usize;
            let (bits, len) = facts(text, start + at);
            let bytes = ((1 << len) - 1) << at;
            others &= !bytes;
            if bits & LETTER != 0 {
                self.letters |= bytes;
            } else if bits & NUMBER != 0 {
                self.numbers |= bytes;
            } else if bits & SPACE != 0 {
                return false;
            }
        }
        true
    }
}

/// The highest bit of each byte of what `find` makes of the window.
#[inline]
fn mask(parts: &[u8x16; 4], find: impl Fn(u8x16) -> u8x16) -> u64 {
    parts.iter().rev().fold(0, |mask, part| mask << 16 | u64::from(find(*part).to_bitmask()))
}

/// All bits of the bytes in `low..low + count`.
#[inline]
fn in_range(part: u8x16, low: u8, count: u8) -> u8x16 {
    let above = part - u8x16::splat(low);
    above.min(u8x16::splat(count - 1)).simd_eq(above)
}
