//! Preparation: conversions only.

use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::RecordBatch;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use triptych_core::config::PrepConfig;
use triptych_core::dedup::MIN_NGRAM_WORDS;
use triptych_core::pipeline::{self, OutsideRules, Progress};
use triptych_core::profile::{Fate, Pii, Profile};
use triptych_core::{Error, Result};

use crate::border::{detached, to_py_err};
use crate::clean::{ask, check_signals};

/// The texts as UTF-8; a lone surrogate has none, and the error says where it stands.
fn utf8(texts: Vec<Bound<'_, PyString>>) -> PyResult<Vec<String>> {
    let convert = |(index, text): (usize, Bound<'_, PyString>)| {
        text.to_str().map(str::to_owned).map_err(|_| {
            PyValueError::new_err(format!("text {index} holds a lone surrogate: expected Unicode text"))
        })
    };
    texts.into_iter().enumerate().map(convert).collect()
}

fn kept(texts: &[String], profile: &Profile) -> Vec<String> {
    let kept = profile.prepare_all(texts).0.into_iter().filter_map(|fate| match fate {
        Fate::Kept(text) => Some(text.into_owned()),
        Fate::Dropped => None,
    });
    kept.collect()
}

fn seed(min_length: usize, max_length: usize) -> PyResult<Profile> {
    let config = PrepConfig { min_length, max_length, ..PrepConfig::default() };
    config.profile().map_err(to_py_err)
}

#[pyclass(frozen, module = "triptych._core")]
pub struct TextPreprocessor {
    profile: Profile,
}

#[pymethods]
#[allow(clippy::unused_self)] // what needs no bounds is a method all the same: the founding API
impl TextPreprocessor {
    #[new]
    #[pyo3(signature = (min_length = 128, max_length = 4096))]
    fn new(min_length: usize, max_length: usize) -> PyResult<Self> {
        Ok(Self { profile: seed(min_length, max_length)? })
    }

    fn remove_pii(&self, py: Python<'_>, text: Bound<'_, PyString>) -> PyResult<String> {
        let texts = utf8(vec![text])?;
        detached(py, || Result::Ok(triptych_core::pii::remove_pii(&texts[0]).into_owned()))
    }

    fn check_quality(&self, py: Python<'_>, text: Bound<'_, PyString>) -> PyResult<bool> {
        let texts = utf8(vec![text])?;
        let profile = Profile { pii: Pii::Leave, ngram: None, ..self.profile.clone() };
        detached(py, || Result::Ok(!kept(&texts, &profile).is_empty()))
    }

    #[pyo3(signature = (texts, n = 13))]
    fn deduplicate_by_ngram(
        &self,
        py: Python<'_>,
        texts: Vec<Bound<'_, PyString>>,
        n: usize,
    ) -> PyResult<Vec<String>> {
        if n < MIN_NGRAM_WORDS {
            return Err(PyValueError::new_err(format!("n must be at least 1, got {n}")));
        }
        let texts = utf8(texts)?;
        detached(py, || Result::Ok(kept(&texts, &Profile { ngram: Some(n), ..Profile::default() })))
    }

    fn process(&self, py: Python<'_>, texts: Vec<Bound<'_, PyString>>) -> PyResult<Vec<String>> {
        let texts = utf8(texts)?;
        detached(py, || Result::Ok(kept(&texts, &self.profile)))
    }
}

/// Asks the interpreter for signals between blocks, so that Ctrl-C stops a run.
#[derive(Default)]
struct Signals {
    raised: Mutex<Option<PyErr>>,
}

impl Signals {
    fn keep(&self, raised: Option<PyErr>) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = raised;
    }

    fn take(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Progress for Signals {
    fn start(&self, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
    fn is_stopped(&self) -> bool {
        let raised = check_signals().err();
        let is_stopped = raised.is_some();
        self.keep(raised);
        is_stopped
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
