//! The patterns of GPT-4 and its kin, see `PATTERNS`: one character leads letters, symbols draw
//! the ends of lines behind them, white space ends with the last end of a line in it.

use super::{below, ones, Classes, Window, DECIDED};

/// Where words begin after the first; 0 if that is not known. Words have up to `DIGITS` digits.
#[inline]
pub(super) fn starts<const DIGITS: usize>(window: &Window, classes: &Classes) -> u64 {
    let Classes { letters, numbers, white, spaces, newlines, apostrophes, unknown, .. } = *classes;
    let symbols = classes.symbols();
    let first = |class: u64| class & !(class << 1);
    // Ends of lines right after symbols are of their word; what is left of white space stands alone.
    let drawn = newlines & !newlines.wrapping_add(newlines & symbols << 1);
    let white = white & !drawn;
    let blanks = white & !newlines;
    let led = blanks << 1 | after_leaders(symbols, first(symbols) & !(spaces << 1), classes.continuations);
    let last_blanks = blanks & !(white >> 1);
    let mut starts = first(letters) & !led
        | first(symbols) & !(spaces << 1)
        | number_starts::<DIGITS>(numbers)
        | first(white)
        | blanks & newlines << 1
        | last_blanks;
    for at in ones(apostrophes & (starts | 1) & (DECIDED | 1)) {
        if let Some(len) = contraction(window, at) {
            starts |= 1 << (at + len);
        }
    }
    starts & known(white | unknown, blanks, newlines, unknown)
}

/// The bytes that follow a word's leader: a symbol that begins a word, if it is the only one so far.
#[inline]
pub(super) fn after_leaders(symbols: u64, leaders: u64, continuations: u64) -> u64 {
    let bytes = leaders | symbols & continuations;
    // The sum carries each leader through its further bytes, to the one behind them.
    bytes.wrapping_add(leaders) & !bytes
}

/// Where runs of digits begin, and again after each `DIGITS` of them.
#[inline]
pub(super) fn number_starts<const DIGITS: usize>(numbers: u64) -> u64 {
    if DIGITS == 1 {
        return numbers;
    }
    let mut at = numbers & !(numbers << 1);
    let mut starts = at;
    while at != 0 {
        for _ in 0..DIGITS {
            at = at << 1 & numbers;
        }
        starts |= at;
    }
    starts
}

/// The bytes before the first white space of which more must be known: that beyond ASCII, and blanks
/// at the start of a line that may go on to the end of the next.
#[inline]
pub(super) fn known(white: u64, blanks: u64, newlines: u64, unknown: u64) -> u64 {
    let indents = blanks & newlines << 1;
    let (behind, is_cut) = blanks.overflowing_add(indents);
    let doubtful = unknown | behind & !blanks & newlines | u64::from(is_cut) << 63;
    if doubtful == 0 {
        return u64::MAX;
    }
    let before = below(doubtful);
    let others = before & !white;
    // Up to the last byte that is not white.
    u64::MAX.checked_shr(others.leading_zeros()).unwrap_or(0)
}

/// The length of a contraction, in any case, that begins at an apostrophe; U+017F is an s.
pub(super) fn contraction(window: &Window, at: usize) -> Option<usize> {
    match (window.get(at + 1)?.to_ascii_lowercase(), window.get(at + 2)?.to_ascii_lowercase()) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'r' | b'v', b'e') | (b'l', b'l') | (0xc5, 0xbf) => Some(3),
        _ => None,
    }
}
