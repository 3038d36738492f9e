//! C4's rules (Raffel et al. 2020, section 2.2), as datatrove 0.10 applies them: lines are
//! dropped one by one, and what is left must hold five sentences.

use memchr::{memchr, memmem};

use super::{Check, DroppedLine, Reason, StageTrace};
use crate::text::english::Splitter;
use crate::text::{class, count_chars, is_decimal, strip, strip_end, strip_start, Class, Views};

/// Longest word of a line that is kept, in code points.
const MAX_WORD_CHARS: usize = 1000;
/// Fewest words of a line that is kept.
const MIN_LINE_WORDS: usize = 3;
/// Fewest sentences of a document.
const MIN_SENTENCES: usize = 5;

/// Lower-case phrases of which one drops a line.
const POLICY: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];
/// A text without any of these needs no look at its lines in lower case.
const SUSPICIOUS: [&str; 5] = ["lorem ipsum", "javascript", "cookie", "terms of use", "privacy policy"];
/// The one character besides the capitals of ASCII whose lower case is ASCII.
const KELVIN: &str = "\u{212a}";

/// Memory of one thread.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// A line without its citations.
    line: String,
    lower: Vec<u8>,
    /// The lines kept, from the first that is not as it stood.
    edited: String,
    splitter: Splitter,
}

/// The text without the lines that the rules drop; `None` if it is as it was.
pub(super) fn edit(
    text: &str,
    views: &mut Views,
    kept: &mut Kept,
) -> Result<Option<String>, Reason<'static>> {
    let is_suspicious = is_suspicious(text, &mut kept.lower);
    let mut page = Page::new(text, kept, is_suspicious, MIN_SENTENCES);
    let mut judged = Ok(());
    views.each_line(text, |(start, end)| {
        if judged.is_ok() {
            judged = page.take(start, end).map(drop);
        }
    });
    judged?;
    page.finish()
}

/// The rules and the lines that they drop; sentences are counted to the end.
pub(super) fn trace(text: &str, views: &mut Views, kept: &mut Kept) -> StageTrace {
    let is_suspicious = is_suspicious(text, &mut kept.lower);
    let mut page = Page::new(text, kept, is_suspicious, usize::MAX);
    let (mut dropped_lines, mut broken, mut line) = (Vec::new(), None, 0);
    views.each_line(text, |(start, end)| {
        line += 1;
        match broken.is_none().then(|| page.take(start, end)) {
            Some(Ok(Fate::Drop(reason))) => {
                dropped_lines.push(DroppedLine { line, bytes: end - start, reason });
            }
            Some(Err(reason)) => broken = Some(reason),
            Some(Ok(Fate::Keep)) | None => {}
        }
    });
    let sentences = if broken.is_some() { f64::NAN } else { page.num_sentences as f64 };
    StageTrace { checks: checks(broken, sentences), dropped_lines, ..StageTrace::default() }
}

/// `broken` is what ended the document at a line; then its sentences are not all known.
fn checks(broken: Option<Reason>, sentences: f64) -> Vec<Check> {
    let phrase = |name| Check {
        passes: broken != Some(Reason(name)),
        ..Check::new(name, f64::NAN, f64::NAN, f64::NAN)
    };
    let min = MIN_SENTENCES as f64;
    let passes = sentences.is_nan() || sentences >= min;
    let sentences = Check { passes, ..Check::new("too_few_sentences", sentences, min, f64::INFINITY) };
    vec![phrase("lorem_ipsum"), phrase("curly_bracket"), sentences]
}

/// Searches the whole text at once; in lower case.
fn is_suspicious(text: &str, lower: &mut Vec<u8>) -> bool {
    lower.clear();
    lower.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
    let holds = |needle: &str| memmem::find(lower, needle.as_bytes()).is_some();
    SUSPICIOUS.into_iter().any(holds) || holds(KELVIN)
}

/// The text while its lines are judged.
struct Page<'p> {
    text: &'p str,
    kept: &'p mut Kept,
    is_suspicious: bool,
    /// Exact only up to `counted`.
    num_sentences: usize,
    /// Sentences of further lines are not counted once there are so many.
    counted: usize,
    /// The kept lines are so far the first bytes of the text.
    is_same: bool,
    /// How many bytes those are.
    same_bytes: usize,
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    /// For this reason.
    Drop(&'static str),
}

impl<'p> Page<'p> {
    fn new(text: &'p str, kept: &'p mut Kept, is_suspicious: bool, counted: usize) -> Self {
        kept.edited.clear();
        Self { text, kept, is_suspicious, num_sentences: 0, counted, same_bytes: 0, is_same: true }
    }

