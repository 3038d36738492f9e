//! What one block becomes: the part of the work that needs no order.

use std::ops::Range;

use memchr::memchr_iter;

use super::samples::{self, Sample};
use super::without_text::WithoutText;
use crate::config::PrepConfig;
use crate::document::{Fallback, Record};
use crate::funnel::Size;
use crate::inspect::{measure, Sampling, Values};
use crate::json::Fault;
use crate::ledger::Counts;
use crate::profile::{Profile, Scratch};
use crate::read::{self, BadRecord, Block, Input};

/// Prepares blocks; shared by all threads.
pub(super) struct Preparer {
    profile: Profile,
    text_field: String,
    max_line_bytes: usize,
    /// Which documents are measured.
    sampling: Sampling,
    /// The path of each input, as it was given.
    paths: Vec<String>,
    /// File name and source of each input.
    names: Vec<(String, String)>,
}

/// A prepared block.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) file: usize,
    /// Number of the unit in its file.
    pub(super) number: usize,
    /// More of the unit follows.
    pub(super) is_partial: bool,
    pub(super) bad: Vec<BadRecord>,
    pub(super) disk_bytes: u64,
    pub(super) content: u128,
    /// What was read, rejected and quarantined; what is kept is not known yet.
    pub(super) counts: Counts,
    /// The features of the documents that are measured, and whether they pass.
    pub(super) measured: Vec<(Values, bool)>,
    /// The first documents rejected for each reason; not masked yet.
    pub(super) samples: Vec<Sample>,
    /// Records that lack the text field.
    pub(super) without_text: WithoutText,
    /// Lines of the documents that may be kept, one after the other.
    lines: Vec<u8>,
    ngrams: Vec<u128>,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    line: Range<usize>,
    ngrams: Range<usize>,
    size: Size,
}

/// A document that deduplication has still to judge.
pub(super) struct Candidate<'b> {
    pub(super) line: &'b [u8],
    pub(super) ngrams: &'b [u128],
    pub(super) size: Size,
}

impl Batch {
    /// Forgets the last block, and keeps the memory.
    fn begin(&mut self, block: &mut Block) {
        (self.file, self.number, self.is_partial) = (block.file, block.number, block.is_partial);
        (self.disk_bytes, self.content) = (std::mem::take(&mut block.disk_bytes), block.content);
        (self.counts, self.bad) = (Counts::default(), Vec::new());
        self.samples.clear();
        self.without_text = WithoutText::default();
        self.measured.clear();
        self.lines.clear();
        self.lines.reserve(block.bytes.len() + block.bytes.len() / 16);
        self.ngrams.clear();
        self.spans.clear();
    }

    pub(super) fn documents(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.spans.iter().map(|span| Candidate {
            line: &self.lines[span.line.clone()],
            ngrams: &self.ngrams[span.ngrams.clone()],
            size: span.size,
        })
    }
}

/// A line and where it stands.
pub(crate) struct Line<'b> {
    pub(crate) bytes: &'b [u8],
    pub(crate) number: u64,
    byte: u64,
}

impl<'b> Line<'b> {
    /// True if there is no record on it.
    pub(crate) fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }

    /// The record of the line.
    pub(crate) fn record(&self, text_field: &str, max_line_bytes: usize) -> Result<Record<'b>, Fault> {
        if self.bytes.len() > max_line_bytes {
            return Err(too_long(self.bytes.len(), max_line_bytes));
        }
        Record::parse(self.bytes, text_field)
    }
}

impl Preparer {
    pub(super) fn new(profile: Profile, config: &PrepConfig, inputs: &[Input], sampling: Sampling) -> Self {
        let names = inputs.iter().map(|input| (read::file_name(&input.path), read::source_name(&input.path)));
        Self {
            profile,
            sampling,
            text_field: config.text_field.clone(),
            max_line_bytes: config.max_line_bytes,
            paths: inputs.iter().map(|input| input.path.display().to_string()).collect(),
            names: names.collect(),
        }
    }

    /// Prepares the lines of a block into `batch`; what is bad goes to its quarantine, in order of lines.
    pub(super) fn prepare(&self, block: &mut Block, scratch: &mut Scratch, batch: &mut Batch) {
        batch.begin(block);
        let num_unread = block.bad.len() as u64;
        for line in lines(block).filter(|line| !line.is_blank()) {
            batch.counts.read += 1;
            if let Err(fault) = self.prepare_line(&line, scratch, batch) {
                batch.without_text.see(&line, &fault, &self.text_field);
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
        batch.counts.funnel = self.profile.take_funnel(scratch);
        batch.counts.quarantined = batch.bad.len() as u64;
        if let Some(counts) = block.counts.take() {
            batch.counts = counts; // a part of a run has counted these lines before
        }
    }

    fn prepare_line(&self, line: &Line, scratch: &mut Scratch, batch: &mut Batch) -> Result<(), Fault> {
        let (record, number) = (line.record(&self.text_field, self.max_line_bytes)?, line.number);
        let first_ngram = batch.ngrams.len();
        let prepared = self.profile.prepare(&record.text, scratch, &mut batch.ngrams);
        let is_kept = prepared.is_ok();
        match prepared {
            Err(reason) => {
                batch.counts.reject(reason.name(), 1);
                self.sample(reason.name(), line, &record, batch);
            }
            Ok(text) => {
                let start = batch.lines.len();
                let changed = matches!(text, std::borrow::Cow::Owned(_)).then_some(&*text);
                record.write(changed, self.fallback(batch.file, line.number), &mut batch.lines);
                let size = scratch.gauge().document();
                let (line, ngrams) = (start..batch.lines.len(), first_ngram..batch.ngrams.len());
                batch.spans.push(Span { line, ngrams, size });
            }
        }
        if self.sampling.takes(batch.file, number) {
            batch.measured.push((measure(&record.text, scratch.views()), is_kept));
        }
        Ok(())
    }

    fn sample(&self, reason: &str, line: &Line, record: &Record, batch: &mut Batch) {
        if samples::is_full(&batch.samples, reason) {
            return;
        }
        let (reason, file) = (reason.to_owned(), self.paths[batch.file].clone());
        let id = record.id(self.fallback(batch.file, line.number));
        let text = samples::excerpt(&record.text).to_owned();
        batch.samples.push(Sample { reason, file, line: Some(line.number), id, text });
    }

    fn fallback(&self, file: usize, line: u64) -> Fallback<'_> {
        let (file_name, source) = &self.names[file];
        Fallback { file_name, line, source }
    }
}

fn too_long(found: usize, limit: usize) -> Fault {
    Fault { at: 0, reason: format!("the line is too long: at most {limit} bytes, found {found}").into() }
}

pub(crate) fn bad_record(line: &Line, fault: &Fault) -> BadRecord {
    let reason = match fault.at {
        0 => fault.reason.to_string(),
        at => format!("{} at byte {at} of the line", fault.reason),
    };
    BadRecord { line: line.number, byte: line.byte, reason }
}

/// The lines of a block, without their ends; only `\n` ends a line.
pub(crate) fn lines(block: &Block) -> impl Iterator<Item = Line<'_>> {
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
