//! The end of the flow: deduplication, shards, quarantine, counts and journal, in order.

use serde_json::json;

use super::batch::{Batch, Candidate};
use super::flow;
use super::journal::{self, Journal};
use super::list::List;
use super::outline;
use super::part::{BlockEntry, BLOCKS_NAME};
use super::remember::remember;
use super::samples::{self, Samples};
use super::without_text::Watch;
use super::{outside, OutsideRules, Progress, QUARANTINE_NAME};
use crate::config::PrepConfig;
use crate::dedup::{NgramIndex, Verdict};
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::funnel::Step;
use crate::inspect::{Histograms, Sampling};
use crate::ledger::{Counts, Ledger};
use crate::read::FileFacts;
use crate::write::{self, ShardWriter};

/// Takes batches in the order of the inputs.
pub(super) struct Sink<'d> {
    draft: &'d Draft,
    /// How far the run is.
    journal: Journal,
    /// The journal is written where the run can go on from it.
    is_resumable: bool,
    /// Absent in a part: the merge of all parts decides what is a duplicate.
    index: Option<NgramIndex>,
    writer: ShardWriter<'d>,
    quarantine: List,
    /// Present in a part.
    block_list: Option<List>,
    samples: Samples,
    progress: &'d dyn Progress,
    rules: Option<&'d dyn OutsideRules>,
    /// Looks for the text field, unless others see records that this run does not.
    watch: Watch,
}

impl<'d> Sink<'d> {
    /// A sink that goes on where the journal ends; what was written after it is removed.
    /// `ngram` is the number of words by which kept documents are remembered.
    pub(super) fn new(
        draft: &'d Draft,
        config: &PrepConfig,
        ngram: Option<usize>,
        journal: Journal,
        progress: &'d dyn Progress,
    ) -> Result<Self> {
        let is_part = config.shard.is_part();
        let format = if is_part { config.format.of_parts() } else { config.format };
        let shards: Vec<String> =
            (0..journal.num_shards).map(|number| write::shard_name(number, format)).collect();
        let lists = [QUARANTINE_NAME, BLOCKS_NAME, journal::FILE_NAME];
        draft.remove_all_but(|name| lists.contains(&name) || shards.iter().any(|shard| shard == name))?;
        let num_packers = flow::num_helpers(config.threads);
        let mut index = (!is_part).then(|| NgramIndex::spilling(draft.path(""), num_packers > 0));
        if let (Some(index), Some(n)) = (&mut index, ngram) {
            for name in &shards {
                remember(&draft.path(name), n, index, progress)?;
            }
        }
        let written = (journal.num_shards, journal.documents, journal.text_bytes);
        let mut watch = Watch::new(&config.text_field, journal.files.len());
        if is_part || journal.units > 0 {
            watch.end();
        }
        let blocks = || List::open(draft.path(BLOCKS_NAME), journal.block_list_bytes);
        Ok(Self {
            draft,
            is_resumable: true,
            index,
            writer: ShardWriter::resume(draft, (format, config.shard_bytes), written, num_packers)?,
            quarantine: List::open(draft.path(QUARANTINE_NAME), journal.quarantine_bytes)?,
            block_list: is_part.then(blocks).transpose()?,
            journal,
            samples: Samples::new()?,
            progress,
            rules: None,
            watch,
        })
    }

    /// One document in so many is measured, unless the journal has begun otherwise.
    pub(super) fn measured_one_in(&mut self, sampling: Sampling) {
        if self.journal.histograms.features.is_empty() {
            self.journal.histograms = Histograms::new(sampling.one_in());
        }
    }

    /// The same without a journal on the disk: stopped, it begins anew.
    pub(super) fn not_resumable(mut self) -> Self {
        self.is_resumable = false;
        self
    }

    /// The same with rules that are asked before deduplication.
    pub(super) fn asking(mut self, rules: Option<&'d dyn OutsideRules>) -> Self {
        self.rules = rules;
        self
    }

