//! Writing token shards.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{json, Value};

use super::docs::DocTable;
use super::{Content, Dtype, ShardEntry, ShardSpec, FORMAT};
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::manifest::{self, Manifest};

/// Writes documents into shards; nothing stands under the final name before `commit`.
#[derive(Debug)]
pub struct ShardWriter {
    draft: Draft,
    spec: ShardSpec,
    dtype: Dtype,
    open: Option<OpenShard>,
    /// The bytes of the last document; kept for its memory.
    bytes: Vec<u8>,
    finished: Vec<ShardEntry>,
    documents: u64,
}

/// Refuses a place with anything but token shards: a folder is replaced whole, so it must not be a corpus, say, or a home.
fn check_replaceable(output: &Path) -> Result<()> {
    let is_new = match fs::read_dir(output) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !output.exists(),
    };
    let manifest = fs::read_to_string(output.join(manifest::FILE_NAME)).unwrap_or_default();
    if is_new || manifest.contains(&format!("\"{FORMAT}\"")) {
        return Ok(());
    }
    Err(Error::InvalidValue {
        what: format!("output `{}`", output.display()),
        expected: "a new folder, or one of token shards, which is replaced".to_owned(),
        found: "something else".to_owned(),
    })
}

/// The shard that documents go to at present.
#[derive(Debug)]
struct OpenShard {
    name: String,
    ids: BufWriter<File>,
    mask: Option<BufWriter<File>>,
    table: DocTable,
}

impl ShardWriter {
    /// Starts a folder that will be called `output`, in place of token shards that may be there.
    ///
    /// # Errors
    /// `InvalidValue` for a wrong specification, and where something else is at `output`.
    pub fn create(output: &Path, spec: ShardSpec) -> Result<Self> {
        if !(1..=2).contains(&spec.documents_per_unit) {
            return Err(invalid("documents_per_unit", "1 or 2", spec.documents_per_unit));
        }
        let dtype = Dtype::for_vocab(spec.vocab_size);
        check_replaceable(output)?;
        let draft = Draft::start(output)?;
        let (bytes, finished) = (Vec::new(), Vec::new());
        Ok(Self { draft, spec, dtype, open: None, bytes, finished, documents: 0 })
    }

    /// Adds a document. `mask` has one byte a token, 1 = supervised; `None` supervises all.
    ///
    /// # Errors
    /// `InvalidValue` for no tokens, an id outside the vocabulary, or a mask of another length.
    pub fn append(&mut self, id: &str, source: &str, ids: &[u32], mask: Option<&[u8]>) -> Result<()> {
        self.check(id, ids, mask)?;
        self.rotate(ids.len() as u64)?;
        if self.open.is_none() {
            self.open = Some(self.open_shard()?);
        }
        let (dtype, draft) = (self.dtype, &self.draft);
        if let Some(shard) = &mut self.open {
            let path = draft.path(&format!("{}.bin", shard.name));
            encode(ids, dtype, &mut self.bytes);
            shard.ids.write_all(&self.bytes).map_err(Error::io("write", path))?;
            let path = draft.path(&format!("{}.mask.bin", shard.name));
            shard.write_mask(ids.len(), mask).map_err(Error::io("write", path))?;
            shard.table.push(id, source, ids.len() as u64);
        }
        self.documents += 1;
        Ok(())
    }

    /// Writes a file of JSON that readers of the shards pass over, as `ledger.json`.
    pub fn write_beside(&self, name: &str, value: &Value) -> Result<()> {
        let path = self.draft.path(name);
        std::fs::write(&path, format!("{value:#}\n")).map_err(Error::io("write", path))
    }

    /// Finishes the folder. `inputs` names the hashes of what the documents were made from.
    ///
    /// # Errors
    /// `InvalidValue` if the last pair is not complete, `EmptyCorpus` without documents.
    pub fn commit(mut self, inputs: &Value) -> Result<Manifest> {
        if !self.documents.is_multiple_of(self.spec.documents_per_unit) {
            return Err(invalid("documents", "an even number, as pairs are adjacent", self.documents));
        }
        if self.documents == 0 {
            let expected = "at least one document".to_owned();
            return Err(Error::EmptyCorpus { inputs: "the documents to write".to_owned(), expected });
        }
        self.close_shard()?;
        let content = json!(self.content());
        let made_from = json!({"tokenizer_sha256": self.spec.tokenizer_sha256, "inputs": inputs});
        self.draft.commit(FORMAT, made_from, content)
    }

