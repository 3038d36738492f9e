//! A part of a run: documents that are prepared but not yet deduplicated, and beside
//! them `blocks.jsonl`, which says which of them come from which block of the inputs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Progress, Share};
use crate::config::PrepConfig;
use crate::error::{Error, Result};
use crate::ledger::Counts;
use crate::manifest::Manifest;
use crate::read::FileFacts;

/// Format of a part's folder, as its manifest names it.
pub const FORMAT: &str = "triptych-part/1";

/// Name of the list of blocks inside a part.
pub(super) const BLOCKS_NAME: &str = "blocks.jsonl";

/// A block that a part has prepared.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockEntry {
    /// Index of the file among the inputs.
    pub(super) file: usize,
    /// Number of its unit in the file, from 0.
    pub(super) block: usize,
    /// The next entry is of the same unit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_partial: bool,
    /// Documents of it in the part's shards.
    pub(super) documents: u64,
    /// What became of its lines.
    pub(super) counts: Counts,
}

/// A finished part, opened for merging.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) folder: PathBuf,
    pub(super) share: Share,
    pub(super) config: PrepConfig,
    pub(super) inputs: Vec<FileFacts>,
    /// Paths of its shards, in order.
    pub(super) shards: Vec<PathBuf>,
}

impl Part {
    /// Reads the part's manifest and verifies every file.
    pub(super) fn open(folder: &Path, progress: &dyn Progress) -> Result<Self> {
        Self::of(folder, &Manifest::read(folder, FORMAT)?, progress)
    }

    /// The same of a folder with this manifest, a part or all of a run.
    pub(super) fn of(folder: &Path, manifest: &Manifest, progress: &dyn Progress) -> Result<Self> {
        manifest.verify_until(folder, &|| progress.is_stopped())?;
        let damaged = |error: serde_json::Error| Error::Integrity {
            path: folder.join(crate::manifest::FILE_NAME),
            expected: "the configuration and the inputs of a run".to_owned(),
            found: error.to_string(),
        };
        let config: PrepConfig =
            serde_json::from_value(manifest.made_from["config"].clone()).map_err(damaged)?;
        let inputs = serde_json::from_value(manifest.made_from["inputs"].clone()).map_err(damaged)?;
        let shards = manifest.shards().map(|name| folder.join(name)).collect();
        Ok(Self { folder: folder.to_owned(), share: config.shard, config, inputs, shards })
    }
}
