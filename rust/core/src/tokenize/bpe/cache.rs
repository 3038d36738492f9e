//! Short words seen before, with their ids: sets of two that forget what was learnt first.
//!
//! A new word takes the place of the older one of its set, which moves to the neighbour if that has
//! room. Words that are too long, or of too many ids, stand in a [`Store`].

use std::hint::select_unpredictable;

use super::key::{halves, hash, Key};
use super::large::{ask, Large};
use super::store::Store;

/// A word as a key of two numbers, and its ids in two more. The key 0 is no word.
type Entry = [u64; 4];

/// Two words, the one learnt last first: a cache line.
pub(super) type Set = [Entry; 2];

/// Most sets: 32 MiB a thread. Text of few words stays with few sets.
const MAX_SETS: usize = 1 << 19;

/// Sets at first: 2 MiB, a large page.
const MIN_SETS: usize = 1 << 15;

/// Most ids of a short word.
const MAX_IDS: usize = 6;

/// Ids up to this many stand as they are given out, 32 bits each.
const MAX_PLAIN_IDS: usize = 4;

/// Bits of an id where more stand in an entry: ids are under 2^20.
const PACKED_BITS: usize = 20;

/// The number of ids, four bits, stands above the first of them in an entry.
const COUNT_SHIFT: u32 = 24;

/// Ids of a short word as a cache keeps them.
pub(super) type Packed = [u64; 2];

/// Stands for the ids of a word whose ids are in the store: a count that no word has.
const ELSEWHERE: Packed = [0xf << COUNT_SHIFT, 0];

/// Words and their ids.
#[derive(Debug)]
pub(super) struct Cache {
    sets: Large<Set>,
    /// Words put in since the sets were made.
    num_inserted: usize,
    pub(super) store: Store,
}

impl Cache {
    /// A cache that knows the words of `seed`, of which later ones are used more.
    pub(super) fn new(seed: &[(Key, Packed)]) -> Self {
        // With room for as many again, text of any length grows it once less.
        let num_sets = (2 * seed.len()).next_power_of_two().clamp(MIN_SETS, MAX_SETS);
        let mut cache = Self { sets: Large::zeros(num_sets), num_inserted: 0, store: Store::default() };
        for (key, ids) in seed {
            cache.insert_packed(halves(*key), *ids);
        }
        cache
    }

    /// The sets where words are looked up.
    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        View { sets: self.sets.as_slice() }
    }

    /// The ids of a short word, which is looked for in the neighbour of its set too, and moved from there.
    pub(super) fn recall(&mut self, key: [u64; 2]) -> Option<Packed> {
        let slot = self.view().slot(key);
        self.view().find(slot, key).or_else(|| bring_back(self.sets.as_mut_slice(), slot, key))
    }

    /// Remembers a short word that is not known.
    pub(super) fn insert(&mut self, key: [u64; 2], word: &[u8], ids: &[u32]) {
        let packed = pack(ids).unwrap_or_else(|| {
            self.store.insert(word, ids);
            ELSEWHERE
        });
        self.insert_packed(key, packed);
    }

    /// Puts a short word into its set.
    fn insert_packed(&mut self, [low, high]: [u64; 2], [first, second]: Packed) {
        self.num_inserted += 1;
        if self.num_inserted > self.sets.len() + self.sets.len() / 4 && self.sets.len() < MAX_SETS {
            self.grow();
        }
        let slot = self.view().slot([low, high]);
        insert_entry(self.sets.as_mut_slice(), slot, [low, high, first, second]);
    }

    /// Doubles the sets.
    #[cold]
    fn grow(&mut self) {
        let num_sets = self.sets.len() * 2;
        let old = std::mem::replace(&mut self.sets, Large::zeros(num_sets));
        for [first, second] in old.as_slice() {
            for entry in [second, first].into_iter().filter(|entry| entry[1] != 0) {
                let slot = self.view().slot([entry[0], entry[1]]);
                insert_entry(self.sets.as_mut_slice(), slot, *entry);
            }
        }
    }
}

/// Puts a word in front of its set; what falls out of it moves to the neighbour if there is room.
fn insert_entry(sets: &mut [Set], slot: usize, entry: Entry) {
    let [first, last] = sets[slot];
    sets[slot] = [entry, first];
    if last[1] != 0 {
        if let Some(room) = sets[slot ^ 1].iter_mut().find(|entry| entry[1] == 0) {
            *room = last;
        }
    }
}

/// Moves a word that is not in its set there from the neighbour, if it is in that.
fn bring_back(sets: &mut [Set], slot: usize, key: [u64; 2]) -> Option<Packed> {
    let found = sets[slot ^ 1].iter_mut().find(|entry| is_same(entry, key))?;
    let entry = std::mem::take(found);
    insert_entry(sets, slot, entry);
    Some([entry[2], entry[3]])
}

/// Sets where words are looked up.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    sets: &'a [Set],
}

