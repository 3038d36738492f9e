//! Readers: what each format gives, what it quarantines, and that nothing in it can hurt.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::io::Write as _;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, DictionaryArray, LargeStringArray, RecordBatch, StringArray, StringViewArray,
};
use proptest::prelude::*;
use serde_json::Value;
use triptych_core::read::{self, BadRecord, Limits};
use triptych_core::Result;

const LIMITS: Limits = Limits { max_line_bytes: 1 << 20, max_file_bytes: 1 << 30, max_expansion: 1000 };

const LINES: &str = "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"three\"}\n";

/// `LINES` as `xz` writes them.
const XZ: &str =
    "fd377a585a000004e6d6b4460200210116000000742fe5a3e0002e001f5d003d888a86948813e0f3894a79c19c9e587d\
    df45aecfa0e8453ba1665f8180000000417422c2ac2f077f00013b2f4a67e5b71fb6f37d010000000004595a";

/// What a reader gave.
#[derive(Debug, Default)]
struct Given {
    /// Number and object of each record.
    records: Vec<(u64, Value)>,
    bad: Vec<BadRecord>,
    skipped: u64,
}

impl Given {
    fn texts(&self) -> Vec<&str> {
        self.records.iter().map(|(_, record)| record["text"].as_str().unwrap_or("not a string")).collect()
    }
}

fn read_file(name: &str, bytes: &[u8]) -> Result<Given> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let mut reader = read::open(&path, "text", LIMITS)?;
    let mut given = Given::default();
    while let Some(block) = reader.next_block()? {
        let lines = block.bytes.split(|byte| *byte == b'\n').zip(block.first_line..);
        for (line, number) in lines.filter(|(line, _)| !line.trim_ascii().is_empty()) {
            given.records.push((number, serde_json::from_slice(line).unwrap_or(Value::Null)));
        }
        given.bad.extend(block.bad);
        given.skipped += block.skipped;
    }
    let (size, sha256) = reader.finish()?;
    assert_eq!((size, sha256.len()), (bytes.len() as u64, 64));
    Ok(given)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|char| char.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame that asks for a window of 2^`log` bytes, its content not compressed.
fn zstd_with_window(log: u8, bytes: &[u8]) -> Vec<u8> {
    let header = (bytes.len() as u32) << 3 | 1; // the last block, raw
    [&b"\x28\xb5\x2f\xfd\0"[..], &[(log - 10) << 3], &header.to_le_bytes()[..3], bytes].concat()
}

/// One row of the table: what a file gives.
struct Case {
    name: &'static str,
    file: &'static str,
    bytes: Vec<u8>,
    texts: Vec<&'static str>,
    /// A part of the reason of each bad record.
    bad: Vec<&'static str>,
    skipped: u64,
}

fn case(name: &'static str, file: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, file, bytes: bytes.into(), texts: Vec::new(), bad: Vec::new(), skipped: 0 }
}

