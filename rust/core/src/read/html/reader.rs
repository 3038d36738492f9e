//! HTML files: one file is one document, its main text.

use std::path::Path;

use super::super::charset;
use super::super::raw::{Limits, Piece, RawFile};
use super::super::whole::{check_whole, write_object};
use super::super::{BadRecord, Block, Compression, Reader};
use super::extract;
use crate::error::Result;

/// Reader of `.html`, `.htm` and their compressed forms.
pub(in crate::read) struct HtmlReader {
    raw: RawFile,
    text_field: String,
    max_bytes: usize,
    is_done: bool,
}

impl HtmlReader {
    pub(in crate::read) fn open(
        path: &Path,
        named: Compression,
        field: &str,
        limits: Limits,
    ) -> Result<Self> {
        let raw = RawFile::open_binary(path, named, limits)?;
        Ok(Self { raw, text_field: field.to_owned(), max_bytes: limits.max_line_bytes, is_done: false })
    }

    fn line(&self, bytes: &[u8], piece: Piece) -> std::result::Result<Vec<u8>, String> {
        check_whole(bytes, piece, self.max_bytes)?;
        let decoded = charset::decode(bytes, None, true);
        let page = extract(&decoded.text);
        let mut line = Vec::new();
        let fields =
            [("title", &*page.title), ("charset", decoded.charset), (&*self.text_field, &*page.text)];
        write_object(&fields, &mut line);
        Ok(line)
    }
}

impl Reader for HtmlReader {
    fn next_block(&mut self) -> Result<Option<Block>> {
        if std::mem::replace(&mut self.is_done, true) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let piece = self.raw.read(self.max_bytes.saturating_add(1), &mut bytes)?;
        let mut block = Block { first_line: 1, disk_bytes: self.raw.take_disk_bytes(), ..Block::default() };
        if bytes.is_empty() && piece == Piece::End {
            return Ok(Some(block));
        }
        match self.line(&bytes, piece) {
            Ok(line) => block.bytes = line,
            Err(reason) => block.bad.push(BadRecord { line: 1, byte: 0, reason }),
        }
        Ok(Some(block))
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        self.raw.finish()
    }
}
