//! A profile: which steps a text goes through, and with which bounds.

use std::borrow::Cow;

use serde::Serialize;

use crate::dedup::{hash_ngrams, NgramIndex, Verdict};
use crate::error::{Error, Result};
use crate::ledger::Counts;
use crate::pii::remove_pii;
use crate::quality::{Reason, SeedRules, WordSet};
use crate::text::{scan, Scan};

/// Names of the profiles.
pub const NAMES: [&str; 3] = ["seed", "clean", "dedup"];

/// The steps, in order: PII, quality, n-gram deduplication. `None` or false leaves one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Replace personal data by tags.
    pub pii: bool,
    /// Reject by quality.
    pub quality: Option<SeedRules>,
    /// Words in an n-gram of deduplication.
    pub ngram: Option<usize>,
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    scan: Scan,
    words: WordSet,
}

/// What became of one text of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Fate<'t> {
    /// Kept, as cleaned.
    Kept(Cow<'t, str>),
    /// Rejected or a duplicate.
    Dropped,
}

impl Profile {
    /// The profile of that name.
    ///
    /// # Errors
    /// `UnknownName`, with the nearest.
    pub fn named(name: &str, rules: SeedRules, ngram: usize) -> Result<Self> {
        match name {
            "seed" => Ok(Self { pii: true, quality: Some(rules), ngram: Some(ngram) }),
            "clean" => Ok(Self { pii: true, quality: None, ngram: None }),
            "dedup" => Ok(Self { pii: false, quality: None, ngram: Some(ngram) }),
            _ => Err(Error::unknown_name("profile", name, &NAMES)),
        }
    }

    /// Cleans and judges one text, and appends its n-grams; what other texts decide is left open.
    pub fn prepare<'t>(
        &self,
        text: &'t str,
        scratch: &mut Scratch,
        ngrams: &mut Vec<u128>,
    ) -> std::result::Result<Cow<'t, str>, Reason> {
        let text = if self.pii { remove_pii(text) } else { Cow::Borrowed(text) };
        if self.quality.is_none() && self.ngram.is_none() {
            return Ok(text);
        }
        scan(&text, &mut scratch.scan);
        let rules = self.quality.as_ref();
        let broken = rules.and_then(|rules| rules.first_broken(&text, &scratch.scan, &mut scratch.words));
        if let Some(reason) = broken {
            return Err(reason);
        }
        let has_words = self.ngram.is_none_or(|n| hash_ngrams(&text, &scratch.scan, n, ngrams));
        has_words.then_some(text).ok_or(Reason::FewerWordsThanNgram)
    }

    /// Prepares texts in order, in memory; one fate a text, and the counts.
    pub fn prepare_all<'t>(&self, texts: &'t [String]) -> (Vec<Fate<'t>>, Counts) {
        let (mut scratch, mut ngrams, mut index) = (Scratch::default(), Vec::new(), NgramIndex::default());
        let mut counts = Counts { read: texts.len() as u64, ..Counts::default() };
        let fates = texts.iter().map(|text| {
            ngrams.clear();
            counts.bytes_read += text.len() as u64;
            match self.prepare(text, &mut scratch, &mut ngrams) {
                Err(reason) => counts.reject(reason.name(), 1),
                Ok(_) if index.judge(&ngrams) == Verdict::Duplicate => counts.duplicates += 1,
                Ok(text) => {
                    counts.kept += 1;
                    return Fate::Kept(text);
                }
            }
            Fate::Dropped
        });
        (fates.collect(), counts)
    }
}
