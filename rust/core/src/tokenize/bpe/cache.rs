//! Words seen before, with their ids: a table of fixed size that forgets what was not used lately.
//!
//! A set is one cache line and holds two words of up to 15 bytes with up to four ids. A new
//! word takes the place of the one of the set that was used less lately.

use super::key::{hash, Key};

/// Sets of the table: 2 MiB a thread.
const SETS: usize = 1 << 15;

/// Most ids of a word.
const MAX_IDS: usize = 4;

/// Stands for no id; ids stay under 2^24.
const NO_ID: u32 = u32::MAX;

/// Two words, the one used last first.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Set {
    keys: [Key; 2],
    ids: [[u32; MAX_IDS]; 2],
}

const EMPTY: Set = Set { keys: [0; 2], ids: [[NO_ID; MAX_IDS]; 2] };

/// Words and their ids.
#[derive(Debug)]
pub(in crate::tokenize) struct Cache {
    sets: Vec<Set>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { sets: vec![EMPTY; SETS] }
    }
}

impl Cache {
    /// Appends the ids of the word, if it is known.
    #[inline]
    pub(in crate::tokenize) fn push(&mut self, key: Key, out: &mut Vec<u32>) -> bool {
        let set = &mut self.sets[slot(key)];
        if set.keys[0] != key {
            if set.keys[1] != key {
                return false;
            }
            set.keys.swap(0, 1);
            set.ids.swap(0, 1);
        }
        let len = out.len() + set.ids[0].iter().filter(|id| **id != NO_ID).count();
        out.extend_from_slice(&set.ids[0]);
        out.truncate(len);
        true
    }

    /// Remembers a word, if it has few ids.
    pub(in crate::tokenize) fn insert(&mut self, key: Key, ids: &[u32]) {
        let mut padded = [NO_ID; MAX_IDS];
        let Some(part) = padded.get_mut(..ids.len()) else { return };
        part.copy_from_slice(ids);
        let set = &mut self.sets[slot(key)];
        (set.keys[1], set.ids[1]) = (set.keys[0], set.ids[0]);
        (set.keys[0], set.ids[0]) = (key, padded);
    }
}

/// The set of a key.
#[inline]
fn slot(key: Key) -> usize {
    hash(key) as usize & (SETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_last_is_known_and_long_lists_are_not_kept() {
        let (mut cache, mut out) = (Cache::default(), vec![9]);
        for number in 1..200_000_u128 {
            cache.insert(number, &[number as u32, 5]);
        }
        assert!(cache.push(199_999, &mut out));
        assert_eq!(out, [9, 199_999, 5]);
        cache.insert(77 << 64, &[1; 5]);
        assert!(!cache.push(77 << 64, &mut out));
        let known = (1..200_000).filter(|number| cache.push(*number, &mut out)).count();
        assert!((SETS..=2 * SETS).contains(&known), "{known}");
    }
}
