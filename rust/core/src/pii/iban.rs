//! International bank account numbers: length by country and remainder modulo 97.
//!
//! Countries and lengths are those of the IBAN registry (SWIFT, release 98). Printed
//! in groups of four or of any length, by spaces, hyphens or (as in the Netherlands) dots, in either case.

use super::bytes::{before, byte, ends_word, mark_at, starts_word};

/// Country and length in characters.
#[rustfmt::skip]
static LENGTHS: [(&[u8; 2], usize); 89] = [
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16), (b"BG", 22),
    (b"BH", 22), (b"BI", 27), (b"BR", 29), (b"BY", 28), (b"CH", 21), (b"CR", 22), (b"CY", 28), (b"CZ", 24),
    (b"DE", 22), (b"DJ", 27), (b"DK", 18), (b"DO", 28), (b"EE", 20), (b"EG", 29), (b"ES", 24), (b"FI", 18),
    (b"FK", 18), (b"FO", 18), (b"FR", 27), (b"GB", 22), (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GR", 27),
    (b"GT", 28), (b"HN", 28), (b"HR", 21), (b"HU", 28), (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IS", 26),
    (b"IT", 27), (b"JO", 30), (b"KW", 30), (b"KZ", 20), (b"LB", 28), (b"LC", 32), (b"LI", 21), (b"LT", 20),
    (b"LU", 20), (b"LV", 21), (b"LY", 25), (b"MC", 27), (b"MD", 24), (b"ME", 22), (b"MK", 19), (b"MN", 20),
    (b"MR", 27), (b"MT", 31), (b"MU", 30), (b"NI", 28), (b"NL", 18), (b"NO", 15), (b"OM", 23), (b"PK", 24),
    (b"PL", 28), (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22), (b"RU", 33), (b"SA", 24),
    (b"SC", 31), (b"SD", 18), (b"SE", 24), (b"SI", 19), (b"SK", 24), (b"SM", 27), (b"SO", 23), (b"ST", 25),
    (b"SV", 28), (b"TL", 23), (b"TN", 24), (b"TR", 26), (b"UA", 29), (b"VA", 22), (b"VG", 24), (b"XK", 20),
    (b"YE", 30),
];

/// Start and end of a number whose check digits begin at `digits`.
pub(super) fn span(text: &str, digits: usize) -> Option<(usize, usize)> {
    let start = digits.checked_sub(2)?;
    let country =
        [before(text, digits, 2).to_ascii_uppercase(), before(text, digits, 1).to_ascii_uppercase()];
    if !country[0].is_ascii_uppercase() || !starts_word(text, start) && !follows_name(text, start) {
        return None;
    }
    let row = LENGTHS.binary_search_by(|(name, _)| name[..].cmp(&country[..])).ok()?;
    let end = checked_end(text, start, LENGTHS[row].1)?;
    ends_word(text, end).then_some((start, end))
}

/// True behind a name that is written together with its number, as in `IBANDE89…`.
fn follows_name(text: &str, start: usize) -> bool {
    let name = start.checked_sub(4).and_then(|from| text.get(from..start));
    name.is_some_and(|name| name.eq_ignore_ascii_case("iban")) && starts_word(text, start - 4)
}

/// End of `length` characters from `start`, if their remainder is 1 (ISO 13616).
fn checked_end(text: &str, start: usize, length: usize) -> Option<usize> {
    let (mut head, mut remainder, mut count, mut at) = ([0; 4], 0, 0, start);
    while count < length {
        let byte = byte(text, at);
        if !byte.is_ascii_alphanumeric() {
            at = skip_separator(text, at)?;
            continue;
        }
        if count < 4 {
            head[count] = byte;
        } else {
            remainder = append(remainder, byte);
        }
        (count, at) = (count + 1, at + 1);
    }
    (head[3].is_ascii_digit() && head.into_iter().fold(remainder, append) == 1).then_some(at)
}

fn skip_separator(text: &str, at: usize) -> Option<usize> {
    let (width, mark) = mark_at(text, at);
    (matches!(mark, b' ' | b'-' | b'.') && byte(text, at + width).is_ascii_alphanumeric())
        .then_some(at + width)
}

/// The remainder modulo 97 after one more character; letters count from 10.
fn append(remainder: u32, byte: u8) -> u32 {
    match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_the_search() {
        assert!(LENGTHS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
