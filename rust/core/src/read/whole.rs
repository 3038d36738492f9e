//! Plain text and Markdown: one file is one document, its text as it is.

use std::path::{Path, PathBuf};

use super::raw::{Limits, Piece, RawFile};
use super::{BadRecord, Block, Compression, Reader};
use crate::error::{Error, Result};
use crate::json;

/// Reader of `.txt`, `.md` and their compressed forms.
pub(super) struct TextReader {
    raw: RawFile,
    text_field: String,
    max_bytes: usize,
    is_done: bool,
}

impl TextReader {
    pub(super) fn open(path: &Path, compression: Compression, field: &str, limits: Limits) -> Result<Self> {
        let raw = RawFile::open(path, compression, limits)?;
        Ok(Self { raw, text_field: field.to_owned(), max_bytes: limits.max_line_bytes, is_done: false })
    }

    /// The file's text, or why there is none.
    fn text(&self, bytes: Vec<u8>, piece: Piece) -> std::result::Result<String, String> {
        check_whole(&bytes, piece, self.max_bytes)?;
        String::from_utf8(bytes)
            .map_err(|error| format!("invalid UTF-8 at byte {}", error.utf8_error().valid_up_to()))
    }

    fn line(&self, text: &str) -> Vec<u8> {
        let mut line = Vec::new();
        write_object(&[(&self.text_field, text.strip_prefix('\u{feff}').unwrap_or(text))], &mut line);
        line
    }
}

impl Reader for TextReader {
    fn next_block(&mut self) -> Result<Option<Block>> {
        if std::mem::replace(&mut self.is_done, true) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let piece = self.raw.read(self.max_bytes.saturating_add(1), &mut bytes)?;
        let mut block = Block { first_line: 1, disk_bytes: self.raw.take_disk_bytes(), ..Block::default() };
        match self.text(bytes, piece) {
            Ok(text) if text.is_empty() => (),
            Ok(text) => block.bytes = self.line(&text),
            Err(reason) => block.bad.push(BadRecord { line: 1, byte: 0, reason }),
        }
        Ok(Some(block))
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        self.raw.finish()
    }
}

/// Why a file that was read to its end, or to one byte beyond the limit, is no document.
pub(super) fn check_whole(bytes: &[u8], piece: Piece, max_bytes: usize) -> std::result::Result<(), String> {
    match piece {
        Piece::Damaged(reason) => Err(format!("the compressed data ends early or is damaged: {reason}")),
        _ if bytes.len() > max_bytes => Err(format!("the file is too long: at most {max_bytes} bytes")),
        _ => Ok(()),
    }
}

/// Appends one line of JSON: an object of strings.
pub(super) fn write_object(fields: &[(&str, &str)], out: &mut Vec<u8>) {
    let mut separator = b'{';
    for (key, value) in fields {
        out.push(separator);
        json::write_string(key, out);
        out.push(b':');
        json::write_string(value, out);
        separator = b',';
    }
    out.extend_from_slice(b"}\n");
}

/// A file of which nothing can be read: one bad record.
pub(super) struct LostFile {
    path: PathBuf,
    reason: Option<String>,
}

impl LostFile {
    pub(super) fn new(path: &Path, reason: String) -> Self {
        Self { path: path.to_owned(), reason: Some(reason) }
    }
}

impl Reader for LostFile {
    fn next_block(&mut self) -> Result<Option<Block>> {
        let Some(reason) = self.reason.take() else { return Ok(None) };
        let bad = vec![BadRecord { line: 1, byte: 0, reason }];
        Ok(Some(Block { bad, first_line: 1, ..Block::default() }))
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        let bytes = std::fs::metadata(&self.path).map_err(Error::io("read", &self.path))?.len();
        Ok((bytes, crate::manifest::sha256_file(&self.path)?))
    }
}
