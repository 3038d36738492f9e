//! The table of English words, which spaCy made, and hostile texts, against the public interface.
#![allow(clippy::unwrap_used)] // a test may fail anywhere

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;
use triptych_core::text::english::{count_sentences, words, Splitter};

fn cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/english_words.jsonl");
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn split(text: &str) -> Vec<&str> {
    let mut ranges = Vec::new();
    words(text, &mut ranges);
    ranges.into_iter().map(|(start, end)| &text[start..end]).collect()
}

#[test]
fn words_are_those_of_spacy_in_every_case() {
    for case in cases() {
        let expected: Vec<&str> =
            case["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(split(case["text"].as_str().unwrap()), expected, "{}", case["name"]);
    }
}

#[test]
fn sentences_are_as_many_as_spacy_has_in_every_case() {
    for case in cases() {
        let count = count_sentences(case["text"].as_str().unwrap());
        assert_eq!(count as u64, case["num_sentences"].as_u64().unwrap(), "{}", case["name"]);
    }
}

#[test]
fn a_splitter_forgets_one_text_before_the_next() {
    let (mut splitter, mut reused, mut fresh) = (Splitter::default(), Vec::new(), Vec::new());
    for case in cases() {
        let text = case["text"].as_str().unwrap();
        splitter.words(text, &mut reused);
        words(text, &mut fresh);
        assert_eq!(reused, fresh, "{}", case["name"]);
    }
}

#[test]
fn a_sentence_reaches_from_its_first_word_to_its_last() {
    let text = "  One fine day.  \n Two! \"Three?\" ";
    let mut sentences = Vec::new();
    Splitter::default().for_each_sentence(text, |(start, end)| sentences.push(&text[start..end]));
    assert_eq!(sentences, ["One fine day.", "Two! \"", "Three?\""]);
}

proptest! {
    #[test]
    fn words_cover_all_that_is_not_white_space_and_nothing_else(
        text in r#"[ \n\ta-cA-C0-2.,:;'’"()<>/@+\-=_*…—°😀中é\u{85}\u{3000}]{0,60}"#
    ) {
        let is_space = |char: &char| char.is_whitespace();
        let visible: String = text.chars().filter(|char| !is_space(char)).collect();
        prop_assert_eq!(split(&text).concat(), visible);
    }

    #[test]
    fn no_text_is_too_strange_for_it(text in any::<String>()) {
        let mut last_end = 0;
        let mut ranges = Vec::new();
        words(&text, &mut ranges);
        for (start, end) in ranges {
            prop_assert!(last_end <= start && start < end && end <= text.len());
            last_end = end;
        }
        prop_assert!(count_sentences(&text) <= text.len());
    }
}

/// Texts that make a backtracking or rescanning splitter quadratic.
const HOSTILE: [&str; 22] = [
    ".", "'", "-", ")", "a.a.a.", "http://", ":-)", "a@", "a@b.", "a@b.c:1", ":", "(", ":(", "a-", "……", "1",
    "1.", "a", "中.", "><(((*>", "'s", ".,",
];

/// How long this thread has run: other load on the machine does not count where the system
/// keeps account of it, to a few milliseconds.
fn thread_time(start: Instant) -> Duration {
    let account = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = account.and_then(|line| line.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// Time for splitting `text` as often as given.
fn time(text: &str, num_runs: usize) -> Duration {
    let (mut ranges, start) = (Vec::new(), Instant::now());
    let before = thread_time(start);
    for _ in 0..num_runs {
        words(text, &mut ranges);
        count_sentences(text);
    }
    thread_time(start).saturating_sub(before)
}

#[test]
fn the_time_for_a_hostile_text_is_linear_in_its_length() {
    let slack = Duration::from_millis(10);
    for piece in HOSTILE {
        let text = |bytes: usize| piece.repeat(bytes / piece.len());
        let (short, long) = (text(128 << 10), text(512 << 10));
        // Four times the text, a quarter of the runs: 2.3 for each doubling is 1.32 in all.
        let is_linear = (0..20).any(|_| time(&long, 1) < time(&short, 4).mul_f64(1.32) + slack);
        assert!(is_linear, "{piece:?} repeated");
    }
}
