//! A text into tokens: white space ends a chunk, and chunks of letters alone, which are most of
//! them, need one look into the lexicon and nothing else.

use super::chunk::{split_chunk, take_special, Span, Suffixes};
use super::classes::{count_letters, first_end, first_letters, is, BLANK, BYTES, HIGH, SPACE};
use super::known::{Chunk, Known};
use super::lexicon::{Lexicon, Mark, ENGLISH, LISTED_SPECIAL, MARKS};
use super::rejoin::{self, Kind, Rejoin};
use crate::text::word_key::{first_bytes, KEY_BYTES};

/// Memory that is kept from text to text.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    suffixes: Suffixes,
    known: Known,
    rejoin: rejoin::Scratch,
}

/// Gives every token to `give`, in order.
///
/// White space is a token but for one space after a chunk, as in spaCy.
pub(super) fn tokens(text: &str, scratch: &mut Scratch, give: impl FnMut(Span, Kind)) {
    read::<true>(text, scratch, give);
}

/// The same; unless `QUICK`, no chunk is thought plain or known.
fn read<const QUICK: bool>(text: &str, scratch: &mut Scratch, give: impl FnMut(Span, Kind)) {
    let lexicon = &*ENGLISH;
    let Scratch { suffixes, known, rejoin } = scratch;
    let rejoin = Rejoin::new(text, lexicon, rejoin, give);
    let mut reader = Reader { text, lexicon, suffixes, known, rejoin };
    let mut at = reader.take_spaces(0);
    while at < text.len() {
        let plain = if QUICK { reader.take_plain(at) } else { None };
        at = plain.unwrap_or_else(|| reader.take_any::<QUICK>(at));
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
    suffixes: &'t mut Suffixes,
    known: &'t mut Known,
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

    /// Takes the chunk if it is a word that is no special case, with or without a mark after it: nearly all of a
    /// text is. Nothing but the lexicon's bits is asked then, as `plain_chunks_need_no_lexicon` proves.
    #[inline]
    fn take_plain(&mut self, start: usize) -> Option<usize> {
        let block = self.text.as_bytes()[start..].first_chunk()?;
        let length = first_letters(block);
        let (end, after) = (start + length, *block.get(length)?);
        let listed = self.lexicon.listed(first_bytes(block, length));
        if length == 0 || listed & LISTED_SPECIAL != 0 {
            return None;
        }
        if BYTES[after as usize] == BLANK {
            match listed {
                0 => self.rejoin.plain((start, end)),
                _ => self.rejoin.letters((start, end)),
            }
            return Some(end);
        }
        (listed == 0 && self.is_plain_mark(end, after)).then(|| {
            self.rejoin.plain((start, end));
            self.rejoin.plain_mark((end, end + 1));
            end + 1
        })
    }

    /// True if the byte at `at`, which follows a letter, ends its chunk and is a token that rejoins with no other.
    #[inline]
    fn is_plain_mark(&self, at: usize, mark: u8) -> bool {
        let bytes = self.text.as_bytes();
        let Some([after, beyond]) = bytes.get(at + 1..at + 3) else { return false };
        let is_mark = match MARKS[mark as usize] {
            Mark::No => false,
            Mark::Suffix => true,
            Mark::AfterLower => bytes[at - 1].is_ascii_lowercase(),
        };
        is_mark && BYTES[*after as usize] == BLANK && !self.lexicon.goes_on_with(*beyond)
    }

    /// Takes any chunk.
    fn take_any<const QUICK: bool>(&mut self, start: usize) -> usize {
        let letters = count_letters(&self.text.as_bytes()[start..]);
        let end = chunk_end(self.text, start + letters);
        if end == start + letters {
            self.take_letters(start, end);
            return end;
        }
        match self.text.as_bytes()[start..].first_chunk() {
            Some(block) if QUICK && end - start <= KEY_BYTES => {
                self.take_known(first_bytes(block, end - start), start, end);
            }
            _ => self.split(start, end),
        }
        end
    }

    fn take_letters(&mut self, start: usize, end: usize) {
        match self.lexicon.special(&self.text[start..end]) {
            Some(lengths) => take_special(start, lengths, &mut |token| self.rejoin.letters(token)),
            None => self.rejoin.letters((start, end)),
        }
    }

    /// Takes a chunk of at most sixteen bytes, of which `head` is made.
    fn take_known(&mut self, head: u128, start: usize, end: usize) {
        let Self { text, lexicon, suffixes, known, rejoin } = self;
        let chunk = known.chunk(head, end - start, || {
            let mut chunk = Chunk::default();
            split_chunk(text, (start, end), lexicon, suffixes, &mut |token| {
                chunk.push(token, lexicon.begins_pattern(&text[token.0..token.1]));
            });
            chunk
        });
        match chunk.tokens(start) {
            Some(tokens) => tokens.for_each(|(token, begins)| rejoin.known(token, begins)),
            None => self.split(start, end),
        };
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
        if let Some(block) = bytes[at..].first_chunk() {
            let visible = first_end(block);
            if visible > 0 {
                at += visible;
                continue;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tokens where so many may be held.
    fn tokens_held(text: &str, max_held: usize) -> Vec<Span> {
        let (mut tokens, mut scratch) = (Vec::new(), Scratch::default());
        scratch.rejoin.max_held = max_held;
        read::<true>(text, &mut scratch, |token, _| tokens.push(token));
        tokens
    }

    #[test]
    fn a_chunk_of_marks_alone_holds_few_tokens() {
        let (text, mut scratch) = ("<".repeat(1 << 20), Scratch::default());
        let mut num_tokens = 0;
        read::<true>(&text, &mut scratch, |_, _| num_tokens += 1);
        assert_eq!((num_tokens, scratch.rejoin.held_capacity() <= 1 << 13), (text.len(), true));
    }

    /// Read twice, so that chunks are known.
    fn tokens_of<const QUICK: bool>(text: &str) -> Vec<Span> {
        let (mut tokens, mut scratch) = (Vec::new(), Scratch::default());
        read::<QUICK>(text, &mut scratch, |token, _| tokens.push(token));
        let num_tokens = tokens.len();
        read::<QUICK>(text, &mut scratch, |token, _| tokens.push(token));
        assert_eq!(tokens[..num_tokens], tokens[num_tokens..]);
        tokens
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn plain_and_known_chunks_fall_into_the_tokens_that_any_chunk_does(
            text in r#"(([a-zA-Z]{1,17}|word|Mr|Jan|cannot|he|that|ol|p\.m|[aBxXDoOP]|é|7|\(|-|_|'s|n't|US|‘|\\){1,2}([.,:;!?)('"|°D-]|\.\.\.|:\)|;-\)){0,2}( |  |\n|\u{a0}|\u{3000}|\t ){0,1}){0,30}"#
        ) {
            prop_assert_eq!(tokens_of::<true>(&text), tokens_of::<false>(&text));
        }

        #[test]
        fn tokens_that_are_given_on_early_are_those_that_were_held(
            text in r"([<>:;=8xX(){}\[\]|\\/03DoOpPv_.^'*-]{1,40}|(:\)|<3|</3|\(:|:-\)|o.O|><\(\(\(\*>|\(-_-\)|¯\\\(ツ\)/¯|é){1,30}| |7){1,30}",
            max_held in 64_usize..100
        ) {
            prop_assert_eq!(tokens_held(&text, max_held), tokens_held(&text, usize::MAX));
        }

        #[test]
        fn a_mark_that_begins_a_pattern_waits_for_what_follows(
            text in r#"((word|Bob|he|x|D|O)[.,:;!?)"']( |\n| \n)([-)DoOPxX(_='a-f*/|0-9’}\]^:]{1,3}|word) (and some words more )?){1,8}"#
        ) {
            prop_assert_eq!(tokens_of::<true>(&text), tokens_of::<false>(&text));
        }
    }
}
