//! The order of data for Python.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use triptych_core::order::{self, Limits, Prefetch, RowTokens, Share, Stage};
use triptych_core::pack::Strategy;
use triptych_core::{Error, Result};

use crate::arrays::to_arrays;
use crate::border::{detached, detached_across, numbers, own_threads, to_py_err};
use crate::remote::local;
use crate::tokens::to_json;

/// The rows of every step, as a pure function of seed, stage table and step.
#[pyclass(frozen, module = "triptych._core")]
pub struct Order {
    inner: Arc<order::Order>,
    /// What it was made from, for a copy in another process.
    arguments: Py<PyTuple>,
    /// The memory of the rows before: a new one would have to be mapped page by page.
    spare: Mutex<RowTokens>,
}

/// Source, document, start, length.
type SegmentTuple = (u32, u32, u32, u32);

#[pymethods]
impl Order {
    #[new]
    #[pyo3(signature = (sources, stages, seed, skip = None, max_epochs = None))]
    fn new(
        py: Python<'_>,
        sources: Vec<(String, PathBuf)>,
        stages: Vec<Bound<'_, PyDict>>,
        #[pyo3(from_py_with = numbers)] seed: u64,
        #[pyo3(from_py_with = numbers)] skip: Option<Vec<(u64, u64)>>,
        #[pyo3(from_py_with = numbers)] max_epochs: Option<BTreeMap<String, f64>>,
    ) -> PyResult<Self> {
        let table = stages.iter().map(to_stage).collect::<PyResult<Vec<Stage>>>()?;
        let arguments = kept((&sources, &stages, seed, &skip, &max_epochs).into_pyobject(py)?)?;
        let windows = skip.unwrap_or_default().into_iter();
        let limits = Limits {
            skip: windows.map(|(first, end)| first..end).collect(),
            max_epochs: max_epochs.unwrap_or_default(),
        };
        let sources = fetched(py, sources)?;
        let inner = detached(py, || order::Order::limited(sources, table, seed, &limits))?;
        Ok(Self { inner: Arc::new(inner), arguments, spare: Mutex::default() })
    }

    fn __getnewargs__<'py>(&self, py: Python<'py>) -> &Bound<'py, PyTuple> {
        self.arguments.bind(py)
    }

    /// The rolling hash after a step: XXH3-64 of the one before and `ids_hash`.
    #[staticmethod]
    fn roll(
        #[pyo3(from_py_with = numbers)] previous: u64,
        #[pyo3(from_py_with = numbers)] ids_hash: u64,
    ) -> u64 {
        order::roll(previous, ids_hash)
    }

    /// Steps of all stages.
    #[getter]
    fn num_steps(&self) -> u64 {
        self.inner.num_steps()
    }

    /// Index in the stage table of the stage that `step` belongs to.
    fn stage(&self, #[pyo3(from_py_with = numbers)] step: u64) -> PyResult<usize> {
        self.inner.stage(step).map_err(to_py_err)
    }

    /// The data step that `step` reads: itself, moved up by windows skipped.
    fn data_step(&self, #[pyo3(from_py_with = numbers)] step: u64) -> PyResult<u64> {
        self.inner.data_step(step).map_err(to_py_err)
    }

    /// The rows of a step: segments (source, document, start, length) each.
    fn rows(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers)] step: u64,
    ) -> PyResult<Vec<Vec<SegmentTuple>>> {
        detached(py, || {
            let rows = self.inner.rows(step)?.into_iter();
            Result::Ok(
                rows.map(|(source, row)| {
                    row.iter().map(|s| (source, s.document, s.start, s.length)).collect()
                })
                .collect(),
            )
        })
    }

    /// Rows of a step as flat arrays, without padding.
    #[pyo3(signature = (step, first_row = 0, num_rows = None, memory = None))]
    fn batch<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = numbers)] step: u64,
        #[pyo3(from_py_with = numbers)] first_row: u64,
        #[pyo3(from_py_with = numbers)] num_rows: Option<u64>,
        memory: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut rows = std::mem::take(&mut *lock(&self.spare));
        detached_across(py, || self.inner.read_into(step, first_row, num_rows, &mut rows))?;
        let arrays = to_arrays(py, &rows, memory)?;
        *lock(&self.spare) = rows;
        Ok(arrays)
    }

    /// The batches of the steps from `first_step` on, read ahead by a thread.
    #[pyo3(signature = (first_step, batch_rows, depth, memory = None, share = None))]
    fn prefetch(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers)] first_step: u64,
        #[pyo3(from_py_with = numbers)] batch_rows: u64,
        #[pyo3(from_py_with = numbers)] depth: usize,
        memory: Option<Py<PyAny>>,
        #[pyo3(from_py_with = numbers)] share: Option<(u64, u64)>,
    ) -> PyResult<Batches> {
        let share = share.map_or(Share::WHOLE, |(number, of)| Share { number, of });
        let threads = own_threads()?;
        let inner = detached(py, || self.inner.prefetch(first_step, batch_rows, depth, share, threads))?;
        Ok(Batches { inner: Mutex::new(inner), memory, process: std::process::id() })
    }

    /// XXH3-128 of the content of all sources and the segments of the step.
    fn step_hash(&self, py: Python<'_>, #[pyo3(from_py_with = numbers)] step: u64) -> PyResult<String> {
        detached(py, || self.inner.step_hash(step))
    }

    /// The plan as JSON, exact to the token.
    fn report(&self, py: Python<'_>) -> PyResult<String> {
        to_json(&detached(py, || Result::Ok(self.inner.report()))?)
    }

    /// Id of a document, from the numbers that `rows` and `batch` give.
    fn document_id(
        &self,
        #[pyo3(from_py_with = numbers)] source: usize,
        #[pyo3(from_py_with = numbers)] document: u64,
    ) -> PyResult<String> {
        self.inner.document_id(source, document).map(str::to_owned).map_err(to_py_err)
    }
}

