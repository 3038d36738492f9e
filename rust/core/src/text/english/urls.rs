//! Addresses: chunks that spaCy leaves whole, because they read as a URL or an e-mail address.
//!
//! The pattern is `[scheme://][user@]host[:port][/path]`. Nothing but the host must be there, so
//! that `e.g` is none but `docs.rs` is one. A host has none of `@ : / ? #`, hence each
//! place where one may begin has one place where it may end, and the test takes linear time.

use super::classes::{is, LOWER};
use crate::text::{is_decimal, is_word};

/// True if all of `chunk`, which has no white space, reads as an address.
pub(super) fn is_url(chunk: &str) -> bool {
    if !chunk.contains('.') {
        return false;
    }
    let users = chunk.char_indices().skip(1).filter(|(_, char)| *char == '@');
    let after_users = users.map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_scheme(chunk)).chain(after_users).any(|start| is_address(&chunk[start..]))
}

/// Where the text after `scheme://` begins.
fn after_scheme(chunk: &str) -> Option<usize> {
    let is_scheme = |char: char| is_word(char) || matches!(char, '+' | '-' | '.');
    let rest = chunk.trim_start_matches(is_scheme);
    let scheme = &chunk[..chunk.len() - rest.len()];
    let is_long = scheme.chars().nth(1).is_some();
    (is_long && rest.starts_with("://")).then_some(scheme.len() + 3)
}

/// True for `host[:port][/path]`.
fn is_address(text: &str) -> bool {
    let end = text.find(['@', ':', '/', '?', '#']).unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    let rest = match rest.strip_prefix(':') {
        Some(port) => match after_port(port) {
            Some(rest) => rest,
            None => return false,
        },
        None => rest,
    };
    (rest.is_empty() || rest.starts_with(['/', '?', '#'])) && (is_domain(host) || is_ip(host))
}

/// What follows a port, two to five digits.
fn after_port(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(is_decimal);
    let digits = text[..text.len() - rest.len()].chars().take(6).count();
    (2..=5).contains(&digits).then_some(rest)
}

/// True for labels with full stops between them, the last of which is of lower-case letters.
fn is_domain(host: &str) -> bool {
    let Some((labels, top)) = host.rsplit_once('.') else { return false };
    let num_top = top.chars().take(64).count();
    (2..=63).contains(&num_top)
        && top.chars().all(|char| is(Some(char), LOWER))
        && labels.split('.').all(is_label)
}

/// True for 1 to 64 characters, `_` and `-` among them but not at the ends.
fn is_label(label: &str) -> bool {
    let is_inner = |char: char| is_label_end(char) || matches!(char, '_' | '-');
    label.starts_with(is_label_end)
        && label.ends_with(is_label_end)
        && label.chars().take(65).count() <= 64
        && label.chars().all(is_inner)
}

fn is_label_end(char: char) -> bool {
    char.is_ascii_alphanumeric() || ('\u{a1}'..='\u{ffff}').contains(&char)
}

/// True for the four octets of a public IPv4 address. A digit may be of any script where the
/// pattern has `\d`, but not where it names the digits.
fn is_ip(host: &str) -> bool {
    let mut octets = host.split('.');
    let mut next = || octets.next().unwrap_or("");
    let (first, second, third, fourth) = (next(), next(), next(), next());
    octets.next().is_none()
        && is_first_octet(first)
        && is_octet(second)
        && is_octet(third)
        && is_last_octet(fourth)
        && !is_private(first, second)
}

/// 1 to 223.
fn is_first_octet(octet: &str) -> bool {
    match chars_of(octet) {
        [Some('1'..='9'), None, None] | [Some('2'), Some('2'), Some('0'..='3')] => true,
        [Some('1'..='9'), second, None] => is_any_digit(second),
        [Some('1'), second, third] => is_any_digit(second) && is_any_digit(third),
        [Some('2'), Some('0' | '1'), third] => is_any_digit(third),
        _ => false,
    }
}

/// 0 to 255; two digits may begin with 0.
fn is_octet(octet: &str) -> bool {
    match chars_of(octet) {
        [first, None, None] => is_any_digit(first),
        [first, second, None] => is_any_digit(first) && is_any_digit(second),
        [Some('1'), second, third] => is_any_digit(second) && is_any_digit(third),
        [Some('2'), Some('0'..='4'), third] => is_any_digit(third),
        [Some('2'), Some('5'), Some('0'..='5')] => true,
        _ => false,
    }
}

/// 1 to 254, without leading zeros.
fn is_last_octet(octet: &str) -> bool {
    is_octet(octet) && octet.starts_with(|char| matches!(char, '1'..='9')) && octet != "255"
}

/// Networks 10, 127, 169.254, 192.168 and 172.16 to 172.31.
fn is_private(first: &str, second: &str) -> bool {
    match first {
        "10" | "127" => true,
        "169" => second == "254",
        "192" => second == "168",
        "172" => match chars_of(second) {
            [Some('1'), Some('6'..='9'), None] | [Some('3'), Some('0' | '1'), None] => true,
            [Some('2'), digit, None] => is_any_digit(digit),
            _ => false,
        },
        _ => false,
    }
}

fn is_any_digit(char: Option<char>) -> bool {
    char.is_some_and(is_decimal)
}

/// The three characters of an octet; a longer text gives what no octet is.
fn chars_of(octet: &str) -> [Option<char>; 3] {
    let mut chars = octet.chars();
    let three = [chars.next(), chars.next(), chars.next()];
    match chars.next() {
        Some(_) => [None; 3],
        None => three,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_enough_and_everything_else_may_follow() {
        for chunk in [
            "docs.rs",
            "http://a.bc",
            "git+ssh://me:pw@a-b.co.uk:8080/x?y#z",
            "me@example.org",
            "8.8.8.8:53",
            "a.b@c@例え.jp?",
        ] {
            assert!(is_url(chunk), "{chunk}");
        }
    }

    #[test]
    fn private_addresses_odd_ports_and_upper_case_ends_are_no_address() {
        for chunk in [
            "e.g",
            "end.Begin",
            "10.0.0.1",
            "172.16.0.1",
            "1.2.3.0",
            "a.bc:1",
            "a.bc:123456",
            "-a.bc",
            "a..bc",
            "@a.b",
            "x://a.b",
        ] {
            assert!(!is_url(chunk), "{chunk}");
        }
    }
}
