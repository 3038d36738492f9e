//! Small files of every format, made by the writers of others.

use std::io::Write as _;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, DictionaryArray, LargeStringArray, RecordBatch, StringArray, StringViewArray,
};

pub const LINES: &str = "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"three\"}\n";

/// `LINES` as `xz` writes them.
pub const XZ: &str =
    "fd377a585a000004e6d6b4460200210116000000742fe5a3e0002e001f5d003d888a86948813e0f3894a79c19c9e587d\
    df45aecfa0e8453ba1665f8180000000417422c2ac2f077f00013b2f4a67e5b71fb6f37d010000000004595a";
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|char| char.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn record(kind: &str, content_type: &str, block: &[u8]) -> Vec<u8> {
    let header = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{kind}>\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n\
         WARC-Target-URI: http://example.org/{kind}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        block.len()
    );
    [header.as_bytes(), block, b"\r\n\r\n"].concat()
}

pub fn response(header: &str, body: &[u8]) -> Vec<u8> {
    let block = [format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n").as_bytes(), body].concat();
    record("response", "application/http; msgtype=response", &block)
}

pub fn text_columns() -> Vec<(&'static str, ArrayRef)> {
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

pub fn parquet(batch: &RecordBatch) -> Vec<u8> {
    parquet_as(batch, parquet::basic::Compression::UNCOMPRESSED)
}

pub fn parquet_as(batch: &RecordBatch, compression: parquet::basic::Compression) -> Vec<u8> {
    let mut bytes = Vec::new();
    let properties = parquet::file::properties::WriterProperties::builder().set_compression(compression);
    let properties = Some(properties.build());
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), properties).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

pub fn arrow_file(batch: &RecordBatch) -> Vec<u8> {
    let options = arrow_ipc::writer::IpcWriteOptions::default();
    let options = options.try_with_compression(Some(arrow_ipc::CompressionType::ZSTD)).unwrap();
    let mut writer =
        arrow_ipc::writer::FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

pub fn arrow_stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

/// A small file of each format.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
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

/// A table of one text in Parquet, its page compressed by Brotli, as pyarrow 25 writes it.
pub const BROTLI_PARQUET: &str = "\
    5041523115001516151e2c15021500150615061c0000001b0a0000a4010204f086400134ac701504192c350018067363 \
    68656d61150200150c250218047465787425004c1c0000001602191c191c26001c150c19250600191804746578741508 \
    1602163c16442608491c150015001502003c1602190619260002000000163c160226081644002820706172717565742d \
    6370702d6172726f772076657273696f6e2032352e302e31191c1c0000008800000050415231";
