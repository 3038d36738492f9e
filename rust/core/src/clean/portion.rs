//! Some rows of a batch on their way, and the batch that is left of them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_select::filter::filter_record_batch;

use super::answer::{Answer, Passed};
use super::{column, refused};
use crate::dedup::{NgramIndex, Verdict};
use crate::funnel::Step;
use crate::ledger::Counts;
use crate::pipeline::OUTSIDE_STEP as STEP;

/// Rows that go through the threads together and come back as one batch.
pub struct Portion {
    batch: RecordBatch,
    /// Place of the text column.
    text: usize,
    /// The row of its batch with which this begins.
    first_row: usize,
    answers: Vec<Option<Answer>>,
    num_missing: usize,
    /// Which of the rows that passed were rejected since, by job and place.
    rejected: HashSet<(usize, usize)>,
    /// What rules from outside rejected, if there are any.
    own: Option<Step>,
}

impl std::fmt::Debug for Portion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.debug_struct("Portion").field("num_rows", &self.batch.num_rows()).finish_non_exhaustive()
    }
}

/// A row that passed, with where it stands.
type Candidate<'p> = ((usize, usize), &'p Answer, &'p Passed);

impl Portion {
    pub(super) fn new(batch: RecordBatch, text: usize, first_row: usize, num_jobs: usize) -> Self {
        let answers = (0..num_jobs).map(|_| None).collect();
        let (rejected, own) = (HashSet::new(), None);
        Self { batch, text, first_row, answers, num_missing: num_jobs, rejected, own }
    }

    pub(super) fn set(&mut self, index: usize, answer: Answer) {
        self.num_missing -= usize::from(self.answers[index].replace(answer).is_none());
    }

    pub(super) fn is_ready(&self) -> bool {
        self.num_missing == 0
    }

    pub(super) fn num_jobs(&self) -> usize {
        self.answers.len()
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        let answers = self.answers.iter().flatten().enumerate();
        let all = answers.flat_map(|(index, answer)| {
            answer.passed.iter().enumerate().map(move |(place, passed)| ((index, place), answer, passed))
        });
        all.filter(|(at, _, _)| !self.rejected.contains(at))
    }

    /// The rows that passed so far, with their texts as cleaned, and the features that were asked
    /// for as columns of these names at the end.
    ///
    /// # Errors
    /// `InvalidValue` if a column has no room for what became of it.
    pub fn passed(&self, features: &[String]) -> crate::error::Result<RecordBatch> {
        self.with_features(features).map_err(|error| refused(&error))
    }

    fn with_features(&self, features: &[String]) -> Result<RecordBatch, ArrowError> {
        let candidates: Vec<Candidate> = self.candidates().collect();
        let batch = self.gather(&candidates)?;
        let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
        let mut columns = batch.columns().to_vec();
        for (index, name) in features.iter().enumerate() {
            let values = candidates.iter().map(|(_, answer, passed)| answer.feature(passed, index));
            fields.push(Arc::new(Field::new(name, DataType::Float64, false)));
            columns.push(Arc::new(Float64Array::from_iter_values(values)) as ArrayRef);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    /// Rejects rows of [`Portion::passed`]: one reason a row, `None` keeps it.
    pub fn reject<'r>(&mut self, reasons: impl IntoIterator<Item = Option<&'r str>>) {
        let places: Vec<_> = self.candidates().map(|(at, _, passed)| (at, passed.size)).collect();
        let own = self.own.get_or_insert_with(|| Step::named(STEP));
        for ((at, size), reason) in places.into_iter().zip(reasons) {
            if let Some(reason) = reason {
                self.rejected.insert(at);
                own.reject(reason, size);
            }
        }
    }

    /// Drops what repeats an earlier text, and gives what is left, and the counts.
    pub(super) fn finish(self, index: &mut NgramIndex) -> Result<(RecordBatch, Counts), ArrowError> {
        let mut counts = Counts::default();
        self.answers.iter().flatten().for_each(|answer| counts.add(&answer.counts));
        let mut candidates: Vec<Candidate> = self.candidates().collect();
        if let Some(mut own) = self.own.clone() {
            for (_, _, passed) in &candidates {
                own.left.add(passed.size);
            }
            for (reason, size) in &own.rejected {
                counts.reject(reason, size.documents);
            }
            counts.ask_outside(own);
        }
        candidates.retain(|(_, answer, passed)| {
            // An index in memory has no disk that could fail.
            let is_new = !matches!(index.judge(answer.ngrams(passed)), Ok(Verdict::Duplicate));
            let count = if is_new { Counts::keep } else { Counts::repeat };
            count(&mut counts, passed.size);
            is_new
        });
        Ok((self.gather(&candidates)?, counts))
    }

    /// The rows given, as a batch; without a copy if all rows are as they were.
    fn gather(&self, rows: &[Candidate]) -> Result<RecordBatch, ArrowError> {
        let batch = self.filter(rows)?;
        if rows.iter().all(|(_, answer, passed)| answer.changed(passed).is_none()) {
            return Ok(batch);
        }
        let schema = batch.schema();
        let mut columns = batch.columns().to_vec();
        let texts = column::Texts::new(&columns[self.text])?;
        let unchanged =
            |row| texts.get(row).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        let texts_of_rows = rows.iter().enumerate();
        let new: Vec<&str> = texts_of_rows
            .map(|(row, (_, answer, passed))| answer.changed(passed).unwrap_or_else(|| unchanged(row)))
            .collect();
        columns[self.text] = column::write(&new, schema.field(self.text).data_type())?;
        RecordBatch::try_new(schema, columns)
    }

    fn filter(&self, rows: &[Candidate]) -> Result<RecordBatch, ArrowError> {
        if rows.len() == self.batch.num_rows() {
            return Ok(self.batch.clone());
        }
        let mut mask = vec![false; self.batch.num_rows()];
        for (_, _, passed) in rows {
            mask[passed.row - self.first_row] = true;
        }
        filter_record_batch(&self.batch, &BooleanArray::from(mask))
    }
}
