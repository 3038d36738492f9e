//! Token files of other tools: in, out, and damaged in every way.
#![allow(clippy::unwrap_used)] // a test may fail anywhere

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use triptych_core::shard::foreign::{
    export_megatron, import_tokens, plan_import, Boundary, ForeignFormat, IdType, ImportConfig, ImportLedger,
};
use triptych_core::shard::{write_token_shards, TokenShards};
use triptych_core::tokenize::{train, Tokenizer, TrainConfig};
use triptych_core::{Error, Result};

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| {
        let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
        let text = "the cat sat on the mat; the cat's hat. Ein Straßenfest in Köln, 2024. ".repeat(4);
        train(std::iter::once(Ok(text)), &config, &mut |_, _| {}).unwrap()
    });
    &TOKENIZER
}

fn config(input: &Path, format: ForeignFormat) -> ImportConfig {
    ImportConfig {
        input: vec![input.to_owned()],
        format,
        id_type: (format == ForeignFormat::Raw).then_some(IdType::U16),
        boundary: Boundary::File,
        source: None,
    }
}

fn import(config: &ImportConfig, output: &Path) -> Result<ImportLedger> {
    import_tokens(config, tokenizer(), output, &mut |_| {}).map(|(_, ledger)| ledger)
}

/// Id, ids and mask of every document of a folder.
fn documents(folder: &Path) -> Vec<(String, Vec<u32>, Vec<u8>)> {
    let shards = TokenShards::open(folder).unwrap();
    shards.verify().unwrap();
    (0..shards.content().num_documents)
        .map(|document| {
            let length = shards.lengths()[document as usize] as usize;
            let (mut ids, mut mask) = (vec![0; length], vec![0; length]);
            shards.read(document, 0, &mut ids).unwrap();
            shards.read_mask(document, 0, &mut mask).unwrap();
            (shards.document_id(document).unwrap().to_owned(), ids, mask)
        })
        .collect()
}

fn ids_of(folder: &Path) -> Vec<Vec<u32>> {
    documents(folder).into_iter().map(|(_, ids, _)| ids).collect()
}

fn little_endian<const N: usize>(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()[..N].to_vec()).collect()
}

/// A Megatron index by the letter of its description, with the given sequences a document.
fn megatron(prefix: &Path, code: u8, documents: &[&[&[u64]]], modes: Option<u8>) -> PathBuf {
    let width = [0, 1, 1, 2, 4, 8, 0, 0, 2][code as usize];
    let sequences: Vec<&[u64]> = documents.iter().flat_map(|document| document.iter().copied()).collect();
    let lengths: Vec<u64> = sequences.iter().map(|ids| ids.len() as u64).collect();
    let mut pointers = vec![0];
    pointers.extend(lengths.iter().scan(0, |end, length| {
        *end += length * width as u64;
        Some(*end)
    }));
    pointers.pop();
    let mut entries = vec![0];
    entries.extend(documents.iter().scan(0, |end, document| {
        *end += document.len() as u64;
        Some(*end)
    }));
    let mut index = b"MMIDIDX\0\0".to_vec();
    index.extend(little_endian::<8>(&[1]));
    index.push(code);
    index.extend(little_endian::<8>(&[lengths.len() as u64, entries.len() as u64]));
    index.extend(little_endian::<4>(&lengths));
    index.extend(little_endian::<8>(&pointers));
    index.extend(little_endian::<8>(&entries));
    index.extend(modes.map(|mode| vec![mode; lengths.len()]).unwrap_or_default());
    fs::write(prefix.with_extension("idx"), index).unwrap();
    let ids: Vec<u8> = sequences
        .iter()
        .flat_map(|ids| ids.iter().flat_map(|id| id.to_le_bytes()[..width].to_vec()))
        .collect();
    fs::write(prefix.with_extension("bin"), ids).unwrap();
    prefix.with_extension("idx")
}

fn datatrove(path: &Path, documents: &[&[u64]], mask: Option<&[u8]>) {
    let ends: Vec<u64> = documents
        .iter()
        .scan(0, |end, ids| {
            *end += ids.len() as u64;
            Some(*end)
        })
        .collect();
    let ids: Vec<u64> = documents.concat();
    let beside = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    fs::write(path, little_endian::<2>(&ids)).unwrap();
    fs::write(beside(".index"), little_endian::<8>(&ends)).unwrap();
    fs::write(beside(".metadata"), format!("a|b|2\n{}\n{} T", ids.len(), ids.len())).unwrap();
    if let Some(mask) = mask {
        fs::write(beside(".loss"), mask).unwrap();
    }
}

