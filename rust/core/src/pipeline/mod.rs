//! A run of preparation: blocks are read and written in order and prepared in
//! parallel between, so the output does not depend on the number of threads.

mod batch;
mod finished;
mod source;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::config::PrepConfig;
use crate::dedup::{NgramIndex, Verdict};
use crate::error::{Error, Result};
use crate::ledger::{self, Counts, FileCounts, Ledger};
use crate::manifest::Draft;
use crate::read::{self, Block, Input};
use crate::write::ShardWriter;

use batch::{Batch, Preparer};
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
    let draft = Draft::start(&config.output)?;
    let preparer = Preparer::new(profile, config, &inputs);
    let mut sink = Sink::new(&draft, config, &inputs, progress)?;
    let mut source = Source::new(&inputs, config);
    flow(&mut source, &preparer, &mut sink, config.threads)?;
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

/// Moves every block from `source` through `preparer` into `sink`, in order.
fn flow(source: &mut Source, preparer: &Preparer, sink: &mut Sink, threads: usize) -> Result<()> {
    let threads = if threads == 0 { available_threads() } else { threads };
    if threads == 1 {
        while let Some(block) = source.next_block()? {
            sink.take(&preparer.prepare(block))?;
        }
        return Ok(());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = Arc::new(pool.map_err(|error| Error::Resource {
        what: "starting threads".to_owned(),
        limit: error.to_string(),
        needed: threads.to_string(),
    })?);
    pool.install(|| flow_parallel(source, preparer, sink, threads))
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Prepares a round of blocks while the round before is written and the next is read.
fn flow_parallel(source: &mut Source, preparer: &Preparer, sink: &mut Sink, threads: usize) -> Result<()> {
    let mut blocks = read_round(source, threads)?;
    let mut done: Vec<Batch> = Vec::new();
    while !(blocks.is_empty() && done.is_empty()) {
        let current = std::mem::take(&mut blocks);
        let (batches, next) = rayon::join(
            || current.into_par_iter().map(|block| preparer.prepare(block)).collect::<Vec<Batch>>(),
            || done.iter().try_for_each(|batch| sink.take(batch)).and_then(|()| read_round(source, threads)),
        );
        (done, blocks) = (batches, next?);
    }
    Ok(())
}

fn read_round(source: &mut Source, count: usize) -> Result<Vec<Block>> {
    std::iter::from_fn(|| source.next_block().transpose()).take(count).collect()
}

/// The end of the flow: deduplication, shards, ledger and quarantine, all in order.
struct Sink<'d> {
    index: NgramIndex,
    writer: ShardWriter<'d>,
    files: Vec<FileCounts>,
    quarantine: (PathBuf, std::io::BufWriter<fs::File>),
    progress: &'d dyn Progress,
}

impl<'d> Sink<'d> {
    fn new(
        draft: &'d Draft,
        config: &PrepConfig,
        inputs: &[Input],
        progress: &'d dyn Progress,
    ) -> Result<Self> {
        let path = draft.path(QUARANTINE_NAME);
        let file = fs::File::create(&path).map_err(Error::io("create", &path))?;
        let files = inputs
            .iter()
            .map(|input| FileCounts { file: input.path.display().to_string(), counts: Counts::default() });
        Ok(Self {
            index: NgramIndex::default(),
            writer: ShardWriter::new(draft, config.format, config.shard_bytes),
            files: files.collect(),
            quarantine: (path, std::io::BufWriter::new(file)),
            progress,
        })
    }

    fn take(&mut self, batch: &Batch) -> Result<()> {
        let counts = &mut self.files[batch.file].counts;
        counts.read += batch.read;
        batch.rejected().for_each(|(reason, count)| counts.reject(reason, count));
        for document in batch.documents() {
            if self.index.judge(document.ngrams) == Verdict::Duplicate {
                counts.duplicates += 1;
            } else {
                counts.kept += 1;
                self.writer.write(document.line, document.text_bytes)?;
            }
        }
        self.progress.advance(batch.disk_bytes, batch.read);
        self.quarantine(batch)
    }

    fn quarantine(&mut self, batch: &Batch) -> Result<()> {
        use std::io::Write as _;
        let file = &mut self.files[batch.file];
        file.counts.quarantined += batch.bad.len() as u64;
        for bad in &batch.bad {
            let entry = json!({"file": file.file, "line": bad.line, "byte": bad.byte, "reason": bad.reason});
            writeln!(self.quarantine.1, "{entry}").map_err(Error::io("write", &self.quarantine.0))?;
        }
        Ok(())
    }

    fn finish(self, facts: &[read::FileFacts]) -> Result<(Ledger, u64, u64)> {
        let Self { mut files, writer, quarantine: (path, file), .. } = self;
        file.into_inner().map_err(|error| Error::Io { action: "write", path, source: error.into_error() })?;
        files.iter_mut().zip(facts).for_each(|(file, facts)| file.counts.bytes_read = facts.bytes);
        let (documents, text_bytes) = writer.finish()?;
        Ok((Ledger::new(files), documents, text_bytes))
    }
}
