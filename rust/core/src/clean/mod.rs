//! Arrow batches through a profile, without files: what `pipeline` does to blocks, done to rows.
//!
//! A [`Cleaner`] is driven from outside: it takes batches while it wants any and gives back what
//! is left of them, in order. Nothing in it waits longer than it is told, so whoever drives it can
//! listen for signals, and ask rules of its own between the profile's and deduplication.

mod answer;
mod column;
mod pool;
mod portion;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use serde_json::{Map, Value};

use crate::config::PrepConfig;
use crate::dedup::NgramIndex;
use crate::error::{Error, Result};
use crate::ledger::Counts;
use crate::profile::Profile;
use crate::quality::{Measure, FEATURES};

use answer::Judge;
use column::Texts;
use pool::{Job, Pool};
pub use portion::Portion;

/// The keys of a configuration that have a meaning without files.
pub const KEYS: [&str; 10] = [
    "profile",
    "pii",
    "language",
    "rule",
    "phrase_list",
    "min_length",
    "max_length",
    "ngram",
    "text_field",
    "threads",
];

/// Text in a portion; a batch of more comes back as several.
const PORTION_BYTES: usize = 32 << 20;

/// Text that a thread prepares in one go.
const JOB_BYTES: usize = 1 << 20;

/// Jobs a thread on the way, so that none waits while batches are small.
const JOBS_EACH: usize = 4;

/// What became of the batches given so far.
#[derive(Debug)]
pub enum Step {
    /// The next rows are done.
    Ready(Box<Portion>),
    /// They are not yet.
    Waiting,
    /// There are none: more batches are wanted, or all is done.
    Idle,
}

/// The configuration that a table of [`KEYS`] makes.
///
/// # Errors
/// `UnknownName` with the nearest key, `InvalidValue` for a wrong type.
pub fn config(table: Map<String, Value>) -> Result<PrepConfig> {
    let mut config = PrepConfig::default();
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(Error::unknown_name("key", key, &KEYS));
    }
    config.set_all(table)?;
    Ok(config)
}

/// Cleans a stream of batches of one schema.
pub struct Cleaner {
    schema: SchemaRef,
    /// Place of the text column.
    text: usize,
    pool: Pool,
    num_threads: usize,
    /// What is left of the last batch.
    rest: Option<Rest>,
    /// Portions in order; the first is number `first`.
    portions: VecDeque<Portion>,
    first: usize,
    index: NgramIndex,
    counts: Counts,
}

/// The rows of a batch that are not on their way yet.
struct Rest {
    batch: RecordBatch,
    texts: Arc<Texts>,
    next_row: usize,
}

impl Cleaner {
    /// A cleaner of batches of this schema, which measures these features of all that passes.
    ///
    /// # Errors
    /// The configuration; `UnknownName` for a feature or if there is no text column, `InvalidValue`
    /// if that holds no text.
    pub fn new(config: &PrepConfig, schema: SchemaRef, features: &[String]) -> Result<Self> {
        let text = text_column(&schema, &config.text_field)?;
        check_free(&schema, features)?;
        let measures = features.iter().map(|name| measure(name)).collect::<Result<_>>()?;
        let judge = Judge { profile: config.profile()?, measures };
        Ok(Self::with(judge, schema, text, config.threads))
    }

    /// A cleaner of batches with one column, which holds text, on all cores.
    pub fn of_texts(profile: Profile, schema: SchemaRef) -> Self {
        Self::with(Judge { profile, measures: Vec::new() }, schema, 0, 0)
    }

    fn with(judge: Judge, schema: SchemaRef, text: usize, threads: usize) -> Self {
        let num_threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        Self {
            schema,
            text,
            pool: Pool::new(judge, num_threads),
            num_threads,
            rest: None,
            portions: VecDeque::new(),
            first: 0,
            index: NgramIndex::default(),
            counts: Counts::default(),
        }
    }

    /// True if another batch can be given without holding more than is good.
    pub fn wants_batch(&self) -> bool {
        self.rest.is_none() && self.has_room()
    }

