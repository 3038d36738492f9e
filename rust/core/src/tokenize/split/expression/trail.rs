//! Where searches have been from which there was no match any more.

use std::collections::HashSet;

/// Places that are kept: 1 MB of memory, and of text some megabytes.
const MAX_PLACES: usize = 1 << 16;

/// Places in a text and states of the automaton there.
#[derive(Debug, Default)]
pub(super) struct Trail(HashSet<(usize, usize)>);

impl Trail {
    /// Whether it is known that nothing matches from there on.
    pub(super) fn leads_nowhere(&self, at: usize, state: usize) -> bool {
        self.0.contains(&(at, state))
    }

    /// Adds places, in the order of the text.
    pub(super) fn extend(&mut self, places: Vec<(usize, usize)>) {
        if self.0.len() + places.len() > MAX_PLACES {
            self.0.clear();
        }
        // Searches to come begin before these places, and get to the first of them first.
        self.0.extend(places.into_iter().take(MAX_PLACES));
    }
}
