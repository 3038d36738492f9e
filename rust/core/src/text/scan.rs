//! The one scan of a document: its words and the counts of its character classes.

#![allow(clippy::inline_always)] // what `with_vectors` compiles for AVX2 must be inlined

use super::block::{low_ones, ones, with_vectors, Block, BLOCK_BYTES};
use super::count::floor;
use super::giant::max_held;
use super::lines::Span;
use super::{class, class_of_code, Class, ASCII};

/// What one pass over a text finds. Reused from document to document, so that
/// words cost no allocation.
#[derive(Debug, Default)]
pub struct Scan {
    /// Where the words of `str.split()` begin and end, in turn; nothing of a text that has more than are held.
    edges: Vec<usize>,
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
    /// Where each word begins and ends, in order; `None` of a text that has more words than are held.
    pub fn held_words(&self) -> Option<&[[usize; 2]]> {
        let words = self.edges.as_chunks().0;
        (words.len() == self.num_words).then_some(words)
    }

    /// Gives the byte range of each word of `text`, which must be the text that was scanned.
    pub fn each_word(&self, text: &str, mut take: impl FnMut(Span)) {
        self.each_run(text, |words| words.iter().for_each(|[start, end]| take((*start, *end))));
    }

    /// The same, some words at a time: all at once where they are held.
    pub fn each_run(&self, text: &str, mut take: impl FnMut(&[[usize; 2]])) {
        if let Some(words) = self.held_words() {
            return take(words);
        }
        let mut few = Self::default();
        read(text, &mut few, FEW_WORDS, Some(&mut take));
        take(few.edges.as_chunks().0);
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

/// Words of a text that holds none that are held while they are given on.
const FEW_WORDS: usize = 4096;

/// Fills `scan` with the words and counts of `text`.
///
/// It is read 64 bytes at a time, classes as bits of integers; characters that are not ASCII are looked up, as
/// are those of the end of the text.
pub fn scan(text: &str, scan: &mut Scan) {
    scan_within(text, usize::MAX, scan);
}

/// The same, but of a text of more than `most_words` the words are counted and not held.
///
/// The `seed` profile rejects those by their number: of 73 MB of web pages and books they are 42 %.
pub(super) fn scan_within(text: &str, most_words: usize, scan: &mut Scan) {
    scan.edges.clear();
    scan.num_words = read(text, scan, max_held(text).min(most_words), None);
    if scan.held_words().is_none() {
        scan.edges.clear();
        scan.edges.shrink_to(2 * FEW_WORDS);
    }
}

/// Reads `text` into an empty `scan` and gives the number of its words. As soon as there are more than `max_words`,
/// `full` takes those there are and others are held; without `full`, they are only counted from there on.
///
fn read(text: &str, scan: &mut Scan, max_words: usize, full: Option<Full>) -> usize {
    with_vectors(
        #[inline(always)]
        || read_blocks(text, scan, max_words, full),
    )
}

#[inline(always)]
fn read_blocks(text: &str, scan: &mut Scan, max_words: usize, mut full: Option<Full>) -> usize {
    (scan.num_chars, scan.num_spaces, scan.num_alnum) = (0, 0, 0);
    let bytes = text.as_bytes();
    let mut words = Words { at: 0, counted: None };
    while let Some(block) = bytes[words.at..].first_chunk().map(Block::of) {
        match block.others() {
            0 => words.take_ascii(&block, scan),
            others => words.take_mixed(text, &block, others, scan),
        }
        if scan.edges.len() / 2 > max_words {
            words.make_room(scan, &mut full);
        }
    }
    words.take_chars(text, scan);
    words.end(scan);
    words.num_edges(scan) / 2
}

/// What takes words when there are more than are to be held.
type Full<'f> = &'f mut dyn FnMut(&[[usize; 2]]);

/// How far a text is read.
struct Words {
    at: usize,
    /// Edges of words that are not held, once they are only counted.
    counted: Option<usize>,
}

impl Words {
    /// Edges of words so far. An odd one begins a word that goes on.
    #[inline(always)]
    fn num_edges(&self, scan: &Scan) -> usize {
        scan.edges.len() + self.counted.unwrap_or(0)
    }

    #[inline(always)]
    fn is_inside(&self, scan: &Scan) -> bool {
        self.num_edges(scan) % 2 == 1
    }

    /// Gives the whole words away, or counts from now on.
    #[cold]
    fn make_room(&mut self, scan: &mut Scan, full: &mut Option<Full>) {
        let (words, rest) = scan.edges.as_chunks();
        let num_whole = scan.edges.len() - rest.len();
        if let Some(take) = full {
            take(words);
            scan.edges.drain(..num_whole);
        } else {
            self.counted = Some(scan.edges.len());
            scan.edges.clear();
        }
    }

    /// Reads a block of ASCII.
    #[inline(always)]
    fn take_ascii(&mut self, block: &Block, scan: &mut Scan) {
        let spaces = block.spaces();
        scan.num_chars += BLOCK_BYTES;
        scan.num_spaces += spaces.count_ones() as usize;
        scan.num_alnum += block.alnum().count_ones() as usize;
        self.take_spaces(spaces, BLOCK_BYTES, scan);
    }

    /// Reads the whole characters of a block, of which `others` are not ASCII.
    #[inline(always)]
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
    #[inline(always)]
    fn take_spaces(&mut self, spaces: u64, num_bytes: usize, scan: &mut Scan) {
        // A bit where a byte is a space and the one before is not, or the other way round.
        let turns = spaces ^ (spaces << 1 | u64::from(!self.is_inside(scan)));
        self.turn_at(turns & low_ones(num_bytes), scan);
        self.at += num_bytes;
    }

    /// Words begin and end, in turn, where a bit is set.
    ///
    /// Four at a time, some in vain: a branch for each costs more, as no processor foresees it.
    #[inline(always)]
    fn turn_at(&mut self, mut bits: u64, scan: &mut Scan) {
        let num_turns = bits.count_ones() as usize;
        if let Some(counted) = &mut self.counted {
            *counted += num_turns;
            return;
        }
        let num_edges = scan.edges.len() + num_turns;
        for _ in 0..num_turns.div_ceil(4) {
            let four: [usize; 4] = std::array::from_fn(|_| {
                let edge = self.at + bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
                edge
            });
            scan.edges.extend_from_slice(&four);
        }
        scan.edges.truncate(num_edges);
    }

    /// Reads the characters of the end.
    #[inline(always)]
    fn take_chars(&mut self, text: &str, scan: &mut Scan) {
        while let Some(byte) = text.as_bytes().get(self.at) {
            self.at += self.take_char(text, *byte, scan);
        }
    }

    /// Reads the character whose first byte is `byte`; gives its length in bytes.
    #[inline(always)]
    fn take_char(&mut self, text: &str, byte: u8, scan: &mut Scan) -> usize {
        let (class, length) = step(text, self.at, byte);
        let is_space = class == Class::Space;
        scan.num_chars += 1;
        scan.num_spaces += usize::from(is_space);
        scan.num_alnum += usize::from(class.is_alnum());
        if is_space == self.is_inside(scan) {
            self.turn(scan);
        }
        length
    }

    /// A word begins or ends here.
    #[inline(always)]
    fn turn(&mut self, scan: &mut Scan) {
        match &mut self.counted {
            Some(counted) => *counted += 1,
            None => scan.edges.push(self.at),
        }
    }

    #[inline(always)]
    fn end(&mut self, scan: &mut Scan) {
        if self.is_inside(scan) {
            self.turn(scan);
        }
    }
}

/// Class and length in bytes of the character at `at`, whose first byte is `byte`.
#[inline(always)]
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

        #[test]
        fn words_beyond_the_most_are_counted_and_given_as_if_they_were_held(
            text in r"([ -~]{50,90}|[ \n]{60,80}|[a-z ]{60,140}|[a-zé\u{3000} ]{2,90}|x{200}){1,5}", most_words in 0_usize..60
        ) {
            let mut found = Scan::default();
            scan_within(&text, most_words, &mut found);
            let words = words_of(&found, &text);
            let is_held = found.held_words().is_some();
            prop_assert!(is_held || words.len() > most_words);
            prop_assert!(!is_held || words.len() <= most_words + BLOCK_BYTES);
            prop_assert_eq!((words, [found.num_chars, found.num_spaces, found.num_alnum]), naive(&text));
        }
    }
}
