//! A run of preparation: blocks are read and written in order and prepared in
//! parallel between, so the output does not depend on the number of threads. A run that
//! was stopped goes on after its last complete shard.

mod alone;
mod batch;
mod estimate;
mod finished;
mod flow;
mod journal;
mod list;
mod merge;
mod outline;
mod outside;
mod part;
mod pipe;
mod probe;
mod remember;
mod samples;
mod share;
mod sink;
mod source;
mod status;
mod without_text;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::config::{check_threads, PrepConfig};
use crate::draft::{write_json, Draft};
use crate::error::Result;
use crate::inspect::Sampling;
use crate::ledger::{self, Ledger};
use crate::profile::Profile;
use crate::read::{self, FileFacts, Input};

use batch::Preparer;
use journal::Journal;
use merge::Whole;
use sink::Sink;
use source::Source;
use status::Status;

pub(crate) use batch::{bad_record, lines};
pub(crate) use flow::num_helpers;

pub use estimate::{estimate, Estimate, SAMPLE_BYTES};
pub(crate) use outside::check as check_outside_rules;
pub use outside::{OutsideRules, STEP as OUTSIDE_STEP};
pub use part::FORMAT as PART_FORMAT;
pub use samples::FILE_NAME as SAMPLES_NAME;
pub use share::Share;
pub use status::Meter;

/// Format of a documents folder, as its manifest names it.
pub const FORMAT: &str = "triptych-documents/1";

/// Name of the list of bad records inside a documents folder.
pub const QUARANTINE_NAME: &str = "quarantine.jsonl";

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is read yet.
    Starting,
    /// What an earlier run has done is read again, to prove that it is the same.
    Resuming,
    /// Documents are prepared.
    Preparing,
    /// Parts become one folder.
    Merging,
    /// What was written is hashed and gets its name.
    Finishing,
    /// The run was asked to stop, and can go on.
    Interrupted,
    /// The run has ended with an error.
    Failed,
}

impl Phase {
    /// The name in `status.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Resuming => "resuming",
            Self::Preparing => "preparing",
            Self::Merging => "merging",
            Self::Finishing => "finishing",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// Hears how far a run is; the engine itself prints nothing.
pub trait Progress: Sync {
    /// The inputs are known: their size on disk in all.
    fn start(&self, total_bytes: u64);
    /// Another phase begins.
    fn begin(&self, _: Phase) {}
    /// More documents are kept, and more records found that cannot be read.
    fn judged(&self, _kept: u64, _bad: u64) {}
    /// More bytes of the inputs are done, holding so many records.
    fn advance(&self, bytes: u64, documents: u64);
    /// True if the run is to stop at the next block; it can be resumed.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// A listener that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
}

/// What a run gives.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The folder.
    pub output: PathBuf,
    /// The folder was finished before, from the same inputs and configuration.
    pub already_done: bool,
    /// Documents in the folder.
    pub documents: u64,
    /// Share of records that could not be read.
    pub bad_fraction: f64,
    /// What is no error, but may not be meant: inputs without a document, files that were passed over.
    pub warning: Option<String>,
    /// Files and totals.
    pub ledger: Ledger,
}

impl Summary {
    /// Of a folder that holds so many `documents`; `is_part` if other inputs are in other folders.
    fn new(output: &Path, ledger: Ledger, documents: u64, is_part: bool) -> Self {
        let (output, bad_fraction) = (output.to_owned(), ledger.total.bad_fraction());
        let warning = ledger.without_documents().filter(|_| !is_part);
        Self { output, already_done: false, documents, bad_fraction, warning, ledger }
    }

    fn warning_too(mut self, more: Option<String>) -> Self {
        let told: Vec<String> = self.warning.into_iter().chain(more).collect();
        self.warning = (!told.is_empty()).then(|| told.join("; "));
        self
    }
}

/// Prepares the inputs of `config` into its output folder.
///
/// # Errors
/// Configuration, paths, limits of decompression, the disk. Bad records are no error (see
/// [`Summary::bad_fraction`]), nor are inputs without a document (see [`Summary::warning`]).
pub fn run(config: &PrepConfig, progress: &dyn Progress) -> Result<Summary> {
    run_with(config, progress, None)
}

/// As [`run`], with rules from outside, which `python_rule` names.
///
/// # Errors
/// The same, and those of the rules.
pub fn run_with(
    config: &PrepConfig,
    progress: &dyn Progress,
    rules: Option<&dyn OutsideRules>,
) -> Result<Summary> {
    outside::check(config, rules)?;
    let status = Status::new(progress);
    let summary = prepare(&config.pinned()?, &status, rules).inspect_err(|error| status.end(error))?;
    Ok(summary.warning_too(read::passed_over(&config.input)))
}

