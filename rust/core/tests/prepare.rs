//! Whole runs of preparation: what goes in, what comes out, and that it adds up.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};
use triptych_core::config::PrepConfig;
use triptych_core::ledger::Ledger;
use triptych_core::pipeline::{self, Silent, Summary};
use triptych_core::verify::verify;
use triptych_core::Result;

fn config(input: &[PathBuf], output: &Path) -> PrepConfig {
    PrepConfig {
        input: input.to_vec(),
        output: output.to_owned(),
        min_length: 3,
        max_bad: 1.0,
        threads: 1,
        ..PrepConfig::default()
    }
}

fn run(config: &PrepConfig) -> Result<Summary> {
    pipeline::run(config, &Silent)
}

fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Some documents of many words, some short, some repeated, some broken.
fn write_corpus(folder: &Path) -> Vec<PathBuf> {
    let paths = ["b.jsonl", "a.jsonl"].map(|name| folder.join(name));
    for (number, path) in paths.iter().enumerate() {
        let lines = (0..400).map(|index| match index % 8 {
            0 => "{\"text\": 5}".to_owned(),
            1 => "{\"text\": \"too short\"}".to_owned(),
            2 => {
                let words: Vec<String> = (0..60).map(|word| format!("same{word}")).collect();
                format!("{{\"text\": \"{}\"}}", words.join(" "))
            }
            _ => {
                let words: Vec<String> =
                    (0..60).map(|word| format!("w{number}x{index}x{}", word % 50)).collect();
                format!(
                    "{{\"id\": \"{number}-{index}\", \"text\": \"{} a@b.org\", \"n\": 1.0}}",
                    words.join(" ")
                )
            }
        });
        fs::write(path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
    paths.to_vec()
}

#[test]
fn every_bad_record_of_the_table_is_quarantined_with_its_place_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/bad_records.jsonl");
    let cases = json_lines(&table);
    let mut bytes = Vec::new();
    let mut starts = Vec::new();
    for case in &cases {
        starts.push(bytes.len());
        let line = case["line_latin_1"].as_str().unwrap();
        bytes.extend(line.chars().map(|char| u8::try_from(u32::from(char)).unwrap()));
        bytes.extend(b"\n{\"text\":\"a good line between\"}\n");
    }
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out"));
    fs::write(&input, bytes).unwrap();
    let mut config = config(&[input], &output);
    config.profile = "clean".to_owned();
    let total = run(&config).unwrap().ledger.total;
    let quarantine = json_lines(&output.join("quarantine.jsonl"));
    assert_eq!((total.kept, total.quarantined), (cases.len() as u64, cases.len() as u64));
    for (index, (case, entry)) in cases.iter().zip(&quarantine).enumerate() {
        assert_eq!(entry["reason"], case["reason"], "{}", case["name"]);
        assert_eq!(entry["line"], 2 * index + 1, "{}", case["name"]);
        assert_eq!(entry["byte"], starts[index], "{}", case["name"]);
    }
}

#[test]
fn the_ledger_adds_up_and_the_output_depends_neither_on_threads_nor_on_the_order_of_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = write_corpus(dir.path());
    let mut folders = Vec::new();
    for threads in [1, 2, 5] {
        let output = dir.path().join(format!("out-{threads}"));
        let summary = run(&PrepConfig { threads, ..config(&inputs, &output) }).unwrap();
        let total = &summary.ledger.total;
        assert_eq!((total.read, total.quarantined, total.rejected["too_few_words"]), (800, 100, 100));
        assert_eq!((total.kept, total.duplicates), (501, 99));
        assert_eq!(verify(&output).unwrap(), 501);
        folders.push(fs::read(output.join("00000.jsonl.zst")).unwrap());
        inputs.reverse();
    }
    assert!(folders.iter().all(|bytes| *bytes == folders[0]));
}

