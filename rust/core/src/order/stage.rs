//! The stage table: what is trained on, for how long, in which proportions.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// One stage of training, as far as data is concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Name, unique in the table.
    pub name: String,
    /// Optimizer steps.
    pub steps: u64,
    /// Rows of each step, over all devices.
    pub rows_per_step: u64,
    /// Slots of a row.
    pub seq_len: usize,
    /// Share of rows by source; any positive numbers, only their proportion counts.
    pub weights: BTreeMap<String, f64>,
}

impl Stage {
    /// Rows of all steps.
    pub fn rows(&self) -> u64 {
        self.steps * self.rows_per_step
    }

    fn check(&self, sources: &[&str]) -> Result<()> {
        let what = |key: &str| format!("`{key}` of stage `{}`", self.name);
        if self.steps == 0 || self.rows_per_step == 0 || self.steps.checked_mul(self.rows_per_step).is_none()
        {
            let found = format!("{} and {}", self.steps, self.rows_per_step);
            return Err(invalid(what("steps` and `rows_per_step"), "at least 1 each", &found));
        }
        if self.seq_len == 0 || self.seq_len > u32::MAX as usize {
            return Err(invalid(what("seq_len"), "at least 1 token, under 2^32", &self.seq_len.to_string()));
        }
        if self.weights.is_empty() {
            return Err(invalid(what("weights"), "at least one source", "none"));
        }
        self.weights.iter().try_for_each(|(name, weight)| {
            if !sources.contains(&name.as_str()) {
                return Err(Error::unknown_name("source", name, sources));
            }
            if weight.is_finite() && *weight > 0.0 {
                return Ok(());
            }
            Err(invalid(what(&format!("weights.{name}")), "a finite number above 0", &weight.to_string()))
        })
    }
}

/// Checks every stage against the names of the sources.
pub fn check_table(stages: &[Stage], sources: &[&str]) -> Result<()> {
    if stages.is_empty() {
        return Err(invalid("stages".to_owned(), "at least one", "none"));
    }
    let mut names = BTreeSet::new();
    for stage in stages {
        if !names.insert(stage.name.as_str()) {
            return Err(invalid("stages".to_owned(), "distinct names", &format!("`{}` twice", stage.name)));
        }
        stage.check(sources)?;
    }
    Ok(())
}

fn invalid(what: String, expected: &str, found: &str) -> Error {
    Error::InvalidValue { what, expected: expected.to_owned(), found: found.to_owned() }
}
