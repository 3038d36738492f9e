//! What `explain` says of a document is what a run makes of it.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use triptych_core::config::PrepConfig;
use triptych_core::inspect::{examine, explain, Explanation, Verdict, Which};
use triptych_core::pipeline::{self, Silent};
use triptych_core::profile::{Profile, Scratch};
use triptych_core::quality::FEATURES;

/// Configurations that ask every rule there is.
const SETTINGS: [&[&str]; 9] = [
    &["profile=seed", "min_length=3"],
    &["profile=gopher-repetition,gopher,c4,fineweb"],
    &["profile=fineweb,gopher"],
    &["profile=c4,seed", "min_length=1"],
    &["profile=native,dedup", "ngram=5"],
    &["profile=dedup", "ngram=9"],
    &["profile=clean", "language={threshold = 0.9}"],
    &["profile=clean", "pii={default = \"mask\", email = \"drop\"}", "language={keep = [\"en\"]}"],
    &[
        "profile=clean",
        "rule=[{feature = \"mean_word_length\", min = 3, max = 6}, {feature = \"num_lines\", max = 4}]",
    ],
];

fn config(settings: &[&str]) -> PrepConfig {
    let mut config = PrepConfig::default();
    for assignment in settings {
        config.set_assignment(assignment).unwrap();
    }
    config
}

static PROFILES: LazyLock<Vec<Profile>> =
    LazyLock::new(|| SETTINGS.iter().map(|settings| config(settings).profile().unwrap()).collect());

/// The reason that the steps of an explanation give, and how many give one.
fn told(found: &triptych_core::inspect::Findings) -> Vec<String> {
    let pii = found.pii.reason.iter().cloned();
    let checks = found.quality.iter().flat_map(|stage| &stage.checks).filter(|check| check.decides);
    // A text with personal data that rejects it is not asked for its language.
    let language = found.language.reason.filter(|_| found.pii.reason.is_none()).map(str::to_owned);
    pii.chain(language).chain(checks.map(|check| check.rule.clone())).collect()
}

/// Holds the explanation against the profile's own word.
fn agrees(profile: &Profile, text: &str) {
    let verdict = profile.prepare(text, &mut Scratch::default(), &mut Vec::new());
    let (said, found) = examine(profile, text);
    match verdict {
        Ok(kept) => {
            assert_eq!(said, Verdict::Kept { bytes: kept.len() }, "{text:?}");
            assert_eq!(told(&found), [""; 0], "{text:?}");
            assert!(found.quality.iter().flat_map(|stage| &stage.checks).all(|check| check.passes));
            assert!(found.quality.last().is_none_or(|last| last.bytes_left == Some(kept.len())));
        }
        Err(reason) => {
            assert_eq!(said, Verdict::Rejected { reason: reason.name().to_owned() }, "{text:?}");
            assert_eq!(told(&found), [reason.name()], "{text:?}");
        }
    }
    let asked = found.quality.iter().filter(|stage| stage.is_asked).flat_map(|stage| &stage.checks);
    for check in asked.take_while(|check| !check.decides) {
        assert!(check.passes, "{check:?} is broken and does not decide: {text:?}");
    }
    holds_bounds(&found);
}

/// A value outside its bounds is a rule broken, and one inside is not.
fn holds_bounds(found: &triptych_core::inspect::Findings) {
    for check in found.quality.iter().flat_map(|stage| &stage.checks) {
        let Some(value) = check.value else { continue };
        let inside = check.min.is_none_or(|min| value >= min) && check.max.is_none_or(|max| value <= max);
        assert_eq!(inside, check.passes, "{check:?}");
    }
    assert_eq!(found.features.len(), FEATURES.len());
}

fn cases() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases")
}

/// Every text in the tables, whatever rule it was written for.
fn table_texts() -> Vec<String> {
    let mut texts = Vec::new();
    for table in
        ["gopher", "gopher_repetition", "c4", "fineweb", "quality", "pii", "pii_kinds", "pii_labelled"]
    {
        let lines = fs::read_to_string(cases().join(format!("{table}.jsonl"))).unwrap();
        for line in lines.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let parts = case["parts"].as_array().map(|parts| {
                let piece =
                    |part: &Value| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize);
                parts.iter().map(piece).collect::<String>()
            });
            texts.extend(parts.or_else(|| case["text"].as_str().map(str::to_owned)));
        }
    }
    texts
}

