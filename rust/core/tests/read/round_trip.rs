//! What a run writes, read again: every field of every record is what it was.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{json, Map, Value};
use triptych_core::config::PrepConfig;
use triptych_core::pipeline::{self, Silent};
use triptych_core::write::OutputFormat;

use crate::feed::feed;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)), // exact in decimal
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A record with a text of letters, which no rule changes, and any other fields.
fn record() -> impl Strategy<Value = Map<String, Value>> {
    let fields = prop::collection::btree_map("[a-zäß中\"\\\\ ]{0,6}", value(), 0..5);
    ("[a-zA-Zäßé中あ😀\\p{Cc} \\n\"\\\\]{1,80}", any::<String>(), fields).prop_map(|(text, id, fields)| {
        let mut record: Map<String, Value> = fields.into_iter().collect();
        for name in ["id", "text", "source", "fields"] {
            record.remove(name);
        }
        record.insert("text".to_owned(), text.into());
        record.insert("id".to_owned(), id.into());
        record
    })
}

/// The records that a run makes of `input`, one after the other.
fn written(input: &Path, output: &Path, format: OutputFormat) -> Vec<Value> {
    let config = PrepConfig {
        input: vec![input.to_owned()],
        output: output.to_owned(),
        profile: "clean".to_owned(),
        shard_bytes: 400,
        format,
        threads: 1,
        ..PrepConfig::default()
    };
    let summary = pipeline::run(&config, &Silent).unwrap();
    assert_eq!(summary.ledger.total.read, summary.ledger.total.kept);
    let mut shards: Vec<_> = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with('0'));
    shards.sort();
    let records = shards.iter().flat_map(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        let given = feed(&name, &fs::read(path).unwrap()).unwrap();
        assert_eq!(given.bad, []);
        given.records.into_iter().map(|(_, record)| record)
    });
    records.collect()
}

/// A row of a Parquet shard with its other fields in their places.
fn unfolded(mut row: Value) -> Value {
    let fields = row["fields"].take();
    let fields: Value = serde_json::from_str(fields.as_str().unwrap_or("{}")).unwrap();
    let row = row.as_object_mut().unwrap();
    row.remove("fields");
    row.extend(fields.as_object().unwrap().clone());
    Value::Object(row.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn what_is_written_in_any_format_is_read_as_it_was(records in prop::collection::vec(record(), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.jsonl");
        let lines: Vec<String> = records.iter().map(|record| json!(record).to_string()).collect();
        fs::write(&input, lines.join("\n")).unwrap();
        let expected: Vec<Value> = records.into_iter().map(|mut record| {
            record.insert("source".to_owned(), "in".into());
            Value::Object(record)
        }).collect();
        for (name, format) in [("a", OutputFormat::JsonlZst), ("b", OutputFormat::Jsonl), ("c", OutputFormat::Parquet)] {
            let mut found = written(&input, &dir.path().join(name), format);
            if format == OutputFormat::Parquet {
                found = found.into_iter().map(unfolded).collect();
            }
            prop_assert_eq!(&found, &expected);
        }
    }
}
