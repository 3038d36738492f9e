//! `verify`: proof that a folder of documents is whole.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::outcome::{failed, print_line};

/// What to verify.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder that `run`, `clean` or `dedup` wrote
    folder: PathBuf,
    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(options: &Options) -> u8 {
    match triptych_core::verify::verify(&options.folder) {
        Ok(documents) if options.json => print_line(&json!({"documents": documents}).to_string(), 0),
        Ok(documents) => print_line(&format!("whole: {documents} documents"), 0),
        Err(error) => failed(&error),
    }
}
