//! A profile: which steps a text goes through, and with which bounds.

use std::borrow::Cow;
use std::sync::Arc;

use crate::dedup::hash_ngrams;
use crate::error::{Error, Result};
use crate::funnel::{self, Gauge, Size, Step};
use crate::language::{self, LanguageFilter};
use crate::pii::{self, remove_pii, KindCounts, Policy};
use crate::quality::{Bound, Chain, Measure, PhraseList, Reason, SeedRules, Workspace};
use crate::text::Views;

/// Names of the profiles that are more, or other, than quality rules.
const STEPS: [&str; 3] = ["seed", "clean", "dedup"];

/// What is done with personal data.
#[derive(Debug, Clone, Default)]
pub enum Pii {
    /// Nothing.
    #[default]
    Leave,
    /// The four patterns of the `seed` profile become tags.
    Seed,
    /// What a policy says.
    Policy(Arc<Policy>),
}

/// The steps, in order: PII, language, quality, n-gram deduplication. Without any, all is kept.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// Personal data.
    pub pii: Pii,
    /// Reject by language.
    pub language: Option<Arc<LanguageFilter>>,
    /// Reject by quality.
    pub quality: Chain,
    /// Words in an n-gram of deduplication.
    pub ngram: Option<usize>,
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    work: Workspace,
    pii: pii::Scratch,
    pii_counts: KindCounts,
    language: language::Scratch,
}

impl Scratch {
    /// What a policy found since this was last asked, by kind.
    pub fn take_pii_counts(&mut self) -> KindCounts {
        std::mem::take(&mut self.pii_counts)
    }

    /// Measures the text that [`Profile::prepare`] gave last.
    pub(crate) fn measure(&mut self, text: &str, measure: Measure) -> f64 {
        measure(text, &mut self.work.views)
    }

    /// The views, to be used for another text.
    pub(crate) fn views(&mut self) -> &mut Views {
        &mut self.work.views
    }

    /// How far the text at hand has come, and all before it.
    pub(crate) fn gauge(&mut self) -> &mut Gauge {
        &mut self.work.gauge
    }
}

impl Pii {
    /// The text as this leaves it, or why the document is rejected.
    fn apply<'t>(
        &self,
        text: &'t str,
        scratch: &mut Scratch,
    ) -> std::result::Result<Cow<'t, str>, Reason<'static>> {
        match self {
            Self::Leave => Ok(Cow::Borrowed(text)),
            Self::Seed => Ok(remove_pii(text)),
            Self::Policy(policy) => policy
                .apply(text, &mut scratch.pii, &mut scratch.pii_counts)
                .map_err(|kind| Reason::named(kind.reason())),
        }
    }
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
        if is_seed || name == "clean" {
            self.pii = Pii::Seed;
        }
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

    /// Rejects texts that hold a phrase of a list; asked after all rules.
    #[must_use]
    pub fn with_phrases(mut self, lists: Vec<PhraseList>) -> Self {
        for list in lists {
            self.quality.push_phrases(list);
        }
        self
    }

    /// Deals with personal data by a policy, unless it is off, in place of the four patterns.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        if !policy.is_off() {
            self.pii = Pii::Policy(Arc::new(policy));
        }
        self
    }

    /// Keeps texts of some languages only.
    #[must_use]
    pub fn with_language(mut self, filter: Option<LanguageFilter>) -> Self {
        self.language = filter.map(Arc::new);
        self
    }

    /// Cleans and judges one text, and appends its n-grams; what other texts decide is left open.
    pub fn prepare<'t>(
        &self,
        text: &'t str,
        scratch: &mut Scratch,
        ngrams: &mut Vec<u128>,
    ) -> std::result::Result<Cow<'t, str>, Reason<'_>> {
        scratch.work.views.reset();
        scratch.work.views.hold_within(self.quality.most_words());
        let size = self.size(text, &mut scratch.work.views);
        scratch.work.gauge.begin(size);
        let judged = self.judge(text, scratch, ngrams);
        match &judged {
            Err(reason) => scratch.work.gauge.reject(reason.name()),
            Ok(_) if self.ngram.is_some() => scratch.work.gauge.enter(),
            Ok(_) => (),
        }
        judged
    }

    /// Its size; the words are those of the scan where a later step reads it.
    fn size(&self, text: &str, views: &mut Views) -> Size {
        match self.ngram {
            Some(_) => Size::with_words(text, views.scan(text).num_words),
            None => Size::of(text),
        }
    }

    fn judge<'t>(
        &self,
        text: &'t str,
        scratch: &mut Scratch,
        ngrams: &mut Vec<u128>,
    ) -> std::result::Result<Cow<'t, str>, Reason<'_>> {
        let text = self.pii.apply(text, scratch)?;
        if !matches!(self.pii, Pii::Leave) {
            let edited = matches!(text, Cow::Owned(_)).then(|| {
                scratch.work.views.reset();
                self.size(&text, &mut scratch.work.views)
            });
            scratch.work.gauge.pass(edited);
        }
        if let Some(filter) = &self.language {
            let broken = filter.judge(&text, &mut scratch.language);
            broken.map_or(Ok(()), |reason| Err(Reason::named(reason.name())))?;
            scratch.work.gauge.pass(None);
        }
        let work = &mut scratch.work;
        let text = self.quality.judge(text, work)?;
        let has_words = self.ngram.is_none_or(|n| hash_ngrams(&text, work.views.scan(&text), n, ngrams));
        has_words.then_some(text).ok_or(Reason::FEWER_WORDS_THAN_NGRAM)
    }

    /// Names of the steps, in the order of the funnel.
    pub fn step_names(&self) -> Vec<String> {
        let pii = (!matches!(self.pii, Pii::Leave)).then_some("pii");
        let language = self.language.as_ref().map(|_| "language");
        let quality = self.quality.names().iter().map(String::as_str);
        let dedup = self.ngram.map(|_| funnel::DEDUP);
        pii.into_iter().chain(language).chain(quality).chain(dedup).map(str::to_owned).collect()
    }

    /// The funnel of what was prepared since this was last asked.
    pub(crate) fn take_funnel(&self, scratch: &mut Scratch) -> Vec<Step> {
        scratch.work.gauge.take(&self.step_names())
    }
}
