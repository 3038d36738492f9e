//! One record among the inputs, found as a run would read it.

use std::path::Path;

use crate::config::PrepConfig;
use crate::document::{Fallback, Record};
use crate::error::{Error, Result};
use crate::pipeline::{bad_record, lines};
use crate::read::{self, Block, Input};

/// Which record of the inputs is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one on this line (row, number of the record in a WARC file), from 1.
    Line(u64),
    /// The first with this id.
    Id(String),
}

/// A record that was found.
pub(super) struct Located {
    /// The path as it was given.
    pub(super) file: String,
    /// 1-based line or row.
    pub(super) line: u64,
    /// Its id and text, or why it could not be read.
    pub(super) record: std::result::Result<(String, String), String>,
}

/// The record that is meant, of the first file that has it.
///
/// # Errors
/// `InvalidValue` if no file has it, and what reading a file can give.
pub(super) fn locate(config: &PrepConfig, inputs: &[Input], which: &Which) -> Result<Located> {
    let mut last_line = 0;
    for input in inputs {
        let mut search = Search { config, path: &input.path, which, last_line: 0 };
        if let Some(found) = search.run()? {
            return Ok(found);
        }
        last_line = search.last_line;
    }
    Err(absent(inputs, which, last_line))
}

fn absent(inputs: &[Input], which: &Which, last_line: u64) -> Error {
    let names: Vec<String> = inputs.iter().map(|input| format!("`{}`", input.path.display())).collect();
    let (expected, found) = match which {
        Which::Line(line) => (
            format!("a line with a record; the last one is {last_line}"),
            format!("no record on line {line}"),
        ),
        Which::Id(id) => ("the id of one of its documents".to_owned(), format!("no document with id `{id}`")),
    };
    Error::InvalidValue { what: format!("document of {}", names.join(", ")), expected, found }
}

/// The search through one file.
struct Search<'s> {
    config: &'s PrepConfig,
    path: &'s Path,
    which: &'s Which,
    /// The last line that holds a record, good or bad.
    last_line: u64,
}

impl Search<'_> {
    fn run(&mut self) -> Result<Option<Located>> {
        let mut reader = read::open(self.path, &self.config.text_field, self.config.limits())?;
        while let Some(block) = reader.next_block()? {
            if let Some(found) = self.search(&block) {
                return Ok(Some(found));
            }
            reader.recycle(block.bytes);
        }
        Ok(None)
    }

    fn search(&mut self, block: &Block) -> Option<Located> {
        for bad in &block.bad {
            self.last_line = self.last_line.max(bad.line);
            if *self.which == Which::Line(bad.line) {
                return Some(self.located(bad.line, Err(bad.reason.clone())));
            }
        }
        for line in lines(block).filter(|line| !line.is_blank()) {
            self.last_line = self.last_line.max(line.number);
            if matches!(self.which, Which::Line(number) if *number != line.number) {
                continue;
            }
            let record = line.record(&self.config.text_field, self.config.max_line_bytes);
            let found = match (&record, self.which) {
                (Ok(record), Which::Id(id)) if self.id(record, line.number) != *id => continue,
                (Err(_), Which::Id(_)) => continue,
                (Err(fault), _) => Err(bad_record(&line, fault).reason),
                (Ok(record), _) => Ok((self.id(record, line.number), record.text.clone().into_owned())),
            };
            return Some(self.located(line.number, found));
        }
        None
    }

    fn id(&self, record: &Record, line: u64) -> String {
        let file_name = &read::file_name(self.path);
        record.id(Fallback { file_name, line, source: "" })
    }

    fn located(&self, line: u64, record: std::result::Result<(String, String), String>) -> Located {
        Located { file: self.path.display().to_string(), line, record }
    }
}
