//! Pieces of a file that are cut out one after the other and decoded side by side: what
//! costs time (extraction from pages, decompression, writing rows as JSON) is left to
//! whoever takes the piece, and the order of the pieces is that of the file.

use std::fmt;

use super::{Block, Reading};
use crate::error::Result;

/// Bytes of lines beyond which no more are added to a block that is being decoded.
pub(super) const FULL_BYTES: usize = 12 << 20;

/// A piece of a file: one block, or what one or more blocks are decoded from.
#[derive(Debug, Default)]
pub struct Unit {
    /// What is known of the piece; of its lines, those of the block decoded last.
    pub block: Block,
    undecoded: Undecoded,
    /// Bytes that are held for it, or that its lines will take if that is more.
    num_bytes: usize,
}

#[derive(Default)]
struct Undecoded(Option<Box<dyn Decode>>);

impl fmt::Debug for Undecoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "undecoded" } else { "decoded" })
    }
}

/// What is left to decode of a unit. It is whole in itself: units are decoded in any order.
pub(super) trait Decode: Send {
    /// Adds lines, bad and skipped records to a block that has none, and sets its first line.
    /// True if there is more than fitted into it.
    fn decode(&mut self, block: &mut Block) -> bool;

    /// Bytes of the longest record in it, as far as they are known.
    fn longest_bytes(&self) -> usize;
}

impl From<Block> for Unit {
    fn from(block: Block) -> Self {
        Self { num_bytes: block.bytes.len(), block, undecoded: Undecoded(None) }
    }
}

impl Unit {
    /// A unit whose lines are decoded later; `block` says what is known before.
    pub(super) fn later(block: Block, num_bytes: usize, decoder: impl Decode + 'static) -> Self {
        Self { block, undecoded: Undecoded(Some(Box::new(decoder))), num_bytes }
    }

    /// Bytes that it takes while it waits, and about as many that its lines take after.
    pub fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    /// Bytes of the longest record that is still to be decoded, as far as they are known.
    pub fn longest_bytes(&self) -> usize {
        self.undecoded.0.as_ref().map_or(0, |decoder| decoder.longest_bytes())
    }

    /// True if [`Unit::decode`] would give lines that the block has not held yet.
    pub fn is_undecoded(&self) -> bool {
        self.undecoded.0.is_some()
    }

    /// Puts the next lines into the block, in place of those it has; `spare` is memory for them.
    pub fn decode(&mut self, spare: &mut Vec<u8>) {
        let Some(mut decoder) = self.undecoded.0.take() else { return };
        if self.block.bytes.capacity() == 0 {
            self.block.bytes = std::mem::take(spare);
        }
        self.block.bytes.clear();
        self.block.is_partial = decoder.decode(&mut self.block);
        self.undecoded.0 = self.block.is_partial.then_some(decoder);
    }
}

/// A file that is read from front to back.
pub struct Reader {
    reading: Box<dyn Reading>,
    /// Of which not all blocks were given.
    open: Unit,
    spare: Vec<u8>,
}

impl Reader {
    pub(super) fn new(reading: Box<dyn Reading>) -> Self {
        Self { reading, open: Unit::default(), spare: Vec::new() }
    }

    /// The next unit, or `None` at the end.
    pub fn next_unit(&mut self) -> Result<Option<Unit>> {
        self.reading.next_unit()
    }

    /// The next block, decoded here, or `None` at the end.
    pub fn next_block(&mut self) -> Result<Option<Block>> {
        if !self.open.is_undecoded() {
            let Some(unit) = self.next_unit()? else { return Ok(None) };
            self.open = unit;
        }
        self.open.decode(&mut self.spare);
        self.open.block.refused.take().map_or(Ok(()), Err)?;
        let Block { file, number, content, .. } = self.open.block;
        let next = Block { file, number, content, ..Block::default() };
        Ok(Some(std::mem::replace(&mut self.open.block, next)))
    }

    /// Takes back the memory of a block, for another.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.reading.recycle(bytes);
    }

    /// Size and SHA-256 of the file, after its last block.
    pub fn finish(&mut self) -> Result<(u64, String)> {
        self.reading.finish()
    }
}
