//! What one merge changes, gathered by neighbour before the pairs are told.
//!
//! Where `a b` becomes `ab`, the pair of `a` with what stands before loses and that of `ab` gains,
//! and so after `b`. Neighbours are tokens, so arrays indexed by token gather all of it.

use super::merges::Pair;

/// What one neighbour on one side gains.
#[derive(Debug, Default)]
struct Side {
    /// Sum by token; 0 for those not in `tokens`.
    sums: Vec<u64>,
    places: Vec<Vec<u32>>,
    /// Neighbours of this merge.
    tokens: Vec<u32>,
}

/// What neighbours before and after gain and lose: the same sums, with other pairs.
#[derive(Debug)]
pub(super) struct Gathered {
    before: Side,
    after: Side,
    /// Pairs that gained.
    gained: Vec<Pair>,
}

impl Gathered {
    /// For tokens up to `size`.
    pub(super) fn new(size: usize) -> Self {
        Self { before: Side::new(size), after: Side::new(size), gained: Vec::new() }
    }

    /// `token` stands before a merged pair in the word at `place`.
    #[inline]
    pub(super) fn before(&mut self, token: u32, count: u64, place: u32) {
        self.before.add(token, count, place);
    }

    /// `token` stands after a merged pair in the word at `place`.
    #[inline]
    pub(super) fn after(&mut self, token: u32, count: u64, place: u32) {
        self.after.add(token, count, place);
    }

    /// Tells `gain` what the pairs of the new token `id` gain, and where.
    pub(super) fn drain_gains(&mut self, id: u32, mut gain: impl FnMut(Pair, u64, &[u32])) {
        self.gained.clear();
        for token in &self.before.tokens {
            let at = *token as usize;
            self.gained.push((*token, id));
            gain((*token, id), self.before.sums[at], &self.before.places[at]);
        }
        for token in &self.after.tokens {
            let at = *token as usize;
            self.gained.push((id, *token));
            gain((id, *token), self.after.sums[at], &self.after.places[at]);
        }
    }

    /// Tells `lose` what the pairs of the old tokens lose, and forgets the sums.
    pub(super) fn drain_losses(&mut self, (left, right): Pair, mut lose: impl FnMut(Pair, u64)) {
        self.before.drain(|token, sum| lose((token, left), sum));
        self.after.drain(|token, sum| lose((right, token), sum));
    }

    /// Tells the pairs that gained, some of them twice.
    pub(super) fn drain_gained(&mut self, pair: impl FnMut(Pair)) {
        self.gained.drain(..).for_each(pair);
    }
}

impl Side {
    fn new(size: usize) -> Self {
        Self { sums: vec![0; size], places: vec![Vec::new(); size], tokens: Vec::new() }
    }

    #[inline]
    fn add(&mut self, token: u32, count: u64, place: u32) {
        let at = token as usize;
        if self.sums[at] == 0 {
            self.tokens.push(token);
        }
        self.sums[at] += count;
        if self.places[at].last() != Some(&place) {
            self.places[at].push(place);
        }
    }

    fn drain(&mut self, mut each: impl FnMut(u32, u64)) {
        for token in self.tokens.drain(..) {
            each(token, std::mem::take(&mut self.sums[token as usize]));
            self.places[token as usize].clear();
        }
    }
}
