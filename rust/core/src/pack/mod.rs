//! Best-fit decreasing packing of documents into rows (Johnson et al. 1974; for training,
//! Ding et al. 2024, "Fewer Truncations Improve Language Modeling").
//!
//! Units, a document or a pair, come in windows. In each window the pieces are sorted by
//! length, and each goes to the open row with the least room that holds it: `O(log seq_len)` a
//! piece. Rows left open stay open for later windows. A document longer than a row is cut
//! at row length, counted, and its rest is packed like any other; what fits is never cut.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use crate::error::{Error, Result};

/// Units sorted together. Larger fills no better on real corpora and costs memory.
pub const WINDOW_UNITS: usize = 16_384;

/// Part of a document that takes `length` slots of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Number of the document in its source.
    pub document: u32,
    /// First token.
    pub start: u32,
    /// Tokens.
    pub length: u32,
}

/// What packing did, in numbers that add up: `tokens + dropped_tokens` is what came in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PackReport {
    /// Slots of a row.
    pub seq_len: usize,
    /// Rows.
    pub rows: u64,
    /// Segments in all rows.
    pub segments: u64,
    /// Tokens in all rows.
    pub tokens: u64,
    /// Share of the slots that hold a token, in [0, 1].
    pub fill_fraction: f64,
    /// Places where a document longer than a row was cut.
    pub cuts: u64,
    /// Pairs left out because they are longer than a row.
    pub dropped_units: u64,
    /// Their tokens.
    pub dropped_tokens: u64,
}

/// Documents packed into rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    segments: Vec<Segment>,
    /// End of each row in `segments`.
    ends: Vec<u32>,
    report: PackReport,
}

impl Packing {
    /// Packs documents of the given lengths into rows of `seq_len` slots, in windows of `window` units.
    ///
    /// With two documents a unit, a pair lies in one row, adjacent and in order.
    ///
    /// # Errors
    /// `InvalidValue` if `seq_len`, `window` or `documents_per_unit` is 0, or there are 2^32 documents.
    pub fn new(lengths: &[u32], documents_per_unit: usize, seq_len: usize, window: usize) -> Result<Self> {
        check("seq_len", seq_len)?;
        check("window", window)?;
        check("documents_per_unit", documents_per_unit)?;
        check("documents", lengths.len().max(1))?;
        let mut packer = Packer::new(seq_len as u32);
        let per_window = window.saturating_mul(documents_per_unit);
        for (index, documents) in lengths.chunks(per_window).enumerate() {
            let pieces = packer.pieces(documents, (index * per_window) as u32, documents_per_unit);
            packer.place(pieces);
        }
        Ok(packer.finish())
    }

    /// Number of rows.
    pub fn num_rows(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Segments of a row; empty for a number out of range.
    pub fn row(&self, row: u64) -> &[Segment] {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.ends.get(row - 1).copied().unwrap_or(0) };
        self.ends.get(row).map_or(&[], |end| &self.segments[start as usize..*end as usize])
    }

    /// Tokens of a row.
    pub fn row_tokens(&self, row: u64) -> u64 {
        self.row(row).iter().map(|segment| u64::from(segment.length)).sum()
    }

    /// What packing did.
    pub fn report(&self) -> &PackReport {
        &self.report
    }
}

fn check(what: &str, found: usize) -> Result<()> {
    if (1..=u32::MAX as usize).contains(&found) {
        return Ok(());
    }
    let expected = format!("1 to {}", u32::MAX);
    Err(Error::InvalidValue { what: what.to_owned(), expected, found: found.to_string() })
}

/// Segments that stay together in one row, as a range of `Packer::loose`.
struct Piece {
    length: u32,
    segments: Range<usize>,
}

struct Packer {
    seq_len: u32,
    /// Segments in the order in which they were cut.
    loose: Vec<Segment>,
    /// Row of each loose segment.
    row_of: Vec<u32>,
    rows: u32,
    /// Open rows by the room they have.
    open: BTreeMap<u32, Vec<u32>>,
    report: PackReport,
}

impl Packer {
    fn new(seq_len: u32) -> Self {
        let report = PackReport { seq_len: seq_len as usize, ..PackReport::default() };
        Self { seq_len, loose: Vec::new(), row_of: Vec::new(), rows: 0, open: BTreeMap::new(), report }
    }

