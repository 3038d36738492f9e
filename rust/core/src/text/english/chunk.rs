//! A chunk, that is text without white space, into its tokens: affixes are peeled off both ends,
//! then what is left is a special case, an address, or cut at its infixes.

use super::affixes::{prefix_length, suffix_length};
use super::classes::count_letters;
use super::infixes::next_infix;
use super::lexicon::Lexicon;
use super::urls::is_url;

/// Start and end of a token, in bytes of the text.
pub(super) type Span = (usize, usize);

/// Gives the tokens of `text[start..end]` to `take`, in order. `suffixes` is scratch memory.
pub(super) fn split_chunk(
    text: &str,
    (start, end): Span,
    lexicon: &Lexicon,
    suffixes: &mut Suffixes,
    take: &mut impl FnMut(Span),
) {
    let mut core = Core { text, start, end, lexicon, suffixes };
    match core.peel(take) {
        Some(lengths) => take_special(core.start, lengths, take),
        None => core.split(take),
    }
    let mut start = core.end;
    while let Some(length) = core.suffixes.pop() {
        take((start, start + length));
        start += length;
    }
}

/// Lengths of the suffixes that a chunk has lost. Of a chunk of marks alone that is every second, and a giant may be
/// one chunk: a byte each, nine of a long one.
#[derive(Debug, Default)]
pub(super) struct Suffixes(Vec<u8>);

/// Follows the eight bytes of a length that is as large, or larger.
const LONG: u8 = u8::MAX;

impl Suffixes {
    fn push(&mut self, length: usize) {
        if length >= usize::from(LONG) {
            self.0.extend_from_slice(&(length as u64).to_le_bytes());
        }
        self.0.push(length.min(usize::from(LONG)) as u8);
    }

    /// Takes the last out.
    fn pop(&mut self) -> Option<usize> {
        let short = self.0.pop()?;
        if short < LONG {
            return Some(usize::from(short));
        }
        let (before, bytes) = self.0.split_last_chunk()?;
        let length = u64::from_le_bytes(*bytes) as usize;
        self.0.truncate(before.len());
        Some(length)
    }
}

/// Gives the tokens of a special case that begins at `start`.
pub(super) fn take_special(mut start: usize, lengths: [u8; 3], take: &mut impl FnMut(Span)) {
    for length in lengths.into_iter().filter(|length| *length > 0) {
        let end = start + length as usize;
        take((start, end));
        start = end;
    }
}

/// What is left of a chunk.
struct Core<'c> {
    text: &'c str,
    start: usize,
    end: usize,
    lexicon: &'c Lexicon,
    suffixes: &'c mut Suffixes,
}

impl Core<'_> {
    fn chunk(&self) -> &str {
        &self.text[self.start..self.end]
    }

    /// True for ASCII letters alone, which have no affix and no infix.
    fn is_letters(&self) -> bool {
        count_letters(self.chunk().as_bytes()) == self.end - self.start
    }

    /// Takes prefixes and keeps suffixes until there are none or a special case is left.
    fn peel(&mut self, take: &mut impl FnMut(Span)) -> Option<[u8; 3]> {
        let mut special = self.lexicon.special(self.chunk());
        while special.is_none() && !self.is_letters() {
            let chunk = self.chunk();
            let prefix = prefix_length(chunk);
            special = self.special_within(self.start + prefix, self.end, prefix);
            if special.is_some() {
                self.peel_prefix(prefix, take);
                break;
            }
            let suffix = suffix_length(&chunk[prefix..]);
            special = self.special_within(self.start, self.end - suffix, suffix);
            if special.is_some() {
                self.peel_suffix(suffix);
                break;
            }
            if prefix + suffix == 0 {
                break;
            }
            self.peel_prefix(prefix, take);
            self.peel_suffix(suffix);
            special = self.special_within(self.start, self.end, prefix.min(suffix));
        }
        special
    }

    /// The special case that is left after `cut` bytes have gone; none if none have.
    fn special_within(&self, start: usize, end: usize, cut: usize) -> Option<[u8; 3]> {
        if cut == 0 {
            return None;
        }
        self.lexicon.special(&self.text[start..end])
    }

    fn peel_prefix(&mut self, length: usize, take: &mut impl FnMut(Span)) {
        if length > 0 {
            take((self.start, self.start + length));
            self.start += length;
        }
    }

    fn peel_suffix(&mut self, length: usize) {
        if length > 0 {
            self.suffixes.push(length);
            self.end -= length;
        }
    }

    /// Takes the core whole if it is an address, else cuts it at its infixes. An infix that
    /// begins the core is none.
    fn split(&self, take: &mut impl FnMut(Span)) {
        let chunk = self.chunk();
        let (mut start, mut from) = (0, 0);
        if self.is_letters() {
            return self.take_piece(0, chunk.len(), take);
        }
        while let Some((infix, end)) = next_infix(chunk, from) {
            from = end;
            if infix == 0 {
                continue;
            }
            if start == 0 && is_url(chunk) {
                break;
            }
            self.take_piece(start, infix, take);
            self.take_piece(infix, end, take);
            start = end;
        }
        self.take_piece(start, chunk.len(), take);
    }

    fn take_piece(&self, start: usize, end: usize, take: &mut impl FnMut(Span)) {
        if start < end {
            take((self.start + start, self.start + end));
        }
    }
}
