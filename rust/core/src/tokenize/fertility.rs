//! How well a tokenizer fits a text: bytes a token, and tokens a word (fertility), by source and language.
//!
//! A word is a maximal run of what is not white space (`str.split` of Python), so fertility says little about
//! scripts that put no spaces; bytes a token compare one tokenizer with another on any of them.

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::encode::{batches, Batch};
use super::{share, Labelled, Tokenizer};
use crate::error::Result;
use crate::language::{Identifier, Scratch, UNKNOWN};
use crate::text::{count_words, floor};

/// Name of the report in a folder of token shards.
pub const FERTILITY_NAME: &str = "fertility.json";

/// Most names that are counted each by itself; bounds memory where every document has its own source.
const MAX_NAMES: usize = 4096;
/// Most bytes of a name.
const MAX_NAME_BYTES: usize = 128;
/// What is counted beyond [`MAX_NAMES`].
const OTHERS: &str = "(others)";
/// BOS and EOS, which are not of the text.
const FRAME_TOKENS: usize = 2;

/// Counts of texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextCount {
    /// Texts.
    pub documents: u64,
    /// Their bytes in UTF-8.
    pub bytes: u64,
    /// Their words.
    pub words: u64,
    /// Their tokens, without BOS and EOS.
    pub tokens: u64,
}

impl TextCount {
    /// `None` without tokens.
    pub fn bytes_per_token(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.bytes as f64 / self.tokens as f64)
    }

    /// `None` without words.
    pub fn tokens_per_word(&self) -> Option<f64> {
        (self.words > 0).then(|| self.tokens as f64 / self.words as f64)
    }

    fn add(&mut self, other: &Self) {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.words += other.words;
        self.tokens += other.tokens;
    }
}

impl Serialize for TextCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("TextCount", 6)?;
        fields.serialize_field("documents", &self.documents)?;
        fields.serialize_field("bytes", &self.bytes)?;
        fields.serialize_field("words", &self.words)?;
        fields.serialize_field("tokens", &self.tokens)?;
        fields.serialize_field("bytes_per_token", &self.bytes_per_token())?;
        fields.serialize_field("tokens_per_word", &self.tokens_per_word())?;
        fields.end()
    }
}

/// Counts of all texts, and of those of each source and language; each table sums to the total.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Fertility {
    /// All texts.
    pub total: TextCount,
    /// By the `source` of the document.
    pub sources: BTreeMap<String, TextCount>,
    /// By the `language` or `lang` of the document, or as identified; `und` where neither tells.
    pub languages: BTreeMap<String, TextCount>,
}

impl Fertility {
    fn add(&mut self, source: &str, language: &str, count: &TextCount) {
        self.total.add(count);
        of_name(&mut self.sources, source).add(count);
        of_name(&mut self.languages, language).add(count);
    }
}

fn of_name<'t>(table: &'t mut BTreeMap<String, TextCount>, name: &str) -> &'t mut TextCount {
    let name = &name[..floor(name, MAX_NAME_BYTES)];
    let name = if table.len() < MAX_NAMES || table.contains_key(name) { name } else { OTHERS };
    if !table.contains_key(name) {
        table.insert(name.to_owned(), TextCount::default());
    }
    table.get_mut(name).expect("it was put in above, if it was not there")
}

/// Counts documents as they are tokenized.
pub(super) struct Meter {
    identifier: Option<Identifier>,
    fertility: Fertility,
}

impl Meter {
    /// `identifies`: whether the built-in identifier names the language of documents that do not.
    pub fn new(identifies: bool) -> Self {
        Self { identifier: identifies.then(Identifier::built_in), fertility: Fertility::default() }
    }

    /// Adds the documents of a batch, with how many tokens each became, frame included.
    pub fn add(&mut self, batch: &Batch, num_tokens: impl Iterator<Item = usize>) {
        let identifier = self.identifier.as_ref();
        let documents: Vec<_> = batch.documents.iter().zip(&batch.languages).collect();
        let size = |(document, _): &(&super::Document, _)| document.text.len();
        let parts = share::across(&documents, share::num_threads(), size, |part| {
            let mut scratch = Scratch::default();
            let mut measured = Vec::with_capacity(part.len());
            for (document, language) in part {
                let told = language.as_deref();
                let language = told.or_else(|| Some(identifier?.identify(&document.text, &mut scratch).0));
                measured.push((count_words(&document.text), language.unwrap_or(UNKNOWN)));
            }
            measured
        });
        let measured = parts.into_iter().flatten().zip(num_tokens);
        for (document, ((words, language), tokens)) in batch.documents.iter().zip(measured) {
            let count = TextCount {
                documents: 1,
                bytes: document.text.len() as u64,
                words: words as u64,
                tokens: (tokens - FRAME_TOKENS) as u64,
            };
            self.fertility.add(&document.source, language, &count);
        }
    }

