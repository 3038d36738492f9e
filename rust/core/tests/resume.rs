//! Runs that are stopped and started again, or shared out and merged: the same bytes, or a
//! refusal that says why.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use triptych_core::config::PrepConfig;
use triptych_core::error::Error;
use triptych_core::language::LanguageRule;
use triptych_core::pipeline::{self, Progress, Share, Silent};
use triptych_core::write::OutputFormat;

/// More than eight for each of two parts, so that these share files and not blocks.
const FILES: usize = 18;

/// Stops a run after so many blocks.
struct StopAfter {
    blocks: AtomicU64,
}

impl Progress for StopAfter {
    fn start(&self, _: u64) {}
    fn advance(&self, _: u64, _: u64) {
        self.blocks.fetch_sub(1, Ordering::Relaxed);
    }
    fn is_stopped(&self) -> bool {
        self.blocks.load(Ordering::Relaxed) == 0
    }
}

/// Files of documents of which every fifth repeats one of another file, and some bad lines.
fn write_corpus(folder: &Path) -> Vec<PathBuf> {
    let text = |seed: usize| (0..40).map(|word| format!("w{seed}x{word}")).collect::<Vec<_>>().join(" ");
    let line = |file: usize, index: usize| match index % 10 {
        0 => format!("{{\"text\": \"{}\"}}", text(index)),
        5 => "not JSON".to_owned(),
        _ => format!("{{\"text\": \"{} a@b.org\"}}", text(1000 * (file + 1) + index)),
    };
    let write = |file: usize| {
        let path = folder.join(format!("{file:02}.jsonl"));
        let lines: Vec<String> = (0..50).map(|index| line(file, index)).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        path
    };
    (0..FILES).map(write).collect()
}

fn config(input: Vec<PathBuf>, output: PathBuf) -> PrepConfig {
    let shard_bytes = 20_000; // a shard is full after two files
    PrepConfig {
        input,
        output,
        min_length: 3,
        max_bad: 1.0,
        threads: 1,
        shard_bytes,
        ..PrepConfig::default()
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
    };
    fs::read_dir(folder).unwrap().map(entry).collect()
}

fn stop(config: &PrepConfig, blocks: u64) {
    let error = pipeline::run(config, &StopAfter { blocks: AtomicU64::new(blocks) }).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert!(!config.output.exists());
}

#[test]
fn a_run_stopped_at_any_block_ends_with_the_same_bytes_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let input = write_corpus(dir.path());
    for (format, threads) in
        [(OutputFormat::JsonlZst, 1), (OutputFormat::Jsonl, 2), (OutputFormat::Parquet, 1)]
    {
        let whole = config(input.clone(), dir.path().join("whole"));
        let whole = PrepConfig { format, overwrite: true, ..whole };
        let summary = pipeline::run(&whole, &Silent).unwrap();
        assert!(summary.ledger.total.duplicates > 0 && summary.ledger.total.quarantined > 0);
        for blocks in 1..FILES as u64 {
            let stopped = PrepConfig { output: dir.path().join("stopped"), threads, ..whole.clone() };
            stop(&stopped, blocks);
            let resumed = pipeline::run(&stopped, &Silent).unwrap();
            assert_eq!(resumed.ledger, summary.ledger, "stopped after {blocks}");
            assert_eq!(files(&stopped.output), files(&whole.output), "stopped after {blocks}");
            fs::remove_dir_all(&stopped.output).unwrap();
        }
    }
}

#[test]
fn a_run_goes_on_after_its_last_complete_shard_and_not_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(write_corpus(dir.path()), dir.path().join("out"));
    stop(&config, 7);
    let shard = dir.path().join(".tmp-out/00000.jsonl.zst");
    let written = fs::metadata(&shard).unwrap().modified().unwrap();
    pipeline::run(&config, &Silent).unwrap();
    let kept = fs::metadata(config.output.join("00000.jsonl.zst")).unwrap().modified().unwrap();
    assert_eq!(written, kept);
    assert!(!dir.path().join(".tmp-out").exists());
}

