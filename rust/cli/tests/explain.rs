//! `explain` and `--dry-run` through the binary: what is printed, the exit status, and that
//! no personal data is in it.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const LINES: &str = concat!(
    "{\"id\": \"a\", \"text\": \"Write to canary.bird@example.org or call 555-123-4567 on Monday.\"}\n",
    "{\"id\": \"b\", \"text\": \"too short\"}\n",
    "{\"id\": \"c\", \"text\": \"canary.bird@example.org\n",
);

fn prep(folder: &Path, arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_triptych-prep");
    Command::new(binary).args(arguments).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

fn corpus() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in.jsonl"), LINES).unwrap();
    dir
}

#[test]
fn a_document_is_explained_on_a_page_and_as_json_without_its_personal_data() {
    let dir = corpus();
    let page = prep(dir.path(), &["explain", "in.jsonl:1", "--min-length", "3", "--profile", "seed"]);
    let (page, errors, status) = said(&page);
    assert_eq!((errors.as_str(), status), ("", Some(0)));
    assert!(page.starts_with("in.jsonl:1  id a\nrejected: fewer_words_than_ngram\n"), "{page}");
    assert!(
        page.contains("email   c*********************g (23 characters)  placeholder: becomes `[EMAIL]`"),
        "{page}"
    );
    let json = prep(dir.path(), &["explain", "in.jsonl", "--id", "b", "--json"]);
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&value["schema"], &value["line"], &value["verdict"]["reason"]),
        (&1.into(), &2.into(), &"too_few_words".into())
    );
    assert_eq!(value["quality"][0]["checks"][0]["min"], 128.0);
    assert!(!page.contains("canary") && !page.contains("555-123"));
    let kept = |profile| {
        said(&prep(dir.path(), &["explain", "in.jsonl:1", "--profile", profile, "--set", "ngram=2"])).0
    };
    assert!(kept("clean,dedup").contains("bytes, unless it repeats an earlier document\n"));
    assert!(kept("clean").contains("\nkept, 43 bytes\n"), "{}", kept("clean"));
}

#[test]
fn a_record_that_cannot_be_read_says_so_and_one_that_is_not_there_is_a_usage_error() {
    let dir = corpus();
    let (page, _, status) = said(&prep(dir.path(), &["explain", "in.jsonl:3"]));
    assert!(page.contains("quarantined: invalid JSON") && status == Some(0), "{page}");
    for place in
        [&["in.jsonl:4"][..], &["in.jsonl:0"], &["in.jsonl"], &["in.jsonl", "--id", "x"], &["none.jsonl:1"]]
    {
        let (out, errors, status) = said(&prep(dir.path(), &[&["explain"], place].concat()));
        assert_eq!((out.as_str(), status), ("", Some(2)), "{place:?}");
        assert!(errors.starts_with("error["), "{errors}");
    }
}

#[test]
fn a_dry_run_estimates_and_a_run_leaves_a_report_neither_with_personal_data() {
    let dir = corpus();
    let common = ["run", "--input", "in.jsonl", "--output", "out", "--max-bad", "1", "--format", "jsonl"];
    let dry =
        prep(dir.path(), &[&common[..], &["--dry-run", "--json", "--sample-bytes", "1000000"]].concat());
    let plan: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((&plan["estimate"]["documents"], &plan["estimate"]["is_whole"]), (&3.into(), &true.into()));
    assert!(
        (plan["estimate"]["rejected"]["too_few_words"]["share"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-12
    );
    assert!(!dir.path().join("out").exists());
    let (_, _, status) = said(&prep(dir.path(), &common));
    assert_eq!(status, Some(0));
    for name in ["report.html", "samples.jsonl", "quarantine.jsonl", "ledger.json", "histograms.json"] {
        let text = fs::read_to_string(dir.path().join("out").join(name)).unwrap();
        assert!(!text.contains("canary.bird") && !text.contains("555-123-4567"), "{name}: {text}");
    }
}
