//! Configuration of preparation: one flat table of keys, strict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{de, Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;

use crate::dedup::MIN_NGRAM_WORDS;
use crate::error::{Error, Place, Result};
use crate::funnel::DUPLICATES;
use crate::language::{LanguageFilter, LanguageRule};
use crate::pii::{Policy, PolicyConfig};
use crate::pipeline::{num_helpers, Share};
use crate::profile::Profile;
use crate::quality::{Bound, PhraseList, PhraseListConfig, RuleConfig, SeedRules};
use crate::read::Limits;
use crate::setting;
use crate::write::OutputFormat;

/// Everything a run of preparation depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrepConfig {
    /// Files, folders and globs to read.
    pub input: Vec<PathBuf>,
    /// Folder to write.
    pub output: PathBuf,
    /// Profiles, commas between them: `seed`, `clean` (PII only), `dedup` (n-grams only) and
    /// those of docs/quality.md. A list is as good.
    #[serde(deserialize_with = "comma_separated")]
    pub profile: String,
    /// What is done with personal data, in place of the four patterns of `seed` and `clean`: docs/pii.md.
    pub pii: PolicyConfig,
    /// The languages to keep: docs/language.md.
    pub language: Option<LanguageRule>,
    /// The user's own bounds on features, asked after the profile's.
    pub rule: Vec<RuleConfig>,
    /// Lists of phrases that no text may hold, asked last.
    pub phrase_list: Vec<PhraseListConfig>,
    /// Rules in Python, by name and version: set by `triptych.prep.run`, which knows the functions.
    pub python_rule: Vec<String>,
    /// Fewest words of a document.
    pub min_length: usize,
    /// Most words of a document.
    pub max_length: usize,
    /// Words in an n-gram of deduplication.
    pub ngram: usize,
    /// Field of a record that holds its text.
    pub text_field: String,
    /// Format of the shards.
    pub format: OutputFormat,
    /// Text in a shard, in bytes, after which the next begins at the end of a block (of 1 MiB).
    pub shard_bytes: u64,
    /// Longest line, in bytes; a longer one is quarantined.
    pub max_line_bytes: usize,
    /// Most bytes that one compressed file may decompress to.
    pub max_file_bytes: u64,
    /// Most decompressed bytes per byte on disk, past the first 64 MiB.
    pub max_expansion: u64,
    /// The share of this machine, as `2/5`; `1/1` is all.
    pub shard: Share,
    /// Threads; 0 is one a core.
    pub threads: usize,
    /// Share of records, in [0, 1], that may be bad before the run ends with status 3.
    pub max_bad: f64,
    /// Replace an output folder made from something else.
    pub overwrite: bool,
}

impl Default for PrepConfig {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            output: PathBuf::new(),
            profile: "seed".to_owned(),
            pii: PolicyConfig::default(),
            language: None,
            rule: Vec::new(),
            phrase_list: Vec::new(),
            python_rule: Vec::new(),
            min_length: 128,
            max_length: 4096,
            ngram: 13, // GPT-3's n for overlap (Brown et al. 2020, appendix C)
            text_field: "text".to_owned(),
            format: OutputFormat::JsonlZst,
            shard_bytes: 256 << 20,
            max_line_bytes: 32 << 20, // the longest books are 10 MB; a thread may hold four copies of a line
            max_file_bytes: 1 << 40,
            max_expansion: 1000, // gzip cannot pass 1032; real text stays below 100
            shard: Share::default(),
            threads: 0,
            max_bad: 0.001,
            overwrite: false,
        }
    }
}

/// Keys of a file, with their places.
type Table = BTreeMap<Spanned<String>, Value>;

/// More threads than any machine has cores; each takes memory before it does anything.
const MAX_THREADS: usize = 1024;

/// Refuses a number of threads that would take long to start, and may not start at all.
///
/// # Errors
/// `InvalidValue`.
pub fn check_threads(threads: usize) -> Result<()> {
    if threads <= MAX_THREADS {
        return Ok(());
    }
    let expected = format!("at most {MAX_THREADS}, or 0 for one a core");
    Err(invalid("`threads`", &expected, &threads))
}

/// Keys that change how a run goes, not what it makes.
const RUN_KEYS: [&str; 5] = ["input", "output", "threads", "max_bad", "overwrite"];

impl PrepConfig {
    /// Sets keys from a table, one by one, so that a fault names its key.
    ///
    /// # Errors
    /// `UnknownName` with the nearest key, `InvalidValue` for a wrong type, `Several` for more than one of these.
    pub fn set_all(&mut self, table: Map<String, Value>) -> Result<()> {
        Error::all(table.into_iter().filter_map(|(key, value)| self.set(&key, value).err()).collect())
    }

