//! Preparation: conversions only.

use std::sync::Arc;

use arrow_array::builder::LargeStringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, LargeStringArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use triptych_core::clean::{Cleaner, Step};
use triptych_core::config::PrepConfig;
use triptych_core::dedup::MIN_NGRAM_WORDS;
use triptych_core::pii::remove_pii;
use triptych_core::pipeline::{self, OutsideRules};
use triptych_core::profile::{Pii, Profile, Scratch};
use triptych_core::{Error, Result};

use crate::border::{detached, numbers, to_py_err};
use crate::clean::{ask, TICK};
use crate::signals::Signals;

/// Text that is handed to the engine at once.
const BATCH_BYTES: usize = 4 << 20;

/// A text as UTF-8; a lone surrogate has none, and the error says where it stands.
fn utf8<'t>(index: usize, text: &'t Bound<'_, PyString>) -> PyResult<&'t str> {
    text.to_str().map_err(|_| {
        PyValueError::new_err(format!("text {index} holds a lone surrogate: expected Unicode text"))
    })
}

/// What is left of the texts, as arrays of strings.
fn kept(py: Python<'_>, texts: &[Bound<'_, PyString>], profile: &Profile) -> PyResult<Vec<ArrayRef>> {
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::LargeUtf8, false)]));
    let mut cleaner = Cleaner::of_texts(profile.clone(), Arc::clone(&schema));
    let (mut next, mut kept) = (0, Vec::new());
    loop {
        while next < texts.len() && cleaner.wants_batch() {
            let column: ArrayRef = Arc::new(take_texts(texts, &mut next)?);
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]);
            cleaner.push(batch.expect("the schema is of the column")).map_err(to_py_err)?;
        }
        py.check_signals()?;
        match detached(py, || cleaner.step(TICK))? {
            Step::Ready(portion) => kept.push(detached(py, || cleaner.finish(*portion))?.column(0).clone()),
            Step::Waiting => (),
            Step::Idle => return Ok(kept),
        }
    }
}

/// The texts from `next` on that make a batch.
fn take_texts(texts: &[Bound<'_, PyString>], next: &mut usize) -> PyResult<LargeStringArray> {
    let mut column = LargeStringBuilder::new();
    while *next < texts.len() && column.values_slice().len() < BATCH_BYTES {
        column.append_value(utf8(*next, &texts[*next])?);
        *next += 1;
    }
    Ok(column.finish())
}

fn to_list<'py>(py: Python<'py>, columns: &[ArrayRef]) -> PyResult<Bound<'py, PyList>> {
    let texts = columns.iter().flat_map(|column| column.as_string::<i64>().iter().flatten());
    let list = PyList::empty(py);
    texts.into_iter().try_for_each(|text| list.append(text))?;
    Ok(list)
}

fn seed(min_length: usize, max_length: usize) -> PyResult<Profile> {
    let config = PrepConfig { min_length, max_length, ..PrepConfig::default() };
    config.profile().map_err(to_py_err)
}

/// PII scrubbing, quality and n-gram deduplication: the `seed` profile.
#[pyclass(frozen, module = "triptych._core")]
pub struct TextPreprocessor {
    profile: Profile,
    bounds: (usize, usize),
}

#[pymethods]
#[allow(clippy::unused_self)] // what needs no bounds is a method all the same: the founding API
impl TextPreprocessor {
    #[new]
    #[pyo3(signature = (min_length = 128, max_length = 4096))]
    fn new(
        #[pyo3(from_py_with = numbers)] min_length: usize,
        #[pyo3(from_py_with = numbers)] max_length: usize,
    ) -> PyResult<Self> {
        Ok(Self { profile: seed(min_length, max_length)?, bounds: (min_length, max_length) })
    }

    fn __getnewargs__(&self) -> (usize, usize) {
        self.bounds
    }

    /// The text with `[EMAIL]`, `[PHONE]`, `[SSN]` and `[IP]` in place of personal data.
    fn remove_pii(&self, py: Python<'_>, text: Bound<'_, PyString>) -> PyResult<String> {
        let text = utf8(0, &text)?;
        detached(py, || Result::Ok(remove_pii(text).into_owned()))
    }

    /// Whether the text passes; each bound passes.
    fn check_quality(&self, py: Python<'_>, text: Bound<'_, PyString>) -> PyResult<bool> {
        let text = utf8(0, &text)?;
        let profile = Profile { pii: Pii::Leave, ngram: None, ..self.profile.clone() };
        let passes = || profile.prepare(text, &mut Scratch::default(), &mut Vec::new()).is_ok();
        detached(py, || Result::Ok(passes()))
    }

    /// The texts that share none of their first five n-grams with an earlier one.
    #[pyo3(signature = (texts, n = 13))]
    fn deduplicate_by_ngram<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Bound<'py, PyString>>,
        #[pyo3(from_py_with = numbers)] n: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        if n < MIN_NGRAM_WORDS {
            return Err(PyValueError::new_err(format!("n must be at least 1, got {n}")));
        }
        to_list(py, &kept(py, &texts, &Profile { ngram: Some(n), ..Profile::default() })?)
    }

    /// Scrubs, checks and deduplicates, in this order; returns what is kept.
    fn process<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Bound<'py, PyString>>,
    ) -> PyResult<Bound<'py, PyList>> {
        to_list(py, &kept(py, &texts, &self.profile)?)
    }
}

/// The rules of Python, asked as one; the exception of one is kept, and ends the run.
struct Rules<'r> {
    rule: Py<PyAny>,
    signals: &'r Signals,
}

impl OutsideRules for Rules<'_> {
    fn reasons(&self, documents: RecordBatch) -> Result<Vec<Option<String>>> {
        let reasons = Python::attach(|py| ask(py, &self.rule, documents)).map_err(|raised| {
            self.signals.keep(Some(raised));
            Error::Interrupted
        })?;
        Ok(reasons.as_string::<i32>().iter().map(|reason| reason.map(str::to_owned)).collect())
    }
}

#[pyfunction]
#[pyo3(signature = (config_json, rule = None))]
pub fn run_prep(py: Python<'_>, config_json: &str, rule: Option<Py<PyAny>>) -> PyResult<String> {
    let table = serde_json::from_str(config_json)
        .map_err(|error| PyValueError::new_err(format!("expected a JSON object of keys: {error}")))?;
    let signals = Signals::default();
    let rules = rule.map(|rule| Rules { rule, signals: &signals });
    let run = || {
        let mut config = PrepConfig::default();
        config.set_all(table)?;
        pipeline::run_with(&config, &signals, rules.as_ref().map(|rules| rules as &dyn OutsideRules))
    };
    let result = detached(py, run);
    if let Some(raised) = signals.take() {
        return Err(raised);
    }
    result.map(|summary| serde_json::json!(summary).to_string())
}
