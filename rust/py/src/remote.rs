//! Token shards at an address for Python: conversions only.

use std::path::PathBuf;

use pyo3::prelude::*;
use triptych_core::shard::remote::{local_folder, local_folder_in};

use crate::border::detached;

#[pyfunction]
#[pyo3(signature = (address, cache = None))]
pub fn local_token_shards(py: Python<'_>, address: PathBuf, cache: Option<PathBuf>) -> PyResult<PathBuf> {
    detached(py, || {
        let folder = match cache {
            Some(cache) => local_folder_in(&address, &cache),
            None => local_folder(&address),
        };
        folder.map(std::borrow::Cow::into_owned)
    })
}