fn prepare(config: &PrepConfig, progress: &Status, rules: Option<&dyn OutsideRules>) -> Result<Summary> {
    let profile = config.profile()?;
    let inputs = read::resolve_beside(&config.input, &config.output)?;
    progress.start(inputs.iter().map(|input| input.bytes).sum());
    if let Some(summary) = finished::find(config, &inputs, progress)? {
        return Ok(summary);
    }
    let draft = Draft::resume(&config.output)?;
    progress.keep_in(&draft);
    let mut source = Source::new(&inputs, config, progress);
    let sampling = Sampling::of(profile.quality.names(), inputs.iter().map(|input| input.bytes).sum());
    let mut sink = begin(config, profile.ngram, &inputs, (&draft, &mut source), progress)?.asking(rules);
    progress.begin(Phase::Preparing);
    let preparer = Preparer::new(profile, config, &inputs, sampling);
    sink.measured_one_in(sampling);
    flow::flow(&mut source, &preparer, &mut sink, config.threads)?;
    progress.begin(Phase::Finishing);
    let facts = source.into_facts();
    let written = sink.finish(&facts)?;
    finish(config, draft, written, &facts)
}

/// A sink for a new run, or for one that goes on where it was stopped.
fn begin<'d>(
    config: &PrepConfig,
    ngram: Option<usize>,
    inputs: &[Input],
    (draft, source): (&'d Draft, &mut Source),
    progress: &'d dyn Progress,
) -> Result<Sink<'d>> {
    let journal = Journal::read(draft).filter(|journal| !config.overwrite || journal.fits(config, inputs));
    let Some(journal) = journal else {
        draft.clear()?;
        return Sink::new(draft, config, ngram, Journal::begin(config, inputs), progress);
    };
    draft.keep(); // whatever is wrong, what is done is not lost
    journal.check(config, inputs)?;
    progress.begin(Phase::Resuming);
    source.skip(journal.units, &journal.contents, progress)?;
    let counts = || journal.files.iter().map(|file| &file.counts);
    progress
        .judged(counts().map(|counts| counts.kept).sum(), counts().map(|counts| counts.quarantined).sum());
    progress.advance(0, counts().map(|counts| counts.read).sum());
    Sink::new(draft, config, ngram, journal, progress)
}

/// Merges the parts that runs with `shard` wrote, in any order, into the folder `config.output`: the same
/// bytes as one run. Of `config` only `output`, `threads`, `max_bad` and `overwrite` count; the rest stands
/// in the parts.
///
/// # Errors
/// `InvalidValue` for too many threads, or if a part is missing, stands twice or is of another run; `Integrity` if
/// one is damaged.
pub fn merge(parts: &[PathBuf], config: &PrepConfig, progress: &dyn Progress) -> Result<Summary> {
    let status = Status::new(progress);
    merge_parts(parts, config, &status).inspect_err(|error| status.end(error))
}

fn merge_parts(parts: &[PathBuf], config: &PrepConfig, progress: &Status) -> Result<Summary> {
    check_threads(config.threads)?;
    if let Some(summary) = alone::copy(parts, config, progress)? {
        return Ok(summary);
    }
    let whole = Whole::open(parts, progress)?;
    let config = as_merged(config, &whole.config);
    let facts = whole.facts.iter();
    let inputs: Vec<Input> =
        facts.map(|fact| Input { path: PathBuf::from(&fact.file), bytes: fact.bytes }).collect();
    progress.start(whole.disk_bytes());
    if let Some(summary) = finished::find_merged(&config, &whole.facts)? {
        return Ok(summary);
    }
    let draft = Draft::start(&config.output)?;
    progress.keep_in(&draft);
    let ngram = config.steps()?.ngram;
    let journal = Journal {
        samples: whole.samples()?,
        histograms: whole.histograms()?,
        ..Journal::begin(&config, &inputs)
    };
    let mut sink = Sink::new(&draft, &config, ngram, journal, progress)?.not_resumable();
    progress.begin(Phase::Merging);
    // The texts are prepared; what is left to do is to compare them.
    let text = PrepConfig { text_field: "text".to_owned(), ..config.clone() };
    let preparer = Preparer::new(Profile { ngram, ..Profile::default() }, &text, &inputs, Sampling::NONE);
    flow::flow(&mut whole.blocks()?, &preparer, &mut sink, config.threads)?;
    progress.begin(Phase::Finishing);
    let written = sink.finish(&whole.facts)?;
    finish(&config, draft, written, &whole.facts)
}

/// The configuration of the parts, with what `merge` is told for itself.
fn as_merged(config: &PrepConfig, parts: &PrepConfig) -> PrepConfig {
    let PrepConfig { output, threads, max_bad, overwrite, .. } = config.clone();
    PrepConfig { output, threads, max_bad, overwrite, ..parts.clone() }
}

/// Checks that everything adds up, and gives the folder its name.
fn finish(
    config: &PrepConfig,
    draft: Draft,
    (ledger, documents, text_bytes): (Ledger, u64, u64),
    facts: &[FileFacts],
) -> Result<Summary> {
    write_ledger(&draft, &ledger)?;
    let content = json!({"documents": documents, "text_bytes": text_bytes, "profile": config.profile});
    let format = if config.shard.is_part() { PART_FORMAT } else { FORMAT };
    draft.commit(format, json!({"config": config.made_from(), "inputs": facts}), content)?;
    Ok(Summary::new(&config.output, ledger, documents, config.shard.is_part()))
}

fn write_ledger(draft: &Draft, ledger: &Ledger) -> Result<()> {
    ledger.check()?;
    write_json(&draft.path(ledger::FILE_NAME), ledger)
}
