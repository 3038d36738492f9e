//! Email addresses, from their `@`.
//!
//! The local part and the domain may be of any script (RFC 6531, IDNA). Scripts that are
//! written without spaces, or that join particles to words, end a part that is otherwise
//! Latin: `请联系joe@example.com谢谢` holds `joe@example.com`. The domain must end in a
//! top-level domain that exists or is reserved: `icon@2x.png` and `x@W.T` are none.

use std::sync::LazyLock;

use super::bytes::{before, byte, is_one_of, is_unspaced, run, run_before, words_before, MAX_EMPHASIS};
use crate::text::{char_at, char_before};

/// IANA's root zone, with the names of RFC 2606, 6761, 6762 and private use, and those of `yu`, `an` and `tp`, which
/// old texts hold.
static TOP_LEVEL: LazyLock<Vec<&'static str>> = LazyLock::new(|| include_str!("tlds.txt").lines().collect());

const MAX_LOCAL_CHARS: usize = 64; // RFC 5321, 4.5.3.1.1
const MAX_DOMAIN_BYTES: usize = 255;

/// Start and end of the address around the `@` at `sign`.
pub(super) fn span(text: &str, sign: usize) -> Option<(usize, usize)> {
    let domain = char_at(text, sign + 1)?;
    if !domain.is_alphanumeric() || sign == 0 {
        return None;
    }
    let start =
        if before(text, sign, 1) == b'"' { quoted_start(text, sign)? } else { local_start(text, sign)? };
    let end = domain_end(text, sign + 1).or_else(|| mailed_end(text, start, sign + 1))?;
    let start = bracketed_start(text, start + emphasis(text, start, end), end);
    let is_pseudonym = is_pseudonym(&text[start..end]);
    (!is_pseudonym && !is_remote_path(text, start, sign, end)).then_some((start, end))
}

/// Start of a local part with rarer marks, where the brackets around it say that all is an address (RFC 5322, 3.2.3):
/// `<bounces+joe=host.org@list.org>`. Elsewhere `user=joe@host.org` and `a/joe@host.org` are more than an address.
fn bracketed_start(text: &str, start: usize, end: usize) -> usize {
    let is_mark = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let first = start - run_before(text, start, MAX_LOCAL_CHARS, is_mark);
    let is_bracketed = before(text, first, 1) == b'<' && byte(text, end) == b'>';
    if is_bracketed && byte(text, first).is_ascii_alphanumeric() {
        first
    } else {
        start
    }
}

/// Underscores that begin what `start..end` is and stand after it as well: `_joe@host.org_` is in italics.
fn emphasis(text: &str, start: usize, end: usize) -> usize {
    let is_mark = |byte: u8| byte == b'_';
    run(text, start, MAX_EMPHASIS, is_mark).min(run(text, end, MAX_EMPHASIS, is_mark))
}

