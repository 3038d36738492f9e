//! A corpus of which no record has the text field: the field has another name, and a run that quarantines all
//! would say so only at its end.

use std::path::PathBuf;

use super::batch::{Batch, Line};
use crate::document;
use crate::error::{Error, Result};
use crate::json::{self, Fault};

/// Records from the first on that may lack the field before a run is stopped.
const MOST: u64 = 1000;

/// Records of a block that lack the text field.
#[derive(Debug, Default)]
pub(super) struct WithoutText {
    count: u64,
    /// The names of the first one's fields, in backticks, comma-separated.
    fields: String,
}

impl WithoutText {
    /// Counts the record of `line`, which has this `fault`.
    pub(super) fn see(&mut self, line: &Line, fault: &Fault, text_field: &str) {
        if *fault != document::missing(text_field) {
            return;
        }
        if self.count == 0 {
            self.fields = names(line.bytes);
        }
        self.count += 1;
    }
}

/// The names of the fields of a record, at most ten of them.
fn names(line: &[u8]) -> String {
    let fields = std::str::from_utf8(line).ok().and_then(|line| json::object(line).ok()).unwrap_or_default();
    let short = |key: &str| key.chars().take(40).collect::<String>();
    let names: Vec<String> = fields.iter().take(10).map(|(key, _)| format!("`{}`", short(key))).collect();
    names.join(", ")
}

/// Watches the blocks of a run, in order.
#[derive(Debug)]
pub(super) struct Watch {
    text_field: String,
    /// The last input: before it, another may still have the field.
    last_file: usize,
    /// Records so far, none of which has the field.
    count: u64,
    /// A record had it, or failed for another reason.
    is_over: bool,
}

impl Watch {
    pub(super) fn new(text_field: &str, num_files: usize) -> Self {
        let (text_field, last_file) = (text_field.to_owned(), num_files.saturating_sub(1));
        Self { text_field, last_file, count: 0, is_over: false }
    }

    /// No record is asked for.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// # Errors
    /// `InvalidFile` if the last input is reached, and of a thousand records or more none had the field.
    pub(super) fn see(&mut self, batch: &Batch, file: &str) -> Result<()> {
        let WithoutText { count, fields } = &batch.without_text;
        self.count += count;
        self.is_over |= *count < batch.counts.read;
        if self.is_over || self.count < MOST || batch.file < self.last_file || fields.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidFile {
            path: PathBuf::from(file),
            expected: format!("records with their text in the field `{}`", self.text_field),
            found: format!(
                "none of the first {} has it; found the fields {fields}: set `text_field` to the one that holds the text",
                self.count
            ),
        })
    }
}
