//! The extension module `triptych._core`: convert, detach, call, convert.
//!
//! Documentation of every name lives in `python/triptych/_core.pyi`.
#![allow(missing_docs)] // the stub is the documentation
#![allow(clippy::needless_pass_by_value)] // PyO3 extracts arguments as owned values

mod prep;
mod tokens;

use pyo3::exceptions::{PyException, PyOSError, PyValueError};
use pyo3::prelude::*;
use triptych_core::Error;

pyo3::create_exception!(triptych, InputError, PyValueError);
pyo3::create_exception!(triptych, ConfigError, PyValueError);
pyo3::create_exception!(triptych, IntegrityError, PyValueError);
pyo3::create_exception!(triptych, ResourceError, PyOSError);
pyo3::create_exception!(triptych, Interrupted, PyException);

/// The Python exception for an error of the engine, chosen by its exit status.
fn to_py_err(error: Error) -> PyErr {
    let message = match error.hint() {
        Some(hint) => format!("{error} (hint: {hint})"),
        None => error.to_string(),
    };
    match error.exit_status() {
        2 => ConfigError::new_err(message),
        4 => IntegrityError::new_err(message),
        5 => ResourceError::new_err(message),
        75 => Interrupted::new_err(message),
        _ => InputError::new_err(message),
    }
}

#[pymodule]
mod _core {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{ConfigError, InputError, IntegrityError, Interrupted, ResourceError};

    #[pymodule_export]
    use super::prep::{clean_texts, run_prep, TextPreprocessor};

    #[pymodule_export]
    use super::tokens::{
        tokenize_documents, train_tokenizer, verify_token_shards, write_token_shards, Order, Tokenizer,
    };

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = triptych_core::VERSION;

    /// Runs the preparation command line; returns its exit status.
    #[pyfunction]
    fn main(py: Python<'_>, args: Vec<OsString>) -> u8 {
        py.detach(|| triptych_cli::run(args))
    }
}
