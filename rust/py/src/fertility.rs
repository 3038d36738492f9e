//! Bytes a token and tokens a word for Python: conversions only.

use std::path::PathBuf;

use pyo3::prelude::*;
use serde_json::json;
use triptych_core::tokenize::{self, Corpus, Document, Labelled};

use crate::border::detached_across;
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
    detached_across(py, || {
        let corpus = Corpus::open(&paths)?;
        let unnamed = |text| Document { id: String::new(), source: String::new(), text };
        let given = texts.into_iter().map(|text| Ok(Labelled { document: unnamed(text), language: None }));
        let documents = corpus.labelled().chain(given);
        let measured = tokenize::measure_fertility(documents, tokenizer, identify_language, &mut |_| {})?;
        triptych_core::Result::Ok(json!(measured).to_string())
    })
}
