//! The n-grams of a text's words that stand more than once.
//!
//! [`Numbered`] tells n-grams apart by their words, [`Spelled`] by the letters of their words joined;
//! [`Ceilings`] says what they take at most, which settles most texts without telling any apart.

mod ceilings;
mod letters;
mod numbered;
mod spelled;

pub(super) use ceilings::Ceilings;
pub(super) use letters::Letters;
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
mod tests {
    use super::Letters;
    use crate::text::slots::Slots;
    use crate::text::vocabulary::Vocabulary;

    pub(super) fn letters(text: &str, words: &Vocabulary) -> Letters {
        let mut letters = Letters::default();
        letters.join("some other words, longer than these may be".as_bytes(), &[(0, 4), (5, 42)]);
        letters.join(text.as_bytes(), &words.words);
        letters
    }

    /// The words between white space.
    pub(super) fn vocabulary(text: &str) -> (Slots, Vocabulary, Vec<&str>) {
        let (mut slots, mut found) = (Slots::default(), Vocabulary::default());
        found.fill(text, |text, words| {
            let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
            words.extend(text.split_whitespace().map(|word| (start(word), start(word) + word.len())));
        });
        found.number(text, &mut slots);
        (slots, found, text.split_whitespace().collect())
    }
}
