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
pub fn scan(text: &str, scan: &mut Scan) {
    scan.words.clear();
    (scan.num_chars, scan.num_spaces, scan.num_alnum) = (0, 0, 0);
    let mut at = 0;
    while at < text.len() {
        let start = skip_spaces(text, at, scan);
        at = skip_word(text, start, scan);
        if at > start {
            scan.words.push((start, at));
        }
    }
}

/// First byte from `at` that is not white space.
#[inline]
fn skip_spaces(text: &str, mut at: usize, scan: &mut Scan) -> usize {
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        let (class, length) = step(text, at, byte);
        if class != Class::Space {
            break;
        }
        scan.num_spaces += 1;
        scan.num_chars += 1;
        at += length;
    }
    at
}

/// First byte from `at` that is white space.
#[inline]
fn skip_word(text: &str, mut at: usize, scan: &mut Scan) -> usize {
    let bytes = text.as_bytes();
    let (mut chars, mut alnum) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let (class, length) = step(text, at, byte);
        if class == Class::Space {
            break;
        }
        chars += 1;
        alnum += usize::from(class.is_alnum());
        at += length;
    }
    scan.num_chars += chars;
    scan.num_alnum += alnum;
    at
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
}
