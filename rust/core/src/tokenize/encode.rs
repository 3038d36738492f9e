//! Documents to token shards: each becomes BOS, its ids, EOS.

use std::path::{Path, PathBuf};

use super::fertility::{Fertility, Meter, FERTILITY_NAME};
use super::{Corpus, Document, Encoded, Labelled, Tokenizer, NO_ID};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::shard::{ShardSpec, ShardWriter};

/// Bytes of documents encoded together; bounds memory, and gives threads work of equal size.
const BATCH_BYTES: usize = 8 << 20;

/// How far tokenizing has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Documents written.
    pub documents: u64,
    /// Bytes of their text.
    pub text_bytes: u64,
    /// Their tokens, BOS and EOS included.
    pub tokens: u64,
}

/// Writes the documents of `inputs` as a folder of token shards called `output`.
///
/// The bytes written do not depend on the order of `inputs` nor on the number of threads.
///
/// # Errors
/// `InvalidValue` for a tokenizer without BOS or EOS, `EmptyCorpus` without documents, and whatever reading the inputs yields.
pub fn tokenize_documents(
    inputs: &[PathBuf],
    tokenizer: &Tokenizer,
    output: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    let progress = &mut |done| {
        progress(done);
        Ok(())
    };
    tokenize_measured(inputs, tokenizer, output, false, progress).map(|(manifest, _)| manifest)
}

/// As [`tokenize_documents`], until `progress` fails, and gives what stands in `fertility.json`. `identifies`:
/// whether the built-in identifier names the language of documents that do not say.
///
/// # Errors
/// As [`tokenize_documents`], and what `progress` says.
pub fn tokenize_measured(
    inputs: &[PathBuf],
    tokenizer: &Tokenizer,
    output: &Path,
    identifies: bool,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<(Manifest, Fertility)> {
    check_frame(tokenizer)?;
    let corpus = Corpus::open(inputs)?;
    let mut writer = ShardWriter::create(output, ShardSpec::plain(tokenizer))?;
    let (mut meter, mut done) = (Meter::new(identifies), Progress::default());
    for batch in batches(corpus.labelled()) {
        let batch = batch?;
        let encoded = tokenizer.encode_documents(&batch.documents)?;
        meter.add(&batch, encoded.iter().map(<[u32]>::len));
        write_batch(&batch.documents, &encoded, &mut writer, &mut done)?;
        progress(done)?;
    }
    if done.documents == 0 {
        let inputs: Vec<String> = inputs.iter().map(|path| format!("`{}`", path.display())).collect();
        let expected = "at least one document".to_owned();
        return Err(Error::EmptyCorpus { inputs: inputs.join(", "), expected });
    }
    let fertility = meter.finish();
    writer.write_beside(FERTILITY_NAME, &serde_json::json!(fertility))?;
    Ok((writer.commit(&corpus.inputs())?, fertility))
}

/// Documents encoded together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub documents: Vec<Document>,
    /// The language that each says it is in.
    pub languages: Vec<Option<String>>,
}

/// Groups documents up to [`BATCH_BYTES`]; an error ends the batch it falls into.
pub(super) fn batches(
    mut documents: impl Iterator<Item = Result<Labelled>>,
) -> impl Iterator<Item = Result<Batch>> {
    std::iter::from_fn(move || {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while bytes < BATCH_BYTES {
            match documents.next() {
                Some(Ok(Labelled { document, language })) => {
                    bytes += document.held_bytes();
                    batch.documents.push(document);
                    batch.languages.push(language);
                }
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        (!batch.documents.is_empty()).then_some(Ok(batch))
    })
}

fn write_batch(
    documents: &[Document],
    encoded: &Encoded,
    writer: &mut ShardWriter,
    done: &mut Progress,
) -> Result<()> {
    for (document, ids) in documents.iter().zip(encoded.iter()) {
        writer.append(&document.id, &document.source, ids, None)?;
        done.documents += 1;
        done.text_bytes += document.text.len() as u64;
        done.tokens += ids.len() as u64;
    }
    Ok(())
}

/// Refuses a tokenizer that has nothing to open and close documents with.
fn check_frame(tokenizer: &Tokenizer) -> Result<()> {
    let ids = tokenizer.ids();
    let missing = [("opens documents", ids.bos), ("closes documents", ids.eos)];
    match missing.iter().find(|(_, id)| *id == NO_ID) {
        Some((role, _)) => Err(Error::InvalidValue {
            what: "tokenizer".to_owned(),
            expected: format!("a special token that {role}, as `<|bos|>`, `<s>` or `<|endoftext|>` does"),
            found: "none".to_owned(),
        }),
        None => Ok(()),
    }
}
