//! An output folder that is there already: the same work, or somebody else's.

use std::path::Path;

use serde_json::json;

use super::{journal, Progress, Summary, FORMAT, PART_FORMAT};
use crate::config::PrepConfig;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::manifest::{self, Manifest};
use crate::read::{blake3_file, FileFacts, Input};

/// What is found where no folder is named.
const NONE: &str = "none";

/// The summary of the finished run, if the output folder was made from the same inputs
/// and configuration; `None` if the way is free.
///
/// # Errors
/// `InvalidValue` if the folder holds anything else and may not be overwritten; `Interrupted` if whoever watches
/// the run wants it to stop while the inputs are compared.
pub(super) fn find(
    config: &PrepConfig,
    inputs: &[Input],
    progress: &dyn Progress,
) -> Result<Option<Summary>> {
    find_same(config, |manifest| {
        let sizes = inputs.iter().map(|input| (input.path.display().to_string(), input.bytes)).collect();
        let mut found = differences(manifest, config, sizes);
        // Contents are read only if names and sizes agree.
        if found.is_empty() {
            for (input, fact) in
                inputs.iter().zip(facts(manifest)).filter(|(_, fact)| !fact.blake3.is_empty())
            {
                if blake3_file(&input.path, &|| progress.is_stopped())? != fact.blake3 {
                    found.push(format!("`{}` has changed", input.path.display()));
                }
            }
        }
        Ok(found)
    })
}

/// As [`find`], for parts of which the inputs are known without being read.
pub(super) fn find_merged(config: &PrepConfig, inputs: &[FileFacts]) -> Result<Option<Summary>> {
    find_same(config, |manifest| {
        let sizes = inputs.iter().map(|fact| (fact.file.clone(), fact.bytes)).collect();
        let mut found = differences(manifest, config, sizes);
        if found.is_empty() && facts(manifest) != inputs {
            found.push("inputs of other content".to_owned());
        }
        Ok(found)
    })
}

fn find_same(
    config: &PrepConfig,
    differences: impl FnOnce(&Manifest) -> Result<Vec<String>>,
) -> Result<Option<Summary>> {
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
    let format = if config.shard.is_part() { PART_FORMAT } else { FORMAT };
    let manifest = Manifest::read(output, format);
    let found = match &manifest {
        Ok(manifest) => differences(manifest)?,
        Err(error) => vec![error.to_string()],
    };
    match manifest {
        Ok(manifest) if found.is_empty() => summary(output, &manifest).map(Some),
        _ if config.overwrite => Ok(None),
        _ => Err(refused(
            output,
            "a new folder, or one made from the same inputs and configuration (or `overwrite`, to replace it)",
            &found.join(", "),
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

/// What differs in configuration, version, and names and sizes of inputs from the run that made the folder.
fn differences(manifest: &Manifest, config: &PrepConfig, inputs: Vec<(String, u64)>) -> Vec<String> {
    let mut found = journal::differences(&manifest.made_from["config"], &json!(config.made_from()));
    if manifest.triptych != crate::VERSION {
        found.push(format!("version {} instead of {}", crate::VERSION, manifest.triptych));
    }
    let sizes = facts(manifest).into_iter().map(|fact| (fact.file, fact.bytes));
    if !sizes.eq(inputs) {
        found.push("other inputs".to_owned());
    }
    found
}

fn facts(manifest: &Manifest) -> Vec<FileFacts> {
    serde_json::from_value(manifest.made_from["inputs"].clone()).unwrap_or_default()
}

fn summary(output: &Path, manifest: &Manifest) -> Result<Summary> {
    manifest.verify_sizes(output)?;
    let ledger = Ledger::read(output)?;
    let documents = ledger.total.kept;
    let summary = Summary::new(output, ledger, documents, manifest.format == PART_FORMAT);
    Ok(Summary { already_done: true, ..summary })
}
