//! What training knows of pairs: how often each occurs, and where.

use super::merges::Pair;

/// What is known of a pair that occurs often enough to be merged.
#[derive(Debug)]
pub(super) struct Entry {
    pair: Pair,
    /// 0 of a pair of which nothing is known any more.
    pub(super) count: u64,
    /// Spans in which the pair begins, or once began.
    pub(super) places: Places,
}

impl Entry {
    /// Forgets the pair, and gives the memory of its places back.
    pub(super) fn forget(&mut self) -> Places {
        self.count = 0;
        std::mem::take(&mut self.places)
    }
}

/// Spans, of which one takes no memory of its own.
#[derive(Debug)]
pub(super) enum Places {
    One(u32),
    Many(Vec<u32>),
}

impl Default for Places {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// Places from which a list grows by a quarter: twice as much of the longest would be most of the memory.
const MANY_PLACES: usize = 1 << 14;

impl Places {
    pub(super) fn last(&self) -> Option<u32> {
        match self {
            Self::One(place) => Some(*place),
            Self::Many(places) => places.last().copied(),
        }
    }

    pub(super) fn extend(&mut self, more: &[u32]) {
        match (&mut *self, more) {
            (_, []) => {}
            (Self::Many(places), [place]) if places.is_empty() => *self = Self::One(*place),
            (Self::Many(places), _) => {
                if places.len() >= MANY_PLACES && places.capacity() - places.len() < more.len() {
                    places.reserve_exact(more.len().max(places.len() / 4));
                }
                places.extend_from_slice(more);
            }
            (Self::One(place), _) => *self = Self::Many([&[*place], more].concat()),
        }
    }

    pub(super) fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(place) => vec![place],
            Self::Many(places) => places,
        }
    }
}

/// The pairs, in open addressing at most three quarters full.
#[derive(Debug, Default)]
pub(super) struct PairTable {
    /// Indices of entries; [`NO_ENTRY`] marks what is free.
    slots: Vec<u32>,
    entries: Vec<Entry>,
}

const NO_ENTRY: u32 = u32::MAX;

/// Slots of the smallest table.
const MIN_SLOTS: usize = 1 << 12;

impl PairTable {
    /// What is known of a pair, new if nothing is.
    pub(super) fn entry(&mut self, pair: Pair) -> &mut Entry {
        if self.entries.len() * 4 >= self.slots.len() * 3 {
            self.make_room();
        }
        let slot = self.slot(pair);
        if self.slots[slot] == NO_ENTRY {
            self.slots[slot] = self.entries.len() as u32;
            self.entries.push(Entry { pair, count: 0, places: Places::default() });
        }
        &mut self.entries[self.slots[slot] as usize]
    }

    /// What is known of a pair, if anything is.
    pub(super) fn get_mut(&mut self, pair: Pair) -> Option<&mut Entry> {
        if self.slots.is_empty() {
            return None;
        }
        let index = self.slots[self.slot(pair)];
        self.entries.get_mut(index as usize).filter(|entry| entry.count > 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Pair, u64)> + '_ {
        self.entries.iter().map(|entry| (entry.pair, entry.count))
    }

    fn slot(&self, pair: Pair) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (number(pair).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while let Some(entry) = self.entries.get(self.slots[slot] as usize) {
            if entry.pair == pair {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Leaves out what is forgotten; grows where that was little.
    #[cold]
    fn make_room(&mut self) {
        self.entries.retain(|entry| entry.count > 0);
        let mut size = self.slots.len().max(MIN_SLOTS);
        if self.entries.len() * 2 >= size {
            size *= 2;
        }
        self.slots = Vec::new(); // before there are more
        self.slots = vec![NO_ENTRY; size];
        self.entries.reserve_exact(size / 4 * 3 - self.entries.len());
        for index in 0..self.entries.len() {
            let slot = self.slot(self.entries[index].pair);
            self.slots[slot] = index as u32;
        }
    }
}

fn number((left, right): Pair) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}
