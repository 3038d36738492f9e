//! The lines of a text, as Python splits them, and what repeats among them.

use memchr::{memchr_iter, memmem};
use xxhash_rust::xxh3::xxh3_64;

use super::slots::Slots;
use super::{class, Class};

/// A byte range of a text.
pub type Span = (usize, usize);

/// `str.strip()` of Python.
pub fn strip(text: &str) -> &str {
    strip_end(strip_start(text))
}

/// `str.lstrip()` of Python.
pub fn strip_start(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// `str.rstrip()` of Python.
pub fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

fn is_space(char: char) -> bool {
    class(char) == Class::Space
}

/// Bytes of which a byte can hold the number.
const COUNTED_BYTES: usize = 240;

/// Code points of a text.
#[inline]
pub fn count_chars(text: &str) -> usize {
    count_begun(text.as_bytes())
}

/// Code points that begin in these bytes.
#[inline]
pub(super) fn count_begun(bytes: &[u8]) -> usize {
    // Every byte that does not continue a character begins one. So many are counted in vectors of bytes.
    let begun = |part: &[u8]| part.iter().map(|byte| u8::from(*byte & 0xc0 != 0x80)).sum::<u8>();
    bytes.chunks(COUNTED_BYTES).map(|part| usize::from(begun(part))).sum()
}

/// How a text is parted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Split {
    /// Into the lines of `str.splitlines()`.
    Lines,
    /// At line feeds, blank parts left out.
    Filled,
    /// At runs of at least so many line feeds.
    Feeds(usize),
    /// At line feeds.
    Each,
    /// The same, stripped; blank parts left out.
    EachStripped,
    /// At pairs of line feeds, stripped; blank parts left out.
    PairsStripped,
}

impl Split {
    /// Gives the parts of a text, in order.
    #[inline]
    pub(super) fn each(self, text: &str, mut take: impl FnMut(Span)) {
        let mut take_stripped = |part| stripped(text, part).into_iter().for_each(&mut take);
        match self {
            Self::EachStripped => split_each(text, take_stripped),
            Self::PairsStripped => split_pairs(text, &mut take_stripped),
            Self::Lines => split_lines(text, take),
            Self::Filled => split_filled(text, take),
            Self::Feeds(num_feeds) => split_feeds(text, num_feeds, take),
            Self::Each => split_each(text, take),
        }
    }
}

/// Gives the lines of `str.splitlines()`.
fn split_lines(text: &str, mut take: impl FnMut(Span)) {
    let bytes = text.as_bytes();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        if !MAY_END_LINE[bytes[at] as usize] {
            at += 1;
            continue;
        }
        let length = line_end_bytes(&bytes[at..]);
        if length > 0 {
            take((start, at));
            start = at + length;
        }
        at += length.max(1);
    }
    if start < bytes.len() {
        take((start, bytes.len()));
    }
}

/// The first bytes of what ends a line.
static MAY_END_LINE: [bool; 256] = {
    let mut table = [false; 256];
    let firsts = [0x0a, 0x0b, 0x0c, 0x0d, 0x1c, 0x1d, 0x1e, 0xc2, 0xe2];
    let mut index = 0;
    while index < firsts.len() {
        table[firsts[index]] = true;
        index += 1;
    }
    table
};

/// Length of the line end that `bytes` begin with; 0 if they do not.
fn line_end_bytes(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] | [0xc2, 0x85, ..] => 2,
        [b'\n' | 0x0b | 0x0c | b'\r' | 0x1c..=0x1e, ..] => 1,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    }
}

/// Gives what stands between line feeds and is not blank.
fn split_filled(text: &str, mut take: impl FnMut(Span)) {
    let ends = memchr_iter(b'\n', text.as_bytes()).chain(std::iter::once(text.len()));
    let mut start = 0;
    for end in ends {
        if !strip_start(&text[start..end]).is_empty() {
            take((start, end));
        }
        start = end + 1;
    }
}

/// Gives the pieces between runs of at least `num_feeds` line feeds: `re.split`.
fn split_feeds(text: &str, num_feeds: usize, mut take: impl FnMut(Span)) {
    let bytes = text.as_bytes();
    let (mut start, mut at) = (0, 0);
    while let Some(found) = memchr::memchr(b'\n', &bytes[at..]) {
        let run = at + found;
        at = run + bytes[run..].iter().take_while(|byte| **byte == b'\n').count();
        if at - run >= num_feeds {
            take((start, run));
            start = at;
        }
    }
    take((start, bytes.len()));
}

/// The part stripped, unless nothing is left of it.
fn stripped(text: &str, (start, end): Span) -> Option<Span> {
    let part = strip_start(&text[start..end]);
    let start = end - part.len();
    let end = start + strip_end(part).len();
    (start < end).then_some((start, end))
}

/// Gives what stands between pairs of line feeds, as it stands: `str.split("\n\n")`.
fn split_pairs(text: &str, mut take: impl FnMut(Span)) {
    let mut start = 0;
    for end in memmem::find_iter(text.as_bytes(), b"\n\n") {
        take((start, end));
        start = end + 2;
    }
    take((start, text.len()));
}