#[test]
fn a_run_can_be_stopped_while_it_reads_again_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(write_corpus(dir.path()), dir.path().join("out"));
    let whole = PrepConfig { output: dir.path().join("whole"), ..config.clone() };
    pipeline::run(&whole, &Silent).unwrap();
    stop(&config, 7);
    stop(&config, 1); // at the first of the files that are done
    pipeline::run(&config, &Silent).unwrap();
    assert_eq!(files(&config.output), files(&whole.output));
}

#[test]
fn another_configuration_is_refused_with_the_keys_that_differ_unless_it_may_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(write_corpus(dir.path()), dir.path().join("out"));
    let other = PrepConfig { min_length: 4, ..config.clone() };
    stop(&config, 7);
    for _ in 0..2 {
        let error = pipeline::run(&other, &Silent).unwrap_err();
        assert!(error.to_string().contains("`min_length` 4 instead of 3"), "{error}");
        assert_eq!(error.exit_status(), 2);
        pipeline::run(&config, &Silent).unwrap(); // what was done is still there; then: a finished folder
    }
    let other = PrepConfig { overwrite: true, ..other };
    assert!(!pipeline::run(&other, &Silent).unwrap().already_done);
}

#[test]
fn an_input_that_changed_since_the_run_was_stopped_is_an_integrity_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let input = write_corpus(dir.path());
    let config = config(input.clone(), dir.path().join("out"));
    stop(&config, 7);
    let changed = fs::read_to_string(&input[1]).unwrap().replacen("w2", "v2", 1);
    fs::write(&input[1], changed).unwrap();
    let error = pipeline::run(&config, &Silent).unwrap_err();
    assert_eq!(error.exit_status(), 4);
    assert!(error.to_string().contains("01.jsonl"), "{error}");
}

/// Runs each share of the whole and gives the folders of the parts.
fn run_parts(whole: &PrepConfig, folder: &Path, count: usize) -> Vec<PathBuf> {
    let run = |index: usize| {
        let output = folder.join(format!("part-{index}-of-{count}"));
        let part = PrepConfig { shard: Share { index, count }, output: output.clone(), ..whole.clone() };
        stop(&part, 1);
        pipeline::run(&part, &Silent).unwrap();
        output
    };
    (0..count).map(run).collect()
}

#[test]
fn parts_merge_into_the_same_bytes_as_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let whole = config(write_corpus(dir.path()), dir.path().join("whole"));
    pipeline::run(&whole, &Silent).unwrap();
    for count in [2, 3, 7] {
        let mut parts = run_parts(&whole, dir.path(), count);
        parts.reverse();
        let merged = PrepConfig { output: dir.path().join(format!("merged-{count}")), ..whole.clone() };
        pipeline::merge(&parts, &merged, &Silent).unwrap();
        assert_eq!(files(&merged.output), files(&whole.output), "{count} parts");
        assert!(pipeline::merge(&parts, &merged, &Silent).unwrap().already_done);
        for part in parts {
            fs::remove_dir_all(part).unwrap();
        }
    }
}

#[test]
fn the_one_part_of_a_run_on_one_machine_is_merged_like_several() {
    let dir = tempfile::tempdir().unwrap();
    let part = config(write_corpus(dir.path()), dir.path().join("part"));
    pipeline::run(&part, &Silent).unwrap();
    let merged = PrepConfig { output: dir.path().join("merged"), ..PrepConfig::default() };
    for is_there in [false, true] {
        let summary = pipeline::merge(std::slice::from_ref(&part.output), &merged, &Silent).unwrap();
        assert_eq!(summary.already_done, is_there);
        assert_eq!(files(&merged.output), files(&part.output));
    }
}

