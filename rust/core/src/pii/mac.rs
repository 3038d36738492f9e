//! Hardware addresses: six pairs of hexadecimal digits, or three groups of four.
//!
//! The all-zero and broadcast addresses name no interface, and `02:00:00` is the prefix
//! of our pseudonyms (and of what phones show in place of their own).

use super::bytes::{before, byte, ends_word, run_before, starts_word};

/// Start and end of the address around the separator or digit at `at`.
pub(super) fn span(text: &str, at: usize) -> Option<(usize, usize)> {
    let separator = match (byte(text, at), byte(text, at + 2), before(text, at, 1)) {
        (b':', _, _) => b':',
        (_, b'-', _) | (_, _, b'-') => b'-',
        _ if byte(text, at + 1) == b'-' => b'-',
        _ => return dotted(text, at),
    };
    let length = run_before(text, at, 17, |byte| byte.is_ascii_hexdigit() || byte == separator);
    let start = at - length;
    let end = start + 17;
    let bytes = text.as_bytes().get(start..end)?;
    let paired = bytes.iter().enumerate().all(|(index, byte)| match index % 3 {
        2 => *byte == separator,
        _ => byte.is_ascii_hexdigit(),
    });
    (paired && names_interface(bytes) && stands_alone(text, start, end)).then_some((start, end))
}

/// `0123.4567.89ab`, from its first digit.
fn dotted(text: &str, at: usize) -> Option<(usize, usize)> {
    let start = at - run_before(text, at, 4, |byte| byte.is_ascii_hexdigit());
    let end = start + 14;
    let bytes = text.as_bytes().get(start..end)?;
    let grouped = bytes.iter().enumerate().all(|(index, byte)| match index % 5 {
        4 => *byte == b'.',
        _ => byte.is_ascii_hexdigit(),
    });
    let mixed = bytes.iter().any(u8::is_ascii_alphabetic);
    (grouped && mixed && names_interface(bytes) && stands_alone(text, start, end)).then_some((start, end))
}

/// True unless it is all zeros, broadcast, a pseudonym, or digits that may count or date something.
fn names_interface(bytes: &[u8]) -> bool {
    let all =
        |digit: u8| bytes.iter().all(|byte| !byte.is_ascii_hexdigit() || byte.to_ascii_lowercase() == digit);
    let lettered = bytes.iter().any(u8::is_ascii_alphabetic) || bytes.starts_with(b"00:");
    lettered && !all(b'0') && !all(b'f') && !bytes.starts_with(b"02:00:00")
}

fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let joins = |byte: u8| matches!(byte, b':' | b'-' | b'.');
    starts_word(text, start)
        && ends_word(text, end)
        && !(joins(before(text, start, 1)) && before(text, start, 2).is_ascii_hexdigit())
        && !(joins(byte(text, end)) && byte(text, end + 1).is_ascii_hexdigit())
}
