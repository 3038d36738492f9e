//! IPv4 and IPv6 addresses that are not versions, times, sections or code.
//!
//! Never taken: 240.0.0.0/8, which no host has (RFC 1112), and `3fff::/20`, which is for
//! documentation (RFC 9637). Pseudonyms come from these.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::bytes::{before, byte, ends_word, is_one_of, run, run_before, starts_word, words_before};

const MAX_IPV6_BYTES: usize = 45; // eight groups of four with an embedded IPv4

/// Words before four numbers that are no address.
const VERSION_NAMES: [&str; 20] = [
    "version",
    "versions",
    "ver",
    "v",
    "release",
    "releases",
    "section",
    "sections",
    "chapter",
    "figure",
    "table",
    "build",
    "revision",
    "rev",
    "firmware",
    "appendix",
    "clause",
    "paragraph",
    "rule",
    "oid",
];

/// End of an IPv4 address that begins at the digit `start`.
pub(super) fn v4_end(text: &str, start: usize, public_only: bool) -> Option<usize> {
    if !matches!(run(text, start, 4, |byte| byte.is_ascii_digit()), 1..=3) {
        return None;
    }
    let length = run(text, start, 16, |byte| byte.is_ascii_digit() || byte == b'.');
    let end = start + text[start..start + length].trim_end_matches('.').len(); // the end of a sentence
    let address: Ipv4Addr = text[start..end].parse().ok()?;
    let wanted = address.octets()[0] != 240 && (!public_only || is_public(address));
    (wanted && v4_starts(text, start) && v4_ends(text, end) && !is_version(text, start, address))
        .then_some(end)
}

fn v4_starts(text: &str, start: usize) -> bool {
    let (last, second) = (before(text, start, 1), before(text, start, 2));
    let joined = match last {
        b'.' => second.is_ascii_alphanumeric(),
        b'-' => second.is_ascii_alphabetic(),
        b'/' => is_product(text, start - 1),
        b'$' => true,
        _ => false,
    };
    starts_word(text, start) && !joined
}

/// True for the name of `Name/1.2.3.4` in a user agent, which is one capitalised word.
fn is_product(text: &str, slash: usize) -> bool {
    let name = run_before(text, slash, 24, |byte| byte.is_ascii_alphabetic());
    name > 0 && byte(text, slash - name).is_ascii_uppercase() && starts_word(text, slash - name)
}

fn v4_ends(text: &str, end: usize) -> bool {
    let next = byte(text, end + 1);
    let joined = match byte(text, end) {
        b'.' => next.is_ascii_digit(),
        b'-' => is_revision(text, end + 1),
        b'+' | b'~' | b'%' => next.is_ascii_alphanumeric(),
        _ => false,
    };
    ends_word(text, end) && !joined
}

/// True for what follows the hyphen of `1.2.3.4-1` and `1.2.3.4-beta`; false for a range.
fn is_revision(text: &str, at: usize) -> bool {
    let digits = run(text, at, 4, |byte| byte.is_ascii_digit());
    let letter = byte(text, at + digits).is_ascii_alphabetic();
    letter || digits == 1 && !(byte(text, at + 1) == b'.' && byte(text, at + 2).is_ascii_digit())
}

/// True if the word before says so, or all numbers are as small as those of a version.
fn is_version(text: &str, start: usize, address: Ipv4Addr) -> bool {
    let octets = address.octets();
    let named = words_before(text, start, 12).next().is_some_and(|word| is_one_of(word, &VERSION_NAMES));
    if text[..start].ends_with("://") {
        return false;
    }
    let mask = octets[0] == 255; // no version is as high
    let padded = octets[1..] == [0, 0, 0] && octets[0] > 0 && !mask && !is_network(text, start);
    let small = octets[..2].iter().all(|octet| *octet < 50) && !matches!(octets[0], 0 | 10);
    let release = small && octets[2..] == [0, 0] && !is_network(text, start);
    let counted = octets.iter().all(|octet| *octet < 50) && !is_known(octets) && octets[0] > 0;
    let near = words_before(text, start, 24).any(|word| is_one_of(word, &VERSION_NAMES));
    named || padded || release || near && octets[0] < 50 || counted && !names_address(text, start)
}

