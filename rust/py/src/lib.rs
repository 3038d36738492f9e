//! The extension module `triptych._core`: convert, detach, call, convert.
//!
//! Documentation of every name lives in `python/triptych/_core.pyi`.
#![allow(missing_docs)] // the stub is the documentation
#![allow(clippy::needless_pass_by_value)] // PyO3 extracts arguments as owned values

mod arrays;
mod attention;
mod border;
mod clean;
mod fertility;
mod foreign;
mod layers;
mod logits;
mod order;
mod prep;
mod remote;
mod signals;
mod source;
mod strings;
mod tokens;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[pymodule_export]
    use super::attention::{attention_backward, attention_forward, cpu_has_vectors, decode_attention};

    #[pymodule_export]
    use super::border::{ConfigError, InputError, IntegrityError, InternalError, Interrupted, ResourceError};

    #[pymodule_export]
    use super::clean::BatchCleaner;

    #[pymodule_export]
    use super::fertility::measure_fertility;

    #[pymodule_export]
    use super::foreign::{export_megatron, import_tokens};

    #[pymodule_export]
    use super::layers::{add_narrow, multiply_few, rms_norm, rms_norm_slopes, swiglu, swiglu_slopes, turn};
    #[pymodule_export]
    use super::logits::{logit_slopes, logit_statistics, loss_and_slopes};

    #[pymodule_export]
    use super::order::{Batches, Order};

    #[pymodule_export]
    use super::prep::{run_prep, TextPreprocessor};

    #[pymodule_export]
    use super::remote::local_token_shards;

    #[pymodule_export]
    use super::tokens::{
        tokenize_documents, train_tokenizer, verify_token_shards, write_token_shards, Tokenizer,
    };

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = triptych_core::VERSION;

    /// Runs the preparation command line; returns its exit status.
    #[pyfunction]
    fn main(py: Python<'_>, args: Vec<OsString>) -> PyResult<u8> {
        super::border::detached_across(py, || PyResult::Ok(triptych_cli::run(args)))
    }

    /// The cores that this process may use: by its affinity and by what a container gives it.
    #[pyfunction]
    fn usable_cores() -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    /// Panics, for the test of what becomes of that.
    #[pyfunction]
    fn provoke_panic(py: Python<'_>, message: String) -> PyResult<()> {
        super::border::detached(py, || -> PyResult<()> { panic!("{message}") })
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::border::prepare(module)
    }
}
