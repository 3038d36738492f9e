//! Tokenizer and token shards for Python.

use std::collections::BTreeMap;
use std::path::PathBuf;

use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyString;
use triptych_core::shard::{self, RenderedDocument};
use triptych_core::tokenize::{self, Corpus, Document, Encoded, TrainConfig};
use triptych_core::{Error, Result};

use crate::border::{detached, detached_across, numbers, to_py_err};
use crate::remote::local;
use crate::signals::detached_hearing;
use crate::strings::Taken;

/// A BPE tokenizer; ids equal those of the `tokenizers` library.
#[pyclass(frozen, module = "triptych._core")]
pub struct Tokenizer {
    inner: tokenize::Tokenizer,
}

type Ids<'py> = Bound<'py, PyArray1<u32>>;
type Ends<'py> = Bound<'py, PyArray1<u64>>;

impl Tokenizer {
    pub(crate) fn inner(&self) -> &tokenize::Tokenizer {
        &self.inner
    }

    /// Each thread takes the UTF-8 of its texts itself, a few at a time: of text beyond ASCII Python has to
    /// make it, which took a sixth of the time of encoding.
    fn encode_into(
        &self,
        py: Python<'_>,
        texts: &[Py<PyString>],
        allow_special: bool,
        take: impl FnMut(&Encoded) -> PyResult<()> + Send,
    ) -> PyResult<()> {
        let sized: Vec<(usize, &Py<PyString>)> =
            texts.iter().map(|text| Ok((text.bind(py).len()?, text))).collect::<PyResult<_>>()?;
        let read = |texts: &[(usize, &Py<PyString>)]| {
            let taken = Python::attach(|py| {
                py.check_signals()?;
                let take = |(chars, text): &(usize, &Py<PyString>)| Taken::new(text.bind(py), *chars);
                texts.iter().map(take).collect::<PyResult<Vec<_>>>()
            })?;
            taken
                .into_iter()
                .zip(texts)
                .map(|(taken, (_, text))| taken.utf8(text))
                .collect::<PyResult<Vec<_>>>()
        };
        detached_across(py, || {
            let encoded = self.inner.encode_read(&sized, |(chars, _)| *chars, read, allow_special, take);
            encoded.and_then(|encoded| encoded.map_err(to_py_err))
        })
    }
}

/// Ids in memory of `NumPy`'s, which asks for large pages where it is much: of a vector's small pages the first
/// touch took a tenth of the time of encoding 100 MB.
struct Arrays {
    /// Longer than the ids in it.
    ids: Py<PyArray1<u32>>,
    room: usize,
    len: usize,
    ends: Vec<u64>,
}

impl Arrays {
    fn new(py: Python<'_>, room: usize) -> Self {
        Self { ids: PyArray1::zeros(py, room, false).unbind(), room, len: 0, ends: Vec::new() }
    }

    fn take(&mut self, part: &Encoded) -> PyResult<()> {
        let before = self.len;
        self.ends.extend(part.ends.iter().map(|end| (before + end) as u64));
        self.len += part.ids.len();
        Python::attach(|py| {
            if self.len > self.room {
                self.grow(py, before)?;
            }
            let mut ids = self.ids.bind(py).readwrite();
            let room = &mut ids.as_slice_mut()?[before..self.len];
            // Memory that is touched first here: meanwhile another thread may take its texts.
            py.detach(|| room.copy_from_slice(&part.ids));
            Ok(())
        })
    }

    /// Doubles the room at least, and keeps the first `len` ids.
    fn grow(&mut self, py: Python<'_>, len: usize) -> PyResult<()> {
        self.room = self.len.max(self.room * 2);
        let grown = PyArray1::zeros(py, self.room, false);
        let old = self.ids.bind(py).readonly();
        grown.readwrite().as_slice_mut()?[..len].copy_from_slice(&old.as_slice()?[..len]);
        self.ids = grown.unbind();
        Ok(())
    }

    fn finish(self, py: Python<'_>) -> PyResult<(Ids<'_>, Ends<'_>)> {
        let ids = self.ids.into_bound(py).into_readwrite().resize(self.len)?;
        Ok((Bound::clone(&ids), PyArray1::from_vec(py, self.ends)))
    }
}