/// Gives what stands between line feeds, as it stands: `str.split("\n")`.
fn split_each(text: &str, mut take: impl FnMut(Span)) {
    let ends = memchr_iter(b'\n', text.as_bytes()).chain(std::iter::once(text.len()));
    let mut start = 0;
    for end in ends {
        take((start, end));
        start = end + 1;
    }
}

/// Parts that equal an earlier one, and their share of the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repeats {
    /// All parts.
    pub num_parts: usize,
    /// Parts that equal an earlier one; the first copy is not counted.
    pub num_repeated: usize,
    /// Code points in those.
    pub repeated_chars: usize,
}

/// Counts the parts of `text` that equal an earlier one.
pub(super) fn count_repeats(text: &str, parts: &[Span], slots: &mut Slots) -> Repeats {
    let part = |index: usize| &text[parts[index].0..parts[index].1];
    let mut repeats = Repeats { num_parts: parts.len(), ..Repeats::default() };
    slots.reset(parts.len());
    for index in 0..parts.len() {
        let hash = xxh3_64(part(index).as_bytes());
        if slots.find_or_insert(hash, index, |other| part(other) == part(index)) != index {
            repeats.num_repeated += 1;
            repeats.repeated_chars += count_chars(part(index));
        }
    }
    repeats
}

/// Parts that have an equal, every copy counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    /// All parts.
    pub num_parts: usize,
    /// Code points in all parts.
    pub num_chars: usize,
    /// Parts that equal another one.
    pub num_copies: usize,
    /// Code points in those.
    pub copied_chars: usize,
}

/// Counts the parts of `text` that equal another one.
pub(super) fn count_copies(
    text: &str,
    parts: &[Span],
    slots: &mut Slots,
    is_copied: &mut Vec<bool>,
) -> Copies {
    let part = |index: usize| &text[parts[index].0..parts[index].1];
    is_copied.clear();
    is_copied.resize(parts.len(), false);
    slots.reset(parts.len());
    for index in 0..parts.len() {
        let hash = xxh3_64(part(index).as_bytes());
        let first = slots.find_or_insert(hash, index, |other| part(other) == part(index));
        if first != index {
            (is_copied[first], is_copied[index]) = (true, true);
        }
    }
    let mut copies = Copies { num_parts: parts.len(), ..Copies::default() };
    for (index, is_copied) in is_copied.iter().enumerate() {
        let num_chars = count_chars(part(index));
        copies.num_chars += num_chars;
        copies.num_copies += usize::from(*is_copied);
        copies.copied_chars += usize::from(*is_copied) * num_chars;
    }
    copies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(split: impl FnOnce(&mut dyn FnMut(Span))) -> Vec<Span> {
        let mut spans = Vec::new();
        split(&mut |span| spans.push(span));
        spans
    }

    fn pieces<'t>(text: &'t str, split: impl Fn(&'t str, &mut dyn FnMut(Span))) -> Vec<&'t str> {
        spans(|take| split(text, take)).into_iter().map(|(start, end)| &text[start..end]).collect()
    }

    #[test]
    fn lines_end_where_splitlines_of_python_ends_them() {
        let text = "a\r\nb\rc\u{b}d\u{c}e\u{1c}f\u{1d}g\u{1e}h\u{85}i\u{2028}j\u{2029}k\u{1f}\u{a0}…\n\nl\n";
        let expected = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k\u{1f}\u{a0}…", "", "l"];
        assert_eq!(pieces(text, |text, take| split_lines(text, take)), expected);
    }

    #[test]
    fn runs_of_line_feeds_split_and_leave_an_empty_piece_at_either_end() {
        assert_eq!(pieces("\na\n\nb\n", |text, take| split_feeds(text, 1, take)), ["", "a", "b", ""]);
        assert_eq!(pieces("a\nb\n\n\nc", |text, take| split_feeds(text, 2, take)), ["a\nb", "c"]);
        assert_eq!(pieces("", |text, take| split_feeds(text, 2, take)), [""]);
    }

    #[test]
    fn blank_lines_are_not_filled() {
        assert_eq!(pieces("a\n \u{1c}\n\n b", |text, take| split_filled(text, take)), ["a", " b"]);
    }

    #[test]
    fn the_first_copy_is_free_and_the_length_counts_characters() {
        let text = "né\nx\nné\nné";
        let parts = spans(|take| split_filled(text, take));
        let repeats = count_repeats(text, &parts, &mut Slots::default());
        assert_eq!((repeats.num_parts, repeats.num_repeated, repeats.repeated_chars), (4, 2, 4));
    }

    #[test]
    fn every_copy_counts_and_so_do_empty_lines() {
        let text = "né\nx\n\nné\n";
        let parts = spans(|take| split_each(text, take));
        let copies = count_copies(text, &parts, &mut Slots::default(), &mut Vec::new());
        let expected = Copies { num_parts: 5, num_chars: 5, num_copies: 4, copied_chars: 4 };
        assert_eq!(copies, expected);
    }
}
