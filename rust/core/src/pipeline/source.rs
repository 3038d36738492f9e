//! All blocks of all inputs, in order.

use xxhash_rust::xxh3::Xxh3;

use super::flow::Blocks;
use super::Share;
use crate::config::PrepConfig;
use crate::error::{Error, Result};
use crate::read::{self, Block, FileFacts, Input, Limits, Reader};

/// Reads one file after the other.
pub(super) struct Source<'i> {
    inputs: &'i [Input],
    text_field: String,
    limits: Limits,
    share: Share,
    reader: Option<Box<dyn Reader>>,
    /// Number of the next block in its file.
    block: usize,
    /// Of what was read of the current file.
    hasher: Xxh3,
    facts: Vec<FileFacts>,
}

impl<'i> Source<'i> {
    pub(super) fn new(inputs: &'i [Input], config: &PrepConfig) -> Self {
        let (text_field, limits) = (config.text_field.clone(), config.limits());
        let (share, hasher) = (config.shard, Xxh3::new());
        Self { inputs, text_field, limits, share, reader: None, block: 0, hasher, facts: Vec::new() }
    }

    /// The next block of the current file, or its facts if there is none.
    fn read(&mut self, input: &Input) -> Result<Option<Block>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(read::open(&input.path, &self.text_field, self.limits)?),
        };
        if let Some(mut block) = reader.next_block()? {
            (block.file, block.number) = (self.facts.len(), self.block);
            self.hasher.update(&block.bytes);
            block.content = self.hasher.digest128();
            self.block += 1;
            return Ok(Some(block));
        }
        let (bytes, sha256) = reader.finish()?;
        self.end_file(FileFacts { file: input.path.display().to_string(), bytes, sha256 });
        Ok(None)
    }

    fn end_file(&mut self, facts: FileFacts) {
        self.facts.push(facts);
        (self.reader, self.block, self.hasher) = (None, 0, Xxh3::new());
    }

    /// Passes over a file of which others take all.
    fn pass(&mut self, input: &Input) {
        let (file, bytes) = (input.path.display().to_string(), input.bytes);
        self.end_file(FileFacts { file, bytes, sha256: String::new() });
    }

    /// Reads over the blocks that an earlier run has done; `contents` are the hashes that
    /// it found, one a file. Returns the bytes on disk that were passed.
    ///
    /// # Errors
    /// `Integrity` if a file is not what it was.
    pub(super) fn skip(&mut self, num_blocks: u64, contents: &[String]) -> Result<u64> {
        let mut disk_bytes = 0;
        let mut last: Option<(usize, u128)> = None;
        for _ in 0..num_blocks {
            let Some(block) = self.next_block()? else { break };
            if let Some((file, content)) = last.filter(|(file, _)| *file != block.file) {
                self.check(file, content, contents)?;
            }
            last = Some((block.file, block.content));
            disk_bytes += block.disk_bytes;
            self.recycle(block.bytes);
        }
        last.map_or(Ok(()), |(file, content)| self.check(file, content, contents))?;
        Ok(disk_bytes)
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

impl Blocks for Source<'_> {
    fn next_block(&mut self) -> Result<Option<Block>> {
        let num_files = self.inputs.len();
        let mut disk_bytes = 0; // of blocks that others take
        while let Some(input) = self.inputs.get(self.facts.len()) {
            if !self.share.has_file(self.facts.len(), num_files) {
                self.pass(input);
                continue;
            }
            let Some(mut block) = self.read(input)? else { continue };
            block.disk_bytes += std::mem::take(&mut disk_bytes);
            if self.share.has_block(block.file, block.number, num_files) {
                return Ok(Some(block));
            }
            disk_bytes = block.disk_bytes;
            self.recycle(block.bytes);
        }
        Ok(None)
    }

    fn recycle(&mut self, bytes: Vec<u8>) {
        if let Some(reader) = &mut self.reader {
            reader.recycle(bytes);
        }
    }
}
