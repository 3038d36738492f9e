//! Files that claim or become more than memory holds. Each test runs once more as a process of its own
//! that may take only so much address space, in which one reservation too large ends it.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use triptych_core::config::PrepConfig;
use triptych_core::pipeline::{self, Silent};
use triptych_core::read;

use crate::case::case;
use crate::feed::LIMITS;
use crate::sample::{arrow_file, gzip, parquet, parquet_as};

/// Set in the process that runs with limits.
const IS_LIMITED: &str = "TRIPTYCH_TEST_IS_LIMITED";

/// True in a process that may take `mib` of address space and hold 64 files open; elsewhere, runs `test` in one.
fn is_limited(test: &str, mib: u64) -> bool {
    if std::env::var_os(IS_LIMITED).is_some() {
        return true;
    }
    let script =
        format!("ulimit -v {} && ulimit -n 64 && exec \"$0\" --exact memory::{test} --nocapture", mib << 10);
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .envs([(IS_LIMITED, "1"), ("MALLOC_ARENA_MAX", "1")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
    false
}

/// Bytes of all lines, and the bad records, of a file that is not held.
fn drain(path: &Path) -> (usize, Vec<String>) {
    let mut reader = read::open(path, "text", LIMITS).unwrap();
    let (mut bytes, mut bad) = (0, Vec::new());
    while let Some(block) = reader.next_block().unwrap() {
        bytes += block.bytes.len();
        bad.extend(block.bad.into_iter().map(|bad| bad.reason));
        reader.recycle(block.bytes);
    }
    reader.finish().unwrap();
    (bytes, bad)
}

#[test]
fn the_limit_of_these_tests_does_end_a_process_that_takes_more() {
    if is_limited("the_limit_of_these_tests_does_end_a_process_that_takes_more", 250) {
        assert!(Vec::<u8>::new().try_reserve_exact(300 << 20).is_err());
    }
}

#[test]
fn a_line_of_a_gib_is_passed_without_being_held() {
    if !is_limited("a_line_of_a_gib_is_passed_without_being_held", 250) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut file = File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap(); // holes, read as zeros
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    file.write_all(b"\n{\"text\":\"one\"}\n").unwrap();
    let (bytes, bad) = drain(&path);
    assert_eq!(bytes, b"{\"text\":\"one\"}\n".len());
    assert_eq!(bad, [format!("the line is too long: at most 1048576 bytes, found {}", (1 << 30) + 1)]);
}

#[test]
fn ten_thousand_files_are_read_with_no_more_memory_or_open_files_than_one() {
    if !is_limited("ten_thousand_files_are_read_with_no_more_memory_or_open_files_than_one", 400) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    fs::create_dir(&input).unwrap();
    for number in 0..10_000 {
        let line =
            format!("{{\"text\":\"file {number}\"}}\n{}", if number % 100 == 0 { "bad\n" } else { "" });
        fs::write(input.join(format!("{number}.jsonl")), line).unwrap();
    }
    let config = PrepConfig {
        input: vec![input],
        output: dir.path().join("out"),
        profile: "clean".to_owned(),
        max_bad: 1.0,
        threads: 2,
        ..PrepConfig::default()
    };
    let total = pipeline::run(&config, &Silent).unwrap().ledger.total;
    assert_eq!((total.read, total.kept, total.quarantined), (10_100, 10_000, 100));
}

#[test]
fn files_that_expand_beyond_the_limits_are_refused_with_both_sizes() {
    if !is_limited("files_that_expand_beyond_the_limits_are_refused_with_both_sizes", 400) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![0; 128 << 20];
    let bombs = [
        ("a.jsonl.zst", zstd::encode_all(&*zeros, 1).unwrap()),
        ("a.warc.zst", zstd::encode_all(&*zeros, 1).unwrap()),
    ];
    let gzipped = gzip(&zeros);
    assert!(zeros.len() / gzipped.len() < 1000, "one gzip expands by less than the limit");
    drop(zeros);
    for (name, bytes) in bombs {
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let mut reader = read::open(&path, "text", LIMITS).unwrap();
        let error = loop {
            match reader.next_block() {
                Ok(Some(_)) => (),
                Ok(None) => panic!("{name} was read"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.exit_status(), 5);
        assert!(error.to_string().contains("bytes on disk: limit 67108864 bytes"), "{error}");
    }
}

/// The start of a footer with a text column, up to its list of row groups.
const FOOTER: &[u8] =
    b"\x15\x02\x19\x2c\x48\x06schema\x15\x02\x00\x15\x0c\x25\x02\x18\x04text\x25\x00\x00\x16\x02";

fn with_footer(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    [b"PAR1", footer, &length, b"PAR1"].concat()
}

/// `bytes` with `new` in place of the only `old` in it.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}

/// A number of 2^31 - 1 as Thrift writes it.
const LARGEST: [u8; 5] = [0xfe, 0xff, 0xff, 0xff, 0x0f];

#[test]
fn tables_that_claim_more_than_they_hold_reserve_nothing() {
    if !is_limited("tables_that_claim_more_than_they_hold_reserve_nothing", 400) {
        return;
    }
    let many_groups = [FOOTER, b"\x19\xfc\xff\xff\xff\xff\x07", &[0; 64]].concat();
    let long_string = [FOOTER, b"\x19\x0c\x28\xff\xff\xff\xff\x0f", &[0; 64]].concat();
    let deep = [FOOTER, &[0x1c; 500]].concat();
    let good = with_footer(&[FOOTER, b"\x19\x0c\x00"].concat());
    case("a footer by hand", "a.parquet", good).check();
    for (name, footer, reason) in [
        ("2^31 row groups", many_groups, "the footer: a list is longer than what follows it"),
        ("a string of 4 GiB", long_string, "the footer: its description ends early"),
        ("a deep footer", deep, "the footer: its description is nested too deeply"),
    ] {
        case(name, "a.parquet", with_footer(&footer)).bad(&[reason]).check();
    }
    let column: ArrayRef = Arc::new(StringArray::from(vec!["the one text there is"; 3]));
    let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
    let file = parquet_as(&batch, Compression::ZSTD(ZstdLevel::default()));
    // A page begins with its kind (2: dictionary), size and size on disk; field 7 holds the number of values.
    let size = 2 * (4 + "the one text there is".len() as u8);
    let values = replaced(&file, &[0x4c, 0x15, 0x02], &[&[0x4c, 0x15][..], &LARGEST].concat());
    let page = replaced(&file, &[0x15, 0x04, 0x15, size], &[&[0x15, 0x04, 0x15][..], &LARGEST].concat());
    for (name, file) in [("2^31 values in a dictionary", values), ("a page of 2 GiB", page)] {
        case(name, "a.parquet", file).bad(&["bytes claim to hold 2147483647"; 3]).check();
    }
}

#[test]
fn a_value_that_a_dictionary_gives_to_many_rows_is_held_once() {
    if !is_limited("a_value_that_a_dictionary_gives_to_many_rows_is_held_once", 400) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let values: ArrayRef = Arc::new(StringArray::from(vec!["d".repeat(900_000)]));
    let keys = Int32Array::from(vec![0; 600]);
    let column: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values).unwrap());
    let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let options = parquet::arrow::arrow_writer::ArrowWriterOptions::new();
    let options = options.with_properties(properties).with_skip_arrow_metadata(true);
    let mut plain = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new_with_options(&mut plain, batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for (name, bytes) in
        [("a.parquet", parquet(&batch)), ("b.parquet", plain), ("a.arrow", arrow_file(&batch))]
    {
        assert!(bytes.len() < 2 << 20);
        fs::write(dir.path().join(name), bytes).unwrap();
        let (bytes, bad) = drain(&dir.path().join(name));
        assert_eq!((bytes, bad.len()), (600 * (900_000 + "{\"text\":\"\"}\n".len()), 0), "{name}");
    }
}

#[test]
fn a_row_group_of_hundreds_of_megabytes_in_a_few_kilobytes_is_refused() {
    if !is_limited("a_row_group_of_hundreds_of_megabytes_in_a_few_kilobytes_is_refused", 2500) {
        return;
    }
    let column: ArrayRef = Arc::new(StringArray::from(vec!["a".repeat(256 << 20)]));
    let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
    let file = parquet_as(&batch, Compression::ZSTD(ZstdLevel::default()));
    assert!(file.len() < 1 << 20, "{}", file.len());
    case("256 MiB", "a.parquet", file).bad(&["(`max_expansion`, `max_file_bytes`)"]).check();
}
