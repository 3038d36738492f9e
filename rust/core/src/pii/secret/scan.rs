//! Where the prefix of a secret may stand: a scan that looks at few bytes of prose.
//!
//! Names such as `password` and marks such as `://` are found by a vectorised searcher for
//! pieces of them. Keys and tokens are runs of at least [`MIN_RUN`] bytes without a space:
//! words of eight bytes that hold a space are skipped whole, and only in such a run is each
//! position looked up by its three bytes. Without a vector unit every position is.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::packed::{Config, MatchKind, Searcher};

use super::table::{Form, SECRETS};
use crate::text::{ones, Block, BLOCK_BYTES};

/// Fewest bytes of a key with its prefix, without a space.
const MIN_RUN: usize = 20;
/// Bytes of a word that is looked at whole.
const WORD: usize = 8;
/// What a letter of either case has set.
const CASE: u8 = 0x20;

/// A piece of names and marks, in a case in which they are written, and the bytes of it that are searched for:
/// few other words have them.
type Piece = (&'static str, Range<usize>);

/// The pieces. What is searched for begins no other.
#[rustfmt::skip]
const PIECES: [Piece; 23] = [
    ("assw", 1..4), ("ASSW", 1..4), ("ssph", 0..4), ("SSPH", 0..4), ("pwd", 0..3), ("PWD", 0..3), ("Pwd", 0..3),
    ("ecret", 0..5), ("ECRET", 0..5), ("key", 0..3), ("KEY", 0..3), ("Key", 0..3), ("oken", 0..4), ("OKEN", 0..4),
    ("traseñ", 3..7), ("TRASEñ", 3..7), ("e passe", 4..7), ("E PASSE", 4..7), ("Bearer ", 0..7), ("Basic ", 0..6),
    ("-BEGIN ", 0..7), ("://", 0..3), (SPACED, 0..5),
];
/// The one key that holds a space.
const SPACED: &str = "V1 fm";

/// Finds the pieces; `None` without a vector unit.
struct Pieces {
    searcher: Searcher,
    /// How far before a piece the names begin that hold it.
    offsets: Vec<Vec<usize>>,
}

static SEARCHER: LazyLock<Option<Pieces>> = LazyLock::new(|| {
    let searcher = searcher(true).or_else(|| searcher(false))?;
    Some(Pieces { searcher, offsets: PIECES.iter().map(|(piece, _)| offsets(piece)).collect() })
});

/// With sixteen groups of pieces instead of eight, if the processor can: half as often does one seem to be there.
fn searcher(has_many_groups: bool) -> Option<Searcher> {
    let needles = PIECES.iter().map(|(piece, needle)| &piece[needle.clone()]);
    let mut config = Config::new();
    config.match_kind(MatchKind::LeftmostFirst).only_teddy_fat(has_many_groups.then_some(true));
    config.builder().extend(needles).build()
}

/// Where in the prefixes of [`SECRETS`] a piece stands, in any case; each place once.
fn offsets(piece: &str) -> Vec<usize> {
    let piece = piece.to_ascii_lowercase();
    let mut offsets: Vec<usize> = SECRETS
        .iter()
        .filter(|secret| !is_run(&secret.form) || secret.prefix.contains(SPACED))
        .filter_map(|secret| secret.prefix.to_ascii_lowercase().find(&piece))
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// True for keys and tokens: their prefix and what follows are one run.
fn is_run(form: &Form) -> bool {
    matches!(form, Form::Token { .. } | Form::Jwt)
}

/// Calls `visit` with every byte in `from..to` at which a prefix may begin, with some others, and with some twice.
pub(super) fn each_start(text: &str, from: usize, to: usize, mut visit: impl FnMut(usize)) {
    match SEARCHER.as_ref() {
        Some(pieces) => {
            pieces.each_start(text, from, to, &mut visit);
            each_run_start(text.as_bytes(), from, to, &mut visit);
        }
        None => each_byte(text, from, to, visit),
    }
}

/// The same without a vector unit: every byte is looked up. Names are found in any mixture of cases.
pub(super) fn each_byte(text: &str, from: usize, to: usize, mut visit: impl FnMut(usize)) {
    each_in_run(text.as_bytes(), from, to, &mut visit);
}

impl Pieces {
    fn each_start(&self, text: &str, from: usize, to: usize, visit: &mut impl FnMut(usize)) {
        let (mut at, end) = (from, text.len().min(to + MIN_RUN));
        while let Some(found) = (at < end).then(|| self.searcher.find_in(text, (at..end).into())).flatten() {
            at = found.start() + 1;
            let index = found.pattern().as_usize();
            let (piece, needle) = &PIECES[index];
            let Some(piece_start) = found.start().checked_sub(needle.start) else { continue };
            if !text.as_bytes()[piece_start..].starts_with(piece.as_bytes()) {
                continue;
            }
            let starts =
                self.offsets[index].iter().rev().filter_map(|offset| piece_start.checked_sub(*offset));
            for start in starts {
                if (from..to).contains(&start) && is_beginning(text.as_bytes(), start) {
                    visit(start);
                }
            }
        }
    }
}

/// Calls `visit` at the beginnings of prefixes in runs that are long enough for a key: each of these holds a word
/// of those into which the text is cut here.
fn each_run_start(bytes: &[u8], from: usize, to: usize, visit: &mut impl FnMut(usize)) {
    let end = bytes.len().min(to + MIN_RUN);
    let (blocks, rest) = bytes[from..end].as_chunks();
    let mut run_end = from;
    let mut read = |at: usize| {
        if at >= run_end && is_key_byte(bytes[at]) {
            run_end = each_in_run_around(bytes, at, from..to, visit);
        }
    };
    for (index, block) in blocks.iter().enumerate() {
        ones(open_words(&Block::of(block))).for_each(|bit| read(from + index * BLOCK_BYTES + bit));
    }
    let rest_start = end - rest.len();
    let (words, _) = rest.as_chunks::<WORD>();
    let open = words.iter().enumerate().filter(|(_, word)| !has_space(u64::from_le_bytes(**word)));
    open.for_each(|(index, _)| read(rest_start + index * WORD));
}

/// A bit for each first byte of eight in which no byte is a space or below it.
#[inline]
fn open_words(block: &Block) -> u64 {
    let visible = !block.blanks();
    let pairs = visible & visible >> 1;
    let fours = pairs & pairs >> 2;
    fours & fours >> 4 & (u64::MAX / 255)
}

/// The same in the run that the byte `at` is in, if it is long enough; gives the end of the run.
fn each_in_run_around(bytes: &[u8], at: usize, range: Range<usize>, visit: &mut impl FnMut(usize)) -> usize {
    let before = bytes[range.start..at].iter().rev().take_while(|byte| is_key_byte(**byte)).count();
    let after = bytes[at..].iter().take_while(|byte| is_key_byte(**byte)).count();
    if before + after >= MIN_RUN {
        each_in_run(bytes, at - before, range.end.min(at + after), visit);
    }
    at + after
}

/// Calls `visit` at every byte of `from..to` whose three bytes begin a prefix.
fn each_in_run(bytes: &[u8], from: usize, to: usize, visit: &mut impl FnMut(usize)) {
    (from..to).filter(|at| is_beginning(bytes, *at)).for_each(visit);
}

/// True if a byte of the word is a space or below it: the borrow of a subtraction shows it (exact as a whole).
fn has_space(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    word.wrapping_sub(ONES * 0x21) & !word & (ONES * 0x80) != 0
}

/// True for what keys and their prefixes are made of.
fn is_key_byte(byte: u8) -> bool {
    KEY_BYTES[usize::from(byte)]
}

static KEY_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'=' | b',' | b':' | b'~');
        byte += 1;
    }
    table
};

