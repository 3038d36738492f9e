//! All blocks of all inputs, in order.

use crate::config::PrepConfig;
use crate::error::Result;
use crate::read::{self, Block, FileFacts, Input, Limits, Reader};

/// Reads one file after the other.
pub(super) struct Source<'i> {
    inputs: &'i [Input],
    text_field: String,
    limits: Limits,
    reader: Option<Box<dyn Reader>>,
    facts: Vec<FileFacts>,
}

impl<'i> Source<'i> {
    pub(super) fn new(inputs: &'i [Input], config: &PrepConfig) -> Self {
        let (text_field, limits) = (config.text_field.clone(), config.limits());
        Self { inputs, text_field, limits, reader: None, facts: Vec::new() }
    }

    /// The next block, or `None` after the last file.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>> {
        while let Some(input) = self.inputs.get(self.facts.len()) {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => none.insert(read::open(&input.path, &self.text_field, self.limits)?),
            };
            if let Some(mut block) = reader.next_block()? {
                block.file = self.facts.len();
                return Ok(Some(block));
            }
            let (bytes, sha256) = reader.finish()?;
            self.facts.push(FileFacts { file: input.path.display().to_string(), bytes, sha256 });
            self.reader = None;
        }
        Ok(None)
    }

    /// Sizes and hashes of the files read, one an input.
    pub(super) fn into_facts(self) -> Vec<FileFacts> {
        self.facts
    }
}