#[test]
fn parts_of_a_run_that_writes_parquet_merge_into_its_rows_with_all_their_fields() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = write_corpus(dir.path());
    let line = "{\"text\": \"one two three four\", \"url\": \"u\", \"n\": [1, 2.50], \"fields\": \"own\"}\n";
    fs::write(&inputs[3], line).unwrap();
    let whole = config(inputs, dir.path().join("whole"));
    let whole = PrepConfig { format: OutputFormat::Parquet, ..whole };
    pipeline::run(&whole, &Silent).unwrap();
    let parts = run_parts(&whole, dir.path(), 3);
    let merged = PrepConfig { output: dir.path().join("merged"), ..whole.clone() };
    pipeline::merge(&parts, &merged, &Silent).unwrap();
    assert_eq!(files(&merged.output), files(&whole.output));
}

#[test]
fn parts_are_merged_where_the_model_that_made_them_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model.ftz");
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
    fs::copy(cases.join("fasttext/softmax_quantised.ftz"), &model).unwrap();
    let rule = LanguageRule { model: model.display().to_string(), threshold: 0.0, ..LanguageRule::default() };
    let whole = config(write_corpus(dir.path()), dir.path().join("whole"));
    let whole = PrepConfig { language: Some(rule), ..whole };
    let parts = run_parts(&whole, dir.path(), 2);
    pipeline::run(&whole, &Silent).unwrap();
    fs::remove_file(&model).unwrap();
    let merged = PrepConfig { output: dir.path().join("merged"), ..whole.clone() };
    pipeline::merge(&parts, &merged, &Silent).unwrap();
    assert_eq!(files(&merged.output), files(&whole.output));
}

#[test]
fn another_model_of_languages_in_the_same_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model.bin");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/fasttext");
    let put = |name: &str| fs::copy(models.join(name), &model).unwrap();
    put("softmax_quantised.ftz");
    let rule = LanguageRule { model: model.display().to_string(), threshold: 0.0, ..LanguageRule::default() };
    let run = PrepConfig {
        language: Some(rule.clone()),
        ..config(write_corpus(dir.path()), dir.path().join("out"))
    };
    pipeline::run(&run, &StopAfter { blocks: AtomicU64::new(9) }).unwrap_err();
    for _ in 0..2 {
        put("hierarchical.bin");
        let error = pipeline::run(&run, &Silent).unwrap_err();
        assert!(error.to_string().contains("`language`"), "{error}");
        assert_eq!(error.exit_status(), 2);
        put("softmax_quantised.ftz");
        pipeline::run(&run, &Silent).unwrap(); // first what was stopped, then a finished folder
    }
    let asked = LanguageRule { sha256: Some("0".repeat(64)), ..rule };
    let error = PrepConfig { language: Some(asked), ..run }.profile().unwrap_err();
    assert!(error.to_string().contains("the model of SHA-256 000"), "{error}");
}

#[test]
fn a_merge_names_the_parts_that_are_missing_and_refuses_those_of_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let whole = config(write_corpus(dir.path()), dir.path().join("whole"));
    let parts = run_parts(&whole, dir.path(), 3);
    let merged = PrepConfig { output: dir.path().join("merged"), ..whole.clone() };
    let message = |parts: &[PathBuf]| pipeline::merge(parts, &merged, &Silent).unwrap_err().to_string();
    assert!(message(&parts[..1]).contains("no part 2/3, 3/3"));
    assert!(message(&[parts.clone(), parts[1..2].to_vec()].concat()).contains("2/3 again"));
    let other = PrepConfig { min_length: 4, ..whole.clone() };
    let others = run_parts(&other, &dir.path().join("other"), 3);
    assert!(message(&[&parts[..2], &others[2..]].concat()).contains("another configuration"));
    pipeline::run(&whole, &Silent).unwrap();
    let of_no_part = pipeline::merge(&[whole.output, parts[0].clone()], &merged, &Silent).unwrap_err();
    assert_eq!(of_no_part.exit_status(), 2);
    assert!(
        of_no_part.to_string().contains("`triptych-part/1`, found `triptych-documents/1`"),
        "{of_no_part}"
    );
    fs::write(parts[2].join("00000.jsonl.zst"), "x").unwrap();
    assert_eq!(pipeline::merge(&parts, &merged, &Silent).unwrap_err().exit_status(), 4);
    assert!(!merged.output.exists());
}

