//! The rule that keeps texts in chosen languages, and its configuration.

use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

use super::{Identifier, Scratch};
use crate::error::{Error, Result};
use crate::manifest::sha256_file;

/// Name of the model that is built in.
pub const BUILT_IN: &str = "builtin";

/// Table `[language]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageRule {
    /// `builtin`, or the path of a fastText model.
    pub model: String,
    /// Codes of the languages to keep, as the model writes them; none keeps every language.
    pub keep: Vec<String>,
    /// A text is kept if its score is above this, in [0, 1]. 0.65 is the bound of `FineWeb`, `RefinedWeb` and DCLM.
    #[serde(serialize_with = "serialize_as_written")]
    pub threshold: f32,
    /// SHA-256 of the fastText model; a run enters it, so that none goes on with another model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Default for LanguageRule {
    fn default() -> Self {
        Self { model: BUILT_IN.to_owned(), keep: Vec::new(), threshold: 0.65, sha256: None }
    }
}

/// The number that a person writes for this one: 0.65, where the same value as a double has sixteen digits.
pub(crate) fn as_written(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn serialize_as_written<S: Serializer>(number: &f32, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64(as_written(*number))
}

/// Why a text was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanguageReason {
    /// Its language is not one to keep.
    Language,
    /// Its language is, but the score is not above the threshold.
    Score,
}

impl LanguageReason {
    /// Name in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Score => "language_score",
        }
    }
}

impl LanguageRule {
    /// Loads the model, and checks that it has the languages to keep.
    ///
    /// # Errors
    /// `InvalidValue` for a threshold outside [0, 1], `UnknownName` for a language that the model lacks,
    /// `InvalidFile` if another hash is asked for, and those of [`Identifier::open`].
    pub fn identifier(&self) -> Result<Identifier> {
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(Error::InvalidValue {
                what: "`language.threshold`".to_owned(),
                expected: "a probability in [0, 1]".to_owned(),
                found: self.threshold.to_string(),
            });
        }
        let identifier = match self.model.as_str() {
            BUILT_IN => Identifier::built_in(),
            path => self.open(Path::new(path))?,
        };
        let known = identifier.languages();
        match self.keep.iter().find(|code| known.binary_search(&code.as_str()).is_err()) {
            Some(unknown) => Err(Error::unknown_name("language", unknown, &known)),
            None => Ok(identifier),
        }
    }

    fn open(&self, path: &Path) -> Result<Identifier> {
        if let Some(expected) = &self.sha256 {
            let found = sha256_file(path)?;
            if found != *expected {
                let expected = format!("the model of SHA-256 {expected}");
                return Err(Error::InvalidFile { path: path.to_owned(), expected, found });
            }
        }
        Identifier::open(path)
    }

    /// The same with the hash of the model as it is now, if none is asked for.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn pinned(&self) -> Result<Self> {
        if self.model == BUILT_IN {
            return Ok(self.clone());
        }
        let sha256 = self.sha256.clone().map_or_else(|| sha256_file(Path::new(&self.model)), Ok)?;
        Ok(Self { sha256: Some(sha256), ..self.clone() })
    }

    /// Why a text of this language and score is rejected, or `None` if it is kept.
    ///
    /// As in datatrove's `LanguageFilter`, only the best label counts, and a score that equals the
    /// threshold is too low.
    pub fn broken(&self, code: &str, score: f32) -> Option<LanguageReason> {
        if !self.keep.is_empty() && !self.keep.iter().any(|keep| keep == code) {
            return Some(LanguageReason::Language);
        }
        (score <= self.threshold).then_some(LanguageReason::Score)
    }
}

/// The rule with its model; made once, used by all threads.
pub struct LanguageFilter {
    rule: LanguageRule,
    identifier: Identifier,
}

impl LanguageFilter {
    /// Loads the model of the rule; errors as of [`LanguageRule::identifier`].
    pub fn new(rule: LanguageRule) -> Result<Self> {
        Ok(Self { identifier: rule.identifier()?, rule })
    }

    /// The rule.
    pub fn rule(&self) -> &LanguageRule {
        &self.rule
    }

    /// The language of `text` and its score: [`Identifier::identify`].
    pub fn identify(&self, text: &str, scratch: &mut Scratch) -> (&str, f32) {
        self.identifier.identify(text, scratch)
    }

    /// Why `text` is rejected, or `None` if it is kept.
    pub fn judge(&self, text: &str, scratch: &mut Scratch) -> Option<LanguageReason> {
        let (code, score) = self.identifier.identify(text, scratch);
        self.rule.broken(code, score)
    }
}

impl std::fmt::Debug for LanguageFilter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.rule.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_must_be_above_the_threshold_and_a_language_among_those_to_keep() {
        let rule = LanguageRule { keep: vec!["en".to_owned()], ..LanguageRule::default() };
        assert_eq!(rule.broken("en", 0.66), None);
        assert_eq!(rule.broken("en", 0.65), Some(LanguageReason::Score));
        assert_eq!(rule.broken("de", 0.99), Some(LanguageReason::Language));
        assert_eq!(LanguageRule::default().broken("de", 0.99), None);
    }

    #[test]
    fn a_language_that_the_model_lacks_and_a_threshold_past_one_are_faults() {
        let rule = LanguageRule { keep: vec!["eng".to_owned()], ..LanguageRule::default() };
        let error = rule.identifier().err().unwrap();
        assert!(error.to_string().starts_with("unknown language `eng`"), "{error}");
        let rule = LanguageRule { threshold: 1.5, ..LanguageRule::default() };
        assert_eq!(rule.identifier().err().unwrap().exit_status(), 2);
    }

    #[test]
    fn unknown_keys_of_the_table_are_refused() {
        let read = |table: &str| toml::from_str::<LanguageRule>(table);
        assert_eq!(read("keep = [\"de\"]\nthreshold = 0.5").unwrap().keep, ["de"]);
        assert!(read("treshold = 0.5").is_err());
    }
}
