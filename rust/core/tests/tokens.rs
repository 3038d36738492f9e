//! The tables of `tests/cases` and damaged folders, against the public interface.
#![allow(clippy::unwrap_used, clippy::cast_sign_loss)] // a test may fail anywhere; positions are not negative

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{json, Value};
use triptych_core::draft::Draft;
use triptych_core::manifest;
use triptych_core::order::{Batch, Order, Stage};
use triptych_core::pack::{Packing, Strategy, WINDOW_UNITS};
use triptych_core::shard::{
    write_token_shards, RenderedDocument, ShardSpec, ShardWriter, TokenShards, FORMAT,
};
use triptych_core::tokenize::{tokenize_documents, train, Tokenizer, TrainConfig};
use triptych_core::Error;

fn cases(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name);
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn tokenizer() -> Tokenizer {
    let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
    let text = "the cat sat on the mat; the cat's hat. Ein Straßenfest in Köln, 2024. ".repeat(4);
    train(std::iter::once(Ok(text)), &config, &mut |_, _| {}).unwrap()
}

/// A document of `length` ids that differ from their neighbours.
fn document(id: usize, length: usize) -> RenderedDocument {
    let ids = (0..length).map(|token| 7 + ((id * 31 + token) % 250) as u32).collect();
    (format!("doc-{id}"), "test".to_owned(), ids, None)
}

fn shards(folder: &Path, lengths: &[usize]) -> PathBuf {
    let documents: Vec<_> = lengths.iter().enumerate().map(|(id, length)| document(id, *length)).collect();
    write_token_shards(&documents, &tokenizer(), folder, 1).unwrap();
    folder.to_owned()
}

fn stage(name: &str, steps: u64, rows_per_step: u64, seq_len: usize, weights: &[(&str, f64)]) -> Stage {
    let weights = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
    Stage { name: name.to_owned(), steps, rows_per_step, seq_len, weights, ..Stage::default() }
}

#[test]
fn every_text_of_the_table_survives_a_round_trip() {
    let tokenizer = tokenizer();
    for case in cases("round_trip.jsonl") {
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text, "{}", case["name"]);
        assert!(ids.iter().all(|id| *id >= 7), "{}", case["name"]);
    }
}

