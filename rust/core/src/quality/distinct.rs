//! Distinct words of a document, counted only as far as a decision needs.

use xxhash_rust::xxh3::xxh3_64;

use crate::text::{count_distinct, Scan, WordKey};

/// A set of words of one text: open addressing, reused from text to text.
///
/// Words are compared as bytes when their hashes agree, so the count is exact.
#[derive(Debug, Default)]
pub struct WordSet {
    /// Word index + 1 and upper half of its hash; 0 is an empty slot.
    slots: Vec<(u32, u32)>,
    /// A bit for each hash, some shared.
    bits: Vec<u64>,
}

impl WordSet {
    /// True if at least `share` of the words of `text` are distinct: `len(set(words)) / n >= share`.
    ///
    /// Words of different bits are distinct, so nearly every text is settled without a comparison.
    pub fn reaches(&mut self, text: &str, scan: &Scan, share: f64) -> bool {
        let num_words = scan.num_words;
        let is_enough = |distinct: usize| distinct as f64 / num_words as f64 >= share;
        // So many distinct words settle it.
        #[allow(clippy::cast_sign_loss)] // neither a count nor a share is negative
        let most = (num_words as f64 * share.clamp(0.0, 1.0)) as usize + 1;
        self.has_bits(text, scan, most) || is_enough(self.count(text, scan))
    }

    /// True if the words set `most` bits, as they do if so many, and some to spare, are distinct.
    fn has_bits(&mut self, text: &str, scan: &Scan, most: usize) -> bool {
        self.bits.clear();
        self.bits.resize((most / 4).next_power_of_two(), 0); // 16 bits for a word: of 33 distinct words, one is lost
        let (bytes, mask) = (text.as_bytes(), self.bits.len() - 1);
        let mut distinct = 0;
        let mut is_the_last = |[start, end]: [usize; 2]| {
            let place = (start, end);
            let hash = WordKey::of(bytes, place).hash(bytes, place);
            let (word, bit) = (&mut self.bits[(hash >> 32) as usize & mask], 1 << (hash >> 58));
            distinct += usize::from(*word & bit == 0);
            *word |= bit;
            distinct == most
        };
        let mut is_enough = false;
        scan.each_run(text, |words| is_enough = is_enough || words.iter().any(|span| is_the_last(*span)));
        is_enough
    }

    /// The number of distinct words: `len(set(words))`.
    pub fn count(&mut self, text: &str, scan: &Scan) -> usize {
        let Some(words) = scan.held_words() else { return count_distinct(text, scan) };
        self.slots.clear();
        self.slots.resize((words.len() * 2).next_power_of_two().max(16), (0, 0));
        (0..words.len()).filter(|index| self.insert(text, words, *index)).count()
    }

    /// Adds a word; true if it is new.
    fn insert(&mut self, text: &str, words: &[[usize; 2]], index: usize) -> bool {
        let word_at = |index: usize| &text[words[index][0]..words[index][1]];
        let word = word_at(index);
        let hash = xxh3_64(word.as_bytes());
        let (mask, tag) = (self.slots.len() - 1, (hash >> 32) as u32);
        let mut slot = hash as usize & mask;
        loop {
            let (entry, entry_tag) = self.slots[slot];
            if entry == 0 {
                self.slots[slot] = (index as u32 + 1, tag);
                return true;
            }
            if entry_tag == tag && word_at(entry as usize - 1) == word {
                return false;
            }
            slot = (slot + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::scan;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_share_is_reached_if_and_only_if_enough_words_are_distinct(
            words in prop::collection::vec("[a-c]{1,3}|[a-z]{9}|(ab){9}[a-c]", 1..200), share in 0.0..1.0_f64
        ) {
            let text = words.join(" ");
            let distinct = words.iter().collect::<std::collections::HashSet<_>>().len();
            let mut found = Scan::default();
            scan(&text, &mut found);
            let mut set = WordSet::default();
            prop_assert_eq!(set.count(&text, &found), distinct);
            prop_assert_eq!(set.reaches(&text, &found, share), distinct as f64 / words.len() as f64 >= share);
        }
    }
}
