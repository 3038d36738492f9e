//! Dolma's personal data (tagger `pii_regex_with_counts_fast_v2` and what the mixer does with it): more than
//! five finds reject the document, fewer become ` |||EMAIL_ADDRESS||| ` and the like.
//!
//! The patterns are Dolma's, faults and all: an email address must be followed by white space, a phone
//! number must follow it, and an IP address has no boundaries. `pii` is the policy that has none of these.

use std::sync::LazyLock;

use memchr::memchr;
use regex::Regex;

use super::{Check, Reason};
use crate::text::{class, strip, Class};

const REASON: Reason = Reason("dolma_personal_data");
/// Most finds of a document that is kept.
const MAX_FINDS: usize = 5;
/// Dolma looks for nothing in a text with more question marks than these.
const MAX_QUESTION_MARKS: usize = 10_000;

/// Where a kind was found, in bytes.
type Find = (usize, usize, &'static str);

// `\s` of Python has U+001C-001F as well, and `\d` ends with Unicode 14.
const EMAIL: &str =
    r"[.\s\x1c-\x1f@,?!;:)(]*([^\s\x1c-\x1f@]+@[^\s\x1c-\x1f@,?!;:)(]+?)[.\s\x1c-\x1f@,?!;:)(]?[\s\x1c-\x1f]";
const PHONE: &str = r"[\s\x1c-\x1f]+\(?(?:D{3})\)?[-. ]*(?:D{3})[-. ]?(?:D{4})";
const IP: &str = r"(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)";
/// Decimal digits that are younger than Unicode 14.
const DIGIT: &str = r"[\d--[\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11de0}-\x{11de9}\x{11f50}-\x{11f59}\x{1ccf0}-\x{1ccf9}\x{1e4f0}-\x{1e4f9}\x{1e5f1}-\x{1e5fa}]]";

struct Patterns {
    email: Regex,
    phone: Regex,
    ip: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        email: Regex::new(EMAIL).ok()?,
        phone: Regex::new(&PHONE.replace('D', DIGIT)).ok()?,
        ip: Regex::new(IP).ok()?,
    })
});

/// The text with its personal data replaced; `None` if it has none.
pub(super) fn edit(text: &str, finds: &mut Vec<Find>) -> Result<Option<String>, Reason<'static>> {
    find_all(text, finds);
    match finds.len() {
        0 => Ok(None),
        1..=MAX_FINDS => Ok(Some(replace(text, finds))),
        _ => Err(REASON),
    }
}

/// The rule with its value, for who wants to see both.
pub(super) fn check(text: &str, finds: &mut Vec<Find>) -> Check {
    find_all(text, finds);
    let check = Check::new(REASON.name(), finds.len() as f64, f64::NEG_INFINITY, MAX_FINDS as f64);
    Check { passes: finds.len() <= MAX_FINDS, ..check }
}

fn find_all(text: &str, finds: &mut Vec<Find>) {
    finds.clear();
    let num_question_marks = memchr::memchr_iter(b'?', text.as_bytes()).count();
    if let Some(patterns) = PATTERNS.as_ref().filter(|_| num_question_marks <= MAX_QUESTION_MARKS) {
        let mut start = 0;
        for paragraph in text.split_inclusive('\n') {
            patterns.find(paragraph, start, finds);
            start += paragraph.len();
        }
    }
}

impl Patterns {
    /// Appends what a paragraph holds; `start` is where it begins in the text.
    fn find(&self, paragraph: &str, start: usize, finds: &mut Vec<Find>) {
        if strip(paragraph).is_empty() {
            return;
        }
        if memchr(b'@', paragraph.as_bytes()).is_some() {
            for found in self.email.captures_iter(paragraph) {
                if let (Some(whole), Some(address)) = (found.get(0), found.get(1)) {
                    if is_address(address.as_str()) {
                        finds.push((start + whole.start(), start + whole.end(), " |||EMAIL_ADDRESS||| "));
                    }
                }
            }
        }
        if may_hold_digits(paragraph) {
            let phones = self.phone.find_iter(paragraph);
            finds.extend(phones.map(|m| (start + m.start(), start + m.end(), " |||PHONE_NUMBER||| ")));
            let ips = self.ip.find_iter(paragraph);
            finds.extend(ips.map(|m| (start + m.start(), start + m.end(), " |||IP_ADDRESS||| ")));
        }
    }
}

/// An addressee that is more than a bracket, and a domain with a full stop.
fn is_address(address: &str) -> bool {
    let Some((addressee, domain)) = address.split_once('@') else { return false };
    addressee != "(" && domain.contains('.')
}

fn may_hold_digits(paragraph: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte >= 0x80;
    paragraph.as_bytes().iter().any(is_digit) && paragraph.chars().any(|char| class(char) == Class::Decimal)
}

/// Of finds that overlap, the one that begins first stays.
fn replace(text: &str, finds: &mut [Find]) -> String {
    finds.sort_by_key(|find| find.0);
    let (mut edited, mut done) = (String::with_capacity(text.len() + 24 * finds.len()), 0);
    for (start, end, tag) in finds {
        if *start >= done {
            edited.push_str(&text[done..*start]);
            edited.push_str(tag);
            done = *end;
        }
    }
    edited.push_str(&text[done..]);
    edited
}
