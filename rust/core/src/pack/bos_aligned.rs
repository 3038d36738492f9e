//! Best fit with aligned beginnings: every row begins with the beginning of a document and
//! is full.
//!
//! A row takes the longest document that waits, then whatever fits best into the room that is
//! left. Where nothing fits, a piece is cut so that the row is full; its rest waits for the
//! room behind other beginnings. nanochat's loader drops these rests (35 % of all tokens by its
//! own count); here they are placed as long as there are beginnings to place them behind.

use std::collections::{BTreeMap, VecDeque};

use super::{Packing, Rows, Segment, Strategy};

/// Packs documents while looking at most `window` of them ahead.
pub(super) fn pack(lengths: &[u32], seq_len: u32, window: usize) -> Packing {
    let mut packer = Packer {
        lengths,
        window,
        read: 0,
        rows: Rows::new(Strategy::BosAligned, seq_len),
        heads: Waiting::default(),
        rests: Waiting::default(),
    };
    while let Some(head) = packer.look_ahead().take_longest() {
        packer.fill_row(head);
    }
    packer.finish()
}

/// Pieces by length; those of equal length are taken in the order in which they came.
#[derive(Default)]
struct Waiting {
    by_length: BTreeMap<u32, VecDeque<Segment>>,
    count: usize,
}

impl Waiting {
    fn put(&mut self, segment: Segment) {
        self.by_length.entry(segment.length).or_default().push_back(segment);
        self.count += 1;
    }

    fn take(&mut self, length: u32) -> Option<Segment> {
        let queue = self.by_length.get_mut(&length)?;
        let segment = queue.pop_front();
        if queue.is_empty() {
            self.by_length.remove(&length);
        }
        self.count -= usize::from(segment.is_some());
        segment
    }

    fn take_longest(&mut self) -> Option<Segment> {
        self.take(*self.by_length.last_key_value()?.0)
    }

    fn take_shortest(&mut self) -> Option<Segment> {
        self.take(*self.by_length.first_key_value()?.0)
    }

    /// Length of the longest piece that takes at most `room`.
    fn best(&self, room: u32) -> u32 {
        self.by_length.range(..=room).next_back().map_or(0, |(length, _)| *length)
    }
}

struct Packer<'a> {
    lengths: &'a [u32],
    /// Documents that may wait.
    window: usize,
    /// Documents that have waited or wait.
    read: usize,
    rows: Rows,
    heads: Waiting,
    rests: Waiting,
}

impl Packer<'_> {
    /// The documents that wait, as many as may.
    fn look_ahead(&mut self) -> &mut Waiting {
        while self.heads.count < self.window && self.read < self.lengths.len() {
            let length = self.lengths[self.read];
            if length > 0 {
                self.heads.put(Segment { document: self.read as u32, start: 0, length });
            }
            self.read += 1;
        }
        &mut self.heads
    }

    fn fill_row(&mut self, head: Segment) {
        self.rows.begin();
        self.place(head);
        while self.rows.room > 0 {
            let Some(next) = self.next(self.rows.room) else { break };
            self.place(next);
        }
    }

    /// What fills `room` best: a rest rather than a document of the same length, which can begin a row;
    /// where nothing fits, the longest rest, then the shortest document.
    fn next(&mut self, room: u32) -> Option<Segment> {
        let (rest, head) = (self.rests.best(room), self.look_ahead().best(room));
        if rest.max(head) == 0 {
            return self.rests.take_longest().or_else(|| self.heads.take_shortest());
        }
        if rest >= head {
            self.rests.take(rest)
        } else {
            self.heads.take(head)
        }
    }

    /// Puts a piece into the last row; what does not fit waits.
    fn place(&mut self, piece: Segment) {
        let length = piece.length.min(self.rows.room);
        self.rows.push(Segment { length, ..piece });
        if length < piece.length {
            self.rows.count_cut(self.lengths[piece.document as usize]);
            self.rests.put(Segment { start: piece.start + length, length: piece.length - length, ..piece });
        }
    }

    fn finish(mut self) -> Packing {
        for (length, queue) in &self.rests.by_length {
            self.rows.report.dropped_units += queue.len() as u64;
            self.rows.report.dropped_tokens += u64::from(*length) * queue.len() as u64;
        }
        self.rows.finish()
    }
}