#[test]
fn packing_gives_the_rows_of_the_table() {
    for case in cases("packing.jsonl") {
        let lengths: Vec<u32> = serde_json::from_value(case["lengths"].clone()).unwrap();
        let number = |key: &str| case[key].as_u64().unwrap();
        let packing = Packing::new(
            &lengths,
            number("documents_per_unit") as usize,
            number("seq_len") as usize,
            Strategy::named(case["packing"].as_str().unwrap()).unwrap(),
            WINDOW_UNITS,
        )
        .unwrap();
        let rows: Vec<Vec<[u32; 3]>> = (0..packing.num_rows())
            .map(|row| packing.row(row).iter().map(|s| [s.document, s.start, s.length]).collect())
            .collect();
        assert_eq!(json!(rows), case["rows"], "{}", case["name"]);
        let report = packing.report();
        assert_eq!(
            (report.cuts, report.dropped_units),
            (number("cuts"), number("dropped_units")),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn sources_come_in_the_order_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    for (index, case) in cases("interleave.jsonl").into_iter().enumerate() {
        let weights: BTreeMap<String, f64> = serde_json::from_value(case["weights"].clone()).unwrap();
        let sources: Vec<(String, PathBuf)> = weights
            .keys()
            .map(|name| (name.clone(), shards(&dir.path().join(format!("{index}-{name}")), &[5])))
            .collect();
        let names: Vec<String> = weights.keys().cloned().collect();
        let expected: Vec<String> = serde_json::from_value(case["sources"].clone()).unwrap();
        let stage = Stage {
            name: "s".into(),
            steps: expected.len() as u64,
            rows_per_step: 1,
            seq_len: 8,
            weights,
            ..Stage::default()
        };
        let order = Order::new(sources, vec![stage], 0).unwrap();
        let found: Vec<String> = (0..order.num_steps())
            .map(|step| names[order.rows(step).unwrap()[0].0 as usize].clone())
            .collect();
        assert_eq!(found, expected, "{}", case["name"]);
    }
}

#[test]
fn shards_give_back_what_was_written_across_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tokens");
    let spec = ShardSpec { max_shard_tokens: 20, has_mask: true, ..ShardSpec::plain(&tokenizer()) };
    let mut writer = ShardWriter::create(&folder, spec).unwrap();
    let documents: Vec<_> =
        [9, 11, 1, 30, 5].iter().enumerate().map(|(id, length)| document(id, *length)).collect();
    for (id, source, ids, _) in &documents {
        let mask: Vec<u8> = ids.iter().map(|id| (id % 2) as u8).collect();
        writer.append(id, source, ids, Some(&mask)).unwrap();
    }
    writer.commit(&json!({})).unwrap();
    let shards = TokenShards::open(&folder).unwrap();
    assert_eq!(shards.content().shards.len(), 4);
    shards.verify().unwrap();
    for (number, (id, _, ids, _)) in (0..).zip(&documents) {
        let (mut tokens, mut mask) = (vec![0; ids.len()], vec![0; ids.len()]);
        shards.read(number, 0, &mut tokens).unwrap();
        shards.read_mask(number, 0, &mut mask).unwrap();
        assert_eq!((shards.document_id(number).unwrap(), &tokens), (id.as_str(), ids));
        assert!(mask.iter().zip(ids).all(|(byte, id)| u32::from(*byte) == id % 2));
    }
}

#[test]
fn a_vocabulary_over_65536_is_stored_in_four_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tokens");
    let spec = ShardSpec { vocab_size: 70_000, ..ShardSpec::plain(&tokenizer()) };
    let mut writer = ShardWriter::create(&folder, spec).unwrap();
    writer.append("a", "s", &[1, 69_999, 2], None).unwrap();
    assert!(writer.append("b", "s", &[70_000], None).is_err());
    writer.commit(&json!({})).unwrap();
    let mut tokens = [0; 3];
    TokenShards::open(&folder).unwrap().read(0, 0, &mut tokens).unwrap();
    assert_eq!(tokens, [1, 69_999, 2]);
    assert_eq!(fs::metadata(folder.join("00000.bin")).unwrap().len(), 12);
}

/// Expects `Integrity` that names `file`, from opening or from verifying.
fn assert_damaged(folder: &Path, file: &str, at_open: bool) {
    let error = match TokenShards::open(folder) {
        Err(error) => error,
        Ok(shards) => {
            assert!(!at_open, "the damage to {file} was not seen at open");
            shards.verify().unwrap_err()
        }
    };
    assert!(matches!(&error, Error::Integrity { path, .. } if path.ends_with(file)), "{error}");
    assert_eq!(error.exit_status(), 4);
}

#[test]
fn every_flipped_byte_truncation_or_missing_file_is_an_integrity_error() {
    let dir = tempfile::tempdir().unwrap();
    for (index, file) in ["00000.bin", "00000.docs.parquet"].into_iter().enumerate() {
        let folder = shards(&dir.path().join(format!("t{index}")), &[5, 9]);
        let path = folder.join(file);
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert_damaged(&folder, file, file.ends_with("parquet"));
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert_damaged(&folder, file, true);
        fs::remove_file(&path).unwrap();
        assert_damaged(&folder, file, true);
    }
}

/// Rewrites the folder with a change to its content, under a manifest with true hashes.
fn rewrite(folder: &Path, change: impl Fn(&mut Value), file: Option<(&str, &[u8])>) {
    let mut old = manifest::Manifest::read(folder, FORMAT).unwrap();
    change(&mut old.content);
    let draft = Draft::start(folder).unwrap();
    for name in old.files.keys() {
        fs::copy(folder.join(name), draft.path(name)).unwrap();
    }
    if let Some((name, bytes)) = file {
        fs::write(draft.path(name), bytes).unwrap();
    }
    draft.commit(FORMAT, old.made_from, old.content).unwrap();
}

