//! Secrets: keys and tokens by prefix, alphabet, length and entropy; passwords by name.
//!
//! A scan tells where prefixes may begin (`scan.rs`); an automaton then tells the prefix, in
//! any case, and what follows is read for a bounded length. Nothing is ever sent anywhere to
//! see whether a key is live.

mod assigned;
mod scan;
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

/// Calls `found` with start and end of every secret that begins in `from..to`; some overlap, or come twice.
pub(super) fn each(text: &str, from: usize, to: usize, mut found: impl FnMut(usize, usize)) {
    scan::each_start(text, from, to, |at| {
        if let Some((start, end)) = at_start(text, at) {
            found(start, end);
        }
    });
}

/// The secret whose prefix begins at `at`.
fn at_start(text: &str, at: usize) -> Option<(usize, usize)> {
    let input = Input::new(text).range(at..).anchored(Anchored::Yes);
    let prefix = PREFIXES.as_ref()?.find(input)?;
    read(text, prefix.start(), prefix.end(), prefix.pattern().as_usize())
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
    if !stands_alone(text, start) {
        return None;
    }
    let url = |byte| Alphabet::Url.has(byte);
    let header = run(text, start, MAX_JWT_BYTES, url);
    let payload = start + header + 1;
    if header < 16 || byte(text, payload - 1) != b'.' {
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
    use proptest::prelude::*;

    use super::*;

    /// Spans that do not overlap: the earlier, then the longer.
    fn apart(mut spans: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        spans.sort_unstable_by_key(|(start, end)| (*start, std::cmp::Reverse(*end)));
        let mut last = 0;
        spans.retain(|(start, end)| {
            *start >= last && {
                last = *end;
                true
            }
        });
        spans
    }

    fn found(text: &str) -> Vec<(usize, usize)> {
        let mut spans = Vec::new();
        each(text, 0, text.len(), |start, end| spans.push((start, end)));
        apart(spans)
    }

    /// What looking at every byte finds.
    fn slowly_found(text: &str) -> Vec<(usize, usize)> {
        let mut spans = Vec::new();
        scan::each_byte(text, 0, text.len(), |at| spans.extend(at_start(text, at)));
        apart(spans)
    }

    /// Made-up characters of an alphabet, without two alike in a row.
    fn random(alphabet: Alphabet, length: usize, seed: usize) -> String {
        let chars: Vec<char> =
            (b'0'..=b'z').filter(|byte| alphabet.has(*byte) && *byte != b'=').map(char::from).collect();
        let mut state = seed as u64 * 2 + 0x9E37_79B9;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chars[(state >> 33) as usize % chars.len()]
        };
        (0..length).map(next).collect()
    }

    /// A key of this kind as it is written, without what stands before the prefix.
    fn sample(secret: &table::SecretKind, length: usize, seed: usize) -> Option<String> {
        let Form::Token { alphabet, .. } = secret.form else { return None };
        let ahead = if secret.prefix.starts_with([':', '.']) { "8123456789" } else { "" };
        let end = if matches!(alphabet, Alphabet::Dotted) { "x" } else { "" }; // not a full stop
        Some(format!("{ahead}{}{}{end}", secret.prefix, random(alphabet, length - end.len(), seed)))
    }

    #[test]
    fn a_key_of_every_kind_is_found_whole_in_five_surroundings() {
        let mut tried = 0;
        for (seed, secret) in SECRETS.iter().enumerate() {
            let Form::Token { fewest, most, .. } = secret.form else { continue };
            for length in [fewest, most] {
                let Some(key) = sample(secret, length, seed) else { continue };
                for (before, after) in
                    [("", ""), ("export KEY=", "\n"), ("it is ", ", he said"), ("(", ")"), ("\"", "\"")]
                {
                    let text = format!("{before}{key}{after}");
                    assert_eq!(found(&text), [(before.len(), before.len() + key.len())], "{text}");
                }
                tried += 1;
            }
        }
        assert!(tried > 270, "{tried}");
    }

    #[test]
    fn what_is_nearly_a_key_is_none() {
        for (seed, secret) in SECRETS.iter().enumerate() {
            let Form::Token { fewest, most, .. } = secret.form else { continue };
            if secret.prefix.starts_with([':', '.']) {
                continue; // what stands before belongs to it
            }
            let short = sample(secret, fewest - 1, seed).unwrap_or_default();
            let dull = format!("{}{}", secret.prefix, "a".repeat(fewest));
            let inside = format!("Z{}", sample(secret, most, seed).unwrap_or_default());
            for text in [short, dull, inside] {
                let whole = |span: &(usize, usize)| span.0 < 2 && span.1 == text.len();
                // A shorter prefix may take the rest: `live_` is one of a service, and so is `shippo_live_`.
                let other = SECRETS.iter().any(|other| {
                    other.prefix != secret.prefix && text.trim_start_matches('Z').starts_with(other.prefix)
                });
                assert!(other || !found(&text).iter().any(whole), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_scan_finds_what_looking_at_every_byte_finds(
            pieces in proptest::collection::vec((0..SECRETS.len() + 12, 0_usize..70, any::<bool>()), 0..12)
        ) {
            const OTHERS: [&str; 12] = [" ", "\n", "=", "\"", "é用", ": ", " is ", "@host", ".", "Pa55word!x", "-", "a"];
            let mut text = String::new();
            for (index, length, upper) in pieces {
                match SECRETS.get(index) {
                    Some(secret) if upper && matches!(secret.form, Form::Assigned { .. }) => {
                        text += &secret.prefix.to_ascii_uppercase();
                    }
                    Some(secret) => text += secret.prefix,
                    None => text += OTHERS[index - SECRETS.len()],
                }
                text += &random(Alphabet::Alnum, length / 2 * usize::from(length > 9), length);
            }
            prop_assert_eq!(found(&text), slowly_found(&text), "{}", text);
        }
    }

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
