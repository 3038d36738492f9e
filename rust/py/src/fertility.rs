//! Bytes a token and tokens a word for Python: conversions only.

use std::path::PathBuf;

use pyo3::prelude::*;
use serde_json::json;
use triptych_core::tokenize::{self, Corpus, Document, Labelled};

use crate::signals::detached_hearing;
use crate::tokens::Tokenizer;

#[pyfunction]
#[pyo3(signature = (tokenizer, paths, texts, identify_language = false))]
pub fn measure_fertility(
    py: Python<'_>,
    tokenizer: &Bound<'_, Tokenizer>,
    paths: Vec<PathBuf>,
    texts: Vec<String>,
    identify_language: bool,
) -> PyResult<String> {
    let tokenizer = tokenizer.get().inner();
    detached_hearing(py, |signals| {
        let corpus = Corpus::open(&paths)?;
        let unnamed = |text| Document { id: String::new(), source: String::new(), text };
        let given = texts.into_iter().map(|text| Ok(Labelled { document: unnamed(text), language: None }));
        let documents = corpus.labelled().chain(given);
        let hear = &mut |_| signals.hear();
        let measured = tokenize::measure_fertility(documents, tokenizer, identify_language, hear)?;
        Ok(json!(measured).to_string())
    })
}
