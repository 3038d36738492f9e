//! Splits one after the other, each within the words of the one before, as byte-level files list them
//! (`StarCoder`, `SmolLM`, `DeepSeek`): on the text itself, where the library makes a copy with an alignment of each piece.

use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper as Peer;
use tokenizers::SplitDelimiterBehavior;

use super::split::{isolate, Expression, Pattern, Sets};

/// One split; together its words are the text.
#[derive(Debug)]
pub(super) enum Step {
    /// By a known pattern.
    Pattern(&'static Pattern),
    /// Matches of a regular expression, and what lies between them.
    Expression(Expression),
    /// The same of a string that stands for itself.
    Literal(Box<Split>),
    /// Numbers: one at a time, or all that stand together.
    Numbers { one_by_one: bool },
}

/// The splits of a pre-tokenizer that ends in bytes; `None` if it does anything else.
pub(super) fn steps(peer: &Peer) -> Option<Vec<Step>> {
    let Peer::Sequence(sequence) = peer else { return None };
    let (Peer::ByteLevel(bytes), before) = sequence.as_ref().split_last()? else { return None };
    if bytes.add_prefix_space {
        return None;
    }
    let mut sets = Sets::default();
    let mut steps = before.iter().map(|peer| Step::new(peer, &mut sets)).collect::<Option<Vec<Step>>>()?;
    steps.extend(Pattern::named("gpt2").filter(|_| bytes.use_regex).map(Step::Pattern));
    Some(steps)
}

impl Step {
    fn new(peer: &Peer, sets: &mut Sets) -> Option<Self> {
        match peer {
            Peer::Digits(digits) => Some(Self::Numbers { one_by_one: digits.individual_digits }),
            Peer::Split(split) if split.behavior == SplitDelimiterBehavior::Isolated && !split.invert => {
                match &split.pattern {
                    SplitPattern::Regex(regex) => Self::of_regex(regex, sets),
                    SplitPattern::String(_) => Some(Self::Literal(Box::new(split.clone()))),
                }
            }
            _ => None,
        }
    }

    /// `None` for what the engine does not take.
    fn of_regex(regex: &str, sets: &mut Sets) -> Option<Self> {
        match Pattern::of_regex(regex) {
            Some(known) => Some(Self::Pattern(known)),
            None => Expression::within(regex, sets).ok().map(Self::Expression),
        }
    }

    /// Calls `word(start, end)` for each word of `text`, in order.
    fn split(&self, text: &str, word: &mut dyn FnMut(usize, usize)) {
        match self {
            Self::Pattern(pattern) => pattern.split(text, word),
            Self::Expression(expression) => expression.split(text, word),
            Self::Literal(split) => isolate(split.regex.find_iter(text), text.len(), word),
            Self::Numbers { one_by_one: true } => isolate(numbers(text), text.len(), word),
            Self::Numbers { one_by_one: false } => isolate(joined(numbers(text)), text.len(), word),
        }
    }
}

/// Calls `word(start, end)` for each word that `steps` make of `text`, in order.
///
/// # Panics
/// The engine of regular expressions does, where a pattern takes too long.
pub(super) fn split(steps: &[Step], text: &str, word: &mut dyn FnMut(usize, usize)) {
    let Some((first, rest)) = steps.split_first() else { return word(0, text.len()) };
    first.split(text, &mut |start, end| {
        split(rest, &text[start..end], &mut |from, to| word(start + from, start + to));
    });
}

fn numbers(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let numeric = text.char_indices().filter(|(_, char)| char.is_numeric());
    numeric.map(|(at, char)| (at, at + char.len_utf8()))
}

/// Spans that touch as one.
fn joined(spans: impl Iterator<Item = (usize, usize)>) -> impl Iterator<Item = (usize, usize)> {
    let mut spans = spans.peekable();
    std::iter::from_fn(move || {
        let (start, mut end) = spans.next()?;
        while let Some((_, next_end)) = spans.next_if(|next| next.0 == end) {
            end = next_end;
        }
        Some((start, end))
    })
}
