//! Personal data as datatrove 0.10 replaces it (`PIIFormatter`): email addresses, then public IPv4 addresses,
//! by made-up ones in turn.
//!
//! Its two patterns, faults and all: an address may begin after a bracket or an exclamation mark, and four
//! numbers need no boundaries. One difference is meant: in datatrove the turn goes on from document to
//! document of a process, so a text depends on what was read before it; here each document begins with
//! the first replacement. `pii` is the policy that has none of these faults.

use memchr::memchr;

use crate::text::is_boundary;

const EMAILS: [&str; 2] = ["email@example.com", "firstname.lastname@example.org"];

const ADDRESSES: [&str; 6] =
    ["22.214.171.124", "126.96.36.199", "188.8.131.52", "184.108.40.206", "220.127.116.11", "18.104.22.168"];

/// Bytes of a text.
type Span = (usize, usize);

/// The text with its personal data replaced; `None` if it has none.
pub(super) fn edit(text: &str) -> Option<String> {
    let without_emails = replace(text, emails(text), &EMAILS);
    let text = without_emails.as_deref().unwrap_or(text);
    replace(text, public_addresses(text), &ADDRESSES).or(without_emails)
}

/// The text with its matches replaced, by each replacement in turn; `None` without a match.
fn replace(text: &str, matches: impl Iterator<Item = Span>, by: &[&str]) -> Option<String> {
    let (mut edited, mut done) = (String::new(), 0);
    for ((start, end), replacement) in matches.zip(by.iter().cycle()) {
        edited.push_str(&text[done..start]);
        edited.push_str(replacement);
        done = end;
    }
    edited.push_str(&text[done..]);
    (done > 0).then_some(edited)
}

/// `\bL+(?:\.L+)*@D`, L the characters of a local part, D a domain.
///
/// No part of it but the sign is an `@`: each sign has its own neighbourhood, so time is linear in the text.
fn emails(text: &str) -> impl Iterator<Item = Span> + '_ {
    let mut from = 0; // the sign before, or the end of the match before
    std::iter::from_fn(move || loop {
        let sign = from + memchr(b'@', &text.as_bytes()[from..])?;
        let start = local_start(text, from, sign);
        from = sign + 1;
        if let (Some(start), Some(end)) = (start, domain_end(text, sign + 1)) {
            from = end;
            return Some((start, end));
        }
    })
}

/// The leftmost word boundary from which only local parts with single full stops between lead to `sign`.
fn local_start(text: &str, from: usize, sign: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut first, mut needs_letter) = (sign, true);
    for at in (from..sign).rev() {
        match bytes[at] {
            b'.' if needs_letter => break,
            b'.' => needs_letter = true,
            byte if is_local(byte) => (first, needs_letter) = (at, false),
            _ => break,
        }
    }
    (first..sign).find(|at| bytes[*at] != b'.' && is_boundary(text, *at))
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte)
}

/// End of `(?:N\.)+N`, N a name that neither begins nor ends with a hyphen, or of an address in brackets.
fn domain_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut end) = (start, None);
    while let Some((name, run)) = name_end(bytes, at) {
        end = (at > start).then_some(name).or(end);
        if name < run || bytes.get(run) != Some(&b'.') {
            break;
        }
        at = run + 1;
    }
    end.or_else(|| literal_end(bytes, start))
}

/// End of the longest name at `at`, and of the run of letters, digits and hyphens that it is in.
fn name_end(bytes: &[u8], at: usize) -> Option<Span> {
    let length = bytes[at..].iter().take_while(|byte| is_name(**byte)).count();
    let run = &bytes[at..at + length];
    let last = run.iter().rposition(u8::is_ascii_alphanumeric)?;
    run[0].is_ascii_alphanumeric().then_some((at + last + 1, at + length))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// End of `\[O\.O\.O\.(?:O|[A-Za-z0-9-]*[A-Za-z0-9]:)]`, O a number up to 255.
fn literal_end(bytes: &[u8], start: usize) -> Option<usize> {
    let last = (bytes.get(start) == Some(&b'[')).then(|| three_octets_end(bytes, start + 1))??;
    let octet = octet_lengths(&bytes[last..]).map(|length| last + length);
    let name = name_length(&bytes[last..]).map(|length| last + length);
    let closes = |end: &usize| bytes.get(*end) == Some(&b']');
    octet.chain(name).find(closes).map(|end| end + 1)
}

/// Length of `[A-Za-z0-9-]*[A-Za-z0-9]:`.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.iter().take_while(|byte| is_name(**byte)).count();
    let ends = length > 0 && bytes[length - 1].is_ascii_alphanumeric() && bytes.get(length) == Some(&b':');
    ends.then_some(length + 1)
}

