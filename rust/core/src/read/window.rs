//! A part of a raw file that is in memory: readers of framed formats ask for as many bytes
//! as the next frame needs, look, and pass on. Memory grows with what was read, never
//! with what a frame claims.

use std::path::Path;

use super::raw::{Limits, Piece, RawFile};
use super::Compression;
use crate::error::Result;

/// Fewest bytes read at once.
const STEP_BYTES: usize = 1 << 20;

/// The bytes from the reader's place on.
pub(super) struct Window {
    pub(super) raw: RawFile,
    buffer: Vec<u8>,
    start: usize,
    /// Nothing follows what is in `buffer`.
    is_ended: bool,
    damage: Option<String>,
}

impl Window {
    pub(super) fn open(path: &Path, compression: Compression, limits: Limits) -> Result<Self> {
        let raw = RawFile::open_binary(path, compression, limits)?;
        Ok(Self { raw, buffer: Vec::new(), start: 0, is_ended: false, damage: None })
    }

    /// Bytes from here on: at least `count`, unless the file ends before.
    pub(super) fn fill(&mut self, count: usize) -> Result<&[u8]> {
        while !self.is_ended && self.buffer.len() - self.start < count {
            self.compact();
            let missing = (count - (self.buffer.len() - self.start)).max(STEP_BYTES);
            match self.raw.read(missing, &mut self.buffer)? {
                Piece::More => (),
                Piece::End => self.is_ended = true,
                Piece::Damaged(reason) => (self.is_ended, self.damage) = (true, Some(reason)),
            }
        }
        Ok(&self.buffer[self.start..])
    }

    /// The bytes that are in memory.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Passes `count` of the bytes in memory, or all that there are.
    pub(super) fn pass(&mut self, count: usize) {
        self.start = (self.start + count).min(self.buffer.len());
    }

    /// Offset of the reader's place in the decompressed file.
    pub(super) fn offset(&self) -> u64 {
        self.raw.offset - self.bytes().len() as u64
    }

    /// Why the file could not be decompressed to its end, once its end is reached.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Forgets what was passed, once that is most of the buffer, so each byte moves once.
    fn compact(&mut self) {
        if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }
}
