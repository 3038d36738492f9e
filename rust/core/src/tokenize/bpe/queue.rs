//! Places of a long word in the order in which they merge: by rank, then from the left.
//!
//! A heap orders them, unless they are very many: then there are few ranks for them, and each has a
//! list. Merges in order of rank append to lists in order of place, so that time stays linear.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::pairs::{Rank, NO_MERGE};

/// Symbols from which lists are faster than a heap; in tests few enough for the slow twin.
const MANY_SYMBOLS: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };

/// The places that are waiting.
#[derive(Debug, Default)]
pub(super) struct Queue {
    has_lists: bool,
    /// Ranks with places below them, if there are no lists.
    heap: BinaryHeap<Reverse<u64>>,
    lists: HashMap<u32, List>,
    /// Ranks whose lists are not empty.
    ranks: BinaryHeap<Reverse<u32>>,
}

/// The places of a rank.
#[derive(Debug, Default)]
struct List {
    /// From the left; those before `done` are taken out.
    places: Vec<u32>,
    done: usize,
    /// Those that came after one further to the right.
    late: BinaryHeap<Reverse<u32>>,
}

impl Queue {
    /// Empties the queue for a word.
    pub(super) fn clear(&mut self, num_symbols: usize) {
        self.has_lists = num_symbols >= MANY_SYMBOLS;
        self.heap.clear();
        self.lists.clear();
        self.ranks.clear();
    }

    /// Puts in a place with the rank of its merge, if it has one.
    pub(super) fn push(&mut self, rank: Rank, place: u32) {
        if rank == NO_MERGE {
        } else if self.has_lists {
            let list = self.lists.entry(rank).or_default();
            if list.is_empty() {
                self.ranks.push(Reverse(rank));
            }
            list.push(place);
        } else {
            self.heap.push(Reverse(u64::from(rank) << 32 | u64::from(place)));
        }
    }

    /// Takes out the first place, with its rank when it was put in.
    pub(super) fn pop(&mut self) -> Option<(u32, u32)> {
        if !self.has_lists {
            return self.heap.pop().map(|Reverse(entry)| ((entry >> 32) as u32, entry as u32));
        }
        let Reverse(rank) = *self.ranks.peek()?;
        let list = self.lists.get_mut(&rank)?;
        let place = list.pop()?;
        if list.is_empty() {
            self.ranks.pop();
        }
        Some((rank, place))
    }
}

impl List {
    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.late.is_empty()
    }

    fn push(&mut self, place: u32) {
        if self.places.last().is_none_or(|last| *last < place) {
            self.places.push(place);
        } else {
            self.late.push(Reverse(place));
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let next = self.places.get(self.done).copied();
        let late = self.late.peek().map(|Reverse(place)| *place);
        if late.is_some_and(|late| next.is_none_or(|next| late < next)) {
            self.late.pop();
            return late;
        }
        self.done += 1;
        if self.done == self.places.len() {
            self.places.clear();
            self.done = 0;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_give_places_in_the_order_of_a_heap(
            steps in proptest::collection::vec((0_u32..4, 0_u32..50, any::<bool>()), 0..200),
        ) {
            let mut queues = [Queue::default(), Queue::default()];
            queues[1].clear(MANY_SYMBOLS);
            for (rank, place, pops) in steps {
                for queue in &mut queues {
                    queue.push(rank, place);
                }
                if pops {
                    prop_assert_eq!(queues[0].pop(), queues[1].pop());
                }
            }
            for _ in 0..200 {
                prop_assert_eq!(queues[0].pop(), queues[1].pop());
            }
        }
    }
}
