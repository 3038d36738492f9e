//! Lists of phrases, such as C4's of bad words: a text that holds one of them is rejected.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use serde::{Deserialize, Serialize};

use super::{Check, Reason};
use crate::error::{Error, Result};
use crate::manifest::{sha256, sha256_file};
use crate::text::class;

/// Largest file of a list, in bytes: it and its automaton are held in memory, once for all threads.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A list of the configuration: `[[phrase_list]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhraseListConfig {
    /// Name in the ledger.
    pub name: String,
    /// One phrase a line, in UTF-8; blank lines and white space around a phrase do not count.
    pub file: PathBuf,
    /// A phrase counts only where neither a letter, a digit nor `_` touches it. False for
    /// languages that do not part words.
    #[serde(default = "parts_words")]
    pub whole_words: bool,
    /// Phrases of the file that may stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// SHA-256 of the file; a run enters it, so that none goes on with another list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

const fn parts_words() -> bool {
    true
}

impl PhraseListConfig {
    /// The same with the hash of the file as it is now, if none is asked for.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn pinned(&self) -> Result<Self> {
        let sha256 = self.sha256.clone().map_or_else(|| sha256_file(&self.file), Ok)?;
        Ok(Self { sha256: Some(sha256), ..self.clone() })
    }
}

/// The phrases, all sought at once.
#[derive(Debug, Clone)]
pub struct PhraseList {
    name: String,
    whole_words: bool,
    automaton: Arc<AhoCorasick>,
}

impl PhraseList {
    /// Reads the file of a configuration.
    ///
    /// # Errors
    /// `InvalidValue` without a name; `Io`; `InvalidFile` if it is too large, no UTF-8, holds no phrase, or another hash is asked for.
    pub fn from_config(config: &PhraseListConfig) -> Result<Self> {
        let invalid = |expected: &str, found: String| Error::InvalidFile {
            path: config.file.clone(),
            expected: expected.to_owned(),
            found,
        };
        if config.name.trim().is_empty() {
            return Err(Error::InvalidValue {
                what: "`name` of a phrase list".to_owned(),
                expected: "what to call it in the ledger".to_owned(),
                found: "nothing".to_owned(),
            });
        }
        let text = read(config)?.map_err(|found| invalid("UTF-8 of at most 16 MiB", found))?;
        if let Some(expected) = &config.sha256 {
            let found = sha256(text.as_bytes());
            if found != *expected {
                return Err(invalid(&format!("the list of SHA-256 {expected}"), found));
            }
        }
        let except: Vec<String> = config.except.iter().map(|phrase| lowered(phrase)).collect();
        let phrases: Vec<String> = text
            .trim_start_matches('\u{feff}') // a byte order mark is no part of the first phrase
            .lines()
            .map(lowered)
            .filter(|phrase| !phrase.is_empty() && !except.contains(phrase))
            .collect();
        if phrases.is_empty() {
            return Err(invalid("at least one phrase, one a line", "none".to_owned()));
        }
        let automaton = AhoCorasick::new(&phrases)
            .map_err(|error| invalid("phrases that fit an automaton", error.to_string()))?;
        let (name, whole_words) = (config.name.clone(), config.whole_words);
        Ok(Self { name, whole_words, automaton: Arc::new(automaton) })
    }

    /// Name in the ledger.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The reason, if the text holds a phrase. `lower` is memory.
    pub(super) fn broken(&self, text: &str, lower: &mut String) -> Option<Reason<'_>> {
        self.places(text, lower).next().map(|_| Reason(&self.name))
    }

    /// How often phrases stand in the text; none may.
    pub(super) fn check(&self, text: &str, lower: &mut String) -> Check {
        let count = self.places(text, lower).count();
        Check { passes: count == 0, ..Check::new(&self.name, count as f64, f64::NEG_INFINITY, 0.0) }
    }

    /// Where phrases stand in the text in lower case; they may overlap.
    fn places<'s>(&'s self, text: &str, lower: &'s mut String) -> impl Iterator<Item = usize> + 's {
        lower.clear();
        if text.is_ascii() {
            lower.push_str(text);
            lower.make_ascii_lowercase();
        } else {
            *lower = text.to_lowercase();
        }
        let lower: &'s str = lower;
        let counts =
            move |start: usize, end: usize| !self.whole_words || stands_alone(&lower[..start], &lower[end..]);
        let found = self.automaton.find_overlapping_iter(lower);
        found.filter(move |found| counts(found.start(), found.end())).map(|found| found.start())
    }
}

/// The text of the file, or what is wrong with it.
fn read(config: &PhraseListConfig) -> Result<std::result::Result<String, String>> {
    let file = std::fs::File::open(&config.file).map_err(Error::io("read", &config.file))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", &config.file))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Ok(Err("more".to_owned()));
    }
    Ok(String::from_utf8(bytes).map_err(|error| error.to_string()))
}

fn lowered(phrase: &str) -> String {
    phrase.trim().to_lowercase()
}

/// True between two characters of which neither belongs to a word: `\W` of Python's `re`.
fn stands_alone(before: &str, after: &str) -> bool {
    let is_word = |char: char| class(char).is_alnum() || char == '_';
    !before.chars().next_back().is_some_and(is_word) && !after.chars().next().is_some_and(is_word)
}
