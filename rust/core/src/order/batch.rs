//! Rows as flat arrays, ready for the model: no padding, documents separated by `cu_seqlens`.

use rayon::prelude::*;
use xxhash_rust::xxh3::{xxh3_64, Xxh3};

use super::{Order, Row};
use crate::error::{Error, Result};
use crate::pack::Segment;
use crate::shard::TokenShards;

/// Label of a slot that has none (`ignore_index` of cross-entropy).
const IGNORE: i64 = -100;

/// Some rows of a step, one after another. Up to `weights`, all have one entry a token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Ids.
    pub input_ids: Vec<i64>,
    /// The next id of the same document, also across a cut; -100 if there is none or it is not supervised.
    pub labels: Vec<i64>,
    /// Position within the segment, from 0.
    pub position_ids: Vec<i64>,
    /// 1.0 where there is a label, else 0.0.
    pub weights: Vec<f32>,
    /// Start of each segment, and the end of the last: segments + 1 entries.
    pub cu_seqlens: Vec<i32>,
    /// Number of each segment's document in its source.
    pub documents: Vec<i64>,
    /// Number of each segment's source.
    pub sources: Vec<i32>,
    /// Hash of the ids that were read; those of the batches of a step add up, modulo 2^64, to the step's.
    ///
    /// The sum, over rows, of the XXH3-64 of the row's segments, each as its length and its ids in
    /// little-endian u32, seeded with the row's number in its step.
    pub ids_hash: u64,
}

/// The rolling hash of all steps so far: XXH3-64 of the one before and a step's `ids_hash`, little-endian.
pub fn roll(previous: u64, ids_hash: u64) -> u64 {
    xxh3_64(&[previous.to_le_bytes(), ids_hash.to_le_bytes()].concat())
}

/// Scratch space of one thread.
#[derive(Default)]
struct Scratch {
    tokens: Vec<u32>,
    mask: Vec<u8>,
}

/// The part of the arrays that one row fills.
struct Slot<'a> {
    /// Number of the row in its step.
    number: u64,
    row: Row<'a>,
    input_ids: &'a mut [i64],
    labels: &'a mut [i64],
    position_ids: &'a mut [i64],
    weights: &'a mut [f32],
}

impl Order {
    /// The rows `first_row..first_row + num_rows` of a step (all that follow if `None`).
    ///
    /// # Errors
    /// `InvalidValue` for a step or rows out of range, `Integrity` for damaged shards.
    pub fn batch(&self, step: u64, first_row: u64, num_rows: Option<u64>) -> Result<Batch> {
        let rows = self.rows(step)?;
        let end = num_rows.map_or(rows.len() as u64, |count| first_row.saturating_add(count));
        if first_row > end || end > rows.len() as u64 {
            return Err(Error::InvalidValue {
                what: "rows".to_owned(),
                expected: format!("a range within 0 to {}", rows.len()),
                found: format!("{first_row} to {end}"),
            });
        }
        let rows = &rows[first_row as usize..end as usize];
        let mut batch = Batch::outline(rows)?;
        batch.fill(rows, first_row, |source| &self.sources[source as usize].shards)?;
        Ok(batch)
    }
}

