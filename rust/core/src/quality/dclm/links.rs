//! Removes web addresses and IP addresses as DCLM does (`url_removal_modifier`), then runs of line feeds.
//!
//! Web addresses go only from texts that begin with the letters of a top-level domain, as half of all
//! English texts do ("The" begins with `th`): DCLM's first test is anchored. IP addresses always go.

use std::sync::LazyLock;

use memchr::{memchr, memchr_iter, memmem};

use super::EMPTY;
use crate::quality::Reason;
use crate::text::{class, is_boundary, is_word, Class};

/// Names of top-level domains that DCLM knows, in order.
static TLDS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("tlds.txt").lines().collect());
/// Those with characters that are not `\w`, the longest first.
static ODD_TLDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let mut odd: Vec<&str> = TLDS.iter().copied().filter(|name| !name.chars().all(is_word)).collect();
    odd.sort_by_key(|name| std::cmp::Reverse(name.len()));
    odd
});
/// Code points of the longest.
const MAX_TLD_CHARS: usize = 18;
/// Most bytes of a host before the full stop of its top-level domain.
const MAX_HOST_BYTES: usize = 256;
/// White space that goes with an address, at most.
const MAX_SPACES: usize = 10;

/// Bits of [`BYTES`].
const HOST: u8 = 1;
const PATH: u8 = 2;
/// The bytes of a host (with its user and port), and of what may follow it.
static BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut code = 0_u8;
    while code < 128 {
        let is_host =
            code.is_ascii_alphanumeric() || matches!(code, b'-' | b'@' | b':' | b'%' | b'.' | b'_' | b'+');
        let is_host = is_host || matches!(code, b'~' | b'#' | b'=');
        let is_path = is_host || matches!(code, b'(' | b')' | b'?' | b'&' | b'/');
        table[code as usize] = is_host as u8 * HOST + is_path as u8 * PATH;
        code += 1;
    }
    table
};

/// Memory of one thread.
#[derive(Debug, Default)]
pub(in crate::quality) struct Cut {
    ranges: Vec<(usize, usize)>,
    first: String,
    second: String,
}

/// The text without its addresses; `None` if it stays.
pub(in crate::quality) fn edit(text: &str, cut: &mut Cut) -> Result<Option<String>, Reason<'static>> {
    let Cut { ranges, first, second } = cut;
    let mut current = text;
    if begins_with_tld(current, first) {
        find_urls(current, ranges);
        current = without(current, ranges, first);
    }
    find_ips(current, ranges);
    current = without(current, ranges, second);
    if current.is_empty() {
        return Err(EMPTY);
    }
    let is_spread = memmem::find(current.as_bytes(), b"\n\n\n").is_some();
    if is_spread {
        return Ok(Some(with_two_feeds(current)));
    }
    Ok((current.len() < text.len()).then(|| current.to_owned()))
}

/// What is left of `text`, in `rest` if anything goes.
fn without<'t>(text: &'t str, ranges: &[(usize, usize)], rest: &'t mut String) -> &'t str {
    if ranges.is_empty() {
        return text;
    }
    rest.clear();
    let mut done = 0;
    for (start, end) in ranges {
        rest.push_str(&text[done..*start]);
        done = *end;
    }
    rest.push_str(&text[done..]);
    rest
}

/// Runs of line feeds become two at most.
fn with_two_feeds(text: &str) -> String {
    let (mut edited, mut num_feeds) = (String::with_capacity(text.len()), 0);
    for piece in text.split_inclusive('\n') {
        num_feeds = if piece == "\n" { num_feeds + 1 } else { usize::from(piece.ends_with('\n')) };
        if num_feeds <= 2 {
            edited.push_str(piece);
        }
    }
    edited
}

/// In any case, whatever follows.
fn begins_with_tld(text: &str, begin: &mut String) -> bool {
    begin.clear();
    text.chars().take(MAX_TLD_CHARS).any(|char| {
        begin.extend(super::lower(char));
        TLDS.binary_search(&begin.as_str()).is_ok()
    })
}

