//! Token commands from the outside: what they print, and what they leave behind.
#![allow(clippy::unwrap_used)] // a test may fail anywhere

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{json, Value};

/// Runs the binary; (exit status, standard output, standard error).
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_triptych-prep"));
    let done = command.current_dir(folder).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    let (status, stdout, stderr) = run(folder, arguments);
    assert_eq!(status, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// A folder with documents of two sources and languages, and a tokenizer.
fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let german = "Der Hund lief über die Straße, und niemand wusste, wohin er wollte. ".repeat(3);
    let lines = [
        json!({"text": "the cat sat on the mat", "source": "web", "language": "en"}),
        json!({"text": german, "source": "books"}),
    ];
    fs::write(dir.path().join("a.jsonl"), lines.map(|line| line.to_string()).join("\n")).unwrap();
    let options =
        ["train-tokenizer", "--input", "a.jsonl", "--output", ".", "--vocab-size", "280", "--no-report"];
    assert_eq!(run(dir.path(), &options).0, 0);
    dir
}

#[test]
fn of_a_documents_folder_the_shards_alone_are_tokenized() {
    let dir = prepared();
    let long = (0..200).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ");
    let lines = [json!({"text": long}), json!({"text": "too short"})];
    fs::write(dir.path().join("b.jsonl"), lines.map(|line| line.to_string()).join("\n")).unwrap();
    for (format, profile, documents) in [("jsonl.zst", "clean", 2), ("parquet", "seed", 1)] {
        let format = format!("format={format}");
        let prepare = ["run", "--input", "b.jsonl", "--overwrite", "--profile", profile, "--set", &format];
        let (status, _, stderr) = run(dir.path(), &[&prepare[..], &["--output", "d"]].concat());
        assert_eq!(status, 0, "{stderr}");
        let options = ["--tokenizer", "tokenizer.json", "--output", profile, "--json"];
        let told = json_of(dir.path(), &[&["tokenize", "--input", "d"], &options[..]].concat());
        assert_eq!(told["content"]["num_documents"], documents, "{told}");
        assert_eq!(told["fertility"]["sources"].as_object().unwrap().keys().collect::<Vec<_>>(), ["b"]);
    }
}

#[test]
fn a_vocabulary_of_a_size_that_cannot_be_leaves_nothing_behind() {
    let dir = prepared();
    let options = ["train-tokenizer", "--input", "a.jsonl", "--output", "new/folder", "--vocab-size", "5"];
    let (status, _, stderr) = run(dir.path(), &options);
    assert!(status == 2 && stderr.contains("vocab_size: expected 263"), "{status} {stderr}");
    assert!(!dir.path().join("new").exists());
}

#[test]
fn tokenizing_a_folder_without_a_document_says_so() {
    let dir = prepared();
    fs::write(dir.path().join("b.jsonl"), json!({"text": "too short"}).to_string()).unwrap();
    assert_eq!(run(dir.path(), &["run", "--input", "b.jsonl", "--profile", "seed", "--output", "d"]).0, 0);
    let options = ["tokenize", "--input", "d", "--tokenizer", "tokenizer.json", "--output", "t"];
    let (status, _, stderr) = run(dir.path(), &options);
    assert!((status, stderr.starts_with("error[input] no documents in")) == (1, true), "{status}: {stderr}");
}

#[test]
fn tokenizing_reports_bytes_a_token_by_source_and_language() {
    let dir = prepared();
    let options = ["tokenize", "--input", "a.jsonl", "--tokenizer", "tokenizer.json", "--output", "t"];
    let told = json_of(dir.path(), &[&options[..], &["--json", "--identify-language"]].concat());
    let fertility = &told["fertility"];
    assert_eq!(fertility["total"]["documents"], 2);
    assert_eq!(fertility["languages"]["en"], fertility["sources"]["web"]);
    assert_eq!(fertility["languages"]["de"], fertility["sources"]["books"]);
    assert_eq!(fertility["sources"]["web"]["words"], 6);
    let (bytes, tokens) = (&fertility["total"]["bytes"], &fertility["total"]["tokens"]);
    assert_eq!(told["content"]["num_tokens"].as_u64().unwrap(), tokens.as_u64().unwrap() + 4);
    let ratio = bytes.as_f64().unwrap() / tokens.as_f64().unwrap();
    assert!((fertility["total"]["bytes_per_token"].as_f64().unwrap() - ratio).abs() < 1e-9);
    let stored: Value =
        serde_json::from_slice(&fs::read(dir.path().join("t/fertility.json")).unwrap()).unwrap();
    assert_eq!(&stored, fertility);
    let (_, _, table) = run(dir.path(), &options);
    assert!(table.contains("source books") && table.contains("language und"), "{table}");
}

