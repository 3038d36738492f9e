//! What is to be computed, and its parts.

use std::ops::Range;

use super::packed::MOST_HEAD_DIM;
use super::BLOCK;
use crate::team::Parts;

/// Shapes and rules of one attention.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Where documents begin, and the last one ends, in tokens.
    pub boundaries: Vec<usize>,
    /// Heads of queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head; a multiple of 16.
    pub head_dim: usize,
    /// Whether a query sees no later key.
    pub causal: bool,
    /// How many keys up to its own a query sees.
    pub window: Option<usize>,
    /// Factor of scores, above 0.
    pub scale: f32,
}

/// Queries (tokens, heads, `head_dim`), keys and values (tokens, `kv_heads`, `head_dim`).
#[derive(Clone, Copy)]
pub struct Inputs<'a, E> {
    /// Queries.
    pub q: &'a [E],
    /// Keys.
    pub k: &'a [E],
    /// Values.
    pub v: &'a [E],
}

/// One head of one document.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Of queries.
    pub head: usize,
}

/// Elements of one head in the rows of a document.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a, E> {
    elements: &'a [E],
    row: usize,
    head_dim: usize,
}

impl<'a, E> HeadRows<'a, E> {
    /// Of row `i`.
    #[inline(always)]
    pub fn get(&self, i: usize) -> &'a [E] {
        &self.elements[i * self.row..][..self.head_dim]
    }
}

impl Problem {
    /// Tokens of all documents.
    pub fn num_tokens(&self) -> usize {
        self.boundaries.last().copied().unwrap_or(0)
    }

    /// What stands against computing it; `None` if nothing does.
    pub fn obstacle(&self, lens: [usize; 3]) -> Option<String> {
        let sorted = self.boundaries.first() == Some(&0) && self.boundaries.is_sorted();
        if !sorted {
            return Some("documents: expected boundaries that start with 0 and grow".to_owned());
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Some(format!("heads: expected a multiple of {}, found {}", self.kv_heads, self.heads));
        }
        if self.head_dim == 0 || self.head_dim > MOST_HEAD_DIM || !self.head_dim.is_multiple_of(16) {
            return Some(format!(
                "head_dim: expected a multiple of 16 up to {MOST_HEAD_DIM}, found {}",
                self.head_dim
            ));
        }
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Some(format!("scale: expected a finite number above 0, found {}", self.scale));
        }
        let of = |heads: usize| self.num_tokens() * heads * self.head_dim;
        let expected = [of(self.heads), of(self.kv_heads), of(self.kv_heads)];
        (lens != expected).then(|| format!("elements: expected {expected:?}, found {lens:?}"))
    }

    /// Every head of every document, longest documents first: threads end together.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut documents: Vec<Range<usize>> = self
            .boundaries
            .windows(2)
            .map(|edges| edges[0]..edges[1])
            .filter(|tokens| !tokens.is_empty())
            .collect();
        documents.sort_by_key(|tokens| std::cmp::Reverse(tokens.len()));
        let of_heads =
            |tokens: Range<usize>| (0..self.heads).map(move |head| Unit { tokens: tokens.clone(), head });
        documents.into_iter().flat_map(of_heads).collect()
    }

    /// The head of keys that a head of queries reads.
    pub(super) fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    /// Where a head of a token begins among elements of `heads`.
    pub(super) fn at(&self, token: usize, head: usize, heads: usize) -> usize {
        (token * heads + head) * self.head_dim
    }

    /// Rows of one head of `heads` in a unit's document.
    pub(super) fn rows<'a, E>(
        &self,
        elements: &'a [E],
        unit: &Unit,
        head: usize,
        heads: usize,
    ) -> HeadRows<'a, E> {
        let start = self.at(unit.tokens.start, head, heads);
        HeadRows { elements: &elements[start..], row: heads * self.head_dim, head_dim: self.head_dim }
    }

    /// Keys that query `i` of a document of `len` tokens sees.
    #[inline(always)]
    pub(super) fn seen(&self, i: usize, len: usize) -> Range<usize> {
        let i = i.min(len - 1); // rows that fill a block up are as the last
        let start = self.window.map_or(0, |window| (i + 1).saturating_sub(window));
        start..if self.causal { i + 1 } else { len }
    }

    /// Blocks of keys that some query of block `block` sees.
    #[inline(always)]
    pub(super) fn blocks_seen(&self, block: usize, len: usize) -> Range<usize> {
        let first = self.seen(block * BLOCK, len).start / BLOCK;
        let last = self.seen(block * BLOCK + BLOCK - 1, len).end;
        first..last.div_ceil(BLOCK)
    }

    /// Whether every query of `block` sees every key of `key_block`.
    #[inline(always)]
    pub(super) fn sees_all(&self, block: usize, key_block: usize, len: usize) -> bool {
        let keys = key_block * BLOCK..(key_block + 1) * BLOCK;
        let (first, last) = (self.seen(block * BLOCK, len), self.seen(block * BLOCK + BLOCK - 1, len));
        first.end >= keys.end && last.start <= keys.start
    }
}

/// Numbers of a row that the calling thread alone writes: of a unit, or a token, that it drew.
#[allow(unsafe_code)]
#[allow(clippy::mut_from_ref)]
#[inline(always)]
pub(super) fn own<'a, T>(parts: &'a Parts<T>, start: usize, len: usize) -> &'a mut [T] {
    // Sound: units differ in head or document, tokens in themselves, and each is drawn once.
    unsafe { parts.part(start, len) }
}
