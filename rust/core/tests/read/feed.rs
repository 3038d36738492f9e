//! Files of bytes through the readers, and what they gave: used by the tests here and by the fuzz targets.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use triptych_core::read::{self, BadRecord, Limits};
use triptych_core::Result;

pub const LIMITS: Limits =
    Limits { max_line_bytes: 1 << 20, max_file_bytes: 1 << 30, max_expansion: 1000, num_threads: 0 };

/// What a reader gave.
#[derive(Debug, Default)]
pub struct Given {
    /// Number and object of each record.
    pub records: Vec<(u64, Value)>,
    pub bad: Vec<BadRecord>,
    /// Records that are no documents, by kind.
    pub skipped: BTreeMap<&'static str, u64>,
}

#[allow(dead_code)] // the fuzz targets do not ask
impl Given {
    pub fn texts(&self) -> Vec<&str> {
        self.records.iter().map(|(_, record)| record["text"].as_str().unwrap_or("not a string")).collect()
    }
}

/// What the reader of the format that `name` says makes of `bytes`.
pub fn feed(name: &str, bytes: &[u8]) -> Result<Given> {
    let memory = Path::new("/dev/shm"); // where there is one, thousands of files cost no disk
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.expect("a folder for the file");
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("room for the file");
    let mut reader = read::open(&path, "text", LIMITS)?;
    let mut given = Given::default();
    while let Some(block) = reader.next_block()? {
        let lines = block.bytes.split(|byte| *byte == b'\n').zip(block.first_line..);
        for (line, number) in lines.filter(|(line, _)| !line.trim_ascii().is_empty()) {
            given.records.push((number, serde_json::from_slice(line).unwrap_or(Value::Null)));
        }
        given.bad.extend(block.bad);
        for (kind, count) in block.skipped {
            *given.skipped.entry(kind).or_default() += count;
        }
    }
    let (size, blake3) = reader.finish()?;
    assert_eq!((size, blake3.len()), (bytes.len() as u64, 64));
    Ok(given)
}

/// Checks what holds for every file, good or damaged.
///
/// # Errors
/// What does not hold.
pub fn check(given: &Given) -> std::result::Result<(), &'static str> {
    let numbers: Vec<u64> = given.records.iter().map(|(number, _)| *number).collect();
    if !numbers.is_sorted_by(|a, b| a < b) {
        return Err("records do not stand in the order of their numbers");
    }
    if given.bad.iter().any(|bad| numbers.binary_search(&bad.line).is_ok()) {
        return Err("a record is both given and bad");
    }
    if given.bad.iter().any(|bad| bad.reason.is_empty() || bad.reason.contains('\n')) {
        return Err("a reason is no sentence");
    }
    Ok(())
}
