//! `--dry-run`: the configuration, the files, and what a sample of them says about all.

use std::time::Instant;

use serde_json::json;
use triptych_core::config::PrepConfig;
use triptych_core::inspect::Interval;
use triptych_core::pipeline::{self, Estimate, SAMPLE_BYTES};
use triptych_core::{read, Result};

use crate::options::Options;
use crate::outcome::{print_line, shown, tell};

/// Checks the configuration and the paths, judges a sample, and shows all three.
pub(crate) fn dry_run(config: &PrepConfig, options: &Options) -> Result<u8> {
    config.profile()?;
    let inputs = read::resolve_beside(&config.input, &config.output)?;
    let files: Vec<_> =
        inputs.iter().map(|input| json!({"file": input.path, "bytes": input.bytes})).collect();
    let begun = Instant::now();
    let sample_bytes = options.sample_bytes.unwrap_or(SAMPLE_BYTES);
    let is_stream = inputs.iter().any(|input| input.path.as_os_str() == read::STANDARD_INPUT);
    let sample = || pipeline::estimate(config, sample_bytes, &|| begun.elapsed());
    let estimate = (!is_stream).then(sample).transpose()?;
    let threads = threads(config);
    let seconds = estimate.as_ref().map(|estimate| estimate.thread_seconds / threads as f64);
    let plan = json!({"config": config, "files": files, "estimate": estimate, "seconds": seconds});
    if !options.json {
        let told = estimate.as_ref().map_or_else(String::new, |estimate| table(estimate, threads));
        tell(shown(&told));
    }
    if let Some(warning) = read::passed_over(&config.input) {
        tell(format_args!("warning: {}\n", shown(&warning)));
    }
    Ok(print_line(&format!("{plan:#}"), 0))
}

fn threads(config: &PrepConfig) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if config.threads == 0 {
        cores
    } else {
        config.threads.min(cores)
    }
}

/// The estimate for a person, a line a fate.
fn table(estimate: &Estimate, threads: usize) -> String {
    let Estimate { blocks, documents, bytes, total_bytes, thread_seconds, .. } = estimate;
    let part = if estimate.is_whole { "all of it" } else { "95 % intervals" };
    let mut lines =
        vec![format!("{documents} records in {blocks} blocks, {bytes} of {total_bytes} bytes: {part}")];
    lines.push(row("kept before deduplication", &estimate.kept));
    lines.extend(estimate.rejected.iter().map(|(reason, share)| row(reason, share)));
    let seconds = thread_seconds / threads as f64;
    lines.push(format!("about {seconds:.0} s on {threads} threads, without reading and writing"));
    lines.join("\n") + "\n"
}

fn row(name: &str, Interval { share, low, high }: &Interval) -> String {
    let percent = |share: f64| 100.0 * share;
    format!("  {name:<28}{:>7.2} %  ({:.2} to {:.2})", percent(*share), percent(*low), percent(*high))
}
