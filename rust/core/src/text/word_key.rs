//! A word as three numbers, which tell words of up to sixteen bytes apart without a look at their letters.

use xxhash_rust::xxh3::xxh3_64;

use super::english::{count_letters, not_letters};
use super::lines::Span;

/// First and last bytes of a word, and how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WordKey {
    /// Up to eight bytes.
    first: u64,
    /// Eight bytes, if it has more than eight in all.
    last: u64,
    length: usize,
}

/// Bytes of a word that its numbers hold.
pub(crate) const KEY_BYTES: usize = 16;

impl WordKey {
    /// The key of the word at `span` of `text`.
    #[inline]
    pub(crate) fn of(text: &[u8], (start, end): Span) -> Self {
        let length = end - start;
        let first = match text[start..].first_chunk() {
            Some(bytes) => u64::from_le_bytes(*bytes) & low_bytes(length),
            None => read_short(&text[start..end]),
        };
        let last = if length > 8 {
            text[start..end].last_chunk().map_or(0, |tail| u64::from_le_bytes(*tail))
        } else {
            0
        };
        Self { first, last, length }
    }

    /// True if the word at `span` is the one at `other`, whose keys agree.
    #[inline]
    pub(crate) fn is_same(&self, text: &[u8], span: Span, other: Span) -> bool {
        self.length <= KEY_BYTES || text[span.0..span.1] == text[other.0..other.1]
    }

    /// The first bytes of the word at `span`, sixteen at most, the first lowest.
    #[inline]
    pub(crate) fn head(&self, text: &[u8], (start, _): Span) -> u128 {
        let from = |last: u64, at: usize| u128::from(self.first) | u128::from(last) << (8 * at);
        match self.length {
            0..=8 => u128::from(self.first),
            9..=KEY_BYTES => from(self.last, self.length - 8), // bytes that both have are the same
            _ => text[start..].first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes)),
        }
    }

    /// True if the word at `span` has ASCII letters alone.
    #[inline]
    pub(crate) fn is_letters(&self, text: &[u8], (start, end): Span) -> bool {
        let beyond = u64::from_le_bytes([b'a'; 8]) & !low_bytes(self.length);
        let is_long = self.length > 8;
        not_letters(self.first | beyond) == 0 && (!is_long || count_letters(&text[start..end]) == self.length)
    }

    /// The bytes of a word of at most four as a number, the first lowest, and the same in lower case if they
    /// are letters.
    #[inline]
    pub(crate) fn short(&self) -> Option<(u32, u32)> {
        let word = self.first as u32;
        let lower = word | 0x2020_2020 & low_bytes(self.length) as u32;
        (self.length <= 4).then_some((word, lower))
    }

    /// Hash of the word: its upper and its lower half are both mixed.
    ///
    /// Long words are hashed in full: many may begin and end alike, as addresses do.
    #[inline]
    pub(crate) fn hash(&self, text: &[u8], (start, end): Span) -> u64 {
        if self.length > KEY_BYTES {
            return xxh3_64(&text[start..end]);
        }
        // The product of the halves, folded (Reini Urban's and Wang Yi's "mum"); odd numbers without structure.
        let one = self.first ^ 0x9e37_79b9_7f4a_7c15;
        let other =
            self.last ^ (self.length as u64).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ 0xa076_1d64_78bd_642f;
        let product = u128::from(one) * u128::from(other);
        (product as u64 ^ (product >> 64) as u64).wrapping_mul(0xe703_7ed1_a0b4_28db)
    }
}

/// Ones in the lowest bytes, at most eight.
#[inline]
fn low_bytes(length: usize) -> u64 {
    u64::MAX >> (64 - 8 * length.clamp(1, 8))
}

/// A word of fewer than eight bytes at the end of a text, or the first eight of a longer one.
#[cold]
fn read_short(word: &[u8]) -> u64 {
    word.iter().take(8).rev().fold(0, |key, byte| key << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_the_same_if_and_only_if_their_keys_say_so(
            one in "[ab]{1,20}", other in "[ab]{1,20}", after in "[a ]{0,9}"
        ) {
            let text = format!("{one} {other}{after}");
            let (first, second) = ((0, one.len()), (one.len() + 1, one.len() + 1 + other.len()));
            let keys = [first, second].map(|span| WordKey::of(text.as_bytes(), span));
            let is_same = keys[0] == keys[1] && keys[0].is_same(text.as_bytes(), first, second);
            prop_assert_eq!(is_same, one == other);
            prop_assert!(keys[0].is_letters(text.as_bytes(), first));
            let other_end = (0, one.len() + 2); // with the space
            prop_assert!(!WordKey::of(text.as_bytes(), other_end).is_letters(text.as_bytes(), other_end));
            let hashes = [keys[0].hash(text.as_bytes(), first), keys[1].hash(text.as_bytes(), second)];
            prop_assert_eq!(hashes[0] == hashes[1], one == other);
        }
    }
}