#[test]
fn small_shards_hold_the_same_documents_in_the_same_order() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = write_corpus(dir.path());
    let texts = |name: &str, shard_bytes: u64| {
        let output = dir.path().join(name);
        let config = PrepConfig {
            shard_bytes,
            format: triptych_core::write::OutputFormat::Jsonl,
            ..config(&inputs, &output)
        };
        run(&config).unwrap();
        let names = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path());
        let mut shards: Vec<PathBuf> = names
            .filter(|path| path.to_string_lossy().contains("/0") && path.extension().is_some())
            .collect();
        shards.sort();
        (shards.len(), shards.iter().flat_map(|path| json_lines(path)).collect::<Vec<_>>())
    };
    let (one, whole) = texts("whole", 1 << 30);
    let (many, parts) = texts("parts", 10_000);
    assert_eq!((one, many), (1, 2)); // a shard ends with a block, and each file is one
    assert_eq!(whole, parts);
}

#[test]
fn the_same_run_again_is_recognised_and_another_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, output) = (write_corpus(dir.path()), dir.path().join("out"));
    assert!(!run(&config(&inputs, &output)).unwrap().already_done);
    assert!(run(&config(&inputs, &output)).unwrap().already_done);
    let other = PrepConfig { min_length: 4, ..config(&inputs, &output) };
    assert_eq!(run(&other).unwrap_err().exit_status(), 2);
    assert!(!run(&PrepConfig { overwrite: true, ..other }).unwrap().already_done);
}

#[test]
fn a_folder_that_triptych_did_not_write_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, output) = (write_corpus(dir.path()), dir.path().join("out"));
    fs::create_dir(&output).unwrap();
    fs::write(output.join("thesis.txt"), "years of work").unwrap();
    let config = PrepConfig { overwrite: true, ..config(&inputs, &output) };
    assert_eq!(run(&config).unwrap_err().exit_status(), 2);
    assert!(output.join("thesis.txt").exists());
}

#[test]
fn the_documents_of_every_format_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = write_corpus(dir.path());
    let first = dir.path().join("first");
    let parquet =
        PrepConfig { format: triptych_core::write::OutputFormat::Parquet, ..config(&inputs, &first) };
    run(&parquet).unwrap();
    // What was written as Parquet is read again; its texts pass every rule unchanged.
    let again = dir.path().join("again");
    let summary = run(&config(&[first], &again)).unwrap();
    assert_eq!((summary.ledger.total.read, summary.ledger.total.kept), (501, 501));
}

#[test]
fn a_damaged_archive_costs_its_end_only() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..2000)
        .map(|index| format!("{{\"text\": \"line {index} has {} words\"}}", index * 7919 % 1009))
        .collect();
    let whole = zstd::encode_all(lines.join("\n").as_bytes(), 3).unwrap();
    let (input, output) = (dir.path().join("in.jsonl.zst"), dir.path().join("out"));
    fs::write(&input, &whole[..whole.len() / 2]).unwrap();
    let mut config = config(&[input], &output);
    config.profile = "clean".to_owned();
    let total = run(&config).unwrap().ledger.total;
    assert_eq!(total.quarantined, 1);
    assert_eq!(total.read, total.kept + 1);
    let entry = &json_lines(&output.join("quarantine.jsonl"))[0];
    assert!(entry["reason"].as_str().unwrap().contains("ends early or is damaged"), "{entry}");
}

#[test]
fn a_decompression_bomb_is_a_resource_error() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![b' '; 80 << 20];
    let (input, output) = (dir.path().join("bomb.jsonl.zst"), dir.path().join("out"));
    fs::write(&input, zstd::encode_all(&zeros[..], 3).unwrap()).unwrap();
    let error = run(&config(&[input], &output)).unwrap_err();
    assert_eq!(error.exit_status(), 5, "{error}");
}

#[test]
fn a_line_longer_than_the_limit_costs_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out"));
    let long = format!("{{\"text\": \"{}\"}}", "x".repeat(10 << 20));
    fs::write(&input, format!("{{\"text\":\"a\"}}\n{long}\n{{\"text\":\"b\"}}\n{{\"text\":\"c\"}}")).unwrap();
    let mut config = config(&[input], &output);
    (config.profile, config.max_line_bytes) = ("clean".to_owned(), 1000);
    let total = run(&config).unwrap().ledger.total;
    assert_eq!((total.read, total.kept, total.quarantined), (4, 3, 1));
}