impl View<'_> {
    /// Where the set of a word is.
    #[inline]
    pub(super) fn slot(self, [low, high]: [u64; 2]) -> usize {
        hash(low, high) as usize & (self.sets.len() - 1)
    }

    /// Asks memory for a set.
    #[inline]
    pub(super) fn ask(self, slot: usize) {
        ask(&self.sets[slot]);
    }

    /// Asks memory for the neighbour of a set.
    #[inline]
    pub(super) fn ask_neighbour(self, slot: usize) {
        ask(&self.sets[slot ^ 1]);
    }

    /// The ids of a word, if it is in its set.
    pub(super) fn find(self, slot: usize, key: [u64; 2]) -> Option<Packed> {
        self.sets[slot].iter().find(|entry| is_same(entry, key)).map(|entry| [entry[2], entry[3]])
    }

    /// The ids of a word, or zeros. Both entries of its set are compared, without a choice between them.
    #[inline]
    pub(super) fn find_or_zeros(self, slot: usize, key: [u64; 2]) -> Packed {
        let [first, second] = &self.sets[slot];
        let [is_first, is_second] = [is_same(first, key), is_same(second, key)];
        let is_known = (u64::from(is_first) | u64::from(is_second)).wrapping_neg();
        let [.., low, high] = *select_unpredictable(is_first, first, second);
        [low & is_known, high]
    }
}

#[inline]
fn is_same(entry: &Entry, [low, high]: [u64; 2]) -> bool {
    (entry[0] ^ low) | (entry[1] ^ high) == 0
}

/// Ids as an entry keeps them; `None` if there are too many.
pub(super) fn pack(ids: &[u32]) -> Option<Packed> {
    let bits = if ids.len() <= MAX_PLAIN_IDS { 32 } else { PACKED_BITS };
    if ids.len() > MAX_IDS {
        return None;
    }
    let mut packed = 0_u128;
    for (index, id) in ids.iter().enumerate() {
        // From the second packed id on, above the number of ids.
        let shift = if bits == 32 || index == 0 { bits * index } else { 8 + bits * index };
        packed |= u128::from(*id) << shift;
    }
    packed |= (ids.len() as u128) << COUNT_SHIFT;
    Some([packed as u64, (packed >> 64) as u64])
}

/// Room that [`write`] needs.
pub(super) const WRITTEN_IDS: usize = MAX_IDS;

/// Writes the ids of an entry to the front of `out`, with anything after them, and returns their number;
/// `None` if they are in the store.
#[inline]
pub(super) fn write([first, second]: Packed, out: &mut [u32; WRITTEN_IDS]) -> Option<usize> {
    let count = (first >> COUNT_SHIFT) as usize & 0xf;
    out[0] = first as u32 & ((1 << COUNT_SHIFT) - 1);
    out[1] = (first >> 32) as u32;
    out[2] = second as u32;
    out[3] = (second >> 32) as u32;
    if count > MAX_PLAIN_IDS {
        return write_packed([first, second], count, out);
    }
    Some(count)
}

#[cold]
fn write_packed([first, second]: Packed, count: usize, out: &mut [u32; WRITTEN_IDS]) -> Option<usize> {
    let packed = u128::from(second) << 64 | u128::from(first);
    for (index, id) in out.iter_mut().enumerate() {
        let shift = if index == 0 { 0 } else { 8 + PACKED_BITS * index };
        *id = (packed >> shift) as u32 & ((1 << PACKED_BITS) - 1);
    }
    (count <= MAX_IDS).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(cache: &mut Cache, key: [u64; 2]) -> Option<Vec<u32>> {
        let mut ids = [9; WRITTEN_IDS];
        let count = write(cache.recall(key)?, &mut ids)?;
        Some(ids[..count].to_vec())
    }

    /// A key of a word of eight bytes and more.
    fn word_key(number: u64) -> [u64; 2] {
        [number, 8 << 56]
    }

    #[test]
    fn what_was_put_in_last_is_known_and_the_cache_stays_in_its_bounds() {
        let mut cache = Cache::new(&[(5 | 8 << 120, pack(&[7, 8]).unwrap())]);
        assert_eq!(known(&mut cache, word_key(5)), Some(vec![7, 8]));
        for number in 1..3_000_000 {
            cache.insert_packed(word_key(number), pack(&[number as u32 % (1 << 20), 5]).unwrap());
        }
        assert_eq!(known(&mut cache, word_key(2_999_999)), Some(vec![2_999_999 % (1 << 20), 5]));
        let num_known = (1..3_000_000).filter(|number| cache.recall(word_key(*number)).is_some()).count();
        assert!((MAX_SETS..=2 * MAX_SETS).contains(&num_known), "{num_known}");
        assert_eq!(cache.sets.len(), MAX_SETS);
    }

    #[test]
    fn few_words_are_all_known_and_keep_the_cache_small() {
        let mut cache = Cache::new(&[]);
        for number in 1..2_000 {
            cache.insert_packed(word_key(number), pack(&[number as u32]).unwrap());
            assert!(known(&mut cache, word_key(number)).is_some());
        }
        assert_eq!(cache.sets.len(), MIN_SETS);
    }

    #[test]
    fn up_to_six_ids_of_any_size_are_kept() {
        let largest = (1 << PACKED_BITS) - 1;
        for count in 0..=8 {
            let ids: Vec<u32> = (0..count).map(|index| largest - index * 7).collect();
            let Some(packed) = pack(&ids) else {
                assert!(ids.len() > MAX_IDS);
                continue;
            };
            let mut out = [0; WRITTEN_IDS];
            assert_eq!(write(packed, &mut out), Some(ids.len()));
            assert_eq!(out[..ids.len()], ids);
        }
    }
}
