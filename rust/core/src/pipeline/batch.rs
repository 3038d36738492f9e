//! What one block becomes: the part of the work that needs no order.

use std::ops::Range;

use memchr::memchr_iter;

use crate::config::PrepConfig;
use crate::document::{Fallback, Record};
use crate::json::Fault;
use crate::ledger::Counts;
use crate::profile::{Profile, Scratch};
use crate::read::{self, BadRecord, Block, Input};

/// Prepares blocks; shared by all threads.
pub(super) struct Preparer {
    profile: Profile,
    text_field: String,
    max_line_bytes: usize,
    /// File name and source of each input.
    names: Vec<(String, String)>,
}

/// A prepared block.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) file: usize,
    /// Number of the block in its file.
    pub(super) number: usize,
    pub(super) bad: Vec<BadRecord>,
    pub(super) disk_bytes: u64,
    pub(super) content: u128,
    /// What was read, rejected and quarantined; what is kept is not known yet.
    pub(super) counts: Counts,
    /// Lines of the documents that may be kept, one after the other.
    lines: Vec<u8>,
    ngrams: Vec<u128>,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    line: Range<usize>,
    ngrams: Range<usize>,
    text_bytes: u64,
}

/// A document that deduplication has still to judge.
pub(super) struct Candidate<'b> {
    pub(super) line: &'b [u8],
    pub(super) ngrams: &'b [u128],
    pub(super) text_bytes: u64,
}

impl Batch {
    /// Forgets the last block, and keeps the memory.
    fn begin(&mut self, block: &Block) {
        (self.file, self.number) = (block.file, block.number);
        (self.disk_bytes, self.content) = (block.disk_bytes, block.content);
        (self.counts, self.bad) = (Counts::default(), Vec::new());
        self.lines.clear();
        self.lines.reserve(block.bytes.len() + block.bytes.len() / 16);
        self.ngrams.clear();
        self.spans.clear();
    }

    pub(super) fn documents(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.spans.iter().map(|span| Candidate {
            line: &self.lines[span.line.clone()],
            ngrams: &self.ngrams[span.ngrams.clone()],
            text_bytes: span.text_bytes,
        })
    }
}

/// A line and where it stands.
struct Line<'b> {
    bytes: &'b [u8],
    number: u64,
    byte: u64,
}

impl Preparer {
    pub(super) fn new(profile: Profile, config: &PrepConfig, inputs: &[Input]) -> Self {
        let names = inputs.iter().map(|input| (read::file_name(&input.path), read::source_name(&input.path)));
        Self {
            profile,
            text_field: config.text_field.clone(),
            max_line_bytes: config.max_line_bytes,
            names: names.collect(),
        }
    }

    /// Prepares the lines of a block into `batch`; what is bad goes to its quarantine, in order of lines.
    pub(super) fn prepare(&self, block: &mut Block, scratch: &mut Scratch, batch: &mut Batch) {
        batch.begin(block);
        let num_unread = block.bad.len() as u64;
        for line in lines(block).filter(|line| !line.bytes.trim_ascii().is_empty()) {
            batch.counts.read += 1;
            if let Err(fault) = self.prepare_line(&line, scratch, batch) {
                batch.bad.push(bad_record(&line, &fault));
            }
        }
        batch.bad.append(&mut block.bad);
        batch.bad.sort_by_key(|bad| bad.line);
        batch.counts.read += num_unread;
        for (kind, count) in std::mem::take(&mut block.skipped) {
            batch.counts.read += count;
            batch.counts.skip(kind, count);
        }
        batch.counts.count_pii(&scratch.take_pii_counts());
        batch.counts.quarantined = batch.bad.len() as u64;
        if let Some(counts) = block.counts.take() {
            batch.counts = counts; // a part of a run has counted these lines before
        }
    }

    fn prepare_line(&self, line: &Line, scratch: &mut Scratch, batch: &mut Batch) -> Result<(), Fault> {
        if line.bytes.len() > self.max_line_bytes {
            return Err(too_long(line.bytes.len(), self.max_line_bytes));
        }
        let record = Record::parse(line.bytes, &self.text_field)?;
        let first_ngram = batch.ngrams.len();
        match self.profile.prepare(&record.text, scratch, &mut batch.ngrams) {
            Err(reason) => batch.counts.reject(reason.name(), 1),
            Ok(text) => {
                let start = batch.lines.len();
                let changed = matches!(text, std::borrow::Cow::Owned(_)).then_some(&*text);
                record.write(changed, self.fallback(batch.file, line.number), &mut batch.lines);
                let text_bytes = text.len() as u64;
                let (line, ngrams) = (start..batch.lines.len(), first_ngram..batch.ngrams.len());
                batch.spans.push(Span { line, ngrams, text_bytes });
            }
        }
        Ok(())
    }

    fn fallback(&self, file: usize, line: u64) -> Fallback<'_> {
        let (file_name, source) = &self.names[file];
        Fallback { file_name, line, source }
    }
}

fn too_long(found: usize, limit: usize) -> Fault {
    Fault { at: 0, reason: format!("the line is too long: at most {limit} bytes, found {found}").into() }
}

fn bad_record(line: &Line, fault: &Fault) -> BadRecord {
    let reason = match fault.at {
        0 => fault.reason.to_string(),
        at => format!("{} at byte {at} of the line", fault.reason),
    };
    BadRecord { line: line.number, byte: line.byte, reason }
}

/// The lines of a block, without their ends; only `\n` ends a line.
fn lines(block: &Block) -> impl Iterator<Item = Line<'_>> {
    let ends = memchr_iter(b'\n', &block.bytes).chain(std::iter::once(block.bytes.len()));
    let mut start = 0;
    ends.zip(block.first_line..).map(move |(end, number)| {
        let line = Line {
            bytes: &block.bytes[start..end],
            number,
            byte: block.first_byte.map_or(0, |first| first + start as u64),
        };
        start = end + 1;
        line
    })
}
