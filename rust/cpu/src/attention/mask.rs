//! Which keys the queries of one document see, one by one and in blocks.

use std::ops::Range;

use super::BLOCK;

/// The rules of one document.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    /// Its tokens; at least 1.
    pub len: usize,
    /// Whether a query sees no later key.
    pub causal: bool,
    /// How many keys up to its own a query sees.
    pub window: Option<usize>,
    /// The first of two responses, which the tokens behind it do not see; empty for none.
    pub gap: Range<usize>,
}

impl Mask {
    /// Blocks of its queries, and of its keys.
    pub fn num_blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// Blocks of keys of which queries of some blocks see any.
    pub fn keys_of(&self, blocks: &Range<usize>) -> Range<usize> {
        let start = self.seen(blocks.start * BLOCK).start / BLOCK;
        start..if self.causal { blocks.end } else { self.num_blocks() }
    }

    /// Blocks of queries that see any of the keys of some blocks.
    pub fn queries_of(&self, key_blocks: &Range<usize>) -> Range<usize> {
        let reach = self.window.map(|window| (key_blocks.end * BLOCK - 1).saturating_add(window));
        let end = reach.map_or(self.num_blocks(), |reach| reach.div_ceil(BLOCK).min(self.num_blocks()));
        (if self.causal { key_blocks.start } else { 0 })..end
    }

    /// Keys that query `i` sees, but for those of `hidden`.
    #[inline(always)]
    pub fn seen(&self, i: usize) -> Range<usize> {
        let i = i.min(self.len - 1); // rows that fill a block up are as the last
        let start = self.window.map_or(0, |window| (i + 1).saturating_sub(window));
        start..if self.causal { i + 1 } else { self.len }
    }

    /// Keys among those that query `i` does not see after all.
    #[inline(always)]
    pub fn hidden(&self, i: usize) -> Range<usize> {
        if i.min(self.len - 1) < self.gap.end {
            0..0
        } else {
            self.gap.clone()
        }
    }

    /// Whether some query of `block` sees some key of `key_block`.
    #[inline(always)]
    pub fn sees_any(&self, block: usize, key_block: usize) -> bool {
        let (queries, keys) = (of_block(block), of_block(key_block));
        let hidden = self.hidden(queries.start);
        let in_reach =
            self.seen(queries.start).start < keys.end && self.seen(queries.end - 1).end > keys.start;
        in_reach && !(hidden.start <= keys.start && keys.end <= hidden.end)
    }

    /// Whether every query of `block` sees every key of `key_block`.
    #[inline(always)]
    pub fn sees_all(&self, block: usize, key_block: usize) -> bool {
        let (queries, keys) = (of_block(block), of_block(key_block));
        let hidden = self.hidden(queries.end - 1);
        let in_reach =
            self.seen(queries.start).end >= keys.end && self.seen(queries.end - 1).start <= keys.start;
        in_reach && (hidden.end <= keys.start || keys.end <= hidden.start)
    }
}

#[inline(always)]
fn of_block(block: usize) -> Range<usize> {
    block * BLOCK..(block + 1) * BLOCK
}
