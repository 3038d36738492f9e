//! The one scan of a document: its words and the counts of its character classes.

use super::{class, Class, ASCII};

/// What one pass over a text finds. Reused from document to document, so that
/// words cost no allocation.
#[derive(Debug, Default)]
pub struct Scan {
    /// Byte ranges of the words of `str.split()`, in order.
    pub words: Vec<(usize, usize)>,
    /// Length of the text in code points: `len(text)` of Python.
    pub num_chars: usize,
    /// Code points that are `str.isspace()`.
    pub num_spaces: usize,
    /// Code points that are `str.isalnum()`.
    pub num_alnum: usize,
}

impl Scan {
    /// The `index`-th word of `text`, which must be the text that was scanned.
    pub fn word<'t>(&self, text: &'t str, index: usize) -> &'t str {
        let (start, end) = self.words[index];
        &text[start..end]
    }

    /// Code points inside words: all that are not white space.
    pub fn num_word_chars(&self) -> usize {
        self.num_chars - self.num_spaces
    }

    /// Code points that are neither alphanumeric nor white space.
    pub fn num_symbols(&self) -> usize {
        self.num_chars - self.num_spaces - self.num_alnum
    }
}

/// Fills `scan` with the words and counts of `text`.
///
/// ASCII is read eight bytes at a time, classes as bits of one integer; anything else
/// a character at a time.
pub fn scan(text: &str, scan: &mut Scan) {
    scan.words.clear();
    (scan.num_chars, scan.num_spaces, scan.num_alnum) = (0, 0, 0);
    let mut rest = text.as_bytes();
    let mut words = Words { at: 0, start: None };
    while let Some(&byte) = rest.first() {
        let length = match rest.first_chunk().map(|chunk| u64::from_le_bytes(*chunk)) {
            Some(block) if block & HIGH == 0 => {
                words.take_ascii(block, scan);
                8
            }
            _ => words.take_char(text, byte, scan),
        };
        rest = &rest[length..];
        words.at += length;
    }
    words.end(words.at, scan);
}

/// The word that is being read, and where.
struct Words {
    at: usize,
    start: Option<usize>,
}

impl Words {
    /// Reads eight ASCII bytes.
    #[inline]
    fn take_ascii(&mut self, block: u64, scan: &mut Scan) {
        let spaces = in_range(block, 9, 5) | in_range(block, 28, 5);
        scan.num_chars += 8;
        scan.num_spaces += count(spaces);
        scan.num_alnum += count(in_range(block, 48, 10) | in_range(block | CASE, 97, 26));
        // A bit where a byte is a space and the one before is not, or the other way round.
        let spaces = gather(spaces);
        let mut edges = (spaces ^ ((spaces << 1) | u64::from(self.start.is_none()))) & 0xff;
        while edges != 0 {
            self.turn(self.at + edges.trailing_zeros() as usize, scan);
            edges &= edges - 1;
        }
    }

    /// Reads the character whose first byte is `byte`; gives its length in bytes.
    #[inline]
    fn take_char(&mut self, text: &str, byte: u8, scan: &mut Scan) -> usize {
        let (class, length) = step(text, self.at, byte);
        let is_space = class == Class::Space;
        scan.num_chars += 1;
        scan.num_spaces += usize::from(is_space);
        scan.num_alnum += usize::from(class.is_alnum());
        if is_space != self.start.is_none() {
            self.turn(self.at, scan);
        }
        length
    }

    /// A word begins or ends at byte `at`.
    #[inline]
    fn turn(&mut self, at: usize, scan: &mut Scan) {
        match self.start.take() {
            Some(start) => scan.words.push((start, at)),
            None => self.start = Some(at),
        }
    }

    fn end(&mut self, at: usize, scan: &mut Scan) {
        if self.start.is_some() {
            self.turn(at, scan);
        }
    }
}

/// A 1 in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of every byte.
pub(super) const HIGH: u64 = 0x80 * ONES;
/// What sets an ASCII letter's lower case, in every byte.
const CASE: u64 = 0x20 * ONES;

/// The highest bit of each ASCII byte that lies in `low..low + count`.
#[inline]
pub(super) fn in_range(block: u64, low: u64, count: u64) -> u64 {
    // No byte carries into the next: 0x7f + 0x80 is 0xff.
    let at_least = |bound: u64| block + (0x80 - bound) * ONES;
    at_least(low) & !at_least(low + count) & HIGH
}

/// How many of the eight highest bits are set.
#[inline]
fn count(bits: u64) -> usize {
    ((bits >> 7).wrapping_mul(ONES) >> 56) as usize
}

/// The highest bits of the eight bytes, side by side: byte i becomes bit i.
#[inline]
fn gather(bits: u64) -> u64 {
    (bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Class and length in bytes of the character at `at`, whose first byte is `byte`.
#[inline]
fn step(text: &str, at: usize, byte: u8) -> (Class, usize) {
    if byte < 0x80 {
        return (ASCII[byte as usize], 1);
    }
    let char = text[at..].chars().next().unwrap_or('\0'); // `at` is a character boundary inside the text
    (class(char), char.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_end_at_the_white_space_of_python_and_every_character_is_counted() {
        let text = "\u{1c}één  x_\u{3000}9!\n";
        let mut found = Scan::default();
        scan(text, &mut found);
        let words: Vec<&str> = (0..found.words.len()).map(|i| found.word(text, i)).collect();
        assert_eq!(words, ["één", "x_", "9!"]);
        assert_eq!((found.num_chars, found.num_spaces, found.num_alnum), (12, 5, 5));
        assert_eq!((found.num_word_chars(), found.num_symbols()), (7, 2));
    }

    /// `str.split()` and the counts, a character at a time: the specification of the fast path.
    fn naive(text: &str) -> (Vec<&str>, [usize; 3]) {
        let is_space = |char: char| class(char) == Class::Space;
        let count = |wanted: &dyn Fn(char) -> bool| text.chars().filter(|char| wanted(*char)).count();
        let words = text.split(is_space).filter(|word| !word.is_empty()).collect();
        (words, [text.chars().count(), count(&is_space), count(&|char| class(char).is_alnum())])
    }

    proptest! {
        #[test]
        fn the_scan_equals_one_that_looks_at_every_character(
            text in r"[ \t\n\x1b-\x21/0-9:@A-Z\[`a-z{\x7fé٣日\u{85}\u{3000}]{0,70}"
        ) {
            let mut found = Scan::default();
            scan(&text, &mut found);
            let words: Vec<&str> = (0..found.words.len()).map(|index| found.word(&text, index)).collect();
            prop_assert_eq!((words, [found.num_chars, found.num_spaces, found.num_alnum]), naive(&text));
        }
    }
}
