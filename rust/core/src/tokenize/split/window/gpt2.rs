//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.

use super::{ones, Classes, Window, DECIDED};

/// Where words begin after the first; 0 if that is not known.
#[inline]
pub(super) fn starts(window: &Window, classes: &Classes) -> u64 {
    let Classes { letters, numbers, white, spaces, apostrophes, unknown, .. } = *classes;
    if unknown != 0 {
        return 0;
    }
    let symbols = classes.symbols();
    let goes_on = |class: u64| class & class << 1;
    let in_white = white & white << 1 & white >> 1;
    let in_word = goes_on(letters) | goes_on(numbers) | goes_on(symbols) | !white & spaces << 1;
    let mut starts = !(in_white | in_word);
    for at in ones(apostrophes & (starts | 1) & (DECIDED | 1)) {
        if let Some(len) = contraction(window, at) {
            starts = starts & !(2 << at) | 1 << (at + len);
        }
    }
    starts
}

/// The length of a contraction that begins at an apostrophe.
fn contraction(window: &Window, at: usize) -> Option<usize> {
    match (window.get(at + 1)?, window.get(at + 2)?) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', b'e') | (b'l', b'l') => Some(3),
        _ => None,
    }
}