fn npy(path: &Path, description: &str, shape: &str, ids: &[u8]) {
    let header = format!("{{'descr': '{description}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(ids);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_megatron_dataset_gives_a_document_for_all_sequences_of_one_and_counts_empty_ones() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let sets: &[&[&[u64]]] = &[&[&[7, 8], &[9]], &[], &[&[]], &[&[10, 11, 12]]];
    for (code, modes) in [(8, None), (4, None), (5, Some(0)), (3, None), (1, None), (2, None)] {
        let prefix = dir.path().join("set");
        let index = megatron(&prefix, code, sets, modes);
        for input in [&prefix, &index, &prefix.with_extension("bin"), &dir.path().to_path_buf()] {
            let ledger = import(&config(input, ForeignFormat::Megatron), &output).unwrap();
            assert_eq!(ids_of(&output), [vec![7, 8, 9], vec![10, 11, 12]]);
            let total = &ledger.total;
            assert_eq!((total.documents_read, total.documents_written, total.empty_documents), (4, 2, 2));
            assert_eq!((total.tokens_read, total.tokens_written), (6, 6));
        }
        fs::remove_dir_all(&output).unwrap();
    }
}

#[test]
fn what_is_exported_to_megatron_comes_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (shards, prefix, output) = (dir.path().join("a"), dir.path().join("x/y.z"), dir.path().join("b"));
    let rendered: Vec<_> = (1..50_u32)
        .map(|id| (id.to_string(), "s".to_owned(), (0..id).map(|token| 7 + token * id % 290).collect(), None))
        .collect();
    write_token_shards(&rendered, tokenizer(), &shards, 1).unwrap();
    let opened = TokenShards::open(&shards).unwrap();
    let plan = export_megatron(&opened, &prefix, false, &mut |_| {}).unwrap();
    assert_eq!((plan.documents, plan.tokens, plan.dtype), (49, 1225, "u16"));
    let sizes = [&plan.bin, &plan.idx].map(|path| fs::metadata(path).unwrap().len());
    assert_eq!(sizes.iter().sum::<u64>(), plan.bytes);
    assert_eq!(fs::read_dir(dir.path().join("x")).unwrap().count(), 2);
    import(&config(&prefix, ForeignFormat::Megatron), &output).unwrap();
    assert_eq!(ids_of(&output), ids_of(&shards));
    assert!(documents(&output)[0].0.ends_with("y.z.bin:1"));
}

#[test]
fn an_export_is_written_over_itself_and_over_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("out");
    let (bin, idx) = (dir.path().join("out.bin"), dir.path().join("out.idx"));
    let export = |name: &str, ids: &[u32]| {
        let folder = dir.path().join(name);
        write_token_shards(&[("d".to_owned(), "s".to_owned(), ids.to_vec(), None)], tokenizer(), &folder, 1)
            .unwrap();
        export_megatron(&TokenShards::open(&folder).unwrap(), &prefix, false, &mut |_| {})
    };
    export("a", &[7, 8, 9]).unwrap();
    let written = (fs::read(&bin).unwrap(), fs::read(&idx).unwrap());
    fs::remove_file(&bin).unwrap(); // as if killed between the two names
    export("again", &[7, 8, 9]).unwrap();
    assert_eq!((fs::read(&bin).unwrap(), fs::read(&idx).unwrap()), written);
    for (foreign, content) in
        [(&bin, None), (&idx, Some(&b"someone's"[..])), (&idx, Some(&[&written.1, &b"x"[..]].concat()[..]))]
    {
        fs::write(foreign, content.unwrap_or(b"someone's")).unwrap();
        if content.is_none() {
            fs::remove_file(&idx).unwrap();
        }
        let before = fs::read(foreign).unwrap();
        let error = export("again", &[7, 8, 9]).unwrap_err().to_string();
        assert!(error.contains("remove it, or choose another prefix"), "{error}");
        assert_eq!(fs::read(foreign).unwrap(), before);
    }
    fs::write(&idx, &written.1).unwrap();
    assert!(export("longer", &[7, 8, 9, 10]).is_err());
    fs::write(&bin, &written.0).unwrap();
    for (name, ids) in [("last", [7, 8, 10]), ("first", [6, 8, 9])] {
        assert!(export(name, &ids).is_err()); // as long, so that the index is the same
    }
    export("same", &[7, 8, 9]).unwrap();
    assert_eq!((fs::read(&bin).unwrap(), fs::read(&idx).unwrap()), written);
}

