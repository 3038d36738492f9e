//! Rests of long documents, cut once more where best fit leaves more than half a percent of the slots empty.
//!
//! With few documents many rows stay open that no rest fits into. The emptiest ones of rests alone are dissolved:
//! what is of a document longer than a row, which is cut anyway, fills the room of other rows. Documents that fit
//! in a row stay where they are. Nothing is done where rows are so few that this fill cannot be reached.

use std::collections::{BTreeMap, BTreeSet};

use super::Segment;

/// Thousandths of the slots that are to be filled.
const FILL: u64 = 995;

/// Pieces are at least this share of a row, so that no rest becomes crumbs.
const PIECES_A_ROW: u32 = 32;

/// Cuts rests in `loose`, of which `row_of` has the rows; rows that are dissolved have no segment left. Returns
/// the number of cuts.
pub(super) fn level(loose: &mut Vec<Segment>, row_of: &mut Vec<u32>, lengths: &[u32], seq_len: u32) -> u64 {
    let tokens: u64 = loose.iter().map(|segment| u64::from(segment.length)).sum();
    let mut rows = row_of.iter().max().map_or(0, |last| u64::from(*last) + 1);
    let most = 1000 * tokens / (FILL * u64::from(seq_len));
    let is_reachable = tokens.div_ceil(u64::from(seq_len)) <= most;
    if rows <= most || !is_reachable || lengths.iter().all(|length| *length <= seq_len) {
        return 0;
    }
    let before = loose.len();
    let mut open = OpenRows::new(loose, row_of, lengths, seq_len);
    while rows > most && open.dissolve_emptiest(loose, row_of) {
        rows -= 1;
    }
    (loose.len() - before) as u64
}

/// A row and how many of its slots are free.
type Room = (u32, u32);

/// The rows that are not full.
struct OpenRows {
    seq_len: u32,
    rooms: BTreeSet<Room>,
    /// Those that hold nothing but rests, and where these stand in `loose`.
    rests: BTreeMap<Room, Vec<u32>>,
}

impl OpenRows {
    /// What is kept is little for a row: most may be open, and few of them of rests alone.
    fn new(loose: &[Segment], row_of: &[u32], lengths: &[u32], seq_len: u32) -> Self {
        let num_rows = row_of.iter().max().map_or(0, |last| *last as usize + 1);
        let mut rows = vec![(seq_len, true); num_rows];
        for (segment, row) in loose.iter().zip(row_of) {
            let (room, is_of_rests) = &mut rows[*row as usize];
            *room -= segment.length;
            *is_of_rests &= lengths[segment.document as usize] > seq_len;
        }
        let mut rests: BTreeMap<Room, Vec<u32>> = BTreeMap::new();
        for (at, row) in (0..).zip(row_of) {
            if let (room @ 1.., true) = rows[*row as usize] {
                rests.entry((room, *row)).or_default().push(at);
            }
        }
        let rooms = (0..).zip(rows).map(|(row, (room, _))| (room, row));
        Self { seq_len, rooms: rooms.filter(|(room, _)| *room > 0).collect(), rests }
    }

    /// Moves all of the emptiest row of rests to others; false, and nothing is moved, if these have no room for it.
    fn dissolve_emptiest(&mut self, loose: &mut Vec<Segment>, row_of: &mut Vec<u32>) -> bool {
        let Some((place, segments)) = self.rests.pop_last() else { return false };
        self.rooms.remove(&place);
        let mut rooms = self.rooms.iter().rev().copied(); // the largest first: the fewest cuts
        let parts = segments.iter().map(|at| self.parts(loose[*at as usize].length, &mut rooms));
        let Some(parts) = parts.collect::<Option<Vec<_>>>() else { return false };
        for (at, parts) in segments.into_iter().zip(parts) {
            let mut rest = loose[at as usize];
            for (index, (room, length)) in parts.into_iter().enumerate() {
                let part = Segment { length, ..rest };
                (rest.start, rest.length) = (rest.start + length, rest.length - length);
                let at = if index == 0 { at } else { loose.len() as u32 };
                loose.resize(loose.len().max(at as usize + 1), part);
                row_of.resize(loose.len(), 0);
                (loose[at as usize], row_of[at as usize]) = (part, room.1);
                self.take(room, length, at);
            }
        }
        true
    }

    /// Cuts `length` tokens to the next rooms; gives each with what it takes.
    fn parts(&self, mut length: u32, rooms: &mut impl Iterator<Item = Room>) -> Option<Vec<(Room, u32)>> {
        let least = (self.seq_len / PIECES_A_ROW).max(1);
        let mut parts = Vec::new();
        while length > 0 {
            let (room, row) = rooms.next()?;
            if room < least.min(length) {
                return None;
            }
            // What is left for the next row is no crumb either, nor what is taken so that it is none.
            let is_crumb = length > room && length - room < least;
            let taken = if is_crumb { length - least } else { room.min(length) };
            if is_crumb && taken < least {
                return None;
            }
            parts.push(((room, row), taken));
            length -= taken;
        }
        Some(parts)
    }

    /// Puts the segment that stands at `at` into a row.
    fn take(&mut self, (room, row): Room, length: u32, at: u32) {
        let rests = self.rests.remove(&(room, row)).map(|mut rests| {
            rests.push(at);
            rests
        });
        self.rooms.remove(&(room, row));
        if room > length {
            self.rooms.insert((room - length, row));
            if let Some(rests) = rests {
                self.rests.insert((room - length, row), rests);
            }
        }
    }
}