#[test]
fn a_manifest_that_contradicts_its_files_is_an_integrity_error() {
    let changes: [fn(&mut Value); 11] = [
        |content| content["shards"][0]["name"] = json!("../t0/00000"),
        |content| content["shards"][0]["tokens"] = json!(u64::MAX),
        |content| {
            let shard = json!({"name": "00001", "documents": u64::MAX, "tokens": u64::MAX});
            content["shards"].as_array_mut().unwrap().push(shard);
        },
        |content| content["shards"] = json!([]),
        |content| content["dtype"] = json!("u32"),
        |content| content["dtype"] = json!("f32"),
        |content| content["vocab_size"] = json!(100_000),
        |content| content["num_tokens"] = json!(15),
        |content| content["documents_per_unit"] = json!(0),
        |content| content["has_mask"] = json!(true),
        |content| {
            content["num_documents"] = json!(3);
            content["shards"][0]["documents"] = json!(3);
        },
    ];
    let dir = tempfile::tempdir().unwrap();
    for (index, change) in changes.into_iter().enumerate() {
        let folder = shards(&dir.path().join(format!("t{index}")), &[5, 9]);
        rewrite(&folder, change, None);
        let error = TokenShards::open(&folder).unwrap_err();
        assert!(matches!(error, Error::Integrity { .. }), "{index}: {error}");
    }
}

#[test]
fn an_id_outside_the_vocabulary_is_an_integrity_error_on_read_and_on_verify() {
    let dir = tempfile::tempdir().unwrap();
    let folder = shards(&dir.path().join("t"), &[2]);
    rewrite(&folder, |_| {}, Some(("00000.bin", &[8, 0, 0xFF, 0xFF])));
    let shards = TokenShards::open(&folder).unwrap();
    for error in [shards.read(0, 0, &mut [0; 2]).unwrap_err(), shards.verify().unwrap_err()] {
        assert!(error.to_string().contains("id 65535 at token 1"), "{error}");
    }
}

#[test]
fn a_mask_of_other_bytes_than_0_and_1_is_an_integrity_error_on_verify() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("t");
    let document = ("d".to_owned(), "s".to_owned(), vec![7, 8], Some(vec![0, 1]));
    write_token_shards(&[document], &tokenizer(), &folder, 1).unwrap();
    rewrite(&folder, |_| {}, Some(("00000.mask.bin", &[1, 3])));
    let error = TokenShards::open(&folder).unwrap().verify().unwrap_err();
    assert!(error.to_string().contains("found 3 at byte 1"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Under a manifest that says that all is well, so that the table itself is what is read.
    #[test]
    fn a_document_table_of_any_bytes_is_an_error_or_harmless(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let folder = shards(&dir.path().join("t"), &[5, 9, 3]);
        let mut table = fs::read(folder.join("00000.docs.parquet")).unwrap();
        for (index, bit) in flips {
            let index = index.index(table.len());
            table[index] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            table.truncate(cut.index(table.len()));
        }
        rewrite(&folder, |_| {}, Some(("00000.docs.parquet", &table)));
        let read = TokenShards::open(&folder)
            .and_then(|shards| (0..3).try_for_each(|document| shards.document_id(document).map(drop)));
        if let Err(error) = read {
            prop_assert!(matches!(error, Error::Integrity { .. }), "{}", error);
        }
    }
}

#[test]
fn tokenized_documents_do_not_depend_on_the_order_of_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let inputs: Vec<PathBuf> = ["b.txt", "a.txt"].iter().map(|name| dir.path().join(name)).collect();
    for path in &inputs {
        fs::write(path, format!("the cat {}", path.display())).unwrap();
    }
    let tokenizer = tokenizer();
    let run = |inputs: &[PathBuf]| {
        tokenize_documents(inputs, &tokenizer, &dir.path().join("out"), &mut |_| {}).unwrap()
    };
    let first = run(&inputs);
    let reversed: Vec<PathBuf> = inputs.iter().rev().cloned().collect();
    assert_eq!(run(&reversed), first);
    let shards = TokenShards::open(&dir.path().join("out")).unwrap();
    assert_eq!(shards.document_id(0).unwrap(), "a.txt:1");
    let mut tokens = vec![0; shards.lengths()[0] as usize];
    shards.read(0, 0, &mut tokens).unwrap();
    let ids = tokenizer.ids();
    assert_eq!((tokens.first(), tokens.last()), (Some(&ids.bos), Some(&ids.eos)));
}

