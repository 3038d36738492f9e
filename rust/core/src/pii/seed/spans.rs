//! Where the four patterns match: each is sought in what the ones before it have left, and
//! its places are those of the text as it was given.

use super::super::kind::Kind;
use super::super::policy::Span;
use super::{digits, email, ip, phone, replace_all, ssn};

/// The patterns of digits, in their order.
const DIGITS: [(Kind, digits::Pattern); 3] =
    [(Kind::Phone, phone::end), (Kind::Ssn, ssn::end), (Kind::Ipv4, ip::end)];

/// What [`remove_pii`](super::remove_pii) replaces by tags, in order of place.
pub fn find_pii(text: &str) -> Vec<Span> {
    let mut pass = Pass { text: text.to_owned(), spans: Vec::new() };
    pass.take(Kind::Email, email::matches(text).collect());
    for (kind, pattern) in DIGITS {
        let starts = digits::Starts::of(&pass.text);
        let found = digits::matches(&pass.text, &starts, pattern).collect();
        pass.take(kind, found);
    }
    pass.spans
}

/// The text as the passes so far have left it, and what they replaced.
struct Pass {
    text: String,
    spans: Vec<Span>,
}

impl Pass {
    fn take(&mut self, kind: Kind, found: Vec<(usize, usize)>) {
        let mut tags = Tags { before: &self.spans, replaced: 0, written: 0 };
        let original = |&(start, end): &(usize, usize)| Span {
            start: tags.original(start),
            end: tags.original(end),
            kind,
        };
        let spans: Vec<Span> = found.iter().map(original).collect();
        if let Some((text, _)) = replace_all(&self.text, kind.tag(), found.into_iter()) {
            self.text = text;
        }
        self.spans.extend(spans);
        self.spans.sort_unstable_by_key(|span| span.start);
    }
}

/// What stands for tags, while places between them are asked for in order.
struct Tags<'s> {
    /// Those that no place was behind.
    before: &'s [Span],
    /// Bytes of the others, and of what stands for them.
    replaced: usize,
    written: usize,
}

impl Tags<'_> {
    /// The place in the text given of a place between tags, not before the last that was asked for.
    fn original(&mut self, at: usize) -> usize {
        while let Some((span, rest)) = self.before.split_first() {
            if at + self.replaced - self.written <= span.start {
                break;
            }
            self.replaced += span.end - span.start;
            self.written += span.kind.tag().len();
            self.before = rest;
        }
        at + self.replaced - self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_places_are_those_of_the_text_as_it_was_given() {
        let text = "call 555-123-4567 or a@b.org, 10.0.0.1 and 555-123-4568, [EMAIL] c@d.org";
        let found: Vec<&str> = find_pii(text).iter().map(|span| &text[span.start..span.end]).collect();
        assert_eq!(found, ["555-123-4567", "a@b.org", "10.0.0.1", "555-123-4568", "c@d.org"]);
    }

    proptest! {
        #[test]
        fn tags_at_these_places_give_what_remove_pii_gives(
            text in r"((a@b\.org|555-123-4567|123-45-6789|10\.1\.2\.3|é|\[EMAIL\]|@|\.| |-|x|7){1,3}[ .,|]?){0,8}"
        ) {
            let (mut replaced, mut copied) = (String::new(), 0);
            for span in find_pii(&text) {
                replaced.push_str(&text[copied..span.start]);
                replaced.push_str(span.kind.tag());
                copied = span.end;
            }
            replaced.push_str(&text[copied..]);
            prop_assert_eq!(replaced, super::super::remove_pii(&text).into_owned());
        }
    }
}
