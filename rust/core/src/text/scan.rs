//! The one scan of a document: its words and the counts of its character classes.

use super::block::{low_ones, ones, Block, BLOCK_BYTES};
use super::count::floor;
use super::giant::max_held;
use super::lines::Span;
use super::{class, class_of_code, Class, ASCII};

/// What one pass over a text finds. Reused from document to document, so that
/// words cost no allocation.
#[derive(Debug, Default)]
pub struct Scan {
    /// Byte ranges of the words of `str.split()`, in order; none of a giant, which has more than are held.
    words: Vec<Span>,
    /// Words of `str.split()`.
    pub num_words: usize,
    /// Length of the text in code points: `len(text)` of Python.
    pub num_chars: usize,
    /// Code points that are `str.isspace()`.
    pub num_spaces: usize,
    /// Code points that are `str.isalnum()`.
    pub num_alnum: usize,
}

impl Scan {
    /// Byte ranges of the words, in order; `None` of a giant, which has more than are held.
    pub fn held_words(&self) -> Option<&[Span]> {
        (self.words.len() == self.num_words).then_some(&self.words)
    }

    /// Gives the byte range of each word of `text`, which must be the text that was scanned.
    pub fn each_word(&self, text: &str, mut take: impl FnMut(Span)) {
        self.each_run(text, |words| words.iter().copied().for_each(&mut take));
    }

