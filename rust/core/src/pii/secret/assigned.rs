//! Passwords and keys that only a name gives away: `password = …`, `api_key: …`.
//!
//! The value must look chosen or random: letters and digits, enough entropy, and none of
//! the marks of a variable, a path, a call or an example.

use super::{entropy, Alphabet};
use crate::pii::bytes::{before, byte, run};

const MAX_VALUE_BYTES: usize = 128;

/// Start and end of the value assigned to the name that ends before `after`.
pub(super) fn span(text: &str, after: usize, min_entropy: f32) -> Option<(usize, usize)> {
    let suffix = run(text, after, 16, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let name_end = after + suffix;
    let plain = suffix == 0 || matches!(&text[after..name_end], "s" | "_key" | "key" | "-key" | "_id");
    let Some((start, quote)) = value_start(text, name_end) else {
        return after_space(text, name_end, suffix);
    };
    let end = start + value_length(text, start, quote);
    let value = &text[start..end];
    let min_entropy = if plain { min_entropy } else { min_entropy.max(3.3) };
    let closed = quote == 0 || byte(text, end) == quote;
    (closed && is_chosen(value, plain) && entropy(value) >= min_entropy).then_some((start, end))
}

/// A password in prose, `with password pA55!word`: it must hold a letter, a digit and a mark.
fn after_space(text: &str, name_end: usize, suffix: usize) -> Option<(usize, usize)> {
    if suffix > 0 || byte(text, name_end) != b' ' || !text[..name_end].ends_with(['d', 'D']) {
        return None; // only `password` and `passwd` are so used
    }
    let says = [" is ", " was ", ": "].iter().find(|word| text[name_end..].starts_with(**word));
    let start = name_end + says.map_or(1, |word| word.len());
    let end = start + value_length(text, start, 0);
    let value = &text[start..end];
    (value.contains(['!', '#', '$', '*', '?', '@']) && is_chosen(value, true)).then_some((start, end))
}

/// Where the value begins, and what closes it if it is quoted, after `=`, `:`, `=>`, `:=`, ` is `, or a space and a quote.
fn value_start(text: &str, name_end: usize) -> Option<(usize, u8)> {
    let close = match text.as_bytes().get(name_end..)? {
        [b'\\', b'"', ..] => 2, // in JSON inside JSON
        [b'"' | b'\'', ..] => 1,
        _ => 0,
    };
    let at = name_end + close;
    let at = at + run(text, at, 4, |byte| byte == b' ' || byte == b'\t');
    let sign = match text.as_bytes().get(at..)? {
        [b'=', b'>', ..] | [b':', b'=', ..] => 2,
        [b'=', b'=', ..] | [b':', b':', ..] => return None,
        [b'=' | b':', ..] => 1,
        [b'"' | b'\'' | b'`', ..] if at > name_end => 0,
        _ => return None,
    };
    let at = at + sign;
    let at = at + run(text, at, 4, |byte| byte == b' ' || byte == b'\t');
    if byte(text, at) == b'\\' && byte(text, at + 1) == b'"' {
        return Some((at + 2, b'\\'));
    }
    let quote = byte(text, at);
    let quoted = matches!(quote, b'"' | b'\'' | b'`');
    (quoted || sign > 0).then_some(if quoted { (at + 1, quote) } else { (at, 0) })
}

fn value_length(text: &str, start: usize, quote: u8) -> usize {
    if quote != 0 {
        return run(text, start, MAX_VALUE_BYTES + 1, |byte| byte != quote && byte.is_ascii_graphic());
    }
    let ends = b"\"'`,;()<>{}[]|&";
    let length =
        run(text, start, MAX_VALUE_BYTES + 1, |byte| byte.is_ascii_graphic() && !ends.contains(&byte));
    length - usize::from(before(text, start + length, 1) == b'.' && length > 0)
}

/// True if letters and digits are mixed as in a password, and nothing says example, variable or pseudonym.
fn is_chosen(value: &str, plain: bool) -> bool {
    const EXAMPLES: [&str; 16] = [
        "xxx",
        "your",
        "example",
        "changeme",
        "...",
        "***",
        "placeholder",
        "://",
        "redacted",
        "->",
        "\"",
        "=",
        "%20",
        "\\",
        "sha-",
        "secret-",
    ];
    let lower = value.to_ascii_lowercase();
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let symbols = value.len() - letters - digits;
    let mixed = letters > 0 && digits > 0 && (digits > 1 || symbols > 0 || has_both_cases(value));
    let random = plain || digits > 2 && (has_both_cases(value) || is_hex(value));
    let variable = value.starts_with(['$', '%', '/', '.', '~', '\\', '-', '=', ':', '_']);
    (8..=MAX_VALUE_BYTES).contains(&value.len())
        && mixed
        && random
        && !variable
        && symbols * 2 < value.len()
        && !EXAMPLES.iter().any(|example| lower.contains(example))
}

fn has_both_cases(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_lowercase()) && value.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_hex(value: &str) -> bool {
    value.len() >= 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Start and end of the credentials after `Bearer ` or `Basic `.
pub(super) fn after_scheme(text: &str, start: usize) -> Option<(usize, usize)> {
    let length = run(text, start, 1024, |byte| Alphabet::Path.has(byte) || matches!(byte, b'.' | b'~'));
    let token = &text[start..start + length];
    let digits = token.bytes().filter(u8::is_ascii_digit).count();
    (length >= 20 && digits > 1 && entropy(token) >= 3.5 && has_both_cases(token))
        .then_some((start, start + length))
}
