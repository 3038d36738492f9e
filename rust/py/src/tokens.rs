//! Tokenizer, token shards and order for Python.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyByteArray, PyDict};
use triptych_core::order::{self, Stage};
use triptych_core::shard::{self, RenderedDocument};
use triptych_core::tokenize::{self, Corpus, Document, TrainConfig};
use triptych_core::{Error, Result};

use crate::border::{detached, detached_across, to_py_err};

#[pyclass(frozen, module = "triptych._core")]
pub struct Tokenizer {
    inner: tokenize::Tokenizer,
}

impl Tokenizer {
    pub(crate) fn inner(&self) -> &tokenize::Tokenizer {
        &self.inner
    }
}

#[pymethods]
impl Tokenizer {
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = detached(py, || tokenize::Tokenizer::from_file(&path))?;
        Ok(Self { inner })
    }

    #[staticmethod]
    fn from_str(py: Python<'_>, json: String) -> PyResult<Self> {
        let inner = detached(py, || tokenize::Tokenizer::from_json(json))?;
        Ok(Self { inner })
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        detached(py, || self.inner.save(&path))
    }

    fn to_str(&self) -> &str {
        self.inner.json()
    }

    #[pyo3(signature = (text, allow_special = false))]
    fn encode(&self, py: Python<'_>, text: &str, allow_special: bool) -> PyResult<Vec<u32>> {
        detached(py, || self.inner.encode(text, allow_special))
    }

    #[pyo3(signature = (texts, allow_special = false))]
    fn encode_batch(
        &self,
        py: Python<'_>,
        texts: Vec<PyBackedStr>,
        allow_special: bool,
    ) -> PyResult<Vec<Vec<u32>>> {
        let encoded = detached_across(py, || self.inner.encode_batch(&texts, allow_special))?;
        Ok(encoded.to_vecs())
    }

    #[pyo3(signature = (texts, allow_special = false))]
    fn encode_arrays<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        allow_special: bool,
    ) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>)> {
        let encoded = detached_across(py, || self.inner.encode_batch(&texts, allow_special))?;
        let ends: Vec<u64> = encoded.ends.iter().map(|end| *end as u64).collect();
        let array = |bytes: &[u8]| PyByteArray::new(py, bytes);
        Ok((array(bytemuck::cast_slice(&encoded.ids)), array(bytemuck::cast_slice(&ends))))
    }

    #[pyo3(signature = (ids, skip_special = false))]
    fn decode(&self, py: Python<'_>, ids: Vec<u32>, skip_special: bool) -> PyResult<String> {
        detached(py, || self.inner.decode(&ids, skip_special))
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    #[getter]
    fn sha256(&self) -> &str {
        self.inner.sha256()
    }

    #[getter]
    fn bos_id(&self) -> PyResult<u32> {
        known(self.inner.ids().bos, "opens documents")
    }

    #[getter]
    fn eos_id(&self) -> PyResult<u32> {
        known(self.inner.ids().eos, "closes documents")
    }

    #[getter]
    fn pad_id(&self) -> PyResult<u32> {
        known(self.inner.ids().pad, "fills rows")
    }

    #[getter]
    fn end_id(&self) -> PyResult<u32> {
        known(self.inner.ids().end, "closes turns")
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.inner)
    }
}

/// The id of a special token, which a tokenizer that others made may not have.
fn known(id: u32, role: &str) -> PyResult<u32> {
    if id != tokenize::NO_ID {
        return Ok(id);
    }
    Err(to_py_err(Error::InvalidValue {
        what: "tokenizer".to_owned(),
        expected: format!("a special token that {role}"),
        found: "none".to_owned(),
    }))
}

#[pyfunction]
#[pyo3(signature = (paths, texts, vocab_size, special_tokens = None, pattern = None, weights = None))]
pub fn train_tokenizer(
    py: Python<'_>,
    paths: Option<Vec<PathBuf>>,
    texts: Option<Vec<String>>,
    vocab_size: usize,
    special_tokens: Option<Vec<String>>,
    pattern: Option<String>,
    weights: Option<BTreeMap<String, f64>>,
) -> PyResult<Tokenizer> {
    let config = TrainConfig {
        vocab_size,
        extra_special_tokens: special_tokens.unwrap_or_default(),
        pattern: pattern.unwrap_or_else(|| TrainConfig::default().pattern),
        weights: weights.unwrap_or_default(),
    };
    let inner = detached_across(py, || {
        let corpus = Corpus::open(&paths.unwrap_or_default())?;
        let unnamed = |text| Ok(Document { id: String::new(), source: String::new(), text });
        let given = texts.unwrap_or_default().into_iter().map(unnamed);
        tokenize::train_weighted(corpus.documents().chain(given), &config, &mut |_, _| {})
    });
    Ok(Tokenizer { inner: inner? })
}