    /// The same, some words at a time: all at once but of a giant.
    pub fn each_run(&self, text: &str, mut take: impl FnMut(&[Span])) {
        if let Some(words) = self.held_words() {
            return take(words);
        }
        let mut few = Self::default();
        read(text, &mut few, FEW_WORDS, &mut take);
        take(&few.words);
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

/// Words of a giant that are held while they are given on.
const FEW_WORDS: usize = 4096;

/// Fills `scan` with the words and counts of `text`.
///
/// It is read 64 bytes at a time, classes as bits of integers; characters that are not ASCII are looked up, as
/// are those of the end of the text.
pub fn scan(text: &str, scan: &mut Scan) {
    let mut num_words = 0;
    scan.words.clear();
    read(text, scan, max_held(text), &mut |words| num_words += words.len());
    scan.num_words = num_words + scan.words.len();
    if num_words > 0 {
        scan.words = Vec::new();
    }
}

/// Reads `text` into an empty `scan`; whenever there are more than `max_words`, `full` takes those there are.
///
/// Not generic, so that there is one copy, into which all of [`Words`] is put.
fn read(text: &str, scan: &mut Scan, max_words: usize, full: &mut dyn FnMut(&[Span])) {
    (scan.num_chars, scan.num_spaces, scan.num_alnum) = (0, 0, 0);
    let bytes = text.as_bytes();
    let mut words = Words { at: 0, start: None, edges: [0; BLOCK_BYTES] };
    while let Some(block) = bytes[words.at..].first_chunk().map(Block::of) {
        match block.others() {
            0 => words.take_ascii(&block, scan),
            others => words.take_mixed(text, &block, others, scan),
        }
        if scan.words.len() > max_words {
            full(&scan.words);
            scan.words.clear();
        }
    }
    words.take_chars(text, scan);
    words.end(words.at, scan);
}

/// The word that is being read, and where.
struct Words {
    at: usize,
    start: Option<usize>,
    /// Room for where the words of a block begin and end.
    edges: [usize; BLOCK_BYTES],
}

impl Words {
    /// Reads a block of ASCII.
    #[inline]
    fn take_ascii(&mut self, block: &Block, scan: &mut Scan) {
        let spaces = block.spaces();
        scan.num_chars += BLOCK_BYTES;
        scan.num_spaces += spaces.count_ones() as usize;
        scan.num_alnum += block.alnum().count_ones() as usize;
        self.take_spaces(spaces, BLOCK_BYTES, scan);
    }

    /// Reads the whole characters of a block, of which `others` are not ASCII.
    fn take_mixed(&mut self, text: &str, block: &Block, others: u64, scan: &mut Scan) {
        let num_bytes = floor(text, self.at + BLOCK_BYTES) - self.at;
        let inside = low_ones(num_bytes);
        let (mut spaces, alnum) = (block.spaces() & inside, block.alnum() & inside);
        let (inner, continuations) = (others & inside, block.continuations() & inside);
        scan.num_chars += num_bytes - continuations.count_ones() as usize;
        scan.num_spaces += spaces.count_ones() as usize;
        scan.num_alnum += alnum.count_ones() as usize;
        for bit in ones(inner & !continuations) {
            let (class, length) = step(text, self.at + bit, text.as_bytes()[self.at + bit]);
            scan.num_alnum += usize::from(class.is_alnum());
            if class == Class::Space {
                scan.num_spaces += 1;
                spaces |= low_ones(length) << bit;
            }
        }
        self.take_spaces(spaces, num_bytes, scan);
    }

    /// Reads so many bytes, of which some are white space.
    #[inline]
    fn take_spaces(&mut self, spaces: u64, num_bytes: usize, scan: &mut Scan) {
        // A bit where a byte is a space and the one before is not, or the other way round.
        let turns = spaces ^ (spaces << 1 | u64::from(self.start.is_none()));
        self.turn_at(turns & low_ones(num_bytes), scan);
        self.at += num_bytes;
    }

    /// Words begin and end, in turn, where a bit is set.
    ///
    /// Four at a time, some in vain: a branch for each costs more, as no processor foresees it.
    #[inline]
    fn turn_at(&mut self, mut bits: u64, scan: &mut Scan) {
        let num_edges = bits.count_ones() as usize;
        for four in self.edges.as_chunks_mut::<4>().0.iter_mut().take(num_edges.div_ceil(4)) {
            for edge in four {
                *edge = self.at + bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
            }
        }
        let mut edges = &self.edges[..num_edges];
        if let (Some(start), Some((end, rest))) = (self.start, edges.split_first()) {
            scan.words.push((start, *end));
            (self.start, edges) = (None, rest);
        }
        let (words, begun) = edges.as_chunks();
        scan.words.extend(words.iter().map(|[start, end]| (*start, *end)));
        self.start = begun.first().copied().or(self.start);
    }

    /// Reads the characters of the end.
    fn take_chars(&mut self, text: &str, scan: &mut Scan) {
        while let Some(byte) = text.as_bytes().get(self.at) {
            self.at += self.take_char(text, *byte, scan);
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

/// Class and length in bytes of the character at `at`, whose first byte is `byte`.
#[inline]
pub(super) fn step(text: &str, at: usize, byte: u8) -> (Class, usize) {
    if byte < 0x80 {
        return (ASCII[byte as usize], 1);
    }
    // Most of what is not ASCII has two bytes.
    if let [0xc0..0xe0, next, ..] = text.as_bytes()[at..] {
        return (class_of_code(u32::from(byte & 0x1f) << 6 | u32::from(next & 0x3f)), 2);
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
        let words = words_of(&found, text);
        assert_eq!(words, ["één", "x_", "9!"]);
        assert_eq!((found.num_chars, found.num_spaces, found.num_alnum), (12, 5, 5));
        assert_eq!((found.num_word_chars(), found.num_symbols()), (7, 2));
    }

    fn words_of<'t>(found: &Scan, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        found.each_word(text, |(start, end)| words.push(&text[start..end]));
        assert_eq!(found.num_words, words.len());
        words
    }

    #[test]
    fn the_words_of_a_giant_are_given_and_not_held() {
        let text: String =
            (0..500_000).map(|number| ["é ", "ab\n", "x\u{3000}", "1"][number * number % 7 % 4]).collect();
        let mut found = Scan::default();
        for (text, is_giant) in [(text[..super::floor(&text, 1000)].to_owned(), false), (text, true)] {
            scan(&text, &mut found);
            assert_eq!(found.held_words().is_none(), is_giant);
            let words = words_of(&found, &text);
            assert_eq!((words, [found.num_chars, found.num_spaces, found.num_alnum]), naive(&text));
        }
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
            let words = words_of(&found, &text);
            prop_assert_eq!((words, [found.num_chars, found.num_spaces, found.num_alnum]), naive(&text));
        }

        #[test]
        fn whole_blocks_are_read_as_their_characters_are(
            text in r"([ -~]{50,90}|[ \n]{60,80}|[a-z ]{60,140}|[a-zé ]{2,9}|x{200}){1,4}"
        ) {
            let mut found = Scan::default();
            scan(&text, &mut found);
            let words = words_of(&found, &text);
            prop_assert_eq!((words, [found.num_chars, found.num_spaces, found.num_alnum]), naive(&text));
        }
    }
}
