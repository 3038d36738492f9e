//! Where a pattern that begins with `\b\d` can begin: digits that no word character
//! precedes. They are found once and serve all three patterns of digits.

use crate::text::{char_before, is_decimal, is_word, ones, with_vectors, Block, BLOCK_BYTES};

/// A pattern of digits: the end of its match at this start, if it matches.
pub(super) type Pattern = fn(text: &str, start: usize) -> Option<usize>;

/// Digits (category Nd) after a non-word character or the start, unless what follows is too short for a match: the blocks
/// of the text that have some, each with a bit for each of its bytes, so that a text of nothing but numbers takes little
/// more memory than it has.
pub(super) struct Starts(Vec<(usize, u64)>);

impl Starts {
    /// Those of a text.
    pub(super) fn of(text: &str) -> Self {
        let (blocks, rest) = text.as_bytes().as_chunks();
        let mut starts = Self(Vec::new());
        with_vectors(
            #[inline(always)]
            || {
                for (index, bytes) in blocks.iter().enumerate() {
                    starts.take(text, index * BLOCK_BYTES, &Block::of(bytes));
                }
            },
        );
        let at = text.len() - rest.len();
        starts.push(at, gathered((0..rest.len()).filter(|bit| is_start(text, at + bit))));
        starts
    }

    /// Takes those of a block at `at`.
    #[inline(always)]
    #[allow(clippy::inline_always)] // or it is not compiled for AVX2
    fn take(&mut self, text: &str, at: usize, block: &Block) {
        let others = block.others();
        let long = in_long_run(block.digits() | block.any_of([b'-', b'.']) | others);
        match (long, others) {
            (0, _) => (),
            (_, 0) => self.push(at, long & ascii_starts(text, at, block)),
            _ => self.push(at, mixed_starts(text, at, block, long)),
        }
    }

    /// Adds those of the block at `at`.
    fn push(&mut self, at: usize, bits: u64) {
        if bits != 0 {
            self.0.push((at, bits));
        }
    }

    /// True if there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their byte positions, in order.
    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(|(at, bits)| ones(*bits).map(move |bit| at + bit))
    }
}

/// Fewest bytes of a match, as of `1.2.3.4`: digits, full stops and hyphens.
const MIN_BYTES: u32 = 7;

/// Bits from which so many ones follow, counting all behind the block, where nothing is known.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn in_long_run(bits: u64) -> u64 {
    let shifted = |bits: u64, count: u32| bits >> count | u64::MAX << (u64::BITS - count);
    let two = bits & shifted(bits, 1);
    let four = two & shifted(two, 2);
    four & shifted(four, MIN_BYTES - 4)
}

/// The bits of these numbers.
fn gathered(bits: impl Iterator<Item = usize>) -> u64 {
    bits.fold(0, |all, bit| all | 1 << bit)
}

/// Those of a block at `at` that is ASCII.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn ascii_starts(text: &str, at: usize, block: &Block) -> u64 {
    let digits = block.digits();
    if digits == 0 {
        return 0;
    }
    let words = block.alnum() | block.equal(b'_');
    let starts = digits & !(words << 1);
    if starts & 1 == 1 && char_before(text, at).is_some_and(is_word) {
        return starts ^ 1;
    }
    starts
}

/// Those of `long` of a block at `at` that has other characters too, and may begin and end inside one.
fn mixed_starts(text: &str, at: usize, block: &Block, long: u64) -> u64 {
    let starts = ones(long & (block.digits() | block.any_of(DECIMAL_LEADS)));
    gathered(starts.filter(|bit| is_start(text, at + bit)))
}

/// First bytes of UTF-8 sequences among which all of category Nd are (Unicode 14).
const DECIMAL_LEADS: [u8; 8] = [0xD9, 0xDB, 0xDF, 0xE0, 0xE1, 0xEA, 0xEF, 0xF0];

fn is_start(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    if !text.is_char_boundary(at) {
        return false;
    }
    if at > 0 && bytes[at - 1] < 0x80 && is_word(bytes[at - 1] as char) {
        return false;
    }
    digit_end(text, at).is_some() && !char_before(text, at).is_some_and(is_word)
}

/// End of the digit at byte `at`, if there is one.
#[inline]
fn digit_end(text: &str, at: usize) -> Option<usize> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 0x80 {
        return byte.is_ascii_digit().then_some(at + 1);
    }
    let char = text[at..].chars().next().filter(|char| is_decimal(*char))?;
    Some(at + char.len_utf8())
}

/// End of exactly `count` digits from `at`.
pub(super) fn skip_digits(text: &str, at: usize, count: usize) -> Option<usize> {
    (0..count).try_fold(at, |at, _| digit_end(text, at))
}

/// End of the longest run of at most `most` digits from `at`; `None` if there is none.
pub(super) fn skip_up_to(text: &str, at: usize, most: usize) -> Option<usize> {
    let first = digit_end(text, at)?;
    Some((1..most).try_fold(first, |at, _| digit_end(text, at).ok_or(at)).unwrap_or_else(|end| end))
}

/// End of this one byte at `at`.
pub(super) fn skip_byte(text: &str, at: usize, byte: u8) -> Option<usize> {
    (text.as_bytes().get(at) == Some(&byte)).then_some(at + 1)
}

/// `at`, if the digit before it ends a word: `\d\b`.
pub(super) fn word_end(text: &str, at: usize) -> Option<usize> {
    (!text[at..].chars().next().is_some_and(is_word)).then_some(at)
}

/// The text with every match at one of `starts` replaced by `tag`; `None` without one.
pub(super) fn substitute(text: &str, starts: &Starts, pattern: Pattern, tag: &str) -> Option<(String, u64)> {
    super::replace_all(text, tag, matches(text, starts, pattern))
}

/// The matches that begin at one of `starts`, in order.
pub(super) fn matches<'t>(
    text: &'t str,
    starts: &'t Starts,
    pattern: Pattern,
) -> impl Iterator<Item = (usize, usize)> + 't {
    let mut from = 0;
    starts.iter().filter_map(move |start| {
        let end = (start >= from).then(|| pattern(text, start)).flatten()?;
        from = end;
        Some((start, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_have_the_starts_that_their_characters_have_and_no_match_could_be_too_long_for(
            text in r"([a-z_ 0-9.]{40,80}|[ -~]{60,70}|[٣é 7_]{1,9}|[0-9]{60}|[0-9.-]{1,8}|[1x-]{64}){1,5}"
        ) {
            let begins = |(at, char): (usize, char)| {
                (is_decimal(char) && !char_before(&text, at).is_some_and(is_word)).then_some(at)
            };
            let all: Vec<usize> = text.char_indices().filter_map(begins).collect();
            let found: Vec<usize> = Starts::of(&text).iter().collect();
            prop_assert!(found.iter().all(|at| all.contains(at)));
            let is_in_match = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | 0x80..);
            let bytes = |at: usize| text.as_bytes()[at..].iter().take_while(|byte| is_in_match(byte)).count();
            let long = all.iter().filter(|at| bytes(**at) >= MIN_BYTES as usize);
            prop_assert!(long.clone().all(|at| found.contains(at)));
            prop_assert_eq!(Starts::of(&text).is_empty(), found.is_empty());
        }
    }
}