    /// Sets one key.
    pub fn set(&mut self, key: &str, value: Value) -> Result<()> {
        let mut table = self.table();
        if !table.contains_key(key) {
            let keys: Vec<&str> = table.keys().map(String::as_str).collect();
            return Err(Error::unknown_name("key", key, &keys));
        }
        let found = value.to_string();
        table.insert(key.to_owned(), value);
        *self = serde_json::from_value(Value::Object(table))
            .map_err(|error| setting::wrong(key, &found, &error.to_string()))?;
        Ok(())
    }

    /// Sets the keys of a TOML file; a fault has its line, and all keys with faults are told at once.
    pub fn set_file(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let text = String::from_utf8(bytes).map_err(|error| not_toml(path, &error.to_string()))?;
        let at = |byte: usize| Place { file: Some(path.to_owned()), ..Place::in_text(&text, byte) };
        let table: Table = toml::from_str(&text).map_err(|error| {
            not_toml(path, &error.to_string()).at(at(error.span().map_or(0, |span| span.start)))
        })?;
        let mut keys: Vec<(Spanned<String>, Value)> = table.into_iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start); // faults are told in the order of the file
        let fault = |(key, value): (Spanned<String>, Value)| {
            let set =
                setting::check_finite(key.get_ref(), &value).and_then(|()| self.set(key.get_ref(), value));
            set.err().map(|error| error.at(at(key.span().start)))
        };
        Error::all(keys.into_iter().filter_map(fault).collect())
    }

    /// Sets a key from `key=value`, the value as in TOML; what is not TOML is a string.
    pub fn set_assignment(&mut self, assignment: &str) -> Result<()> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(invalid("--set", "`key=value`", &assignment));
        };
        let parsed = toml::from_str::<Map<String, Value>>(&format!("value = {value}"));
        let value = parsed.ok().and_then(|mut table| table.remove("value"));
        value.as_ref().map_or(Ok(()), |value| setting::check_finite(key.trim(), value))?;
        self.set(
            key.trim(),
            value.unwrap_or_else(|| Value::from(assignment.split_once('=').map_or("", |pair| pair.1))),
        )
    }

    /// The steps that the profile's names stand for. It needs neither the key of pseudonyms nor a
    /// model of languages, so that parts can be merged where these are not.
    pub(crate) fn steps(&self) -> Result<Profile> {
        let rules = SeedRules { min_length: self.min_length, max_length: self.max_length };
        Profile::named(&self.profile, rules, self.ngram)
    }

    /// Checks names, ranges and pairs, and gives the profile.
    pub fn profile(&self) -> Result<Profile> {
        self.check_names()?;
        self.check_ranges()?;
        let own_rules = self.rule.iter().map(Bound::from_config).collect::<Result<_>>()?;
        let language = self.language.clone().map(LanguageFilter::new).transpose()?;
        let lists = self.phrase_list.iter().map(PhraseList::from_config).collect::<Result<_>>()?;
        let profile = self.steps()?.with_rules(own_rules).with_phrases(lists);
        Ok(profile.with_policy(Policy::new(&self.pii)?).with_language(language))
    }

    fn check_ranges(&self) -> Result<()> {
        if self.min_length > self.max_length {
            let expected = format!("at most `max_length`, {}", self.max_length);
            return Err(invalid("`min_length`", &expected, &self.min_length));
        }
        check_threads(self.threads)?;
        if self.ngram < MIN_NGRAM_WORDS {
            return Err(invalid("`ngram`", "at least 1", &self.ngram));
        }
        if !(0.0..=1.0).contains(&self.max_bad) {
            return Err(invalid("`max_bad`", "a share in [0, 1]", &self.max_bad));
        }
        let sizes = [
            ("`shard_bytes`", self.shard_bytes),
            ("`max_line_bytes`", self.max_line_bytes as u64),
            ("`max_file_bytes`", self.max_file_bytes),
            ("`max_expansion`", self.max_expansion),
        ];
        let none = sizes.iter().find(|(_, size)| *size == 0);
        none.map_or(Ok(()), |(key, _)| Err(invalid(key, "at least 1", &0)))
    }

    /// Checks the names that the user gives to reasons: they stand in the ledger beside ours, where one must not
    /// be counted as another.
    fn check_names(&self) -> Result<()> {
        let rules = self.rule.iter().filter_map(|rule| rule.name.as_ref());
        let mut names = rules.chain(self.phrase_list.iter().map(|list| &list.name));
        let taken = names.find(|name| name.trim().is_empty() || *name == DUPLICATES);
        taken.map_or(Ok(()), |name| {
            let expected = format!("a word other than `{DUPLICATES}`, which deduplication has");
            Err(invalid("`name` of a rule or list", &expected, &format!("`{name}`")))
        })
    }

    /// This configuration with what tells its key of pseudonyms, its model of languages and its lists of
    /// phrases from others, so that no run goes on with another.
    pub(crate) fn pinned(&self) -> Result<Self> {
        let mut config = self.clone();
        config.pii.key_check = Policy::new(&self.pii)?.key_check();
        config.language = self.language.as_ref().map(LanguageRule::pinned).transpose()?;
        config.phrase_list = self.phrase_list.iter().map(PhraseListConfig::pinned).collect::<Result<_>>()?;
        Ok(config)
    }

    /// What one file may cost.
    pub fn limits(&self) -> Limits {
        Limits {
            max_line_bytes: self.max_line_bytes,
            max_file_bytes: self.max_file_bytes,
            max_expansion: self.max_expansion,
            num_threads: num_helpers(self.threads),
        }
    }

    /// The keys that decide what is made.
    pub fn made_from(&self) -> Value {
        let mut table = self.table();
        table.retain(|key, _| !RUN_KEYS.contains(&key.as_str()));
        Value::Object(table)
    }

    fn table(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(table)) => table,
            _ => Map::new(), // a struct of JSON types serialises to an object
        }
    }
}

