//! Words of Unicode (UAX 29) that begin with a letter, a digit or a numeral.
//!
//! No such word goes on over a space or a line feed, so the pieces between these are split one by one. Most are
//! ASCII, in which few of the rules can apply; the others are left to the crate, which looks every character up.

use unicode_segmentation::UnicodeSegmentation;

use super::class;
use super::lines::Span;

/// Gives the words of a text, in order.
pub(super) fn unicode_words(text: &str, mut take: impl FnMut(Span)) {
    let mut start = 0;
    for piece in text.as_bytes().split(|byte| matches!(byte, b' ' | b'\n')) {
        let end = start + piece.len();
        if piece.is_ascii() {
            split_ascii(piece, start, &mut take);
        } else {
            let from = start.saturating_sub(1); // a mark that begins the piece is part of the space before it
            split(&text[from..end], from, &mut take);
        }
        start = end + 1;
    }
}

/// The specification: `piece` begins at byte `start` of the text.
fn split(piece: &str, start: usize, take: &mut impl FnMut(Span)) {
    let begins = |(_, word): &(usize, &str)| word.starts_with(|char| class(char).is_alnum());
    let found = piece.split_word_bound_indices().filter(begins);
    found.for_each(|(at, word)| take((start + at, start + at + word.len())));
}

/// The same of ASCII.
fn split_ascii(piece: &[u8], start: usize, take: &mut impl FnMut(Span)) {
    let mut at = 0;
    while let Some(first) = piece.get(at) {
        let end = word_end(piece, at);
        if first.is_ascii_alphanumeric() {
            take((start + at, start + end));
        }
        at = end;
    }
}

/// End of the word, or of the one other byte, at `start`.
#[inline]
fn word_end(piece: &[u8], start: usize) -> usize {
    let mut end = start + 1;
    if !goes_on(piece[start]) {
        return end;
    }
    loop {
        match piece[end..] {
            [next, ..] if goes_on(next) => end += 1,
            [middle, next, ..] if joins(piece[end - 1], middle, next) => end += 2,
            _ => return end,
        }
    }
}

/// Rules WB5 and WB8 to WB10, `WB13a` and `WB13b`: letters, digits and underscores stay together.
#[inline]
fn goes_on(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Rules WB6, WB7, WB11 and WB12: what may stand between two letters or two digits.
#[inline]
fn joins(before: u8, middle: u8, after: u8) -> bool {
    let letters = before.is_ascii_alphabetic() && after.is_ascii_alphabetic();
    let digits = before.is_ascii_digit() && after.is_ascii_digit();
    match middle {
        b'.' | b'\'' => letters || digits,
        b':' => letters,
        b',' | b';' => digits,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_have_the_words_of_the_whole_text(
            text in "([ -~]|[a-zA-Z]{1,3}|[0-9]{1,3}|[_.,;:' \n\r\t\x0b\x1c]|[éﾞ\u{301}\u{200d}\u{ad}\u{85}\u{2028}\u{2019}א\"カ中①👍🇩🇪٣]|\\PC){0,40}"
        ) {
            let (mut pieces, mut whole) = (Vec::new(), Vec::new());
            unicode_words(&text, |word| pieces.push(word));
            split(&text, 0, &mut |word| whole.push(word));
            prop_assert_eq!(pieces, whole);
        }
    }
}
