//! Secrets: keys and tokens by prefix, alphabet, length and entropy; passwords by name.
//!
//! The first three bytes of all prefixes make a small table, in which each position is
//! looked up; an automaton then tells the prefix, in any case, and what follows is read
//! for a bounded length. Nothing is ever sent anywhere to see whether a key is live.

mod assigned;
mod table;

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind, StartKind};

use self::table::{Alphabet, Form, SECRETS};
use super::bytes::{before, byte, ends_word, run, starts_word};

const MAX_JWT_BYTES: usize = 8 << 10;
const MAX_PEM_BYTES: usize = 16 << 10;

/// Tells which prefix, if any, begins at a byte.
static PREFIXES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .start_kind(StartKind::Anchored)
        .build(SECRETS.iter().map(|secret| secret.prefix))
        .ok() // a fixed table: a test asserts that it builds
});

/// Calls `found` with start and end of every secret that begins in `from..to`.
pub(super) fn each(text: &str, from: usize, to: usize, mut found: impl FnMut(usize, usize)) {
    let Some(prefixes) = PREFIXES.as_ref() else { return };
    let trigrams: &[u64; 1024] = &TRIGRAMS;
    let bytes = &text.as_bytes()[..to];
    let (mut done, mut last) = (from, 0);
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        last = last << 8 | u32::from(byte | CASE);
        let hash = hash(last);
        if trigrams[hash >> 6] >> (hash & 63) & 1 == 0 || at < done + 2 {
            continue;
        }
        let input = Input::new(text).range(at - 2..).anchored(Anchored::Yes);
        let Some(prefix) = prefixes.find(input) else { continue };
        if let Some((start, end)) = read(text, prefix.start(), prefix.end(), prefix.pattern().as_usize()) {
            found(start, end);
            done = end;
        }
    }
}

/// What a letter of either case has set.
const CASE: u8 = 0x20;

/// The first three bytes of all prefixes, hashed: one byte in a hundred of prose passes.
static TRIGRAMS: LazyLock<[u64; 1024]> = LazyLock::new(|| {
    let mut trigrams = [0; 1024];
    for secret in SECRETS {
        let begin = secret.prefix.bytes().take(3).fold(0, |last, byte| last << 8 | u32::from(byte | CASE));
        let hash = hash(begin);
        trigrams[hash >> 6] |= 1 << (hash & 63);
    }
    trigrams
});

/// Sixteen bits of the last three bytes (multiplication by 2^32 over the golden ratio).
#[inline]
fn hash(last: u32) -> usize {
    ((last & 0xFF_FFFF).wrapping_mul(0x9E37_79B1) >> 16) as usize
}

fn read(text: &str, start: usize, after: usize, index: usize) -> Option<(usize, usize)> {
    let secret = &SECRETS[index];
    if let Form::Assigned { min_entropy } = secret.form {
        return assigned::span(text, after, min_entropy);
    }
    if &text.as_bytes()[start..after] != secret.prefix.as_bytes() {
        return None;
    }
    match secret.form {
        Form::Token { alphabet, fewest, most, min_entropy } => {
            let start = token_start(text, start, secret.prefix)?;
            let length = run(text, after, most + 1, |byte| alphabet.has(byte));
            let length = length - run_before_end(text, after, length);
            let fits = (fewest..=most).contains(&length) && ends_word(text, after + length);
            (fits && entropy(&text[after..after + length]) >= min_entropy).then_some((start, after + length))
        }
        Form::Jwt => Some((start, jwt_end(text, start)?)),
        Form::Pem => Some((start, pem_end(text, after)?)),
        Form::UrlPassword => Some((after, user_end(text, after)?)),
        Form::Scheme => assigned::after_scheme(text, after),
        Form::Assigned { .. } => None,
    }
}

/// Full stops that end a sentence, not a token.
fn run_before_end(text: &str, after: usize, length: usize) -> usize {
    text[after..after + length].bytes().rev().take_while(|byte| matches!(byte, b'.' | b',')).count()
}

/// Start of a token with this prefix; what stands before a prefix of punctuation belongs to it.
fn token_start(text: &str, start: usize, prefix: &str) -> Option<usize> {
    if prefix.starts_with([':', '.']) {
        let length = super::bytes::run_before(text, start, 16, |byte| byte.is_ascii_alphanumeric());
        return (length >= 8 && starts_word(text, start - length)).then_some(start - length);
    }
    stands_alone(text, start).then_some(start)
}

