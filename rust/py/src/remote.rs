//! Token shards at an address for Python: conversions only.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use triptych_core::pipeline::Progress;
use triptych_core::shard::remote::local_folder_until;

use crate::border::detached;
use crate::signals::Signals;

#[pyfunction]
#[pyo3(signature = (address, cache = None))]
pub fn local_token_shards(py: Python<'_>, address: PathBuf, cache: Option<PathBuf>) -> PyResult<PathBuf> {
    local(py, &address, cache.as_deref())
}

/// The folder on this machine, fetched unless a signal raises something.
pub fn local(py: Python<'_>, address: &Path, cache: Option<&Path>) -> PyResult<PathBuf> {
    let signals = Signals::default();
    let done = detached(py, || {
        let folder = local_folder_until(address, cache, &|| signals.is_stopped());
        folder.map(std::borrow::Cow::into_owned)
    });
    signals.take().map_or(done, Err)
}
