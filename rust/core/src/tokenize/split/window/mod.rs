//! Patterns over sixty-four bytes at once: a class is an integer with a bit a byte.
//!
//! Each window begins where a word does, so nothing is carried from one to the next; its last
//! word, whose end may lie beyond, begins the next window. What has no bit here (white space beyond
//! ASCII, words longer than a window, the end of the text) is split by the scanner.

mod cl100k;
mod gpt2;
mod o200k;

use wide::u8x16;

use super::classes::{facts, CASELESS, LETTER, MARK, NUMBER, SPACE, UPPER};
use super::scan;
use crate::text::ones;

/// Bytes in a window.
const WINDOW_BYTES: usize = 64;

/// Where words may begin in a window: one that begins later may hang on what follows.
const DECIDED: u64 = (1 << (WINDOW_BYTES - 3)) - 2;

type Window = [u8; WINDOW_BYTES];

/// Calls `word(start, end)` for each word of GPT-2's pattern.
#[inline]
pub(super) fn split_gpt2(text: &[u8], word: impl FnMut(usize, usize)) {
    let starts = |window: &Window, at: usize| gpt2::starts(window, &Classes::of::<false>(window, text, at));
    split(text, starts, scan::gpt2, word);
}

/// The same of GPT-4's and its kin's. `MARKS` are letters or symbols; words have up to `DIGITS` digits.
#[inline]
pub(super) fn split_cl100k<const MARKS: bool, const DIGITS: usize>(
    text: &[u8],
    word: impl FnMut(usize, usize),
) {
    let starts = |window: &Window, at: usize| {
        cl100k::starts::<DIGITS>(window, &Classes::of::<MARKS>(window, text, at))
    };
    split(text, starts, scan::cl100k::<MARKS, DIGITS>, word);
}

/// The same of GPT-4o's and its kin's. Words take in `CONTRACTIONS`, and have up to `DIGITS` digits.
#[inline]
pub(super) fn split_o200k<const CONTRACTIONS: bool, const DIGITS: usize>(
    text: &[u8],
    word: impl FnMut(usize, usize),
) {
    let starts = |window: &Window, at: usize| o200k::starts::<CONTRACTIONS, DIGITS>(window, text, at);
    split(text, starts, scan::o200k::<CONTRACTIONS, DIGITS>, word);
}

/// Goes from window to window; `starts` says where words begin after the first, 0 if that is not known.
#[inline]
fn split(
    text: &[u8],
    starts: impl Fn(&Window, usize) -> u64,
    scanned_end: impl Fn(&[u8], usize) -> usize,
    mut word: impl FnMut(usize, usize),
) {
    let mut start = 0;
    while start < text.len() {
        let starts = text[start..].first_chunk().map_or(0, |window| starts(window, start) & DECIDED);
        let mut end = start;
        for offset in ones(starts) {
            word(end, start + offset);
            end = start + offset;
        }
        if starts == 0 {
            end = scanned_end(text, start);
            word(start, end);
        }
        start = end;
    }
}

/// The bytes of each class; all others are of symbols.
#[derive(Debug, Default, Clone, Copy)]
struct Classes {
    letters: u64,
    numbers: u64,
    /// White space, and of it U+0020 and the ends of lines.
    white: u64,
    spaces: u64,
    newlines: u64,
    apostrophes: u64,
    /// Bytes of characters after their first.
    continuations: u64,
    /// White space and numbers of more than a byte, which are of no other class.
    unknown: u64,
}

impl Classes {
    /// Those of the window of `text` that begins at `at`; `MARKS` are letters or symbols.
    #[inline]
    fn of<const MARKS: bool>(window: &Window, text: &[u8], at: usize) -> Self {
        let (mut classes, others) = Self::of_ascii(&parts(window));
        if others != 0 {
            classes.add(text, at, others, if MARKS { LETTER | MARK } else { LETTER });
        }
        classes
    }

    /// Those of ASCII bytes, and which bytes are others.
    #[inline]
    fn of_ascii(parts: &[u8x16; 4]) -> (Self, u64) {
        let equal = |byte: u8| mask(parts, |part| part.simd_eq(u8x16::splat(byte)));
        let spaces = equal(b' ');
        let classes = Self {
            letters: mask(parts, |part| in_range(part | u8x16::splat(0x20), b'a', 26)),
            numbers: mask(parts, |part| in_range(part, b'0', 10)),
            white: spaces | mask(parts, |part| in_range(part, b'\t', 5)),
            spaces,
            newlines: equal(b'\n') | equal(b'\r'),
            apostrophes: equal(b'\''),
            ..Self::default()
        };
        (classes, mask(parts, |part| part))
    }

    /// Adds the bytes `others`, of longer characters.
    fn add(&mut self, text: &[u8], start: usize, mut others: u64, lettered: u8) {
        while others != 0 {
            let at = others.trailing_zeros() as usize;
            let (bits, len) = facts(text, start + at);
            let bytes = ((1 << len) - 1) << at;
            others &= !bytes;
            self.continuations |= bytes & bytes << 1;
            if bits & lettered != 0 {
                self.letters |= bytes;
            } else if bits & (NUMBER | SPACE) != 0 {
                self.unknown |= bytes;
            }
        }
    }

    /// What is of no other class.
    #[inline]
    fn symbols(&self) -> u64 {
        !(self.letters | self.numbers | self.white | self.unknown)
    }
}

#[inline]
fn parts(window: &Window) -> [u8x16; 4] {
    let (parts, _) = window.as_chunks();
    std::array::from_fn(|index| u8x16::new(parts[index]))
}

/// The bits below the lowest of `bits`, all if there is none.
#[inline]
fn below(bits: u64) -> u64 {
    bits.wrapping_sub(1) & !bits
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
