//! How often things stand in a text, in bounded memory: as many rounds as it takes, each of those whose hashes
//! end alike. Things are compared when their hashes agree, so nothing depends on luck.

use crate::text::lines::Span;

/// Things that are told apart in one round, and a third of it: 25 MB.
const MAX_SLOTS: usize = 1 << 21;
/// Fewest slots.
const MIN_SLOTS: usize = 1 << 10;
/// Rounds beyond which the table grows instead: only hashes made to agree need more.
const MAX_ROUNDS: u64 = 1 << 12;

/// A thing: where it stands first, and how often it stands.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::text) struct Counted {
    start: u32,
    end: u32,
    /// 0 in an empty slot.
    pub(in crate::text) num_copies: u32,
}

impl Counted {
    /// The first copy.
    pub(in crate::text) fn first(&self) -> Span {
        (self.start as usize, self.end as usize)
    }
}

/// Tells one to which hash and place a thing has.
type Take<'t> = &'t mut dyn FnMut(u64, Span);

/// Counts the things that `each` gives, always the same ones: `done` is told what a round found.
///
/// The upper and the lower half of a hash are to be mixed.
pub(in crate::text) fn tally(
    num_things: usize,
    each: &dyn Fn(Take),
    is_same: &dyn Fn(Span, Span) -> bool,
    mut done: impl FnMut(&Round),
) {
    let num_slots = (2 * num_things).next_power_of_two().clamp(MIN_SLOTS, MAX_SLOTS);
    let mut todo = vec![(1, 0, num_slots)];
    while let Some((num_rounds, number, num_slots)) = todo.pop() {
        let mut round = Round { num_rounds, number, slots: Vec::new(), num_used: 0, is_same };
        round.slots.resize(num_slots, Counted::default());
        each(&mut |hash, span| round.add(hash, span));
        if !round.is_full() {
            done(&round);
        } else if num_rounds < MAX_ROUNDS {
            todo.push((2 * num_rounds, number + num_rounds, num_slots));
            todo.push((2 * num_rounds, number, num_slots));
        } else {
            todo.push((num_rounds, number, 2 * num_slots));
        }
    }
}

/// What one round found.
pub(in crate::text) struct Round<'r> {
    num_rounds: u64,
    number: u64,
    slots: Vec<Counted>,
    num_used: usize,
    is_same: &'r dyn Fn(Span, Span) -> bool,
}

impl Round<'_> {
    /// Those that were counted, in no order.
    pub(in crate::text) fn counted(&self) -> impl Iterator<Item = Counted> + '_ {
        self.slots.iter().copied().filter(|found| found.num_copies > 0)
    }

    /// How many different things there are.
    pub(in crate::text) fn num_different(&self) -> usize {
        self.num_used
    }

    /// How often the thing stands; 0 if it has its turn in another round.
    pub(in crate::text) fn num_copies(&self, hash: u64, span: Span) -> u32 {
        if !self.has_turn(hash) {
            return 0;
        }
        self.slots[self.slot(hash, span)].num_copies
    }

    fn has_turn(&self, hash: u64) -> bool {
        hash >> 40 & (self.num_rounds - 1) == self.number
    }

    fn is_full(&self) -> bool {
        4 * self.num_used > 3 * self.slots.len()
    }

    #[inline]
    fn add(&mut self, hash: u64, span: Span) {
        if !self.has_turn(hash) || self.is_full() {
            return;
        }
        let slot = self.slot(hash, span);
        let found = &mut self.slots[slot];
        if found.num_copies == 0 {
            (found.start, found.end) = (span.0 as u32, span.1 as u32);
            self.num_used += 1;
        }
        found.num_copies += 1;
    }

    /// The slot that the thing has, or is to have.
    #[inline]
    fn slot(&self, hash: u64, span: Span) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let found = &self.slots[slot];
            if found.num_copies == 0 || (self.is_same)(found.first(), span) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn rounds_count_what_a_map_does() {
        let text: Vec<u8> =
            (0..20_000_u32).flat_map(|number| (number * number % 9001).to_le_bytes()).collect();
        let spans: Vec<Span> = (0..20_000).map(|at| (4 * at, 4 * at + 4)).collect();
        let mut copies: HashMap<&[u8], u32> = HashMap::new();
        for span in &spans {
            *copies.entry(&text[span.0..span.1]).or_default() += 1;
        }
        for num_things in [0, 20_000] {
            // Room for 768 of them makes eight rounds or more.
            let (mut num_rounds, mut found) = (0, HashMap::new());
            let each = |take: Take| spans.iter().for_each(|span| take(xxh3_64(&text[span.0..span.1]), *span));
            let is_same = |one: Span, other: Span| text[one.0..one.1] == text[other.0..other.1];
            tally(num_things, &each, &is_same, |round| {
                num_rounds += 1;
                found.extend(round.counted().map(|it| (&text[it.first().0..it.first().1], it.num_copies)));
                each(&mut |hash, span| {
                    let known = round.num_copies(hash, span);
                    assert!(known == 0 || known == copies[&text[span.0..span.1]]);
                });
            });
            assert_eq!(found, copies);
            assert_eq!(num_rounds > 4, num_things == 0);
        }
    }
}