#[test]
fn a_ledger_that_was_edited_is_found_by_verify() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, output) = (write_corpus(dir.path()), dir.path().join("out"));
    run(&config(&inputs, &output)).unwrap();
    let mut ledger = Ledger::read(&output).unwrap();
    ledger.total.kept += 1;
    fs::write(output.join("ledger.json"), serde_json::to_string(&ledger).unwrap()).unwrap();
    assert_eq!(verify(&output).unwrap_err().exit_status(), 4);
}

#[test]
fn the_funnel_says_what_enters_and_leaves_each_step_in_documents_bytes_and_words() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, output) = (write_corpus(dir.path()), dir.path().join("out"));
    let format = triptych_core::write::OutputFormat::Jsonl;
    let total = run(&PrepConfig { format, threads: 2, ..config(&inputs, &output) }).unwrap().ledger.total;
    let texts = |path: &Path| {
        let lines = fs::read_to_string(path).unwrap();
        let values = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        values.filter_map(|value| value["text"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let size = |texts: &[String]| {
        let words = texts.iter().map(|text| text.split_whitespace().count()).sum::<usize>();
        (texts.len() as u64, texts.iter().map(|text| text.len() as u64).sum::<u64>(), words as u64)
    };
    let told = |size: triptych_core::funnel::Size| (size.documents, size.bytes, size.words);
    let [pii, seed, dedup] = &total.funnel[..] else { panic!("{:?}", total.funnel) };
    assert_eq!([&*pii.name, &*seed.name, &*dedup.name], ["pii", "seed", "dedup"]);
    assert_eq!(told(pii.entered), size(&inputs.iter().flat_map(|path| texts(path)).collect::<Vec<_>>()));
    assert_eq!(told(pii.left), (700, pii.entered.bytes, pii.entered.words)); // a@b.org is as long as [EMAIL]
    assert_eq!(told(seed.rejected["too_few_words"]), (100, 900, 200));
    assert_eq!(dedup.rejected["duplicates"].documents, total.duplicates);
    assert_eq!(told(dedup.left), size(&texts(&output.join("00000.jsonl"))));
}

#[test]
fn the_first_three_documents_of_each_reason_are_shown_without_their_personal_data() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out"));
    let short = (0..5).map(|n| format!("{{\"id\": {n}, \"text\": \"ann{n}@example.org wrote\"}}"));
    let same = (0..5).map(|n| format!("{{\"id\": \"b{n}\", \"text\": \"{}\"}}", ["w x y z"; 9].join(" ")));
    fs::write(&input, short.chain(same).collect::<Vec<_>>().join("\n")).unwrap();
    let config = PrepConfig { profile: "dedup".to_owned(), ngram: 3, ..config(&[input], &output) };
    run(&config).unwrap();
    let samples = json_lines(&output.join("samples.jsonl"));
    let told: Vec<_> =
        samples.iter().map(|sample| (&sample["reason"], &sample["line"], &sample["id"])).collect();
    let expected = json!([
        ["duplicates", null, "b1"],
        ["duplicates", null, "b2"],
        ["duplicates", null, "b3"],
        ["fewer_words_than_ngram", 1, "0"],
        ["fewer_words_than_ngram", 2, "1"],
        ["fewer_words_than_ngram", 3, "2"],
    ]);
    assert_eq!(json!(told), expected);
    assert_eq!(samples[3]["text"], "***@example.org wrote");
}

/// Blocks of a megabyte of which each has a share of short documents of its own.
fn write_lumpy(path: &Path) -> (u64, u64) {
    let words: Vec<String> = (100..200).map(|word| format!("word{word}")).collect();
    let words = words.join(" ");
    let (mut lines, mut short, mut all) = (String::new(), 0, 0);
    for part in 0_u64..40 {
        for index in 0..200 {
            let is_short = (index * 7919 + part * 31) % 100 < part * 2 + 5;
            let text = if is_short { "too short".to_owned() } else { format!("{part} {index} {words}") };
            short += u64::from(is_short);
            all += 1;
            lines += &(json!({"text": text}).to_string() + "\n");
        }
    }
    fs::write(path, lines).unwrap();
    (short, all)
}

#[test]
fn a_sample_is_spread_over_the_inputs_and_its_intervals_hold_what_the_run_finds() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, packed) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl.zst"));
    let (short, all) = write_lumpy(&plain);
    fs::write(&packed, zstd::encode_all(&fs::read(&plain).unwrap()[..], 1).unwrap()).unwrap();
    let clock = || std::time::Duration::ZERO;
    let estimate = |input: &PathBuf, bytes: u64| {
        pipeline::estimate(&config(std::slice::from_ref(input), &dir.path().join("out")), bytes, &clock)
            .unwrap()
    };
    for input in [&plain, &packed] {
        let whole = estimate(input, 1 << 30);
        let told = whole.rejected["too_few_words"];
        assert!(whole.is_whole && (told.share - short as f64 / all as f64).abs() < 1e-12, "{whole:?}");
        assert_eq!((told.low, told.high, whole.documents), (told.share, told.share, all));
    }
    let size = fs::metadata(&plain).unwrap().len();
    let sample = estimate(&plain, size / 4);
    let told = sample.rejected["too_few_words"];
    let truth = short as f64 / all as f64;
    assert!(!sample.is_whole && sample.bytes < size / 2 && sample.total_bytes == size, "{sample:?}");
    assert!(told.low < truth && truth < told.high && told.high - told.low < 0.5, "{truth} {told:?}");
    assert!((told.share + sample.kept.share - 1.0).abs() < 1e-12);
    assert!(!dir.path().join("out").exists() && !dir.path().join(".tmp-out").exists());
}

