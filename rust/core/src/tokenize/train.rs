//! Training of the tokenizer: documents in, `tokenizer.json` out.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use serde_json::{json, Value};

use super::corpus::Document;
use super::count::WordCounts;
use super::guard::guarded;
use super::merges::{learn, Aim};
use super::render::{byte_level, render};
use super::share;
use super::split::Expression;
use super::vocabulary::bytes_of;
use super::{Pattern, Tokenizer, PATTERNS, SPECIAL_TOKENS, TRIPTYCH};
use crate::error::{Error, Result};

/// Largest vocabulary: four times the largest in use (Gemma 3: 262,144 entries).
const MAX_VOCAB_SIZE: usize = 1 << 20;

/// A pair that occurs once says nothing about other text.
const MIN_PAIR_COUNT: u64 = 2;

/// Bytes of documents counted together; bounds memory, and gives threads work of equal size.
const BATCH_BYTES: usize = 8 << 20;

/// Settings of [`train`].
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Entries in all, special tokens and the 256 bytes included.
    pub vocab_size: usize,
    /// Special tokens beside [`SPECIAL_TOKENS`]; they take the ids after these.
    pub extra_special_tokens: Vec<String>,
    /// How text is split before merging: the name of a [`Pattern`], or a regular expression.
    pub pattern: String,
    /// What a word of a source counts, 0.001 to 1000; 1 for sources that are not named.
    pub weights: BTreeMap<String, f64>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            vocab_size: 32_768,
            extra_special_tokens: Vec::new(),
            pattern: TRIPTYCH.name.to_owned(),
            weights: BTreeMap::new(),
        }
    }
}

/// Sources that an error names: there may be one a document.
const MAX_SHOWN_SOURCES: usize = 32;

/// Thousandths: the unit of weights, whose sums are exact in any order.
const WEIGHT_UNIT: f64 = 1000.0;

impl TrainConfig {
    /// The special tokens in order of their ids.
    fn special_tokens(&self) -> Vec<String> {
        let mut tokens: Vec<String> = SPECIAL_TOKENS.map(str::to_owned).to_vec();
        for token in &self.extra_special_tokens {
            if !tokens.contains(token) {
                tokens.push(token.clone());
            }
        }
        tokens
    }

    /// Refuses what nothing can be trained with, as training does.
    ///
    /// # Errors
    /// `InvalidValue`, naming the field.
    pub fn check(&self) -> Result<()> {
        let least = 256 + self.special_tokens().len();
        if !(least..=MAX_VOCAB_SIZE).contains(&self.vocab_size) {
            let range = format!("{least} (256 bytes and the special tokens) to {MAX_VOCAB_SIZE}");
            return Err(invalid("vocab_size", range, self.vocab_size.to_string()));
        }
        if let Some(token) = self.extra_special_tokens.iter().find(|token| !is_special_form(token)) {
            return Err(invalid(
                "special_tokens",
                "tokens of the form `<|name|>`".into(),
                format!("`{token}`"),
            ));
        }
        match self.weights.iter().find(|(_, weight)| !(0.001..=1000.0).contains(*weight)) {
            Some((source, weight)) => {
                Err(invalid(&format!("weight of `{source}`"), "0.001 to 1000".into(), weight.to_string()))
            }
            None => Ok(()),
        }
    }

    /// What a word of the source counts: thousandths, or 1 where no source is weighted.
    #[allow(clippy::cast_sign_loss)] // checked to be at least one thousandth
    fn weight(&self, source: &str) -> u64 {
        if self.weights.is_empty() {
            return 1;
        }
        let weight = self.weights.get(source).copied().unwrap_or(1.0);
        (weight * WEIGHT_UNIT).round() as u64
    }

    fn min_pair_count(&self) -> u64 {
        MIN_PAIR_COUNT * self.weight("")
    }
}

/// `<|name|>` with a letter or digit first: never one word of the known patterns, so never learnt.
fn is_special_form(token: &str) -> bool {
    let name = token.strip_prefix("<|").and_then(|rest| rest.strip_suffix("|>"));
    name.is_some_and(|name| name.starts_with(|first: char| first.is_ascii_alphanumeric()))
}

fn invalid(what: &str, expected: String, found: String) -> Error {
    Error::InvalidValue { what: what.to_owned(), expected, found }
}

