//! The tokens of some rows as the shards store them: what is read, before arrays are made of it.

use rayon::prelude::*;
use xxhash_rust::xxh3::{xxh3_64, Xxh3};

use super::{Order, Row};
use crate::error::{Error, Result};
use crate::shard::TokenShards;

/// Tokens below which rows are read by the thread that asks for them: waking another costs more.
pub(super) const MIN_TOKENS_TO_SHARE: usize = 1 << 16;

/// Some rows of a step, one after another, in 4 to 5 bytes a token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowTokens {
    /// Start of each segment, and the end of the last: segments + 1 entries.
    pub cu_seqlens: Vec<i32>,
    /// Number of each segment's document in its source.
    pub documents: Vec<i64>,
    /// Number of each segment's source.
    pub sources: Vec<i32>,
    /// Hash of the ids that were read; those of the parts of a step add up, modulo 2^64, to the step's.
    ///
    /// The sum, over rows, of the XXH3-64 of the row's segments, each as its length and its ids in
    /// little-endian u32, seeded with the row's number in its step.
    pub ids_hash: u64,
    /// Ids of each segment and, if its document goes on behind it, the next one.
    ids: Vec<u32>,
    /// Whether each of `ids` is supervised; empty if all are.
    supervised: Vec<u8>,
    /// Start of each segment in `ids`, and the end of the last.
    starts: Vec<usize>,
}

/// The rolling hash of all steps so far: XXH3-64 of the one before and a step's `ids_hash`, little-endian.
pub fn roll(previous: u64, ids_hash: u64) -> u64 {
    xxh3_64(&[previous.to_le_bytes(), ids_hash.to_le_bytes()].concat())
}

/// A row, and the part of the memory that it fills.
struct Slot<'a> {
    shards: &'a TokenShards,
    /// Number of the row in its step.
    number: u64,
    row: Row<'a>,
    /// Starts of the row's segments, and of what is behind them.
    starts: &'a [usize],
    ids: &'a mut [u32],
    supervised: &'a mut [u8],
}

impl Order {
    /// Reads the rows `first_row..first_row + num_rows` of a step (all that follow if `None`) into memory
    /// that may have been used before.
    ///
    /// # Errors
    /// `InvalidValue` for a step or rows out of range, `Integrity` for damaged shards; the memory then holds
    /// nothing of use.
    pub fn read_into(
        &self,
        step: u64,
        first_row: u64,
        num_rows: Option<u64>,
        memory: &mut RowTokens,
    ) -> Result<()> {
        let rows = &self.some_rows(step, first_row, num_rows)?[..];
        let shards = |source: u32| &self.sources[source as usize].shards;
        memory.outline(rows, shards)?;
        memory.fill(rows, first_row, shards)
    }
}

impl RowTokens {
    /// Tokens of all rows.
    pub fn num_tokens(&self) -> usize {
        self.cu_seqlens.last().map_or(0, |end| end.cast_unsigned() as usize)
    }

    /// Segments of all rows.
    pub fn num_segments(&self) -> usize {
        self.documents.len()
    }

    /// Tokens of a segment, those of its document only that lie in it.
    pub(super) fn length(&self, segment: usize) -> usize {
        (self.cu_seqlens[segment + 1] - self.cu_seqlens[segment]).cast_unsigned() as usize
    }

    /// Ids of a segment and, if the document goes on, the next one.
    pub(super) fn ids(&self, segment: usize) -> &[u32] {
        &self.ids[self.starts[segment]..self.starts[segment + 1]]
    }

    /// Whether each of `ids` is supervised; `None` if all are.
    pub(super) fn supervised(&self, segment: usize) -> Option<&[u8]> {
        self.supervised.get(self.starts[segment]..self.starts[segment + 1])
    }

