//! Where the words of a giant begin, one after the other.

use super::bits::Bits;
use crate::text::lines::count_begun;
use crate::text::ngrams::SEEDS;
use crate::text::word_key::WordKey;

/// Where a word begins, or the last ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Edge {
    /// Bytes of letters before it.
    pub(super) start: usize,
    /// Code points before it.
    pub(super) chars: usize,
    /// Hash of the word that begins here.
    pub(super) hash: u64,
}

/// Words that are looked at together.
const NUM_EDGES: usize = 4096;

/// Gives for each word its edge and those of the next `width` words, as far as there are any.
pub(super) fn each(
    letters: &[u8],
    starts: &Bits,
    num_bytes: usize,
    width: usize,
    mut take: impl FnMut(&[Edge]),
) {
    let mut ends = starts.iter().skip(1).chain((num_bytes > 0).then_some(num_bytes));
    let mut edges = Vec::with_capacity(NUM_EDGES + width);
    edges.push(Edge::default());
    loop {
        let num_before = edges.len();
        for end in ends.by_ref().take(NUM_EDGES) {
            let next = after(letters, &mut edges, end);
            edges.push(next);
        }
        let is_last = edges.len() - num_before < NUM_EDGES;
        let num_whole = edges.len().saturating_sub(if is_last { 1 } else { width });
        (0..num_whole).for_each(|at| take(&edges[at..edges.len().min(at + width + 1)]));
        if is_last {
            return;
        }
        edges.drain(..num_whole);
    }
}

/// The edge after the last one.
fn after(letters: &[u8], edges: &mut [Edge], end: usize) -> Edge {
    let Some(last) = edges.last_mut() else { return Edge::default() };
    let span = (last.start, end);
    last.hash = WordKey::of(letters, span).hash(letters, span);
    Edge { start: end, chars: last.chars + count_begun(&letters[span.0..end]), hash: 0 }
}

/// Hash of an n-gram, of the edges of its words.
#[inline]
pub(super) fn hash(words: &[Edge]) -> u64 {
    words.iter().fold(SEEDS[2], |hash, word| {
        let product = u128::from(hash ^ SEEDS[0]) * u128::from(word.hash ^ SEEDS[1]);
        product as u64 ^ (product >> 64) as u64
    })
}
