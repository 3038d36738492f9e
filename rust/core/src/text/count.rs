//! Words of a text, counted without being found: what every step of the funnel asks.

use super::block::{Block, BLOCK_BYTES};
use super::scan::step;
use super::Class;

/// The number of words of `str.split()`; ASCII is read 64 bytes at a time.
pub fn count_words(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut counter = Counter { at: 0, count: 0, after_space: true };
    while counter.at < bytes.len() {
        match bytes[counter.at..].first_chunk().map(Block::of) {
            Some(block) if block.others() == 0 => counter.take_ascii(&block),
            _ => counter.take_chars(text),
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

impl Counter {
    #[inline]
    fn take_ascii(&mut self, block: &Block) {
        let spaces = block.spaces();
        let begins = !spaces & (spaces << 1 | u64::from(self.after_space));
        self.count += begins.count_ones() as usize;
        self.after_space = spaces >> (BLOCK_BYTES - 1) == 1;
        self.at += BLOCK_BYTES;
    }

    /// Reads half a block's worth of characters one by one.
    fn take_chars(&mut self, text: &str) {
        let end = text.len().min(self.at + BLOCK_BYTES / 2);
        while self.at < end {
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

    proptest! {
        #[test]
        fn the_count_is_that_of_the_scan(
            text in r"([ \t\n\x1b-\x21a-z\x7fé٣日\u{85}\u{a0}\u{1680}\u{2003}\u{3000}…]{0,9}(word ){0,70}){0,6}"
        ) {
            let mut found = Scan::default();
            scan(&text, &mut found);
            prop_assert_eq!(count_words(&text), found.words.len());
        }
    }
}
