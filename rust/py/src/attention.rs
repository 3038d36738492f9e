//! Attention on a CPU, over arrays that share memory with tensors; bf16 comes as uint16.

use numpy::{Element as NumpyElement, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;
use triptych_core::Error;
use triptych_cpu::attention::{
    backward, decode, forward, Decoding, Dropout, Given, Gradients, Inputs, Output, Problem, Stored,
};
use triptych_cpu::Element;

use crate::border::{detached, to_py_err};

/// Shapes and rules of a call.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Rules {
    bf16: bool,
    boundaries: Vec<usize>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    causal: bool,
    window: Option<usize>,
    softcap: Option<f32>,
    scale: f32,
    sinks: Vec<f32>,
    pairs: Vec<[usize; 2]>,
    dropout: f64,
    seed: u64,
    num_threads: usize,
}

impl Rules {
    fn problem(self) -> Problem {
        let Self { boundaries, heads, kv_heads, head_dim, causal, window, softcap, scale, .. } = self;
        let Self { sinks, pairs, .. } = self;
        let dropout = Dropout::new(self.dropout, self.seed);
        Problem {
            boundaries,
            heads,
            kv_heads,
            head_dim,
            causal,
            window,
            scale,
            softcap,
            sinks,
            pairs,
            dropout,
        }
    }
}

/// Queries, keys and values; or output, gradient of it.
type Three<'py> = [Bound<'py, PyAny>; 3];

#[pyfunction]
pub fn cpu_has_vectors() -> bool {
    triptych_cpu::has_vectors()
}

#[pyfunction]
pub fn attention_forward(
    py: Python<'_>,
    inputs: Three<'_>,
    mixed: Bound<'_, PyAny>,
    log_sums: PyReadwriteArray1<'_, f32>,
    rules: Rules,
) -> PyResult<()> {
    if rules.bf16 {
        forward_of::<u16>(py, &inputs, &mixed, log_sums, rules)
    } else {
        forward_of::<f32>(py, &inputs, &mixed, log_sums, rules)
    }
}

#[pyfunction]
pub fn attention_backward(
    py: Python<'_>,
    inputs: Three<'_>,
    given: [Bound<'_, PyAny>; 2],
    log_sums: PyReadonlyArray1<'_, f32>,
    gradients: Three<'_>,
    totals: PyReadwriteArray1<'_, f32>,
    rules: Rules,
) -> PyResult<()> {
    if rules.bf16 {
        backward_of::<u16>(py, &inputs, &given, &log_sums, &gradients, totals, rules)
    } else {
        backward_of::<f32>(py, &inputs, &given, &log_sums, &gradients, totals, rules)
    }
}

fn forward_of<E: Element + NumpyElement>(
    py: Python<'_>,
    inputs: &Three<'_>,
    mixed: &Bound<'_, PyAny>,
    mut log_sums: PyReadwriteArray1<'_, f32>,
    rules: Rules,
) -> PyResult<()> {
    let arrays = read::<E, 3>(inputs)?;
    let mut mixed = mixed.extract::<PyReadwriteArray1<'_, E>>()?;
    let output = Output { mixed: mixed.as_slice_mut()?, log_sums: log_sums.as_slice_mut()? };
    let num_threads = rules.num_threads;
    let (inputs, problem) = checked(&arrays, rules)?;
    detached(py, || {
        forward(&problem, inputs, output, num_threads);
        PyResult::Ok(())
    })
}

fn backward_of<E: Element + NumpyElement>(
    py: Python<'_>,
    inputs: &Three<'_>,
    given: &[Bound<'_, PyAny>; 2],
    log_sums: &PyReadonlyArray1<'_, f32>,
    gradients: &Three<'_>,
    mut totals: PyReadwriteArray1<'_, f32>,
    rules: Rules,
) -> PyResult<()> {
    let (arrays, given) = (read::<E, 3>(inputs)?, read::<E, 2>(given)?);
    let given =
        Given { mixed: given[0].as_slice()?, log_sums: log_sums.as_slice()?, upstream: given[1].as_slice()? };
    let [mut q, mut k, mut v] = write::<E>(gradients)?;
    let gradients = Gradients {
        q: q.as_slice_mut()?,
        k: k.as_slice_mut()?,
        v: v.as_slice_mut()?,
        totals: totals.as_slice_mut()?,
    };
    let num_threads = rules.num_threads;
    let (inputs, problem) = checked(&arrays, rules)?;
    detached(py, || {
        backward(&problem, inputs, given, gradients, num_threads);
        PyResult::Ok(())
    })
}

fn read<'py, E: NumpyElement, const N: usize>(
    arrays: &[Bound<'py, PyAny>; N],
) -> PyResult<Vec<PyReadonlyArray1<'py, E>>> {
    arrays.iter().map(PyAnyMethods::extract).collect()
}

fn write<'py, E: NumpyElement>(arrays: &Three<'py>) -> PyResult<[PyReadwriteArray1<'py, E>; 3]> {
    let [q, k, v] = arrays;
    Ok([q.extract()?, k.extract()?, v.extract()?])
}

