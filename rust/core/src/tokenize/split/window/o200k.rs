//! The patterns of GPT-4o and its kin, see `PATTERNS`: as GPT-4's, but words also end where upper case begins
//! after lower, take in the contraction behind them, and slashes go on after the ends of lines.

use super::cl100k::{after_leaders, contraction, known, number_starts};
use super::{
    facts, in_range, mask, ones, parts, Classes, Window, CASELESS, DECIDED, LETTER, MARK, NUMBER, SPACE,
    UPPER,
};

/// Where words begin after the first; 0 if that is not known. Words take in `CONTRACTIONS`, and have up to `DIGITS`
/// digits.
#[inline]
pub(super) fn starts<const CONTRACTIONS: bool, const DIGITS: usize>(
    window: &Window,
    text: &[u8],
    at: usize,
) -> u64 {
    let Cased { classes, uppers, slashes } = Cased::of(window, text, at);
    let Classes { letters, numbers, white, spaces, newlines, apostrophes, unknown, .. } = classes;
    let first = |class: u64| class & !(class << 1);
    // Ends of lines right after symbols are of their word, and so are slashes right after these.
    let drawn = newlines & !newlines.wrapping_add(newlines & classes.symbols() << 1);
    let drawn_slashes = slashes & !slashes.wrapping_add(slashes & drawn << 1);
    let symbols = classes.symbols() & !drawn_slashes;
    let white = white & !drawn;
    let blanks = white & !newlines;
    let led = blanks << 1 | after_leaders(symbols, first(symbols) & !(spaces << 1), classes.continuations);
    let last_blanks = blanks & !(white >> 1);
    let raised = uppers & !classes.continuations & (letters & !uppers) << 1;
    let mut starts = first(letters) & !led
        | raised
        | first(symbols) & !(spaces << 1)
        | number_starts::<DIGITS>(numbers)
        | first(white)
        | blanks & newlines << 1
        | last_blanks;
    if CONTRACTIONS {
        starts = contracted(window, starts, apostrophes & letters << 1);
    }
    starts & known(white | unknown, blanks, newlines, unknown)
}

/// The starts where contractions are of the words before them. `apostrophes` are those behind letters.
#[inline]
fn contracted(window: &Window, mut starts: u64, apostrophes: u64) -> u64 {
    let mut done = 0;
    for at in ones(apostrophes & DECIDED).filter(|at| *at > 0) {
        // Letters that are a contraction themselves are no word to take in another.
        let Some(len) = contraction(window, at).filter(|_| at != done) else { continue };
        done = at + len;
        starts = starts & !(((1 << len) - 1) << at) | 1 << done;
    }
    starts
}

/// The classes of a window, and of its letters those of upper case.
struct Cased {
    classes: Classes,
    uppers: u64,
    slashes: u64,
}

impl Cased {
    #[inline]
    fn of(window: &Window, text: &[u8], at: usize) -> Self {
        let parts = parts(window);
        let (classes, others) = Classes::of_ascii(&parts);
        let uppers = mask(&parts, |part| in_range(part, b'A', 26));
        let slashes = mask(&parts, |part| part.simd_eq(wide::u8x16::splat(b'/')));
        let mut cased = Self { classes, uppers, slashes };
        if others != 0 {
            cased.add(text, at, others);
        }
        cased
    }

    /// Adds the bytes `others`, of longer characters. Letters without case, and marks behind letters, are of both
    /// cases: where there is upper case, what they do is not known here.
    fn add(&mut self, text: &[u8], start: usize, mut others: u64) {
        let mut of_both = 0;
        while others != 0 {
            let at = others.trailing_zeros() as usize;
            let (bits, len) = facts(text, start + at);
            let bytes = ((1 << len) - 1) << at;
            others &= !bytes;
            self.classes.continuations |= bytes & bytes << 1;
            let is_behind_letter = self.classes.letters << 1 & bytes != 0;
            if bits & LETTER != 0 || bits & MARK != 0 && is_behind_letter {
                self.classes.letters |= bytes;
                self.uppers |= if bits & UPPER != 0 { bytes } else { 0 };
                of_both |= if bits & (CASELESS | MARK) != 0 { bytes } else { 0 };
            } else if bits & (MARK | NUMBER | SPACE) != 0 {
                self.classes.unknown |= bytes;
            }
        }
        if self.uppers != 0 {
            self.classes.letters &= !of_both;
            self.classes.unknown |= of_both;
        }
    }
}
