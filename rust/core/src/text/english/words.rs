//! A text into tokens: white space ends a chunk, and chunks of letters alone, which are most of
//! them, need one look into the lexicon and nothing else.

use super::chunk::{split_chunk, take_special, Span};
use super::classes::{count_letters, is, BLANK, BYTES, HIGH, SPACE};
use super::lexicon::{Lexicon, ENGLISH};
use super::rejoin::{self, Kind, Rejoin};

/// Memory that is kept from text to text.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    suffixes: Vec<Span>,
    rejoin: rejoin::Scratch,
}

/// Gives every token to `give`, in order.
///
/// White space is a token but for one space after a chunk, as in spaCy.
pub(super) fn tokens(text: &str, scratch: &mut Scratch, give: impl FnMut(Span, Kind)) {
    let lexicon = &*ENGLISH;
    let rejoin = Rejoin::new(text, lexicon, &mut scratch.rejoin, give);
    let mut reader = Reader { text, lexicon, suffixes: &mut scratch.suffixes, rejoin };
    let mut at = reader.take_spaces(0);
    while at < text.len() {
        at = reader.take_chunk(at);
        if text.as_bytes().get(at) == Some(&b' ') {
            at += 1;
        }
        at = reader.take_spaces(at);
    }
    reader.rejoin.pause();
}

struct Reader<'t, F> {
    text: &'t str,
    lexicon: &'t Lexicon,
    suffixes: &'t mut Vec<Span>,
    rejoin: Rejoin<'t, F>,
}

impl<F: FnMut(Span, Kind)> Reader<'_, F> {
    /// Takes the white space that begins at `start`; gives its end.
    #[inline]
    fn take_spaces(&mut self, start: usize) -> usize {
        let mut end = start;
        while let Some(length) = space_length(self.text, end) {
            end += length;
        }
        if start < end {
            self.rejoin.space((start, end));
        }
        end
    }

    /// Takes the chunk that begins at `start`; gives its end.
    #[inline]
    fn take_chunk(&mut self, start: usize) -> usize {
        let letters = count_letters(&self.text.as_bytes()[start..]);
        let end = chunk_end(self.text, start + letters);
        if end > start + letters {
            self.split(start, end);
        } else {
            self.take_letters(start, end);
        }
        end
    }

    fn take_letters(&mut self, start: usize, end: usize) {
        match self.lexicon.special(&self.text[start..end]) {
            Some(lengths) => take_special(start, lengths, &mut |token| self.rejoin.letters(token)),
            None => self.rejoin.letters((start, end)),
        }
    }

    fn split(&mut self, start: usize, end: usize) {
        let rejoin = &mut self.rejoin;
        split_chunk(self.text, (start, end), self.lexicon, self.suffixes, &mut |token| rejoin.token(token));
    }
}

/// Where the chunk ends that `at` is in.
#[inline]
fn chunk_end(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match BYTES[*byte as usize] {
            BLANK => break,
            HIGH => match space_length(text, at) {
                Some(_) => break,
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            },
            _ => at += 1,
        }
    }
    at
}

/// Bytes of the white-space character at `at`, if there is one.
#[inline]
fn space_length(text: &str, at: usize) -> Option<usize> {
    match BYTES[*text.as_bytes().get(at)? as usize] {
        BLANK => Some(1),
        HIGH => text[at..].chars().next().filter(|char| is(Some(*char), SPACE)).map(char::len_utf8),
        _ => None,
    }
}
