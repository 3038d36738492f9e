//! A few words looked up together: memory is asked for all of them before the first is needed.

use super::super::words::{Span, BATCH_WORDS};
use super::cache::{write, Cache, WRITTEN_IDS};
use super::key::{halves, key};
use super::model::Model;
use super::word::Word;

/// Memory of one thread for encoding words; the cache belongs to one model.
#[derive(Debug)]
pub(in crate::tokenize) struct Scratch {
    pub(super) cache: Cache,
    pub(super) word: Word,
    pub(super) batch: Box<Batch>,
}

impl Scratch {
    /// For words of `model`.
    pub(in crate::tokenize) fn new(model: &Model) -> Self {
        Self { cache: Cache::new(&model.seed), word: Word::default(), batch: Box::default() }
    }
}

/// What stands for a word that is too long for a key: no entry has it.
pub(super) const NO_KEY: [u64; 2] = [1, 0];

/// A few words by their keys, and the ids of those that are known.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) keys: [[u64; 2]; BATCH_WORDS],
    slots: [usize; BATCH_WORDS],
    pub(super) ids: [u32; BATCH_WORDS * WRITTEN_IDS],
    /// Words that have no ids there, and how many ids are there before them.
    pub(super) gaps: [(usize, usize); BATCH_WORDS],
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            keys: [[0; 2]; BATCH_WORDS],
            slots: [0; BATCH_WORDS],
            ids: [0; BATCH_WORDS * WRITTEN_IDS],
            gaps: [(0, 0); BATCH_WORDS],
        }
    }
}

impl Batch {
    /// Makes the keys of words, and asks memory for their sets.
    #[inline]
    pub(super) fn ask(&mut self, text: &[u8], words: &[Span], cache: &Cache) {
        let view = cache.view();
        for ((to_key, to_slot), (start, end)) in self.keys.iter_mut().zip(&mut self.slots).zip(words) {
            let key = key(text, *start, *end).map_or(NO_KEY, halves);
            let slot = view.slot(key);
            view.ask(slot);
            (*to_key, *to_slot) = (key, slot);
        }
    }

    /// Writes the ids of the words that are known one after the other, and returns their number and that of
    /// the gaps between them: words that are not in their sets, or have no ids.
    #[inline]
    pub(super) fn find(&mut self, num_words: usize, cache: &Cache) -> (usize, usize) {
        let view = cache.view();
        let Self { keys, slots, ids, gaps } = self;
        let (mut num_ids, mut num_gaps) = (0, 0);
        for (word, (key, slot)) in keys.iter().zip(slots.iter()).enumerate().take(num_words) {
            let packed = view.find_or_zeros(*slot, *key);
            let room = ids[num_ids..].first_chunk_mut();
            if let Some(count @ 1..) = room.and_then(|room| write(packed, room)) {
                num_ids += count;
            } else {
                view.ask_neighbour(*slot);
                gaps[num_gaps % BATCH_WORDS] = (word, num_ids);
                num_gaps += 1;
            }
        }
        (num_ids, num_gaps)
    }
}
