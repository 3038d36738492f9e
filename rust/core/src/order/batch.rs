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

/// Tokens below which a batch is filled by the thread that asks for it: waking another costs more.
const MIN_TOKENS_TO_SHARE: usize = 1 << 16;

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
    arrays: Arrays<'a>,
}

/// Arrays with one entry a token.
struct Arrays<'a> {
    input_ids: &'a mut [i64],
    labels: &'a mut [i64],
    position_ids: &'a mut [i64],
    weights: &'a mut [f32],
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
}

impl Order {
    /// The rows `first_row..first_row + num_rows` of a step (all that follow if `None`).
    ///
    /// # Errors
    /// `InvalidValue` for a step or rows out of range, `Integrity` for damaged shards.
    pub fn batch(&self, step: u64, first_row: u64, num_rows: Option<u64>) -> Result<Batch> {
        let mut batch = Batch::default();
        self.batch_into(step, first_row, num_rows, &mut batch)?;
        Ok(batch)
    }

    /// The same in the memory of a batch that is no longer wanted.
    ///
    /// # Errors
    /// Those of `batch`, after which the batch holds nothing of use.
    pub fn batch_into(
        &self,
        step: u64,
        first_row: u64,
        num_rows: Option<u64>,
        batch: &mut Batch,
    ) -> Result<()> {
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
        batch.outline(rows)?;
        batch.fill(rows, first_row, |source| &self.sources[source as usize].shards)
    }
}

impl Batch {
    /// Writes everything that is known without reading tokens, and gives the token arrays their size.
    fn outline(&mut self, rows: &[Row<'_>]) -> Result<()> {
        self.cu_seqlens.clear();
        self.documents.clear();
        self.sources.clear();
        self.cu_seqlens.push(0);
        let mut tokens: u64 = 0;
        for (source, segments) in rows {
            for segment in *segments {
                tokens += u64::from(segment.length);
                self.cu_seqlens.push(i32::try_from(tokens).map_err(|_| too_many(tokens))?);
                self.documents.push(i64::from(segment.document));
                self.sources.push(i32::try_from(*source).map_err(|_| too_many(u64::from(*source)))?);
            }
        }
        let tokens = tokens as usize;
        self.input_ids.resize(tokens, 0);
        self.labels.resize(tokens, IGNORE);
        self.position_ids.resize(tokens, 0);
        self.weights.resize(tokens, 0.0);
        Ok(())
    }

    /// Reads the rows, large batches on all threads, each into its own part of the arrays.
    fn fill<'a>(
        &mut self,
        rows: &[Row<'_>],
        first_row: u64,
        shards: impl Fn(u32) -> &'a TokenShards + Sync,
    ) -> Result<()> {
        let share = self.input_ids.len() >= MIN_TOKENS_TO_SHARE;
        let fill = |scratch: &mut Scratch, slot: Slot<'_>| {
            let shards = shards(slot.row.0);
            slot.fill(shards, scratch)
        };
        let slots = self.split(rows, first_row);
        self.ids_hash = if share {
            let hashes = slots.into_par_iter().map_init(Scratch::default, fill);
            hashes.try_reduce(|| 0, |sum, hash| Ok(sum.wrapping_add(hash)))?
        } else {
            let mut scratch = Scratch::default();
            let mut hashes = slots.into_iter().map(|slot| fill(&mut scratch, slot));
            hashes.try_fold(0u64, |sum, hash| Ok::<_, Error>(sum.wrapping_add(hash?)))?
        };
        Ok(())
    }

    fn split<'a>(&'a mut self, rows: &[Row<'a>], first_row: u64) -> Vec<Slot<'a>> {
        let mut rest = Arrays {
            input_ids: &mut self.input_ids,
            labels: &mut self.labels,
            position_ids: &mut self.position_ids,
            weights: &mut self.weights,
        };
        let mut slots = Vec::with_capacity(rows.len());
        for (row, number) in rows.iter().zip(first_row..) {
            let tokens = row.1.iter().map(|segment| segment.length as usize).sum();
            let (arrays, behind) = rest.split_at(tokens);
            slots.push(Slot { number, row: *row, arrays });
            rest = behind;
        }
        slots
    }
}

impl Slot<'_> {
    /// Fills the slot and returns the hash of its ids.
    fn fill(self, shards: &TokenShards, scratch: &mut Scratch) -> Result<u64> {
        let mut hasher = Xxh3::with_seed(self.number);
        let mut rest = self.arrays;
        for segment in self.row.1 {
            let length = segment.length as usize;
            scratch.read(shards, *segment)?;
            hasher.update(&segment.length.to_le_bytes());
            hasher.update(bytemuck::cast_slice(&scratch.tokens[..length]));
            let (arrays, behind) = rest.split_at(length);
            arrays.fill(scratch);
            rest = behind;
        }
        Ok(hasher.digest())
    }
}

impl Arrays<'_> {
    /// Writes a segment; `scratch` holds its tokens and, if the document goes on, the next one.
    fn fill(self, scratch: &Scratch) {
        let length = self.input_ids.len();
        for (slot, id) in self.input_ids.iter_mut().zip(&scratch.tokens) {
            *slot = i64::from(*id);
        }
        for (slot, position) in self.position_ids.iter_mut().zip(0..) {
            *slot = position;
        }
        let targets = scratch.tokens.len() - 1; // the last slot of a document has none
        for (label, id) in self.labels.iter_mut().zip(&scratch.tokens[1..]) {
            *label = i64::from(*id);
        }
        self.labels[targets..length].fill(IGNORE);
        self.weights[..targets].fill(1.0);
        self.weights[targets..length].fill(0.0);
        if !scratch.mask.is_empty() {
            self.hide(&scratch.mask[1..]);
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

impl Scratch {
    /// Reads the tokens of a segment and, if the document goes on, the next one; the mask if there is one.
    fn read(&mut self, shards: &TokenShards, segment: Segment) -> Result<()> {
        let Segment { document, start, length } = segment;
        let goes_on = shards.lengths()[document as usize] - start > length;
        let count = length as usize + usize::from(goes_on);
        self.tokens.clear();
        self.mask.clear();
        shards.read(u64::from(document), u64::from(start), count, &mut self.tokens)?;
        if shards.content().has_mask {
            shards.read_mask(u64::from(document), u64::from(start), count, &mut self.mask)?;
        }
        Ok(())
    }
}

fn too_many(found: u64) -> Error {
    Error::InvalidValue {
        what: "tokens of a batch".to_owned(),
        expected: "under 2^31, the range of `cu_seqlens`; ask for fewer rows at a time".to_owned(),
        found: found.to_string(),
    }
}
