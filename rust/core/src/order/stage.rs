//! The stage table: what is trained on, for how long, in which proportions.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::pack::Strategy;

/// Most rows of a step: 2^24, far beyond any batch that trains; each takes some memory before it is read.
pub const MAX_ROWS_PER_STEP: u64 = 1 << 24;

/// Steps of all stages are fewer: with as many behind them in windows to skip, they can be counted.
const MAX_STEPS: u64 = 1 << 63;

/// One stage of training, as far as data is concerned.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// First steps, in which the weights move in a straight line from those of the stage before to these.
    pub ramp_steps: u64,
    /// How documents are laid into rows.
    pub packing: Strategy,
    /// Whether the mixture goes on where the stage before leaves it, as if both were one: nothing but the steps and
    /// their rows may be another.
    pub goes_on: bool,
}

impl Stage {
    /// Share of a source; 0 if the stage does not name it.
    pub fn weight(&self, source: &str) -> f64 {
        self.weights.get(source).copied().unwrap_or(0.0)
    }

    /// Whether it may go on with the mixture of the stage before.
    fn can_follow(&self, before: Option<&Self>) -> bool {
        let same = |stage: &Self| {
            (stage.seq_len, stage.packing, &stage.weights) == (self.seq_len, self.packing, &self.weights)
        };
        self.ramp_steps == 0 && before.is_some_and(same)
    }

    /// The error for more rows than can be counted, in `data_steps`: its steps, and those that it skips.
    pub fn too_long(&self, data_steps: u64) -> Error {
        let skipping = if data_steps > self.steps { ", with those that are skipped," } else { "" };
        let what = format!("`steps`{skipping} and `rows_per_step` of stage `{}`", self.name);
        invalid(what, "a product under 2^64", &format!("{data_steps} and {}", self.rows_per_step))
    }

    fn check(&self, sources: &[&str]) -> Result<()> {
        let what = |key: &str| format!("`{key}` of stage `{}`", self.name);
        if self.steps == 0 || self.rows_per_step == 0 {
            let found = format!("{} and {}", self.steps, self.rows_per_step);
            return Err(invalid(what("steps` and `rows_per_step"), "at least 1 each", &found));
        }
        if self.rows_per_step > MAX_ROWS_PER_STEP {
            let expected = format!("at most {MAX_ROWS_PER_STEP} rows");
            return Err(invalid(what("rows_per_step"), &expected, &self.rows_per_step.to_string()));
        }
        if self.steps.checked_mul(self.rows_per_step).is_none() {
            return Err(self.too_long(self.steps));
        }
        if self.seq_len == 0 || self.seq_len > u32::MAX as usize {
            return Err(invalid(what("seq_len"), "at least 1 token, under 2^32", &self.seq_len.to_string()));
        }
        if self.ramp_steps > self.steps {
            let expected = format!("at most its {} steps", self.steps);
            return Err(invalid(what("ramp_steps"), &expected, &self.ramp_steps.to_string()));
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
    if stages[0].ramp_steps > 0 {
        let what = format!("`ramp_steps` of stage `{}`", stages[0].name);
        return Err(invalid(what, "0, as no stage is before it", &stages[0].ramp_steps.to_string()));
    }
    let mut names = BTreeSet::new();
    let mut before = None;
    for stage in stages {
        if stage.goes_on && !stage.can_follow(before) {
            let expected =
                "a stage before it of the same `weights`, `seq_len` and `packing`, and no `ramp_steps`";
            return Err(invalid(format!("`goes_on` of stage `{}`", stage.name), expected, "another"));
        }
        before = Some(stage);
        if !names.insert(stage.name.as_str()) {
            return Err(invalid("stages".to_owned(), "distinct names", &format!("`{}` twice", stage.name)));
        }
        stage.check(sources)?;
    }
    let all = stages.iter().try_fold(0_u64, |sum, stage| sum.checked_add(stage.steps));
    if all.is_some_and(|all| all < MAX_STEPS) {
        return Ok(());
    }
    Err(invalid("steps of all stages".to_owned(), "a sum under 2^63", "more"))
}

/// Checks the limits of epochs against the names of the sources.
pub fn check_max_epochs(max_epochs: &BTreeMap<String, f64>, sources: &[&str]) -> Result<()> {
    max_epochs.iter().try_for_each(|(name, most)| {
        if !sources.contains(&name.as_str()) {
            return Err(Error::unknown_name("source", name, sources));
        }
        if most.is_finite() && *most > 0.0 {
            return Ok(());
        }
        Err(invalid(format!("`max_epochs.{name}`"), "a finite number above 0", &most.to_string()))
    })
}

fn invalid(what: String, expected: &str, found: &str) -> Error {
    Error::InvalidValue { what, expected: expected.to_owned(), found: found.to_owned() }
}
