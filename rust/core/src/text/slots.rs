//! A hash table of numbers that stand for something else: words, lines, n-grams.
//!
//! Open addressing, at most half full, reused from document to document. Who asks compares
//! the things themselves when their hashes agree, so nothing is ever confused.

/// The table; an entry is a number below 2^32 - 1.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Upper half of the hash, and the number + 1; 0 is an empty slot.
    slots: Vec<(u32, u32)>,
}

impl Slots {
    /// Empties the table and makes room for `num_entries`.
    pub(crate) fn reset(&mut self, num_entries: usize) {
        let capacity = (2 * num_entries).next_power_of_two().max(16);
        self.slots.clear();
        self.slots.resize(capacity, (0, 0));
    }

    /// The number in the table that has this hash and `is_same`, or else `new`, now entered.
    ///
    /// The lower bits of `hash` choose the slot and the upper half is compared: both must be mixed.
    #[inline]
    pub(crate) fn find_or_insert(&mut self, hash: u64, new: usize, is_same: impl Fn(usize) -> bool) -> usize {
        let (mask, tag) = (self.slots.len() - 1, (hash >> 32) as u32);
        let mut slot = hash as usize & mask;
        loop {
            let (entry_tag, entry) = self.slots[slot];
            if entry == 0 {
                self.slots[slot] = (tag, new as u32 + 1);
                return new;
            }
            if entry_tag == tag && is_same(entry as usize - 1) {
                return entry as usize - 1;
            }
            slot = (slot + 1) & mask;
        }
    }
}
