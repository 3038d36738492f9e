//! Words of any form seen before, with their ids: what does not fit the sets of short words.
//!
//! They stand one after the other in memory that is emptied when it is full.

/// Slots of the store; a word overwrites the one that was there.
const STORE_SLOTS: usize = 1 << 17;

/// Bytes and ids that the store holds before it is emptied.
const STORE_BYTES: usize = 6 << 20;
const STORE_IDS: usize = 1 << 20;

/// Longest word of the store, in bytes: longer ones rarely come twice.
const MAX_STORED_BYTES: usize = 128;

/// Words of any form, at most 12 MiB.
#[derive(Debug, Default)]
pub(super) struct Store {
    slots: Vec<Stored>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
}

/// Where a word and its ids stand; an empty one has no bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Stored {
    bytes_start: u32,
    ids_start: u32,
    num_bytes: u16,
    num_ids: u16,
}

impl Store {
    /// Appends the ids of a word, if it is known.
    pub(super) fn push(&self, word: &[u8], out: &mut Vec<u32>) -> bool {
        let Some(found) = self.slots.get(store_slot(word)) else { return false };
        let bytes = &self.bytes[found.bytes_start as usize..][..found.num_bytes as usize];
        let is_known = bytes == word;
        if is_known {
            out.extend_from_slice(&self.ids[found.ids_start as usize..][..found.num_ids as usize]);
        }
        is_known
    }

    /// Remembers a word, if it is not too long.
    pub(super) fn insert(&mut self, word: &[u8], ids: &[u32]) {
        if word.len() > MAX_STORED_BYTES || ids.len() > MAX_STORED_BYTES {
            return;
        }
        if self.slots.is_empty() || self.bytes.len() > STORE_BYTES || self.ids.len() > STORE_IDS {
            self.bytes.clear();
            self.ids.clear();
            self.slots.clear();
            self.slots.resize(STORE_SLOTS, Stored::default());
        }
        self.slots[store_slot(word)] = Stored {
            bytes_start: self.bytes.len() as u32,
            ids_start: self.ids.len() as u32,
            num_bytes: word.len() as u16,
            num_ids: ids.len() as u16,
        };
        self.bytes.extend_from_slice(word);
        self.ids.extend_from_slice(ids);
    }
}

/// The slot of a word: eight bytes at a time, multiplied and folded. The last eight may overlap those before.
fn store_slot(word: &[u8]) -> usize {
    let fold = |sum: u64, bytes: u64| {
        let product = u128::from(sum ^ bytes) * 0x9e37_79b9_7f4a_7c15;
        product as u64 ^ (product >> 64) as u64
    };
    let (eights, rest) = word.as_chunks::<8>();
    let sum = eights.iter().fold(word.len() as u64, |sum, bytes| fold(sum, u64::from_le_bytes(*bytes)));
    let last = word.last_chunk().map_or_else(
        || rest.iter().rev().fold(0, |bytes, byte| bytes << 8 | u64::from(*byte)),
        |bytes| u64::from_le_bytes(*bytes),
    );
    fold(sum, last) as usize & (STORE_SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_gives_back_words_of_any_length_and_stays_in_its_bounds() {
        let (mut store, mut out) = (Store::default(), Vec::new());
        assert!(!store.push(b"", &mut out));
        for number in 0_u32..300_000 {
            let word = format!("{number:>0$}", number as usize % 40 + 1);
            store.insert(word.as_bytes(), &[number, 1]);
            assert!(store.push(word.as_bytes(), &mut out));
            assert_eq!(out.split_off(0), [number, 1]);
        }
        assert!(store.bytes.len() < 2 * STORE_BYTES && store.ids.len() < 2 * STORE_IDS);
        store.insert(&[7; 1000], &[1]);
        assert!(!store.push(&[7; 1000], &mut out));
    }
}
