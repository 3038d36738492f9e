//! Arrow batches through the engine: pulls from Python, asks Python's rules, listens for Ctrl-C.

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::{PyArray, PyRecordBatch, PyRecordBatchReader, PySchema};
use triptych_core::clean::{self, Cleaner, Portion, Step};
use triptych_core::config::PrepConfig;

use crate::border::{detached, to_py_err, InputError};
use crate::source::Source;

/// How long a signal may wait: half of what a person notices.
pub const TICK: Duration = Duration::from_millis(50);

#[pyclass(frozen, module = "triptych._core")]
pub struct BatchCleaner {
    state: Mutex<State>,
    /// The thread that has the state: what it calls of Python cannot have it too.
    holder: Mutex<Option<ThreadId>>,
}

struct State {
    source: Source,
    /// Absent if there was no batch to tell the schema.
    work: Option<(Cleaner, SchemaRef)>,
    rule: Option<Py<PyAny>>,
    features: Vec<String>,
    /// The process that has the threads.
    process: u32,
    /// An error has left rows without a fate.
    is_broken: bool,
}

#[pymethods]
impl BatchCleaner {
    #[new]
    fn new(
        py: Python<'_>,
        batches: Bound<'_, PyAny>,
        config_json: &str,
        rule: Option<Py<PyAny>>,
        features: Vec<String>,
    ) -> PyResult<Self> {
        let config = config_of(config_json)?;
        let mut source = Source::open(&batches)?;
        let work = source.schema(py)?.map(|schema| {
            let cleaner = detached(py, || Cleaner::new(&config, schema.clone(), &features))?;
            PyResult::Ok((cleaner, schema))
        });
        let work = work.transpose()?;
        let process = std::process::id();
        let state = State { source, work, rule, features, process, is_broken: false };
        Ok(Self { state: Mutex::new(state), holder: Mutex::default() })
    }

    #[getter]
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        PySchema::new(self.known_schema(py)?).into_pyarrow(py)
    }

    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        this: Bound<'py, Self>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let schema = this.get().known_schema(py)?;
        let reader = PyRecordBatchReader::new(Box::new(Exported { cleaner: this.unbind(), schema }));
        reader.into_pyobject(py)?.call_method1("__arrow_c_stream__", (requested_schema,))
    }

    #[getter]
    fn ledger_json(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| {
            self.held(|state| {
                let counts = state.work.as_ref().map(|(cleaner, _)| cleaner.counts().clone());
                Ok(serde_json::json!(counts.unwrap_or_default()).to_string())
            })
        })
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let batch = detached(py, || self.held(State::next))?;
        batch.map(|batch| PyRecordBatch::new(batch).into_pyarrow(py)).transpose()
    }
}

impl BatchCleaner {
    /// Works with the state, which one thread has at a time.
    fn held<T>(&self, work: impl FnOnce(&mut State) -> PyResult<T>) -> PyResult<T> {
        let this_thread = std::thread::current().id();
        if *lock(&self.holder) == Some(this_thread) {
            return Err(InputError::new_err(
                "this stream is at work: its source and its rules cannot ask it",
            ));
        }
        let mut state = lock(&self.state);
        *lock(&self.holder) = Some(this_thread);
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut state)));
        *lock(&self.holder) = None;
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn known_schema(&self, py: Python<'_>) -> PyResult<SchemaRef> {
        let schema_of = |state: &mut State| Ok(state.work.as_ref().map(|(_, schema)| schema.clone()));
        let schema = py.detach(|| self.held(schema_of))?;
        let missing = "no batches: an iterable without any has no schema either";
        schema.ok_or_else(|| InputError::new_err(missing))
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The batches for who knows Arrow, not Python.
struct Exported {
    cleaner: Py<BatchCleaner>,
    schema: SchemaRef,
}

impl Iterator for Exported {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = || self.cleaner.get().held(State::next);
        Python::attach(|py| detached(py, next).map_err(|error| to_arrow_error(py, error))).transpose()
    }
}