    /// Pieces of the documents of a window, the longest first; equals in input order.
    fn pieces(&mut self, lengths: &[u32], first: u32, per_unit: usize) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(lengths.len());
        for (unit, lengths) in lengths.chunks(per_unit).enumerate() {
            let document = first + (unit * per_unit) as u32;
            if per_unit == 1 {
                self.cut(document, lengths[0], &mut pieces);
            } else {
                self.keep_together(document, lengths, &mut pieces);
            }
        }
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.length));
        pieces
    }

    fn cut(&mut self, document: u32, tokens: u32, pieces: &mut Vec<Piece>) {
        self.report.cuts += u64::from(tokens.div_ceil(self.seq_len).saturating_sub(1));
        for start in (0..tokens).step_by(self.seq_len as usize) {
            let length = self.seq_len.min(tokens - start);
            let at = self.loose.len();
            self.loose.push(Segment { document, start, length });
            pieces.push(Piece { length, segments: at..at + 1 });
        }
    }

    fn keep_together(&mut self, document: u32, lengths: &[u32], pieces: &mut Vec<Piece>) {
        let tokens: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        if tokens > u64::from(self.seq_len) {
            self.report.dropped_units += 1;
            self.report.dropped_tokens += tokens;
            return;
        }
        let at = self.loose.len();
        self.loose.extend(lengths.iter().zip(document..).map(|(length, document)| Segment {
            document,
            start: 0,
            length: *length,
        }));
        pieces.push(Piece { length: tokens as u32, segments: at..self.loose.len() });
    }

    fn place(&mut self, pieces: Vec<Piece>) {
        self.row_of.resize(self.loose.len(), 0);
        for piece in pieces {
            let row = self.take_room(piece.length);
            self.row_of[piece.segments].fill(row);
        }
    }

    /// The fullest open row with room for `length`, or a new one.
    fn take_room(&mut self, length: u32) -> u32 {
        let best = self.open.range(length..).next().map(|(room, _)| *room);
        let open = best.and_then(|room| Some((room, self.open.get_mut(&room)?.pop()?)));
        let (room, row) = open.unwrap_or_else(|| {
            self.rows += 1;
            (self.seq_len, self.rows - 1)
        });
        if self.open.get(&room).is_some_and(Vec::is_empty) {
            self.open.remove(&room);
        }
        if room > length {
            self.open.entry(room - length).or_default().push(row);
        }
        row
    }

    /// Gathers the segments row by row: a counting sort, stable within a row.
    fn finish(mut self) -> Packing {
        let mut ends = vec![0u32; self.rows as usize + 1];
        for row in &self.row_of {
            ends[*row as usize + 1] += 1;
        }
        for row in 1..ends.len() {
            ends[row] += ends[row - 1];
        }
        let mut segments = self.loose.clone();
        for (segment, row) in self.loose.iter().zip(&self.row_of) {
            let slot = &mut ends[*row as usize];
            segments[*slot as usize] = *segment;
            *slot += 1;
        }
        ends.pop();
        self.report.rows = u64::from(self.rows);
        self.report.segments = segments.len() as u64;
        self.report.tokens = segments.iter().map(|segment| u64::from(segment.length)).sum();
        let slots = self.report.rows as f64 * f64::from(self.seq_len);
        self.report.fill_fraction = if slots > 0.0 { self.report.tokens as f64 / slots } else { 0.0 };
        Packing { segments, ends, report: self.report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every (document, token) of all rows, sorted.
    fn tokens_of(packing: &Packing) -> Vec<(u32, u32)> {
        let rows = (0..packing.num_rows()).flat_map(|row| packing.row(row));
        let mut tokens: Vec<(u32, u32)> =
            rows.flat_map(|s| (s.start..s.start + s.length).map(|token| (s.document, token))).collect();
        tokens.sort_unstable();
        tokens
    }

    proptest! {
        #[test]
        fn no_token_is_lost_or_doubled_and_no_row_is_over_full(
            lengths in proptest::collection::vec(1u32..300, 0..200), seq_len in 1usize..120, window in 1usize..50,
        ) {
            let packing = Packing::new(&lengths, 1, seq_len, window).unwrap();
            let expected: Vec<(u32, u32)> =
                lengths.iter().zip(0..).flat_map(|(length, d)| (0..*length).map(move |t| (d, t))).collect();
            prop_assert_eq!(tokens_of(&packing), expected);
            for row in 0..packing.num_rows() {
                prop_assert!((1..=seq_len as u64).contains(&packing.row_tokens(row)));
            }
        }

        #[test]
        fn a_document_that_fits_a_row_is_never_cut(
            lengths in proptest::collection::vec(1u32..100, 1..100), seq_len in 1usize..120,
        ) {
            let packing = Packing::new(&lengths, 1, seq_len, 16).unwrap();
            let expected: u64 = lengths.iter().map(|length| u64::from((length - 1) / seq_len as u32)).sum();
            prop_assert_eq!(packing.report().cuts, expected);
            prop_assert_eq!(packing.report().segments, lengths.len() as u64 + expected);
        }

        #[test]
        fn pairs_stay_adjacent_in_one_row_and_oversize_pairs_are_counted(
            pairs in proptest::collection::vec((1u32..80, 1u32..80), 1..80), seq_len in 1usize..120,
        ) {
            let lengths: Vec<u32> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
            let packing = Packing::new(&lengths, 2, seq_len, 16).unwrap();
            for row in 0..packing.num_rows() {
                for pair in packing.row(row).chunks(2) {
                    prop_assert_eq!((pair[0].document % 2, pair[0].document + 1), (0, pair[1].document));
                }
            }
            let report = packing.report();
            prop_assert_eq!(report.tokens + report.dropped_tokens, u64::from(lengths.iter().sum::<u32>()));
            prop_assert_eq!(report.segments / 2 + report.dropped_units, pairs.len() as u64);
        }
    }

    #[test]
    fn a_setting_of_zero_is_an_error() {
        assert!(matches!(Packing::new(&[1], 1, 0, 1), Err(Error::InvalidValue { .. })));
        assert!(matches!(Packing::new(&[1], 1, 1, 0), Err(Error::InvalidValue { .. })));
    }

    #[test]
    fn short_documents_fill_2048_slots_to_99_5_percent() {
        let lengths: Vec<u32> = (0..40_000u32).map(|i| 20 + i.wrapping_mul(2_654_435_761) % 1500).collect();
        let report = Packing::new(&lengths, 1, 2048, WINDOW_UNITS).unwrap().report().clone();
        assert!(report.fill_fraction >= 0.995, "{report:?}");
        assert_eq!(report.cuts, 0);
    }
}
