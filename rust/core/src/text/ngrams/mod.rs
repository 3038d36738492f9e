//! The n-grams of a text's words that stand more than once.
//!
//! [`Numbered`] tells n-grams apart by their words, [`Spelled`] by the letters of their words joined;
//! [`Ceilings`] says what they take at most, which settles most texts without telling any apart.

mod ceilings;
mod letters;
mod numbered;
mod spelled;

pub(super) use ceilings::{
    num_counters, pair_counter, Ceilings, Cover, Met, FEWEST_REPEATED, FEWEST_TOP, NUM_REPEATED, NUM_TOPS,
};
pub(super) use letters::{hash_letters, Head, Letters, HALF_BYTES, HEAD_BYTES, SEEDS};
pub(super) use numbered::Numbered;
pub use numbered::{Recurring, Top};
pub(super) use spelled::Spelled;

/// Most words in an n-gram that is looked at.
pub(super) const MAX_WORDS: usize = 10;

/// Spreads a key over all bits.
#[inline]
fn mix(key: u64) -> u64 {
    let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::Letters;
    use crate::text::slots::Slots;
    use crate::text::vocabulary::Vocabulary;

    pub(in crate::text) fn letters(text: &str, words: &Vocabulary) -> Letters {
        let mut letters = Letters::default();
        letters.join("some other words, longer than these may be".as_bytes(), &[(0, 4), (5, 42)]);
        letters.join(text.as_bytes(), &words.words);
        letters
    }

    /// The words between white space.
    pub(in crate::text) fn vocabulary(text: &str) -> (Slots, Vocabulary, Vec<&str>) {
        let (mut slots, mut found) = (Slots::default(), Vocabulary::default());
        found.fill(text, |mut words| {
            let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
            text.split_whitespace().for_each(|word| words.push((start(word), start(word) + word.len())));
        });
        found.number(text, &mut slots);
        (slots, found, text.split_whitespace().collect())
    }
}
