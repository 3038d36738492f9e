//! All units of all inputs, in order.

use super::flow::Units;
use super::pipe::{Next, Pipe};
use super::{Progress, Share};
use crate::config::PrepConfig;
use crate::error::{Error, Result};
use crate::read::{self, FileFacts, Input, Limits, Reader, Unit};

/// Reads one file after the other.
pub(super) struct Source<'i> {
    inputs: &'i [Input],
    text_field: String,
    limits: Limits,
    share: Share,
    progress: &'i dyn Progress,
    reader: Option<Open>,
    /// Number of the next unit in its file.
    number: usize,
    facts: Vec<FileFacts>,
}

/// A file that is being read.
enum Open {
    File(Box<Reader>),
    Pipe(Pipe),
}

impl<'i> Source<'i> {
    /// All inputs; waiting for one ends when `progress` is stopped.
    pub(super) fn new(inputs: &'i [Input], config: &PrepConfig, progress: &'i dyn Progress) -> Self {
        let (text_field, limits, share) = (config.text_field.clone(), config.limits(), config.shard);
        Self { inputs, text_field, limits, share, progress, reader: None, number: 0, facts: Vec::new() }
    }

    fn open(&self, input: &Input) -> Result<Open> {
        if Pipe::is_at(&input.path) {
            return Pipe::open(input.path.clone(), self.text_field.clone(), self.limits).map(Open::Pipe);
        }
        read::open(&input.path, &self.text_field, self.limits).map(|reader| Open::File(Box::new(reader)))
    }

    /// The next unit of the current file, or its facts if there is none.
    fn read(&mut self, input: &Input) -> Result<Option<Unit>> {
        let open = self.reader.take().map_or_else(|| self.open(input), Ok)?;
        let next = match self.reader.insert(open) {
            Open::Pipe(pipe) => pipe.next(self.progress)?,
            Open::File(reader) => Next::of(reader)?,
        };
        match next {
            Next::Unit(mut unit) => {
                (unit.block.file, unit.block.number) = (self.facts.len(), self.number);
                self.number += 1;
                Ok(Some(*unit))
            }
            Next::End(bytes, blake3) => {
                self.end_file(FileFacts { file: input.path.display().to_string(), bytes, blake3 });
                Ok(None)
            }
        }
    }

    fn end_file(&mut self, facts: FileFacts) {
        self.facts.push(facts);
        (self.reader, self.number) = (None, 0);
    }

    /// Passes over a file of which others take all.
    fn pass(&mut self, input: &Input) {
        let (file, bytes) = (input.path.display().to_string(), input.bytes);
        self.end_file(FileFacts { file, bytes, blake3: String::new() });
    }

    /// Reads over the units that an earlier run has done, without decoding them; `contents` are the
    /// hashes that it found, one a file.
    ///
    /// # Errors
    /// `Integrity` if a file is not what it was; `Interrupted` if whoever watches the run wants it to stop.
    pub(super) fn skip(
        &mut self,
        num_units: u64,
        contents: &[String],
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut last: Option<(usize, u128)> = None;
        for _ in 0..num_units {
            let Some(Unit { block, .. }) = self.next_unit()? else { break };
            if let Some((file, content)) = last.filter(|(file, _)| *file != block.file) {
                self.check(file, content, contents)?;
            }
            last = Some((block.file, block.content));
            progress.advance(block.disk_bytes, 0);
            self.recycle(block.bytes);
            if progress.is_stopped() {
                return Err(Error::Interrupted);
            }
        }
        last.map_or(Ok(()), |(file, content)| self.check(file, content, contents))
    }

    fn check(&self, file: usize, content: u128, contents: &[String]) -> Result<()> {
        let (found, expected) = (format!("{content:032x}"), contents.get(file).cloned().unwrap_or_default());
        if found == expected {
            return Ok(());
        }
        Err(Error::Integrity {
            path: self.inputs[file].path.clone(),
            expected: format!("the input as it was when the run began (XXH3 {expected})"),
            found: format!("other content ({found})"),
        })
    }

    /// Sizes and hashes of the files read, one an input.
    pub(super) fn into_facts(self) -> Vec<FileFacts> {
        self.facts
    }
}

impl Units for Source<'_> {
    fn next_unit(&mut self) -> Result<Option<Unit>> {
        let num_files = self.inputs.len();
        let mut disk_bytes = 0; // of units that others take
        while let Some(input) = self.inputs.get(self.facts.len()) {
            if !self.share.has_file(self.facts.len(), num_files) {
                self.pass(input);
                continue;
            }
            let Some(mut unit) = self.read(input)? else { continue };
            unit.block.disk_bytes += std::mem::take(&mut disk_bytes);
            if self.share.has_block(unit.block.file, unit.block.number, num_files) {
                return Ok(Some(unit));
            }
            disk_bytes = unit.block.disk_bytes;
            self.recycle(unit.block.bytes);
        }
        Ok(None)
    }

    fn recycle(&mut self, bytes: Vec<u8>) {
        match &mut self.reader {
            Some(Open::File(reader)) => reader.recycle(bytes),
            Some(Open::Pipe(pipe)) => pipe.recycle(bytes),
            None => (),
        }
    }
}
