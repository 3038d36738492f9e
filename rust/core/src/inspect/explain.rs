//! Why one document is kept or rejected: every feature, every rule's value beside its
//! bounds, its language and its personal data. The verdict is the profile's own.

use std::borrow::Cow;

use serde::Serialize;

use super::locate::{locate, Which};
use super::spans::{self, PiiVerdict};
use crate::config::PrepConfig;
use crate::error::Result;
use crate::language::{self, Identifier, LanguageFilter};
use crate::pii::{self, Action, KindCounts, Policy, PolicyConfig};
use crate::pipeline::check_outside_rules;
use crate::profile::{Profile, Scratch};
use crate::quality::{Check, Measure, Reason, StageTrace, Workspace, FEATURES};
use crate::read;
use crate::text::Views;

/// Version of the layout of an explanation as JSON.
const SCHEMA: u32 = 1;

/// Everything that decides about one document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Version of this layout.
    pub schema: u32,
    /// The path as it was given.
    pub file: String,
    /// 1-based line or row.
    pub line: u64,
    /// Its id, with personal data masked; absent if the record cannot be read.
    pub id: Option<String>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What was made of the text, if there is one.
    #[serde(flatten)]
    pub findings: Option<Findings>,
}

/// What the steps of a profile find in a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// Personal data.
    pub pii: PiiVerdict,
    /// Language, of the text without its personal data.
    pub language: LanguageVerdict,
    /// The quality profiles, in order.
    pub quality: Vec<StageTrace>,
    /// Every feature of the text without its personal data, as the first profile sees it.
    pub features: Vec<Feature>,
}

/// What becomes of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fate")]
pub enum Verdict {
    /// It passes every rule; whether it repeats an earlier document only a run can tell.
    Kept {
        /// Bytes of the text that is written.
        bytes: usize,
    },
    /// A rule rejects it.
    Rejected {
        /// Its name in the ledger.
        reason: String,
    },
    /// The record cannot be read.
    Quarantined {
        /// What was expected and found.
        reason: String,
    },
}

/// The language of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LanguageVerdict {
    /// Code of the likeliest language, as the model names it.
    pub code: String,
    /// Its probability, in [0, 1].
    pub score: f64,
    /// False if the configuration has no rule for languages: then this is the built-in model's word.
    pub is_asked: bool,
    /// The languages to keep; none is all.
    pub keep: Vec<String>,
    /// The score must be above this.
    pub threshold: Option<f64>,
    /// Why the rule rejects the text.
    pub reason: Option<&'static str>,
}

/// A feature and its value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Feature {
    /// One of [`FEATURES`].
    pub name: &'static str,
    /// Its value; `None` for 0 of 0.
    pub value: Option<f64>,
}

/// Explains what `config` makes of one document of its inputs; its output is not asked for.
///
/// # Errors
/// Configuration and paths as of a run; `InvalidValue` if there is no such document.
pub fn explain(config: &PrepConfig, which: &Which) -> Result<Explanation> {
    check_outside_rules(config, None)?; // of what they would say nothing is known here
    let profile = config.profile()?;
    let inputs = read::resolve(&config.input)?;
    let found = locate(config, &inputs, which)?;
    let (id, verdict, findings) = match found.record {
        Err(reason) => (None, Verdict::Quarantined { reason }, None),
        Ok((id, text)) => {
            let (verdict, findings) = examine(&profile, &text);
            (Some(masked(&id)?), verdict, Some(findings))
        }
    };
    Ok(Explanation { schema: SCHEMA, file: found.file, line: found.line, id, verdict, findings })
}

/// An id as the samples of a run show it: of one that is somebody's address, not all.
fn masked(id: &str) -> Result<String> {
    let policy = Policy::new(&PolicyConfig::all(Action::Mask))?;
    let masked = policy.apply(id, &mut pii::Scratch::default(), &mut KindCounts::default());
    Ok(masked.map_or_else(|_| String::new(), Cow::into_owned))
}

/// The verdict of a profile on a text, and what led to it.
pub fn examine(profile: &Profile, text: &str) -> (Verdict, Findings) {
    let verdict = match prepare(profile, text) {
        Ok(kept) => Verdict::Kept { bytes: kept.len() },
        Err(reason) => Verdict::Rejected { reason: reason.name().to_owned() },
    };
    let cleaning = Profile { pii: profile.pii.clone(), ..Profile::default() };
    let cleaned = prepare(&cleaning, text);
    let pii = spans::find(&profile.pii, text, cleaned.as_ref().err().map(|reason| reason.name()));
    let cleaned = cleaned.unwrap_or(text.into()); // what is rejected for personal data is measured with it
    let language = identify(profile.language.as_deref(), &cleaned);
    let mut work = Workspace::default();
    let mut quality = profile.quality.trace(&cleaned, &mut work);
    let before = Profile { ngram: None, ..profile.clone() };
    let last = prepare(&before, text).ok();
    quality.extend(profile.ngram.map(|n| deduplication(n, last.as_deref(), &cleaned, &mut work.views)));
    if pii.reason.is_some() || language.reason.is_some() {
        quality.iter_mut().for_each(StageTrace::skip);
    }
    (verdict, Findings { pii, language, quality, features: features(&cleaned, &mut work.views) })
}

/// The profile's own word.
fn prepare<'p>(profile: &'p Profile, text: &'p str) -> std::result::Result<Cow<'p, str>, Reason<'p>> {
    profile.prepare(text, &mut Scratch::default(), &mut Vec::new())
}

/// What deduplication asks of one text; `last` is that text, if every rule before passes it.
fn deduplication(ngram: usize, last: Option<&str>, cleaned: &str, views: &mut Views) -> StageTrace {
    views.reset();
    let text = last.unwrap_or(cleaned);
    let num_words = views.scan(text).num_words;
    let reason = Reason::FEWER_WORDS_THAN_NGRAM.name();
    let check = Check::new(reason, num_words as f64, ngram as f64, f64::INFINITY);
    let passes = num_words >= ngram;
    let mut trace = StageTrace {
        profile: "dedup".to_owned(),
        is_asked: last.is_some(),
        checks: vec![Check { passes, ..check }],
        bytes_left: last.map(str::len),
        ..StageTrace::default()
    };
    if last.is_some() && !passes {
        trace.decide(reason);
        trace.bytes_left = None;
    }
    trace
}

fn identify(filter: Option<&LanguageFilter>, text: &str) -> LanguageVerdict {
    let mut scratch = language::Scratch::default();
    let Some(filter) = filter else {
        let built_in = Identifier::built_in();
        let (code, score) = built_in.identify(text, &mut scratch);
        let (keep, threshold, reason) = (Vec::new(), None, None);
        let (code, score) = (code.to_owned(), language::as_written(score));
        return LanguageVerdict { code, score, is_asked: false, keep, threshold, reason };
    };
    let (code, score) = filter.identify(text, &mut scratch);
    let rule = filter.rule();
    LanguageVerdict {
        code: code.to_owned(),
        score: language::as_written(score),
        is_asked: true,
        keep: rule.keep.clone(),
        threshold: Some(language::as_written(rule.threshold)),
        reason: rule.broken(code, score).map(language::LanguageReason::name),
    }
}

fn features(text: &str, views: &mut Views) -> Vec<Feature> {
    views.reset();
    let feature = |(name, measure): (&'static str, Measure)| {
        let value = measure(text, views);
        Feature { name, value: value.is_finite().then_some(value) }
    };
    FEATURES.into_iter().map(feature).collect()
}
