//! Characters and words as Python 3.11's `str` sees them, in one scan of a document.
//!
//! `str.split()` and `str.isalnum()` of Python are not Rust's `char` methods: the
//! separators U+001C-001F are space there, and Unicode 14 decides what a letter is.

mod block;
mod code_points;
mod count;
pub mod english;
mod giant;
mod letters;
mod lines;
mod ngrams;
mod scan;
mod slots;
#[rustfmt::skip]
#[allow(clippy::unreadable_literal)] // bit patterns
mod unicode_tables;
mod unicode_words;
mod views;
mod vocabulary;
mod word_key;

pub(crate) use block::{ones, with_vectors, Block, BLOCK_BYTES};
pub use code_points::utf8;
pub use count::count_words;
pub(crate) use count::floor;
pub(crate) use giant::count_distinct;
pub use letters::{is_letter, is_terminal};
pub use lines::{count_chars, strip, strip_end, strip_start, Copies, Repeats, Span};
pub use ngrams::{Recurring, Top};
pub use scan::{scan, Scan};
pub use views::Views;
pub use vocabulary::Vocabulary;
pub(crate) use word_key::WordKey;

/// Class of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Neither alphanumeric nor white space.
    Other = 0,
    /// `str.isalnum()` but not a decimal digit.
    Alnum = 1,
    /// `str.isspace()`.
    Space = 2,
    /// `str.isdecimal()`, general category Nd, `\d` of `re`.
    Decimal = 3,
}

impl Class {
    /// True for letters, digits and numerals: `str.isalnum()`.
    pub fn is_alnum(self) -> bool {
        self as u8 & 1 == 1
    }

    const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Other,
            1 => Self::Alnum,
            2 => Self::Space,
            _ => Self::Decimal,
        }
    }
}

/// Class of a code point.
#[inline]
pub fn class(char: char) -> Class {
    class_of_code(char as u32)
}

#[inline]
fn class_of_code(code: u32) -> Class {
    let Some(block) = unicode_tables::STAGE.get((code >> 7) as usize) else { return Class::Other };
    let word = unicode_tables::BLOCKS[*block as usize][(code >> 5 & 3) as usize];
    Class::from_bits(word >> (2 * (code & 31)))
}

/// Classes of the ASCII bytes; the upper half is never asked.
pub(crate) static ASCII: [Class; 256] = ascii_classes();

const fn ascii_classes() -> [Class; 256] {
    let mut table = [Class::Other; 256];
    let mut code = 0;
    while code < 128 {
        let word = unicode_tables::BLOCKS[unicode_tables::STAGE[0] as usize][code >> 5];
        table[code] = Class::from_bits(word >> (2 * (code & 31)));
        code += 1;
    }
    table
}

/// True for `\w` of `re`: alphanumeric or the underscore.
#[inline]
pub fn is_word(char: char) -> bool {
    char == '_' || class(char).is_alnum()
}

/// True for `\d` of `re`: general category Nd.
#[inline]
pub fn is_decimal(char: char) -> bool {
    class(char) == Class::Decimal
}

/// The character that ends at byte `at`.
#[inline]
pub fn char_before(text: &str, at: usize) -> Option<char> {
    text[..at].chars().next_back()
}

/// The character that begins at byte `at`.
#[inline]
pub fn char_at(text: &str, at: usize) -> Option<char> {
    text[at..].chars().next()
}

/// True if `\b` of `re` matches at byte `at`.
pub fn is_boundary(text: &str, at: usize) -> bool {
    let before = char_before(text, at).is_some_and(is_word);
    before != char_at(text, at).is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_are_those_of_python_where_rust_differs() {
        assert_eq!(class('\u{1c}'), Class::Space);
        assert_eq!(class('\u{85}'), Class::Space);
        assert_eq!(class('\u{200b}'), Class::Other);
        assert_eq!(class('²'), Class::Alnum); // isdigit() but not isdecimal()
        assert_eq!(class('٣'), Class::Decimal);
        assert_eq!(class('\u{10ffff}'), Class::Other);
    }

    #[test]
    fn an_underscore_is_a_word_character_but_not_alphanumeric() {
        assert!(is_word('_') && !class('_').is_alnum());
    }
}
