//! Personal data, replaced by tags: the four patterns of the `seed` profile.
//!
//! Each pattern gives what Python 3.11's `re.sub` gives, over the result of the one
//! before. The scanners are anchored on what is rare, `@` or the start of a run of
//! digits, and look at a bounded neighbourhood from there, so that time is linear
//! in the text whatever the text; a text without a match is not copied.

mod digits;
mod email;
mod ip;
mod phone;
mod spans;
mod ssn;

use std::borrow::Cow;

pub use spans::find_pii;

/// Counts of what was replaced, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PiiCounts {
    /// Addresses replaced by `[EMAIL]`.
    pub email: u64,
    /// Telephone numbers replaced by `[PHONE]`.
    pub phone: u64,
    /// Social security numbers replaced by `[SSN]`.
    pub ssn: u64,
    /// IPv4 addresses replaced by `[IP]`.
    pub ip: u64,
}

/// Replaces email addresses, telephone numbers, SSNs and IPv4 addresses by tags.
pub fn remove_pii(text: &str) -> Cow<'_, str> {
    remove_pii_counted(text, &mut PiiCounts::default())
}

/// As [`remove_pii`], adding up what was replaced.
pub fn remove_pii_counted<'t>(text: &'t str, counts: &mut PiiCounts) -> Cow<'t, str> {
    let mut text = Cow::Borrowed(text);
    counts.email += apply(&mut text, email::substitute);
    let mut starts = digits::Starts::of(&text);
    for (pattern, tag, count) in [
        (phone::end as digits::Pattern, "[PHONE]", &mut counts.phone),
        (ssn::end, "[SSN]", &mut counts.ssn),
        (ip::end, "[IP]", &mut counts.ip),
    ] {
        if starts.is_empty() {
            break;
        }
        let replaced = apply(&mut text, |text| digits::substitute(text, &starts, pattern, tag));
        if replaced > 0 {
            starts = digits::Starts::of(&text);
        }
        *count += replaced;
    }
    text
}

/// Runs one pass and takes its result, if it changed anything.
fn apply(text: &mut Cow<'_, str>, pass: impl FnOnce(&str) -> Option<(String, u64)>) -> u64 {
    let Some((changed, count)) = pass(text) else { return 0 };
    *text = Cow::Owned(changed);
    count
}

/// The text with every match `(start, end)` replaced by `tag`; `None` without one.
fn replace_all(
    text: &str,
    tag: &str,
    matches: impl Iterator<Item = (usize, usize)>,
) -> Option<(String, u64)> {
    let mut matches = matches.peekable();
    matches.peek()?;
    let mut changed = String::with_capacity(text.len() + tag.len());
    let (mut copied, mut count) = (0, 0);
    for (start, end) in matches {
        changed.push_str(&text[copied..start]);
        changed.push_str(tag);
        (copied, count) = (end, count + 1);
    }
    changed.push_str(&text[copied..]);
    Some((changed, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_text_without_a_match_is_not_copied() {
        assert!(matches!(remove_pii("at 10:30, see a@b and 1.2.3"), Cow::Borrowed(_)));
    }

    #[test]
    fn adversarial_texts_of_a_megabyte_take_linear_time() {
        for unit in
            ["a.", "1.", "@", "7", "a@b.c|d", "a@a.", "a@1.", "123-", "1.1.1.", "٣", "é@b.", "|a@b.||"]
        {
            let text = unit.repeat((1 << 20) / unit.len());
            let start = Instant::now();
            remove_pii(&text);
            // Quadratic time would be hours; the bound leaves room for a busy machine.
            assert!(start.elapsed().as_secs() < 5, "`{unit}` repeated took {:?}", start.elapsed());
        }
    }
}
