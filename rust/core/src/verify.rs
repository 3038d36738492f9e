//! Proof that a documents folder, or a part of a run, is whole: hashes, the ledger's law, the count of documents.

use std::path::Path;

use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::manifest::Manifest;
use crate::pipeline::{FORMAT, PART_FORMAT};
use crate::read::{self, Limits};

/// Checks a documents folder, or that of a part of a run; returns how many documents it holds.
///
/// # Errors
/// `NoInput` if it is none, `Integrity` or `NotConserved` at the first thing that is wrong.
pub fn verify(folder: &Path) -> Result<u64> {
    let manifest = manifest(folder)?;
    manifest.verify(folder)?;
    let ledger = Ledger::read(folder)?;
    ledger.check()?;
    let found = count_documents(folder, &manifest)?;
    for (what, expected) in
        [("manifest.json", manifest.content["documents"].as_u64()), ("ledger.json", Some(ledger.total.kept))]
    {
        if expected != Some(found) {
            let expected = format!("{} documents", expected.unwrap_or_default());
            return Err(Error::Integrity { path: folder.join(what), expected, found: found.to_string() });
        }
    }
    Ok(found)
}

/// The manifest of a run, or of a part of one.
fn manifest(folder: &Path) -> Result<Manifest> {
    Manifest::read(folder, FORMAT).or_else(|error| match Manifest::read(folder, PART_FORMAT) {
        // It is of neither, or nothing is there: what was asked for is a run's.
        Err(Error::InvalidValue { .. } | Error::NoInput { .. }) => Err(error),
        part => part,
    })
}

fn count_documents(folder: &Path, manifest: &Manifest) -> Result<u64> {
    manifest.shards().map(|name| count_lines(&folder.join(name))).sum()
}

/// Lines of a shard; every document is one.
fn count_lines(path: &Path) -> Result<u64> {
    let mut reader = read::open(path, "text", Limits::of_own_files())?;
    let mut count = 0;
    while let Some(block) = reader.next_block()? {
        count += memchr::memchr_iter(b'\n', &block.bytes).count() as u64;
    }
    Ok(count)
}