/// Trains a byte-level BPE; the same documents in any order, on any number of threads, give the same bytes.
///
/// The vocabulary may be smaller than asked for where the text holds too few repeated pairs.
/// `progress` is called with documents read so far, then with entries learnt so far.
///
/// # Errors
/// `InvalidValue` for a setting out of range, `EmptyCorpus` without text, and whatever `documents` yields.
pub fn train(
    documents: impl Iterator<Item = Result<String>>,
    config: &TrainConfig,
    progress: &mut dyn FnMut(&'static str, usize),
) -> Result<Tokenizer> {
    let document = |text| Document { id: String::new(), source: String::new(), text };
    train_weighted(documents.map(|text| text.map(document)), config, &mut |what, count| {
        progress(what, count);
        Ok(())
    })
}

/// The same for documents of sources, which count by the weights of the settings, until `progress` fails.
///
/// # Errors
/// As [`train`], and what `progress` says.
pub fn train_weighted(
    documents: impl Iterator<Item = Result<Document>>,
    config: &TrainConfig,
    progress: &mut dyn FnMut(&'static str, usize) -> Result<()>,
) -> Result<Tokenizer> {
    config.check()?;
    let splitter = Splitter::new(&config.pattern)?;
    let specials = config.special_tokens();
    let counts = count_words(documents, config, &splitter, |count| progress("documents", count))?;
    if counts.len() == 0 {
        let expected = "at least one document with text".to_owned();
        return Err(Error::EmptyCorpus { inputs: "the tokenizer's corpus".to_owned(), expected });
    }
    let size = config.vocab_size - specials.len();
    let aim = Aim { size, min_count: config.min_pair_count(), reserved: reserved(&specials) };
    let (vocabulary, merges) = learn(counts, aim, |count| progress("entries", count))?;
    Tokenizer::from_json(render(&specials, &splitter.pre_tokenizer(), &vocabulary, &merges))
}

/// The bytes of special tokens, and those that the file would spell like one: a space is `Ġ` there.
fn reserved(specials: &[String]) -> HashSet<Vec<u8>> {
    let spelt = specials.iter().filter_map(|token| bytes_of(token));
    specials.iter().map(|token| token.clone().into_bytes()).chain(spelt).collect()
}

/// How text is split before it is counted.
enum Splitter {
    Known(&'static Pattern),
    Custom(String, Expression),
}

impl Splitter {
    fn new(pattern: &str) -> Result<Self> {
        if let Some(known) = Pattern::named(pattern).or_else(|| Pattern::of_regex(pattern)) {
            return Ok(Self::Known(known));
        }
        let names: Vec<&str> = PATTERNS.iter().map(|pattern| pattern.name).collect();
        if pattern.chars().all(|char| char.is_alphanumeric() || "-_.".contains(char)) {
            return Err(Error::unknown_name("pattern", pattern, &names));
        }
        let expected = format!("one of {}, or a regular expression", names.join(", "));
        let regex =
            Expression::new(pattern).map_err(|error| invalid("pattern", expected, error.to_string()))?;
        Ok(Self::Custom(pattern.to_owned(), regex))
    }

    /// As it stands in a `tokenizer.json`; that of GPT-2 is what `ByteLevel` does by itself.
    fn pre_tokenizer(&self) -> Value {
        let regex = match self {
            Self::Known(pattern) if pattern.name == "gpt2" => return byte_level(true),
            Self::Known(pattern) => pattern.regex,
            Self::Custom(regex, _) => regex,
        };
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            byte_level(false),
        ]})
    }

    /// Counts the words of a text; what a custom expression does not match is a word too.
    fn count(&self, text: &str, weight: u64, counts: &mut WordCounts) -> Result<()> {
        let bytes = text.as_bytes();
        let add = |start: usize, end: usize| counts.add(bytes, start, end, weight);
        match self {
            Self::Known(pattern) => pattern.split(text, add),
            // The library panics where one has to be tried in too many ways.
            Self::Custom(_, expression) => guarded(|| {
                expression.split(text, add);
                Ok(())
            })
            .map_err(|_| {
                let expected = "an expression that backtracks little on any text".to_owned();
                invalid(
                    "pattern",
                    expected,
                    format!("one that gives up on a document of {} bytes", text.len()),
                )
            })?,
        }
        Ok(())
    }
}

