//! The end of the flow: deduplication, shards, quarantine, counts and journal, in order.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde_json::{json, Value};

use super::batch::Batch;
use super::journal::{self, Journal};
use super::remember::remember;
use super::{Progress, QUARANTINE_NAME};
use crate::config::PrepConfig;
use crate::dedup::{NgramIndex, Verdict};
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::ledger::{Counts, FileCounts, Ledger};
use crate::profile::Profile;
use crate::read::{FileFacts, Input};
use crate::write::{self, ShardWriter};

/// Takes batches in the order of the inputs.
pub(super) struct Sink<'d> {
    draft: &'d Draft,
    made_from: Value,
    index: NgramIndex,
    writer: ShardWriter<'d>,
    quarantine: Quarantine,
    files: Vec<FileCounts>,
    blocks: u64,
    contents: Vec<String>,
    progress: &'d dyn Progress,
}

impl<'d> Sink<'d> {
    /// A sink that has taken nothing yet.
    pub(super) fn new(
        draft: &'d Draft,
        config: &PrepConfig,
        inputs: &[Input],
        progress: &'d dyn Progress,
    ) -> Result<Self> {
        draft.clear()?;
        let file =
            |input: &Input| FileCounts { file: input.path.display().to_string(), counts: Counts::default() };
        Ok(Self {
            draft,
            made_from: journal::made_from(config, inputs),
            index: NgramIndex::default(),
            writer: ShardWriter::new(draft, config.format, config.shard_bytes),
            quarantine: Quarantine::open(draft, 0)?,
            files: inputs.iter().map(file).collect(),
            blocks: 0,
            contents: Vec::new(),
            progress,
        })
    }

    /// A sink that goes on where the journal ends; what was written after it is removed.
    pub(super) fn resume(
        draft: &'d Draft,
        config: &PrepConfig,
        profile: &Profile,
        journal: &Journal,
        progress: &'d dyn Progress,
    ) -> Result<Self> {
        draft.keep();
        let shards: Vec<String> =
            (0..journal.num_shards).map(|number| write::shard_name(number, config.format)).collect();
        let stays = |name: &str| [QUARANTINE_NAME, journal::FILE_NAME].contains(&name);
        draft.remove_all_but(|name| stays(name) || shards.iter().any(|shard| shard == name))?;
        let mut index = NgramIndex::default();
        if let Some(n) = profile.ngram {
            for name in &shards {
                remember(&draft.path(name), n, config.limits(), &mut index)?;
            }
        }
        let written = (journal.num_shards, journal.documents, journal.text_bytes);
        Ok(Self {
            draft,
            made_from: journal.made_from.clone(),
            index,
            writer: ShardWriter::resume(draft, config.format, config.shard_bytes, written),
            quarantine: Quarantine::open(draft, journal.quarantine_bytes)?,
            files: journal.files.clone(),
            blocks: journal.blocks,
            contents: journal.contents.clone(),
            progress,
        })
    }

    /// Judges and writes the next batch.
    ///
    /// # Errors
    /// The disk; `Interrupted` if whoever watches the run wants it to stop.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<()> {
        let FileCounts { file, counts } = &mut self.files[batch.file];
        counts.read += batch.read;
        counts.quarantined += batch.bad.len() as u64;
        batch.rejected().for_each(|(reason, count)| counts.reject(reason.name(), count));
        for document in batch.documents() {
            if self.index.judge(document.ngrams) == Verdict::Duplicate {
                counts.duplicates += 1;
            } else {
                counts.kept += 1;
                self.writer.write(document.line, document.text_bytes)?;
            }
        }
        self.quarantine.take(file, batch)?;
        self.end_block(batch)
    }

    fn end_block(&mut self, batch: &Batch) -> Result<()> {
        self.blocks += 1;
        self.contents.resize(batch.file + 1, String::new());
        self.contents[batch.file] = format!("{:032x}", batch.content);
        if self.writer.end_block()? {
            self.quarantine.sync()?;
            self.journal().write(self.draft)?;
        }
        self.progress.advance(batch.disk_bytes, batch.read);
        if self.progress.is_stopped() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    fn journal(&self) -> Journal {
        Journal {
            made_from: self.made_from.clone(),
            blocks: self.blocks,
            contents: self.contents.clone(),
            num_shards: self.writer.num_shards,
            documents: self.writer.documents,
            text_bytes: self.writer.text_bytes,
            quarantine_bytes: self.quarantine.bytes,
            files: self.files.clone(),
        }
    }

    /// Completes the files; gives the ledger, the documents and the bytes of their text.
    pub(super) fn finish(mut self, facts: &[FileFacts]) -> Result<(Ledger, u64, u64)> {
        self.quarantine.sync()?;
        self.files.iter_mut().zip(facts).for_each(|(file, facts)| file.counts.bytes_read = facts.bytes);
        let (documents, text_bytes) = self.writer.finish()?;
        self.draft.remove_all_but(|name| name != journal::FILE_NAME)?;
        Ok((Ledger::new(self.files), documents, text_bytes))
    }
}

/// The list of bad records.
struct Quarantine {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl Quarantine {
    /// Opens it for writing after its first `bytes`.
    fn open(draft: &Draft, bytes: u64) -> Result<Self> {
        let path = draft.path(QUARANTINE_NAME);
        let open = || -> std::io::Result<File> {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.set_len(bytes)?;
            Ok(file)
        };
        let file = open().map_err(Error::io("open", &path))?;
        Ok(Self { path, file: BufWriter::new(file), bytes })
    }

    fn take(&mut self, file: &str, batch: &Batch) -> Result<()> {
        for bad in &batch.bad {
            let entry = json!({"file": file, "line": bad.line, "byte": bad.byte, "reason": bad.reason});
            let line = format!("{entry}\n");
            self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?;
            self.bytes += line.len() as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let sync = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        sync.map_err(Error::io("write", &self.path))
    }
}
