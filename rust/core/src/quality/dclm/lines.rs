//! The lines that DCLM drops or shortens, and the share of words that may go with them.
//!
//! Each step goes over the whole text and strips it, as in DCLM: what one leaves at either end of the text,
//! the next sees without its white space.

use super::{lower, EMPTY};
use crate::quality::Reason;
use crate::text::{class, is_decimal, is_word, strip, strip_start, Class};

/// Largest share of upper-case characters of a line that is kept.
const MAX_UPPERCASE_FRACTION: f64 = 0.5;
/// Largest share of digits.
const MAX_DIGIT_FRACTION: f64 = 0.999_999;
/// Fewest words of a line that is kept.
const MIN_LINE_WORDS: usize = 2;
/// Most words of a line that may be a button.
const MAX_BUTTON_WORDS: usize = 10;
/// Largest share of the words of a document that may go.
const MAX_REMOVED_FRACTION: f64 = 0.05;

/// What becomes of a line.
#[derive(PartialEq, Eq)]
enum Fate {
    Keep,
    Drop,
    /// What is left of it is in the buffer.
    Cut,
}

type Judge = fn(&str, &mut String) -> Fate;

/// The steps in order, and whether the text is stripped after each.
const STEPS: [(Judge, bool); 7] = [
    (drop_capitals, true),
    (drop_digits, true),
    (drop_counter, true),
    (drop_short, false),
    (|line, rest| cut(line, rest, cut_cart), true),
    (|line, rest| cut(line, rest, cut_read_more), true),
    (|line, rest| cut(line, rest, cut_sign_in), true),
];

/// Memory of one thread.
#[derive(Debug, Default)]
pub(in crate::quality) struct Edited {
    text: String,
    spare: String,
    line: String,
}

/// The text with its lines edited; `None` if it stays.
pub(in crate::quality) fn edit(text: &str, edited: &mut Edited) -> Result<Option<String>, Reason<'static>> {
    edited.text.clear();
    edited.text.push_str(text);
    for (judge, is_stripped) in STEPS {
        edited.step(judge, is_stripped);
        if edited.text.is_empty() {
            return Err(EMPTY);
        }
    }
    if edited.text.len() == text.len() {
        return Ok(None);
    }
    let (before, after) = (count_words(text), count_words(&edited.text));
    let removed = (before as f64 - after as f64) / before as f64;
    if before == 0 || removed > MAX_REMOVED_FRACTION {
        return Err(Reason("dclm_words_removed"));
    }
    Ok(Some(edited.text.clone()))
}

impl Edited {
    fn step(&mut self, judge: Judge, is_stripped: bool) {
        let Self { text, spare, line: rest } = self;
        let is_kept = |line: &str| judge(line, rest) == Fate::Keep;
        if !text.split('\n').all(is_kept) {
            rewrite(text, spare, rest, judge);
            std::mem::swap(text, spare);
        }
        let stripped = strip(text);
        if is_stripped && stripped.len() < text.len() {
            spare.clear();
            spare.push_str(stripped);
            std::mem::swap(text, spare);
        }
    }
}

/// Copies the lines that stay, and what is left of those that are cut.
fn rewrite(text: &str, edited: &mut String, rest: &mut String, judge: Judge) {
    edited.clear();
    let mut is_first = true;
    for line in text.split('\n') {
        let kept = match judge(line, rest) {
            Fate::Keep => line,
            Fate::Cut => rest,
            Fate::Drop => continue,
        };
        if !std::mem::replace(&mut is_first, false) {
            edited.push('\n');
        }
        edited.push_str(kept);
    }
}

/// Words of fastText that begin with a letter, a digit or a numeral.
pub(super) fn count_words(text: &str) -> usize {
    let is_end = |char: char| matches!(char, ' ' | '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\0');
    let begins = |word: &&str| word.starts_with(|char| class(char).is_alnum());
    text.split(is_end).filter(begins).count()
}

fn fraction(line: &str, is_counted: impl Fn(char) -> bool) -> f64 {
    let (mut num_chars, mut num_counted) = (0_usize, 0_usize);
    for char in line.chars() {
        num_chars += 1;
        num_counted += usize::from(is_counted(char));
    }
    num_counted as f64 / num_chars as f64
}

fn drop_if(is_dropped: bool) -> Fate {
    if is_dropped {
        Fate::Drop
    } else {
        Fate::Keep
    }
}

fn drop_capitals(line: &str, _: &mut String) -> Fate {
    drop_if(fraction(line, is_uppercase) > MAX_UPPERCASE_FRACTION)
}

fn drop_digits(line: &str, _: &mut String) -> Fate {
    drop_if(fraction(line, is_digit) > MAX_DIGIT_FRACTION)
}