#[pymethods]
impl Tokenizer {
    /// Loads a `tokenizer.json`.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = detached(py, || tokenize::Tokenizer::from_file(&path))?;
        Ok(Self { inner })
    }

    /// Loads the content of a `tokenizer.json`.
    #[staticmethod]
    fn from_str(py: Python<'_>, json: String) -> PyResult<Self> {
        let inner = detached(py, || tokenize::Tokenizer::from_json(json))?;
        Ok(Self { inner })
    }

    /// Writes the `tokenizer.json`, byte for byte as loaded or trained.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        detached(py, || self.inner.save(&path))
    }

    /// The content of the `tokenizer.json`.
    fn to_str(&self) -> &str {
        self.inner.json()
    }

    /// Ids of `text`, without BOS or EOS; `decode` is the inverse.
    #[pyo3(signature = (text, allow_special = false))]
    fn encode(&self, py: Python<'_>, text: &str, allow_special: bool) -> PyResult<Vec<u32>> {
        detached(py, || self.inner.encode(text, allow_special))
    }

    /// Ids of each text, computed on all threads.
    #[pyo3(signature = (texts, allow_special = false))]
    fn encode_batch(
        &self,
        py: Python<'_>,
        texts: Vec<Py<PyString>>,
        allow_special: bool,
    ) -> PyResult<Vec<Vec<u32>>> {
        let mut ids = Vec::with_capacity(texts.len());
        self.encode_into(py, &texts, allow_special, |part| {
            ids.extend(part.to_vecs());
            Ok(())
        })?;
        Ok(ids)
    }

    /// The same without a Python object an id.
    #[pyo3(signature = (texts, allow_special = false))]
    fn encode_arrays<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Py<PyString>>,
        allow_special: bool,
    ) -> PyResult<(Ids<'py>, Ends<'py>)> {
        let chars = texts.iter().map(|text| text.bind(py).len()).sum::<PyResult<usize>>()?;
        let mut arrays = Arrays::new(py, chars / 3);
        self.encode_into(py, &texts, allow_special, |part| arrays.take(part))?;
        arrays.finish(py)
    }

    /// Text of `ids`; bytes that are not UTF-8 become U+FFFD.
    #[pyo3(signature = (ids, skip_special = false))]
    fn decode(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = numbers)] ids: Vec<u32>,
        skip_special: bool,
    ) -> PyResult<String> {
        detached(py, || self.inner.decode(&ids, skip_special))
    }

    /// Id of a token as it is spelt in the vocabulary (a space is `Ġ`).
    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Spelling of an id in the vocabulary.
    fn id_to_token(&self, #[pyo3(from_py_with = numbers)] id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The largest id plus one.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    /// SHA-256 of the `tokenizer.json`, in hexadecimal.
    #[getter]
    fn sha256(&self) -> &str {
        self.inner.sha256()
    }

    /// Id of `<|bos|>`, which opens a document; `ConfigError` if there is none.
    #[getter]
    fn bos_id(&self) -> PyResult<u32> {
        known(self.inner.ids().bos, "opens documents")
    }

    /// Id of `<|eos|>`, which closes a document; `ConfigError` if there is none.
    #[getter]
    fn eos_id(&self) -> PyResult<u32> {
        known(self.inner.ids().eos, "closes documents")
    }

    /// Id of `<|pad|>`; `ConfigError` if there is none.
    #[getter]
    fn pad_id(&self) -> PyResult<u32> {
        known(self.inner.ids().pad, "fills rows")
    }

    /// Id of `<|end|>`, which closes a turn; `ConfigError` if there is none.
    #[getter]
    fn end_id(&self) -> PyResult<u32> {
        known(self.inner.ids().end, "closes turns")
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (&str,))> {
        Ok((py.get_type::<Self>().getattr("from_str")?, (self.inner.json(),)))
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
    #[pyo3(from_py_with = numbers)] vocab_size: usize,
    special_tokens: Option<Vec<String>>,
    pattern: Option<String>,
    #[pyo3(from_py_with = numbers)] weights: Option<BTreeMap<String, f64>>,
) -> PyResult<Tokenizer> {
    let config = TrainConfig {
        vocab_size,
        extra_special_tokens: special_tokens.unwrap_or_default(),
        pattern: pattern.unwrap_or_else(|| TrainConfig::default().pattern),
        weights: weights.unwrap_or_default(),
    };
    let inner = detached_hearing(py, |signals| {
        let corpus = Corpus::open(&paths.unwrap_or_default())?;
        let unnamed = |text| Ok(Document { id: String::new(), source: String::new(), text });
        let given = texts.unwrap_or_default().into_iter().map(unnamed);
        tokenize::train_weighted(corpus.documents().chain(given), &config, &mut |_, _| signals.hear())
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
    let manifest = detached_hearing(py, |signals| {
        let hear = &mut |_| signals.hear();
        Ok(tokenize::tokenize_measured(&inputs, tokenizer, &output, false, hear)?.0)
    });
    to_json(&manifest?)
}

#[pyfunction]
pub fn write_token_shards(
    py: Python<'_>,
    #[pyo3(from_py_with = numbers)] documents: Vec<RenderedDocument>,
    tokenizer: &Bound<'_, Tokenizer>,
    output: PathBuf,
    #[pyo3(from_py_with = numbers)] documents_per_unit: u64,
) -> PyResult<String> {
    let tokenizer = &tokenizer.get().inner;
    let write = || shard::write_token_shards(&documents, tokenizer, &output, documents_per_unit);
    to_json(&detached_across(py, write)?)
}

#[pyfunction]
pub fn verify_token_shards(py: Python<'_>, folder: PathBuf) -> PyResult<String> {
    let folder = local(py, &folder, None)?;
    let verify = || {
        let shards = shard::TokenShards::open(&folder)?;
        shards.verify()?;
        Result::Ok(shards.manifest().clone())
    };
    to_json(&detached_across(py, verify)?)
}

pub fn to_json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
}
