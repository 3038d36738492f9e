//! What stands beside the ledger for those who set thresholds: the histograms, as JSON and on a page.

use std::fs;
use std::path::Path;

use super::samples::Sample;
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::inspect::{page, Histograms, Shown};
use crate::ledger::Ledger;

/// Name of the histograms inside a documents folder.
const HISTOGRAMS_NAME: &str = "histograms.json";
/// Name of the page inside a documents folder.
const REPORT_NAME: &str = "report.html";

/// Writes both; `samples` are in the order in which they are shown.
///
/// # Panics
/// Never: histograms hold only JSON values.
pub(super) fn write(
    draft: &Draft,
    ledger: &Ledger,
    histograms: &Histograms,
    samples: &[Sample],
) -> Result<()> {
    let path = draft.path(HISTOGRAMS_NAME);
    let text = serde_json::to_string(histograms).expect("histograms hold only JSON values") + "\n";
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    let path = draft.path(REPORT_NAME);
    fs::write(&path, page(ledger, histograms, samples.iter().map(shown))).map_err(Error::io("write", &path))
}

fn shown(sample: &Sample) -> Shown<'_> {
    Shown { reason: &sample.reason, id: &sample.id, text: &sample.text }
}

/// The histograms of a folder.
pub(super) fn read(folder: &Path) -> Result<Histograms> {
    let path = folder.join(HISTOGRAMS_NAME);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Integrity {
        path,
        expected: "the histograms of a run".to_owned(),
        found: error.to_string(),
    })
}