#[pyfunction]
pub fn tokenize_documents(
    py: Python<'_>,
    inputs: Vec<PathBuf>,
    tokenizer: &Bound<'_, Tokenizer>,
    output: PathBuf,
) -> PyResult<String> {
    let tokenizer = &tokenizer.get().inner;
    let write = || tokenize::tokenize_documents(&inputs, tokenizer, &output, &mut |_| {});
    to_json(&detached_across(py, write)?)
}

#[pyfunction]
pub fn write_token_shards(
    py: Python<'_>,
    documents: Vec<RenderedDocument>,
    tokenizer: &Bound<'_, Tokenizer>,
    output: PathBuf,
    documents_per_unit: u64,
) -> PyResult<String> {
    let tokenizer = &tokenizer.get().inner;
    let write = || shard::write_token_shards(&documents, tokenizer, &output, documents_per_unit);
    to_json(&detached_across(py, write)?)
}

#[pyfunction]
pub fn verify_token_shards(py: Python<'_>, folder: PathBuf) -> PyResult<String> {
    let verify = || {
        let shards = shard::TokenShards::open(Path::new(&folder))?;
        shards.verify()?;
        Result::Ok(shards.manifest().clone())
    };
    to_json(&detached_across(py, verify)?)
}

fn to_json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
}

#[pyclass(frozen, module = "triptych._core")]
pub struct Order {
    inner: order::Order,
}

/// Source, document, start, length.
type SegmentTuple = (u32, u32, u32, u32);

#[pymethods]
impl Order {
    #[new]
    fn new(
        py: Python<'_>,
        sources: Vec<(String, PathBuf)>,
        stages: Vec<Bound<'_, PyDict>>,
        seed: u64,
    ) -> PyResult<Self> {
        let stages = stages.iter().map(to_stage).collect::<PyResult<Vec<Stage>>>()?;
        let inner = detached(py, || order::Order::new(sources, stages, seed))?;
        Ok(Self { inner })
    }

    #[getter]
    fn num_steps(&self) -> u64 {
        self.inner.num_steps()
    }

    fn stage(&self, step: u64) -> PyResult<usize> {
        self.inner.stage(step).map_err(to_py_err)
    }

    fn rows(&self, py: Python<'_>, step: u64) -> PyResult<Vec<Vec<SegmentTuple>>> {
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

    #[pyo3(signature = (step, first_row = 0, num_rows = None))]
    fn batch<'py>(
        &self,
        py: Python<'py>,
        step: u64,
        first_row: u64,
        num_rows: Option<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let batch = detached_across(py, || self.inner.batch(step, first_row, num_rows))?;
        let arrays = PyDict::new(py);
        let set = |name, bytes: &[u8]| arrays.set_item(name, PyByteArray::new(py, bytes));
        set("input_ids", bytemuck::cast_slice(&batch.input_ids))?;
        set("labels", bytemuck::cast_slice(&batch.labels))?;
        set("position_ids", bytemuck::cast_slice(&batch.position_ids))?;
        set("weights", bytemuck::cast_slice(&batch.weights))?;
        set("cu_seqlens", bytemuck::cast_slice(&batch.cu_seqlens))?;
        set("documents", bytemuck::cast_slice(&batch.documents))?;
        set("sources", bytemuck::cast_slice(&batch.sources))?;
        Ok(arrays)
    }

    fn step_hash(&self, py: Python<'_>, step: u64) -> PyResult<String> {
        detached(py, || self.inner.step_hash(step))
    }

    fn report(&self, py: Python<'_>) -> PyResult<String> {
        to_json(&detached(py, || Result::Ok(self.inner.report()))?)
    }

    fn document_id(&self, source: usize, document: u64) -> PyResult<String> {
        self.inner.document_id(source, document).map(str::to_owned).map_err(to_py_err)
    }
}

/// Keys of a stage, all required.
const STAGE_KEYS: [&str; 5] = ["name", "steps", "rows_per_step", "seq_len", "weights"];

fn to_stage(stage: &Bound<'_, PyDict>) -> PyResult<Stage> {
    for key in stage.keys() {
        known_key(&key.extract::<String>()?).map_err(to_py_err)?;
    }
    Ok(Stage {
        name: field(stage, "name", "a string")?,
        steps: field(stage, "steps", "a whole number of at least 1")?,
        rows_per_step: field(stage, "rows_per_step", "a whole number of at least 1")?,
        seq_len: field(stage, "seq_len", "a whole number of at least 1")?,
        weights: field::<BTreeMap<String, f64>>(stage, "weights", "a table of numbers by source")?,
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
    let value = stage.get_item(key)?;
    let found = value.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    value.and_then(|value| value.extract().ok()).ok_or_else(|| {
        to_py_err(Error::InvalidValue {
            what: format!("`{key}` of a stage"),
            expected: expected.to_owned(),
            found,
        })
    })
}
