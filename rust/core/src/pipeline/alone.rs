//! Part 1 of 1: a loop over N machines may come to N = 1, where the one folder is the run already.

use std::fs;
use std::path::PathBuf;

use super::part::Part;
use super::{as_merged, finished, Progress, Summary, FORMAT};
use crate::config::PrepConfig;
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::manifest::Manifest;

/// Copies the one folder among `parts` to the output of `config`; `None` if there are others, or it is a part.
///
/// # Errors
/// `Integrity` if it is damaged; `InvalidValue` if the output is something else; the disk.
pub(super) fn copy(
    parts: &[PathBuf],
    config: &PrepConfig,
    progress: &dyn Progress,
) -> Result<Option<Summary>> {
    let [folder] = parts else { return Ok(None) };
    let Ok(manifest) = Manifest::read(folder, FORMAT) else { return Ok(None) };
    let whole = Part::of(folder, &manifest, progress)?;
    let config = as_merged(config, &whole.config);
    if let Some(summary) = finished::find_merged(&config, &whole.inputs)? {
        return Ok(Some(summary));
    }
    let draft = Draft::start(&config.output)?;
    for name in manifest.files.keys() {
        let path = draft.path(name);
        fs::copy(folder.join(name), &path).map_err(Error::io("write", &path))?;
    }
    draft.commit(FORMAT, manifest.made_from, manifest.content)?;
    let ledger = Ledger::read(&config.output)?;
    let documents = ledger.total.kept;
    Ok(Some(Summary::new(&config.output, ledger, documents, false)))
}
