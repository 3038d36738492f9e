//! Pre-tokenizers: how text becomes the words that are encoded one by one.
//!
//! Known patterns are split by hand, and spaces marked; every other pre-tokenizer is run by the
//! `tokenizers` library, which spells bytes as printable characters where the file says so.

use serde_json::Value;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::normalizer::Range;
use tokenizers::{NormalizedString, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

use super::guard::guarded;
use super::metaspace::Metaspace;
use super::split::Pattern;
use super::steps::{self, Step};

/// Where a word begins and ends, in bytes.
pub(super) type Span = (usize, usize);

/// How text becomes words.
#[derive(Debug)]
pub(super) enum Words {
    /// By a known pattern, after a space is put before text that does not begin with one; words are bytes.
    Pattern(&'static Pattern, bool),
    /// By several splits; words are bytes.
    Steps(Vec<Step>),
    /// All of the text is one word, of characters.
    Whole,
    /// The same, with a mark for each space.
    Marked(Metaspace),
    /// The same, unless it holds what the library splits it by.
    Unsplit(String, Box<PreTokenizerWrapper>),
    /// The words of the library, which are characters, also where they spell bytes; whether the first word
    /// of all text is another than in its midst.
    Library(Box<PreTokenizerWrapper>, bool),
}

/// What stands for a space in text that is one word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) char: char,
    /// Whether a word begins with it.
    pub(super) splits: bool,
}

/// The mark of `SentencePiece`, which normalizers put where it is not the pre-tokenizer's own.
const LOWER_BLOCK: Mark = Mark { char: '\u{2581}', splits: false };

impl Words {
    /// The pre-tokenizer of a file. Words are bytes only where `has_bytes`: every byte is a token.
    ///
    /// # Errors
    /// A sentence for one that the library does not know.
    pub(super) fn new(value: Option<&Value>, has_bytes: bool) -> Result<Self, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Self::Whole) };
        if let Some((pattern, adds_space)) = known(value).filter(|_| has_bytes) {
            return Ok(Self::Pattern(pattern, adds_space));
        }
        let parsed = guarded(|| Ok(serde_json::from_value::<PreTokenizerWrapper>(value.clone())?));
        parsed
            .map(|wrapper| Self::of_library(wrapper, marks_start(value), has_bytes))
            .map_err(|error| format!("a `pre_tokenizer` that is not known: {error}"))
    }

    fn of_library(wrapper: PreTokenizerWrapper, marks_start: bool, has_bytes: bool) -> Self {
        if let Some(steps) = steps::steps(&wrapper).filter(|_| has_bytes) {
            return Self::Steps(steps);
        }
        match &wrapper {
            PreTokenizerWrapper::Metaspace(marks) => Self::Marked(marks.into()),
            PreTokenizerWrapper::Split(split) if !split.invert => match &split.pattern {
                SplitPattern::String(by) if !by.is_empty() => Self::Unsplit(by.clone(), Box::new(wrapper)),
                _ => Self::Library(Box::new(wrapper), marks_start),
            },
            _ => Self::Library(Box::new(wrapper), marks_start),
        }
    }

    /// Whether words depend on being at the start of all text.
    pub(super) fn marks_start(&self) -> bool {
        match self {
            Self::Marked(marks) => marks.marks_start(),
            _ => matches!(self, Self::Library(_, true)),
        }
    }

    /// Whether words are bytes, not characters.
    pub(super) fn are_bytes(&self) -> bool {
        matches!(self, Self::Pattern(..) | Self::Steps(_))
    }

    /// What stands for a space; `None` where text is not one word.
    pub(super) fn mark(&self) -> Option<Mark> {
        match self {
            Self::Whole | Self::Unsplit(..) => Some(LOWER_BLOCK),
            Self::Marked(marks) => Some(Mark { char: marks.mark(), splits: marks.splits }),
            Self::Pattern(..) | Self::Steps(_) | Self::Library(..) => None,
        }
    }

    /// Calls `words(text, spans)` for a few words at a time, in order; `text` is what they are part of.
    ///
    /// Some pre-tokenizers ask whether this is the start of all text, or follows an added token.
    ///
    /// # Errors
    /// What the library says, as when a pattern takes too long.
    pub(super) fn each(
        &self,
        text: &str,
        at_start: bool,
        mut words: impl FnMut(&str, &[Span]),
    ) -> Result<(), String> {
        match self {
            Self::Pattern(pattern, true) if !text.starts_with(' ') => {
                split_batched(pattern, &[" ", text].concat(), words);
            }
            Self::Pattern(pattern, _) => split_batched(pattern, text, words),
            Self::Steps(steps) => return split_by_steps(steps, text, words),
            Self::Whole => words(text, &[(0, text.len())]),
            Self::Marked(marks) => {
                let marked = marks.mark_spaces(text, at_start);
                words(&marked, &[(0, marked.len())]);
            }
            Self::Unsplit(by, _) if !text.contains(by.as_str()) => words(text, &[(0, text.len())]),
            Self::Unsplit(_, wrapper) | Self::Library(wrapper, _) => {
                return split_by_library(wrapper, text, at_start, words);
            }
        }
        Ok(())
    }
}