impl Case {
    fn texts(mut self, texts: &[&'static str]) -> Self {
        self.texts = texts.to_vec();
        self
    }

    fn bad(mut self, reasons: &[&'static str]) -> Self {
        self.bad = reasons.to_vec();
        self
    }

    fn skipped(mut self, count: u64) -> Self {
        self.skipped = count;
        self
    }

    fn check(self) {
        let given =
            read_file(self.file, &self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(given.texts(), self.texts, "{}: {given:?}", self.name);
        assert_eq!(given.bad.len(), self.bad.len(), "{}: {given:?}", self.name);
        for (bad, reason) in given.bad.iter().zip(&self.bad) {
            assert!(bad.reason.contains(reason), "{}: {}", self.name, bad.reason);
        }
        assert_eq!(given.skipped, self.skipped, "{}", self.name);
    }
}

const ALL: [&str; 3] = ["one", "two", "three"];

#[test]
fn compressed_files_are_read_whole_and_damaged_ones_up_to_the_damage() {
    let (lines, xz) = (LINES.as_bytes(), unhex(XZ));
    let (gz, zst, bz2) = (gzip(lines), zstd(lines), bzip2(lines));
    let twice = ["one", "two", "three", "one", "two", "three"];
    let damaged = ["ends early or is damaged"];
    let mut bad_crc = gz.clone();
    let crc = bad_crc.len() - 8;
    bad_crc[crc] ^= 1;
    let skippable = [&b"\x5a\x2a\x4d\x18\x03\0\0\0abc"[..], &zst, b"\x50\x2a\x4d\x18\0\0\0\0", &zst].concat();
    let missing_dictionary = [&b"\x28\xb5\x2f\xfd\x03\x58\x01\x02\x03\x04"[..], &zst[5..]].concat();
    let cases = [
        case("gzip", "a.jsonl.gz", gz.clone()).texts(&ALL),
        case("zstd", "a.jsonl.zst", zst.clone()).texts(&ALL),
        case("xz", "a.jsonl.xz", xz.clone()).texts(&ALL),
        case("bzip2", "a.jsonl.bz2", bz2.clone()).texts(&ALL),
        case("two gzip members", "a.jsonl.gz", [&gz[..], &gz].concat()).texts(&twice),
        case("two xz streams", "a.jsonl.xz", [&xz[..], &xz].concat()).texts(&twice),
        case("two bzip2 streams", "a.jsonl.bz2", [&bz2[..], &bz2].concat()).texts(&twice),
        case("skippable and concatenated zstd frames", "a.jsonl.zst", skippable).texts(&twice),
        case("zstd window of 128 MiB", "a.jsonl.zst", zstd_with_window(27, lines)).texts(&ALL),
        case("zstd with a missing dictionary", "a.jsonl.zst", missing_dictionary).bad(&["ictionary"]),
        case("gzip with a bad checksum", "a.jsonl.gz", bad_crc).texts(&ALL).bad(&damaged),
        case("gzip with garbage behind", "a.jsonl.gz", [&gz[..], b"garbage"].concat())
            .texts(&ALL)
            .bad(&damaged),
        case("gzip without its end", "a.jsonl.gz", &gz[..gz.len() - 4]).texts(&ALL).bad(&damaged),
        case("xz without its end", "a.jsonl.xz", &xz[..xz.len() - 4]).texts(&ALL).bad(&damaged),
        case("bzip2 without its end", "a.jsonl.bz2", &bz2[..bz2.len() - 9]).texts(&ALL).bad(&damaged),
        case("gzip under a plain name", "a.jsonl", gz.clone()).texts(&ALL),
        case("zstd under a name of gzip", "a.jsonl.gz", zst).texts(&ALL),
        case("plain under a name of gzip", "a.jsonl.gz", lines).texts(&ALL),
        case("an empty file under a name of gzip", "a.jsonl.gz", "").bad(&["does not begin as gzip does"]),
        case("noise under a name of xz", "a.jsonl.xz", vec![0, 1, 2, 3]).bad(&["does not begin as xz does"]),
        case("zip under a plain name", "a.jsonl", &b"PK\x03\x04 and so on"[..])
            .bad(&["zip archive: unpack it"]),
        case("7z under a name of xz", "a.jsonl.xz", &b"7z\xbc\xaf\x27\x1c"[..]).bad(&["7z archive"]),
        case("UTF-16", "a.jsonl", &b"\xff\xfe{\0}\0"[..]).bad(&["UTF-16, little-endian"]),
        case("Parquet under a name of lines", "a.jsonl", &b"PAR1...."[..]).bad(&["name it `.parquet`"]),
        case("an empty file", "a.jsonl", ""),
    ];
    cases.into_iter().for_each(Case::check);
}

#[test]
fn a_window_of_two_gib_is_read_or_refused_for_its_size_but_never_takes_the_process() {
    match read_file("a.jsonl.zst", &zstd_with_window(31, LINES.as_bytes())) {
        Ok(given) => assert_eq!(given.texts(), ALL),
        Err(error) => assert_eq!(error.exit_status(), 5, "{error}"),
    }
}

#[test]
fn markdown_and_text_are_one_document_as_they_are() {
    let text = "---\ntitle: x\n---\n\n# Head\n\n* item\n";
    case("markdown", "a.md", text).texts(&[text]).check();
    case("compressed markdown", "a.markdown.xz", text).texts(&[text]).check();
}

#[test]
fn html_is_decoded_and_only_its_main_text_is_kept() {
    let page = b"<html><head><meta charset='iso-8859-1'><title>Caf\xe9</title><script>1</script>\
        <body><p>Un caf\xe9 noir.</p></body></html>";
    let given = read_file("a.html", page).unwrap();
    assert_eq!(given.records[0].1["title"], "Café");
    assert_eq!(given.records[0].1["charset"], "windows-1252");
    assert_eq!(given.texts(), ["Un café noir."]);
    case("only a script", "a.htm.gz", gzip(b"<script>x</script>")).texts(&[""]).check();
    case("UTF-16 is fine for a page", "a.html", &b"\xff\xfe<\0p\0>\0h\0i\0"[..]).texts(&["hi"]).check();
}

fn record(kind: &str, content_type: &str, block: &[u8]) -> Vec<u8> {
    let header = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{kind}>\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n\
         WARC-Target-URI: http://example.org/{kind}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        block.len()
    );
    [header.as_bytes(), block, b"\r\n\r\n"].concat()
}

fn response(header: &str, body: &[u8]) -> Vec<u8> {
    let block = [format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n").as_bytes(), body].concat();
    record("response", "application/http; msgtype=response", &block)
}

/// Replaces text in a record's header.
fn edited(record: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = record.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    [&record[..at], to.as_bytes(), &record[at + from.len()..]].concat()
}

#[test]
fn a_record_of_a_warc_that_holds_text_is_a_document_and_others_are_skipped() {
    let page = response("Content-Type: text/html", b"<p>page</p>");
    let chunked = response(
        "Content-Type: text/html\r\nTransfer-Encoding: chunked",
        b"7\r\n<p>chun\r\n6\r\nked</p\r\n1\r\n>\r\n0\r\n\r\n",
    );
    let gzipped = response("Content-Type: text/html\r\nContent-Encoding: gzip", &gzip(b"<p>zipped"));
    let cut = gzip("<p>zipped ".repeat(99).as_bytes());
    let cut = response("Content-Type: text/html\r\nContent-Encoding: gzip", &cut[..cut.len() - 12]);
    let lying = response("Content-Type: text/html; charset=utf-8", b"<p>caf\xe9 au lait");
    let info = record("warcinfo", "application/warc-fields", b"software: x\r\n\r\n");
    let request = record("request", "application/http; msgtype=request", b"GET / HTTP/1.1\r\n\r\n");
    let wet = record("conversion", "text/plain", "plain Grüße".as_bytes());
    let members: Vec<u8> = [&info, &page, &request, &wet].iter().flat_map(|record| gzip(record)).collect();
    let image = response("Content-Type: image/png", b"\x89PNG");
    let moved = edited(&page, "200 OK", "301 No");
    let folded = edited(&page, "Content-Length", "X-Note: a\r\n  b\r\nContent-Length");
    let cases = [
        case("records as gzip members", "a.warc.gz", members).texts(&["page", "plain Grüße"]).skipped(2),
        case("a WET name", "a.warc.wet.gz", gzip(&wet)).texts(&["plain Grüße"]),
        case("a resource", "a.warc", record("resource", "text/html", b"<p>here")).texts(&["here"]),
        case("chunked", "a.warc", chunked).texts(&["chunked"]),
        case("gzip payload", "a.warc", gzipped).texts(&["zipped"]),
        case("gzip payload, cut", "a.warc", [&cut[..], &page].concat())
            .texts(&["page"])
            .bad(&["payload's gzip"]),
        case(
            "a payload that was unzipped already",
            "a.warc",
            response("Content-Type: text/html\r\nContent-Encoding: gzip", b"<p>open"),
        )
        .texts(&["open"]),
        case("version 0.17", "a.warc", edited(&page, "WARC/1.0", "WARC/0.17")).texts(&["page"]),
        case("version 1.1, folded header", "a.warc", edited(&folded, "WARC/1.0", "WARC/1.1"))
            .texts(&["page"]),
        case("an unknown version", "a.warc", [&edited(&page, "WARC/1.0", "WARC/9.0")[..], &page].concat())
            .texts(&["page"])
            .bad(&["unknown version"]),
        case("a header that lies about UTF-8", "a.warc", lying).texts(&["café au lait"]),
        case("an image and a redirect", "a.warc", [image, moved].concat()).skipped(2),
        case("no media type", "a.warc", response("X: y", b"<!DOCTYPE html><p>sniffed")).texts(&["sniffed"]),
        case(
            "too small a length",
            "a.warc",
            [&edited(&page, "Content-Length: 55", "Content-Length: 9")[..], &wet].concat(),
        )
        .texts(&["plain Grüße"])
        .bad(&["wrong `Content-Length`"]),
        case(
            "too large a length",
            "a.warc",
            [&edited(&page, "Content-Length: 55", "Content-Length: 99")[..], &wet, &page].concat(),
        )
        .texts(&["plain Grüße", "page"])
        .bad(&["wrong `Content-Length`"]),
        case("no length", "a.warc", [&edited(&page, "Content-Length", "X")[..], &page].concat())
            .texts(&["page"])
            .bad(&["no `Content-Length`"]),
        case(
            "a block over the limit",
            "a.warc",
            [&response("Content-Type: text/html", &vec![b'x'; 2 << 20])[..], &page].concat(),
        )
        .texts(&["page"])
        .bad(&["the record is too long"]),
        case("a cut file", "a.warc", [&page[..], &page[..page.len() - 9]].concat())
            .texts(&["page"])
            .bad(&["ends inside"]),
        case("a cut archive", "a.warc.gz", [&gzip(&page)[..], &gzip(&wet)[..80]].concat())
            .texts(&["page"])
            .bad(&["ends early or is damaged"]),
        case("only line ends", "a.warc", "\r\n\r\n"),
        case("no WARC at all", "a.warc", "hello\nworld\n").bad(&["not a WARC record"]),
    ];
    cases.into_iter().for_each(Case::check);
}

#[test]
fn a_record_keeps_its_id_address_and_date_and_its_number_in_the_file() {
    let file =
        [record("warcinfo", "x/y", b"a"), response("Content-Type: text/html", b"<title>T</title><p>p")]
            .concat();
    let given = read_file("a.warc", &file).unwrap();
    let (number, record) = &given.records[0];
    assert_eq!(*number, 2);
    let expected = serde_json::json!({
        "id": "<urn:uuid:response>", "url": "http://example.org/response", "date": "2024-01-01T00:00:00Z",
        "mime": "text/html", "charset": "UTF-8", "title": "T", "text": "p"
    });
    assert_eq!(*record, expected);
}

fn text_columns() -> Vec<(&'static str, ArrayRef)> {
    let texts = [Some("one"), None, Some("three")];
    let bytes: [Option<&[u8]>; 3] = [Some(b"one"), None, Some(b"three")];
    vec![
        ("utf8", Arc::new(StringArray::from_iter(texts))),
        ("large_utf8", Arc::new(LargeStringArray::from_iter(texts))),
        ("string view", Arc::new(StringViewArray::from_iter(texts))),
        ("dictionary", Arc::new(DictionaryArray::<arrow_array::types::Int32Type>::from_iter(texts))),
        ("binary", Arc::new(BinaryArray::from_iter(bytes))),
    ]
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn arrow_file(batch: &RecordBatch) -> Vec<u8> {
    let options = arrow_ipc::writer::IpcWriteOptions::default();
    let options = options.try_with_compression(Some(arrow_ipc::CompressionType::ZSTD)).unwrap();
    let mut writer =
        arrow_ipc::writer::FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn arrow_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn text_columns_of_every_type_are_read_and_nulls_cost_their_row_only() {
    for (name, column) in text_columns() {
        let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
        let twice = ["one", "three", "one", "three"];
        case(name, "a.parquet", parquet(&batch)).texts(&["one", "three"]).bad(&["null"]).check();
        case(name, "a.arrow", arrow_file(&batch)).texts(&["one", "three"]).bad(&["null"]).check();
        case(name, "a.feather", arrow_stream(&batch)).texts(&twice).bad(&["null"; 2]).check();
        case(name, "a.arrow.gz", gzip(&arrow_file(&batch))).texts(&["one", "three"]).bad(&["null"]).check();
    }
}

#[test]
fn binary_text_that_is_not_utf_8_costs_its_row_only() {
    let column: ArrayRef = Arc::new(BinaryArray::from_iter_values([&b"good"[..], b"bad \xff"]));
    let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
    case("binary", "a.parquet", parquet(&batch)).texts(&["good"]).bad(&["not UTF-8"]).check();
}

#[test]
fn a_missing_column_is_an_error_that_names_those_there_are() {
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(["x"]));
    let batch = RecordBatch::try_from_iter([("body", Arc::clone(&column)), ("url", column)]).unwrap();
    for (name, bytes) in [("a.parquet", parquet(&batch)), ("a.arrow", arrow_file(&batch))] {
        let error = read_file(name, &bytes).unwrap_err().to_string();
        assert!(error.contains("columns body, url"), "{error}");
    }
}

#[test]
fn damaged_tables_give_what_stands_before_the_damage() {
    let batch = RecordBatch::try_from_iter([("text", text_columns().remove(0).1)]).unwrap();
    let (file, stream) = (parquet(&batch), arrow_stream(&batch));
    case("no footer", "a.parquet", &file[..file.len() - 9]).bad(&["not Parquet, or damaged"]).check();
    let mut beyond = file.clone();
    let at = beyond.len() - 8;
    beyond[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
    case("a footer beyond the file", "a.parquet", beyond).bad(&["not Parquet, or damaged"]).check();
    let cut = &stream[..stream.len() - 20];
    case("a cut stream", "a.arrow", cut).texts(&["one", "three"]).bad(&["null", "ends early"]).check();
    case("lines under a name of Parquet", "a.parquet", LINES).bad(&["not Parquet"]).check();
}

/// A small file of each format.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let batch = RecordBatch::try_from_iter([("text", text_columns().remove(0).1)]).unwrap();
    let warc =
        [response("Content-Type: text/html", b"<p>page</p>"), record("conversion", "text/plain", b"text")]
            .concat();
    vec![
        ("a.jsonl", LINES.into()),
        ("a.jsonl.gz", gzip(LINES.as_bytes())),
        ("a.jsonl.zst", zstd(LINES.as_bytes())),
        ("a.jsonl.xz", unhex(XZ)),
        ("a.jsonl.bz2", bzip2(LINES.as_bytes())),
        ("a.txt", "some text".into()),
        ("a.html", "<html><title>t</title><ul><li>some<li>text</ul><table><tr><td>x</html>".into()),
        ("a.warc", warc.clone()),
        ("a.warc.gz", gzip(&warc)),
        ("a.parquet", parquet(&batch)),
        ("a.arrow", arrow_file(&batch)),
        ("a.feather", arrow_stream(&batch)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_flip_and_no_cut_of_any_format_panics_or_hides_a_record(
        sample in 0..12_usize, at in any::<prop::sample::Index>(), mask in 1..=255_u8, is_cut in any::<bool>()
    ) {
        let (name, mut bytes) = samples().swap_remove(sample);
        let at = at.index(bytes.len());
        if is_cut { bytes.truncate(at) } else { bytes[at] ^= mask }
        if let Ok(given) = read_file(name, &bytes) {
            let numbers: Vec<u64> = given.records.iter().map(|(number, _)| *number).collect();
            prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{:?}", given);
            let is_hidden = |bad: &BadRecord| numbers.contains(&bad.line);
            prop_assert!(!given.bad.iter().any(is_hidden), "{:?}", given);
        }
    }
}

#[test]
fn archives_are_refused_by_name_with_what_to_do() {
    for name in ["a.zip", "a.tar.gz", "a.7z"] {
        let error = read_file(name, b"x").unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(error.to_string().contains("an archive: unpack it"), "{error}");
    }
}