/// `(?:O\.){3}O`, O a number up to 255, where it is an address and a public one.
fn public_addresses(text: &str) -> impl Iterator<Item = Span> + '_ {
    let found = addresses(text.as_bytes());
    found.filter(|(start, end)| text[*start..*end].parse().is_ok_and(is_global))
}

/// The matches of the pattern. They are found by their first full stop; no number before one matters but
/// the last three digits.
fn addresses(bytes: &[u8]) -> impl Iterator<Item = Span> + '_ {
    let (mut from, mut at) = (0, 0);
    std::iter::from_fn(move || loop {
        let dot = at + memchr(b'.', bytes.get(at..)?)?;
        at = dot + 1;
        if let Some((start, end)) = match_at(bytes, from, dot) {
            (from, at) = (end, end);
            return Some((start, end));
        }
    })
}

/// The leftmost match whose first number ends at `dot`.
fn match_at(bytes: &[u8], from: usize, dot: usize) -> Option<Span> {
    let starts = from.max(dot.saturating_sub(3))..dot;
    let start = { starts }.find(|start| is_octet(&bytes[*start..dot]))?;
    let last = three_octets_end(bytes, start)?;
    octet_lengths(&bytes[last..]).next().map(|length| (start, last + length))
}

/// Where the fourth number begins.
fn three_octets_end(bytes: &[u8], start: usize) -> Option<usize> {
    (0..3).try_fold(start, |at, _| {
        let length = bytes[at..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let is_next = is_octet(&bytes[at..at + length]) && bytes.get(at + length) == Some(&b'.');
        is_next.then_some(at + length + 1)
    })
}

/// Lengths of `25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?` at the beginning, in the order they are tried.
fn octet_lengths(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (1..=bytes.len().min(3)).rev().filter(|length| is_octet(&bytes[..*length]))
}

fn is_octet(digits: &[u8]) -> bool {
    let value = |number: u32, digit: &u8| digit.is_ascii_digit().then(|| 10 * number + u32::from(digit & 15));
    let number = digits.iter().take(4).try_fold(0, value);
    !digits.is_empty() && digits.len() <= 3 && number.is_some_and(|number| number <= 255)
}

/// `ipaddress.ip_address(…).is_global` of Python 3.11.7.
fn is_global(address: std::net::Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 240.., ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [192, 0, 0, 0..=7 | 170..=171]
            | [192, 0, 2, _]
            | [198, 18..=19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replaced_in_turn_and_each_text_begins_anew() {
        for _ in 0..2 {
            let edited =
                edit("a@b.c, !x.y@z-1.d- and ..k@l.m. from 8.8.8.8 or 10.0.0.1 or 9.9.9.999").unwrap();
            assert_eq!(
                edited,
                "email@example.com, !firstname.lastname@example.org- and ..email@example.com. \
                 from 22.214.171.124 or 10.0.0.1 or 126.96.36.1999"
            );
        }
    }

    #[test]
    fn what_is_no_address_stays() {
        for text in ["a@b", "a@-b.c", "a.@b.c", "@b.c", "1.2.3", "1.2.3.a", "08.8.8.8", "a@[1.2.3.x]", ""] {
            assert_eq!(edit(text), None, "{text}");
        }
        assert_eq!(edit("a@[1.2.3.x:]").unwrap(), "email@example.com");
    }
}
