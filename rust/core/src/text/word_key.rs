//! A word as two numbers, which tell words of up to sixteen bytes apart without a look at their letters.

use xxhash_rust::xxh3::xxh3_64;

use super::english::{count_letters, not_letters};
use super::lines::Span;

/// First bytes of a word, and how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WordKey {
    /// Up to sixteen bytes, the first lowest.
    head: u128,
    length: usize,
}

/// Bytes of a word that its numbers hold.
pub(crate) const KEY_BYTES: usize = 16;

impl WordKey {
    /// The key of the word at `span` of `text`. One load and one mask: no branch on the length.
    #[inline]
    pub(crate) fn of(text: &[u8], (start, end): Span) -> Self {
        let length = end - start;
        let head = match text[start..].first_chunk() {
            Some(bytes) => first_bytes(bytes, length),
            None => read_short(&text[start..end]),
        };
        Self { head, length }
    }

    /// True if the word at `span` is the one at `other`, whose keys agree.
    #[inline]
    pub(crate) fn is_same(&self, text: &[u8], span: Span, other: Span) -> bool {
        self.length <= KEY_BYTES || text[span.0..span.1] == text[other.0..other.1]
    }

    /// True if the word at `span` has ASCII letters alone.
    #[inline]
    pub(crate) fn is_letters(&self, text: &[u8], (start, end): Span) -> bool {
        let beyond = u128::from_le_bytes([b'a'; KEY_BYTES]) & !LOW_BYTES[self.length.min(KEY_BYTES)];
        let filled = self.head | beyond;
        let others = not_letters(filled as u64) | not_letters((filled >> 64) as u64);
        others == 0 && (self.length <= KEY_BYTES || is_long_letters(&text[start..end]))
    }

    /// The bytes of a word of at most four as a number, the first lowest, and the same in lower case if they
    /// are letters.
    #[inline]
    pub(crate) fn short(&self) -> Option<(u32, u32)> {
        let word = self.head as u32;
        let lower = word | 0x2020_2020 & LOW_BYTES[self.length.min(4)] as u32;
        (self.length <= 4).then_some((word, lower))
    }

    /// Hash of the word: its upper and its lower half are both mixed.
    ///
    /// Long words are hashed in full: many may begin and end alike, as addresses do.
    #[inline]
    pub(crate) fn hash(&self, text: &[u8], (start, end): Span) -> u64 {
        if self.length > KEY_BYTES {
            return hash_long(&text[start..end]);
        }
        // The product of the halves, folded (Reini Urban's and Wang Yi's "mum"); odd numbers without structure.
        let one = self.head as u64 ^ 0x9e37_79b9_7f4a_7c15;
        let last = (self.head >> 64) as u64;
        let other = last ^ (self.length as u64).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ 0xa076_1d64_78bd_642f;
        let product = u128::from(one) * u128::from(other);
        (product as u64 ^ (product >> 64) as u64).wrapping_mul(0xe703_7ed1_a0b4_28db)
    }
}

#[cold]
fn hash_long(word: &[u8]) -> u64 {
    xxh3_64(word)
}

#[cold]
fn is_long_letters(word: &[u8]) -> bool {
    count_letters(word) == word.len()
}

/// The first `length` of sixteen bytes, the first lowest; all if there are more.
#[inline]
pub(super) fn first_bytes(bytes: &[u8; KEY_BYTES], length: usize) -> u128 {
    u128::from_le_bytes(*bytes) & LOW_BYTES[length.min(KEY_BYTES)]
}

/// Ones in so many of the lowest bytes.
static LOW_BYTES: [u128; KEY_BYTES + 1] = {
    let mut masks = [0; KEY_BYTES + 1];
    let mut length = 1;
    while length <= KEY_BYTES {
        masks[length] = masks[length - 1] << 8 | 0xff;
        length += 1;
    }
    masks
};

/// A word near the end of a text.
#[cold]
fn read_short(word: &[u8]) -> u128 {
    word.iter().take(KEY_BYTES).rev().fold(0, |key, byte| key << 8 | u128::from(*byte))
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
