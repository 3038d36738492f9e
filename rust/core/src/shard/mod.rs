//! Token shards: documents as raw ids on disk, readable without triptych.
//!
//! The format is described in `docs/formats.md`. Every fault of a folder is an
//! `Error::Integrity` that names the file, what was expected and what was found.

mod docs;
pub mod foreign;
mod positioned;
mod reader;
pub mod remote;
mod writer;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::tokenize::Tokenizer;

pub use reader::TokenShards;
pub use writer::ShardWriter;

/// Format name and version of the manifest.
pub const FORMAT: &str = "triptych-tokens/1";

/// Largest vocabulary whose ids are stored as u16.
const MAX_U16_VOCAB: usize = 1 << 16;

/// Width of a stored id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Two bytes, little-endian.
    U16,
    /// Four bytes, little-endian.
    U32,
}

impl Dtype {
    /// The narrowest type that holds every id under `vocab_size`.
    pub fn for_vocab(vocab_size: usize) -> Self {
        if vocab_size <= MAX_U16_VOCAB {
            Self::U16
        } else {
            Self::U32
        }
    }

    /// Bytes of one id.
    pub fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }
}

/// What a writer must know before the first document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSpec {
    /// Entries of the vocabulary; every id is smaller.
    pub vocab_size: usize,
    /// Hash of the tokenizer that made the ids.
    pub tokenizer_sha256: String,
    /// Id of BOS.
    pub bos_id: u32,
    /// Id of EOS.
    pub eos_id: u32,
    /// Id of PAD.
    pub pad_id: u32,
    /// Whether a supervision mask stands beside the ids.
    pub has_mask: bool,
    /// 1, or 2 for preference pairs: chosen and rejected, adjacent.
    pub documents_per_unit: u64,
    /// Tokens after which a new shard is begun, between units.
    pub max_shard_tokens: u64,
}

impl ShardSpec {
    /// Plain documents, every token supervised.
    pub fn plain(tokenizer: &Tokenizer) -> Self {
        let ids = tokenizer.ids();
        Self {
            vocab_size: tokenizer.vocab_size(),
            tokenizer_sha256: tokenizer.sha256().to_owned(),
            bos_id: ids.bos,
            eos_id: ids.eos,
            pad_id: ids.pad,
            has_mask: false,
            documents_per_unit: 1,
            max_shard_tokens: 128 << 20, // 256 MiB of u16: a file that copies and hashes in a second
        }
    }
}

/// The `content` of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Width of the ids.
    pub dtype: Dtype,
    /// Entries of the vocabulary.
    pub vocab_size: u64,
    /// Documents in all.
    pub num_documents: u64,
    /// Tokens in all.
    pub num_tokens: u64,
    /// Whether `NNNNN.mask.bin` exists.
    pub has_mask: bool,
    /// 1, or 2 for preference pairs.
    pub documents_per_unit: u64,
    /// Id of BOS.
    pub bos_id: u32,
    /// Id of EOS.
    pub eos_id: u32,
    /// Id of PAD.
    pub pad_id: u32,
    /// The shards in order.
    pub shards: Vec<ShardEntry>,
}

/// One shard in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Stem of its files: `00000`.
    pub name: String,
    /// Its documents.
    pub documents: u64,
    /// Its tokens.
    pub tokens: u64,
}

/// A document given to [`write_token_shards`]: id, source, ids, mask (1 = supervised; none = all).
pub type RenderedDocument = (String, String, Vec<u32>, Option<Vec<u8>>);

/// Writes documents that are tokens already (rendered conversations, pairs) as token shards.
///
/// A mask is stored if any document has one.
pub fn write_token_shards(
    documents: &[RenderedDocument],
    tokenizer: &Tokenizer,
    output: &std::path::Path,
    documents_per_unit: u64,
) -> Result<crate::manifest::Manifest> {
    let has_mask = documents.iter().any(|(_, _, _, mask)| mask.is_some());
    let spec = ShardSpec { has_mask, documents_per_unit, ..ShardSpec::plain(tokenizer) };
    let mut writer = ShardWriter::create(output, spec)?;
    for (id, source, ids, mask) in documents {
        writer.append(id, source, ids, mask.as_deref())?;
    }
    writer.commit(&Value::Object(serde_json::Map::new()))
}

fn integrity(
    path: impl Into<std::path::PathBuf>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Error {
    Error::Integrity { path: path.into(), expected: expected.into(), found: found.into() }
}
