//! Files of which many threads decode parts at once: the same bytes whatever their number, and damage in the
//! middle costs itself only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::WriterProperties;
use triptych_core::config::PrepConfig;
use triptych_core::ledger::Ledger;
use triptych_core::pipeline::{self, Progress, Share, Silent};

use crate::sample::{arrow_file, gzip, response, zstd};

/// Documents of a corpus, of about two kilobytes each: more than one unit of every format.
const DOCUMENTS: usize = 2400;

fn text(index: usize) -> String {
    let word = |at: usize| format!("w{:x} ", (index * 7919 + at * 104_729) % 65_521);
    (0..300 + index % 200).map(word).collect()
}

fn lines(texts: &[String]) -> Vec<u8> {
    let line = |text: &String| format!("{{\"text\":\"{text}\"}}\n");
    texts.iter().map(line).collect::<String>().into_bytes()
}

fn batch(texts: &[String]) -> RecordBatch {
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    RecordBatch::try_from_iter([("text", column)]).unwrap()
}

/// A batch that has a column of lists larger than its texts.
fn batch_with_lists(texts: &[String]) -> RecordBatch {
    let mut words = ListBuilder::new(StringBuilder::new());
    for text in texts {
        text.split_whitespace().for_each(|word| words.values().append_value(word));
        words.append(true);
    }
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    RecordBatch::try_from_iter([("text", column), ("words", Arc::new(words.finish()) as ArrayRef)]).unwrap()
}

/// Row groups of 2000 rows, pages of 100.
fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let properties =
        WriterProperties::builder().set_dictionary_enabled(false).set_max_row_group_row_count(Some(2000));
    let properties = properties.set_data_page_row_count_limit(100).set_write_batch_size(100);
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn warc(texts: &[String]) -> Vec<u8> {
    let page = |text: &String| response("Content-Type: text/html", format!("<p>{text}").as_bytes());
    texts.iter().flat_map(page).collect()
}

fn config(input: &Path, output: PathBuf, threads: usize) -> PrepConfig {
    let (profile, max_bad, shard_bytes) = ("clean".to_owned(), 1.0, 3 << 20);
    let input = vec![input.to_owned()];
    PrepConfig { input, output, profile, max_bad, threads, shard_bytes, ..PrepConfig::default() }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

/// What a run over a folder writes on so many threads.
fn run(input: &Path, threads: usize) -> (Ledger, BTreeMap<String, Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(input, dir.path().join("out"), threads);
    let ledger = pipeline::run(&config, &Silent).unwrap().ledger;
    (ledger, files(&config.output))
}

/// Gzip members as bgzip writes them: 64,000 bytes in each, its size in its header, an empty one at the end.
fn bgzip(bytes: &[u8]) -> Vec<u8> {
    let chunks = bytes.chunks(64_000).chain(std::iter::once(&[][..]));
    let member = |chunk: &[u8]| {
        let plain = gzip(chunk);
        let size = u16::try_from(plain.len() + 8 - 1).unwrap();
        let field = [&[6, 0, b'B', b'C', 2, 0][..], &size.to_le_bytes()].concat();
        [&plain[..3], &[4], &plain[4..10], &field, &plain[10..]].concat()
    };
    chunks.flat_map(member).collect()
}

fn assert_threads_change_nothing(name: &str, bytes: &[u8], num_documents: usize) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    let one = run(dir.path(), 1);
    let num_documents = num_documents as u64;
    assert_eq!((one.0.total.read, one.0.total.kept), (num_documents, num_documents), "{name}");
    assert!([2, 4, 7].iter().all(|threads| run(dir.path(), *threads) == one), "{name}");
}

#[test]
fn one_file_of_any_format_gives_the_same_bytes_on_any_number_of_threads() {
    let texts: Vec<String> = (0..DOCUMENTS / 3).map(text).collect();
    let jsonl = lines(&texts);
    let frames: Vec<u8> = jsonl.chunks(100_000).flat_map(zstd).collect();
    let members: Vec<u8> = jsonl.chunks(1 << 20).flat_map(gzip).collect();
    assert!(frames.len() > 600_000, "more than what is looked at before the first is decompressed");
    let files = [
        ("a.jsonl.gz", members),
        ("b.jsonl.gz", bgzip(&jsonl)),
        ("a.jsonl.zst", frames),
        ("a.jsonl", jsonl),
        ("a.arrow", arrow_file(&batch(&texts))),
        ("a.warc.gz", gzip(&warc(&texts))),
    ];
    for (name, bytes) in files {
        assert_threads_change_nothing(name, &bytes, texts.len());
    }
}

#[test]
fn ranges_of_a_row_group_give_the_same_bytes_on_any_number_of_threads() {
    let texts: Vec<String> = (0..DOCUMENTS).map(text).collect();
    assert_threads_change_nothing("a.parquet", &parquet(&batch(&texts)), DOCUMENTS);
    let texts = &texts[..DOCUMENTS / 3];
    assert_threads_change_nothing("a.parquet", &parquet(&batch_with_lists(texts)), texts.len());
}

