//! What is done with a match, and how its replacement is written.

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::pseudonym::Key;

/// What is done with the matches of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Not looked for.
    #[default]
    Off,
    /// Counted and left.
    Count,
    /// Replaced by its type, as `[EMAIL]`.
    Placeholder,
    /// Removed; a space takes its place where words would join.
    Redact,
    /// Replaced by a value that depends on the key and the value only.
    Pseudonym,
    /// Written with `*`, but for the last four digits, the domain or the network.
    Mask,
    /// The document is rejected, with the reason `pii_<kind>`.
    Drop,
}

impl Action {
    /// True if the text changes.
    pub(super) fn rewrites(self) -> bool {
        matches!(self, Self::Placeholder | Self::Redact | Self::Pseudonym | Self::Mask)
    }
}

/// Appends to `out` what stands for `value`; `next` follows it in the text.
pub(super) fn write(
    action: Action,
    kind: Kind,
    value: &str,
    next: Option<char>,
    key: Option<&Key>,
    out: &mut String,
) {
    match (action, key) {
        (Action::Placeholder, _) => out.push_str(kind.tag()),
        (Action::Mask, _) => mask(kind, value, out),
        (Action::Pseudonym, Some(key)) => key.write(kind, value, out),
        (Action::Redact, _) => {
            let open = |char: char| !char.is_whitespace();
            if out.chars().next_back().is_some_and(open) && next.is_some_and(open) {
                out.push(' ');
            }
        }
        _ => out.push_str(value),
    }
}

fn mask(kind: Kind, value: &str, out: &mut String) {
    match kind {
        Kind::Secret => out.push_str("********"),
        Kind::Email => mask_local(value, out),
        Kind::Ipv4 => keep_first(value, '.', 2, "*.*", out),
        Kind::Ipv6 => keep_first(value, ':', 2, "*", out),
        Kind::Mac | Kind::Crypto | Kind::Iban | Kind::Card | Kind::Ssn | Kind::Phone => {
            keep_last_four(value, out);
        }
    }
}

/// `***@host.org`; an address that spells its `at` has no domain to keep.
fn mask_local(value: &str, out: &mut String) {
    out.push_str("***");
    if let Some(sign) = value.rfind('@') {
        out.push_str(&value[sign..]);
    }
}

fn keep_first(value: &str, mark: char, count: usize, rest: &str, out: &mut String) {
    for part in value.split(mark).take(count) {
        out.push_str(part);
        out.push(mark);
    }
    out.push_str(rest);
}

/// Letters and digits become `*` but for the last four; what parts them stays.
fn keep_last_four(value: &str, out: &mut String) {
    let total = value.bytes().filter(u8::is_ascii_alphanumeric).count();
    let mut seen = 0;
    for char in value.chars() {
        let counts = char.is_ascii_alphanumeric();
        seen += usize::from(counts);
        out.push(if counts && seen + 4 <= total { '*' } else { char });
    }
}