    /// Judges the line between two bytes, and keeps or drops it.
    fn take(&mut self, start: usize, end: usize) -> Result<Fate, Reason<'static>> {
        let line = strip_start(&self.text[start..end]);
        let start = end - line.len();
        let line = strip_end(line);
        if has_long_word(line) {
            return Ok(Fate::Drop("long_word"));
        }
        if memchr(b'[', line.as_bytes()).is_some() {
            return self.take_cited(line, start);
        }
        let fate = self.fate(line, line, self.is_suspicious)?;
        if fate == Fate::Keep {
            self.keep(line, start);
        }
        Ok(fate)
    }

    /// What becomes of a line; `cleared` is the line without its citations.
    fn fate(&mut self, line: &str, cleared: &str, is_suspicious: bool) -> Result<Fate, Reason<'static>> {
        if !has_end_mark(cleared) {
            return Ok(Fate::Drop("no_end_mark"));
        }
        if !has_words(line) {
            return Ok(Fate::Drop("few_words"));
        }
        self.judge(cleared, is_suspicious)
    }

    /// Judges a line that may hold citations; its words are counted with them.
    fn take_cited(&mut self, line: &str, start: usize) -> Result<Fate, Reason<'static>> {
        let mut cleared = std::mem::take(&mut self.kept.line);
        remove_citations(line, &mut cleared);
        let fate = self.fate(line, &cleared, true)?;
        match fate {
            Fate::Keep if cleared.len() == line.len() => self.keep(line, start),
            Fate::Keep => self.keep_edited(&cleared),
            Fate::Drop(_) => {}
        }
        self.kept.line = cleared;
        Ok(fate)
    }

    /// Looks for what drops the line, or the whole document; counts sentences.
    fn judge(&mut self, line: &str, is_suspicious: bool) -> Result<Fate, Reason<'static>> {
        let found = if is_suspicious { phrases(line, &mut self.kept.lower) } else { Phrases::default() };
        if found.lorem_ipsum {
            return Err(Reason("lorem_ipsum"));
        }
        if found.javascript {
            return Ok(Fate::Drop("javascript"));
        }
        if memchr(b'{', line.as_bytes()).is_some() {
            return Err(Reason("curly_bracket"));
        }
        if found.policy {
            return Ok(Fate::Drop("policy"));
        }
        if self.num_sentences < self.counted {
            self.num_sentences += self.kept.splitter.count_sentences(line).max(1);
        }
        Ok(Fate::Keep)
    }

    /// Keeps a line of the text as it stands; copies nothing while no line before it was changed.
    fn keep(&mut self, line: &str, start: usize) {
        let is_first = self.same_bytes == 0;
        let follows = if is_first { start == 0 } else { self.text[self.same_bytes..start] == *"\n" };
        if self.is_same && follows {
            self.same_bytes = start + line.len();
        } else {
            self.keep_edited(line);
        }
    }

    fn keep_edited(&mut self, line: &str) {
        if std::mem::replace(&mut self.is_same, false) {
            self.kept.edited.push_str(&self.text[..self.same_bytes]);
        }
        if !self.kept.edited.is_empty() {
            self.kept.edited.push('\n');
        }
        self.kept.edited.push_str(line);
    }

    fn finish(self) -> Result<Option<String>, Reason<'static>> {
        if self.num_sentences < MIN_SENTENCES {
            return Err(Reason("too_few_sentences"));
        }
        if !self.is_same {
            return Ok(Some(strip(&self.kept.edited).to_owned()));
        }
        let is_whole = self.same_bytes == self.text.len();
        Ok((!is_whole).then(|| self.text[..self.same_bytes].to_owned()))
    }
}

fn is_space(char: char) -> bool {
    class(char) == Class::Space
}

fn has_long_word(line: &str) -> bool {
    line.len() > MAX_WORD_CHARS && line.split(is_space).any(|word| count_chars(word) > MAX_WORD_CHARS)
}

fn has_words(line: &str) -> bool {
    line.split(is_space).filter(|word| !word.is_empty()).take(MIN_LINE_WORDS).count() == MIN_LINE_WORDS
}

/// An ellipsis is no end.
fn has_end_mark(line: &str) -> bool {
    line.ends_with(['.', '?', '!', '"', '\'']) && !line.ends_with("...")
}

/// Phrases of a line that count.
#[derive(Default)]
struct Phrases {
    lorem_ipsum: bool,
    javascript: bool,
    policy: bool,
}

fn phrases(line: &str, lower: &mut Vec<u8>) -> Phrases {
    lower.clear();
    lower.extend(line.bytes().map(|byte| byte.to_ascii_lowercase()));
    if memmem::find(lower, KELVIN.as_bytes()).is_some() {
        *lower = line.to_ascii_lowercase().replace(KELVIN, "k").into_bytes();
    }
    let holds = |phrase: &str| memmem::find(lower, phrase.as_bytes()).is_some();
    Phrases {
        lorem_ipsum: holds("lorem ipsum"),
        javascript: holds("javascript"),
        policy: POLICY.into_iter().any(holds),
    }
}

/// Copies `line` without `[12]`, `[]`, `[edit]` and `[citation needed]`.
fn remove_citations(line: &str, cleared: &mut String) {
    cleared.clear();
    let mut rest = line;
    while let Some(at) = memchr(b'[', rest.as_bytes()) {
        let (before, bracket) = rest.split_at(at);
        cleared.push_str(before);
        let length = citation_bytes(bracket);
        if length == 0 {
            cleared.push('[');
        }
        rest = &bracket[length.max(1)..];
    }
    cleared.push_str(rest);
}

/// Length of the citation that begins a text with `[`; 0 if none does.
fn citation_bytes(bracket: &str) -> usize {
    let fixed = ["[edit]", "[citation needed]"].into_iter().find(|fixed| bracket.starts_with(fixed));
    if let Some(fixed) = fixed {
        return fixed.len();
    }
    let digits = bracket[1..].find(|char| !is_decimal(char));
    match digits {
        Some(digits) if bracket[1 + digits..].starts_with(']') => digits + 2,
        _ => 0,
    }
}