/// Reads one name, or a list of names.
fn comma_separated<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    struct Names;
    impl<'de> de::Visitor<'de> for Names {
        type Value = String;

        fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str("a name or a list of names")
        }

        fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<String, E> {
            Ok(name.to_owned())
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut names: A) -> std::result::Result<String, A::Error> {
            let mut found: Vec<String> = Vec::new();
            while let Some(name) = names.next_element()? {
                found.push(name);
            }
            Ok(found.join(","))
        }
    }
    deserializer.deserialize_any(Names)
}

fn not_toml(path: &Path, found: &str) -> Error {
    invalid(&format!("configuration `{}`", path.display()), "TOML in UTF-8", &found)
}

fn invalid(what: &str, expected: &str, found: &dyn std::fmt::Display) -> Error {
    Error::InvalidValue { what: what.to_owned(), expected: expected.to_owned(), found: found.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_names_the_nearest_and_a_wrong_type_names_the_key() {
        let mut config = PrepConfig::default();
        let error = config.set_assignment("min_lenght=3").unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean `min_length`?"));
        let error = config.set_assignment("min_length=many").unwrap_err();
        assert!(error.to_string().starts_with("key `min_length`: expected"), "{error}");
    }

    #[test]
    fn assignments_are_toml_or_else_strings() {
        let mut config = PrepConfig::default();
        config.set_assignment("min_length=3").unwrap();
        config.set_assignment("text_field=body").unwrap();
        config.set_assignment("format=\"parquet\"").unwrap();
        assert_eq!((config.min_length, config.text_field.as_str()), (3, "body"));
        assert_eq!(config.format, OutputFormat::Parquet);
    }

    #[test]
    fn a_fault_in_a_file_has_its_line_and_byte() {
        let path = tempfile::tempdir().unwrap().keep().join("prep.toml");
        let cases = [("ngram = 5\nprofil = 'seed'\n", 2, 10), ("ngram = 5\n\nx = [\n", 3, 16)];
        for (text, line, byte) in cases {
            std::fs::write(&path, text).unwrap();
            let error = PrepConfig::default().set_file(&path).unwrap_err();
            let place = error.place();
            assert_eq!(error.exit_status(), 2);
            assert_eq!((place.file.as_ref(), place.line, place.byte), (Some(&path), Some(line), Some(byte)));
            assert!(error.to_string().contains("prep.toml"), "{error}");
        }
    }

    #[test]
    fn all_keys_with_faults_are_told_at_once_each_with_its_line_and_hint() {
        let path = tempfile::tempdir().unwrap().keep().join("prep.toml");
        std::fs::write(&path, "profil = 'seed'\nngram = 5\nthreads = -1\nformat = 'parque'\n").unwrap();
        let mut config = PrepConfig::default();
        let error = config.set_file(&path).unwrap_err();
        let told = error.to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!((lines.len(), error.exit_status(), config.ngram), (3, 2, 5), "{told}");
        for (line, (number, part)) in lines.iter().zip([
            (1, "did you mean `profile`?"),
            (3, "`threads`"),
            (4, "did you mean `parquet`?"),
        ]) {
            assert!(line.contains(&format!("prep.toml:{number}: ")) && line.contains(part), "{line}");
        }
        assert_eq!(error.place().line, Some(1));
    }

    #[test]
    fn reasons_of_ours_are_no_names_for_rules_and_threads_have_a_bound() {
        let wrong = [
            "rule=[{feature='num_words', min=3, name='duplicates'}]",
            "rule=[{feature='num_words', min=3, name=' '}]",
            "phrase_list=[{name='duplicates', file='/dev/null'}]",
            "threads=1025",
        ];
        for assignment in wrong {
            let mut config = PrepConfig::default();
            config.set_assignment(assignment).unwrap();
            let error = config.profile().unwrap_err();
            assert_eq!(error.exit_status(), 2, "{assignment}: {error}");
        }
    }

    #[test]
    fn bounds_that_exclude_everything_are_refused() {
        let config = PrepConfig { min_length: 9, max_length: 8, ..PrepConfig::default() };
        assert_eq!(config.profile().unwrap_err().exit_status(), 2);
    }
}