#[test]
fn another_key_of_pseudonyms_on_the_same_folder_is_refused_and_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (key_file, keys) = (dir.path().join("key"), ["the first key, 24 bytes!", "another key of 24 bytes!"]);
    fs::write(&key_file, keys[0]).unwrap();
    let pii = serde_json::json!({"email": "pseudonym", "key_file": key_file});
    let run = PrepConfig {
        pii: serde_json::from_value(pii).unwrap(),
        ..config(write_corpus(dir.path()), dir.path().join("out"))
    };
    pipeline::run(&run, &StopAfter { blocks: AtomicU64::new(9) }).unwrap_err();
    fs::write(&key_file, keys[1]).unwrap();
    let refusal = pipeline::run(&run, &Silent).unwrap_err().to_string();
    assert!(refusal.contains("`pii`") && refusal.contains("key_check"), "{refusal}");
    fs::write(&key_file, keys[0]).unwrap();
    pipeline::run(&run, &Silent).unwrap();
    fs::write(&key_file, keys[1]).unwrap();
    let finished = pipeline::run(&run, &Silent).unwrap_err().to_string();
    assert!(finished.contains("key_check"), "{finished}");
    for text in files(&run.output).into_values().chain([refusal.into(), finished.into()]) {
        let shows = |key: &str| text.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!keys.iter().any(|key| shows(key)));
    }
}

#[test]
fn a_key_that_is_not_the_one_of_the_configuration_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    fs::write(&key_file, "a key of at least sixteen bytes").unwrap();
    let pii = serde_json::json!({"email": "pseudonym", "key_file": key_file, "key_check": "0123456789ab"});
    let run = PrepConfig {
        pii: serde_json::from_value(pii).unwrap(),
        ..config(write_corpus(dir.path()), dir.path().join("out"))
    };
    let refusal = pipeline::run(&run, &Silent).unwrap_err();
    assert_eq!(refusal.exit_status(), 2);
    assert!(refusal.to_string().contains("0123456789ab"), "{refusal}");
}

/// Looks at the status of a run at every block.
struct Watch {
    draft: PathBuf,
    seen: std::sync::Mutex<Vec<serde_json::Value>>,
}

impl Watch {
    fn read(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(self.draft.join("status.json")).ok()?).ok()
    }
}

impl Progress for Watch {
    fn start(&self, _: u64) {}
    fn begin(&self, _: pipeline::Phase) {
        self.seen.lock().unwrap().push(self.read().unwrap());
    }
    fn advance(&self, _: u64, _: u64) {}
}

#[test]
fn a_run_tells_its_status_while_it_goes_on_and_after_it_was_stopped_and_leaves_none_in_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(write_corpus(dir.path()), dir.path().join("out"));
    let watch = Watch { draft: dir.path().join(".tmp-out"), seen: std::sync::Mutex::default() };
    stop(&config, 7);
    let stopped = watch.read().unwrap();
    assert_eq!(stopped["phase"], "interrupted");
    assert_eq!((&stopped["documents"], &stopped["bad"]), (&350.into(), &35.into()));
    assert!(stopped["error"].as_str().unwrap().contains("again to continue"));
    let total = pipeline::run(&config, &watch).unwrap().ledger.total;
    let seen = watch.seen.into_inner().unwrap();
    assert_eq!(
        seen.iter().map(|status| &status["phase"]).collect::<Vec<_>>(),
        ["resuming", "preparing", "finishing"]
    );
    let last = seen.last().unwrap();
    assert_eq!((last["documents"].as_u64(), last["kept"].as_u64()), (Some(total.read), Some(total.kept)));
    assert_eq!(last["bytes"], last["total_bytes"]);
    assert!(!config.output.join("status.json").exists());
}