#[test]
fn a_tokenizer_is_measured_on_its_text_or_on_other_documents() {
    let dir = prepared();
    fs::write(dir.path().join("b.txt"), "something else").unwrap();
    let options = ["train-tokenizer", "--input", "a.jsonl", "--output", ".", "--vocab-size", "280", "--json"];
    let own = json_of(dir.path(), &options);
    assert_eq!(own["fertility"]["sources"]["books"]["documents"], 1);
    let other = json_of(dir.path(), &[&options[..], &["--heldout", "b.txt"]].concat());
    assert_eq!(other["fertility"]["sources"]["b"]["words"], 2);
    assert_eq!(other["sha256"], own["sha256"]);
    let none = json_of(dir.path(), &[&options[..], &["--no-report"]].concat());
    assert!(none["fertility"].is_null());
}

#[test]
fn tokens_go_out_and_come_back_and_a_dry_run_writes_nothing() {
    let dir = prepared();
    let tokenizer = ["--tokenizer", "tokenizer.json"];
    let options = [&["tokenize", "--input", "a.jsonl", "--output", "t"][..], &tokenizer].concat();
    assert_eq!(run(dir.path(), &options).0, 0);
    let export = ["export-tokens", "--format", "megatron", "--input", "t", "--output", "x/set", "--json"];
    let planned = json_of(dir.path(), &[&export[..], &["--dry-run"]].concat());
    assert!(!dir.path().join("x").exists());
    assert_eq!(json_of(dir.path(), &export), planned);
    let import =
        [&["import-tokens", "--format", "megatron", "--input", "x", "--output", "u"][..], &tokenizer];
    let import = import.concat();
    let (status, stdout, _) = run(dir.path(), &[&import[..], &["--dry-run"]].concat());
    assert_eq!((status, stdout.contains("set.bin: 2 documents")), (0, true), "{stdout}");
    assert!(!dir.path().join("u").exists());
    let (status, stdout, _) = run(dir.path(), &import);
    assert_eq!((status, stdout.starts_with("u: 2 documents")), (0, true), "{stdout}");
    let ids = |folder: &str| fs::read(dir.path().join(folder).join("00000.bin")).unwrap();
    assert_eq!(ids("u"), ids("t"));
}

#[test]
fn faults_have_an_exit_status_and_a_sentence() {
    let dir = prepared();
    fs::write(dir.path().join("x.npy"), b"junk").unwrap();
    let import = ["--input", "x.npy", "--output", "u", "--tokenizer", "tokenizer.json"];
    let import = |options: &[&str]| run(dir.path(), &[&["import-tokens"], options, &import].concat());
    let (status, _, stderr) = import(&["--format", "numpy"]);
    assert_eq!((status, stderr.contains("`npy`")), (2, true), "{stderr}");
    let (status, _, stderr) = import(&["--format", "npy"]);
    assert_eq!((status, stderr.contains("x.npy")), (1, true), "{stderr}");
    let (status, _, _) = import(&["--format", "npy", "--eos-id", "2", "--bos-id", "1"]);
    assert_eq!(status, 2);
    let export = ["export-tokens", "--format", "megatron", "--input", "nowhere", "--output", "y"];
    assert_eq!(run(dir.path(), &export).0, 2);
    assert!(!dir.path().join("u").exists() && !dir.path().join("y.idx").exists());
}

#[test]
fn an_output_that_cannot_be_written_is_told_before_a_tokenizer_is_trained() {
    let dir = prepared();
    fs::create_dir(dir.path().join("folder.json")).unwrap();
    fs::write(dir.path().join("empty.jsonl"), b"").unwrap(); // training would fail with another sentence
    for output in ["folder.json", "empty.jsonl/tokenizer.json"] {
        let options = ["train-tokenizer", "--input", "empty.jsonl", "--output", output];
        let (status, _, stderr) = run(dir.path(), &options);
        let named = output.split('/').next().unwrap_or_default();
        let found = (status, stderr.contains("no documents"), stderr.contains(named));
        assert_eq!(found, (2, false, true), "{stderr}");
    }
    assert!(!dir.path().join("folder.json.tmp").exists());
}

#[test]
fn more_threads_than_any_machine_has_cores_are_refused_by_every_command() {
    let dir = prepared();
    let commands = [
        &["run", "--input", "a.jsonl"][..],
        &["merge", "--input", "a.jsonl"],
        &["train-tokenizer", "--input", "a.jsonl"],
        &["tokenize", "--input", "a.jsonl", "--tokenizer", "tokenizer.json"],
    ];
    for command in commands {
        let options = ["--output", "out", "--threads", "100000"];
        let (status, _, stderr) = run(dir.path(), &[command, &options].concat());
        let told = stderr.contains("`threads`: expected at most 1024, or 0 for one a core, found 100000");
        assert_eq!((status, told), (2, true), "{command:?}: {stderr}");
        assert!(!dir.path().join("out").exists());
    }
}
