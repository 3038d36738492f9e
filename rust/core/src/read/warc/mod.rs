//! WARC files (ISO 28500) and what is made of them: pages of `response` and `resource`, text of
//! `conversion` (WET). Records of other kinds hold no text of their own and are skipped.
//!
//! Every record takes a number, so that places can be told; one that is skipped or bad leaves
//! an empty line. A record is bad for itself only: behind it the next one is looked for.

mod header;
mod http;
mod payload;
mod record;

use std::path::Path;

use super::raw::Limits;
use super::unit::{Decode, FULL_BYTES};
use super::window::Window;
use super::{BadRecord, Block, Compression, Reading, Unit, BLOCK_BYTES};
use crate::error::Result;
use record::{Outcome, Record};

/// Longest header of a record; those of Common Crawl take one or two kilobytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// How a record begins.
const MARK: &[u8] = b"WARC/";

/// Reader of `.warc`, `.wet` and their compressed forms.
pub(super) struct WarcReader {
    window: Window,
    text_field: String,
    limits: Limits,
    /// 1-based number of the next record.
    number: u64,
    /// Offset before which no header ends.
    endless: u64,
    is_done: bool,
}

/// A record that was cut out of the file, or why it could not be.
struct Cut {
    byte: u64,
    record: std::result::Result<Record, String>,
}

impl WarcReader {
    pub(super) fn open(path: &Path, compression: Compression, field: &str, limits: Limits) -> Result<Self> {
        let window = Window::open(path, compression, limits)?;
        Ok(Self { window, text_field: field.to_owned(), limits, number: 1, endless: 0, is_done: false })
    }

    /// The next record; `None` at the end of the file.
    fn next_record(&mut self) -> Result<Option<Cut>> {
        self.pass_line_ends()?;
        let byte = self.window.offset();
        if self.window.bytes().is_empty() {
            self.is_done = true;
            let reason = self.window.damage().map(str::to_owned);
            return Ok(reason.map(|reason| Cut { byte, record: Err(reason) }));
        }
        let record = match self.next_header(byte)? {
            Ok(header) => self.block_of(header)?,
            Err(reason) => {
                self.window.pass(1);
                self.find_next()?;
                Err(self.damage_or(reason))
            }
        };
        Ok(Some(Cut { byte, record }))
    }

    /// The header that begins here, at `byte`, and is passed if it is whole.
    fn next_header(&mut self, byte: u64) -> Result<std::result::Result<header::Header, String>> {
        let head = self.window.fill(MAX_HEADER_BYTES)?;
        let head = &head[..head.len().min(MAX_HEADER_BYTES)];
        if let Err(reason) = header::check_version(head) {
            return Ok(Err(reason));
        }
        let Some(length) = header::end_after(head, self.endless.saturating_sub(byte) as usize) else {
            self.endless = byte + head.len() as u64;
            return Ok(Err(format!("the header has no end within {} bytes", head.len())));
        };
        let header = header::fields(&head[..length]);
        self.window.pass(length);
        Ok(Ok(header))
    }

    /// The record of `header`, whose block begins here.
    fn block_of(&mut self, header: header::Header) -> Result<std::result::Result<Record, String>> {
        let Some(length) = header.content_length() else {
            self.find_next()?;
            return Ok(Err("no `Content-Length`, or one that is no number".to_owned()));
        };
        if length > self.limits.max_line_bytes as u64 {
            return self.long_record(header, length);
        }
        let length = length as usize;
        self.window.fill(length + 16)?; // line ends and the next mark
        if !self.ends_at(length) && !self.is_closed(length) {
            let is_whole = self.window.bytes().len() >= length;
            self.find_next()?;
            let reason = if is_whole { "wrong `Content-Length`" } else { "the file ends inside the record" };
            return Ok(Err(self.damage_or(reason.to_owned())));
        }
        let block = if header.holds_text() { self.window.bytes()[..length].to_vec() } else { Vec::new() };
        self.window.pass(length);
        Ok(Ok(Record { header, block }))
    }

    /// What becomes of a record whose block is too long to be held: its beginning tells one that holds no text.
    fn long_record(
        &mut self,
        header: header::Header,
        length: u64,
    ) -> Result<std::result::Result<Record, String>> {
        let head = if header.holds_text() { self.window.fill(MAX_HEADER_BYTES)? } else { &[] };
        let record = Record { header, block: head[..head.len().min(MAX_HEADER_BYTES)].to_vec() };
        let max_bytes = self.limits.max_line_bytes;
        if self.pass_far(length)? {
            return Ok(Err("wrong `Content-Length`".to_owned()));
        }
        let too_long = || format!("the record is too long: at most {max_bytes} bytes, found {length}");
        Ok(if record.is_skipped(self.limits) { Ok(record) } else { Err(too_long()) })
    }

    /// True if behind `length` bytes the file ends, or the next record begins after line ends.
    fn ends_at(&self, length: usize) -> bool {
        let Some(rest) = self.window.bytes().get(length..) else { return false };
        let (ends, rest) = (rest.len() - skip_line_ends(rest).len(), skip_line_ends(rest));
        rest.starts_with(MARK) || rest.is_empty() && (self.window.damage().is_none() || ends >= 4)
    }

    /// True if behind `length` bytes two line ends stand, as the standard has it, and no record begins within them:
    /// then what follows is damaged, and not this record.
    fn is_closed(&self, length: usize) -> bool {
        let Some((block, rest)) = self.window.bytes().split_at_checked(length) else { return false };
        (rest.starts_with(b"\r\n\r\n") || rest.starts_with(b"\n\n")) && find_mark(block).is_none()
    }

