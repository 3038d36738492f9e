//! The layers between matrix products on a CPU, over arrays that share memory with tensors; bf16 comes as uint16.

use numpy::{Element as NumpyElement, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;
use triptych_core::Error;
use triptych_cpu::norm::{Given, Weight};
use triptych_cpu::rope::Angles;
use triptych_cpu::{few, gated, norm, rope, sums, Element, Number};

use crate::border::{detached, to_py_err};

pub(crate) type Any<'a, 'py> = &'a Bound<'py, PyAny>;
pub(crate) type Floats<'py> = PyReadonlyArray1<'py, f32>;

/// Calls a function for the elements that an array has.
macro_rules! by_elements {
    ($array:expr, $function:ident($($argument:expr),*)) => {
        if $array.extract::<PyReadonlyArray1<'_, u16>>().is_ok() {
            $function::<u16>($($argument),*)
        } else {
            $function::<f32>($($argument),*)
        }
    };
}
pub(crate) use by_elements;

/// Adds numbers of bf16 to sums.
#[pyfunction]
pub fn add_narrow(
    py: Python<'_>,
    mut sums: PyReadwriteArray1<'_, f32>,
    numbers: PyReadonlyArray1<'_, u16>,
    num_threads: usize,
) -> PyResult<()> {
    let (sums, numbers) = (sums.as_slice_mut()?, numbers.as_slice()?);
    done(py, || sums::add(sums, numbers, num_threads))
}

/// Writes the product of few rows with the transpose of a weight matrix.
#[pyfunction]
pub fn multiply_few(
    py: Python<'_>,
    x: Any<'_, '_>,
    weight: Any<'_, '_>,
    product: Any<'_, '_>,
    num_rows: usize,
    num_threads: usize,
) -> PyResult<()> {
    by_elements!(x, multiply_few_of(py, x, weight, product, num_rows, num_threads))
}

fn multiply_few_of<E: Element + NumpyElement>(
    py: Python<'_>,
    x: Any<'_, '_>,
    weight: Any<'_, '_>,
    product: Any<'_, '_>,
    num_rows: usize,
    num_threads: usize,
) -> PyResult<()> {
    let (x, weight) = (read::<E>(x)?, read::<E>(weight)?);
    let mut product = product.extract::<PyReadwriteArray1<'_, E>>()?;
    let (x, weight, product) = (x.as_slice()?, weight.as_slice()?, product.as_slice_mut()?);
    fits("rows", few::obstacle([x.len(), weight.len(), product.len()], num_rows))?;
    done(py, || few::multiply(x, weight, product, num_rows, num_threads))
}

