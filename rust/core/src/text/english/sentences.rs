//! Sentences, as spaCy's `sentencizer` finds them: one ends with the first token after a full
//! stop, question or exclamation mark that is not punctuation.

use super::chunk::Span;
use super::classes::{class, PUNCTUATION, SENTENCE_END};
use super::rejoin::Kind;

/// The sentence that is being read.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    /// True once a token has been read that ends it.
    is_ended: bool,
    /// First to last token that is not white space.
    span: Option<Span>,
}

impl Sentences {
    /// Takes the next token, white space or not; gives the sentence that ends before it. A
    /// sentence of white space alone is none.
    #[inline]
    pub(super) fn take(&mut self, text: &str, token: Span, kind: Kind) -> Option<Span> {
        let word = &text[token.0..token.1];
        let is_end = kind == Kind::Other && is_sentence_end(word);
        let mut sentence = None;
        if self.is_ended && !is_end && (kind != Kind::Other || !is_punctuation(word)) {
            sentence = self.finish();
        }
        self.is_ended |= is_end;
        if kind != Kind::Space {
            self.span = Some((self.span.map_or(token.0, |span| span.0), token.1));
        }
        sentence
    }

    /// The sentence that the end of the text ends.
    pub(super) fn finish(&mut self) -> Option<Span> {
        self.is_ended = false;
        self.span.take()
    }
}

/// True for one character that ends sentences.
#[inline]
fn is_sentence_end(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|char| class(char) & SENTENCE_END != 0) && chars.next().is_none()
}

/// True if every character is of a category P.
fn is_punctuation(word: &str) -> bool {
    word.chars().all(|char| class(char) & PUNCTUATION != 0)
}
