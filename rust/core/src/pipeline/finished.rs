//! An output folder that is there already: the same work, or somebody else's.

use std::path::Path;

use serde_json::json;

use super::{Summary, FORMAT};
use crate::config::PrepConfig;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::manifest::{self, Manifest};
use crate::read::{FileFacts, Input};

/// What is found where no folder is named.
const NONE: &str = "none";

/// The summary of the finished run, if the output folder was made from the same inputs
/// and configuration; `None` if the way is free.
///
/// # Errors
/// `InvalidValue` if the folder holds anything else and may not be overwritten.
pub(super) fn find(config: &PrepConfig, inputs: &[Input]) -> Result<Option<Summary>> {
    let output = &config.output;
    if output.as_os_str().is_empty() {
        return Err(refused(output, "a folder to write to", NONE));
    }
    if !holds_anything(output) {
        return Ok(None);
    }
    if !output.join(manifest::FILE_NAME).exists() {
        let found = "files that triptych did not write";
        return Err(refused(output, "a new folder, or one that triptych made", found));
    }
    match Manifest::read(output, FORMAT) {
        Ok(manifest) if is_same(&manifest, config, inputs)? => summary(output, &manifest).map(Some),
        _ if config.overwrite => Ok(None),
        _ => Err(refused(
            output,
            "a new folder, or one made from the same inputs and configuration (or `overwrite`, to replace it)",
            "a finished folder made from others",
        )),
    }
}

fn holds_anything(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => folder.exists(),
    }
}

fn refused(output: &Path, expected: &str, found: &str) -> Error {
    Error::InvalidValue {
        what: if found == NONE { "`output`".to_owned() } else { format!("output `{}`", output.display()) },
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

/// Compares configuration, names and sizes first; contents are hashed only if those agree.
fn is_same(manifest: &Manifest, config: &PrepConfig, inputs: &[Input]) -> Result<bool> {
    let facts: Vec<FileFacts> =
        serde_json::from_value(manifest.made_from["inputs"].clone()).unwrap_or_default();
    let sizes = facts.iter().map(|fact| (fact.file.clone(), fact.bytes));
    let is_alike = manifest.triptych == crate::VERSION
        && manifest.made_from["config"] == json!(config.made_from())
        && sizes.eq(inputs.iter().map(|input| (input.path.display().to_string(), input.bytes)));
    if !is_alike {
        return Ok(false);
    }
    for (input, fact) in inputs.iter().zip(&facts) {
        if manifest::sha256_file(&input.path)? != fact.sha256 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn summary(output: &Path, manifest: &Manifest) -> Result<Summary> {
    manifest.verify_sizes(output)?;
    let ledger = Ledger::read(output)?;
    Ok(Summary {
        output: output.to_owned(),
        already_done: true,
        documents: ledger.total.kept,
        bad_fraction: ledger.total.bad_fraction(),
        ledger,
    })
}
