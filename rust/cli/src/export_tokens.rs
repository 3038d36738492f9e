//! `triptych-prep export-tokens`: token shards in, a dataset of another tool out.

use std::path::PathBuf;

use serde_json::json;
use triptych_core::shard::foreign::{export_megatron, plan_export};
use triptych_core::shard::TokenShards;
use triptych_core::{Error, Result};

use crate::outcome::print_line;
use crate::progress::Ticker;

/// Exports token shards as a dataset of another tool.
#[derive(Debug, clap::Args)]
pub struct ExportTokens {
    /// megatron: PREFIX.bin and PREFIX.idx, a sequence a document.
    #[arg(long, value_name = "NAME")]
    format: String,
    /// The folder of token shards.
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// What the files to write are called, without ending.
    #[arg(long, value_name = "PREFIX")]
    output: PathBuf,
    /// Leaves the supervision mask out, which the format cannot hold.
    #[arg(long)]
    drop_mask: bool,
    /// Prints what would be written, and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Prints what is written as JSON.
    #[arg(long)]
    json: bool,
}

impl ExportTokens {
    /// Runs the command and returns its exit status.
    pub fn run(self) -> Result<u8> {
        if self.format != "megatron" {
            return Err(Error::unknown_name("format of tokens to export", &self.format, &["megatron"]));
        }
        let shards = TokenShards::open(&self.input)?;
        let plan = if self.dry_run {
            plan_export(&shards, &self.output, self.drop_mask)?
        } else {
            let mut ticker = Ticker::new();
            let plan = export_megatron(&shards, &self.output, self.drop_mask, &mut |done| {
                ticker.tell(|| format!("{} of {} tokens", done.tokens, done.total_tokens));
            })?;
            ticker.end();
            plan
        };
        if self.json {
            return Ok(print_line(&json!(plan).to_string(), 0));
        }
        let (bin, idx) = (plan.bin.display(), plan.idx.display());
        let line = format!(
            "{bin}, {idx}: {} documents, {} tokens of type {}, {} bytes",
            plan.documents, plan.tokens, plan.dtype, plan.bytes
        );
        Ok(print_line(&line, 0))
    }
}