/// True if a prefix length follows, as in `10.0.0.0/8`.
fn is_network(text: &str, start: usize) -> bool {
    let length = run(text, start, 16, |byte| byte.is_ascii_digit() || byte == b'.');
    byte(text, start + length) == b'/' && byte(text, start + length + 1).is_ascii_digit()
}

/// 10.0.0.0/8 is in every network, and texts name the resolvers 1.1.1.1, 8.8.8.8 and 8.8.4.4.
fn is_known(octets: [u8; 4]) -> bool {
    let same = octets.iter().all(|octet| *octet == octets[0]);
    same || octets[0] == 10 || matches!(octets, [8, 8, 4, 4])
}

/// Words before four small numbers that make them an address all the same.
#[rustfmt::skip]
const ADDRESS_NAMES: [&str; 33] = [
    "ip", "ips", "ipv", "address", "addresses", "host", "hosts", "server", "dns", "gateway", "ping", "http", "https", "addr",
    "connect", "connected", "connection", "client", "login", "ssh", "inet", "route", "subnet", "network", "listen",
    "nameserver", "proxy", "peer", "remote", "destination", "blocked", "request", "traceroute",
];

fn names_address(text: &str, start: usize) -> bool {
    words_before(text, start, 24).any(|word| is_one_of(word, &ADDRESS_NAMES))
}

/// True if the address may stand on the open Internet (IANA special-purpose registry).
fn is_public(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let shared = first == 100 && second & 0xC0 == 64;
    let protocol = first == 192 && second == 0 && third == 0;
    let benchmark = first == 198 && second & 0xFE == 18;
    let special = shared || protocol || benchmark || first == 0 || first >= 224;
    let local = address.is_private() || address.is_loopback() || address.is_link_local();
    !special && !local && !address.is_documentation()
}

/// Start and end of the IPv6 address around the colon at `colon`.
pub(super) fn v6_span(text: &str, colon: usize) -> Option<(usize, usize)> {
    let around = (before(text, colon, 1), byte(text, colon + 1));
    if !(is_v6(around.0) || around.1 == b':') || !is_v6(around.1) {
        return None;
    }
    let start = colon - run_before(text, colon, 5, |byte| byte.is_ascii_hexdigit());
    if !matches!(before(text, start, 1), b':' | b'.') && starts_word(text, start) {
        let length = run(text, start, MAX_IPV6_BYTES + 1, |byte| is_v6(byte) || byte == b'.');
        let end = start + trimmed(&text[start..start + length]);
        let address: Ipv6Addr = text[start..end].parse().ok()?;
        let zone = byte(text, end) == b'%';
        let glob = byte(text, end) == b'*' && before(text, end, 1) == b':'; // a star after digits is emphasis
        let year =
            end == start + 6 && text[start..start + 4].parse::<u16>().is_ok() && byte(text, end) != b'/';
        return ((zone || ends_word(text, end) && !glob && !year) && is_address(&text[start..end], address))
            .then_some((start, end));
    }
    None
}

fn is_v6(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b':'
}

/// Length without the full stop or colon that ends a clause.
fn trimmed(address: &str) -> usize {
    let kept = address.trim_end_matches('.');
    kept.strip_suffix(':').filter(|kept| !kept.ends_with(':')).unwrap_or(kept).len()
}

/// False for what code and documents write with two colons: a slice, a path, an example.
fn is_address(written: &str, address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let pseudonym = segments[0] == 0x3FFF && segments[1] < 0x1000;
    let pairs = written.split(':').all(|group| group.len() == 2); // an identifier of hardware
    let full = !written.contains("::") && !pairs;
    let allocated = matches!(segments[0], 0x2001..=0x3FFF | 0xFC00..=0xFFFF | 0x64);
    let mapped = segments[..5] == [0; 5] && segments[5] == 0xFFFF && written.contains('.');
    let groups = written.split(':').filter(|group| !group.is_empty()).count();
    let digit = written.bytes().any(|byte| byte.is_ascii_digit());
    !pseudonym && (full || mapped || allocated && written.len() > 5 && digit || groups > 4 && !pairs)
}
