//! One policy for personal data: what is looked for, and what is done with it.

use std::borrow::Cow;
use std::ops::Range;

use super::action::{self, Action};
use super::config::PolicyConfig;
use super::find;
use super::kind::{Kind, KindCounts, KINDS};
use super::phone::Region;
use super::pseudonym::Key;
use super::settle;
use crate::error::{Error, Result};
use crate::text::char_at;

/// How far around a replacement another match can begin that it makes possible.
pub(super) const REACH_BYTES: usize = 320;
/// Rounds over the whole text. What a list of values under one word needs beyond them, one value after the other,
/// is done in windows, as each round takes time for all of its text.
const MAX_ROUNDS: usize = 8;

/// A match: bytes `start..end` of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Finders {
    wanted: [bool; KINDS.len()],
    pub(super) regions: Vec<Region>,
    pub(super) public_only: bool,
    pub(super) obfuscated: bool,
}

impl Finders {
    #[inline]
    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.wanted[kind as usize]
    }
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    found: Vec<Span>,
    taken: Vec<Span>,
    merged: Vec<Span>,
    replaced: Vec<Range<usize>>,
}

impl Scratch {
    /// The matches found last.
    pub(super) fn taken(&self) -> &[Span] {
        &self.taken
    }
}

/// What is done with personal data; made once, used by all threads.
#[derive(Debug, Clone)]
pub struct Policy {
    actions: [Action; KINDS.len()],
    finders: Finders,
    key: Option<Key>,
}

impl Policy {
    /// A policy as configured; the key of pseudonyms is read here, if one is needed.
    ///
    /// # Errors
    /// `InvalidValue` for an unknown region or a key that is missing or short, `Io` for its file.
    pub fn new(config: &PolicyConfig) -> Result<Self> {
        let actions: [Action; KINDS.len()] = std::array::from_fn(|index| config.action(KINDS[index].kind));
        let key = actions.contains(&Action::Pseudonym).then(|| checked_key(config)).transpose()?;
        let regions = config.regions().iter().map(|name| region(name)).collect::<Result<_>>()?;
        let finders = Finders {
            wanted: actions.map(|action| action != Action::Off),
            regions,
            public_only: config.ipv4.as_ref().is_some_and(|setting| setting.public_only),
            obfuscated: config.email.as_ref().is_some_and(|setting| setting.obfuscated),
        };
        Ok(Self { actions, finders, key })
    }

    /// What tells the key of pseudonyms from others, if there is one: see [`PolicyConfig::key_check`].
    pub fn key_check(&self) -> Option<String> {
        self.key.as_ref().map(Key::check)
    }

    /// True if no kind is looked for.
    pub fn is_off(&self) -> bool {
        self.actions.iter().all(|action| *action == Action::Off)
    }

