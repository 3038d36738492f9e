//! The extension module `triptych._core`: convert, detach, call, convert.
//!
//! Documentation of every name lives in `python/triptych/_core.pyi`.
#![allow(missing_docs)] // the stub is the documentation

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = triptych_core::VERSION;

    /// Runs the preparation command line; returns its exit status.
    #[pyfunction]
    fn main(py: Python<'_>, args: Vec<OsString>) -> u8 {
        py.detach(|| triptych_cli::run(args))
    }
}