impl RecordBatchReader for Exported {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Arrow carries the message only. Ctrl-C must not end as an error that somebody catches, so it is
/// given back to the interpreter, which raises it where Python goes on.
fn to_arrow_error(py: Python<'_>, error: PyErr) -> ArrowError {
    let message = error.to_string(); // before: what the interpreter is asked next raises the signal
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        let again = py.import("_thread").and_then(|threads| threads.getattr("interrupt_main"));
        let _ = again.and_then(|interrupt| interrupt.call0());
    }
    ArrowError::ExternalError(message.into())
}

impl State {
    /// The next batch that is not empty.
    fn next(&mut self) -> PyResult<Option<RecordBatch>> {
        self.check_process()?;
        if self.is_broken {
            return Err(InputError::new_err("the stream has failed before: begin it anew"));
        }
        loop {
            match self.step()? {
                Some(Step::Ready(portion)) => {
                    self.is_broken = true; // until these rows have their fate
                    let batch = self.finish(*portion)?;
                    self.is_broken = false;
                    if batch.num_rows() > 0 {
                        return Ok(Some(batch));
                    }
                }
                Some(Step::Waiting) => (),
                Some(Step::Idle) | None => return self.end(),
            }
            check_signals()?;
        }
    }

    /// The end, or the error that took its place.
    fn end(&mut self) -> PyResult<Option<RecordBatch>> {
        let raised = self.source.take_error();
        self.is_broken = raised.is_some();
        raised.map_or(Ok(None), Err)
    }

    /// Keeps the threads at work, and sees what is done; `None` without any batch.
    fn step(&mut self) -> PyResult<Option<Step>> {
        let Some((cleaner, _)) = &mut self.work else { return Ok(None) };
        while cleaner.wants_batch() {
            let Some(batch) = Python::attach(|py| self.source.next(py)) else { break };
            if let Err(error) = cleaner.push(batch) {
                self.source.fail(to_py_err(error));
            }
        }
        if let Some(raised) = self.source.take_interruption() {
            self.is_broken = true;
            return Err(raised);
        }
        cleaner.step(TICK).map(Some).map_err(to_py_err)
    }

    fn finish(&mut self, mut portion: Portion) -> PyResult<RecordBatch> {
        if let Some(rule) = &self.rule {
            let batch = portion.passed(&self.features).map_err(to_py_err)?;
            let reasons = Python::attach(|py| ask(py, rule, batch))?;
            portion.reject(reasons.as_string::<i32>());
        }
        let cleaner = self.work.as_mut().map(|(cleaner, _)| cleaner).expect("it gave this portion");
        cleaner.finish(portion).map_err(to_py_err)
    }

    /// Refuses to go on in a child of the process that has the threads.
    fn check_process(&self) -> PyResult<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(InputError::new_err("this stream was begun before a fork: begin it in the child"))
    }
}

/// Raises what a signal raises, `KeyboardInterrupt` say.
#[allow(clippy::redundant_closure_for_method_calls)] // the method alone fits one lifetime only
pub fn check_signals() -> PyResult<()> {
    Python::attach(|py| py.check_signals())
}

fn config_of(json: &str) -> PyResult<PrepConfig> {
    let table = serde_json::from_str(json)
        .map_err(|error| PyValueError::new_err(format!("expected a JSON object of keys: {error}")))?;
    clean::config(table).map_err(to_py_err)
}

/// The reasons of a rule of Python, which `triptych.prep` has checked: a string a row, or null.
pub fn ask(py: Python<'_>, rule: &Py<PyAny>, batch: RecordBatch) -> PyResult<ArrayRef> {
    let batch = PyRecordBatch::new(batch).into_pyarrow(py)?;
    let (reasons, _) = rule.bind(py).call1((batch,))?.extract::<PyArray>()?.into_inner();
    match reasons.as_string_opt::<i32>() {
        Some(_) => Ok(reasons),
        None => Err(InputError::new_err(format!("a rule gave reasons of type {}", reasons.data_type()))),
    }
}
