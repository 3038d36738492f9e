//! Chunks that were split before: a chunk falls into the same tokens wherever it stands, so that those which
//! come again, as `don't` and `1.` do, are split once.

use super::chunk::Span;

/// Chunks that are remembered: 16 KB of them, so that they stay near the processor.
const NUM_KNOWN: usize = 1 << 9;
/// Most tokens of a chunk that is remembered.
const MAX_TOKENS: usize = 6;

/// A chunk of at most sixteen bytes, and its tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunk {
    /// Its bytes, the first lowest.
    head: u128,
    /// How many those are; 0 if there is no chunk.
    length: u8,
    num_tokens: u8,
    /// Bytes of each token; they stand side by side.
    lengths: [u8; MAX_TOKENS],
    /// A bit for each token that begins a pattern.
    begins: u8,
}

/// The chunks. One forgets another that has its place.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<Chunk>);

impl Known {
    /// The chunk of these bytes, split by `split` unless it is known.
    #[inline]
    pub(super) fn chunk(&mut self, head: u128, length: usize, split: impl FnOnce() -> Chunk) -> Chunk {
        if self.0.is_empty() {
            self.0.resize(NUM_KNOWN, Chunk::default());
        }
        let place = &mut self.0[place(head)];
        if place.head != head || usize::from(place.length) != length {
            *place = Chunk { head, length: length as u8, ..split() };
        }
        *place
    }
}

impl Chunk {
    /// Adds the next token.
    pub(super) fn push(&mut self, (start, end): Span, begins: bool) {
        let index = usize::from(self.num_tokens);
        self.num_tokens += 1;
        if index < MAX_TOKENS {
            self.lengths[index] = (end - start) as u8;
            self.begins |= u8::from(begins) << index;
        }
    }

    /// The tokens of the chunk that begins at `start`, each with whether it begins a pattern; `None` if it has too
    /// many.
    #[inline]
    pub(super) fn tokens(&self, start: usize) -> Option<impl Iterator<Item = (Span, bool)> + '_> {
        let lengths = self.lengths.get(..usize::from(self.num_tokens))?;
        let tokens = lengths.iter().enumerate().scan(start, |at, (index, length)| {
            let token = (*at, *at + usize::from(*length));
            *at = token.1;
            Some((token, self.begins >> index & 1 == 1))
        });
        Some(tokens)
    }
}

#[inline]
fn place(head: u128) -> usize {
    let joined = head as u64 ^ ((head >> 64) as u64).rotate_left(23);
    (joined.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - NUM_KNOWN.ilog2())) as usize
}
