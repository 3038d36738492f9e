//! The funnel of a run: how many documents, bytes and words enter and leave each step, and
//! for which reasons the others stay behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::text::count_words;

/// Name of the step that compares documents with one another.
pub const DEDUP: &str = "dedup";

/// The reason of documents that repeat an earlier one.
pub const DUPLICATES: &str = "duplicates";

/// A number of documents, and the size of their texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Documents.
    pub documents: u64,
    /// Bytes of their texts in UTF-8.
    pub bytes: u64,
    /// Words between white space.
    pub words: u64,
}

/// One step: what enters is what leaves, as edited, and what is rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// `pii`, `language`, the name of a quality profile, `rule` or `dedup`.
    pub name: String,
    /// What the step before has passed.
    pub entered: Size,
    /// What this step rejects, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, Size>,
    /// What it passes on.
    pub left: Size,
}

impl Size {
    /// One document.
    pub fn of(text: &str) -> Self {
        Self::with_words(text, count_words(text))
    }

    /// One document whose words are counted.
    pub(crate) fn with_words(text: &str, num_words: usize) -> Self {
        Self { documents: 1, bytes: text.len() as u64, words: num_words as u64 }
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.add(*other);
        self
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.words += other.words;
    }
}

impl Step {
    /// A step that nothing has entered.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Adds the counts of the same step.
    pub fn add(&mut self, other: &Self) {
        self.entered.add(other.entered);
        self.left.add(other.left);
        other.rejected.iter().for_each(|(reason, size)| self.reject(reason, *size));
    }

    /// Counts what is rejected.
    pub fn reject(&mut self, reason: &str, size: Size) {
        match self.rejected.get_mut(reason) {
            Some(found) => found.add(size),
            None => drop(self.rejected.insert(reason.to_owned(), size)),
        }
    }

    /// Documents that leave or are rejected.
    pub fn accounted(&self) -> u64 {
        self.left.documents + self.rejected.values().map(|size| size.documents).sum::<u64>()
    }
}

/// Adds the steps of another file; a funnel that is empty becomes the other.
pub fn add(funnel: &mut Vec<Step>, other: &[Step]) {
    if funnel.is_empty() {
        funnel.extend(other.iter().map(|step| Step::named(&step.name)));
    }
    for (step, other) in funnel.iter_mut().zip(other) {
        step.add(other);
    }
}

/// Where the document at hand stands in the funnel of a thread.
#[derive(Debug, Default)]
pub struct Gauge {
    steps: Vec<Step>,
    /// The step that has the document.
    at: usize,
    /// The document as that step was given it.
    document: Size,
}

impl Gauge {
    /// The next document comes to the first step.
    pub fn begin(&mut self, document: Size) {
        (self.at, self.document) = (0, document);
    }

    /// The document, as the last step has left it.
    pub fn document(&self) -> Size {
        self.document
    }

    /// The step passes the document on; `edited` is its size, if its text has changed.
    pub fn pass(&mut self, edited: Option<Size>) {
        let entered = self.document;
        self.document = edited.unwrap_or(entered);
        let left = self.document;
        let step = self.step();
        step.entered.add(entered);
        step.left.add(left);
        self.at += 1;
    }

    /// The last step has the document; what becomes of it is decided elsewhere.
    pub fn enter(&mut self) {
        let document = self.document;
        self.step().entered.add(document);
    }

    /// The step rejects the document.
    pub fn reject(&mut self, reason: &str) {
        self.enter();
        let document = self.document;
        self.step().reject(reason, document);
    }

    fn step(&mut self) -> &mut Step {
        if self.steps.len() <= self.at {
            self.steps.resize_with(self.at + 1, Step::default);
        }
        &mut self.steps[self.at]
    }

    /// What was counted since this was last asked, by the names of the steps.
    pub fn take(&mut self, names: &[String]) -> Vec<Step> {
        let mut steps = std::mem::take(&mut self.steps);
        steps.resize_with(names.len(), Step::default);
        for (step, name) in steps.iter_mut().zip(names) {
            name.clone_into(&mut step.name);
        }
        steps
    }
}
