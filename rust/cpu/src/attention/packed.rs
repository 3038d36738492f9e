//! Rows of a head in the orders that products read, filled up with zeros to whole blocks.

use std::ops::Range;

use super::problem::HeadRows;
use crate::vector::{Vector, MOST_LANES};

/// Blocks of a document's rows in one order, `head_dim * SIDE / PER_WORD` words each.
pub(super) struct Blocks<W> {
    words: Vec<W>,
    block_len: usize,
    first: usize,
}

/// Some blocks of the rows of a head, to be packed.
#[derive(Clone)]
pub(super) struct Span<'a, E> {
    pub rows: HeadRows<'a, E>,
    /// Rows of the document.
    pub len: usize,
    pub blocks: Range<usize>,
    pub head_dim: usize,
}

impl<E> Span<'_, E> {
    /// Those of its rows that there are.
    #[inline(always)]
    fn rows_of<const SIDE: usize>(&self) -> Range<usize> {
        self.blocks.start * SIDE..self.len.min(self.blocks.end * SIDE)
    }
}

impl<W: Copy + Default> Blocks<W> {
    pub fn new() -> Self {
        Self { words: Vec::new(), block_len: 0, first: 0 }
    }

    #[inline(always)]
    pub fn get(&self, block: usize) -> &[W] {
        &self.words[(block - self.first) * self.block_len..][..self.block_len]
    }

    /// Zeros for some blocks; memory is kept from unit to unit.
    #[inline(always)]
    fn clear(&mut self, blocks: &Range<usize>, block_len: usize) {
        (self.block_len, self.first) = (block_len, blocks.start);
        self.words.clear();
        self.words.resize(blocks.len() * block_len, W::default());
    }
}

/// Every row's words one after another: the left matrix of a product over a head's elements.
#[inline(always)]
pub(super) fn as_rows<V: Vector, const SIDE: usize>(to: &mut Blocks<V::Word>, span: Span<V::Element>) {
    let width = span.head_dim / V::PER_WORD;
    to.clear(&span.blocks, SIDE * width);
    for (i, words) in span.rows_of::<SIDE>().zip(to.words.chunks_exact_mut(width)) {
        let row = span.rows.get(i);
        for (w, word) in words.iter_mut().enumerate() {
            *word = V::word(|part| row[w * V::PER_WORD + part]);
        }
    }
}

/// Word by word of all rows, (words, `SIDE`): the right matrix of a product over a head's elements.
#[inline(always)]
pub(super) fn as_columns<V: Vector, const SIDE: usize>(to: &mut Blocks<V::Word>, span: Span<V::Element>) {
    let width = span.head_dim / V::PER_WORD;
    to.clear(&span.blocks, SIDE * width);
    for (block, words) in span.blocks.clone().zip(to.words.chunks_exact_mut(SIDE * width)) {
        let first = block * SIDE;
        for i in 0..SIDE.min(span.len - first) {
            let row = span.rows.get(first + i);
            for w in 0..width {
                words[w * SIDE + i] = V::word(|part| row[w * V::PER_WORD + part]);
            }
        }
    }
}

/// Words of `PER_WORD` rows, (`SIDE / PER_WORD`, `head_dim`): the right matrix of a product over rows.
#[inline(always)]
pub(super) fn as_row_groups<V: Vector, const SIDE: usize>(to: &mut Blocks<V::Word>, span: Span<V::Element>) {
    let head_dim = span.head_dim;
    to.clear(&span.blocks, SIDE / V::PER_WORD * head_dim);
    let nothing = [V::Element::default(); MOST_HEAD_DIM];
    let groups = span.rows_of::<SIDE>().step_by(V::PER_WORD);
    for (first, words) in groups.zip(to.words.chunks_exact_mut(head_dim)) {
        let row = |i: usize| if i < span.len { span.rows.get(i) } else { &nothing[..head_dim] };
        let parts = [row(first), row(first + V::PER_WORD - 1)];
        for (column, word) in words.iter_mut().enumerate() {
            *word = V::word(|part| parts[part][column]);
        }
    }
}

/// The greatest head dim, as of the Triton kernels.
pub(super) const MOST_HEAD_DIM: usize = 256;
const _: () = assert!(MOST_HEAD_DIM.is_multiple_of(MOST_LANES));