/// Writes silu(gate) * up.
#[pyfunction]
pub fn swiglu(
    py: Python<'_>,
    inputs: [Bound<'_, PyAny>; 2],
    gated: Any<'_, '_>,
    num_threads: usize,
) -> PyResult<()> {
    by_elements!(gated, swiglu_of(py, &inputs, gated, num_threads))
}

fn swiglu_of<E: Element + NumpyElement>(
    py: Python<'_>,
    inputs: &[Bound<'_, PyAny>; 2],
    gated: Any<'_, '_>,
    num_threads: usize,
) -> PyResult<()> {
    let (gate, up) = (read::<E>(&inputs[0])?, read::<E>(&inputs[1])?);
    let mut to = gated.extract::<PyReadwriteArray1<'_, E>>()?;
    let (gate, up, to) = (gate.as_slice()?, up.as_slice()?, to.as_slice_mut()?);
    done(py, || gated::swiglu(gate, up, to, num_threads))
}

/// Writes the gradients of gate and up.
#[pyfunction]
pub fn swiglu_slopes(
    py: Python<'_>,
    inputs: [Bound<'_, PyAny>; 3],
    slopes: [Bound<'_, PyAny>; 2],
    num_threads: usize,
) -> PyResult<()> {
    by_elements!(inputs[0], swiglu_slopes_of(py, &inputs, &slopes, num_threads))
}

fn swiglu_slopes_of<E: Element + NumpyElement>(
    py: Python<'_>,
    inputs: &[Bound<'_, PyAny>; 3],
    slopes: &[Bound<'_, PyAny>; 2],
    num_threads: usize,
) -> PyResult<()> {
    let [gate, up, upstream] = inputs;
    let (gate, up, upstream) = (read::<E>(gate)?, read::<E>(up)?, read::<E>(upstream)?);
    let inputs = [gate.as_slice()?, up.as_slice()?, upstream.as_slice()?];
    let mut of_gate = slopes[0].extract::<PyReadwriteArray1<'_, E>>()?;
    let mut of_up = slopes[1].extract::<PyReadwriteArray1<'_, E>>()?;
    let slopes = [of_gate.as_slice_mut()?, of_up.as_slice_mut()?];
    done(py, || gated::swiglu_slopes(inputs, slopes, num_threads))
}

/// Writes x, its pairs turned by their token's angles, or back.
#[pyfunction]
pub fn turn(
    py: Python<'_>,
    x: Any<'_, '_>,
    turned: Any<'_, '_>,
    angles: (Floats<'_>, Floats<'_>, usize, f32),
    num_threads: usize,
) -> PyResult<()> {
    let angles =
        Angles { cos: angles.0.as_slice()?, sin: angles.1.as_slice()?, half: angles.2, sign: angles.3 };
    by_elements!(x, turn_of(py, x, turned, angles, num_threads))
}

fn turn_of<E: Element + NumpyElement>(
    py: Python<'_>,
    x: Any<'_, '_>,
    turned: Any<'_, '_>,
    angles: Angles<'_>,
    num_threads: usize,
) -> PyResult<()> {
    let (x, mut turned) = (read::<E>(x)?, turned.extract::<PyReadwriteArray1<'_, E>>()?);
    let (x, turned) = (x.as_slice()?, turned.as_slice_mut()?);
    fits("rotation", angles.obstacle(x.len()))?;
    done(py, || rope::turn(x, turned, angles, num_threads))
}

/// Writes the norm of rows into bf16, and what each row was multiplied by.
#[pyfunction]
pub fn rms_norm(
    py: Python<'_>,
    x: Any<'_, '_>,
    weight: (Floats<'_>, f32),
    eps: f32,
    outputs: (PyReadwriteArray1<'_, u16>, PyReadwriteArray1<'_, f32>),
    num_threads: usize,
) -> PyResult<()> {
    let weight = Weight { weight: weight.0.as_slice()?, plus: weight.1 };
    by_elements!(x, norm_of(py, x, weight, eps, outputs, num_threads))
}

fn norm_of<X: Number + NumpyElement>(
    py: Python<'_>,
    x: Any<'_, '_>,
    weight: Weight<'_>,
    eps: f32,
    outputs: (PyReadwriteArray1<'_, u16>, PyReadwriteArray1<'_, f32>),
    num_threads: usize,
) -> PyResult<()> {
    let (x, (mut normed, mut factors)) = (read::<X>(x)?, outputs);
    let (x, normed, factors) = (x.as_slice()?, normed.as_slice_mut()?, factors.as_slice_mut()?);
    done(py, || norm::rms_norm(x, weight, eps, normed, factors, num_threads))
}

/// Writes the gradients of rows and weight of a norm.
#[pyfunction]
pub fn rms_norm_slopes(
    py: Python<'_>,
    x: Any<'_, '_>,
    weight: (Floats<'_>, f32),
    given: (Floats<'_>, PyReadonlyArray1<'_, u16>),
    slopes: (Bound<'_, PyAny>, PyReadwriteArray1<'_, f32>),
    num_threads: usize,
) -> PyResult<()> {
    let weight = Weight { weight: weight.0.as_slice()?, plus: weight.1 };
    by_elements!(x, norm_slopes_of(py, x, weight, given, slopes, num_threads))
}

fn norm_slopes_of<X: Number + NumpyElement>(
    py: Python<'_>,
    x: Any<'_, '_>,
    weight: Weight<'_>,
    given: (Floats<'_>, PyReadonlyArray1<'_, u16>),
    slopes: (Bound<'_, PyAny>, PyReadwriteArray1<'_, f32>),
    num_threads: usize,
) -> PyResult<()> {
    let (x, (factors, upstream)) = (read::<X>(x)?, given);
    let given =
        Given { x: x.as_slice()?, weight, factors: factors.as_slice()?, upstream: upstream.as_slice()? };
    let mut of_weight = slopes.1;
    let mut of_x = slopes.0.extract::<PyReadwriteArray1<'_, X>>()?;
    let (of_x, of_weight) = (of_x.as_slice_mut()?, of_weight.as_slice_mut()?);
    done(py, || norm::rms_norm_slopes(given, of_x, of_weight, num_threads))
}

pub(crate) fn read<'py, E: NumpyElement>(array: Any<'_, 'py>) -> PyResult<PyReadonlyArray1<'py, E>> {
    array.extract()
}

pub(crate) fn done(py: Python<'_>, work: impl FnOnce() + Send) -> PyResult<()> {
    detached(py, || {
        work();
        PyResult::Ok(())
    })
}

pub(crate) fn fits(what: &str, obstacle: Option<String>) -> PyResult<()> {
    obstacle.map_or(Ok(()), |found| {
        let expected = "arrays of lengths that fit each other".to_owned();
        Err(to_py_err(Error::InvalidValue { what: what.to_owned(), expected, found }))
    })
}
