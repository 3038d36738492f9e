//! The ledger: what became of every document, per file and in all.
//!
//! Its law: `read = kept + sum(rejected) + duplicates + quarantined + sum(skipped)`. A run whose
//! ledger breaks it is void.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pii::KindCounts;

/// Name of the ledger inside a documents folder.
pub const FILE_NAME: &str = "ledger.json";

/// Counts of one file, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Records found, good or bad.
    pub read: u64,
    /// Documents written.
    pub kept: u64,
    /// Documents rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Documents that repeat an earlier one.
    pub duplicates: u64,
    /// Records that could not be read.
    pub quarantined: u64,
    /// Records that by their kind are no documents (requests in a WARC, say), by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, u64>,
    /// Size of the file as it is on disk, in bytes.
    pub bytes_read: u64,
    /// What a policy for personal data found, by kind, in documents kept or not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pii: BTreeMap<String, u64>,
}

/// Counts of one input file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// The path as it was given.
    pub file: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The ledger of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Version of this layout.
    pub schema: u32,
    /// One entry an input file, in order.
    pub files: Vec<FileCounts>,
    /// Their sum.
    pub total: Counts,
}

impl Counts {
    /// Documents and records that have a fate.
    pub fn accounted(&self) -> u64 {
        self.kept
            + self.rejected.values().sum::<u64>()
            + self.duplicates
            + self.quarantined
            + self.skipped.values().sum::<u64>()
    }

    /// Records read that were to be documents, good or bad.
    pub fn expected_documents(&self) -> u64 {
        self.read - self.skipped.values().sum::<u64>().min(self.read)
    }

    /// Adds the counts of another file.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.kept += other.kept;
        self.duplicates += other.duplicates;
        self.quarantined += other.quarantined;
        self.bytes_read += other.bytes_read;
        for (reason, count) in &other.rejected {
            self.reject(reason, *count);
        }
        for (kind, count) in &other.skipped {
            self.skip(kind, *count);
        }
        for (kind, count) in &other.pii {
            *self.pii.entry(kind.clone()).or_default() += count;
        }
    }

    /// Counts documents rejected for `reason`.
    pub fn reject(&mut self, reason: &str, count: u64) {
        match self.rejected.get_mut(reason) {
            Some(found) => *found += count,
            None => drop(self.rejected.insert(reason.to_owned(), count)),
        }
    }

    /// Counts records that are no documents.
    pub fn skip(&mut self, kind: &str, count: u64) {
        *self.skipped.entry(kind.to_owned()).or_default() += count;
    }

    /// Counts what was found of personal data.
    pub fn count_pii(&mut self, found: &KindCounts) {
        for (kind, count) in found.iter() {
            *self.pii.entry(kind.to_owned()).or_default() += count;
        }
    }

    /// Share of records that could not be read among those that were to be documents; 0 if there are none.
    pub fn bad_fraction(&self) -> f64 {
        match self.expected_documents() {
            0 => 0.0,
            expected => self.quarantined as f64 / expected as f64,
        }
    }

    fn check(&self, file: &str) -> Result<()> {
        if self.read == self.accounted() {
            return Ok(());
        }
        Err(Error::NotConserved { file: file.to_owned(), read: self.read, accounted: self.accounted() })
    }
}

impl Ledger {
    /// Adds up the files.
    pub fn new(files: Vec<FileCounts>) -> Self {
        let mut total = Counts::default();
        for file in &files {
            total.add(&file.counts);
        }
        Self { schema: 1, files, total }
    }

    /// Checks the law for every file and in all.
    ///
    /// # Errors
    /// `NotConserved`, naming the file.
    pub fn check(&self) -> Result<()> {
        self.files.iter().try_for_each(|file| file.counts.check(&file.file))?;
        self.total.check("all files")?;
        let sum = Self::new(self.files.clone()).total;
        if sum == self.total {
            return Ok(());
        }
        Err(Error::NotConserved { file: "all files".into(), read: self.total.read, accounted: sum.read })
    }

    /// Reads the ledger of a documents folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Integrity {
            path,
            expected: "a ledger".to_owned(),
            found: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_ledger_that_adds_up_passes_and_one_off_by_one_does_not(
            rows in prop::collection::vec((0_u64..9, 0_u64..9, 0_u64..9, 0_u64..9, 0_u64..9), 1..5),
            broken in any::<bool>()
        ) {
            let files = rows.iter().map(|&(kept, short, duplicates, quarantined, requests)| {
                let mut counts = Counts { kept, duplicates, quarantined, ..Counts::default() };
                counts.reject("too_few_words", short);
                counts.skip("request", requests);
                counts.read = counts.accounted();
                FileCounts { file: "a".into(), counts }
            });
            let mut files: Vec<FileCounts> = files.collect();
            files[0].counts.read += u64::from(broken);
            let result = Ledger::new(files).check();
            prop_assert_eq!(result.map_err(|error| error.exit_status()), if broken { Err(4) } else { Ok(()) });
        }
    }
}
