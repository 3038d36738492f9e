//! The ledger: what became of every document, per file and in all.
//!
//! Its law: `read = kept + sum(rejected) + duplicates + quarantined + sum(skipped)`. A run whose
//! ledger breaks it is void.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::funnel::{self, Size, Step};
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
    /// What enters and leaves each step of the profile, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub funnel: Vec<Step>,
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

/// Files that a sentence names.
const MAX_NAMES: usize = 5;

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
        funnel::add(&mut self.funnel, &other.funnel);
    }

    /// Forgets what deduplication has decided, for it to be decided again.
    pub fn reopen(&mut self) {
        (self.kept, self.duplicates) = (0, 0);
        if let Some(dedup) = self.dedup() {
            dedup.left = Size::default();
            dedup.rejected.remove(funnel::DUPLICATES);
        }
    }

    /// Counts documents that no other repeats.
    pub fn keep(&mut self, size: Size) {
        self.kept += size.documents;
        if let Some(dedup) = self.dedup() {
            dedup.left.add(size);
        }
    }

    /// Counts documents that repeat an earlier one.
    pub fn repeat(&mut self, size: Size) {
        self.duplicates += size.documents;
        if let Some(dedup) = self.dedup().filter(|_| size.documents > 0) {
            dedup.reject(funnel::DUPLICATES, size);
        }
    }

    /// Counts a step of rules from outside, which comes between the profile's and deduplication. What has too
    /// few words for an n-gram is rejected by the latter before these rules are asked: it passes them unasked.
    pub fn ask_outside(&mut self, mut step: Step) {
        let mut place = self.funnel.len();
        if let Some(dedup) = self.dedup() {
            let others = dedup.rejected.iter().filter(|(reason, _)| *reason != funnel::DUPLICATES);
            others.for_each(|(_, unasked)| step.left.add(*unasked));
            dedup.entered = step.left;
            place -= 1;
        }
        step.entered = step.rejected.values().fold(step.left, Size::plus);
        self.funnel.insert(place, step);
    }

    fn dedup(&mut self) -> Option<&mut Step> {
        self.funnel.last_mut().filter(|step| step.name == funnel::DEDUP)
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
        let (read, accounted) = (self.read, self.accounted());
        let broken = if read == accounted { self.leak() } else { Some((read, accounted)) };
        broken.map_or(Ok(()), |(read, accounted)| {
            Err(Error::NotConserved { file: file.to_owned(), read, accounted })
        })
    }

    /// The first place where the funnel loses documents or disagrees with the fates, and by how much.
    fn leak(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.funnel.first()?, self.funnel.last()?);
        let documents = self.expected_documents().saturating_sub(self.quarantined);
        let ends = [(documents, first.entered.documents), (self.kept, last.left.documents)];
        let steps = self.funnel.iter().map(|step| (step.entered.documents, step.accounted()));
        let joints = self.funnel.windows(2).flat_map(|pair| {
            let (left, entered) = (pair[0].left, pair[1].entered);
            [(left.documents, entered.documents), (left.bytes, entered.bytes), (left.words, entered.words)]
        });
        let reasons = self.rejected.iter().map(|(reason, count)| (*count, self.rejected_on_the_way(reason)));
        let mut all = ends.into_iter().chain(steps).chain(joints).chain(reasons);
        all.find(|(expected, found)| expected != found)
    }

    fn rejected_on_the_way(&self, reason: &str) -> u64 {
        self.funnel.iter().filter_map(|step| step.rejected.get(reason)).map(|size| size.documents).sum()
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

    /// A sentence that names the files without a document, good or bad; `None` if there is none.
    pub fn without_documents(&self) -> Option<String> {
        let empty = self.files.iter().filter(|file| file.counts.expected_documents() == 0);
        let names: Vec<String> = empty.map(|file| format!("`{}`", file.file)).collect();
        let shown = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
        let others = match names.len().saturating_sub(MAX_NAMES) {
            0 => String::new(),
            count => format!(" and {count} other inputs"),
        };
        (!names.is_empty()).then(|| format!("no documents in {shown}{others}"))
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

    /// A file of which 3 documents enter, 1 is short and 1 a duplicate.
    fn counts() -> Counts {
        let size = |documents| Size { documents, bytes: 10 * documents, words: 2 * documents };
        let mut counts = Counts { read: 4, quarantined: 1, ..Counts::default() };
        let mut seed = Step { entered: size(3), left: size(2), ..Step::named("seed") };
        seed.reject("too_few_words", size(1));
        counts.reject("too_few_words", 1);
        counts.funnel = vec![seed, Step { entered: size(2), ..Step::named(funnel::DEDUP) }];
        counts.keep(size(1));
        counts.repeat(size(1));
        counts
    }

    #[test]
    fn a_funnel_that_leaks_or_contradicts_the_fates_is_found() {
        counts().check("a").unwrap();
        let broken: [fn(&mut Counts); 6] = [
            |counts| counts.funnel[0].entered.documents += 1,
            |counts| counts.funnel[1].left.documents -= 1,
            |counts| counts.funnel[1].entered.words += 1,
            |counts| counts.funnel[0].left.bytes -= 1,
            |counts| counts.funnel[0].rejected.clear(),
            |counts| {
                let size = counts.funnel[0].rejected.remove("too_few_words").unwrap_or_default();
                counts.funnel[0].reject("other", size);
            },
        ];
        for (index, change) in broken.into_iter().enumerate() {
            let mut counts = counts();
            change(&mut counts);
            assert!(counts.check("a").is_err(), "{index}");
        }
    }

    #[test]
    fn what_is_too_short_to_compare_passes_rules_from_outside_unasked() {
        let size = |documents| Size { documents, bytes: 10 * documents, words: 2 * documents };
        let mut dedup = Step { entered: size(5), ..Step::named(funnel::DEDUP) };
        dedup.reject("fewer_words_than_ngram", size(2));
        let mut counts = Counts { read: 5, funnel: vec![dedup], ..Counts::default() };
        counts.reject("fewer_words_than_ngram", 2);
        counts.reject("python.own", 1);
        let mut own = Step { left: size(2), ..Step::named("python") };
        own.reject("python.own", size(1));
        let mut late = counts.clone();
        counts.ask_outside(own.clone());
        counts.keep(size(1));
        counts.repeat(size(1));
        counts.check("a").unwrap();
        // The two doors count duplicates before and after.
        late.keep(size(1));
        late.repeat(size(1));
        late.ask_outside(own);
        assert_eq!(late, counts);
    }

    #[test]
    fn files_without_a_document_are_named_the_first_few() {
        let file = |name: &str, read, requests| {
            let mut counts = Counts { read, ..Counts::default() };
            counts.skip("request", requests);
            FileCounts { file: name.to_owned(), counts }
        };
        let told = |files: &[FileCounts]| Ledger::new(files.to_vec()).without_documents();
        assert_eq!(told(&[file("a", 2, 1)]), None);
        let some = told(&[file("a", 0, 0), file("b", 1, 0), file("c", 2, 2)]);
        assert_eq!(some.as_deref(), Some("no documents in `a`, `c`"));
        let many = told(&vec![file("a", 0, 0); 7]);
        assert_eq!(many.as_deref(), Some("no documents in `a`, `a`, `a`, `a`, `a` and 2 other inputs"));
    }

    #[test]
    fn a_file_that_is_decided_again_counts_the_same() {
        let mut again = counts();
        again.reopen();
        assert!(again.check("a").is_err());
        let size = Size { documents: 1, bytes: 10, words: 2 };
        again.keep(size);
        again.repeat(size);
        assert_eq!(again, counts());
    }

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
