//! Token files of other tools for Python: conversions only.

use std::path::PathBuf;

use pyo3::prelude::*;
use serde_json::json;
use triptych_core::shard::foreign::{self, Boundary, ForeignFormat, IdType, ImportConfig};
use triptych_core::shard::TokenShards;
use triptych_core::{Error, Result};

use crate::border::{detached, numbers};
use crate::remote::local;
use crate::tokens::Tokenizer;

#[pyfunction]
#[pyo3(signature = (input, format, tokenizer, output, dtype = None, eos_id = None, bos_id = None, source = None))]
#[allow(clippy::too_many_arguments)] // one a key of the configuration
pub fn import_tokens(
    py: Python<'_>,
    input: Vec<PathBuf>,
    format: &str,
    tokenizer: &Bound<'_, Tokenizer>,
    output: PathBuf,
    dtype: Option<&str>,
    #[pyo3(from_py_with = numbers)] eos_id: Option<u32>,
    #[pyo3(from_py_with = numbers)] bos_id: Option<u32>,
    source: Option<String>,
) -> PyResult<String> {
    let tokenizer = tokenizer.get().inner();
    detached(py, || {
        let config = ImportConfig {
            input,
            format: ForeignFormat::named(format)?,
            id_type: dtype.map(IdType::named).transpose()?,
            boundary: boundary(eos_id, bos_id)?,
            source,
        };
        let (manifest, ledger) = foreign::import_tokens(&config, tokenizer, &output, &mut |_| {})?;
        Result::Ok(json!({"manifest": manifest, "ledger": ledger}).to_string())
    })
}

fn boundary(eos_id: Option<u32>, bos_id: Option<u32>) -> Result<Boundary> {
    match (eos_id, bos_id) {
        (None, None) => Ok(Boundary::File),
        (Some(id), None) => Ok(Boundary::EndsWith(id)),
        (None, Some(id)) => Ok(Boundary::BeginsWith(id)),
        (Some(_), Some(_)) => Err(Error::InvalidValue {
            what: "`eos_id` and `bos_id`".to_owned(),
            expected: "one of them".to_owned(),
            found: "both".to_owned(),
        }),
    }
}

#[pyfunction]
#[pyo3(signature = (input, output, drop_mask = false))]
pub fn export_megatron(py: Python<'_>, input: PathBuf, output: PathBuf, drop_mask: bool) -> PyResult<String> {
    let input = local(py, &input, None)?;
    detached(py, || {
        let shards = TokenShards::open(&input)?;
        let plan = foreign::export_megatron(&shards, &output, drop_mask, &mut |_| {})?;
        Result::Ok(json!(plan).to_string())
    })
}
