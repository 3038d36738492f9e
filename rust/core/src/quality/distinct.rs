//! Distinct words of a document, counted only as far as a decision needs.

use xxhash_rust::xxh3::xxh3_64;

use crate::text::Scan;

/// A set of words of one text: open addressing, reused from text to text.
///
/// Words are compared as bytes when their hashes agree, so the count is exact.
#[derive(Debug, Default)]
pub struct WordSet {
    /// Word index + 1 and upper half of its hash; 0 is an empty slot.
    slots: Vec<(u32, u32)>,
}

impl WordSet {
    /// True if at least `share` of the words of `text` are distinct: `len(set(words)) / n >= share`.
    ///
    /// Stops at the first word that settles it; ordinary prose settles within its first third.
    pub fn reaches(&mut self, text: &str, scan: &Scan, share: f64) -> bool {
        let num_words = scan.words.len();
        // So many distinct words settle it.
        #[allow(clippy::cast_sign_loss)] // neither a count nor a share is negative
        let most = (num_words as f64 * share.clamp(0.0, 1.0)) as usize + 1;
        self.clear(most);
        let mut distinct = 0_usize;
        for index in 0..num_words {
            distinct += usize::from(self.insert(text, scan, index));
            if distinct as f64 / num_words as f64 >= share {
                return true;
            }
        }
        false
    }

    /// The number of distinct words: `len(set(words))`.
    pub fn count(&mut self, text: &str, scan: &Scan) -> usize {
        self.clear(scan.words.len());
        (0..scan.words.len()).filter(|index| self.insert(text, scan, *index)).count()
    }

    /// Makes room for so many distinct words: the slots are never more than half full.
    fn clear(&mut self, most: usize) {
        let capacity = (most * 2).next_power_of_two().max(16);
        self.slots.clear();
        self.slots.resize(capacity, (0, 0));
    }

    /// Adds a word; true if it is new.
    fn insert(&mut self, text: &str, scan: &Scan, index: usize) -> bool {
        let word = scan.word(text, index);
        let hash = xxh3_64(word.as_bytes());
        let (mask, tag) = (self.slots.len() - 1, (hash >> 32) as u32);
        let mut slot = hash as usize & mask;
        loop {
            let (entry, entry_tag) = self.slots[slot];
            if entry == 0 {
                self.slots[slot] = (index as u32 + 1, tag);
                return true;
            }
            if entry_tag == tag && scan.word(text, entry as usize - 1) == word {
                return false;
            }
            slot = (slot + 1) & mask;
        }
    }
}