impl Batch {
    /// Everything that is known without reading tokens; token arrays of the right size.
    fn outline(rows: &[Row<'_>]) -> Result<Self> {
        let mut batch = Self { cu_seqlens: vec![0], ..Self::default() };
        let mut tokens: u64 = 0;
        for (source, segments) in rows {
            for segment in *segments {
                tokens += u64::from(segment.length);
                batch.cu_seqlens.push(i32::try_from(tokens).map_err(|_| too_many(tokens))?);
                batch.documents.push(i64::from(segment.document));
                batch.sources.push(i32::try_from(*source).map_err(|_| too_many(u64::from(*source)))?);
            }
        }
        let tokens = tokens as usize;
        batch.input_ids = vec![0; tokens];
        batch.labels = vec![IGNORE; tokens];
        batch.position_ids = vec![0; tokens];
        batch.weights = vec![0.0; tokens];
        Ok(batch)
    }

    /// Reads the rows on all threads, each into its own part of the arrays.
    fn fill<'a>(
        &mut self,
        rows: &[Row<'_>],
        first_row: u64,
        shards: impl Fn(u32) -> &'a TokenShards + Sync,
    ) -> Result<()> {
        let slots = self.split(rows, first_row).into_par_iter();
        let hashes =
            slots.map_init(Scratch::default, |scratch, mut slot| slot.fill(shards(slot.row.0), scratch));
        self.ids_hash = hashes.try_reduce(|| 0, |sum, hash| Ok(sum.wrapping_add(hash)))?;
        Ok(())
    }

    fn split<'a>(&'a mut self, rows: &[Row<'a>], first_row: u64) -> Vec<Slot<'a>> {
        let mut rest = (&mut *self.input_ids, &mut *self.labels, &mut *self.position_ids, &mut *self.weights);
        let mut slots = Vec::with_capacity(rows.len());
        for (row, number) in rows.iter().zip(first_row..) {
            let tokens: usize = row.1.iter().map(|segment| segment.length as usize).sum();
            let (input_ids, ids_rest) = rest.0.split_at_mut(tokens);
            let (labels, labels_rest) = rest.1.split_at_mut(tokens);
            let (position_ids, positions_rest) = rest.2.split_at_mut(tokens);
            let (weights, weights_rest) = rest.3.split_at_mut(tokens);
            rest = (ids_rest, labels_rest, positions_rest, weights_rest);
            slots.push(Slot { number, row: *row, input_ids, labels, position_ids, weights });
        }
        slots
    }
}

impl Slot<'_> {
    /// Fills the slot and returns the hash of its ids.
    fn fill(&mut self, shards: &TokenShards, scratch: &mut Scratch) -> Result<u64> {
        let mut hasher = Xxh3::with_seed(self.number);
        let mut at = 0;
        for segment in self.row.1 {
            let length = segment.length as usize;
            scratch.read(shards, *segment)?;
            hasher.update(&segment.length.to_le_bytes());
            hasher.update(bytemuck::cast_slice(&scratch.tokens[..length]));
            self.fill_segment(at, length, scratch);
            at += length;
        }
        Ok(hasher.digest())
    }

    /// Writes a segment; `scratch` holds its tokens and, if the document goes on, the next one.
    fn fill_segment(&mut self, at: usize, length: usize, scratch: &Scratch) {
        for (slot, id) in self.input_ids[at..at + length].iter_mut().zip(&scratch.tokens) {
            *slot = i64::from(*id);
        }
        for (slot, position) in self.position_ids[at..at + length].iter_mut().zip(0..) {
            *slot = position;
        }
        let next = scratch.tokens.iter().zip(&scratch.mask).skip(1);
        let targets = self.labels[at..at + length].iter_mut().zip(&mut self.weights[at..at + length]);
        for ((label, weight), (id, supervised)) in targets.zip(next) {
            if *supervised != 0 {
                *label = i64::from(*id);
                *weight = 1.0;
            }
        }
    }
}

impl Scratch {
    fn read(&mut self, shards: &TokenShards, segment: Segment) -> Result<()> {
        let Segment { document, start, length } = segment;
        let goes_on = shards.lengths()[document as usize] - start > length;
        let count = length as usize + usize::from(goes_on);
        self.tokens.clear();
        self.mask.clear();
        shards.read(u64::from(document), u64::from(start), count, &mut self.tokens)?;
        shards.read_mask(u64::from(document), u64::from(start), count, &mut self.mask)
    }
}

fn too_many(found: u64) -> Error {
    Error::InvalidValue {
        what: "tokens of a batch".to_owned(),
        expected: "under 2^31, the range of `cu_seqlens`; ask for fewer rows at a time".to_owned(),
        found: found.to_string(),
    }
}
