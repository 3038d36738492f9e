//! Batches from Python: one object with the Arrow C stream interface, or an iterable of objects
//! with that of batches.

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3_arrow::input::AnyRecordBatch;

use crate::border::InputError;

/// Batches, the last of which may be an error.
pub struct Source {
    /// Items that are batches, or hold some.
    items: Option<Py<PyIterator>>,
    /// Of the item at hand.
    reader: Option<Box<dyn RecordBatchReader + Send>>,
    /// What ended the batches too early; it is raised after what came before it.
    error: Option<PyErr>,
    num_items: usize,
}

impl Source {
    /// Opens whatever `batches` is.
    ///
    /// # Errors
    /// `TypeError` if it is neither.
    pub fn open(batches: &Bound<'_, PyAny>) -> PyResult<Self> {
        let is_stream = batches.hasattr("__arrow_c_stream__")? || batches.hasattr("__arrow_c_array__")?;
        let (reader, items) = if is_stream {
            (Some(record_batches(&by_pyarrow(batches))?.into_reader()?), None)
        } else if batches.hasattr("__iter__")? {
            (None, Some(batches.try_iter().map_err(|_| no_batches("batches", batches))?.unbind()))
        } else {
            return Err(no_batches("batches", batches)); // a lazy frame has items, but none to go through
        };
        Ok(Self { items, reader, error: None, num_items: 0 })
    }

    /// The schema, for which the first item is read; `None` if there is none.
    pub fn schema(&mut self, py: Python<'_>) -> PyResult<Option<SchemaRef>> {
        if self.reader.is_none() {
            self.next_item(py)?;
        }
        Ok(self.reader.as_deref().map(RecordBatchReader::schema))
    }

    /// The next batch; `None` at the end, however it came.
    pub fn next(&mut self, py: Python<'_>) -> Option<RecordBatch> {
        while self.error.is_none() {
            match self.reader.as_mut().and_then(|reader| py.detach(|| reader.next())) {
                Some(Ok(batch)) => return Some(batch),
                Some(Err(error)) => {
                    self.error = Some(InputError::new_err(format!("reading batches: {}", told(&error))));
                }
                None => match self.next_item(py) {
                    Ok(()) if self.reader.is_none() => return None,
                    Ok(()) => (),
                    Err(error) => self.error = Some(error),
                },
            }
        }
        None
    }

    /// Ends the batches with an error.
    pub fn fail(&mut self, error: PyErr) {
        self.error = Some(error);
    }

    /// What ended the batches too early, once.
    pub fn take_error(&mut self) -> Option<PyErr> {
        self.error.take()
    }

    /// The same if it waits for nothing: `KeyboardInterrupt`, and whatever else is no `Exception`.
    pub fn take_interruption(&mut self) -> Option<PyErr> {
        let is_ordinary = |error: &mut PyErr| Python::attach(|py| error.is_instance_of::<PyException>(py));
        self.error.take_if(|error| !is_ordinary(error))
    }

    /// Opens the next item, if there is one.
    fn next_item(&mut self, py: Python<'_>) -> PyResult<()> {
        self.reader = None;
        let Some(items) = &self.items else { return Ok(()) };
        if let Some(item) = items.bind(py).clone().next() {
            let item = item?;
            let name = format!("item {} of batches", self.num_items);
            let batch =
                by_pyarrow(&item).extract::<AnyRecordBatch>().map_err(|_| no_batches(&name, &item))?;
            self.reader = Some(batch.into_reader()?);
            self.num_items += 1;
        }
        Ok(())
    }
}

/// A stream of another library, read by pyarrow, which forgives what arrow-rs refuses: polars gives columns of
/// nulls a buffer. What pyarrow does not read either is said where it is read next.
fn by_pyarrow<'py>(batches: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    let read = || {
        batches.py().import("pyarrow")?.getattr("RecordBatchReader")?.call_method1("from_stream", (batches,))
    };
    let is_stream = batches.hasattr("__arrow_c_stream__").unwrap_or(false);
    if is_stream {
        read().unwrap_or_else(|_| batches.clone())
    } else {
        batches.clone()
    }
}

/// What an object with the interface gives, if that is record batches. A series and an array have it too, and
/// what they give is refused as no more than a value; errors of its own are raised as they are.
fn record_batches(batches: &Bound<'_, PyAny>) -> PyResult<AnyRecordBatch> {
    batches.extract().map_err(|error: PyErr| {
        let py = batches.py();
        let is_refused = error.get_type(py).is(py.get_type::<PyValueError>());
        if is_refused {
            no_batches("batches", batches)
        } else {
            error
        }
    })
}

/// What went wrong in a stream, without the traceback that pyarrow puts behind an exception of its source.
fn told(error: &ArrowError) -> String {
    let text = error.to_string();
    text.split(" Detail: Python exception:").next().unwrap_or_default().trim_end().to_owned()
}

fn no_batches(name: &str, found: &Bound<'_, PyAny>) -> PyErr {
    let kind = found.get_type();
    PyTypeError::new_err(format!(
        "{name}: expected Arrow data (an object with `__arrow_c_stream__`, as tables of pyarrow, polars \
         and pandas >= 2.2 have, or an iterable of record batches), found {}",
        kind.fully_qualified_name().map_or_else(|_| kind.to_string(), |name| name.to_string())
    ))
}
