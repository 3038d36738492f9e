//! One pass over the bytes: from what is rare in prose to the finders of each kind.
//!
//! Every finder reads a bounded neighbourhood of its anchor, so that time is linear in
//! the text; of prose, 64 bytes without a digit, a colon or an `@` are passed at once.

use std::ops::Range;

use memchr::memchr2_iter;

use super::kind::Kind;
use super::policy::{Finders, Span};
use super::{card, crypto, email, iban, ip, mac, phone, secret, ssn};
use crate::text::{ones, Block, BLOCK_BYTES};

/// Appends what begins at an anchor in `range`; kinds may overlap.
pub(super) fn candidates(text: &str, range: Range<usize>, finders: &Finders, found: &mut Vec<Span>) {
    let bytes = text.as_bytes();
    let mut search = Search { text, finders, found, digits_done: 0 };
    let (blocks, rest) = bytes[range.clone()].as_chunks();
    for (index, block) in blocks.iter().enumerate() {
        let from = range.start + index * BLOCK_BYTES;
        ones(anchors(&Block::of(block))).for_each(|bit| search.at(from + bit, block[bit]));
    }
    let rest = range.end - rest.len()..range.end;
    rest.filter(|at| is_anchor(bytes[*at])).for_each(|at| search.at(at, bytes[at]));
    if finders.wants(Kind::Secret) {
        secret::each(text, range.start, range.end, |start, end| {
            found.push(Span { start, end, kind: Kind::Secret });
        });
    }
    if finders.obfuscated && finders.wants(Kind::Email) {
        said_addresses(text, range, found);
    }
}

/// The anchors of a block, without digits that follow another in it.
#[inline]
fn anchors(block: &Block) -> u64 {
    let digits = block.digits();
    digits & !(digits << 1) | block.any_of([b':', b'@'])
}

/// Digits, the colon that follows them in ASCII, and `@`.
#[inline]
fn is_anchor(byte: u8) -> bool {
    byte.wrapping_sub(b'0') < 11 || byte == b'@'
}

struct Search<'s> {
    text: &'s str,
    finders: &'s Finders,
    found: &'s mut Vec<Span>,
    /// End of what was taken at a digit: it is not looked at again.
    digits_done: usize,
}

impl Search<'_> {
    fn at(&mut self, at: usize, byte: u8) {
        match byte {
            b'@' => self.take(Kind::Email, at, |text| email::span(text, at)),
            b':' => self.colon(at),
            _ if at >= self.digits_done && !self.follows_digit(at) => self.digit(at),
            _ => false,
        };
    }

    fn follows_digit(&self, at: usize) -> bool {
        at > 0 && self.text.as_bytes()[at - 1].is_ascii_digit()
    }

    fn colon(&mut self, at: usize) -> bool {
        if at < self.digits_done {
            return false;
        }
        self.take(Kind::Ipv6, at, |text| ip::v6_span(text, at))
            || self.take(Kind::Mac, at, |text| mac::span(text, at))
    }

    /// The kinds that hold digits, by precedence: the first that is proved is taken.
    fn digit(&mut self, at: usize) -> bool {
        let public_only = self.finders.public_only;
        let (regions, last_end): (&[_], _) = (&self.finders.regions, self.digits_done);
        self.take(Kind::Crypto, at, |text| crypto::span(text, at))
            || self.take(Kind::Iban, at, |text| iban::span(text, at))
            || self.take(Kind::Card, at, |text| Some((at, card::end(text, at)?)))
            || self.take(Kind::Mac, at, |text| mac::span(text, at))
            || self.take(Kind::Ipv4, at, |text| Some((at, ip::v4_end(text, at, public_only)?)))
            || self.take(Kind::Ssn, at, |text| Some((at, ssn::end(text, at)?)))
            || self.take(Kind::Phone, at, |text| phone::span(text, at, last_end, regions))
    }

    fn take(&mut self, kind: Kind, at: usize, find: impl FnOnce(&str) -> Option<(usize, usize)>) -> bool {
        if !self.finders.wants(kind) {
            return false;
        }
        let Some((start, end)) = find(self.text) else { return false };
        self.found.push(Span { start, end, kind });
        if at < end && kind != Kind::Email {
            self.digits_done = end;
        }
        true
    }
}

/// Addresses that spell their `@`: anchored on the `a` of ` at `, `(at)` and `[at]`.
fn said_addresses(text: &str, range: Range<usize>, found: &mut Vec<Span>) {
    let bytes = &text.as_bytes()[range.clone()];
    for at in memchr2_iter(b't', b'T', bytes).filter_map(|last| (range.start + last).checked_sub(1)) {
        if !text.as_bytes()[at].eq_ignore_ascii_case(&b'a') {
            continue;
        }
        if let Some((start, end)) = email::obfuscated_span(text, at) {
            found.push(Span { start, end, kind: Kind::Email });
        }
    }
}

/// Leaves spans that do not overlap, sorted: the kind that stands first wins, then the earlier, then the longer.
pub(super) fn resolve(found: &mut Vec<Span>, taken: &mut Vec<Span>, merged: &mut Vec<Span>) {
    taken.clear();
    if found.windows(2).all(|pair| pair[0].end <= pair[1].start) {
        std::mem::swap(found, taken); // of a text of nothing else a copy takes twice its bytes
        return;
    }
    found.sort_unstable_by_key(|span| (span.kind, span.start, std::cmp::Reverse(span.end)));
    for group in found.chunk_by(|a, b| a.kind == b.kind) {
        merge(taken, group, merged);
        std::mem::swap(taken, merged);
    }
    found.clear();
}

/// Adds those spans of a group, sorted by start, that nothing taken before overlaps.
fn merge(taken: &[Span], group: &[Span], merged: &mut Vec<Span>) {
    merged.clear();
    let mut others = taken.iter().peekable();
    for span in group {
        while let Some(other) = others.next_if(|other| other.start < span.end) {
            merged.push(*other);
        }
        if merged.last().is_none_or(|last| last.end <= span.start) {
            merged.push(*span);
        }
    }
    merged.extend(others);
}