/// True if the three bytes at `at`, in any case, may begin a prefix.
#[inline]
fn is_beginning(bytes: &[u8], at: usize) -> bool {
    let Some([first, second, third]) = bytes.get(at..at + 3) else { return false };
    let hash = hash([*first, *second, *third]);
    TRIGRAMS[hash >> 6] >> (hash & 63) & 1 == 1
}

/// The first three bytes of all prefixes, hashed: one byte in a hundred of prose passes.
static TRIGRAMS: LazyLock<[u64; 1024]> = LazyLock::new(|| {
    let mut trigrams = [0; 1024];
    for secret in SECRETS {
        if let Some(first) = secret.prefix.as_bytes().first_chunk() {
            let hash = hash(*first);
            trigrams[hash >> 6] |= 1 << (hash & 63);
        }
    }
    trigrams
});

/// Sixteen bits of three bytes, without their case (multiplication by 2^32 over the golden ratio).
#[inline]
fn hash(bytes: [u8; 3]) -> usize {
    let joined = bytes.iter().fold(0_u32, |joined, byte| joined << 8 | u32::from(byte | CASE));
    (joined.wrapping_mul(0x9E37_79B1) >> 16) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_no_shorter_than_a_run_and_all_of_its_bytes_are_known() {
        for secret in SECRETS.iter().filter(|secret| is_run(&secret.form) && !secret.prefix.contains(SPACED))
        {
            if let Form::Token { fewest, .. } = secret.form {
                assert!(secret.prefix.len() + fewest >= MIN_RUN, "{}", secret.prefix);
            }
            assert!(secret.prefix.bytes().all(is_key_byte), "{}", secret.prefix);
        }
    }

    #[test]
    fn every_name_and_mark_holds_a_piece_in_lower_upper_and_title_case() {
        let others = SECRETS.iter().filter(|secret| !is_run(&secret.form) || secret.prefix.contains(SPACED));
        for secret in others {
            let named = matches!(secret.form, Form::Assigned { .. });
            let (first, rest) = secret.prefix.split_at(1);
            let title = first.to_ascii_uppercase() + rest;
            let cases = [secret.prefix.to_owned(), secret.prefix.to_ascii_uppercase(), title];
            for written in &cases[..if named { 3 } else { 1 }] {
                let piece = PIECES.into_iter().find(|(piece, _)| written.contains(piece));
                assert!(piece.is_some_and(|(piece, _)| !offsets(piece).is_empty()), "{written}");
            }
        }
        assert!(SEARCHER.is_some() || cfg!(not(target_arch = "x86_64")));
    }

    #[test]
    fn a_word_with_a_space_is_told_from_one_without() {
        let has = |text: &[u8; 8]| has_space(u64::from_le_bytes(*text));
        assert!(has(b"abcdefg ") && has(b" bcdefgh") && has(b"abc\nefgh") && has(b"\xff\xfe\x80\x00zzzz"));
        assert!(!has(b"abcdefgh") && !has(b"!~-./:=_") && !has("éüñß".as_bytes().first_chunk().unwrap()));
    }
}