fn count_words(
    documents: impl Iterator<Item = Result<Document>>,
    config: &TrainConfig,
    splitter: &Splitter,
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<WordCounts> {
    let spare = Mutex::new(Vec::new());
    let (mut batch, mut bytes, mut seen) = (Vec::new(), 0, 0);
    let mut unread = Unread::new(&config.weights);
    for document in documents {
        let document = document?;
        unread.read(&document.source);
        bytes += document.held_bytes();
        batch.push(document);
        seen += 1;
        if bytes >= BATCH_BYTES {
            count_batch(&batch, config, splitter, &spare)?;
            batch.clear();
            bytes = 0;
            progress(seen)?;
        }
    }
    count_batch(&batch, config, splitter, &spare)?;
    progress(seen)?;
    unread.check()?;
    let all = spare.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter();
    let merge = |mut sum: WordCounts, counts| {
        sum.merge(counts);
        sum
    };
    Ok(all.reduce(merge).unwrap_or_default())
}

/// Sources that have a weight, as long as no document of theirs is read.
struct Unread<'c> {
    named: BTreeSet<&'c str>,
    /// Those of the documents read.
    found: BTreeSet<String>,
}

impl<'c> Unread<'c> {
    fn new(weights: &'c BTreeMap<String, f64>) -> Self {
        Self { named: weights.keys().map(String::as_str).collect(), found: BTreeSet::new() }
    }

    fn read(&mut self, source: &str) {
        if self.named.is_empty() || self.found.contains(source) {
            return;
        }
        self.named.remove(source);
        if !source.is_empty() && self.found.len() < MAX_SHOWN_SOURCES {
            self.found.insert(source.to_owned());
        }
    }

    /// Refuses a weight that does nothing: a name that is misspelt.
    fn check(&self) -> Result<()> {
        let found: Vec<&str> = self.found.iter().map(String::as_str).collect();
        match self.named.first() {
            None => Ok(()),
            Some(name) if found.is_empty() => {
                let expected = "documents of that `source`".to_owned();
                Err(invalid(&format!("weight of `{name}`"), expected, "none that have one".to_owned()))
            }
            Some(name) => Err(Error::unknown_name("source with a weight", name, &found)),
        }
    }
}