    fn has_room(&self) -> bool {
        let num_jobs: usize = self.portions.iter().map(Portion::num_jobs).sum();
        self.portions.len() < 2 || num_jobs < JOBS_EACH * self.num_threads
    }

    /// Takes the next batch.
    ///
    /// # Errors
    /// `InvalidValue` if it is of another schema.
    pub fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.schema().fields() != self.schema.fields() {
            return Err(Error::InvalidValue {
                what: "batch".to_owned(),
                expected: format!("the columns of the first, {}", columns(&self.schema)),
                found: columns(&batch.schema()),
            });
        }
        let texts = Arc::new(Texts::new(batch.column(self.text)).map_err(|error| refused(&error))?);
        self.rest = (batch.num_rows() > 0).then_some(Rest { batch, texts, next_row: 0 });
        self.send()
    }

    /// The next rows in order, waiting at most so long for them.
    ///
    /// # Errors
    /// `Resource` if no thread can be started.
    ///
    /// # Panics
    /// With the panic of a thread.
    pub fn step(&mut self, timeout: Duration) -> Result<Step> {
        self.send()?;
        let deadline = Instant::now() + timeout;
        while !self.portions.front().is_some_and(Portion::is_ready) {
            if self.portions.is_empty() {
                return Ok(Step::Idle);
            }
            let Some((portion, index, answer)) =
                self.pool.receive(deadline.saturating_duration_since(Instant::now()))
            else {
                return Ok(Step::Waiting);
            };
            self.portions[portion - self.first].set(index, answer);
        }
        self.first += 1;
        Ok(self.portions.pop_front().map_or(Step::Idle, |portion| Step::Ready(Box::new(portion))))
    }

    /// What is left of a portion, which is the last that [`Cleaner::step`] gave.
    ///
    /// # Errors
    /// `InvalidValue` if a column has no room for what became of it.
    pub fn finish(&mut self, portion: Portion) -> Result<RecordBatch> {
        let (batch, counts) = portion.finish(&mut self.index).map_err(|error| refused(&error))?;
        self.counts.add(&counts);
        Ok(batch)
    }

    /// What became of the rows of all portions that are finished.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends portions of the last batch on their way, while there is room.
    fn send(&mut self) -> Result<()> {
        while self.has_room() {
            let Some(Rest { batch, texts, next_row }) = self.rest.take() else { return Ok(()) };
            let rows = span(&texts, next_row, PORTION_BYTES);
            let (texts_of_job, end) = (Arc::clone(&texts), rows.end);
            if end < batch.num_rows() {
                self.rest = Some(Rest { batch: batch.clone(), texts, next_row: end });
            }
            self.send_portion(&batch.slice(rows.start, rows.len()), &texts_of_job, rows)?;
        }
        Ok(())
    }

    fn send_portion(&mut self, batch: &RecordBatch, texts: &Arc<Texts>, rows: Range<usize>) -> Result<()> {
        let mut jobs = Vec::new();
        let mut start = rows.start;
        while start < rows.end {
            let job = span(texts, start, JOB_BYTES);
            start = job.end;
            jobs.push(job.start..job.end.min(rows.end));
        }
        let portion = self.first + self.portions.len();
        self.portions.push_back(Portion::new(batch.clone(), self.text, rows.start, jobs.len()));
        jobs.into_iter().enumerate().try_for_each(|(index, rows)| {
            self.pool.send(Job { portion, index, texts: Arc::clone(texts), rows })
        })
    }
}

/// Rows from `first` on with so much text together, and at least one.
fn span(texts: &Texts, first: usize, most_bytes: usize) -> Range<usize> {
    let mut bytes = texts.num_bytes(first);
    let mut end = first + 1;
    while end < texts.num_rows && end - first < most_bytes / ROW_BYTES {
        bytes += texts.num_bytes(end);
        if bytes > most_bytes {
            break;
        }
        end += 1;
    }
    first..end
}

/// What a row costs at least, so that rows without text make portions too.
const ROW_BYTES: usize = 64;