#[test]
fn it_agrees_with_the_profile_on_every_document_of_the_tables() {
    let texts = table_texts();
    assert!(texts.len() > 100, "{} texts", texts.len());
    for profile in PROFILES.iter() {
        for text in &texts {
            agrees(profile, text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_agrees_with_the_profile_on_random_documents(
        text in "((the|of|and|cat sat on a mat|it was late|a@b.org|555-123-4567|[12]|Lorem ipsum|javascript|#|é|日本語|123)[ .,\n?\"]{1,2}){0,60}",
        long in any::<bool>()
    ) {
        let text = if long { text.repeat(4) } else { text };
        for profile in PROFILES.iter() {
            agrees(profile, &text);
        }
    }
}

fn write(path: &Path, lines: &str) {
    fs::write(path, lines).unwrap();
}

const LINES: &str = "{\"id\": \"a\", \"text\": \"one two three four\"}\n\n{\"id\": 7, \"text\": \"five\"}\n{\"text\": \"x\n{\"text\": \"six\"}\n";

fn explained(input: &Path, which: &Which) -> triptych_core::Result<Explanation> {
    let config =
        PrepConfig { input: vec![input.to_owned()], min_length: 2, ngram: 2, ..PrepConfig::default() };
    explain(&config, which)
}

#[test]
fn a_document_is_found_by_its_line_and_by_its_id_and_a_bad_record_says_why_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    write(&input, LINES);
    let at = |line| explained(&input, &Which::Line(line)).unwrap();
    let by = |id: &str| explained(&input, &Which::Id(id.to_owned())).unwrap();
    assert_eq!(at(1), by("a"));
    assert_eq!((by("7").line, by("in.jsonl:5").line), (3, 5));
    assert_eq!(at(3).verdict, Verdict::Rejected { reason: "too_few_words".to_owned() });
    assert!(
        matches!(at(4).verdict, Verdict::Quarantined { ref reason } if reason.starts_with("invalid JSON"))
    );
}

#[test]
fn a_line_or_an_id_that_is_not_there_is_a_fault_that_says_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    write(&input, LINES);
    for line in [2, 6, u64::MAX] {
        let error = explained(&input, &Which::Line(line)).unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(error.to_string().contains("the last one is 5, found no record on line"), "{error}");
    }
    let error = explained(&input, &Which::Id("b".to_owned())).unwrap_err();
    assert!(error.to_string().contains("found no document with id `b`"), "{error}");
}

#[test]
fn every_document_of_a_run_has_the_fate_that_its_explanation_says() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out"));
    let lines: Vec<String> =
        table_texts().iter().step_by(4).map(|text| serde_json::json!({"text": text}).to_string()).collect();
    write(&input, &lines.join("\n"));
    let settings = ["profile=c4", "max_bad=1.0", "threads=1", "format=jsonl"];
    let config = PrepConfig { input: vec![input], output: output.clone(), ..config(&settings) };
    let ledger = pipeline::run(&config, &Silent).unwrap().ledger.total;
    let mut counted = std::collections::BTreeMap::new();
    let mut kept = 0;
    for line in 1..=lines.len() as u64 {
        match explain(&config, &Which::Line(line)).unwrap().verdict {
            Verdict::Kept { .. } => kept += 1,
            Verdict::Rejected { reason } => *counted.entry(reason).or_insert(0_u64) += 1,
            Verdict::Quarantined { reason } => panic!("{reason}"),
        }
    }
    assert_eq!((counted, kept), (ledger.rejected, ledger.kept));
    assert!(ledger.kept > 0);
}

#[test]
fn the_lines_that_c4_drops_are_named_with_their_reasons() {
    let text = "Menu\nThe cat sat on the mat all day.\nWe use cookies on this page.\nTwo words.\n\
                Turn on javascript to see it.\nIt was late. It was cold. It was dark. It was all over.";
    let (verdict, found) = examine(&config(&["profile=c4"]).profile().unwrap(), text);
    let dropped: Vec<_> =
        found.quality[0].dropped_lines.iter().map(|line| (line.line, line.reason)).collect();
    assert_eq!(dropped, [(1, "no_end_mark"), (3, "policy"), (4, "few_words"), (5, "javascript")]);
    assert!(matches!(verdict, Verdict::Kept { bytes } if bytes < text.len()));
    assert_eq!(found.quality[0].checks[2].value, Some(5.0));
}
