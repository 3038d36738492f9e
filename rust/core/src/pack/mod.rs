//! Packing: which documents lie in which row, decided once for all rows of a source.
//!
//! Three strategies share one result. Each has its file: [`best_fit`] never cuts a document
//! that fits in a row, [`concat`] fills every slot and cuts wherever a row ends, [`bos_aligned`]
//! fills every slot and begins every row with the beginning of a document. Whatever a strategy
//! cuts or drops is counted; documents of a row never see each other, in all of them.

mod best_fit;
mod bos_aligned;
mod concat;
mod level;

use serde::Serialize;

use crate::error::{Error, Result};

/// Units sorted together. Larger fills no better on real corpora and costs memory.
pub const WINDOW_UNITS: usize = 16_384;

/// Part of a document that takes `length` slots of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Number of the document in its source.
    pub document: u32,
    /// First token.
    pub start: u32,
    /// Tokens.
    pub length: u32,
}

/// How documents are laid into rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Best-fit decreasing: only documents longer than a row are cut, and these as often as 99.5 % of the slots need.
    #[default]
    BestFit,
    /// Documents one after another, cut at the end of every row (GPT-3 and most pre-training since).
    Concat,
    /// Every row begins with the beginning of a document and is full (nanochat's loader).
    BosAligned,
}

impl Strategy {
    /// Every strategy with the name that configurations use.
    pub const NAMES: [(&'static str, Self); 3] =
        [("best-fit", Self::BestFit), ("concat", Self::Concat), ("bos-aligned", Self::BosAligned)];

    /// The strategy of a name.
    ///
    /// # Errors
    /// `UnknownName`.
    pub fn named(name: &str) -> Result<Self> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, strategy)| *strategy).ok_or_else(|| {
            let names = Self::NAMES.map(|(name, _)| name);
            Error::unknown_name("packing", name, &names)
        })
    }
}

/// What packing did, in numbers that add up: `tokens + dropped_tokens` is what came in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PackReport {
    /// How documents were laid into rows.
    pub packing: Strategy,
    /// Slots of a row.
    pub seq_len: usize,
    /// Rows.
    pub rows: u64,
    /// Segments in all rows.
    pub segments: u64,
    /// Tokens in all rows.
    pub tokens: u64,
    /// Share of the slots that hold a token, in [0, 1].
    pub fill_fraction: f64,
    /// Places where a document was cut.
    pub cuts: u64,
    /// Those of them in documents that would fit in a row.
    pub short_cuts: u64,
    /// Pairs left out because they are longer than a row, or rests of documents for which no row had room.
    pub dropped_units: u64,
    /// Their tokens.
    pub dropped_tokens: u64,
}

/// Documents packed into rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    segments: Vec<Segment>,
    /// End of each row in `segments`.
    ends: Vec<u32>,
    report: PackReport,
}

impl Packing {
    /// Packs documents of the given lengths into rows of `seq_len` slots, looking at `window` units at a time.
    ///
    /// With two documents a unit, a pair lies in one row, adjacent and in order.
    ///
    /// # Errors
    /// `InvalidValue` if `seq_len`, `window` or `documents_per_unit` is 0, if there are 2^32 documents, or if
    /// pairs are to be packed by a strategy that cuts.
    pub fn new(
        lengths: &[u32],
        documents_per_unit: usize,
        seq_len: usize,
        strategy: Strategy,
        window: usize,
    ) -> Result<Self> {
        check("seq_len", seq_len)?;
        check("window", window)?;
        check("documents_per_unit", documents_per_unit)?;
        check("documents", lengths.len().max(1))?;
        if documents_per_unit > 1 && strategy != Strategy::BestFit {
            return Err(Error::InvalidValue {
                what: "packing of pairs".to_owned(),
                expected: "`best-fit`, which keeps a pair together".to_owned(),
                found: format!("{strategy:?}"),
            });
        }
        let seq_len = seq_len as u32;
        Ok(match strategy {
            Strategy::BestFit => best_fit::pack(lengths, documents_per_unit, seq_len, window),
            Strategy::Concat => concat::pack(lengths, seq_len),
            Strategy::BosAligned => bos_aligned::pack(lengths, seq_len, window),
        })
    }

    /// A packing of which all is known but the totals.
    fn counted(segments: Vec<Segment>, ends: Vec<u32>, mut report: PackReport) -> Self {
        report.rows = ends.len() as u64;
        report.segments = segments.len() as u64;
        report.tokens = segments.iter().map(|segment| u64::from(segment.length)).sum();
        let slots = report.rows as f64 * report.seq_len as f64;
        report.fill_fraction = if slots > 0.0 { report.tokens as f64 / slots } else { 0.0 };
        Self { segments, ends, report }
    }

    /// Number of rows.
    pub fn num_rows(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Segments of a row; empty for a number out of range.
    pub fn row(&self, row: u64) -> &[Segment] {
        let row = row as usize;
        let start = if row == 0 { 0 } else { self.ends.get(row - 1).copied().unwrap_or(0) };
        self.ends.get(row).map_or(&[], |end| &self.segments[start as usize..*end as usize])
    }

    /// Tokens of a row.
    pub fn row_tokens(&self, row: u64) -> u64 {
        self.row(row).iter().map(|segment| u64::from(segment.length)).sum()
    }

    /// What packing did.
    pub fn report(&self) -> &PackReport {
        &self.report
    }
}

fn check(what: &str, found: usize) -> Result<()> {
    if (1..=u32::MAX as usize).contains(&found) {
        return Ok(());
    }
    let expected = format!("1 to {}", u32::MAX);
    Err(Error::InvalidValue { what: what.to_owned(), expected, found: found.to_string() })
}

/// Rows under construction, one after another.
struct Rows {
    segments: Vec<Segment>,
    ends: Vec<u32>,
    seq_len: u32,
    /// Free slots of the last row; 0 before the first.
    room: u32,
    report: PackReport,
}

impl Rows {
    fn new(packing: Strategy, seq_len: u32) -> Self {
        let report = PackReport { packing, seq_len: seq_len as usize, ..PackReport::default() };
        Self { segments: Vec::new(), ends: Vec::new(), seq_len, room: 0, report }
    }

    /// Begins a row.
    fn begin(&mut self) {
        self.ends.push(self.segments.len() as u32);
        self.room = self.seq_len;
    }

    /// Puts a segment behind those of the last row, which has room for it.
    fn push(&mut self, segment: Segment) {
        self.room -= segment.length;
        self.segments.push(segment);
        if let Some(end) = self.ends.last_mut() {
            *end += 1;
        }
    }

    /// Counts a cut in a document of `tokens`.
    fn count_cut(&mut self, tokens: u32) {
        self.report.cuts += 1;
        self.report.short_cuts += u64::from(tokens <= self.seq_len);
    }

    fn finish(self) -> Packing {
        Packing::counted(self.segments, self.ends, self.report)
    }
}

#[cfg(test)]
mod tests;