#[test]
fn every_row_comes_once_an_epoch_and_counters_go_on_across_stages() {
    let dir = tempfile::tempdir().unwrap();
    let folder = shards(&dir.path().join("t"), &[8; 30]);
    let stages = vec![stage("one", 2, 5, 8, &[("a", 1.0)]), stage("two", 10, 5, 8, &[("a", 1.0)])];
    let order = Order::new(vec![("a".to_owned(), folder)], stages, 3).unwrap();
    let mut documents: Vec<u32> = (0..order.num_steps())
        .flat_map(|step| order.rows(step).unwrap())
        .map(|(_, row)| row[0].document)
        .collect();
    assert_ne!(documents[..30], documents[30..]);
    for epoch in documents.chunks_mut(30) {
        epoch.sort_unstable();
        assert!(epoch.iter().copied().eq(0..30));
    }
    assert!((order.report().sources[0].packings[0].epochs - 2.0).abs() < 1e-12);
    assert_eq!(order.report().stages.iter().map(|s| s.draws[0].tokens).sum::<u64>(), 480);
}

#[test]
fn a_stage_that_goes_on_reads_with_the_one_before_what_one_stage_reads() {
    let dir = tempfile::tempdir().unwrap();
    let sources = ["a", "b"].map(|name| (name.to_owned(), shards(&dir.path().join(name), &[8; 30])));
    let open = |stages| Order::new(sources.to_vec(), stages, 3);
    let weights = [("a", 0.97), ("b", 0.03)];
    let parts: Vec<Stage> = (1..9)
        .map(|rows| Stage { goes_on: rows > 1, ..stage(&rows.to_string(), 3, rows, 8, &weights) })
        .collect();
    let (whole, parted) =
        (open(vec![stage("s", 108, 1, 8, &weights)]).unwrap(), open(parts.clone()).unwrap());
    let rows = |order: &Order| -> Vec<(u32, u32)> {
        let steps = 0..order.num_steps();
        steps
            .flat_map(|step| order.rows(step).unwrap())
            .map(|(source, row)| (source, row[0].document))
            .collect()
    };
    assert_eq!(rows(&parted), rows(&whole));
    let dealt = |order: &Order, source: &str| -> (u64, u64) {
        let stages = order.report().stages.into_iter().flat_map(|stage| stage.draws);
        let own = stages.filter(|draw| draw.source == source);
        own.fold((0, 0), |sum, draw| (sum.0 + draw.rows, sum.1 + draw.tokens))
    };
    assert_eq!(["a", "b"].map(|name| dealt(&parted, name)), ["a", "b"].map(|name| dealt(&whole, name)));
    for wrong in [Stage { seq_len: 4, ..parts[1].clone() }, Stage { ramp_steps: 1, ..parts[1].clone() }] {
        assert!(open(vec![parts[0].clone(), wrong]).unwrap_err().to_string().contains("`goes_on`"));
    }
    assert!(matches!(open(vec![parts[1].clone()]), Err(Error::InvalidValue { .. })), "no stage is before it");
}