#[test]
fn many_pages_give_the_same_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..60 {
        let name = if index % 2 == 0 { "html" } else { "txt" };
        fs::write(
            dir.path().join(format!("{index}.{name}")),
            format!("<title>{index}</title><p>{}", text(index)),
        )
        .unwrap();
    }
    let one = run(dir.path(), 1);
    assert_eq!(one.0.total.kept, 60);
    assert!([2, 4, 7].iter().all(|threads| run(dir.path(), *threads) == one));
}

/// Overwrites bytes in the middle of the first row group.
fn damage_group(path: &Path) {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&fs::File::open(path).unwrap()).unwrap();
    let column = metadata.row_group(0).column(0);
    let at = usize::try_from(column.data_page_offset() + column.compressed_size() / 2 + 50_000).unwrap(); // a page has 230,000
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + 64].fill(0xff);
    fs::write(path, bytes).unwrap();
}

/// Line, and reason of each record in the quarantine.
fn quarantine(files: &BTreeMap<String, Vec<u8>>) -> Vec<(u64, String)> {
    let text = String::from_utf8(files["quarantine.jsonl"].clone()).unwrap();
    let entry = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["file"].as_str().unwrap().ends_with("a.parquet"));
        (entry["line"].as_u64().unwrap(), entry["reason"].as_str().unwrap().to_owned())
    };
    text.lines().map(entry).collect()
}

#[test]
fn a_damaged_page_in_the_middle_costs_the_rows_around_it_only() {
    let texts: Vec<String> = (0..DOCUMENTS).map(text).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    fs::write(&path, parquet(&batch(&texts))).unwrap();
    damage_group(&path);
    let one = run(dir.path(), 1);
    let (lost, total) = (quarantine(&one.1), &one.0.total);
    let count = lost.len() as u64;
    assert_eq!((total.read, total.quarantined, total.kept), (2400, count, 2400 - count));
    // The damage is behind row 1000 of 2000, in the first of two ranges.
    let (start, end) = (lost[0].0, lost[lost.len() - 1].0);
    assert!((2..=1100).contains(&start) && (1100..2000).contains(&end), "{start} to {end}: {}", lost[0].1);
    assert!(count == end - start + 1, "{start} to {end}: {count}");
    assert!(lost.iter().all(|(_, reason)| reason.starts_with("damaged row group: ")));
    assert!([2, 7].iter().all(|threads| run(dir.path(), *threads) == one));
}

#[test]
fn a_page_that_is_not_as_its_checksum_says_is_named_and_costs_its_rows_only() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/checksums.parquet");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    fs::copy(sample, &path).unwrap();
    assert_eq!(run(dir.path(), 2).0.total.kept, 30);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(9).position(|window| window == b"number 14").unwrap();
    bytes[at] = b'N'; // still a text, which only the checksum tells from the true one
    fs::write(&path, bytes).unwrap();
    let one = run(dir.path(), 1);
    let lost = quarantine(&one.1);
    assert_eq!(lost.iter().map(|(line, _)| *line).collect::<Vec<_>>(), (11..=20).collect::<Vec<_>>());
    let reason = &lost[0].1;
    assert!(reason.contains("the page at byte ") && reason.contains("of column `text`"), "{reason}");
    assert!(run(dir.path(), 4) == one);
}

/// Stops a run after so many blocks.
struct StopAfter(AtomicU64);

impl Progress for StopAfter {
    fn start(&self, _: u64) {}
    fn advance(&self, _: u64, _: u64) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// Rows that share one long text, which a dictionary holds once: more lines than a block takes.
fn repeated() -> RecordBatch {
    let values: ArrayRef = Arc::new(StringArray::from(vec![text(1).repeat(40)]));
    let keys = Int32Array::from(vec![0; 160]);
    let column: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values).unwrap());
    RecordBatch::try_from_iter([("text", column)]).unwrap()
}

#[test]
fn a_run_over_undecoded_units_is_stopped_and_resumed_or_shared_out_and_merged_into_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    fs::create_dir(&input).unwrap();
    let texts: Vec<String> = (0..DOCUMENTS / 3).map(text).collect();
    fs::write(input.join("a.warc"), warc(&texts)).unwrap();
    fs::write(input.join("b.parquet"), crate::sample::parquet(&repeated())).unwrap();
    fs::write(input.join("c.parquet"), parquet(&batch(&texts))).unwrap();
    fs::write(input.join("d.html"), text(0)).unwrap();
    let (_, whole) = run(&input, 2);
    for blocks in [2, 4] {
        let stopped = config(&input, dir.path().join(format!("stopped-{blocks}")), 2);
        pipeline::run(&stopped, &StopAfter(AtomicU64::new(blocks))).unwrap_err();
        pipeline::run(&stopped, &Silent).unwrap();
        assert!(files(&stopped.output) == whole, "stopped after {blocks}");
    }
    let part = |index: usize| {
        let part = config(&input, dir.path().join(format!("part-{index}")), 2);
        let part = PrepConfig { shard: Share { index, count: 2 }, ..part };
        pipeline::run(&part, &Silent).unwrap();
        part.output
    };
    let merged = config(&input, dir.path().join("merged"), 2);
    pipeline::merge(&[part(0), part(1)], &merged, &Silent).unwrap();
    assert!(files(&merged.output) == whole);
}
