//! Rows of a head in the orders that products read, filled up with zeros to whole blocks.

use super::problem::HeadRows;
use super::BLOCK;
use crate::vector::{Vector, MOST_LANES};

/// Blocks of a document's rows in one order, `head_dim * BLOCK / PER_WORD` words each.
pub(super) struct Blocks<W> {
    words: Vec<W>,
    block_len: usize,
}

impl<W: Copy + Default> Blocks<W> {
    pub fn new() -> Self {
        Self { words: Vec::new(), block_len: 0 }
    }

    #[inline(always)]
    pub fn get(&self, block: usize) -> &[W] {
        &self.words[block * self.block_len..][..self.block_len]
    }

    /// Zeros for `len` rows; memory is kept from unit to unit.
    #[inline(always)]
    fn clear(&mut self, len: usize, block_len: usize) {
        self.block_len = block_len;
        self.words.clear();
        self.words.resize(len.div_ceil(BLOCK) * block_len, W::default());
    }
}

/// Every row's words one after another: the left matrix of a product over a head's elements.
#[inline(always)]
pub(super) fn as_rows<V: Vector>(
    to: &mut Blocks<V::Word>,
    rows: HeadRows<V::Element>,
    len: usize,
    head_dim: usize,
) {
    let width = head_dim / V::PER_WORD;
    to.clear(len, BLOCK * width);
    for (i, words) in to.words.chunks_exact_mut(width).take(len).enumerate() {
        let row = rows.get(i);
        for (w, word) in words.iter_mut().enumerate() {
            *word = V::word(|part| row[w * V::PER_WORD + part]);
        }
    }
}

/// Word by word of all rows, (words, `BLOCK`): the right matrix of a product over a head's elements.
#[inline(always)]
pub(super) fn as_columns<V: Vector>(
    to: &mut Blocks<V::Word>,
    rows: HeadRows<V::Element>,
    len: usize,
    head_dim: usize,
) {
    let width = head_dim / V::PER_WORD;
    to.clear(len, BLOCK * width);
    for (block, words) in to.words.chunks_exact_mut(BLOCK * width).enumerate() {
        let first = block * BLOCK;
        for i in 0..BLOCK.min(len - first) {
            let row = rows.get(first + i);
            for w in 0..width {
                words[w * BLOCK + i] = V::word(|part| row[w * V::PER_WORD + part]);
            }
        }
    }
}

/// Words of `PER_WORD` rows, (`BLOCK / PER_WORD`, `head_dim`): the right matrix of a product over rows.
#[inline(always)]
pub(super) fn as_row_groups<V: Vector>(
    to: &mut Blocks<V::Word>,
    rows: HeadRows<V::Element>,
    len: usize,
    head_dim: usize,
) {
    to.clear(len, BLOCK / V::PER_WORD * head_dim);
    let nothing = [V::Element::default(); MOST_HEAD_DIM];
    for (group, words) in to.words.chunks_exact_mut(head_dim).enumerate() {
        let first = group * V::PER_WORD;
        let row =
            |part: usize| if first + part < len { rows.get(first + part) } else { &nothing[..head_dim] };
        let parts = [row(0), row(V::PER_WORD - 1)];
        for (column, word) in words.iter_mut().enumerate() {
            *word = V::word(|part| parts[part][column]);
        }
    }
}

/// The greatest head dim, as of the Triton kernels.
pub(super) const MOST_HEAD_DIM: usize = 256;
const _: () = assert!(MOST_HEAD_DIM.is_multiple_of(MOST_LANES));
