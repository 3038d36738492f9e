//! Personal data of one document: where it stands and what becomes of it, never what it is.

use std::ops::Range;

use serde::Serialize;

use crate::pii::{self, Kind, KindCounts, Policy, Span};
use crate::profile::Pii;
use crate::text::count_chars;

/// What the profile makes of personal data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PiiVerdict {
    /// `off`, `seed` (the four patterns) or `policy`.
    pub by: &'static str,
    /// What was found, round by round, in order.
    pub spans: Vec<PiiSpan>,
    /// The kind for which the document is rejected, as `pii_email`.
    pub reason: Option<String>,
}

/// One match.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PiiSpan {
    /// Its kind, as `email`.
    pub kind: &'static str,
    /// 1 in the text as it was read; from 2 on in what the round before made of it, as a replacement can
    /// make another match possible.
    pub round: usize,
    /// Its bytes in the text of its round.
    pub bytes: Range<usize>,
    /// Its line in that text, from 1.
    pub line: usize,
    /// Its length in code points.
    pub num_chars: usize,
    /// Its first and last character.
    pub masked: String,
    /// What is done with it, as `mask`.
    pub action: String,
    /// What stands in its place; `None` if it stays.
    pub replacement: Option<String>,
}

/// Finds what the profile does, in the text as it was read and in what replacements make of it.
pub(super) fn find(pii: &Pii, text: &str, reason: Option<&str>) -> PiiVerdict {
    let (by, spans) = match pii {
        Pii::Leave => ("off", Vec::new()),
        Pii::Seed => {
            let placeholder = |span: &Span| ("placeholder".to_owned(), Some(span.kind.tag().to_owned()));
            ("seed", tell(1, text, &pii::find_pii(text), placeholder))
        }
        Pii::Policy(policy) => ("policy", every_round(policy, text)),
    };
    PiiVerdict { by, spans, reason: reason.map(str::to_owned) }
}

fn every_round(policy: &Policy, text: &str) -> Vec<PiiSpan> {
    let (mut spans, mut round) = (Vec::new(), 0);
    // What rejects the text is told like the rest.
    let _ =
        policy.apply_told(text, &mut pii::Scratch::default(), &mut KindCounts::default(), |text, found| {
            round += 1;
            spans.extend(tell(round, text, found, |span| dealt_with(policy, text, span)));
        });
    spans
}

fn dealt_with(policy: &Policy, text: &str, span: &Span) -> (String, Option<String>) {
    let action = serde_json::to_value(policy.action(span.kind)).unwrap_or_default();
    (action.as_str().unwrap_or_default().to_owned(), policy.replacement(text, span))
}

fn tell(
    round: usize,
    text: &str,
    found: &[Span],
    action: impl Fn(&Span) -> (String, Option<String>),
) -> Vec<PiiSpan> {
    let (mut line, mut counted) = (1, 0);
    let tell = |span: &Span| {
        line += memchr::memchr_iter(b'\n', &text.as_bytes()[counted..span.start]).count();
        counted = span.start;
        let value = &text[span.start..span.end];
        let (action, replacement) = action(span);
        PiiSpan {
            kind: Kind::name(span.kind),
            round,
            bytes: span.start..span.end,
            line,
            num_chars: count_chars(value),
            masked: mask(value),
            action,
            replacement,
        }
    };
    found.iter().map(tell).collect()
}

/// First and last character, with as many `*` between; of fewer than five, none is shown.
fn mask(value: &str) -> String {
    let num_chars = count_chars(value);
    let mut ends = (value.chars().next(), value.chars().next_back());
    if num_chars < 5 {
        ends = (Some('*'), Some('*'));
    }
    let between = "*".repeat(num_chars.saturating_sub(2).min(32));
    format!("{}{between}{}", ends.0.unwrap_or('*'), ends.1.unwrap_or('*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pii::{Action, PolicyConfig};

    #[test]
    fn a_span_says_its_place_and_fate_but_never_its_value() {
        let text = "first\nto ann@example.org and\n4111 1111 1111 1111";
        let policy = Policy::new(&PolicyConfig::all(Action::Placeholder)).unwrap();
        let verdict = find(&Pii::Policy(policy.into()), text, None);
        let told: Vec<_> = verdict.spans.iter().map(|span| (span.kind, span.line, &*span.masked)).collect();
        assert_eq!(told, [("email", 2, "a*************g"), ("card", 3, "4*****************1")]);
        assert_eq!(verdict.spans[0].replacement.as_deref(), Some("[EMAIL]"));
        assert!(!serde_json::to_string(&verdict).unwrap().contains("example"));
    }
    #[test]
    fn what_a_replacement_makes_possible_is_told_with_its_round() {
        let text = "see ann@example.org078-05-1120 now";
        let policy = Policy::new(&PolicyConfig::all(Action::Placeholder)).unwrap();
        let mut counts = KindCounts::default();
        let cleaned = policy.apply(text, &mut pii::Scratch::default(), &mut counts).unwrap();
        assert_eq!(cleaned, "see [EMAIL][SSN] now");
        let verdict = find(&Pii::Policy(policy.clone().into()), text, None);
        let told: Vec<_> =
            verdict.spans.iter().map(|span| (span.round, span.kind, span.bytes.clone())).collect();
        assert_eq!(told, [(1, "email", 4..19), (2, "ssn", 11..22)]);
    }
}