fn text_column(schema: &Schema, name: &str) -> Result<usize> {
    let fields = schema.fields().iter().enumerate();
    let mut found = fields.filter(|(_, field)| field.name() == name);
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let (index, field) = found.next().ok_or_else(|| Error::unknown_name("column", name, &names))?;
    let is_alone = found.next().is_none();
    if is_alone && column::holds_text(field.data_type()) {
        return Ok(index);
    }
    Err(Error::InvalidValue {
        what: format!("column `{name}`"),
        expected: "one column of strings or bytes, dictionary-encoded or not".to_owned(),
        found: if is_alone { format!("type {}", field.data_type()) } else { "several".to_owned() },
    })
}

/// Refuses features that rules could not tell from a column of the input, or from each other.
fn check_free(schema: &Schema, features: &[String]) -> Result<()> {
    let mut known = features.iter().enumerate();
    let taken =
        known.find(|(at, name)| schema.column_with_name(name).is_some() || features[..*at].contains(name));
    taken.map_or(Ok(()), |(_, name)| {
        Err(Error::InvalidValue {
            what: format!("feature `{name}`"),
            expected: "a name that no column of the input and no other feature has".to_owned(),
            found: "one that is taken: rename the column, or leave the feature out".to_owned(),
        })
    })
}

fn measure(name: &str) -> Result<Measure> {
    let found = FEATURES.iter().find(|(feature, _)| *feature == name).map(|(_, measure)| *measure);
    found.ok_or_else(|| Error::unknown_name("feature", name, &FEATURES.map(|(name, _)| name)))
}

fn columns(schema: &Schema) -> String {
    let names: Vec<String> =
        schema.fields().iter().map(|field| format!("`{}` ({})", field.name(), field.data_type())).collect();
    names.join(", ")
}

fn refused(error: &ArrowError) -> Error {
    Error::InvalidValue {
        what: "batch".to_owned(),
        expected: "Arrow data that can be read and written in its own types".to_owned(),
        found: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, StringArray};

    use super::*;

    fn batch(texts: Vec<&str>) -> RecordBatch {
        let column: ArrayRef = Arc::new(StringArray::from(texts));
        RecordBatch::try_from_iter([("text", column)]).unwrap()
    }

    fn cleaner(config: &PrepConfig) -> Cleaner {
        Cleaner::new(config, batch(Vec::new()).schema(), &[]).unwrap()
    }

    #[test]
    fn a_portion_ends_where_the_text_is_enough_and_has_a_row_however_long_that_is() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["aaaa", "bb", "cccccccc", "d"]));
        let texts = Texts::new(&column).unwrap();
        let spans = [span(&texts, 0, 256), span(&texts, 0, 65), span(&texts, 2, 64)];
        assert_eq!(spans, [0..4, 0..1, 2..3]);
    }

    #[test]
    fn batches_of_any_size_come_back_in_order_and_all_rows_have_a_fate() {
        let config = PrepConfig { profile: "clean".to_owned(), threads: 3, ..PrepConfig::default() };
        let mut cleaner = cleaner(&config);
        let texts: Vec<String> = (0..500).map(|row| format!("{row} at a@b.org")).collect();
        let mut given = texts.chunks(7).map(|rows| batch(rows.iter().map(String::as_str).collect()));
        let mut found = Vec::new();
        loop {
            while cleaner.wants_batch() {
                let Some(batch) = given.next() else { break };
                cleaner.push(batch).unwrap();
            }
            match cleaner.step(Duration::from_secs(60)).unwrap() {
                Step::Ready(portion) => found.push(cleaner.finish(*portion).unwrap()),
                Step::Waiting => panic!("a thread is stuck"),
                Step::Idle => break,
            }
        }
        let texts = found.iter().flat_map(|batch| {
            let column = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
            (0..batch.num_rows()).map(|row| column.value(row).to_owned())
        });
        assert!(texts.eq((0..500).map(|row| format!("{row} at [EMAIL]"))));
        assert_eq!((cleaner.counts().read, cleaner.counts().kept), (500, 500));
    }

    #[test]
    fn a_key_that_needs_files_is_refused() {
        let table = Map::from_iter([("output".to_owned(), Value::from("x"))]);
        assert!(config(table).unwrap_err().to_string().starts_with("unknown key `output`"));
    }
}
