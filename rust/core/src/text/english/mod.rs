//! PLACEHOLDER for the English word splitter: white space and runs of end marks.
//!
//! It stands here only until the real one is merged; nothing may rely on what it finds.

use super::{class, Class};

/// Byte ranges of the tokens of `text`, stripped and non-empty, in order.
pub fn words(text: &str, words: &mut Vec<(usize, usize)>) {
    words.clear();
    let mut start = None;
    for (at, char) in text.char_indices() {
        match (class(char) == Class::Space, start) {
            (true, Some(begin)) => {
                words.push((begin, at));
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.map(|begin| (begin, text.len())));
}

/// How many sentences `text` holds: runs that `.`, `!` or `?` ends, and what follows the last.
pub fn count_sentences(text: &str) -> usize {
    let ends = |char| matches!(char, '.' | '!' | '?');
    let mut count = 0;
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        count += 1;
        rest = rest[at..].trim_start_matches(ends);
    }
    count + usize::from(!super::strip(rest).is_empty())
}