#[test]
fn parts_of_a_batch_join_to_the_whole_and_labels_cross_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let folder = shards(&dir.path().join("t"), &[20, 3, 5, 7]);
    let order =
        Order::new(vec![("a".to_owned(), folder)], vec![stage("s", 1, 5, 8, &[("a", 1.0)])], 0).unwrap();
    let whole = order.batch(0, 0, None).unwrap();
    let parts: Vec<Batch> = (0..5).map(|row| order.batch(0, row, Some(1)).unwrap()).collect();
    assert_eq!(parts.iter().flat_map(|part| part.labels.clone()).collect::<Vec<_>>(), whole.labels);
    assert_eq!(whole.input_ids.len(), 35);
    // Four documents have 35 tokens; each but the last token of a document is predicted.
    assert_eq!(whole.labels.iter().filter(|label| **label != -100).count(), 31);
    for (segment, bounds) in whole.tokens.cu_seqlens.windows(2).enumerate() {
        let (start, end) = (bounds[0] as usize, bounds[1] as usize);
        assert!(whole.position_ids[start..end].iter().copied().eq((0..).take(end - start)));
        assert_eq!(whole.labels[start..end - 1], whole.input_ids[start + 1..end]);
        assert_eq!(
            order.document_id(0, whole.tokens.documents[segment] as u64).unwrap(),
            format!("doc-{}", whole.tokens.documents[segment])
        );
    }
}

#[test]
fn a_batch_made_by_all_threads_is_that_of_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let lengths: Vec<usize> = (0..400).map(|number| 1 + number * 37 % 700).collect();
    let folder = shards(&dir.path().join("t"), &lengths);
    let stages = vec![stage("s", 1, 150, 512, &[("a", 1.0)])];
    let order = Order::new(vec![("a".to_owned(), folder)], stages, 0).unwrap();
    let whole = order.batch(0, 0, None).unwrap();
    assert!(whole.input_ids.len() > 1 << 16, "{}", whole.input_ids.len());
    let rows: Vec<Batch> = (0..150).map(|row| order.batch(0, row, Some(1)).unwrap()).collect();
    let joined = |values: fn(&Batch) -> &Vec<i64>| -> Vec<i64> {
        rows.iter().flat_map(|row| values(row).clone()).collect()
    };
    assert_eq!(joined(|batch| &batch.input_ids), whole.input_ids);
    assert_eq!(joined(|batch| &batch.labels), whole.labels);
    assert_eq!(joined(|batch| &batch.position_ids), whole.position_ids);
    assert!(rows.iter().flat_map(|row| &row.weights).eq(&whole.weights));
    let sum = rows.iter().fold(0_u64, |sum, row| sum.wrapping_add(row.tokens.ids_hash));
    assert_eq!(sum, whole.tokens.ids_hash);
}

#[test]
fn faults_of_the_stage_table_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = shards(&dir.path().join("t"), &[5]);
    let open = |stages| Order::new(vec![("web".to_owned(), folder.clone())], stages, 0).unwrap_err();
    let unknown = open(vec![stage("s", 1, 1, 8, &[("wbe", 1.0)])]);
    assert_eq!(unknown.hint().as_deref(), Some("did you mean `web`?"));
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(open(vec![stage("s", 1, 1, 8, &[("web", weight)])]), Error::InvalidValue { .. }));
    }
    for bad in
        [stage("s", 0, 1, 8, &[("web", 1.0)]), stage("s", 1, 1, 0, &[("web", 1.0)]), stage("s", 1, 1, 8, &[])]
    {
        assert!(matches!(open(vec![bad]), Error::InvalidValue { .. }));
    }
    let order =
        Order::new(vec![("web".to_owned(), folder.clone())], vec![stage("s", 2, 1, 8, &[("web", 1.0)])], 0)
            .unwrap();
    assert!(matches!(order.rows(2), Err(Error::InvalidValue { .. })));
    assert!(matches!(order.batch(0, 0, Some(2)), Err(Error::InvalidValue { .. })));
}