#[test]
fn megatron_gets_neither_pairs_nor_a_mask_unless_it_is_to_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let export = |name: &str, mask: Option<Vec<u8>>, unit: u64, drops_mask: bool| {
        let folder = dir.path().join(name);
        let document = ("d".to_owned(), "s".to_owned(), vec![7, 8], mask);
        write_token_shards(&[document.clone(), document], tokenizer(), &folder, unit).unwrap();
        let shards = TokenShards::open(&folder).unwrap();
        export_megatron(&shards, &dir.path().join("out"), drops_mask, &mut |_| {})
    };
    assert!(export("pairs", None, 2, true).unwrap_err().to_string().contains("no pairs"));
    let error = export("mask", Some(vec![0, 1]), 1, false).unwrap_err();
    assert!(error.to_string().contains("--drop-mask"), "{error}");
    assert!(!dir.path().join("out.bin").exists());
    export("mask", Some(vec![0, 1]), 1, true).unwrap();
}

#[test]
fn datatrove_files_give_their_documents_with_the_loss_mask() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    datatrove(&dir.path().join("a.ds"), &[&[7, 8, 2], &[], &[9, 2]], Some(&[0, 1, 1, 1, 0]));
    datatrove(&dir.path().join("b.ds"), &[&[10]], None);
    let ledger = import(&config(dir.path(), ForeignFormat::Datatrove), &output).unwrap();
    let found = documents(&output);
    let expected = [
        ("a.ds:1", vec![7, 8, 2], vec![0, 1, 1]),
        ("a.ds:3", vec![9, 2], vec![1, 0]),
        ("b.ds:1", vec![10], vec![1]),
    ];
    for ((id, ids, mask), (expected_id, expected_ids, expected_mask)) in found.iter().zip(expected) {
        assert_eq!((id.as_str(), ids, mask), (expected_id, &expected_ids, &expected_mask));
    }
    assert_eq!((found.len(), ledger.files.len(), ledger.total.empty_documents), (3, 2, 1));
}

#[test]
fn raw_and_npy_files_are_cut_at_marks_or_are_one_document() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, array, output) = (dir.path().join("a.bin"), dir.path().join("a.npy"), dir.path().join("out"));
    let ids = [2, 7, 8, 2, 2, 9];
    fs::write(&raw, little_endian::<2>(&ids)).unwrap();
    npy(&array, "<i8", "(6,)", &little_endian::<8>(&ids));
    let cases: [(Boundary, &[&[u32]], u64); 4] = [
        (Boundary::File, &[&[2, 7, 8, 2, 2, 9]], 0),
        (Boundary::EndsWith(2), &[&[2], &[7, 8, 2], &[2], &[9]], 1),
        (Boundary::BeginsWith(2), &[&[2, 7, 8], &[2], &[2, 9]], 0),
        (Boundary::BeginsWith(8), &[&[2, 7], &[8, 2, 2, 9]], 1),
    ];
    for (path, format) in [(&raw, ForeignFormat::Raw), (&array, ForeignFormat::Npy)] {
        for (boundary, expected, unclosed) in cases {
            let ledger = import(&ImportConfig { boundary, ..config(path, format) }, &output).unwrap();
            assert_eq!(ids_of(&output), expected, "{format:?} {boundary:?}");
            assert_eq!(ledger.total.unclosed_documents, unclosed, "{format:?} {boundary:?}");
        }
    }
}

#[test]
fn marks_are_found_across_the_pieces_in_which_a_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (path, output) = (dir.path().join("a.bin"), dir.path().join("out"));
    let piece = 1_u64 << 18;
    let ids: Vec<u64> = (0..2 * piece + 5)
        .map(|token| if [piece - 1, piece, 2 * piece - 1].contains(&token) { 2 } else { 7 })
        .collect();
    fs::write(&path, little_endian::<2>(&ids)).unwrap();
    let lengths = |boundary| {
        import(&ImportConfig { boundary, ..config(&path, ForeignFormat::Raw) }, &output).unwrap();
        TokenShards::open(&output).unwrap().lengths().to_vec()
    };
    let piece = u32::try_from(piece).unwrap();
    assert_eq!(lengths(Boundary::EndsWith(2)), [piece, 1, piece - 1, 5]);
    assert_eq!(lengths(Boundary::BeginsWith(2)), [piece - 1, 1, piece - 1, 6]);
}

