//! C4's rules (Raffel et al. 2020, section 2.2), as datatrove 0.10 applies them: lines are
//! dropped one by one, and what is left must hold five sentences.

use memchr::{memchr, memmem};

use super::Reason;
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
    kept.edited.clear();
    let mut page = Page { text, kept, is_suspicious, num_sentences: 0, same_bytes: 0, is_same: true };
    views.lines(text).iter().try_for_each(|(start, end)| page.take(*start, *end))?;
    page.finish()
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
    /// Exact only up to the least that passes.
    num_sentences: usize,
    /// The kept lines are so far the first bytes of the text.
    is_same: bool,
    /// How many bytes those are.
    same_bytes: usize,
}

/// What becomes of a line.
#[derive(PartialEq, Eq)]
enum Fate {
    Keep,
    Drop,
}

impl Page<'_> {
    /// Judges the line between two bytes, and keeps or drops it.
    fn take(&mut self, start: usize, end: usize) -> Result<(), Reason<'static>> {
        let line = strip_start(&self.text[start..end]);
        let start = end - line.len();
        let line = strip_end(line);
        if has_long_word(line) {
            return Ok(());
        }
        if memchr(b'[', line.as_bytes()).is_some() {
            return self.take_cited(line, start);
        }
        if has_end_mark(line) && has_words(line) && self.judge(line, self.is_suspicious)? == Fate::Keep {
            self.keep(line, start);
        }
        Ok(())
    }

    /// Judges a line that may hold citations; its words are counted with them.
    fn take_cited(&mut self, line: &str, start: usize) -> Result<(), Reason<'static>> {
        let mut cleared = std::mem::take(&mut self.kept.line);
        remove_citations(line, &mut cleared);
        let is_kept = has_end_mark(&cleared) && has_words(line) && self.judge(&cleared, true)? == Fate::Keep;
        match is_kept {
            true if cleared.len() == line.len() => self.keep(line, start),
            true => self.keep_edited(&cleared),
            false => {}
        }
        self.kept.line = cleared;
        Ok(())
    }

    /// Looks for what drops the line, or the whole document; counts sentences.
    fn judge(&mut self, line: &str, is_suspicious: bool) -> Result<Fate, Reason<'static>> {
        let found = if is_suspicious { phrases(line, &mut self.kept.lower) } else { Phrases::default() };
        if found.lorem_ipsum {
            return Err(Reason("lorem_ipsum"));
        }
        if found.javascript {
            return Ok(Fate::Drop);
        }
        if memchr(b'{', line.as_bytes()).is_some() {
            return Err(Reason("curly_bracket"));
        }
        if found.policy {
            return Ok(Fate::Drop);
        }
        if self.num_sentences < MIN_SENTENCES {
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
