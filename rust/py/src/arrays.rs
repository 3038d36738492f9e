//! Batches as arrays of numpy, in memory that Python provides.

use numpy::{PyArray1, PyReadwriteArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use triptych_core::order::{Arrays, RowTokens};
use triptych_core::Error;

use crate::border::{detached_across, to_py_err};

/// The arrays with one entry a token, in the order of [`NAMES`].
type TokenArrays<'py> = (
    PyReadwriteArray1<'py, i64>,
    PyReadwriteArray1<'py, i64>,
    PyReadwriteArray1<'py, i64>,
    PyReadwriteArray1<'py, f32>,
);

const NAMES: [&str; 4] = ["input_ids", "labels", "position_ids", "weights"];

/// The arrays of a batch; `memory(tokens)` gives those with one entry a token, else they are new.
pub fn to_arrays<'py>(
    py: Python<'py>,
    rows: &RowTokens,
    memory: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let arrays = PyDict::new(py);
    let given = match memory {
        Some(memory) => memory.call1((rows.num_tokens(),))?,
        None => new_arrays(py, rows.num_tokens())?,
    };
    write(py, rows, given.extract().map_err(|_| unfit(&given))?)?;
    for (name, array) in NAMES.iter().zip(given.try_iter()?) {
        arrays.set_item(name, array?)?;
    }
    arrays.set_item("cu_seqlens", PyArray1::from_slice(py, &rows.cu_seqlens))?;
    arrays.set_item("documents", PyArray1::from_slice(py, &rows.documents))?;
    arrays.set_item("sources", PyArray1::from_slice(py, &rows.sources))?;
    arrays.set_item("ids_hash", rows.ids_hash)?;
    Ok(arrays)
}

fn new_arrays(py: Python<'_>, tokens: usize) -> PyResult<Bound<'_, PyAny>> {
    let ids = || PyArray1::<i64>::zeros(py, tokens, false);
    let weights = PyArray1::<f32>::zeros(py, tokens, false);
    Ok((ids(), ids(), ids(), weights).into_pyobject(py)?.into_any())
}

fn write(py: Python<'_>, rows: &RowTokens, mut arrays: TokenArrays<'_>) -> PyResult<()> {
    let arrays = Arrays {
        input_ids: arrays.0.as_slice_mut()?,
        labels: arrays.1.as_slice_mut()?,
        position_ids: arrays.2.as_slice_mut()?,
        weights: arrays.3.as_slice_mut()?,
    };
    detached_across(py, || rows.write(arrays))
}

fn unfit(given: &Bound<'_, PyAny>) -> PyErr {
    to_py_err(Error::InvalidValue {
        what: "memory of a batch".to_owned(),
        expected: "four writable arrays of numpy, three of int64 and one of float32".to_owned(),
        found: given.get_type().to_string(),
    })
}