/// The message of an import that must fail, and that nothing stands under the output's name.
fn refused(config: &ImportConfig) -> String {
    let dir = tempfile::tempdir().unwrap();
    let error = import(config, &dir.path().join("out")).unwrap_err();
    assert!(!matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    error.to_string()
}

#[test]
fn every_fault_of_a_megatron_index_is_named_with_its_byte() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("set");
    let index = megatron(&prefix, 8, &[&[&[7, 8], &[9]], &[&[10]]], Some(0));
    let good = fs::read(&index).unwrap();
    // Lengths at 34, pointers at 46, the document index at 70, modes at 94.
    let faults: [(usize, u8, &str); 11] = [
        (0, b'X', "at byte 0"),
        (9, 2, "version 1 at byte 9, found 2"),
        (17, 6, "at byte 17, found 6"),
        (18, 4, "for 4 sequences"),
        (25, 0x80, "counts that fit into a file"),
        (33, 0xFF, "counts that fit into a file"),
        (37, 0x80, "a length that is not negative, found -2147483646 at byte 34"),
        (54, 5, "sequence 1 to begin at byte 4, found 5 at byte 54"),
        (70, 1, "0 as the first entry"),
        (78, 9, "an entry from 0 to 3, found 9 at byte 78"),
        (95, 1, "mode 0, which is text,"),
    ];
    for (byte, value, expected) in faults {
        let mut bytes = good.clone();
        bytes[byte] = value;
        fs::write(&index, bytes).unwrap();
        let message = refused(&config(&prefix, ForeignFormat::Megatron));
        assert!(message.contains("set.idx") && message.contains(expected), "{byte}: {message}");
    }
    fs::write(&index, &good).unwrap();
    let ids = fs::read(prefix.with_extension("bin")).unwrap();
    fs::write(prefix.with_extension("bin"), &ids[..6]).unwrap();
    let message = refused(&config(&prefix, ForeignFormat::Megatron));
    assert!(message.contains("1 ids of the next document in its index, found 0"), "{message}");
    fs::write(prefix.with_extension("bin"), [&ids[..], &[7, 0]].concat()).unwrap();
    assert!(refused(&config(&prefix, ForeignFormat::Megatron)).contains("lists all 5, found 4"));
    fs::write(prefix.with_extension("bin"), &ids[..7]).unwrap();
    assert!(refused(&config(&prefix, ForeignFormat::Megatron)).contains("7 bytes"));
}

#[test]
fn every_fault_of_datatrove_files_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ds");
    let (shrinking, too_far) = (little_endian::<8>(&[2, 1, 3]), little_endian::<8>(&[4, 3]));
    let faults: [(&str, &[u8], &str); 8] = [
        ("", &[7, 0], "2 or 4 bytes for each of the 3 tokens"),
        ("", &[7, 0, 44, 1, 9, 0], "ids of type u16 under 300, found id 300 at token 1, byte 2"),
        (".index", &[3, 0, 0], "3 bytes"),
        (".index", &shrinking, "ends that grow, at least 2 at byte 8, found 1"),
        (".index", &too_far, "4 ids of the next document in its index, found 3 ids left"),
        (".metadata", b"x|4\n3\n3", "`4` and `3`"),
        (".loss", &[1, 1], "a byte for each of 3 tokens, found 2 bytes"),
        (".loss", &[1, 2, 1], "bytes 0 and 1, found 2 at byte 1"),
    ];
    for (ending, bytes, expected) in faults {
        datatrove(&path, &[&[7], &[8, 9]], Some(&[1, 1, 1]));
        fs::write(format!("{}{ending}", path.display()), bytes).unwrap();
        let message = refused(&config(&path, ForeignFormat::Datatrove));
        assert!(message.contains("a.ds") && message.contains(expected), "{ending}: {message}");
    }
    fs::remove_file(dir.path().join("a.ds.index")).unwrap();
    let error = plan_import(&config(&path, ForeignFormat::Datatrove)).unwrap_err().to_string();
    assert!(error.contains("a.ds.index"), "{error}");
}

