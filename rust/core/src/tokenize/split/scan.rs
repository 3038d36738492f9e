//! The grammars of the split patterns: each says where the word that begins at a byte ends.
//!
//! All of them look at a character at most three times, so they are linear in the text.

use super::classes::{
    facts, letters, run, CASELESS, LETTER, LOWER, MARK, NEWLINE, NUMBER, OTHER, SPACE, UPPER,
};

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
#[inline]
pub(super) fn gpt2(text: &[u8], start: usize) -> usize {
    let (bits, len) = facts(text, start);
    let is_space = text.get(start) == Some(&b' ');
    let (head, after) = if is_space { with_next(text, start + 1) } else { (bits, start + len) };
    if head & LETTER != 0 {
        return letters::<false>(text, after);
    }
    if head & NUMBER != 0 {
        return run(text, after, NUMBER);
    }
    if head & (OTHER | MARK) != 0 {
        let end = if is_space { None } else { contraction::<false>(text, start) };
        return end.unwrap_or_else(|| run(text, after, OTHER | MARK));
    }
    white_space::<false>(text, start)
}

/// Bits of the character at `at`, and where it ends.
#[inline]
fn with_next(text: &[u8], at: usize) -> (u8, usize) {
    let (bits, len) = facts(text, at);
    (bits, at + len)
}

/// GPT-4 and its kin: see `PATTERNS`. `MARKS` are letters or symbols; words have up to `DIGITS` digits.
#[inline]
pub(super) fn cl100k<const MARKS: bool, const DIGITS: usize>(text: &[u8], start: usize) -> usize {
    let lettered = if MARKS { LETTER | MARK } else { LETTER };
    let (bits, after) = with_next(text, start);
    if bits & lettered != 0 {
        return letters::<MARKS>(text, after);
    }
    if bits & NUMBER != 0 {
        return numbers(text, after, DIGITS - 1);
    }
    if bits & NEWLINE != 0 {
        return white_space::<true>(text, start);
    }
    let (next_bits, next_after) = with_next(text, after);
    if next_bits & lettered != 0 {
        return contraction::<true>(text, start).unwrap_or_else(|| letters::<MARKS>(text, next_after));
    }
    let symbols = if MARKS { OTHER } else { OTHER | MARK };
    if bits & symbols != 0 {
        return run(text, run(text, after, symbols), NEWLINE);
    }
    if next_bits & symbols != 0 && text[start] == b' ' {
        return run(text, run(text, next_after, symbols), NEWLINE);
    }
    white_space::<true>(text, start)
}

/// Where up to `more` further numbers end.
#[inline]
fn numbers(text: &[u8], mut at: usize, more: usize) -> usize {
    for _ in 0..more {
        let (bits, len) = facts(text, at);
        if bits & NUMBER == 0 {
            break;
        }
        at += len;
    }
    at
}

/// GPT-4o and its kin: see `PATTERNS`. Words take in `CONTRACTIONS`, and have up to `DIGITS` digits.
#[inline]
pub(super) fn o200k<const CONTRACTIONS: bool, const DIGITS: usize>(text: &[u8], start: usize) -> usize {
    let (bits, after) = with_next(text, start);
    if let Some(end) = cased_word(text, start, bits, after) {
        let contracted = if CONTRACTIONS { contraction::<true>(text, end) } else { None };
        return contracted.unwrap_or(end);
    }
    if bits & NUMBER != 0 {
        return numbers(text, after, DIGITS - 1);
    }
    if bits & (OTHER | MARK) != 0 {
        return symbols_and_slashes(text, after);
    }
    let (next_bits, next_after) = with_next(text, after);
    if text[start] == b' ' && next_bits & (OTHER | MARK) != 0 {
        return symbols_and_slashes(text, next_after);
    }
    white_space::<true>(text, start)
}

/// The word that begins with the character `bits`, or with the one after it.
#[inline]
fn cased_word(text: &[u8], start: usize, bits: u8, after: usize) -> Option<usize> {
    if bits & LETTER != 0 {
        let (lowered, raised) = cased(text, start);
        return lowered.or(raised);
    }
    if bits & (NUMBER | NEWLINE) != 0 {
        return None;
    }
    let (lowered, raised) = cased(text, after);
    let alone = if bits & MARK != 0 { cased(text, start).0 } else { None };
    lowered.or(alone).or(raised)
}

/// Where `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` ends, and the same with `+` and `*`.
#[inline]
fn cased(text: &[u8], start: usize) -> (Option<usize>, Option<usize>) {
    let (mut at, mut last_lowered) = (start, None);
    loop {
        let (bits, len) = facts(text, at);
        if bits & LOWER != 0 {
            return (Some(run(text, at, LOWER | CASELESS | MARK)), None);
        }
        if bits & (UPPER | CASELESS | MARK) == 0 {
            return (last_lowered, (at > start).then_some(at));
        }
        at += len;
        if bits & UPPER == 0 {
            last_lowered = Some(at); // the first part gives this character back to the second
        }
    }
}

/// `[^\s\p{L}\p{N}]*[\r\n/]*`.
#[inline]
fn symbols_and_slashes(text: &[u8], at: usize) -> usize {
    let mut at = run(text, at, OTHER | MARK);
    while matches!(text.get(at), Some(b'\r' | b'\n' | b'/')) {
        at += 1;
    }
    at
}

/// Where `'s|'t|'re|'ve|'m|'ll|'d` ends, if it begins here.
///
/// Without regard to case, U+017F is an s.
#[inline]
fn contraction<const ANY_CASE: bool>(text: &[u8], start: usize) -> Option<usize> {
    if text.get(start) != Some(&b'\'') {
        return None;
    }
    let letter = |at: usize| {
        let byte = *text.get(at)?;
        Some(if ANY_CASE { byte.to_ascii_lowercase() } else { byte })
    };
    match (letter(start + 1)?, letter(start + 2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(start + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(start + 3),
        (0xc5, Some(0xbf)) if ANY_CASE => Some(start + 3),
        _ => None,
    }
}

/// `\s*[\r\n]+` if there are `NEWLINES`, else `\s+(?!\S)|\s+`: all but the last before a word.
#[inline]
fn white_space<const NEWLINES: bool>(text: &[u8], start: usize) -> usize {
    let (mut at, mut last, mut line_end) = (start, start, None);
    loop {
        let (bits, len) = facts(text, at);
        if bits & SPACE == 0 {
            break;
        }
        (last, at) = (at, at + len);
        if bits & NEWLINE != 0 {
            line_end = Some(at);
        }
    }
    match line_end {
        Some(end) if NEWLINES => end,
        _ if at == text.len() || last == start => at,
        _ => last,
    }
}
