//! JSON lines, cut into blocks at line ends; only `\n` ends a line.

use std::path::Path;

use memchr::{memchr, memchr_iter, memrchr};

use super::raw::{Limits, Piece, RawFile};
use super::{BadRecord, Block, Compression, Reading, Unit, BLOCK_BYTES};
use crate::error::Result;

/// The mark that some editors write before UTF-8 text.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Reader of `.jsonl` and its compressed forms.
pub(super) struct LineReader {
    raw: RawFile,
    max_line_bytes: usize,
    /// The beginning of a line whose end has not been read.
    carry: Vec<u8>,
    /// Memory of blocks that are done with.
    spare: Vec<Vec<u8>>,
    /// 1-based number of the line in `carry`.
    line: u64,
    is_done: bool,
}

impl LineReader {
    pub(super) fn open(path: &Path, compression: Compression, limits: Limits) -> Result<Self> {
        let raw = RawFile::open(path, compression, limits)?;
        let (carry, spare, max_line_bytes) = (Vec::new(), Vec::new(), limits.max_line_bytes);
        Ok(Self { raw, max_line_bytes, carry, spare, line: 1, is_done: false })
    }

    /// Takes the whole lines out of `bytes`; what follows them is carried over.
    fn cut(&mut self, mut bytes: Vec<u8>, first_byte: u64, piece: Piece) -> Block {
        let mut block = Block { first_line: self.line, first_byte: Some(first_byte), ..Block::default() };
        let end = memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        self.line += memchr_iter(b'\n', &bytes[..end]).count() as u64;
        if piece == Piece::More {
            self.carry.extend_from_slice(&bytes[end..]);
            bytes.truncate(end);
        } else {
            self.is_done = true;
        }
        if let Piece::Damaged(reason) = piece {
            bytes.truncate(end);
            block.bad.push(BadRecord { line: self.line, byte: first_byte + end as u64, reason });
        }
        block.bytes = bytes;
        strip_bom(&mut block);
        block
    }

    /// Passes the rest of a line that is too long, without holding it.
    fn skip_line(&mut self, start: u64) -> Result<Block> {
        let mut bytes = self.spare.pop().unwrap_or_default();
        let (end, piece) = loop {
            bytes.clear();
            let piece = self.raw.read(BLOCK_BYTES, &mut bytes)?;
            let end = memchr(b'\n', &bytes);
            if end.is_some() || piece != Piece::More {
                break (end, piece);
            }
        };
        self.is_done = end.is_none();
        self.carry.extend_from_slice(end.map_or(&[], |at| &bytes[at + 1..]));
        let length = self.raw.offset - self.carry.len() as u64 - start;
        let reason = format!("the line is too long: at most {} bytes, found {length}", self.max_line_bytes);
        let bad = BadRecord { line: self.line, byte: start, reason };
        self.line += 1;
        // What follows in this piece is a block of its own, so its end is not lost.
        let ended = self.is_done || piece == Piece::More;
        let rest = if ended { None } else { Some(self.rest(piece)) };
        let mut block = rest.unwrap_or_default();
        block.bad.insert(0, bad);
        Ok(block)
    }

    fn rest(&mut self, piece: Piece) -> Block {
        let bytes = self.take_carry();
        let first_byte = self.raw.offset - bytes.len() as u64;
        self.cut(bytes, first_byte, piece)
    }

    /// What was carried over, in memory that a block had before.
    fn take_carry(&mut self) -> Vec<u8> {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.append(&mut self.carry);
        bytes
    }
}

impl Reading for LineReader {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        if self.is_done {
            return Ok(None);
        }
        let mut bytes = self.take_carry();
        let first_byte = self.raw.offset - bytes.len() as u64;
        let mut searched = 0; // no line ends before this byte
        let block = loop {
            make_room(&mut bytes);
            let piece = self.raw.read(BLOCK_BYTES, &mut bytes)?;
            if piece != Piece::More || memchr(b'\n', &bytes[searched..]).is_some() {
                break self.cut(bytes, first_byte, piece);
            }
            searched = bytes.len();
            if bytes.len() > self.max_line_bytes {
                drop(bytes);
                break self.skip_line(first_byte)?;
            }
        };
        let Block { disk_bytes, content, .. } = self.raw.block();
        Ok(Some(Block { disk_bytes, content, ..block }.into()))
    }

    fn recycle(&mut self, bytes: Vec<u8>) {
        // What one long line made large is given back to the system.
        if bytes.capacity() <= 4 * BLOCK_BYTES {
            self.spare.push(bytes);
        }
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        self.raw.finish()
    }
}

/// Makes room for another block: by a quarter of what is held, so that a line is moved a few times however long it is.
fn make_room(bytes: &mut Vec<u8>) {
    if bytes.capacity() - bytes.len() < BLOCK_BYTES {
        bytes.reserve_exact(BLOCK_BYTES.max(bytes.len() / 4));
    }
}

fn strip_bom(block: &mut Block) {
    if block.first_byte == Some(0) && block.bytes.starts_with(BOM) {
        block.bytes.drain(..BOM.len());
        block.first_byte = Some(BOM.len() as u64);
    }
}
