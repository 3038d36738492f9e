//! Files that are one document each: plain text and Markdown as they are, and the main text of
//! HTML pages.

use std::path::{Path, PathBuf};

use super::raw::{Limits, Piece, RawFile};
use super::unit::Decode;
use super::{charset, html, BadRecord, Block, Compression, Reading, Unit};
use crate::error::{Error, Result};
use crate::json;

/// Reader of `.txt`, `.md`, `.html` and their compressed forms.
pub(super) struct FileReader {
    raw: RawFile,
    text_field: String,
    max_bytes: usize,
    is_html: bool,
    is_done: bool,
}

/// A file that was read and has no line yet.
struct Document {
    bytes: Vec<u8>,
    text_field: String,
    is_html: bool,
}

impl FileReader {
    pub(super) fn open_text(path: &Path, named: Compression, field: &str, limits: Limits) -> Result<Self> {
        Ok(Self::new(RawFile::open(path, named, limits)?, field, limits, false))
    }

    pub(super) fn open_html(path: &Path, named: Compression, field: &str, limits: Limits) -> Result<Self> {
        Ok(Self::new(RawFile::open_binary(path, named, limits)?, field, limits, true))
    }

    fn new(raw: RawFile, field: &str, limits: Limits, is_html: bool) -> Self {
        Self { raw, text_field: field.to_owned(), max_bytes: limits.max_line_bytes, is_html, is_done: false }
    }
}

impl Reading for FileReader {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        if std::mem::replace(&mut self.is_done, true) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let piece = self.raw.read(self.max_bytes.saturating_add(1), &mut bytes)?;
        let mut block = Block { first_line: 1, ..self.raw.block() };
        if let Err(reason) = check_whole(&bytes, piece, self.max_bytes) {
            block.bad.push(BadRecord { line: 1, byte: 0, reason });
            return Ok(Some(block.into()));
        }
        let (num_bytes, text_field) = (bytes.len(), self.text_field.clone());
        Ok(Some(Unit::later(block, num_bytes, Document { bytes, text_field, is_html: self.is_html })))
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        self.raw.finish()
    }
}

impl Decode for Document {
    fn decode(&mut self, block: &mut Block) -> bool {
        if self.bytes.is_empty() {
            return false; // nothing is no document, and nothing bad
        }
        if self.is_html {
            self.write_page(&mut block.bytes);
        } else if let Err(reason) = self.write_text(&mut block.bytes) {
            block.bad.push(BadRecord { line: 1, byte: 0, reason });
        }
        false
    }

    fn longest_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Document {
    fn write_text(&self, out: &mut Vec<u8>) -> std::result::Result<(), String> {
        let text = simdutf8::compat::from_utf8(&self.bytes)
            .map_err(|error| format!("invalid UTF-8 at byte {}", error.valid_up_to()))?;
        write_object(&[(&self.text_field, text.strip_prefix('\u{feff}').unwrap_or(text))], out);
        Ok(())
    }

    fn write_page(&mut self, out: &mut Vec<u8>) {
        let bytes = std::mem::take(&mut self.bytes);
        let decoded = charset::decode(&bytes, None, true);
        drop(bytes); // the page is held once while it is taken apart
        let page = html::extract(&decoded.text);
        let mut fields = vec![("title", &*page.title), ("charset", decoded.charset)];
        fields.retain(|(name, _)| *name != self.text_field);
        fields.push((&self.text_field, &page.text));
        write_object(&fields, out);
    }
}

/// Why a file that was read to its end, or to one byte beyond the limit, is no document.
fn check_whole(bytes: &[u8], piece: Piece, max_bytes: usize) -> std::result::Result<(), String> {
    match piece {
        Piece::Damaged(reason) => Err(reason),
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

impl Reading for LostFile {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        let Some(reason) = self.reason.take() else { return Ok(None) };
        let bad = vec![BadRecord { line: 1, byte: 0, reason }];
        Ok(Some(Block { bad, first_line: 1, ..Block::default() }.into()))
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        let bytes = std::fs::metadata(&self.path).map_err(Error::io("read", &self.path))?.len();
        Ok((bytes, super::blake3_file(&self.path, &|| false)?))
    }
}
