//! Infixes: where spaCy cuts a chunk in its middle, as at the hyphen of `well-known`.

use super::affixes::neighbours;
use super::classes::{class, is, is_digit, ALPHA, INFIX, LOWER, QUOTE, UPPER};

/// Byte range of the first infix of `chunk` that begins at byte `from` or later.
pub(super) fn next_infix(chunk: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    while let Some(offset) = chunk.as_bytes()[at..].iter().position(|byte| CANDIDATES[*byte as usize]) {
        at += offset;
        let char = chunk[at..].chars().next()?;
        match infix_length(chunk, at, char) {
            0 => at += char.len_utf8(),
            length => return Some((at, at + length)),
        }
    }
    None
}

/// True for bytes that may begin an infix.
static CANDIDATES: [bool; 256] = candidates();

const fn candidates() -> [bool; 256] {
    let mut table = [false; 256];
    let marks = b".,-~:<>=/+*^";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    let mut lead = 0xc0; // the bytes that begin a character beyond ASCII
    while lead < 256 {
        table[lead] = true;
        lead += 1;
    }
    table
}

/// Length in bytes of the infix at `at`, where `char` stands; 0 if there is none.
fn infix_length(chunk: &str, at: usize, char: char) -> usize {
    let (before, after) = neighbours(chunk, at, char.len_utf8());
    match char {
        '.' => dots(chunk, at, before, after),
        ',' => usize::from(is(before, ALPHA) && is(after, ALPHA)),
        '+' | '*' | '^' => usize::from(is_operator(before, after)),
        '-' if is_operator(before, after) => 1,
        '-' => hyphens(chunk, at, before, char, 3),
        '—' => hyphens(chunk, at, before, char, 2),
        '–' | '~' => hyphens(chunk, at, before, char, 1),
        ':' | '<' | '>' | '=' | '/' => usize::from(is_alphanumeric(before) && is(after, ALPHA)),
        _ if class(char) & INFIX != 0 => char.len_utf8(),
        _ => 0,
    }
}

/// An ellipsis, or the full stop of `end.Begin`.
fn dots(chunk: &str, at: usize, before: Option<char>, after: Option<char>) -> usize {
    if after == Some('.') {
        return chunk.bytes().skip(at).take_while(|byte| *byte == b'.').count();
    }
    usize::from(is(before, LOWER | QUOTE) && is(after, UPPER | QUOTE))
}

/// True between a digit and a digit or minus, as in `2^-3`.
fn is_operator(before: Option<char>, after: Option<char>) -> bool {
    is_digit(before) && (is_digit(after) || after == Some('-'))
}

fn is_alphanumeric(char: Option<char>) -> bool {
    is(char, ALPHA) || is_digit(char)
}

/// A run of at most `most` equal hyphens between a letter or digit and a letter.
fn hyphens(chunk: &str, at: usize, before: Option<char>, hyphen: char, most: usize) -> usize {
    if !is_alphanumeric(before) {
        return 0;
    }
    let run = chunk[at..].chars().take(most + 1).take_while(|char| *char == hyphen).count();
    let length = run * hyphen.len_utf8();
    if run <= most && is(chunk[at + length..].chars().next(), ALPHA) {
        length
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunk: &str) -> Vec<&str> {
        let (mut pieces, mut start) = (Vec::new(), 0);
        while let Some((from, to)) = next_infix(chunk, start) {
            pieces.extend([&chunk[start..from], &chunk[from..to]]);
            start = to;
        }
        pieces.push(&chunk[start..]);
        pieces
    }

    #[test]
    fn a_chunk_is_cut_at_each_infix_that_its_neighbours_allow() {
        assert_eq!(cut("well-known"), ["well", "-", "known"]);
        assert_eq!(cut("a---b----c"), ["a", "---", "b----c"]);
        assert_eq!(cut("10-year,old"), ["10", "-", "year", ",", "old"]);
        assert_eq!(cut("2*3^-4+x"), ["2", "*", "3", "^", "-4+x"]);
        assert_eq!(cut("end.Begin.end...x"), ["end", ".", "Begin.end", "...", "x"]);
        assert_eq!(cut("key=value/1"), ["key", "=", "value/1"]);
        assert_eq!(cut("a😀b——中"), ["a", "😀", "b", "——", "中"]);
    }
}
