//! Rows as flat arrays, ready for the model: no padding, documents separated by `cu_seqlens`.

use std::ops::Range;

use super::row_tokens::{RowTokens, MIN_TOKENS_TO_SHARE};
use super::Order;
use crate::error::{Error, Result};

/// Label of a slot that has none (`ignore_index` of cross-entropy).
const IGNORE: i64 = -100;

/// Memory for the arrays of a batch, each with one entry a token.
#[derive(Debug)]
pub struct Arrays<'a> {
    /// Ids.
    pub input_ids: &'a mut [i64],
    /// The next id of the same document, also across a cut; -100 if there is none or it is not supervised.
    pub labels: &'a mut [i64],
    /// Position within the segment, from 0.
    pub position_ids: &'a mut [i64],
    /// 1.0 where there is a label, else 0.0.
    pub weights: &'a mut [f32],
}

/// Some rows of a step as arrays of their own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// As in [`Arrays`], like the three that follow.
    pub input_ids: Vec<i64>,
    /// Next ids.
    pub labels: Vec<i64>,
    /// Positions.
    pub position_ids: Vec<i64>,
    /// Weights of the labels.
    pub weights: Vec<f32>,
    /// Segments and the hash of the ids.
    pub tokens: RowTokens,
}

impl Order {
    /// The rows `first_row..first_row + num_rows` of a step (all that follow if `None`).
    ///
    /// # Errors
    /// `InvalidValue` for a step or rows out of range, `Integrity` for damaged shards.
    pub fn batch(&self, step: u64, first_row: u64, num_rows: Option<u64>) -> Result<Batch> {
        let mut tokens = RowTokens::default();
        self.read_into(step, first_row, num_rows, &mut tokens)?;
        let count = tokens.num_tokens();
        let (mut input_ids, mut labels, mut position_ids) = (vec![0; count], vec![0; count], vec![0; count]);
        let mut weights = vec![0.0; count];
        tokens.write(Arrays {
            input_ids: &mut input_ids,
            labels: &mut labels,
            position_ids: &mut position_ids,
            weights: &mut weights,
        })?;
        Ok(Batch { input_ids, labels, position_ids, weights, tokens })
    }
}

impl RowTokens {
    /// Writes the arrays of a batch, many tokens on all threads.
    ///
    /// # Errors
    /// `InvalidValue` for arrays that do not have one entry a token.
    pub fn write(&self, arrays: Arrays<'_>) -> Result<()> {
        let Arrays { input_ids, labels, position_ids, weights } = &arrays;
        let lengths = [input_ids.len(), labels.len(), position_ids.len(), weights.len()];
        if lengths != [self.num_tokens(); 4] {
            return Err(Error::InvalidValue {
                what: "arrays of a batch".to_owned(),
                expected: format!("{} entries each, one a token", self.num_tokens()),
                found: format!("{lengths:?}"),
            });
        }
        self.write_segments(0..self.num_segments(), arrays);
        Ok(())
    }

    fn write_segments(&self, segments: Range<usize>, arrays: Arrays<'_>) {
        let middle = segments.start.midpoint(segments.end);
        if arrays.input_ids.len() >= MIN_TOKENS_TO_SHARE && middle > segments.start {
            let tokens = (segments.start..middle).map(|segment| self.length(segment)).sum();
            let (before, behind) = arrays.split_at(tokens);
            rayon::join(
                || self.write_segments(segments.start..middle, before),
                || self.write_segments(middle..segments.end, behind),
            );
            return;
        }
        let mut rest = arrays;
        for segment in segments {
            let (own, behind) = rest.split_at(self.length(segment));
            own.write(self.ids(segment), self.supervised(segment));
            rest = behind;
        }
    }
}

impl<'a> Arrays<'a> {
    /// The first `tokens` entries of all, and the rest.
    fn split_at(self, tokens: usize) -> (Arrays<'a>, Arrays<'a>) {
        let (input_ids, ids_behind) = self.input_ids.split_at_mut(tokens);
        let (labels, labels_behind) = self.labels.split_at_mut(tokens);
        let (position_ids, positions_behind) = self.position_ids.split_at_mut(tokens);
        let (weights, weights_behind) = self.weights.split_at_mut(tokens);
        let behind = Arrays {
            input_ids: ids_behind,
            labels: labels_behind,
            position_ids: positions_behind,
            weights: weights_behind,
        };
        (Arrays { input_ids, labels, position_ids, weights }, behind)
    }

    /// Writes a segment; `ids` are its own and, if the document goes on, the next one.
    fn write(self, ids: &[u32], supervised: Option<&[u8]>) {
        let length = self.input_ids.len();
        for (slot, id) in self.input_ids.iter_mut().zip(ids) {
            *slot = i64::from(*id);
        }
        for (slot, position) in self.position_ids.iter_mut().zip(0..) {
            *slot = position;
        }
        let targets = ids.len() - 1; // the last slot of a document has none
        for (label, id) in self.labels.iter_mut().zip(&ids[1..]) {
            *label = i64::from(*id);
        }
        self.labels[targets..length].fill(IGNORE);
        self.weights[..targets].fill(1.0);
        self.weights[targets..length].fill(0.0);
        if let Some(supervised) = supervised {
            self.hide(&supervised[1..]);
        }
    }

    /// Takes the label from every slot whose next token is not supervised.
    fn hide(self, supervised: &[u8]) {
        for ((label, weight), supervised) in self.labels.iter_mut().zip(self.weights).zip(supervised) {
            if *supervised == 0 {
                (*label, *weight) = (IGNORE, 0.0);
            }
        }
    }
}