fn split_by_library(
    wrapper: &PreTokenizerWrapper,
    text: &str,
    at_start: bool,
    mut words: impl FnMut(&str, &[Span]),
) -> Result<(), String> {
    guarded(|| {
        let mut split = PreTokenizedString::from(placed(text, at_start));
        wrapper.pre_tokenize(&mut split)?;
        for (piece, ..) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            words(piece, &[(0, piece.len())]);
        }
        Ok(())
    })
}

/// Words that are handed on together: memory is asked for all of them before the first is needed.
pub(super) const BATCH_WORDS: usize = 128;

/// Collects the words of a text, to hand them on together.
pub(super) struct Batching<'a, W: FnMut(&str, &[Span])> {
    text: &'a str,
    words: W,
    batch: [Span; BATCH_WORDS],
    len: usize,
}

impl<'a, W: FnMut(&str, &[Span])> Batching<'a, W> {
    pub(super) fn new(text: &'a str, words: W) -> Self {
        Self { text, words, batch: [(0, 0); BATCH_WORDS], len: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, start: usize, end: usize) {
        self.batch[self.len] = (start, end);
        self.len += 1;
        if self.len == BATCH_WORDS {
            (self.words)(self.text, &self.batch);
            self.len = 0;
        }
    }

    /// Hands on what is left.
    pub(super) fn finish(mut self) {
        (self.words)(self.text, &self.batch[..self.len]);
    }
}

fn split_batched(pattern: &Pattern, text: &str, words: impl FnMut(&str, &[Span])) {
    let mut batching = Batching::new(text, words);
    pattern.split(text, |start, end| batching.push(start, end));
    batching.finish();
}

fn split_by_steps(steps: &[Step], text: &str, words: impl FnMut(&str, &[Span])) -> Result<(), String> {
    let mut batching = Batching::new(text, words);
    guarded(|| {
        steps::split(steps, text, &mut |start, end| batching.push(start, end));
        Ok(())
    })?;
    batching.finish();
    Ok(())
}

/// The text as the library knows it: at the start of all text, or as the rest of a longer one.
fn placed(text: &str, at_start: bool) -> NormalizedString {
    let rest = |text: &str| NormalizedString::from(["x", text].concat()).slice(Range::Normalized(1..));
    let after = if at_start { None } else { rest(text) };
    after.unwrap_or_else(|| NormalizedString::from(text))
}

/// Whether a pre-tokenizer puts its mark before the start of all text alone.
fn marks_start(value: &Value) -> bool {
    let parts = value["pretokenizers"].as_array();
    value["prepend_scheme"] == "first" || parts.is_some_and(|parts| parts.iter().any(marks_start))
}

/// The pattern of a pre-tokenizer that is split by hand, and whether a space goes first.
fn known(value: &Value) -> Option<(&'static Pattern, bool)> {
    if let Some([split, bytes]) = value.get("pretokenizers").and_then(Value::as_array).map(Vec::as_slice) {
        let is_sequence = value["type"] == "Sequence" && byte_level(bytes)? == (false, false);
        return known_split(split).filter(|_| is_sequence).map(|pattern| (pattern, false));
    }
    let (adds_space, uses_regex) = byte_level(value)?;
    uses_regex.then_some((Pattern::named("gpt2")?, adds_space))
}

/// `add_prefix_space` and `use_regex` of a `ByteLevel`.
fn byte_level(value: &Value) -> Option<(bool, bool)> {
    let uses_regex = value.get("use_regex").map_or(Some(true), Value::as_bool)?;
    (value["type"] == "ByteLevel").then_some((value["add_prefix_space"].as_bool()?, uses_regex))
}

fn known_split(value: &Value) -> Option<&'static Pattern> {
    let is_plain = value["type"] == "Split" && value["invert"] == false && value["behavior"] == "Isolated";
    Pattern::of_regex(value["pattern"]["Regex"].as_str()?).filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_patterns_are_split_by_hand_and_others_by_the_library() {
        let split = |regex: &str, behavior: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
        };
        let gpt2 = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
        let llama = Pattern::named("llama3").unwrap().regex;
        let by_hand = |value: &Value| matches!(Words::new(Some(value), true).unwrap(), Words::Pattern(..));
        assert!(by_hand(&gpt2) && by_hand(&split(llama, "Isolated")));
        assert!(!by_hand(&split(llama, "Removed")) && !by_hand(&split(r"\d", "Isolated")));
        assert!(matches!(Words::new(Some(&gpt2), false).unwrap(), Words::Library(..)));
    }

    #[test]
    fn an_unknown_pre_tokenizer_is_an_error() {
        assert!(Words::new(Some(&json!({"type": "Psychic"})), true).unwrap_err().contains("`pre_tokenizer`"));
    }
}
