//! Social security numbers of the United States: area, group, serial.
//!
//! Areas 000, 666 and 900-999, group 00 and serial 0000 were never given out (Social
//! Security Administration, "Social Security number randomization", 2011).

use super::bytes::{before, byte, ends_word, is_one_of, run, starts_word, words_before};

/// End of a number that begins at the digit `start`.
pub(super) fn end(text: &str, start: usize) -> Option<usize> {
    match run(text, start, 10, |byte| byte.is_ascii_digit()) {
        3 => separated(text, start, byte(text, start + 3)),
        9 if starts(text, start) && is_named(text, start) => {
            let digits = &text.as_bytes()[start..start + 9];
            (is_given(&digits[..3], &digits[3..5], &digits[5..]) && ends_word(text, start + 9))
                .then_some(start + 9)
        }
        _ => None,
    }
}

fn separated(text: &str, start: usize, separator: u8) -> Option<usize> {
    let digits = |from: usize, count: usize| {
        let from = start + from;
        (run(text, from, count + 1, |byte| byte.is_ascii_digit()) == count)
            .then(|| &text.as_bytes()[from..from + count])
    };
    let known = separator == b'-' || separator == b' ' && is_named(text, start);
    if !known || byte(text, start + 6) != separator || !starts(text, start) {
        return None;
    }
    let end = start + 11;
    let given = is_given(digits(0, 3)?, digits(4, 2)?, digits(7, 4)?);
    (given && ends_word(text, end) && !goes_on(text, end)).then_some(end)
}

fn is_given(area: &[u8], group: &[u8], serial: &[u8]) -> bool {
    area != b"000" && area != b"666" && area[0] != b'9' && group != b"00" && serial != b"0000"
}

fn starts(text: &str, start: usize) -> bool {
    let joined = matches!(before(text, start, 1), b'-' | b'.' | b'/' | b'+' | b'$');
    starts_word(text, start) && !(joined && before(text, start, 2).is_ascii_alphanumeric())
}

/// True for `-1` and `.1` after the number: it is part of something longer.
fn goes_on(text: &str, end: usize) -> bool {
    matches!(byte(text, end), b'-' | b'.' | b'/') && byte(text, end + 1).is_ascii_alphanumeric()
}

/// True if the words before say so: without hyphens nine digits may be anything.
fn is_named(text: &str, start: usize) -> bool {
    words_before(text, start, 40).any(|word| is_one_of(word, &["ssn", "ssns", "social"]))
}
