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
    fn new(loose: &[Segment], row_of: &[u32], lengths: &[u32], seq_len: u32) -> Self {
        let mut rows: Vec<(u32, Vec<u32>)> = Vec::new();
        for ((at, segment), row) in (0..).zip(loose).zip(row_of) {
            rows.resize_with(rows.len().max(*row as usize + 1), || (seq_len, Vec::new()));
            let (room, rests) = &mut rows[*row as usize];
            *room -= segment.length;
            rests.push(at);
        }
        let is_long = |at: &u32| lengths[loose[*at as usize].document as usize] > seq_len;
        let open = (0..).zip(rows).filter(|(_, (room, _))| *room > 0);
        let open: BTreeMap<Room, Vec<u32>> = open.map(|(row, (room, rests))| ((room, row), rests)).collect();
        let rooms = open.keys().copied().collect();
        let rests = open.into_iter().filter(|(_, segments)| segments.iter().all(is_long)).collect();
        Self { seq_len, rooms, rests }
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