#[cfg(unix)]
#[test]
fn files_of_which_the_names_are_no_utf8_go_through_a_run_and_are_known_again() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    fs::create_dir(&input).unwrap();
    for name in [&b"x\xfe.jsonl"[..], b"x\xff.jsonl"] {
        fs::write(input.join(OsStr::from_bytes(name)), "{\"text\": \"one two three\"}\n").unwrap();
    }
    let mut config = config(&[input], &dir.path().join("out"));
    config.profile = "clean".to_owned();
    let ledger = run(&config).unwrap().ledger;
    assert_eq!((ledger.files.len(), ledger.total.kept), (2, 2));
    assert!(ledger.files[0].file.ends_with("x\u{fffd}.jsonl"), "{:?}", ledger.files);
    assert!(run(&config).unwrap().already_done);
}

#[test]
fn a_corpus_of_which_the_text_has_another_field_stops_the_run_with_the_fields_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let (wrong, right) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl"));
    fs::write(&wrong, "{\"content\": \"some words\", \"url\": \"u\"}\n".repeat(1500)).unwrap();
    for threads in [1, 2] {
        let config =
            PrepConfig { threads, ..config(std::slice::from_ref(&wrong), &dir.path().join("stopped")) };
        let error = run(&config).unwrap_err();
        assert_eq!(error.exit_status(), 1);
        for part in ["a.jsonl", "none of the first", "`content`, `url`", "text_field"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    fs::write(&right, "{\"text\": \"one two three four\"}\n").unwrap();
    let mut both = config(&[wrong, right], &dir.path().join("both"));
    both.profile = "clean".to_owned();
    let total = run(&both).unwrap().ledger.total;
    assert_eq!((total.kept, total.quarantined), (1, 1500));
}

#[test]
fn a_folder_that_expands_beyond_the_limit_for_inputs_is_verified_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out"));
    fs::write(&input, format!("{{\"text\": \"{}\"}}\n", "a ".repeat(1 << 19)).repeat(70)).unwrap();
    let mut config = config(&[input], &output);
    config.profile = "clean".to_owned();
    assert_eq!((run(&config).unwrap().documents, verify(&output).unwrap()), (70, 70));
}