    /// The matches of all kinds that are not off, sorted, none overlapping another. Where kinds overlap, the one
    /// that stands first in [`KINDS`] is taken.
    pub fn find<'s>(&self, text: &str, scratch: &'s mut Scratch) -> &'s [Span] {
        scratch.found.clear();
        find::candidates(text, 0..text.len(), &self.finders, &mut scratch.found);
        find::resolve(&mut scratch.found, &mut scratch.taken, &mut scratch.merged);
        &scratch.taken
    }

    /// The text with every match dealt with, and the matches added to `counts`. A second time changes nothing.
    ///
    /// # Errors
    /// The kind for which the document is to be rejected; `counts` then holds what it holds.
    pub fn apply<'t>(
        &self,
        text: &'t str,
        scratch: &mut Scratch,
        counts: &mut KindCounts,
    ) -> std::result::Result<Cow<'t, str>, Kind> {
        match self.rounds(text, MAX_ROUNDS, scratch, counts, |_, _| ())? {
            Cow::Owned(rewritten) if !scratch.replaced.is_empty() => {
                settle::to_the_end(self, &rewritten, scratch, counts).map(Cow::Owned)
            }
            done => Ok(done),
        }
    }

    /// As [`Policy::apply`]; `tell` hears the text of each round and the matches in it, before it is rewritten.
    ///
    /// # Errors
    /// As of [`Policy::apply`]; the round of that kind is told too.
    pub fn apply_told<'t>(
        &self,
        text: &'t str,
        scratch: &mut Scratch,
        counts: &mut KindCounts,
        tell: impl FnMut(&str, &[Span]),
    ) -> std::result::Result<Cow<'t, str>, Kind> {
        self.rounds(text, text.len().max(1), scratch, counts, tell)
    }

    /// The text after at most so many rounds; where the last one replaced something stands in `scratch.replaced`.
    fn rounds<'t>(
        &self,
        text: &'t str,
        most: usize,
        scratch: &mut Scratch,
        counts: &mut KindCounts,
        mut tell: impl FnMut(&str, &[Span]),
    ) -> std::result::Result<Cow<'t, str>, Kind> {
        tell(text, self.find(text, scratch));
        self.account(&scratch.taken, counts)?;
        if !scratch.taken.iter().any(|span| self.action(span.kind).rewrites()) {
            return Ok(Cow::Borrowed(text));
        }
        let mut rewritten = self.rewrite(text, scratch);
        for _ in 1..most {
            self.find_around(&rewritten, scratch);
            if scratch.taken.is_empty() {
                scratch.replaced.clear();
                break;
            }
            tell(&rewritten, &scratch.taken);
            self.account(&scratch.taken, counts)?;
            rewritten = self.rewrite(&rewritten, scratch);
        }
        Ok(Cow::Owned(rewritten))
    }

    /// What is done with the matches of a kind.
    pub fn action(&self, kind: Kind) -> Action {
        self.actions[kind as usize]
    }

    /// What is written in place of a match; `None` if it stays.
    pub fn replacement(&self, text: &str, span: &Span) -> Option<String> {
        let action = self.action(span.kind);
        let mut out = text[..span.start].chars().next_back().map(String::from).unwrap_or_default();
        let (before, next) = (out.len(), char_at(text, span.end));
        let value = &text[span.start..span.end];
        action.rewrites().then(|| {
            action::write(action, span.kind, value, next, self.key.as_ref(), &mut out);
            out.split_off(before)
        })
    }

    pub(super) fn account(&self, spans: &[Span], counts: &mut KindCounts) -> std::result::Result<(), Kind> {
        for span in spans {
            counts.add(span.kind, 1);
        }
        let dropped =
            spans.iter().map(|span| span.kind).filter(|kind| self.action(*kind) == Action::Drop).min();
        dropped.map_or(Ok(()), Err)
    }

    /// The text with the spans of `scratch.taken` replaced; where they went stands in `scratch.replaced`.
    pub(super) fn rewrite(&self, text: &str, scratch: &mut Scratch) -> String {
        scratch.replaced.clear();
        let mut out = String::with_capacity(text.len() + 16 * scratch.taken.len());
        let mut copied = 0;
        for span in scratch.taken.iter().filter(|span| self.action(span.kind).rewrites()) {
            out.push_str(&text[copied..span.start]);
            let (from, value, next) = (out.len(), &text[span.start..span.end], char_at(text, span.end));
            action::write(self.action(span.kind), span.kind, value, next, self.key.as_ref(), &mut out);
            scratch.replaced.push(from..out.len());
            copied = span.end;
        }
        out.push_str(&text[copied..]);
        out
    }

    /// What replacements made possible: matches that begin near one and are to be replaced or to reject.
    fn find_around(&self, text: &str, scratch: &mut Scratch) {
        scratch.found.clear();
        let mut done = 0;
        for replaced in &scratch.replaced {
            let from = floor(text, replaced.start.saturating_sub(REACH_BYTES)).max(done);
            done = floor(text, text.len().min(replaced.end + REACH_BYTES)).max(from);
            find::candidates(text, from..done, &self.finders, &mut scratch.found);
        }
        self.take_found(scratch);
    }

    /// The same for what begins in `range`, wherever replacements were.
    pub(super) fn find_within(&self, text: &str, range: Range<usize>, scratch: &mut Scratch) {
        scratch.found.clear();
        find::candidates(text, range, &self.finders, &mut scratch.found);
        self.take_found(scratch);
    }

    fn take_found(&self, scratch: &mut Scratch) {
        find::resolve(&mut scratch.found, &mut scratch.taken, &mut scratch.merged);
        scratch.taken.retain(|span| self.action(span.kind) != Action::Count);
    }
}

/// The last character boundary at or before `at`.
pub(super) fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn region(name: &str) -> Result<Region> {
    Region::named(name).ok_or_else(|| Error::InvalidValue {
        what: "`regions` of `phone`".to_owned(),
        expected: "codes of ISO 3166-1, as `GB`".to_owned(),
        found: format!("`{name}`"),
    })
}

/// The key, if it is the one that the configuration speaks of.
fn checked_key(config: &PolicyConfig) -> Result<Key> {
    let key = key(config)?;
    match &config.key_check {
        Some(check) if *check != key.check() => Err(Error::InvalidValue {
            what: "key of pseudonyms".to_owned(),
            expected: format!("the key whose `key_check` is {check:?}"),
            found: format!("one whose `key_check` is {:?}", key.check()),
        }),
        _ => Ok(key),
    }
}

fn key(config: &PolicyConfig) -> Result<Key> {
    match (&config.key_env, &config.key_file) {
        (Some(name), None) => Key::from_env(name),
        (None, Some(path)) => Key::from_file(path),
        (env, _) => Err(Error::InvalidValue {
            what: "key of pseudonyms".to_owned(),
            expected: "one of `key_env` and `key_file`".to_owned(),
            found: if env.is_some() { "both" } else { "neither" }.to_owned(),
        }),
    }
}
