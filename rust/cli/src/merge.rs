//! `merge`: the parts that several machines prepared, to one folder.

use std::path::PathBuf;

use clap::Args;
use triptych_core::config::PrepConfig;
use triptych_core::pipeline;

use crate::options::fraction;
use crate::outcome::failed;
use crate::prepare::report;
use crate::progress::Bar;
use crate::signals::Signals;

/// What is merged, and into what.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folders that runs with `--shard I/N` wrote, all N, in any order
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Threads; 0 is one a core [default: 0]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Share of bad records beyond which the exit status is 3 [default: 0.001]
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    max_bad: Option<f64>,
    /// Replaces an output folder made from something else
    #[arg(long)]
    overwrite: bool,
    /// Prints the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(options: &Options) -> u8 {
    let signals = Signals::watch();
    let default = PrepConfig::default();
    let config = PrepConfig {
        output: options.output.clone(),
        threads: options.threads,
        max_bad: options.max_bad.unwrap_or(default.max_bad),
        overwrite: options.overwrite,
        ..default
    };
    match pipeline::merge(&options.input, &config, &Bar::new(signals.clone())) {
        Ok(summary) => report(&config, &summary, options.json),
        Err(error) => signals.status(&error, failed(&error)),
    }
}
