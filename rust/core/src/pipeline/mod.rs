//! A run of preparation: blocks are read and written in order and prepared in
//! parallel between, so the output does not depend on the number of threads. A run that
//! was stopped goes on after its last complete shard.

mod batch;
mod finished;
mod flow;
mod journal;
mod remember;
mod sink;
mod source;

use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use crate::config::PrepConfig;
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::ledger::{self, Ledger};
use crate::profile::Profile;
use crate::read::{self, Input};

use batch::Preparer;
use journal::Journal;
use sink::Sink;
use source::Source;

/// Format of a documents folder, as its manifest names it.
pub const FORMAT: &str = "triptych-documents/1";

/// Name of the list of bad records inside a documents folder.
pub const QUARANTINE_NAME: &str = "quarantine.jsonl";

/// Hears how far a run is; the engine itself prints nothing.
pub trait Progress: Sync {
    /// The inputs are known: their size on disk in all.
    fn start(&self, total_bytes: u64);
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
    /// Files and totals.
    pub ledger: Ledger,
}

/// Prepares the inputs of `config` into its output folder.
///
/// # Errors
/// Configuration, paths, limits of decompression, the disk, an empty corpus. Bad
/// records are no error: see [`Summary::bad_fraction`].
pub fn run(config: &PrepConfig, progress: &dyn Progress) -> Result<Summary> {
    let profile = config.profile()?;
    let inputs = read::resolve(&config.input)?;
    progress.start(inputs.iter().map(|input| input.bytes).sum());
    if let Some(summary) = finished::find(config, &inputs)? {
        return Ok(summary);
    }
    let draft = Draft::resume(&config.output)?;
    let mut source = Source::new(&inputs, config);
    let mut sink = begin(config, &profile, &inputs, (&draft, &mut source), progress)?;
    let preparer = Preparer::new(profile, config, &inputs);
    flow::flow(&mut source, &preparer, &mut sink, config.threads)?;
    let facts = source.into_facts();
    let (ledger, documents, text_bytes) = sink.finish(&facts)?;
    if ledger.total.read == 0 {
        return Err(empty(config));
    }
    write_ledger(&draft, &ledger)?;
    let content = json!({"documents": documents, "text_bytes": text_bytes, "profile": config.profile});
    draft.commit(FORMAT, json!({"config": config.made_from(), "inputs": facts}), content)?;
    let bad_fraction = ledger.total.bad_fraction();
    Ok(Summary { output: config.output.clone(), already_done: false, documents, bad_fraction, ledger })
}

/// A new sink, or one that goes on where a run was stopped.
fn begin<'d>(
    config: &PrepConfig,
    profile: &Profile,
    inputs: &[Input],
    (draft, source): (&'d Draft, &mut Source),
    progress: &'d dyn Progress,
) -> Result<Sink<'d>> {
    let journal = Journal::read(draft).filter(|journal| !config.overwrite || journal.fits(config, inputs));
    let Some(journal) = journal else { return Sink::new(draft, config, inputs, progress) };
    draft.keep(); // whatever is wrong, what is done is not lost
    journal.check(config, inputs)?;
    let sink = Sink::resume(draft, config, profile, &journal, progress)?;
    let disk_bytes = source.skip(journal.blocks, &journal.contents)?;
    progress.advance(disk_bytes, journal.files.iter().map(|file| file.counts.read).sum());
    Ok(sink)
}

fn empty(config: &PrepConfig) -> Error {
    let names: Vec<String> = config.input.iter().map(|path| format!("`{}`", path.display())).collect();
    let expected = format!("a line of JSON a document, with its text in the field `{}`", config.text_field);
    Error::EmptyCorpus { inputs: names.join(", "), expected }
}

fn write_ledger(draft: &Draft, ledger: &Ledger) -> Result<()> {
    ledger.check()?;
    let path = draft.path(ledger::FILE_NAME);
    let mut text = serde_json::to_string_pretty(ledger).expect("a ledger holds only JSON values");
    text.push('\n');
    fs::write(&path, text).map_err(Error::io("write", &path))
}
