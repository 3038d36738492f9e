//! Words seen before, with their ids: tables of fixed size that forget what was not used lately.
//!
//! Short words of few ids stand in sets of two, a cache line each: a new word takes the place of
//! the one that was used less lately. Others stand in a store that is emptied when it is full.

use super::key::{hash, Key};

/// Most sets of short words: 16 MiB a thread. Text of few words stays with few sets.
const MAX_SETS: usize = 1 << 18;

/// Sets at first.
const MIN_SETS: usize = 1 << 12;

/// Words in front: 512 KiB, which stay near the processor.
const FRONT_WORDS: usize = 1 << 14;

/// Most ids of a short word.
const MAX_IDS: usize = 4;

/// Bits of an id; in the first id of a short word, the number of its ids stands above them.
const ID_BITS: u32 = 24;

/// A short word and its ids.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
struct Entry {
    key: Key,
    ids: [u32; MAX_IDS],
}

/// Two words, the one used last first.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Entry; 2]);

/// Words and their ids.
#[derive(Debug)]
pub(in crate::tokenize) struct Cache {
    /// The short words used last, one a slot.
    front: Vec<Entry>,
    sets: Vec<Set>,
    /// Words put in since the sets were made.
    num_inserted: usize,
    pub(in crate::tokenize) store: Store,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            front: vec![Entry::default(); FRONT_WORDS],
            sets: vec![Set::default(); MIN_SETS],
            num_inserted: 0,
            store: Store::default(),
        }
    }
}

impl Cache {
    /// Reads the set of a word that is not in front: when several are read one after the other,
    /// memory answers all at once.
    #[inline]
    pub(in crate::tokenize) fn touch(&self, key: Key) -> u64 {
        let hash = hash(key);
        if self.front[front_slot(hash)].key == key {
            return 0;
        }
        self.sets[hash as usize & (self.sets.len() - 1)].0[0].key as u64
    }

    /// Appends the ids of a short word, if it is known.
    #[inline]
    pub(in crate::tokenize) fn push(&mut self, key: Key, out: &mut Vec<u32>) -> bool {
        let hash = hash(key);
        let front = &mut self.front[front_slot(hash)];
        if front.key != key {
            let slot = hash as usize & (self.sets.len() - 1);
            let Some(found) = self.sets[slot].find(key) else { return false };
            *front = found;
        }
        front.push(out);
        true
    }

    /// Remembers a short word; false if it has too many ids.
    pub(in crate::tokenize) fn insert(&mut self, key: Key, ids: &[u32]) -> bool {
        let mut entry = Entry { key, ..Entry::default() };
        let Some(part) = entry.ids.get_mut(..ids.len()) else { return false };
        part.copy_from_slice(ids);
        entry.ids[0] |= (ids.len() as u32) << ID_BITS;
        self.num_inserted += 1;
        if self.num_inserted > self.sets.len() && self.sets.len() < MAX_SETS {
            self.grow();
        }
        self.insert_entry(entry);
        true
    }

    fn insert_entry(&mut self, entry: Entry) {
        let slot = hash(entry.key) as usize & (self.sets.len() - 1);
        let set = &mut self.sets[slot].0;
        *set = [entry, set[0]];
    }

    /// Doubles the sets twice.
    #[cold]
    fn grow(&mut self) {
        let old = std::mem::take(&mut self.sets);
        self.sets = vec![Set::default(); (old.len() * 4).min(MAX_SETS)];
        for Set([first, second]) in old {
            for entry in [second, first].into_iter().filter(|entry| entry.key != 0) {
                self.insert_entry(entry);
            }
        }
    }
}

/// The slot in front, of other bits of the hash than the set.
#[inline]
fn front_slot(hash: u64) -> usize {
    (hash >> 40) as usize & (FRONT_WORDS - 1)
}

impl Set {
    /// The word of a key, which becomes the one used last.
    #[inline]
    fn find(&mut self, key: Key) -> Option<Entry> {
        if self.0[0].key != key {
            if self.0[1].key != key {
                return None;
            }
            self.0.swap(0, 1);
        }
        Some(self.0[0])
    }
}

impl Entry {
    #[inline]
    fn push(&self, out: &mut Vec<u32>) {
        let [first, second, third, fourth] = self.ids;
        let len = out.len() + (first >> ID_BITS) as usize;
        out.extend_from_slice(&[first & ((1 << ID_BITS) - 1), second, third, fourth]);
        out.truncate(len);
    }
}

/// Slots of the store; a word overwrites the one that was there.
const STORE_SLOTS: usize = 1 << 17;

/// Bytes and ids that the store holds before it is emptied.
const STORE_BYTES: usize = 6 << 20;
const STORE_IDS: usize = 1 << 20;

/// Longest word of the store, in bytes: longer ones rarely come twice.
const MAX_STORED_BYTES: usize = 128;

/// Words of any form, at most 12 MiB.
#[derive(Debug, Default)]
pub(in crate::tokenize) struct Store {
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
    pub(in crate::tokenize) fn push(&self, word: &[u8], out: &mut Vec<u32>) -> bool {
        let Some(found) = self.slots.get(store_slot(word)) else { return false };
        let bytes = &self.bytes[found.bytes_start as usize..][..found.num_bytes as usize];
        let is_known = bytes == word;
        if is_known {
            out.extend_from_slice(&self.ids[found.ids_start as usize..][..found.num_ids as usize]);
        }
        is_known
    }

    /// Remembers a word, if it is not too long.
    pub(in crate::tokenize) fn insert(&mut self, word: &[u8], ids: &[u32]) {
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

/// The slot of a word: eight bytes at a time, multiplied and folded.
fn store_slot(word: &[u8]) -> usize {
    let fold = |sum: u64, part: &[u8]| {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        let product = u128::from(sum ^ u64::from_le_bytes(bytes)) * 0x9e37_79b9_7f4a_7c15;
        product as u64 ^ (product >> 64) as u64
    };
    word.chunks(8).fold(word.len() as u64, fold) as usize & (STORE_SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_last_is_known_and_long_lists_are_not_kept() {
        let (mut cache, mut out) = (Cache::default(), vec![9]);
        for number in 1..3_000_000_u128 {
            assert!(cache.insert(number, &[number as u32, 5]));
        }
        assert!(cache.push(2_999_999, &mut out));
        assert_eq!(out, [9, 2_999_999, 5]);
        assert!(!cache.insert(77 << 64, &[1; 5]) && !cache.push(77 << 64, &mut out));
        let known = (1..3_000_000).filter(|number| cache.push(*number, &mut out)).count();
        assert!((MAX_SETS..=2 * MAX_SETS).contains(&known), "{known}");
    }

    #[test]
    fn few_words_are_all_known_and_keep_the_cache_small() {
        let mut cache = Cache::default();
        for number in 1..2_000_u128 {
            cache.insert(number, &[number as u32]);
            assert!(cache.push(number, &mut Vec::new()));
        }
        assert_eq!(cache.sets.len(), MIN_SETS);
    }

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
