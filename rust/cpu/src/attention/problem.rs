//! What is to be computed, and its parts.

use std::ops::Range;

use super::dropout::Dropout;
use super::mask::Mask;
use super::packed::{Span, MOST_HEAD_DIM};
use crate::team::Parts;
use crate::vector::LOG2_E;

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
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f32>,
    /// A logit for each head that joins the sums of its rows alone; or none.
    pub sinks: Vec<f32>,
    /// For each document where two responses begin, from its start: the second, to the end, does not see
    /// the first; or none.
    pub pairs: Vec<[usize; 2]>,
    /// Which weights are dropped; or none.
    pub dropout: Option<Dropout>,
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
    /// Which of them see which.
    pub mask: Mask,
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
        let above_zero = |x: f32| x > 0.0 && x.is_finite();
        if !above_zero(self.scale) || self.softcap.is_some_and(|softcap| !above_zero(softcap)) {
            let found = (self.scale, self.softcap);
            return Some(format!("scale, softcap: expected finite numbers above 0, found {found:?}"));
        }
        if !self.sinks.is_empty() && self.sinks.len() != self.heads {
            return Some(format!("sinks: expected {} or none, found {}", self.heads, self.sinks.len()));
        }
        if !self.pairs_fit() {
            return Some("pairs: expected two places in order within each document, or none".to_owned());
        }
        // Saturated: a product that ran over might be what there is.
        let of = |heads: usize| self.num_tokens().saturating_mul(heads).saturating_mul(self.head_dim);
        let expected = [of(self.heads), of(self.kv_heads), of(self.kv_heads)];
        (lens != expected).then(|| format!("elements: expected {expected:?}, found {lens:?}"))
    }

    fn pairs_fit(&self) -> bool {
        let mut documents = self.boundaries.windows(2).zip(&self.pairs);
        let num = self.boundaries.len() - 1;
        (self.pairs.is_empty() || self.pairs.len() == num)
            && documents.all(|(edges, pair)| pair[0] <= pair[1] && pair[1] <= edges[1] - edges[0])
    }

    /// Who sees whom in a document of `len` tokens.
    pub(super) fn mask(&self, document: usize, len: usize) -> Mask {
        let gap = self.pairs.get(document).map_or(0..0, |pair| pair[0]..pair[1]);
        Mask { len, causal: self.causal, window: self.window, gap }
    }

    /// Factor of scores that makes them exponents of 2.
    pub(super) fn exponent_scale(&self) -> f32 {
        if self.softcap.is_some() {
            LOG2_E // they were scaled when they were capped
        } else {
            self.scale * LOG2_E
        }
    }

    /// The head of keys that a head of queries reads.
    pub(super) fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    /// Where a head of a token begins among elements of `heads`.
    pub(super) fn at(&self, token: usize, head: usize, heads: usize) -> usize {
        (token * heads + head) * self.head_dim
    }

    /// Some blocks of the rows of one head of `heads` in a unit's document.
    pub(super) fn span<'a, E>(
        &self,
        elements: &'a [E],
        unit: &Unit,
        (head, heads): (usize, usize),
        blocks: &Range<usize>,
    ) -> Span<'a, E> {
        let rows = self.rows(elements, unit, head, heads);
        Span { rows, len: unit.tokens.len(), blocks: blocks.clone(), head_dim: self.head_dim }
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
}

/// Numbers of a row that the calling thread alone writes: of a unit, or a token, that it drew.
#[allow(unsafe_code)]
#[allow(clippy::mut_from_ref)]
#[inline(always)]
pub(super) fn own<'a, T>(parts: &'a Parts<T>, start: usize, len: usize) -> &'a mut [T] {
    // Sound: units differ in head or document, tokens in themselves, and each is drawn once.
    unsafe { parts.part(start, len) }
}
