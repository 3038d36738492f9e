//! Parts of a text, as lines and words are, of which there are too many to be held.

use xxhash_rust::xxh3::xxh3_64;

use super::tally::{tally, Round};
use crate::text::lines::{count_chars, Copies, Repeats, Span};
use crate::text::scan::Scan;

/// Tells one every part of the text.
pub(in crate::text) type TakePart<'t> = &'t mut dyn FnMut(Span);

/// Parts that equal an earlier one.
pub(in crate::text) fn count_repeats(text: &str, each: &dyn Fn(TakePart)) -> Repeats {
    let mut repeats = Repeats::default();
    each(&mut |_| repeats.num_parts += 1);
    tally_parts(text, repeats.num_parts, each, |round| {
        for counted in round.counted() {
            let (copies, (start, end)) = (counted.num_copies as usize - 1, counted.first());
            repeats.num_repeated += copies;
            repeats.repeated_chars += if copies > 0 { copies * count_chars(&text[start..end]) } else { 0 };
        }
    });
    repeats
}

/// Parts that equal another one.
pub(in crate::text) fn count_copies(text: &str, each: &dyn Fn(TakePart)) -> Copies {
    let mut copies = Copies::default();
    each(&mut |(start, end)| {
        copies.num_parts += 1;
        copies.num_chars += count_chars(&text[start..end]);
    });
    tally_parts(text, copies.num_parts, each, |round| {
        for counted in round.counted().filter(|counted| counted.num_copies > 1) {
            let (num_copies, (start, end)) = (counted.num_copies as usize, counted.first());
            copies.num_copies += num_copies;
            copies.copied_chars += num_copies * count_chars(&text[start..end]);
        }
    });
    copies
}

/// Distinct words of a text that was scanned.
pub(crate) fn count_distinct(text: &str, scan: &Scan) -> usize {
    let mut distinct = 0;
    let each = |take: TakePart| scan.each_word(text, take);
    tally_parts(text, scan.num_words, &each, |round| distinct += round.num_different());
    distinct
}

fn tally_parts(text: &str, num_parts: usize, each: &dyn Fn(TakePart), done: impl FnMut(&Round)) {
    let bytes = text.as_bytes();
    let hashed = |take: &mut dyn FnMut(u64, Span)| {
        each(&mut |(start, end)| take(xxh3_64(&bytes[start..end]), (start, end)));
    };
    let is_same = |one: Span, other: Span| bytes[one.0..one.1] == bytes[other.0..other.1];
    tally(num_parts, &hashed, &is_same, done);
}