/// What `pseudonym` writes: it stands for an address and must not be replaced again.
fn is_pseudonym(address: &str) -> bool {
    address
        .strip_prefix("user-")
        .and_then(|rest| rest.strip_suffix("@example.org"))
        .is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// True for `git@host.org:path` and `user@host.org:/path`: a place to copy from.
fn is_remote_path(text: &str, start: usize, sign: usize, end: usize) -> bool {
    let service = is_one_of(&text[start..sign], &["git", "hg", "svn"]);
    let next = byte(text, end + 1);
    let login = words_before(text, start, 24).any(|word| is_one_of(word, &["ssh", "scp", "sftp", "rsync"]));
    let path = matches!(next, b'/' | b'~') || login && next.is_ascii_alphanumeric();
    service && matches!(byte(text, end), b':' | b'/') || byte(text, end) == b':' && path
}

/// Start of the local part that ends before `sign`.
fn local_start(text: &str, sign: usize) -> Option<usize> {
    let open = char_before(text, sign).is_some_and(is_unspaced);
    let mut start = sign;
    for (count, (index, char)) in text[..sign].char_indices().rev().enumerate() {
        if !is_local(char) || !open && is_unspaced(char) {
            break;
        }
        if count == MAX_LOCAL_CHARS {
            return None;
        }
        start = index;
    }
    start = skip_escape(text, start, sign);
    let local = &text[start..sign];
    let kept = local.rfind("..").map_or(local, |dots| &local[dots + 2..]);
    let kept = kept.trim_start_matches(['.', '-', '\'', '+', '&']);
    let ends_well = !kept.ends_with(['.', '\'']);
    (ends_well && kept.chars().any(|char| char.is_alphanumeric() || char == '_')).then_some(sign - kept.len())
}

/// Past the `n` of a written-out `\n`, and past the last `%3A` of an encoded address.
fn skip_escape(text: &str, start: usize, sign: usize) -> usize {
    let local = &text.as_bytes()[start..sign];
    let escaped = before(text, start, 1) == b'\\' && matches!(local.first(), Some(b'n' | b'r' | b't'));
    let code = |window: &[u8]| window[0] == b'%' && window[1..].iter().all(u8::is_ascii_hexdigit);
    match local.windows(3).rposition(code) {
        Some(at) => start + at + 3,
        None => start + usize::from(escaped && local.len() > 1),
    }
}

/// Start of `"a quoted local part"`, on one line.
fn quoted_start(text: &str, sign: usize) -> Option<usize> {
    let inside = run_before(text, sign - 1, MAX_LOCAL_CHARS, |byte| byte != b'"' && byte >= b' ');
    let start = sign - 1 - inside;
    (inside > 0 && before(text, start, 1) == b'"' && !is_word_or_quote(before(text, start, 2)))
        .then(|| start - 1)
}

fn is_word_or_quote(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'='
}

/// End of the longest domain from `start` that ends in a top-level domain.
fn domain_end(text: &str, start: usize) -> Option<usize> {
    let open = char_at(text, start).is_some_and(is_unspaced);
    let mut best = None;
    let mut label = start;
    for (index, char) in text[start..].char_indices() {
        let at = start + index;
        if char == '.' && at > label {
            best = label_end(text, start, label, at).or(best);
            if best.is_some() && begins_sentence(text, label, at) {
                return best;
            }
            label = at + 1;
        } else if index > MAX_DOMAIN_BYTES || !is_domain(char) || !open && ends_ascii(text, start, at, char) {
            return label_end(text, start, label, at).or(best);
        }
    }
    label_end(text, start, label, text.len()).or(best)
}

/// End of a domain that ends in no top-level domain, where `mailto:` says that it is one all the same.
fn mailed_end(text: &str, start: usize, domain: usize) -> Option<usize> {
    let length =
        run(text, domain, MAX_DOMAIN_BYTES, |byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let name = text[domain..domain + length].trim_end_matches(['.', '-']);
    (text[..start].ends_with("mailto:") && name.contains('.') && !name.contains(".."))
        .then_some(domain + name.len())
}

/// True where a script without spaces follows a label of ASCII, as in `example.com谢谢`.
fn ends_ascii(text: &str, start: usize, at: usize, char: char) -> bool {
    is_unspaced(char) && at > start && before(text, at, 1) != b'.'
}

/// True for the dot of `a@b.com.The next sentence`.
fn begins_sentence(text: &str, label: usize, dot: usize) -> bool {
    text[label..dot].bytes().all(|byte| byte.is_ascii_lowercase()) && byte(text, dot + 1).is_ascii_uppercase()
}

/// End of the top-level domain that begins at `label`, if `label..end` begins with one.
fn label_end(text: &str, start: usize, label: usize, end: usize) -> Option<usize> {
    if label == start || label >= end {
        return None; // a host alone is no domain of an address
    }
    let name = &text[label..end];
    if is_top_level(name) || is_local_level(&text[start..label], name) {
        return Some(end);
    }
    let bytes = name.as_bytes();
    let case = bytes.windows(2).position(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
    let cut =
        case.map(|at| at + 1).or_else(|| bytes.iter().position(|byte| matches!(byte, b'-' | b'0'..=b'9')));
    cut.filter(|cut| is_top_level(&name[..*cut])).map(|cut| label + cut)
}

fn is_top_level(name: &str) -> bool {
    if name.len() < 2 || name.len() > 24 {
        return false;
    }
    if name.is_ascii() {
        let mut lower = [0; 24];
        let lower = &mut lower[..name.len()];
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        return TOP_LEVEL.binary_search_by(|each| each.as_bytes().cmp(lower)).is_ok();
    }
    TOP_LEVEL.binary_search(&name).is_ok() || TOP_LEVEL.binary_search(&name.to_lowercase().as_str()).is_ok()
}

/// True for a name beyond ASCII after a label beyond ASCII: `例え.テスト`, `例子.广告`. The root zone does not have
/// all that are in use and in examples, and no file or handle looks so.
fn is_local_level(labels: &str, name: &str) -> bool {
    let parent = labels.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let whole = name.chars().all(|char| !char.is_ascii());
    whole && (2..=12).contains(&name.chars().count()) && !parent.is_ascii()
}

fn is_local(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '%' | '+' | '-' | '\'' | '&');
    }
    is_letter_or_mark(char)
}

fn is_domain(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '-' || !char.is_ascii() && is_letter_or_mark(char)
}

/// Letters and numerals beyond ASCII, with the marks that belong to a word.
fn is_letter_or_mark(char: char) -> bool {
    let mark = matches!(char, '\u{300}'..='\u{36F}' | '\u{200C}' | '\u{200D}')
        || ('\u{900}'..'\u{E00}').contains(&char) && matches!(char as u32 & 0x7F, 0x3C | 0x4D);
    char.is_alphanumeric() || mark
}

/// Start and end of `name at host dot org`, from its ` at `, `(at)` or `[at]`, whose `a` stands at `at`.
pub(super) fn obfuscated_span(text: &str, at: usize) -> Option<(usize, usize)> {
    let (name_end, host) = said(text, at, 2)?;
    let start = local_start(text, name_end)?;
    let (mut end, mut labels) = (label_after(text, host)?, 1);
    let (mut last, mut is_spelled) = (host, before(text, at, 1) != b' ');
    while let Some((dot, next)) = next_dot(text, end) {
        debug_assert!(dot >= end);
        is_spelled |= byte(text, end) != b'.';
        (last, end, labels) = (next, label_after(text, next)?, labels + 1);
        if labels > 8 {
            break;
        }
    }
    let is_meant = is_spelled || is_set_apart(text, start, end);
    (labels > 1 && is_meant && is_top_level(&text[last..end])).then_some((start, end))
}

/// True in brackets, alone on a line and behind `Email:`. Elsewhere a bare ` at ` and a site with its full stops are
/// prose: `agents at USA.gov`.
fn is_set_apart(text: &str, start: usize, end: usize) -> bool {
    let named =
        || words_before(text, start, 16).next().is_some_and(|word| is_one_of(word, &["mail", "email"]));
    match (before(text, start, 1), byte(text, end)) {
        (b'<', b'>') | (b'(', b')') | (b'[', b']') | (0 | b'\n', 0 | b'\n' | b'\r') => true,
        (b' ' | b':', _) => named(),
        _ => false,
    }
}

/// Where the word of `length` at `at`, in spaces or brackets, begins and ends with these.
fn said(text: &str, at: usize, length: usize) -> Option<(usize, usize)> {
    let bracket = match before(text, at, 1) {
        b'(' => b')',
        b'[' => b']',
        b'{' => b'}',
        b' ' => 0,
        _ => return None,
    };
    let close = at + length;
    if bracket == 0 {
        return (byte(text, close) == b' ' && at >= 2).then_some((at - 1, close + 1));
    }
    let open = at - 1 - usize::from(before(text, at, 2) == b' ');
    let after = close + 1 + usize::from(byte(text, close + 1) == b' ');
    (byte(text, close) == bracket && open > 0 && after < text.len()).then_some((open, after))
}

fn label_after(text: &str, start: usize) -> Option<usize> {
    let length = run(text, start, 63, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (length > 0).then_some(start + length)
}

/// The dot after `end`, written or said, and the label after it.
fn next_dot(text: &str, end: usize) -> Option<(usize, usize)> {
    if byte(text, end) == b'.' && byte(text, end + 1).is_ascii_alphanumeric() {
        return Some((end, end + 1));
    }
    let word = (end + 1..end + 3)
        .find(|at| text.get(*at..at + 3).is_some_and(|word| word.eq_ignore_ascii_case("dot")))?;
    said(text, word, 3).filter(|(from, _)| *from == end)
}
