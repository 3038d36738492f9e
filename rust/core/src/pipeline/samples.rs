//! The first three documents of each reason, without their personal data: what a rule
//! takes, at a glance.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::document::{Fallback, Record};
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::funnel::DUPLICATES;
use crate::pii::{self, Action, KindCounts, Policy, PolicyConfig};
use crate::text::floor;

/// Name of the list of samples inside a documents folder.
pub const FILE_NAME: &str = "samples.jsonl";

/// Samples of a reason.
pub(super) const EACH: usize = 3;
/// Bytes of a text in which personal data is sought: longer than any match but a private key.
pub(super) const EXCERPT_BYTES: usize = 4096;
/// Code points of a text that are shown.
const SHOWN_CHARS: usize = 200;

/// A document that was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    /// Its name in the ledger.
    pub(super) reason: String,
    /// The path as it was given.
    pub(super) file: String,
    /// 1-based line or row; absent for duplicates, which are known by their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u64>,
    /// Its id, as it is written.
    pub(super) id: String,
    /// Its beginning, masked.
    pub(super) text: String,
}

/// The beginning of a text: as much of it as a sample needs.
pub(super) fn excerpt(text: &str) -> &str {
    &text[..floor(text, EXCERPT_BYTES)]
}

/// Takes documents in the order of the inputs.
pub(super) struct Samples {
    mask: Policy,
    scratch: pii::Scratch,
}

impl Samples {
    pub(super) fn new() -> Result<Self> {
        let mask = Policy::new(&PolicyConfig::all(Action::Mask))?;
        Ok(Self { mask, scratch: pii::Scratch::default() })
    }

    /// Takes the sample, masked, unless there are enough of its reason.
    pub(super) fn take(&mut self, sample: Sample, taken: &mut Vec<Sample>) {
        if !is_full(taken, &sample.reason) {
            let (id, text) = (self.masked(&sample.id), self.masked(&sample.text));
            taken.push(Sample { id, text, ..sample });
        }
    }

    /// Takes a document of which only the line that would be written is known.
    pub(super) fn take_line(&mut self, line: &[u8], file: &str, taken: &mut Vec<Sample>) {
        if is_full(taken, DUPLICATES) {
            return;
        }
        let Ok(record) = Record::parse(line.trim_ascii_end(), "text") else { return };
        let id = record.id(Fallback { file_name: "", line: 0, source: "" }); // it was written with one
        let (reason, file) = (DUPLICATES.to_owned(), file.to_owned());
        let text = excerpt(&record.text).to_owned();
        self.take(Sample { reason, file, line: None, id, text }, taken);
    }

    fn masked(&mut self, text: &str) -> String {
        let masked = self.mask.apply(text, &mut self.scratch, &mut KindCounts::default());
        masked.map(|text| text.chars().take(SHOWN_CHARS).collect()).unwrap_or_default()
    }
}

/// True if no further sample of the reason is wanted.
pub(super) fn is_full(taken: &[Sample], reason: &str) -> bool {
    taken.iter().filter(|sample| sample.reason == reason).count() >= EACH
}

/// The first samples of all parts; each part's are its first, `files` is the order of the inputs.
pub(super) fn merge(mut samples: Vec<Sample>, files: &[String]) -> Vec<Sample> {
    samples.sort_by_cached_key(|sample| (files.iter().position(|file| *file == sample.file), sample.line));
    let mut merged = Vec::new();
    for sample in samples {
        if !is_full(&merged, &sample.reason) {
            merged.push(sample);
        }
    }
    merged
}

/// Writes the samples by reason, those of one reason in the order of the inputs, and gives them so.
///
/// # Panics
/// Never: samples hold only JSON values.
pub(super) fn write(mut samples: Vec<Sample>, draft: &Draft) -> Result<Vec<Sample>> {
    samples.sort_by(|a, b| a.reason.cmp(&b.reason)); // stable
    let line = |sample| serde_json::to_string(sample).expect("a sample holds only JSON values") + "\n";
    let path = draft.path(FILE_NAME);
    fs::write(&path, samples.iter().map(line).collect::<String>()).map_err(Error::io("write", &path))?;
    Ok(samples)
}

/// The samples of a folder.
pub(super) fn read(folder: &Path) -> Result<Vec<Sample>> {
    let path = folder.join(FILE_NAME);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let damaged = |error: serde_json::Error| Error::Integrity {
        path: path.clone(),
        expected: "a sample on every line".to_owned(),
        found: error.to_string(),
    };
    text.lines().map(|line| serde_json::from_str(line).map_err(damaged)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(reason: &str, file: &str, line: u64, text: &str) -> Sample {
        let (reason, file, text) = (reason.to_owned(), file.to_owned(), text.to_owned());
        Sample { reason, file, line: Some(line), id: format!("{line}"), text }
    }

    #[test]
    fn a_sample_is_cut_after_it_is_masked() {
        let text = format!("{} ann.example@example.org and more {}", "é".repeat(185), "x".repeat(9000));
        let mut taken = Vec::new();
        Samples::new().unwrap().take(sample("a", "f", 1, excerpt(&text)), &mut taken);
        assert_eq!(taken[0].text, format!("{} ***@example.or", "é".repeat(185)));
    }

    #[test]
    fn the_first_three_of_the_parts_are_the_first_three_of_all() {
        let files = ["b".to_owned(), "a".to_owned()];
        let lines = [("a", 2), ("b", 9), ("a", 1), ("b", 10), ("a", 7)];
        let samples = lines.map(|(file, line)| sample("r", file, line, "")).to_vec();
        let merged: Vec<_> =
            merge(samples, &files).into_iter().map(|sample| (sample.file, sample.line)).collect();
        let expected = [("b", 9), ("b", 10), ("a", 1)];
        assert_eq!(merged, expected.map(|(file, line)| (file.to_owned(), Some(line))));
    }
}
