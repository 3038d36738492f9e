//! Words of a text, counted without being found: what every step of the funnel asks.

use super::block::{low_ones, ones, Block, BLOCK_BYTES};
use super::scan::step;
use super::Class;

/// The number of words of `str.split()`; it is read 64 bytes at a time.
pub fn count_words(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut counter = Counter { at: 0, count: 0, after_space: true };
    while counter.at < bytes.len() {
        match bytes[counter.at..].first_chunk().map(Block::of) {
            Some(block) if block.others() == 0 => counter.take(block.spaces(), BLOCK_BYTES),
            Some(block) => counter.take_mixed(text, &block),
            None => counter.take_chars(text),
        }
    }
    counter.count
}

/// How far the text is read, and whether a character there would begin a word.
struct Counter {
    at: usize,
    count: usize,
    after_space: bool,
}

/// First bytes of UTF-8 sequences among which are all white space beyond ASCII.
const SPACE_LEADS: [u8; 4] = [0xc2, 0xe1, 0xe2, 0xe3];

impl Counter {
    /// Reads so many bytes, of which some are white space.
    #[inline]
    fn take(&mut self, spaces: u64, num_bytes: usize) {
        let begins = !spaces & (spaces << 1 | u64::from(self.after_space)) & low_ones(num_bytes);
        self.count += begins.count_ones() as usize;
        self.after_space = spaces >> (num_bytes - 1) & 1 == 1;
        self.at += num_bytes;
    }

    /// Reads the whole characters of a block that is not ASCII.
    fn take_mixed(&mut self, text: &str, block: &Block) {
        let num_bytes = floor(text, self.at + BLOCK_BYTES) - self.at;
        let mut spaces = block.spaces();
        for bit in ones(block.any_of(SPACE_LEADS) & low_ones(num_bytes)) {
            let at = self.at + bit;
            if let (Class::Space, length) = step(text, at, text.as_bytes()[at]) {
                spaces |= low_ones(length) << bit;
            }
        }
        self.take(spaces, num_bytes);
    }

    /// Reads the characters of the end one by one.
    fn take_chars(&mut self, text: &str) {
        while self.at < text.len() {
            let (class, length) = step(text, self.at, text.as_bytes()[self.at]);
            let is_space = class == Class::Space;
            self.count += usize::from(self.after_space && !is_space);
            self.after_space = is_space;
            self.at += length;
        }
    }
}

/// The last character boundary at or before `at`, or the end.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::super::{scan, Scan};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_white_space_begins_with_another_byte() {
        let spaces = ('\u{80}'..=char::MAX).filter(|char| super::super::class(*char) == Class::Space);
        let mut first_bytes = spaces.map(|char| char.encode_utf8(&mut [0; 4]).as_bytes()[0]);
        assert!(first_bytes.all(|byte| SPACE_LEADS.contains(&byte)));
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_the_scan(
            text in r"([ \t\n\x1b-\x21a-z\x7fé٣日\u{85}\u{a0}\u{1680}\u{2003}\u{3000}…]{0,9}(word ){0,70}){0,6}"
        ) {
            let mut found = Scan::default();
            scan(&text, &mut found);
            prop_assert_eq!(count_words(&text), found.num_words);
        }
    }
}