    /// Judges and writes the next batch.
    ///
    /// # Errors
    /// The disk; `Interrupted` if whoever watches the run wants it to stop.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<()> {
        self.watch.see(batch, &self.journal.files[batch.file].file)?;
        let mut counts = batch.counts.clone();
        counts.reopen(); // what a part counted as kept is decided here
        self.judge(batch, &mut counts)?;
        for sample in &batch.samples {
            self.samples.take(sample.clone(), &mut self.journal.samples);
        }
        for (values, is_kept) in &batch.measured {
            self.journal.histograms.add_document(values, *is_kept);
        }
        self.list(batch, &counts)?;
        self.progress.judged(counts.kept, counts.quarantined);
        self.journal.files[batch.file].counts.add(&counts);
        self.end_block(batch)
    }

    /// Asks the rules from outside, then deduplication, of each document, and writes what is kept.
    fn judge(&mut self, batch: &Batch, counts: &mut Counts) -> Result<()> {
        let mut own = Step::named(outside::STEP);
        let mut reasons = outside::reasons(self.rules, batch)?.into_iter();
        for document in batch.documents() {
            if let Some(reason) = reasons.next().flatten() {
                counts.reject(&reason, 1);
                own.reject(&reason, document.size);
            } else {
                own.left.add(document.size);
                self.write_unless_repeated(batch.file, &document, counts)?;
            }
        }
        if self.rules.is_some() {
            counts.ask_outside(own);
        }
        Ok(())
    }

    fn write_unless_repeated(
        &mut self,
        file: usize,
        document: &Candidate<'_>,
        counts: &mut Counts,
    ) -> Result<()> {
        let verdict = self.index.as_mut().map(|index| index.judge(document.ngrams)).transpose()?;
        if verdict == Some(Verdict::Duplicate) {
            counts.repeat(document.size);
            let file = &self.journal.files[file].file;
            self.samples.take_line(document.line, file, &mut self.journal.samples);
            return Ok(());
        }
        counts.keep(document.size);
        self.writer.write(document.line, document.size.bytes)
    }

    /// Adds the batch to the quarantine and, in a part, to the list of blocks.
    fn list(&mut self, batch: &Batch, counts: &Counts) -> Result<()> {
        let file = &self.journal.files[batch.file].file;
        for bad in &batch.bad {
            let entry = json!({"file": file, "line": bad.line, "byte": bad.byte, "reason": bad.reason});
            self.quarantine.push(&entry)?;
        }
        let Some(list) = &mut self.block_list else { return Ok(()) };
        let (documents, counts) = (counts.kept, counts.clone());
        let (file, block, is_partial) = (batch.file, batch.number, batch.is_partial);
        list.push(&BlockEntry { file, block, is_partial, documents, counts })
    }

    fn end_block(&mut self, batch: &Batch) -> Result<()> {
        if !batch.is_partial {
            self.journal.end_unit(batch.file, batch.content);
            if self.writer.end_block()? && self.is_resumable {
                self.write_journal()?;
            }
        }
        self.progress.advance(batch.disk_bytes, batch.counts.read);
        if self.progress.is_stopped() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    fn write_journal(&mut self) -> Result<()> {
        self.sync()?;
        let journal = &mut self.journal;
        journal.num_shards = self.writer.num_shards;
        (journal.documents, journal.text_bytes) = (self.writer.documents, self.writer.text_bytes);
        journal.quarantine_bytes = self.quarantine.bytes;
        journal.block_list_bytes = self.block_list.as_ref().map_or(0, |list| list.bytes);
        journal.write(self.draft)
    }

    fn sync(&mut self) -> Result<()> {
        self.quarantine.sync()?;
        self.block_list.as_mut().map_or(Ok(()), List::sync)
    }

    /// Completes the files; gives the ledger, the documents and the bytes of their text.
    pub(super) fn finish(mut self, facts: &[FileFacts]) -> Result<(Ledger, u64, u64)> {
        self.quarantine.flush()?; // the draft syncs its files
        self.block_list.as_mut().map_or(Ok(()), List::flush)?;
        let samples = samples::write(self.journal.samples, self.draft)?;
        let mut files = self.journal.files;
        for (file, facts) in files.iter_mut().zip(facts).filter(|(_, facts)| !facts.blake3.is_empty()) {
            file.counts.bytes_read = facts.bytes;
        }
        let (documents, text_bytes) = self.writer.finish()?;
        self.draft.remove_all_but(|name| name != journal::FILE_NAME)?;
        let ledger = Ledger::new(files);
        outline::write(self.draft, &ledger, &self.journal.histograms, &samples)?;
        Ok((ledger, documents, text_bytes))
    }
}
