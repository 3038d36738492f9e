//! A profile: which steps a text goes through, and with which bounds.

use std::borrow::Cow;

use serde::Serialize;

use crate::dedup::{hash_ngrams, NgramIndex, Verdict};
use crate::error::{Error, Result};
use crate::ledger::Counts;
use crate::pii::remove_pii;
use crate::quality::{Bound, Chain, Reason, SeedRules, Workspace};

/// Names of the profiles that are more, or other, than quality rules.
const STEPS: [&str; 3] = ["seed", "clean", "dedup"];

/// The steps, in order: PII, quality, n-gram deduplication. Without any, all is kept.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// Replace personal data by tags.
    pub pii: bool,
    /// Reject by quality.
    pub quality: Chain,
    /// Words in an n-gram of deduplication.
    pub ngram: Option<usize>,
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    work: Workspace,
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
    /// The profile of one name, or of several with commas between: each adds its steps, and
    /// quality rules are asked in the order of the names.
    ///
    /// # Errors
    /// `UnknownName`, with the nearest.
    pub fn named(names: &str, rules: SeedRules, ngram: usize) -> Result<Self> {
        let mut profile = Self::default();
        names.split(',').try_for_each(|name| profile.push(name.trim(), rules, ngram))?;
        Ok(profile)
    }

    fn push(&mut self, name: &str, rules: SeedRules, ngram: usize) -> Result<()> {
        let is_seed = name == "seed";
        if !STEPS.contains(&name) && !self.quality.push(name) {
            let names = [&STEPS[..], &Chain::NAMES[..]].concat();
            return Err(Error::unknown_name("profile", name, &names));
        }
        if is_seed {
            self.quality.push_seed(rules);
        }
        self.pii |= is_seed || name == "clean";
        if is_seed || name == "dedup" {
            self.ngram = Some(ngram);
        }
        Ok(())
    }

    /// Adds the user's own rules, which are asked last.
    #[must_use]
    pub fn with_rules(mut self, rules: Vec<Bound>) -> Self {
        self.quality.push_rules(rules);
        self
    }

    /// Cleans and judges one text, and appends its n-grams; what other texts decide is left open.
    pub fn prepare<'t>(
        &self,
        text: &'t str,
        scratch: &mut Scratch,
        ngrams: &mut Vec<u128>,
    ) -> std::result::Result<Cow<'t, str>, Reason<'_>> {
        let work = &mut scratch.work;
        work.views.reset();
        let text = if self.pii { remove_pii(text) } else { Cow::Borrowed(text) };
        let text = self.quality.judge(text, work)?;
        let has_words = self.ngram.is_none_or(|n| hash_ngrams(&text, work.views.scan(&text), n, ngrams));
        has_words.then_some(text).ok_or(Reason::FEWER_WORDS_THAN_NGRAM)
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