/// True where a token may begin: not inside a word, nor after a part joined by `-` or `.`.
fn stands_alone(text: &str, start: usize) -> bool {
    let joined =
        matches!(before(text, start, 1), b'-' | b'.') && before(text, start, 2).is_ascii_alphanumeric();
    starts_word(text, start) && !joined
}

impl Alphabet {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Lower => byte.is_ascii_lowercase() || byte.is_ascii_digit(),
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            Self::Path => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-' | b',')
            }
        }
    }
}

fn jwt_end(text: &str, start: usize) -> Option<usize> {
    let url = |byte| Alphabet::Url.has(byte);
    let header = run(text, start, MAX_JWT_BYTES, url);
    let payload = start + header + 1;
    if header < 16 || byte(text, payload - 1) != b'.' || !stands_alone(text, start) {
        return None;
    }
    let length = run(text, payload, MAX_JWT_BYTES, url);
    let end = payload + length;
    if length < 4 || !text[payload..].starts_with("eyJ") && byte(text, end) != b'.' {
        return None;
    }
    let signature = if byte(text, end) == b'.' { run(text, end + 1, MAX_JWT_BYTES, url) } else { 0 };
    Some(if signature > 0 { end + 1 + signature } else { end })
}

/// End of a private key whose label begins at `label`; a cut one ends where its base64 does.
fn pem_end(text: &str, label: usize) -> Option<usize> {
    let name =
        run(text, label, 40, |byte| byte.is_ascii_uppercase() || byte == b' ' || byte.is_ascii_digit());
    let body = label + name;
    if !text[label..body].contains("PRIVATE KEY") || !text[body..].starts_with("-----") {
        return None;
    }
    let body = body + 5;
    let is_body =
        |byte: u8| Alphabet::Base64.has(byte) || byte.is_ascii_whitespace() || b":,\\".contains(&byte);
    let mut end = body + run(text, body, MAX_PEM_BYTES, is_body);
    if text[end..].starts_with("-----END ") {
        let close = end + 9 + run(text, end + 9, 40, |byte| byte != b'-' && byte.is_ascii() && byte != b'\n');
        end = close + run(text, close, 5, |byte| byte == b'-');
    }
    let kept = text[body..end].trim_end().len();
    (kept >= 16).then_some(body + kept)
}

/// End of `user:password` from `start`, if an `@` and a host follow.
fn user_end(text: &str, start: usize) -> Option<usize> {
    let is_user = |byte: u8| byte.is_ascii_graphic() && !b"/@\"'<>`\\?#{}$[]()".contains(&byte);
    let end = start + run(text, start, 160, is_user);
    let (user, password) = text[start..end].split_once(':')?;
    let lower = password.to_ascii_lowercase();
    let named = !["pass", "pwd", "secret", "xxx"].iter().any(|word| lower.contains(word));
    let host = byte(text, end) == b'@' && byte(text, end + 1).is_ascii_alphanumeric();
    (host && password.len() > 2 && named && user.len() < 65 && !password.starts_with(['*', '%']))
        .then_some(end)
}

/// Shannon's entropy of the characters of a token, in bits a character; at most 256 are read.
fn entropy(token: &str) -> f32 {
    let bytes = &token.as_bytes()[..token.len().min(256)];
    let mut counts = [0_u16; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f32;
    let terms = counts.iter().filter(|count| **count > 0).map(|count| f32::from(*count) / total);
    terms.map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_builds_and_lists_over_sixty_kinds() {
        assert!(PREFIXES.is_some());
        assert!(SECRETS.iter().all(|secret| secret.prefix.len() > 2), "shorter than a trigram");
        assert!(SECRETS.iter().filter(|secret| !secret.name.is_empty()).count() > 140);
    }

    #[test]
    fn entropy_is_in_bits_a_character() {
        assert!(entropy("aaaaaaaa").abs() < 1e-6);
        assert!((entropy("abcdabcd") - 2.0).abs() < 1e-6);
        assert!((entropy("0123456789abcdef") - 4.0).abs() < 1e-6);
    }
}
