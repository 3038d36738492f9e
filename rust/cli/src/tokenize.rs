//! `triptych-prep tokenize`: documents in, token shards out.

use std::path::PathBuf;

use serde_json::json;
use triptych_core::config::check_threads;
use triptych_core::tokenize::{tokenize_measured, Progress, Tokenizer};
use triptych_core::{Error, Result};

use crate::fertility::table;
use crate::outcome::{print_line, tell};
use crate::progress::Ticker;

/// Encode documents into a folder of token shards.
#[derive(Debug, clap::Args)]
pub struct Tokenize {
    /// Folders of prepared documents, or files of any format that `run` reads.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<PathBuf>,
    /// The tokenizer.json to encode with.
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// The folder to write; it appears when it is complete.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Threads to use; all cores by default.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Names the language of documents without a field `language` or `lang` by the built-in identifier, for the
    /// report by language.
    #[arg(long)]
    identify_language: bool,
    /// Print the manifest as JSON, with bytes a token and tokens a word as `fertility`.
    #[arg(long)]
    json: bool,
}

impl Tokenize {
    /// Runs the command and returns its exit status.
    pub fn run(self) -> Result<u8> {
        with_threads(self.threads, || self.tokenize())
    }

    fn tokenize(&self) -> Result<u8> {
        let tokenizer = Tokenizer::from_file(&self.tokenizer)?;
        let mut ticker = Ticker::new();
        let told = &mut |done: Progress| {
            ticker.tell(|| format!("{} documents, {} tokens", done.documents, done.tokens));
            Ok(())
        };
        let identifies = self.identify_language;
        let (manifest, fertility) =
            tokenize_measured(&self.input, &tokenizer, &self.output, identifies, told)?;
        ticker.end();
        if self.json {
            let mut told = json!(manifest);
            told["fertility"] = json!(fertility);
            return Ok(print_line(&told.to_string(), 0));
        }
        tell(table(&fertility));
        let count = |key: &str| manifest.content[key].as_u64().unwrap_or_default();
        let (documents, tokens) = (count("num_documents"), count("num_tokens"));
        Ok(print_line(&format!("{}: {documents} documents, {tokens} tokens", self.output.display()), 0))
    }
}

/// Runs `work` on a pool of `threads`, or on the global pool of one thread a core.
pub fn with_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some(threads) = threads else { return work() };
    check_threads(threads)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::Resource {
        what: "threads".to_owned(),
        limit: error.to_string(),
        needed: threads.to_string(),
    })?;
    pool.install(work)
}
