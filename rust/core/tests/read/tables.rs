//! Parquet and Arrow.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, NullArray, RecordBatch, StringArray};

use crate::case::case;
use crate::feed::feed;
use crate::sample::{arrow_file, arrow_stream, gzip, parquet, text_columns, unhex, BROTLI_PARQUET, LINES};

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
fn a_text_column_of_nothing_but_nulls_costs_its_rows_and_not_the_run() {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(["a", "b"]));
    let batch = RecordBatch::try_from_iter([("id", ids), ("text", Arc::new(NullArray::new(2)))]).unwrap();
    for (name, bytes) in [("a.parquet", parquet(&batch)), ("a.arrow", arrow_file(&batch))] {
        case(name, name, bytes).bad(&["the text is null"; 2]).check();
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
        let error = feed(name, &bytes).unwrap_err().to_string();
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
    let encrypted = [&file[..file.len() - 4], b"PARE"].concat();
    case("an encrypted footer", "a.parquet", encrypted)
        .bad(&["the footer is encrypted, which is not read"])
        .check();
    let cut = &stream[..stream.len() - 20];
    case("a cut stream", "a.arrow", cut).texts(&["one", "three"]).bad(&["null", "ends early"]).check();
    case("lines under a name of Parquet", "a.parquet", LINES).bad(&["not Parquet"]).check();
}

#[test]
fn a_codec_that_is_not_read_is_named_and_not_called_damage() {
    let given = feed("a.parquet", &unhex(BROTLI_PARQUET)).unwrap();
    let reasons: Vec<&str> = given.bad.iter().map(|bad| bad.reason.as_str()).collect();
    assert_eq!(reasons, ["pages compressed by Brotli, which is not read: write them by zstd or snappy"]);
}
