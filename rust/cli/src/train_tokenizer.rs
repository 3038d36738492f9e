//! `triptych-prep train-tokenizer`: documents in, `tokenizer.json` out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use triptych_core::tokenize::{measure_fertility, train_weighted, Corpus, Fertility, Tokenizer, TrainConfig};
use triptych_core::{Error, Result};

use crate::fertility::table;
use crate::outcome::{print_line, tell};
use crate::progress::Ticker;

/// Train a byte-level BPE tokenizer and write it as `tokenizer.json`.
#[derive(Debug, clap::Args)]
pub struct TrainTokenizer {
    /// Folders of prepared documents, or files of any format that `run` reads.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<PathBuf>,
    /// The file to write; a folder gets a `tokenizer.json`.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Entries of the vocabulary: 7 special tokens, 256 bytes, and merges.
    #[arg(long, default_value_t = 32_768, value_name = "N")]
    vocab_size: usize,
    /// More special tokens, of the form <|name|>.
    #[arg(long, value_name = "TOKEN")]
    special_token: Vec<String>,
    /// How text is split into words: triptych, gpt2, llama3, qwen2, qwen3.5, cl100k, nanochat, o200k, tekken,
    /// or a regular expression.
    #[arg(long, default_value = "triptych", value_name = "NAME")]
    pattern: String,
    /// What each word of a source counts, 0.001 to 1000; 1 for sources that are not named.
    #[arg(long, value_name = "SOURCE=WEIGHT", value_parser = source_weight)]
    weight: Vec<(String, f64)>,
    /// Documents, of the same formats, to measure bytes a token and tokens a word on; the training text by default.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    heldout: Vec<PathBuf>,
    /// Names the language of documents without a field `language` or `lang` by the built-in identifier, for the
    /// report by language.
    #[arg(long)]
    identify_language: bool,
    /// Does not measure the tokenizer.
    #[arg(long, conflicts_with_all = ["heldout", "identify_language"])]
    no_report: bool,
    /// Threads to use; all cores by default.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl TrainTokenizer {
    /// Runs the command and returns its exit status.
    pub fn run(self) -> Result<u8> {
        crate::tokenize::with_threads(self.threads, || self.train())
    }

    fn train(&self) -> Result<u8> {
        let config = TrainConfig {
            vocab_size: self.vocab_size,
            extra_special_tokens: self.special_token.clone(),
            pattern: self.pattern.clone(),
            weights: self.weights()?,
        };
        config.check()?; // before a folder is made for it
        let corpus = Corpus::open(&self.input)?;
        let heldout = if self.heldout.is_empty() { None } else { Some(Corpus::open(&self.heldout)?) };
        let path = target(&self.output);
        try_to_write(&path)?;
        let mut ticker = Ticker::new();
        let tokenizer = train_weighted(corpus.documents(), &config, &mut |what, count| {
            ticker.tell(|| format!("{count} {what}"));
            Ok(())
        })?;
        ticker.end();
        tokenizer.save(&path)?;
        let fertility = if self.no_report {
            None
        } else {
            Some(self.measure(heldout.as_ref().unwrap_or(&corpus), &tokenizer)?)
        };
        Ok(self.tell(&path, &tokenizer, fertility.as_ref()))
    }

    fn weights(&self) -> Result<BTreeMap<String, f64>> {
        let mut weights = BTreeMap::new();
        for (source, weight) in &self.weight {
            if let Some(first) = weights.insert(source.clone(), *weight) {
                return Err(Error::InvalidValue {
                    what: format!("`--weight` of `{source}`"),
                    expected: "one weight a source".to_owned(),
                    found: format!("{first} and {weight}"),
                });
            }
        }
        Ok(weights)
    }

    fn measure(&self, corpus: &Corpus, tokenizer: &Tokenizer) -> Result<Fertility> {
        let mut ticker = Ticker::new();
        let told = &mut |bytes| {
            ticker.tell(|| format!("measuring: {bytes} bytes"));
            Ok(())
        };
        let fertility = measure_fertility(corpus.labelled(), tokenizer, self.identify_language, told)?;
        ticker.end();
        Ok(fertility)
    }

    fn tell(&self, path: &Path, tokenizer: &Tokenizer, fertility: Option<&Fertility>) -> u8 {
        let (entries, sha256) = (tokenizer.vocab_size(), tokenizer.sha256());
        if self.json {
            let told = json!({"path": path, "vocab_size": entries, "sha256": sha256, "fertility": fertility});
            return print_line(&told.to_string(), 0);
        }
        if let Some(fertility) = fertility {
            tell(table(fertility));
        }
        print_line(&format!("{}: {entries} entries", path.display()), 0)
    }
}

fn source_weight(text: &str) -> std::result::Result<(String, f64), String> {
    let expected = || format!("expected SOURCE=WEIGHT, as `books=2.5`, found `{text}`");
    let (source, weight) = text.rsplit_once('=').ok_or_else(expected)?;
    Ok((source.to_owned(), weight.parse().map_err(|_| expected())?))
}

fn target(output: &Path) -> PathBuf {
    if output.extension().is_some_and(|ending| ending == "json") {
        output.to_owned()
    } else {
        output.join("tokenizer.json")
    }
}

fn not_writable(expected: &str, found: &str, path: &Path) -> Error {
    Error::InvalidValue {
        what: "`--output`".to_owned(),
        expected: expected.to_owned(),
        found: format!("the {found} `{}`", path.display()),
    }
}

/// Refuses an output that cannot be written before anything is learnt, not when all is.
fn try_to_write(path: &Path) -> Result<()> {
    if path.is_dir() {
        let expected = "a file, or a folder whose name does not end in `.json`";
        return Err(not_writable(expected, "folder", path));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        if folder.is_file() {
            return Err(not_writable("a name that ends in `.json`, or a folder", "file", folder));
        }
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let temporary = path.with_extension("json.tmp");
    std::fs::write(&temporary, "").map_err(Error::io("write", &temporary))?;
    std::fs::remove_file(&temporary).map_err(Error::io("remove", &temporary))
}
