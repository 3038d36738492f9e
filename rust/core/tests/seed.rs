//! The `seed` profile against its tables, which the binary and Python run as well.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::Deserialize;
use triptych_core::dedup::{NgramIndex, Verdict};
use triptych_core::pii::remove_pii;
use triptych_core::profile::{Profile, Scratch};
use triptych_core::quality::SeedRules;

fn table<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[derive(Deserialize)]
struct PiiCase {
    name: String,
    text: String,
    expected: String,
}

#[test]
fn personal_data_is_replaced_as_the_table_says_and_a_second_time_changes_nothing() {
    for case in table::<PiiCase>("pii.jsonl") {
        let once = remove_pii(&case.text);
        assert_eq!(once, case.expected, "{}", case.name);
        assert_eq!(remove_pii(&once), case.expected, "{}, twice", case.name);
    }
}

#[derive(Deserialize)]
struct QualityCase {
    name: String,
    text: String,
    min_length: usize,
    max_length: usize,
    reason: Option<String>,
}

#[test]
fn quality_gives_the_reason_of_the_table() {
    for case in table::<QualityCase>("quality.jsonl") {
        let rules = SeedRules { min_length: case.min_length, max_length: case.max_length };
        let profile = Profile { quality: rules.into(), ..Profile::default() };
        let found = profile.prepare(&case.text, &mut Scratch::default(), &mut Vec::new());
        assert_eq!(found.err().map(|reason| reason.name().to_owned()), case.reason, "{}", case.name);
    }
}

#[derive(Deserialize)]
struct NgramCase {
    name: String,
    texts: Vec<String>,
    n: usize,
    kept: Vec<usize>,
}

#[test]
fn deduplication_keeps_the_texts_of_the_table() {
    for case in table::<NgramCase>("ngram.jsonl") {
        let profile = Profile { ngram: Some(case.n), ..Profile::default() };
        let (mut scratch, mut index) = (Scratch::default(), NgramIndex::default());
        let mut is_kept = |text: &String| {
            let mut ngrams = Vec::new();
            profile.prepare(text, &mut scratch, &mut ngrams).is_ok()
                && index.judge(&ngrams).unwrap() == Verdict::New
        };
        let kept = (0..case.texts.len()).filter(|number| is_kept(&case.texts[*number]));
        assert_eq!(kept.collect::<Vec<_>>(), case.kept, "{}", case.name);
    }
}