/// `str.isupper()` of one character, Unicode 14.
fn is_uppercase(char: char) -> bool {
    let is_letter_like = |char: char| {
        class(char) != Class::Other
            || matches!(char, 'Ⓐ'..='Ⓩ' | '\u{1f130}'..='\u{1f149}' | '\u{1f150}'..='\u{1f169}' | '\u{1f170}'..='\u{1f189}')
    };
    char.is_uppercase() && (char.is_ascii() || is_letter_like(char))
}

/// `str.isdigit()`, Unicode 14.
fn is_digit(char: char) -> bool {
    is_decimal(char)
        || !char.is_ascii()
            && matches!(char,
                '²' | '³' | '¹' | '\u{1369}'..='\u{1371}' | '\u{19da}' | '⁰' | '⁴'..='⁹' | '₀'..='₉'
                | '①'..='⑨' | '⑴'..='⑼' | '⒈'..='⒐' | '⓪' | '⓵'..='⓽' | '⓿' | '❶'..='❾' | '➀'..='➈'
                | '➊'..='➒' | '\u{10a40}'..='\u{10a43}' | '\u{10e60}'..='\u{10e68}'
                | '\u{11052}'..='\u{1105a}' | '\u{1f100}'..='\u{1f10a}')
}

/// What is counted below a page.
const COUNTED: [&str; 12] = [
    "likes",
    "shares",
    "comments",
    "retweets",
    "reposts",
    "quotes",
    "bookmarks",
    "upvotes",
    "downvotes",
    "downloads",
    "views",
    "followers",
];

/// `3 likes`, `1,204K views`.
fn drop_counter(line: &str, rest: &mut String) -> Fate {
    let is_mark = |char: char| !is_word(char);
    let number = line.trim_start_matches(is_mark);
    if !number.starts_with(is_decimal) {
        return Fate::Keep;
    }
    rest.clear();
    rest.extend(number.chars().flat_map(char::to_lowercase));
    let unit = rest.trim_start_matches(|char| is_decimal(char) || char == ',' || char == '.');
    let unit = unit.strip_prefix(['k', 'm', 'b']).unwrap_or(unit);
    let counted = strip_start(unit);
    drop_if(counted.len() < unit.len() && COUNTED.contains(&counted.trim_end_matches(is_mark)))
}

fn num_words(line: &str) -> usize {
    line.split(|char| class(char) == Class::Space).filter(|word| !word.is_empty()).count()
}

fn drop_short(line: &str, _: &mut String) -> Fate {
    drop_if(!line.is_empty() && num_words(line) < MIN_LINE_WORDS)
}

/// Cuts phrases out of a short line; a line of which nothing is left is dropped.
fn cut(line: &str, rest: &mut String, cut_phrases: fn(&str, &mut String)) -> Fate {
    if line.is_empty() || num_words(line) > MAX_BUTTON_WORDS {
        return Fate::Keep;
    }
    rest.clear();
    cut_phrases(line, rest);
    match rest {
        _ if strip(rest).is_empty() => Fate::Drop,
        _ if rest.len() == line.len() => Fate::Keep,
        _ => Fate::Cut,
    }
}

/// Length of the phrase that a line begins with, in any case; a full stop stands for any character.
fn phrase_bytes(line: &str, phrase: &str) -> Option<usize> {
    let (mut length, mut chars) = (0, line.chars());
    for wanted in phrase.chars() {
        let char = chars.next()?;
        if wanted != '.' && !lower(char).eq([wanted]) {
            return None;
        }
        length += char.len_utf8();
    }
    Some(length)
}

fn space_bytes(line: &str) -> usize {
    line.chars().next().filter(|char| class(*char) == Class::Space).map_or(0, char::len_utf8)
}

fn cut_cart(line: &str, rest: &mut String) {
    let mut tail = line;
    while let Some(char) = tail.chars().next() {
        let space = space_bytes(tail);
        if let Some(length) = phrase_bytes(&tail[space..], "items in cart") {
            tail = &tail[space + length..];
        } else {
            rest.push(char);
            tail = &tail[char.len_utf8()..];
        }
    }
}

fn cut_read_more(line: &str, rest: &mut String) {
    const PHRASE: &str = "read more...";
    let start = line.char_indices().rev().nth(PHRASE.len() - 1).map(|(at, _)| at);
    let end = start.filter(|start| phrase_bytes(&line[*start..], PHRASE).is_some());
    let kept = &line[..end.unwrap_or(line.len())];
    let last = kept.chars().next_back().filter(|char| end.is_some() && class(*char) == Class::Space);
    rest.push_str(&kept[..kept.len() - last.map_or(0, char::len_utf8)]);
}

fn cut_sign_in(line: &str, rest: &mut String) {
    let tail = &line[phrase_bytes(line, "sign-in").unwrap_or(0)..];
    let space = if tail.len() < line.len() { space_bytes(tail) } else { 0 };
    rest.push_str(&tail[space..]);
}
