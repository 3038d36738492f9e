//! `triptych-prep import-tokens`: token files of other tools in, token shards out.

use std::path::PathBuf;

use serde_json::json;
use triptych_core::shard::foreign::{
    import_tokens, plan_import, Boundary, ForeignFormat, IdType, ImportConfig, PlannedFile,
};
use triptych_core::tokenize::Tokenizer;
use triptych_core::Result;

use crate::outcome::print_line;
use crate::progress::Ticker;

/// Imports token files of other tools as a folder of token shards.
#[derive(Debug, clap::Args)]
pub struct ImportTokens {
    /// megatron (`.bin` with `.idx`), npy (one dimension), raw (ids and nothing else), or datatrove (`.ds` with
    /// `.ds.index`).
    #[arg(long, value_name = "NAME")]
    format: String,
    /// Files, or folders of them; of Megatron also the prefix.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<PathBuf>,
    /// The tokenizer.json that made the ids.
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// The folder to write; it appears when it is complete.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Type of the ids of raw files: u8, i8, u16, i16, u32, i32, u64 or i64.
    #[arg(long, value_name = "NAME")]
    dtype: Option<String>,
    /// Of npy and raw: a document ends after each of this id; without it a file is one document.
    #[arg(long, value_name = "ID")]
    eos_id: Option<u32>,
    /// Of npy and raw: a document begins at each of this id.
    #[arg(long, value_name = "ID", conflicts_with = "eos_id")]
    bos_id: Option<u32>,
    /// Source of the documents [default: the file name without endings].
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Checks the headers, prints what the files hold, and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Prints manifest and ledger (of a dry run: the files) as JSON.
    #[arg(long)]
    json: bool,
}

impl ImportTokens {
    /// Runs the command and returns its exit status.
    pub fn run(self) -> Result<u8> {
        let config = self.config()?;
        let tokenizer = Tokenizer::from_file(&self.tokenizer)?;
        if self.dry_run {
            return Ok(self.tell_plan(&plan_import(&config)?));
        }
        let mut ticker = Ticker::new();
        let (manifest, ledger) = import_tokens(&config, &tokenizer, &self.output, &mut |done| {
            ticker.tell(|| {
                format!("{} of {} tokens, {} documents", done.tokens, done.total_tokens, done.documents)
            });
        })?;
        ticker.end();
        if self.json {
            return Ok(print_line(&json!({"manifest": manifest, "ledger": ledger}).to_string(), 0));
        }
        let total = &ledger.total;
        let (documents, tokens) = (total.documents_written, total.tokens_written);
        let (empty, unclosed) = (total.empty_documents, total.unclosed_documents);
        let line = format!(
            "{}: {documents} documents, {tokens} tokens ({empty} documents without tokens left out, {unclosed} not closed)",
            self.output.display()
        );
        Ok(print_line(&line, 0))
    }

    fn config(&self) -> Result<ImportConfig> {
        let boundary = match (self.eos_id, self.bos_id) {
            (Some(id), _) => Boundary::EndsWith(id),
            (None, Some(id)) => Boundary::BeginsWith(id),
            (None, None) => Boundary::File,
        };
        Ok(ImportConfig {
            input: self.input.clone(),
            format: ForeignFormat::named(&self.format)?,
            id_type: self.dtype.as_deref().map(IdType::named).transpose()?,
            boundary,
            source: self.source.clone(),
        })
    }

    fn tell_plan(&self, files: &[PlannedFile]) -> u8 {
        if self.json {
            return print_line(&json!({"files": files}).to_string(), 0);
        }
        files.iter().fold(0, |status, file| {
            let documents = file.documents.map_or_else(|| "?".to_owned(), |count| count.to_string());
            let mask = if file.has_mask { ", with a mask" } else { "" };
            let line = format!(
                "{}: {documents} documents, {} tokens of type {}{mask}",
                file.file.display(),
                file.tokens,
                file.dtype
            );
            print_line(&line, status)
        })
    }
}