/// Arguments that what the caller does to its tables no longer reaches: a copy of the order reads what it reads.
fn kept(arguments: Bound<'_, PyTuple>) -> PyResult<Py<PyTuple>> {
    let copied = arguments.py().import("copy")?.call_method1("deepcopy", (arguments,))?;
    Ok(copied.cast_into::<PyTuple>()?.unbind())
}

/// The sources as folders of this machine: what is far away is fetched first, until a signal comes.
fn fetched(py: Python<'_>, sources: Vec<(String, PathBuf)>) -> PyResult<Vec<(String, PathBuf)>> {
    let sources = sources.into_iter();
    sources.map(|(name, folder)| Ok((name, local(py, &folder, None)?))).collect()
}

/// Batches whose rows a thread reads ahead.
#[pyclass(frozen, module = "triptych._core")]
pub struct Batches {
    inner: Mutex<Prefetch>,
    memory: Option<Py<PyAny>>,
    process: u32,
}

/// Step, first row, rows, arrays.
type PartTuple<'py> = (u64, u64, u64, Bound<'py, PyDict>);

#[pymethods]
impl Batches {
    fn __iter__(batches: PyRef<'_, Self>) -> PyRef<'_, Self> {
        batches
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<PartTuple<'py>>> {
        if self.process != std::process::id() {
            return Err(to_py_err(Error::InvalidValue {
                what: "batches made ahead".to_owned(),
                expected: "the process that asked for them, as their thread is there".to_owned(),
                found: "another".to_owned(),
            }));
        }
        let Some((part, rows)) = detached(py, || Result::Ok(lock(&self.inner).next()))? else {
            return Ok(None);
        };
        let rows = rows.map_err(to_py_err)?;
        let arrays = to_arrays(py, &rows, self.memory.as_ref().map(|memory| memory.bind(py)))?;
        lock(&self.inner).recycle(rows);
        Ok(Some((part.step, part.first_row, part.num_rows, arrays)))
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys of a stage; the last three may be left out.
const STAGE_KEYS: [&str; 8] =
    ["name", "steps", "rows_per_step", "seq_len", "weights", "ramp_steps", "packing", "goes_on"];

fn to_stage(stage: &Bound<'_, PyDict>) -> PyResult<Stage> {
    for key in stage.keys() {
        known_key(&key.extract::<String>()?).map_err(to_py_err)?;
    }
    let packing: Option<String> = optional(stage, "packing", "a string")?;
    let named = packing.map_or(Ok(Strategy::default()), |name| Strategy::named(&name));
    Ok(Stage {
        name: field(stage, "name", "a string")?,
        steps: field(stage, "steps", "a whole number of at least 1")?,
        rows_per_step: field(stage, "rows_per_step", "a whole number of at least 1")?,
        seq_len: field(stage, "seq_len", "a whole number of at least 1")?,
        weights: field::<BTreeMap<String, f64>>(stage, "weights", "a table of numbers by source")?,
        ramp_steps: optional(stage, "ramp_steps", "a whole number")?.unwrap_or(0),
        packing: named.map_err(to_py_err)?,
        goes_on: optional(stage, "goes_on", "true or false")?.unwrap_or(false),
    })
}

fn known_key(key: &str) -> Result<()> {
    if STAGE_KEYS.contains(&key) {
        return Ok(());
    }
    Err(Error::unknown_name("key of a stage", key, &STAGE_KEYS))
}

fn field<'py, T: for<'a> FromPyObject<'a, 'py>>(
    stage: &Bound<'py, PyDict>,
    key: &str,
    expected: &str,
) -> PyResult<T> {
    optional(stage, key, expected)?.ok_or_else(|| wrong(key, expected, "nothing"))
}

fn optional<'py, T: for<'a> FromPyObject<'a, 'py>>(
    stage: &Bound<'py, PyDict>,
    key: &str,
    expected: &str,
) -> PyResult<Option<T>> {
    let Some(value) = stage.get_item(key)?.filter(|value| !value.is_none()) else { return Ok(None) };
    value.extract().map(Some).map_err(|_| wrong(key, expected, &value.to_string()))
}

fn wrong(key: &str, expected: &str, found: &str) -> PyErr {
    to_py_err(Error::InvalidValue {
        what: format!("`{key}` of a stage"),
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}