/// Where the top-level domain ends that begins at byte `start`, at the end of a word.
fn tld_end(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start..];
    let mut ends = rest.char_indices().filter(|(_, char)| !is_word(*char)).map(|(at, _)| at);
    let word = &rest[..ends.next().unwrap_or(rest.len())];
    if TLDS.binary_search(&word).is_ok() {
        return Some(start + word.len());
    }
    if rest.starts_with(|char: char| char.is_ascii()) {
        return None; // the odd ones begin with other scripts
    }
    let odd = ODD_TLDS.iter().filter(|name| rest.starts_with(**name)).map(|name| start + name.len());
    odd.into_iter().find(|end| is_boundary(text, *end))
}

fn run_end(text: &str, start: usize, kind: u8) -> usize {
    let run = text.as_bytes()[start..].iter().take_while(|byte| BYTES[**byte as usize] & kind != 0);
    start + run.count()
}

fn find_urls(text: &str, ranges: &mut Vec<(usize, usize)>) {
    ranges.clear();
    let mut done = 0;
    for dot in memchr_iter(b'.', text.as_bytes()) {
        if dot < done {
            continue;
        }
        if tld_end(text, dot + 1).is_none() {
            continue;
        }
        let begin = host_start(text, dot, done);
        if begin == dot {
            continue;
        }
        let is_whole = begin == done || BYTES[text.as_bytes()[begin - 1] as usize] & HOST == 0;
        let start = if is_whole { widened(text, scheme_start(text, begin, done), done) } else { begin };
        done = run_end(text, last_tld_end(text, begin, dot), PATH);
        ranges.push((start, done));
    }
}

/// The first byte of the host that ends at `dot`, at most so far back as a host is long.
fn host_start(text: &str, dot: usize, floor: usize) -> usize {
    let floor = floor.max(dot.saturating_sub(MAX_HOST_BYTES));
    let run = text.as_bytes()[floor..dot].iter().rev();
    dot - run.take_while(|byte| BYTES[**byte as usize] & HOST != 0).count()
}

/// Of all top-level domains that a host may end with, the last counts.
fn last_tld_end(text: &str, begin: usize, first_dot: usize) -> usize {
    let end = run_end(text, first_dot, HOST).min(begin + MAX_HOST_BYTES + 1);
    let dots = memchr::memrchr_iter(b'.', &text.as_bytes()[first_dot..end]);
    dots.into_iter().find_map(|at| tld_end(text, first_dot + at + 1)).unwrap_or(first_dot)
}

/// Where the `http://` begins that ends at byte `at`; `at` if none does.
fn scheme_start(text: &str, at: usize, floor: usize) -> usize {
    let before = &text[floor..at];
    let scheme = ["https://", "http://", "ftp://"].into_iter().find(|scheme| before.ends_with(scheme));
    at - scheme.map_or(0, str::len)
}

/// The start of the white space before byte `at`.
fn widened(text: &str, at: usize, floor: usize) -> usize {
    let spaces = text[floor..at].chars().rev().take(MAX_SPACES);
    at - spaces.take_while(|char| class(*char) == Class::Space).map(char::len_utf8).sum::<usize>()
}

fn find_ips(text: &str, ranges: &mut Vec<(usize, usize)>) {
    ranges.clear();
    let (bytes, mut done) = (text.as_bytes(), 0);
    for dot in memchr_iter(b'.', bytes) {
        // The first of the three full stops: one to three digits stand before it.
        let floor = done.max(dot.saturating_sub(3)).min(dot);
        let num_digits = bytes[floor..dot].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let starts = (dot - num_digits)..dot;
        let found = starts.into_iter().find(|at| is_boundary(text, *at) && is_ip(&bytes[*at..]));
        let Some(at) = found.filter(|_| dot >= done) else { continue };
        let scheme = scheme_start(text, at, done);
        let start = if is_boundary(text, scheme) { scheme } else { at };
        ranges.push((widened(text, start, done), run_end(text, at, PATH)));
        done = run_end(text, at, PATH);
    }
}

/// Four numbers of up to three digits, of which the first is at most 2.
fn is_ip(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    for _ in 0..3 {
        let Some(dot) = memchr(b'.', &rest[..rest.len().min(4)]) else { return false };
        let number = &rest[..dot];
        let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
        if !is_number || dot == 3 && number[0] > b'2' {
            return false;
        }
        rest = &rest[dot + 1..];
    }
    rest.first().is_some_and(u8::is_ascii_digit)
}