    fn check(&self, id: &str, ids: &[u32], mask: Option<&[u8]>) -> Result<()> {
        if ids.is_empty() {
            return Err(invalid(&format!("tokens of document `{id}`"), "at least one", 0));
        }
        if let Some(wrong) = ids.iter().find(|token| **token as usize >= self.spec.vocab_size) {
            let expected = format!("ids under {}", self.spec.vocab_size);
            return Err(invalid(&format!("tokens of document `{id}`"), &expected, wrong));
        }
        let Some(mask) = mask else { return Ok(()) };
        if mask.len() != ids.len() {
            return Err(invalid(
                &format!("mask of document `{id}`"),
                &format!("{} entries", ids.len()),
                mask.len(),
            ));
        }
        match mask.iter().find(|byte| **byte > 1) {
            Some(byte) => Err(invalid(&format!("mask of document `{id}`"), "0 or 1", byte)),
            None => Ok(()),
        }
    }

    /// Closes a shard that the next unit would overfill; a pair stays in one shard.
    fn rotate(&mut self, next_tokens: u64) -> Result<()> {
        let starts_unit = self.documents.is_multiple_of(self.spec.documents_per_unit);
        let full = self
            .open
            .as_ref()
            .is_some_and(|shard| shard.table.tokens() + next_tokens > self.spec.max_shard_tokens);
        if starts_unit && full {
            return self.close_shard();
        }
        Ok(())
    }

    fn open_shard(&self) -> Result<OpenShard> {
        let name = format!("{:05}", self.finished.len());
        let create = |ending: &str| {
            let path = self.draft.path(&format!("{name}.{ending}"));
            File::create(&path)
                .map(|file| BufWriter::with_capacity(1 << 20, file))
                .map_err(Error::io("create", path))
        };
        let mask = if self.spec.has_mask { Some(create("mask.bin")?) } else { None };
        Ok(OpenShard { ids: create("bin")?, mask, table: DocTable::default(), name })
    }

    fn close_shard(&mut self) -> Result<()> {
        let Some(mut shard) = self.open.take() else { return Ok(()) };
        let flushed = shard.ids.flush().and_then(|()| shard.mask.as_mut().map_or(Ok(()), Write::flush));
        flushed.map_err(Error::io("write", self.draft.path(&shard.name)))?;
        shard.table.write(&self.draft.path(&format!("{}.docs.parquet", shard.name)))?;
        let (documents, tokens) = (shard.table.documents(), shard.table.tokens());
        self.finished.push(ShardEntry { name: shard.name, documents, tokens });
        Ok(())
    }

    fn content(&self) -> Content {
        Content {
            dtype: self.dtype,
            vocab_size: self.spec.vocab_size as u64,
            num_documents: self.documents,
            num_tokens: self.finished.iter().map(|shard| shard.tokens).sum(),
            has_mask: self.spec.has_mask,
            documents_per_unit: self.spec.documents_per_unit,
            bos_id: self.spec.bos_id,
            eos_id: self.spec.eos_id,
            pad_id: self.spec.pad_id,
            shards: self.finished.clone(),
        }
    }
}

impl OpenShard {
    fn write_mask(&mut self, tokens: usize, mask: Option<&[u8]>) -> std::io::Result<()> {
        match (&mut self.mask, mask) {
            (Some(file), Some(mask)) => file.write_all(mask),
            (Some(file), None) => file.write_all(&vec![1; tokens]),
            (None, _) => Ok(()),
        }
    }
}

fn invalid(what: &str, expected: &str, found: impl std::fmt::Display) -> Error {
    Error::InvalidValue { what: what.to_owned(), expected: expected.to_owned(), found: found.to_string() }
}

/// Puts the stored form of `ids` into `bytes`.
fn encode(ids: &[u32], dtype: Dtype, bytes: &mut Vec<u8>) {
    bytes.clear();
    match dtype {
        Dtype::U16 => bytes.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes())),
        Dtype::U32 => bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
    }
}
