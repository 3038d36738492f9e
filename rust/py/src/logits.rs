//! Losses on rows of logits on a CPU, over arrays that share memory with tensors; bf16 comes as uint16.

use numpy::{Element as NumpyElement, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;
use triptych_cpu::logits::Shape;
use triptych_cpu::loss::Cost;
use triptych_cpu::statistics::{statistics, statistics_slopes, Statistics};
use triptych_cpu::{loss, Element};

use crate::border::detached;
use crate::layers::{by_elements, done, fits, read, Any, Floats};

type Ids<'py> = PyReadonlyArray1<'py, i64>;

/// Logits of a row, soft-cap and temperature.
type Numbers = (usize, Option<f32>, f32);

fn shape_of(numbers: Numbers) -> Shape {
    Shape { vocab_size: numbers.0, softcap: numbers.1, temperature: numbers.2 }
}

/// Weighted sum of the losses of rows of logits, which become its gradient.
#[pyfunction]
pub fn loss_and_slopes(
    py: Python<'_>,
    logits: Any<'_, '_>,
    targets: Ids<'_>,
    weights: Floats<'_>,
    costs: (f32, f32),
    shape: Numbers,
    num_threads: usize,
) -> PyResult<f64> {
    let (z_loss, label_smoothing) = costs;
    let cost = Cost { targets: targets.as_slice()?, weights: weights.as_slice()?, z_loss, label_smoothing };
    by_elements!(logits, loss_of(py, logits, cost, shape_of(shape), num_threads))
}

fn loss_of<E: Element + NumpyElement>(
    py: Python<'_>,
    logits: Any<'_, '_>,
    cost: Cost<'_>,
    shape: Shape,
    num_threads: usize,
) -> PyResult<f64> {
    let mut logits = logits.extract::<PyReadwriteArray1<'_, E>>()?;
    let logits = logits.as_slice_mut()?;
    fits("logits", cost.obstacle(logits.len(), shape.vocab_size))?;
    detached(py, || PyResult::Ok(loss::loss_and_slopes(logits, cost, shape, num_threads)))
}

/// Writes log-probabilities, log-sums, means and entropies of rows of logits.
#[pyfunction]
pub fn logit_statistics(
    py: Python<'_>,
    logits: Any<'_, '_>,
    targets: Ids<'_>,
    shape: Numbers,
    found: [PyReadwriteArray1<'_, f32>; 4],
    num_threads: usize,
) -> PyResult<()> {
    by_elements!(logits, statistics_of(py, logits, targets.as_slice()?, shape_of(shape), found, num_threads))
}

fn statistics_of<E: Element + NumpyElement>(
    py: Python<'_>,
    logits: Any<'_, '_>,
    targets: &[i64],
    shape: Shape,
    found: [PyReadwriteArray1<'_, f32>; 4],
    num_threads: usize,
) -> PyResult<()> {
    let logits = read::<E>(logits)?;
    let logits = logits.as_slice()?;
    let [mut logps, mut log_sums, mut means, mut entropies] = found;
    let found = Statistics {
        logps: logps.as_slice_mut()?,
        log_sums: log_sums.as_slice_mut()?,
        means: means.as_slice_mut()?,
        entropies: entropies.as_slice_mut()?,
    };
    fits("logits", found.obstacle(logits.len(), shape.vocab_size, targets))?;
    done(py, || statistics(logits, targets, shape, found, num_threads))
}

/// Turns rows of logits into the gradient of what their statistics are for.
#[pyfunction]
pub fn logit_slopes(
    py: Python<'_>,
    logits: Any<'_, '_>,
    targets: Ids<'_>,
    shape: Numbers,
    entropies: Floats<'_>,
    upstream: [Floats<'_>; 4],
    num_threads: usize,
) -> PyResult<()> {
    let [logps, log_sums, means, of_entropies] = &upstream;
    let upstream = Statistics {
        logps: logps.as_slice()?,
        log_sums: log_sums.as_slice()?,
        means: means.as_slice()?,
        entropies: of_entropies.as_slice()?,
    };
    let (targets, entropies) = (targets.as_slice()?, entropies.as_slice()?);
    by_elements!(logits, slopes_of(py, logits, targets, shape_of(shape), entropies, &upstream, num_threads))
}

fn slopes_of<E: Element + NumpyElement>(
    py: Python<'_>,
    logits: Any<'_, '_>,
    targets: &[i64],
    shape: Shape,
    entropies: &[f32],
    upstream: &Statistics<&[f32]>,
    num_threads: usize,
) -> PyResult<()> {
    let mut logits = logits.extract::<PyReadwriteArray1<'_, E>>()?;
    let logits = logits.as_slice_mut()?;
    let (found, expected) = (entropies.len(), upstream.entropies.len());
    let missing = (found != expected).then(|| format!("{found} entropies, and {expected} gradients"));
    fits("logits", missing.or_else(|| upstream.obstacle(logits.len(), shape.vocab_size, targets)))?;
    done(py, || statistics_slopes(logits, targets, shape, entropies, upstream, num_threads))
}