/// The inputs, if they are what the rules say.
fn checked<'a, E: NumpyElement>(
    arrays: &'a [PyReadonlyArray1<'_, E>],
    rules: Rules,
) -> PyResult<(Inputs<'a, E>, Problem)> {
    let inputs = Inputs { q: arrays[0].as_slice()?, k: arrays[1].as_slice()?, v: arrays[2].as_slice()? };
    let share = rules.dropout;
    fits(
        (!(0.0..1.0).contains(&share)).then(|| format!("dropout: expected a share in [0, 1), found {share}")),
    )?;
    let problem = rules.problem();
    fits(problem.obstacle([inputs.q, inputs.k, inputs.v].map(<[E]>::len)))?;
    Ok((inputs, problem))
}

/// Shapes and rules of a new token of each sequence.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct DecodeRules {
    lengths: Vec<usize>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    scale: f32,
    softcap: Option<f32>,
    sinks: Vec<f32>,
    strides: [[usize; 3]; 2],
    num_threads: usize,
}

impl DecodeRules {
    fn decoding(self) -> Decoding {
        let Self { lengths, heads, kv_heads, head_dim, window, scale, softcap, sinks, .. } = self;
        Decoding { lengths, heads, kv_heads, head_dim, window, scale, softcap, sinks }
    }
}

#[pyfunction]
pub fn decode_attention(
    py: Python<'_>,
    inputs: Three<'_>,
    mixed: Bound<'_, PyAny>,
    rules: DecodeRules,
) -> PyResult<()> {
    if mixed.extract::<PyReadonlyArray1<'_, u16>>().is_ok() {
        decode_of::<u16>(py, &inputs, &mixed, rules)
    } else {
        decode_of::<f32>(py, &inputs, &mixed, rules)
    }
}

fn decode_of<E: Element + NumpyElement>(
    py: Python<'_>,
    inputs: &Three<'_>,
    mixed: &Bound<'_, PyAny>,
    rules: DecodeRules,
) -> PyResult<()> {
    let arrays = read::<E, 3>(inputs)?;
    let mut mixed = mixed.extract::<PyReadwriteArray1<'_, E>>()?;
    let (q, mixed) = (arrays[0].as_slice()?, mixed.as_slice_mut()?);
    let [of_keys, of_values] = rules.strides;
    let keys = Stored { numbers: arrays[1].as_slice()?, strides: of_keys };
    let values = Stored { numbers: arrays[2].as_slice()?, strides: of_values };
    let (num_threads, decoding) = (rules.num_threads, rules.decoding());
    fits(decoding.obstacle(q.len(), [keys, values]))?;
    detached(py, || {
        decode(&decoding, q, keys, values, mixed, num_threads);
        PyResult::Ok(())
    })
}

fn fits(obstacle: Option<String>) -> PyResult<()> {
    let expected = "arrays of the shapes that the rules name".to_owned();
    obstacle.map_or(Ok(()), |found| {
        Err(to_py_err(Error::InvalidValue { what: "attention".to_owned(), expected, found }))
    })
}
