//! The distinct words of a corpus while their pairs merge.
//!
//! A long word stands in pieces, so that a merge looks at what is near its pair and not at a whole genome.

use std::collections::HashMap;

use super::count::WordCounts;
use super::gather::Gathered;
use super::merges::Pair;
use super::pair_table::Places;

/// A token id in as few bytes as the vocabulary allows: most of the memory of a hostile corpus.
pub(super) trait Symbol: Copy + PartialEq + Into<u32> + TryFrom<u32> {
    /// The symbol of an id that is in the vocabulary.
    fn of(id: u32) -> Self {
        Self::try_from(id).unwrap_or_else(|_| unreachable!("the vocabulary chose the type"))
    }
}

impl Symbol for u16 {}
impl Symbol for u32 {}

/// The words, one after the other.
pub(super) struct Words<S> {
    symbols: Vec<S>,
    spans: Vec<Span>,
}

/// Where a word, or a piece of one, stands among the symbols, and the number of the word's occurrences.
struct Span {
    start: usize,
    len: u32,
    /// Whether the word goes on in the next span.
    goes_on: bool,
    count: u64,
}

impl<S: Symbol> Words<S> {
    /// The words of two bytes and more: others have no pair.
    pub(super) fn new(counts: WordCounts, piece_len: usize) -> Self {
        let mut words = Self { symbols: Vec::with_capacity(counts.num_bytes()), spans: Vec::new() };
        counts.drain(|bytes, count| {
            let mut left = if bytes.len() > 1 { bytes } else { &[] };
            while !left.is_empty() {
                let (piece, rest) = left.split_at(left.len().min(piece_len));
                let (start, len) = (words.symbols.len(), piece.len() as u32);
                words.spans.push(Span { start, len, goes_on: !rest.is_empty(), count });
                words.symbols.extend(piece.iter().map(|byte| S::of(u32::from(*byte))));
                left = rest;
            }
        });
        words
    }

    /// Tells each two symbols that stand together, with the number of their word and the span that the first is of.
    pub(super) fn each_pair(&self, mut pair: impl FnMut(Pair, u64, u32)) {
        for (index, span) in (0..).zip(&self.spans) {
            let symbols = &self.symbols[span.start..][..span.len as usize];
            for two in symbols.windows(2) {
                pair((two[0].into(), two[1].into()), span.count, index);
            }
            if let (Some(last), Some(next)) = (symbols.last(), self.first(self.after(index))) {
                pair(((*last).into(), next.into()), span.count, index);
            }
        }
    }

    /// How often pairs of `id` occur, and where.
    pub(super) fn recount(&self, id: u32, pairs: &[Pair]) -> HashMap<Pair, (u64, Places)> {
        let mut found: HashMap<_, _> = pairs.iter().map(|pair| (*pair, Default::default())).collect();
        self.each_pair(|pair, count, place| {
            if pair.0 != id && pair.1 != id {
                return;
            }
            if let Some((sum, places)) = found.get_mut(&pair) {
                *sum += count;
                if Places::last(places) != Some(place) {
                    places.extend(&[place]);
                }
            }
        });
        found
    }

    /// Replaces each `pair` that begins in a span, from the left, by `id`, and gathers what its neighbours
    /// lose and gain.
    pub(super) fn merge(&mut self, place: u32, pair: Pair, id: u32, gathered: &mut Gathered) {
        let (before, after) = (self.before(place), self.first(self.after(place)));
        let (left, right, made) = (S::of(pair.0), S::of(pair.1), S::of(id));
        let span = &mut self.spans[place as usize];
        let symbols = &mut self.symbols[span.start..][..span.len as usize];
        let (mut from, mut to) = (0, 0);
        while from < symbols.len() {
            if from + 1 < symbols.len() && symbols[from] == left && symbols[from + 1] == right {
                if to > 0 {
                    gathered.before(symbols[to - 1].into(), span.count, place);
                } else if let Some((token, place)) = before {
                    gathered.before(token.into(), span.count, place);
                }
                if let Some(next) = symbols.get(from + 2).copied().or(after) {
                    gathered.after(next.into(), span.count, place);
                }
                symbols[to] = made;
                from += 2;
            } else {
                symbols[to] = symbols[from];
                from += 1;
            }
            to += 1;
        }
        span.len = to as u32;
        if after == Some(right) && to > 0 && symbols[to - 1] == left {
            self.merge_across(place, made, gathered);
        }
    }

    /// Replaces the last symbol of a piece and the first one behind it by `id`.
    fn merge_across(&mut self, place: u32, made: S, gathered: &mut Gathered) {
        let Some(next) = self.after(place) else { return };
        self.spans[next].start += 1;
        self.spans[next].len -= 1;
        let Span { start, len, count, .. } = self.spans[place as usize];
        let last = start + len as usize - 1;
        let inside = (len > 1).then(|| (self.symbols[last - 1], place));
        if let Some((token, place)) = inside.or_else(|| self.before(place)) {
            gathered.before(token.into(), count, place);
        }
        if let Some(token) = self.first(self.after(place)) {
            gathered.after(token.into(), count, place);
        }
        self.symbols[last] = made;
    }

    /// The last symbol of the word before this piece, and the piece that it stands in.
    fn before(&self, place: u32) -> Option<(S, u32)> {
        let earlier = self.spans[..place as usize].iter().rev().take_while(|span| span.goes_on);
        let (span, place) = earlier.zip((0..place).rev()).find(|(span, _)| span.len > 0)?;
        Some((self.symbols[span.start + span.len as usize - 1], place))
    }

    /// The next piece of the word that has symbols left.
    fn after(&self, place: u32) -> Option<usize> {
        let mut next = place as usize;
        while self.spans[next].goes_on {
            next += 1;
            if self.spans[next].len > 0 {
                return Some(next);
            }
        }
        None
    }

    fn first(&self, span: Option<usize>) -> Option<S> {
        span.map(|span| self.symbols[self.spans[span].start])
    }
}