    /// Writes what is known without reading tokens, and gives the memory its size.
    fn outline<'a>(&mut self, rows: &[Row<'_>], shards: impl Fn(u32) -> &'a TokenShards) -> Result<()> {
        self.clear();
        let (mut tokens, mut has_mask) = (0_u64, false);
        for (source, segments) in rows {
            let shards = shards(*source);
            has_mask |= shards.content().has_mask;
            for segment in *segments {
                let goes_on = shards.lengths()[segment.document as usize] - segment.start > segment.length;
                tokens += u64::from(segment.length);
                self.cu_seqlens.push(i32::try_from(tokens).map_err(|_| too_many(tokens))?);
                self.documents.push(i64::from(segment.document));
                self.sources.push(i32::try_from(*source).map_err(|_| too_many(u64::from(*source)))?);
                self.starts.push(tokens as usize + usize::from(goes_on) + self.spare_ids());
            }
        }
        let ids = self.starts[self.starts.len() - 1];
        self.ids.resize(ids, 0);
        self.supervised.resize(if has_mask { ids } else { 0 }, 1);
        Ok(())
    }

    fn clear(&mut self) {
        self.cu_seqlens.clear();
        self.documents.clear();
        self.sources.clear();
        self.starts.clear();
        self.cu_seqlens.push(0);
        self.starts.push(0);
    }

    /// Ids so far that are no tokens of the rows: those behind segments whose documents go on.
    fn spare_ids(&self) -> usize {
        let segments = self.starts.len() - 1;
        self.starts[segments] - self.cu_seqlens[segments].cast_unsigned() as usize
    }

    /// Reads the rows, many tokens on all threads.
    fn fill<'a>(
        &mut self,
        rows: &[Row<'_>],
        first_row: u64,
        shards: impl Fn(u32) -> &'a TokenShards,
    ) -> Result<()> {
        let share = self.ids.len() >= MIN_TOKENS_TO_SHARE;
        let slots = self.split(rows, first_row, shards);
        self.ids_hash = if share {
            let hashes = slots.into_par_iter().map(Slot::fill);
            hashes.try_reduce(|| 0, |sum, hash| Ok(sum.wrapping_add(hash)))?
        } else {
            let mut hashes = slots.into_iter().map(Slot::fill);
            hashes.try_fold(0_u64, |sum, hash| Ok::<_, Error>(sum.wrapping_add(hash?)))?
        };
        Ok(())
    }

    fn split<'a, 's: 'a>(
        &'a mut self,
        rows: &[Row<'a>],
        first_row: u64,
        shards: impl Fn(u32) -> &'s TokenShards,
    ) -> Vec<Slot<'a>> {
        let (mut ids, mut supervised) = (&mut self.ids[..], &mut self.supervised[..]);
        let (mut starts, mut slots) = (&self.starts[..], Vec::with_capacity(rows.len()));
        for (row, number) in rows.iter().zip(first_row..) {
            let own = &starts[..=row.1.len()];
            starts = &starts[row.1.len()..];
            let count = own[row.1.len()] - own[0];
            let (own_ids, ids_behind) = ids.split_at_mut(count);
            let (own_mask, mask_behind) = supervised.split_at_mut(count.min(supervised.len()));
            (ids, supervised) = (ids_behind, mask_behind);
            let (ids, supervised) = (own_ids, own_mask);
            slots.push(Slot { shards: shards(row.0), number, row: *row, starts: own, ids, supervised });
        }
        slots
    }
}

impl Slot<'_> {
    /// Fills the slot and returns the hash of its ids.
    fn fill(self) -> Result<u64> {
        let mut hasher = Xxh3::with_seed(self.number);
        for (segment, bounds) in self.row.1.iter().zip(self.starts.windows(2)) {
            let range = bounds[0] - self.starts[0]..bounds[1] - self.starts[0];
            let (document, start) = (u64::from(segment.document), u64::from(segment.start));
            let ids = &mut self.ids[range.clone()];
            self.shards.read(document, start, ids)?;
            if let Some(supervised) = self.supervised.get_mut(range) {
                self.shards.read_mask(document, start, supervised)?;
            }
            hasher.update(&segment.length.to_le_bytes());
            hasher.update(bytemuck::cast_slice(&ids[..segment.length as usize]));
        }
        Ok(hasher.digest())
    }
}

fn too_many(found: u64) -> Error {
    Error::InvalidValue {
        what: "tokens of a batch".to_owned(),
        expected: "under 2^31, the range of `cu_seqlens`; ask for fewer rows at a time".to_owned(),
        found: found.to_string(),
    }
}