#[test]
fn a_npy_of_another_kind_is_refused_with_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npy");
    let faults = [
        ("<f4", "(1,)", "`descr` of u1 to u8"),
        (">u2", "(2,)", ">u2"),
        ("<u2", "(2, 1)", "one dimension, found (2, 1)"),
        ("<u2", "(3,)", "3 ids of type u16 behind the header, found 2"),
        ("<u2", "(18446744073709551615,)", "behind the header"),
    ];
    for (description, shape, expected) in faults {
        npy(&path, description, shape, &[7, 0, 8, 0]);
        let message = refused(&config(&path, ForeignFormat::Npy));
        assert!(message.contains("a.npy") && message.contains(expected), "{message}");
    }
    fs::write(&path, [7, 0, 8, 0]).unwrap();
    assert!(refused(&config(&path, ForeignFormat::Npy)).contains("`raw`"));
    npy(&path, "<u2", "(2,)", &[7, 0, 8, 0]);
    assert!(refused(&config(&path, ForeignFormat::Raw)).contains("header of a `.npy`"));
}

#[test]
fn options_that_do_not_go_with_a_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let megatron = config(dir.path(), ForeignFormat::Megatron);
    let marked = ImportConfig { boundary: Boundary::EndsWith(2), ..megatron.clone() };
    let typed = ImportConfig { id_type: Some(IdType::U16), ..megatron.clone() };
    let untyped = ImportConfig { id_type: None, ..config(dir.path(), ForeignFormat::Raw) };
    for (config, expected) in [(marked, "eos_id"), (typed, "dtype"), (untyped, "dtype"), (megatron, ".idx")] {
        let error = plan_import(&config).unwrap_err();
        assert!(error.to_string().contains(expected) && error.exit_status() == 2, "{error}");
    }
}

#[test]
fn a_mark_outside_the_vocabulary_is_refused_and_does_not_make_one_document_of_all() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.bin"), little_endian::<2>(&[7, 2, 8, 2])).unwrap();
    let raw = config(dir.path(), ForeignFormat::Raw);
    let size = u32::try_from(tokenizer().vocab_size()).unwrap();
    for (boundary, name) in [(Boundary::EndsWith(size), "`eos_id`"), (Boundary::BeginsWith(size), "`bos_id`")]
    {
        let error = import(&ImportConfig { boundary, ..raw.clone() }, &dir.path().join("out")).unwrap_err();
        assert!(error.to_string().starts_with(name) && error.exit_status() == 2, "{error}");
    }
}

#[test]
fn a_file_with_several_names_is_imported_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("x")).unwrap();
    fs::write(dir.path().join("a.bin"), little_endian::<2>(&[7, 8])).unwrap();
    let names = [dir.path().join("a.bin"), dir.path().join("x/../a.bin"), dir.path().to_owned()];
    let raw = ImportConfig { input: names.to_vec(), ..config(dir.path(), ForeignFormat::Raw) };
    assert_eq!(import(&raw, &dir.path().join("out")).unwrap().total.documents_read, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    /// Bits flipped, ends cut off, bytes added: an error or shards that verify, never a panic.
    #[test]
    fn damage_to_any_file_is_an_error_or_harmless(
        which in 0_usize..8,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        added in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        megatron(&at("m"), 8, &[&[&[7, 8], &[9]], &[&[10, 2]]], None);
        datatrove(&at("d.ds"), &[&[7, 8, 2], &[9, 2]], Some(&[0, 1, 1, 1, 1]));
        npy(&at("n.npy"), "<u4", "(3,)", &little_endian::<4>(&[7, 8, 2]));
        let damaged = ["m.idx", "m.bin", "d.ds", "d.ds.index", "d.ds.loss", "d.ds.metadata", "n.npy", "n.npy"];
        let path = at(damaged[which]);
        let mut bytes = fs::read(&path).unwrap();
        for (index, bit) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(added);
        fs::write(&path, bytes).unwrap();
        let (input, format) = match which {
            0 | 1 => (at("m"), ForeignFormat::Megatron),
            2..=5 => (at("d.ds"), ForeignFormat::Datatrove),
            _ => (at("n.npy"), ForeignFormat::Npy),
        };
        if let Ok(ledger) = import(&config(&input, format), &at("out")) {
            let found = ids_of(&at("out"));
            prop_assert_eq!(found.len() as u64, ledger.total.documents_written);
            prop_assert_eq!(found.iter().map(Vec::len).sum::<usize>() as u64, ledger.total.tokens_written);
        }
    }
}
