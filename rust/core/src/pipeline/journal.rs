//! How far a run has come: written each time a shard is complete, read when the run is
//! started again after it was killed.

use std::fs;

use serde::{Deserialize, Serialize};
use serde_json::{json, Map, Value};

use super::samples::Sample;
use crate::config::PrepConfig;
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::inspect::Histograms;
use crate::ledger::{Counts, FileCounts};
use crate::read::Input;

/// Name of the journal inside a draft.
pub(super) const FILE_NAME: &str = "journal.json";

/// What is done; on the disk, up to the end of a shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// Version, configuration and inputs: what the run depends on.
    pub(super) made_from: Value,
    /// Units of the inputs, counted over all files.
    pub(super) units: u64,
    /// XXH3-128 of each file begun, as far as it was read when its last unit up to here was cut out.
    pub(super) contents: Vec<String>,
    /// Complete shards, and the documents and bytes of text in them.
    pub(super) num_shards: usize,
    pub(super) documents: u64,
    pub(super) text_bytes: u64,
    /// Size of the quarantine, and of the list of blocks.
    pub(super) quarantine_bytes: u64,
    pub(super) block_list_bytes: u64,
    /// Samples taken so far.
    #[serde(default)]
    pub(super) samples: Vec<Sample>,
    /// Features of the documents measured so far.
    #[serde(default)]
    pub(super) histograms: Histograms,
    /// Counts of each input.
    pub(super) files: Vec<FileCounts>,
}

/// What two runs must agree in for one to go on where the other stopped.
pub(super) fn made_from(config: &PrepConfig, inputs: &[Input]) -> Value {
    let files: Vec<Value> = inputs
        .iter()
        .map(|input| json!({"file": input.path.display().to_string(), "bytes": input.bytes}))
        .collect();
    let mut table = config.made_from();
    table["inputs"] = json!(files);
    table["triptych"] = json!(crate::VERSION);
    table
}

impl Journal {
    /// Nothing is done yet.
    pub(super) fn begin(config: &PrepConfig, inputs: &[Input]) -> Self {
        let file =
            |input: &Input| FileCounts { file: input.path.display().to_string(), counts: Counts::default() };
        Self {
            made_from: made_from(config, inputs),
            units: 0,
            contents: Vec::new(),
            num_shards: 0,
            documents: 0,
            text_bytes: 0,
            quarantine_bytes: 0,
            block_list_bytes: 0,
            samples: Vec::new(),
            histograms: Histograms::default(),
            files: inputs.iter().map(file).collect(),
        }
    }

    /// One more unit is done, the last of its file so far.
    pub(super) fn end_unit(&mut self, file: usize, content: u128) {
        self.units += 1;
        self.contents.resize(file + 1, String::new());
        self.contents[file] = format!("{content:032x}");
    }

    /// The journal of a draft; `None` if there is none that can be read.
    pub(super) fn read(draft: &Draft) -> Option<Self> {
        serde_json::from_slice(&fs::read(draft.path(FILE_NAME)).ok()?).ok()
    }

    /// Writes it whole or not at all.
    ///
    /// # Panics
    /// Never: a journal holds only JSON values.
    pub(super) fn write(&self, draft: &Draft) -> Result<()> {
        let (path, new) = (draft.path(FILE_NAME), draft.path("journal.json.new"));
        let text = serde_json::to_string(self).expect("a journal holds only JSON values");
        fs::write(&new, text).map_err(Error::io("write", &new))?;
        fs::File::open(&new).and_then(|file| file.sync_all()).map_err(Error::io("sync", &new))?;
        fs::rename(&new, &path).map_err(Error::io("rename", &path))?;
        draft.keep();
        Ok(())
    }

    /// True if this configuration and these inputs began it.
    pub(super) fn fits(&self, config: &PrepConfig, inputs: &[Input]) -> bool {
        self.made_from == made_from(config, inputs)
    }

    /// Refuses to go on with what another configuration began.
    ///
    /// # Errors
    /// `InvalidValue`, with the keys that differ.
    pub(super) fn check(&self, config: &PrepConfig, inputs: &[Input]) -> Result<()> {
        if self.fits(config, inputs) {
            return Ok(());
        }
        let differences = differences(&self.made_from, &made_from(config, inputs));
        Err(Error::InvalidValue {
            what: format!("output `{}`", config.output.display()),
            expected: "the inputs and configuration of the run that was stopped there (or `overwrite`, to begin anew)"
                .to_owned(),
            found: differences.join(", "),
        })
    }
}

/// The keys that differ, as "`key` 5 instead of 3".
pub(super) fn differences(old: &Value, new: &Value) -> Vec<String> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differ = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    differ.map(|key| difference(key, old.get(key), new.get(key))).collect()
}

fn difference(key: &str, old: Option<&Value>, new: Option<&Value>) -> String {
    let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    match key {
        "inputs" => "other inputs".to_owned(),
        _ => format!("`{key}` {} instead of {}", show(new), show(old)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_key_and_both_values() {
        let found = differences(&json!({"a": 1, "b": 2, "d": 4}), &json!({"a": 1, "b": 3, "c": "x"}));
        assert_eq!(found, ["`b` 3 instead of 2", "`c` \"x\" instead of nothing", "`d` nothing instead of 4"]);
    }
}
