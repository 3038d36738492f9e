//! Best-fit decreasing (Johnson et al. 1974; for training, Ding et al. 2024, "Fewer
//! Truncations Improve Language Modeling").
//!
//! In each window the pieces are sorted by length, and each goes to the open row with the
//! least room that holds it: `O(log seq_len)` a piece. Rows left open stay open for later
//! windows. A document longer than a row is cut at row length and its rest is packed like
//! any other; what fits is never cut. A pair stays together, or is dropped. Where this fills
//! less than 99.5 % of the slots, rests are cut once more ([`level`]).

use std::collections::BTreeMap;
use std::ops::Range;

use super::level::level;
use super::{PackReport, Packing, Segment, Strategy};

/// Packs documents (or pairs, with two `documents_per_unit`) in windows of `window` units.
pub(super) fn pack(lengths: &[u32], documents_per_unit: usize, seq_len: u32, window: usize) -> Packing {
    let mut packer = Packer::new(seq_len);
    if documents_per_unit == 1 {
        let num_pieces: u64 = lengths.iter().map(|length| u64::from(length.div_ceil(seq_len))).sum();
        packer.loose.reserve_exact(num_pieces as usize);
        packer.row_of.reserve_exact(num_pieces as usize);
    }
    let per_window = window.saturating_mul(documents_per_unit);
    for (index, documents) in lengths.chunks(per_window).enumerate() {
        let pieces = packer.pieces(documents, (index * per_window) as u32, documents_per_unit);
        packer.place(pieces);
    }
    if documents_per_unit == 1 {
        packer.report.cuts += level(&mut packer.loose, &mut packer.row_of, lengths, seq_len);
    }
    packer.finish()
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
        let report =
            PackReport { packing: Strategy::BestFit, seq_len: seq_len as usize, ..PackReport::default() };
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
    fn finish(self) -> Packing {
        let mut ends = vec![0u32; self.rows as usize + 1];
        for row in &self.row_of {
            ends[*row as usize + 1] += 1;
        }
        for row in 1..ends.len() {
            ends[row] += ends[row - 1];
        }
        let Self { loose: mut segments, row_of: mut places, report, .. } = self;
        for place in &mut places {
            let slot = &mut ends[*place as usize];
            *place = *slot;
            *slot += 1;
        }
        put_in_place(&mut segments, &mut places);
        ends.pop();
        ends.dedup(); // rows that were dissolved
        if ends.first() == Some(&0) {
            ends.remove(0);
        }
        Packing::counted(segments, ends, report)
    }
}

/// Moves each segment to its place, without a copy of them all.
fn put_in_place(segments: &mut [Segment], places: &mut [u32]) {
    for at in 0..places.len() {
        while places[at] as usize != at {
            let place = places[at] as usize;
            segments.swap(at, place);
            places.swap(at, place);
        }
    }
}