/// Counts the words of a batch into as many tables as threads work on it.
fn count_batch(
    batch: &[Document],
    config: &TrainConfig,
    splitter: &Splitter,
    spare: &Mutex<Vec<WordCounts>>,
) -> Result<()> {
    let lock = || spare.lock().unwrap_or_else(PoisonError::into_inner);
    let count = |documents: &[Document]| {
        let mut counts = lock().pop().unwrap_or_default();
        for document in documents {
            splitter.count(&document.text, config.weight(&document.source), &mut counts)?;
        }
        lock().push(counts);
        Ok(())
    };
    let counted = share::across(batch, share::num_threads(), |document| document.text.len(), count);
    counted.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(texts: &[&str], vocab_size: usize) -> Result<Tokenizer> {
        let config = TrainConfig { vocab_size, ..TrainConfig::default() };
        train(texts.iter().map(|text| Ok((*text).to_owned())), &config, &mut |_, _| {})
    }

    #[test]
    fn documents_in_any_order_on_any_number_of_threads_give_the_same_bytes() {
        let texts: Vec<String> =
            (0..400).map(|i| format!("the {} word{} of नमस्ते {}", i % 7, i % 13, i * i)).collect();
        let config = TrainConfig { vocab_size: 400, ..TrainConfig::default() };
        let run = |threads: usize, reverse: bool| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut texts = texts.clone();
            if reverse {
                texts.reverse();
            }
            pool.install(|| {
                train(texts.into_iter().map(Ok), &config, &mut |_, _| {}).unwrap().sha256().to_owned()
            })
        };
        assert_eq!(run(1, false), run(2, true));
        assert_eq!(run(1, false), run(3, false));
    }

    #[test]
    fn special_tokens_have_the_first_ids_and_bytes_follow() {
        let tokenizer = trained(&["abab abab"], 264).unwrap();
        for (id, token) in SPECIAL_TOKENS.iter().enumerate() {
            assert_eq!(tokenizer.token_to_id(token), Some(id as u32));
        }
        assert_eq!(tokenizer.encode("\0", false).unwrap(), [7]);
        assert_eq!(tokenizer.encode("ab", false).unwrap(), [263]);
    }

    #[test]
    fn a_vocabulary_too_small_or_an_empty_corpus_is_an_error() {
        assert!(matches!(trained(&["abc"], 262), Err(Error::InvalidValue { .. })));
        assert!(matches!(trained(&["abc"], (1 << 20) + 1), Err(Error::InvalidValue { .. })));
        assert!(matches!(trained(&[], 300), Err(Error::EmptyCorpus { .. })));
        assert!(matches!(trained(&["", ""], 300), Err(Error::EmptyCorpus { .. })));
    }

    #[test]
    fn a_source_counts_by_its_weight() {
        let document = |source: &str, text: &str| {
            Ok(Document { id: String::new(), source: source.to_owned(), text: text.to_owned() })
        };
        let first = |weights: &[(&str, f64)]| {
            let weights = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
            let config = TrainConfig { vocab_size: 264, weights, ..TrainConfig::default() };
            let documents = [document("a", "xy xy xy xy"), document("b", "uv uv uv uv uv")];
            train_weighted(documents.into_iter(), &config, &mut |_, _| Ok(()))
                .unwrap()
                .id_to_token(263)
                .unwrap()
        };
        assert_eq!((first(&[]), first(&[("a", 1.5)])), ("uv".to_owned(), "xy".to_owned()));
        assert_eq!(first(&[("b", 0.5)]), "xy");
    }

    #[test]
    fn a_weight_of_a_source_without_documents_is_refused_with_the_sources_there_are() {
        let error = |sources: [&str; 2]| {
            let weights = [("web", 2.0), ("coed", 2.0)].map(|(name, weight)| (name.to_owned(), weight));
            let config = TrainConfig { vocab_size: 264, weights: weights.into(), ..TrainConfig::default() };
            let document = |source: &str| {
                Ok(Document { id: String::new(), source: source.to_owned(), text: "ab".to_owned() })
            };
            train_weighted(sources.map(document).into_iter(), &config, &mut |_, _| Ok(())).unwrap_err()
        };
        assert_eq!(error(["web", "code"]).hint().as_deref(), Some("did you mean `code`?"));
        assert!(error(["", ""]).to_string().starts_with("weight of `coed`"));
    }

    #[test]
    fn bytes_that_the_file_would_spell_like_a_special_token_are_not_learnt() {
        let config = TrainConfig {
            vocab_size: 400,
            extra_special_tokens: vec!["<|aĠb|>".to_owned()],
            pattern: ".+".to_owned(),
            ..TrainConfig::default()
        };
        let texts = ["<|a b|>", "<|a b|>"].map(|text| Ok(text.to_owned()));
        let tokenizer = train(texts.into_iter(), &config, &mut |_, _| {}).unwrap();
        assert!(tokenizer.encode("<|a b|>", false).unwrap().iter().all(|id| *id > 7));
    }

    #[test]
    fn a_pattern_that_gives_up_on_a_text_is_an_error_of_the_pattern() {
        let with = |pattern: &str| {
            let config = TrainConfig { pattern: pattern.to_owned(), ..TrainConfig::default() };
            train(std::iter::once(Ok("a".repeat(40) + "c")), &config, &mut |_, _| {})
        };
        let error = with("(a+)+(?<=a)$").unwrap_err();
        assert!(error.to_string().starts_with("pattern: expected an expression"), "{error}");
        // An automaton does not go back, and finds that there is none.
        assert!(with("(a+)+$").is_ok());
    }

    #[test]
    fn every_pattern_by_name_and_a_custom_one_train_and_others_are_refused() {
        let with = |pattern: &str| {
            let config =
                TrainConfig { vocab_size: 270, pattern: pattern.to_owned(), ..TrainConfig::default() };
            train(std::iter::once(Ok("ab12 ab12 ab12".to_owned())), &config, &mut |_, _| {})
        };
        for pattern in &PATTERNS {
            assert!(with(pattern.name).unwrap().encode("ab", false).unwrap().len() == 1, "{}", pattern.name);
        }
        assert_eq!(with(r"[a-z]+|\d+").unwrap().encode("ab12", false).unwrap().len(), 2);
        assert_eq!(with("gpt3").unwrap_err().hint().as_deref(), Some("did you mean `gpt2`?"));
        assert!(matches!(with("(["), Err(Error::InvalidValue { .. })));
        let invalid = TrainConfig { weights: [("a".to_owned(), f64::NAN)].into(), ..TrainConfig::default() };
        assert!(train(std::iter::empty(), &invalid, &mut |_, _| {})
            .unwrap_err()
            .to_string()
            .contains("weight of `a`"));
    }
}