    /// The counts of all.
    pub fn finish(self) -> Fertility {
        self.fertility
    }
}

/// Measures a tokenizer on documents. `identifies`: whether the built-in identifier names the language of
/// documents that do not say; `progress` is called with the bytes of text so far.
///
/// # Errors
/// Whatever `documents` yields, what `progress` says, and as [`Tokenizer::encode`].
pub fn measure_fertility(
    documents: impl Iterator<Item = Result<Labelled>>,
    tokenizer: &Tokenizer,
    identifies: bool,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Fertility> {
    let mut meter = Meter::new(identifies);
    for batch in batches(documents) {
        let batch = batch?;
        let encoded = tokenizer.encode_documents(&batch.documents)?;
        meter.add(&batch, encoded.iter().map(<[u32]>::len));
        progress(meter.fertility.total.bytes)?;
    }
    Ok(meter.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::{train, Document, TrainConfig};

    fn labelled(source: &str, language: Option<&str>, text: &str) -> Labelled {
        let document = Document { id: String::new(), source: source.to_owned(), text: text.to_owned() };
        Labelled { document, language: language.map(str::to_owned) }
    }

    fn measured(texts: impl Iterator<Item = Labelled>, identifies: bool) -> Fertility {
        let config = TrainConfig { vocab_size: 263, ..TrainConfig::default() }; // bytes alone
        let tokenizer = train(std::iter::once(Ok("a".to_owned())), &config, &mut |_, _| {}).unwrap();
        measure_fertility(texts.map(Ok), &tokenizer, identifies, &mut |_| Ok(())).unwrap()
    }

    #[test]
    fn bytes_words_and_tokens_are_counted_by_source_and_language_without_the_frame() {
        let texts = [
            labelled("a", Some("de"), "zwei Wörter"),
            labelled("b", None, "  three\u{85}English\u{1c}words "),
            labelled("b", Some("de"), ""),
        ];
        let found = measured(texts.into_iter(), false);
        assert_eq!(found.sources["a"], TextCount { documents: 1, bytes: 12, words: 2, tokens: 12 });
        assert_eq!(found.languages["de"].documents, 2);
        assert_eq!(found.sources["b"].documents, 2);
        assert_eq!(found.languages[UNKNOWN], TextCount { documents: 1, bytes: 23, words: 3, tokens: 23 });
        assert_eq!((found.total.documents, found.total.words), (3, 5));
        assert!((found.total.bytes_per_token().unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(TextCount::default().tokens_per_word(), None);
    }

    #[test]
    fn languages_are_identified_only_where_documents_do_not_say_and_if_asked() {
        let text = "Der Hund lief über die Straße, und niemand wusste, wohin er wollte. ".repeat(4);
        let texts = || [labelled("a", None, &text), labelled("a", Some("xx"), &text)].into_iter();
        let found = measured(texts(), true);
        assert_eq!(found.languages.keys().collect::<Vec<_>>(), ["de", "xx"]);
        let found = measured(texts(), false);
        assert_eq!(found.languages.keys().collect::<Vec<_>>(), ["und", "xx"]);
    }

    #[test]
    fn names_beyond_the_limit_are_counted_together() {
        let mut fertility = Fertility::default();
        let count = TextCount { documents: 1, ..TextCount::default() };
        (0..MAX_NAMES + 10).for_each(|name| fertility.add(&name.to_string(), &"é".repeat(100), &count));
        assert_eq!(fertility.sources.len(), MAX_NAMES + 1);
        assert_eq!(fertility.sources[OTHERS].documents, 10);
        assert!(fertility.languages.keys().all(|name| name.len() <= MAX_NAME_BYTES));
    }
}