    /// Passes everything before the next record.
    fn find_next(&mut self) -> Result<()> {
        loop {
            let bytes = self.window.fill(BLOCK_BYTES)?;
            let length = bytes.len();
            if let Some(at) = find_mark(bytes) {
                self.window.pass(at);
                return Ok(());
            }
            if length < BLOCK_BYTES {
                self.window.pass(length);
                return Ok(());
            }
            self.window.pass(length - MARK_LINE_BYTES); // a mark may be cut here
        }
    }

    /// Passes a block that is too long to be held. True if it ends before its length at the next record: a
    /// wrong length of gigabytes must not cost all that stand in them.
    fn pass_far(&mut self, length: u64) -> Result<bool> {
        let mut left = length;
        while left > 0 {
            let wanted = left.min(BLOCK_BYTES as u64) as usize;
            let bytes = self.window.fill(wanted)?;
            let bytes = &bytes[..bytes.len().min(wanted)];
            let next = find_marks(bytes).find(|at| ends_empty_line(&bytes[..*at]));
            if let Some(at) = next {
                self.window.pass(at);
                return Ok(true);
            }
            let is_last = bytes.len() < BLOCK_BYTES; // elsewhere a mark may be cut here
            let count = if is_last { bytes.len() } else { bytes.len() - MARK_LINE_BYTES };
            left = if bytes.len() < wanted { 0 } else { left - count as u64 };
            self.window.pass(count);
        }
        self.pass_line_ends()?;
        if !self.window.bytes().is_empty() && !self.window.bytes().starts_with(MARK) {
            self.find_next()?;
        }
        Ok(false)
    }

    fn pass_line_ends(&mut self) -> Result<()> {
        loop {
            let bytes = self.window.fill(MARK_LINE_BYTES)?;
            let count = bytes.len() - skip_line_ends(bytes).len();
            if count == 0 {
                return Ok(());
            }
            self.window.pass(count);
        }
    }

    /// The damage of the file, if that is what cut the record short, or else `reason`.
    fn damage_or(&mut self, reason: String) -> String {
        match self.window.damage() {
            Some(damage) if self.window.bytes().is_empty() => {
                self.is_done = true; // the damage was told; once is enough
                damage.to_owned()
            }
            _ => reason,
        }
    }

    /// Records for a unit, and the bytes of their blocks.
    fn next_records(&mut self) -> Result<(Vec<Cut>, usize)> {
        let (mut cuts, mut bytes) = (Vec::new(), 0);
        while !self.is_done && bytes < BLOCK_BYTES && cuts.len() < BLOCK_BYTES / 1024 {
            let Some(cut) = self.next_record()? else { break };
            bytes += cut.record.as_ref().map_or(0, |record| record.block.len());
            cuts.push(cut);
        }
        Ok((cuts, bytes))
    }
}

impl Reading for WarcReader {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        let (cuts, num_bytes) = self.next_records()?;
        if cuts.is_empty() {
            return Ok(None);
        }
        let (number, limits, text_field) = (self.number, self.limits, self.text_field.clone());
        self.number += cuts.len() as u64;
        let records = Records { cuts: cuts.into_iter(), number, text_field, limits };
        Ok(Some(Unit::later(self.window.raw.block(), num_bytes, records)))
    }

    fn finish(&mut self) -> Result<(u64, String)> {
        self.window.raw.finish()
    }
}

/// Records of which the text is not extracted yet.
struct Records {
    cuts: std::vec::IntoIter<Cut>,
    /// 1-based number of the next.
    number: u64,
    text_field: String,
    limits: Limits,
}

impl Decode for Records {
    fn decode(&mut self, block: &mut Block) -> bool {
        block.first_line = self.number;
        for cut in self.cuts.by_ref() {
            match cut.record.map_or_else(Outcome::Bad, |record| record.outcome(&self.text_field, self.limits))
            {
                Outcome::Line(line) => block.bytes.extend(line),
                Outcome::Skipped(kind) => *block.skipped.entry(kind).or_default() += 1,
                Outcome::Bad(reason) => {
                    block.bad.push(BadRecord { line: self.number, byte: cut.byte, reason });
                }
            }
            block.bytes.push(b'\n'); // alone, it keeps the number of a record without a line
            self.number += 1;
            if block.bytes.len() > FULL_BYTES {
                break; // compressed payloads can hold a thousand times more
            }
        }
        !self.cuts.as_slice().is_empty()
    }

    fn longest_bytes(&self) -> usize {
        let records = self.cuts.as_slice().iter().filter_map(|cut| cut.record.as_ref().ok());
        records.map(|record| record.block.len()).max().unwrap_or(0)
    }
}

/// Longest line that can begin with a mark: `\nWARC/1.1`.
const MARK_LINE_BYTES: usize = 16;

/// Where the next record begins.
fn find_mark(bytes: &[u8]) -> Option<usize> {
    find_marks(bytes).next()
}

/// Where records may begin: at marks that begin a line and are followed by a digit.
fn find_marks(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    memchr::memmem::find_iter(bytes, MARK).filter(|at| {
        let begins_line = *at > 0 && bytes[at - 1] == b'\n';
        begins_line && bytes.get(at + MARK.len()).is_none_or(u8::is_ascii_digit)
    })
}

/// True if an empty line stands last.
fn ends_empty_line(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\n\n") || bytes.ends_with(b"\n\r\n")
}

fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let count = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    &bytes[count..]
}
