//! Rules that the engine does not know: asked of the documents of a block, in order, after all
//! others and before deduplication.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};

use super::batch::Batch;
use crate::config::PrepConfig;
use crate::document::Record;
use crate::error::{Error, Result};

/// Name of their step in the funnel.
pub const STEP: &str = "python";

/// Rules from outside.
pub trait OutsideRules: Sync {
    /// Why each document is rejected; `None` keeps it. The columns are `id`, `source` and `text`.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn reasons(&self, documents: RecordBatch) -> Result<Vec<Option<String>>>;
}

/// Checks that the rules that a configuration names are there, and no others.
///
/// # Errors
/// `InvalidValue` if only one of the two speaks of rules.
pub(crate) fn check(config: &PrepConfig, rules: Option<&dyn OutsideRules>) -> Result<()> {
    if config.python_rule.is_empty() == rules.is_none() {
        return Ok(());
    }
    Err(Error::InvalidValue {
        what: "`python_rule`".to_owned(),
        expected: "rules that `triptych.prep.run` was given as functions, which sets this key itself"
            .to_owned(),
        found: format!("`{}`", config.python_rule.join("`, `")),
    })
}

/// Why each document of the batch is rejected; nothing without rules.
pub(super) fn reasons(rules: Option<&dyn OutsideRules>, batch: &Batch) -> Result<Vec<Option<String>>> {
    let Some(rules) = rules else { return Ok(Vec::new()) };
    let documents = documents(batch);
    if documents.num_rows() == 0 {
        return Ok(Vec::new());
    }
    rules.reasons(documents)
}

fn documents(batch: &Batch) -> RecordBatch {
    let records: Vec<Record> = batch
        .documents()
        .filter_map(|document| Record::parse(document.line.trim_ascii(), "text").ok())
        .collect();
    let column = |name: &'static str| {
        let values = records.iter().map(|record| record.string(name).unwrap_or(Cow::Borrowed("")));
        (name, Arc::new(StringArray::from_iter_values(values)) as ArrayRef)
    };
    let columns = [column("id"), column("source"), column("text")];
    RecordBatch::try_from_iter(columns).expect("columns of as many rows")
}
