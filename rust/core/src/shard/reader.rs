//! Reading token shards by positioned reads; the operating system's page cache is the cache.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::positioned::PositionedFile;
use super::remote::local_folder;
use super::{docs, integrity, Content, Dtype, ShardEntry, FORMAT};
use crate::error::{Error, Result};
use crate::manifest::Manifest;

/// Tokens read at a time when a whole shard is scanned.
const SCAN_TOKENS: usize = 1 << 20;

thread_local! {
    /// The stored form of what is read: no allocation a segment.
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An open folder of token shards, its documents numbered from 0 across shards.
#[derive(Debug)]
pub struct TokenShards {
    folder: PathBuf,
    manifest: Manifest,
    content: Content,
    tokenizer_sha256: String,
    shards: Vec<Shard>,
    /// Tokens of each document.
    lengths: Vec<u32>,
    /// First token of each document within its shard.
    offsets: Vec<u64>,
}

#[derive(Debug)]
struct Shard {
    entry: ShardEntry,
    first_document: u64,
    ids: PositionedFile,
    mask: Option<PositionedFile>,
    table: PathBuf,
    document_ids: OnceLock<Vec<String>>,
}

/// Writes the ids that `bytes` store, and returns the largest.
fn decode(bytes: &[u8], dtype: Dtype, ids: &mut [u32]) -> u32 {
    let mut largest = 0;
    let mut write = |slot: &mut u32, id: u32| {
        *slot = id;
        largest = largest.max(id);
    };
    match dtype {
        Dtype::U16 => {
            let stored = bytes.as_chunks().0.iter();
            ids.iter_mut().zip(stored).for_each(|(slot, two)| write(slot, u16::from_le_bytes(*two).into()));
        }
        Dtype::U32 => {
            let stored = bytes.as_chunks().0.iter();
            ids.iter_mut().zip(stored).for_each(|(slot, four)| write(slot, u32::from_le_bytes(*four)));
        }
    }
    largest
}

/// The name is what its number makes it, so that it is a file of this folder; a document has a token.
fn check_entry(path: &Path, number: usize, shard: &ShardEntry) -> Result<()> {
    let ShardEntry { name, documents, tokens } = shard;
    if *name == format!("{number:05}") && (1..=*tokens).contains(documents) {
        return Ok(());
    }
    let expected =
        format!("shard {number} to be called `{number:05}`, of at least one document and token each");
    Err(integrity(path, expected, format!("`{name}` of {documents} documents, {tokens} tokens")))
}

impl Shard {
    fn verify_mask(&self) -> Result<()> {
        let Some(mask) = &self.mask else { return Ok(()) };
        let mut bytes = Vec::new();
        for (start, count) in pieces(self.entry.tokens) {
            bytes.resize(count, 0);
            mask.read(start, &mut bytes)?;
            if let Some(index) = bytes.iter().position(|byte| *byte > 1) {
                let found = format!("{} at byte {}", bytes[index], start + index as u64);
                return Err(integrity(mask.path(), "bytes 0 and 1", found));
            }
        }
        Ok(())
    }
}

/// Start and size of the parts in which so many tokens are read.
fn pieces(tokens: u64) -> impl Iterator<Item = (u64, usize)> {
    let starts = (0..tokens).step_by(SCAN_TOKENS);
    starts.map(move |start| (start, (tokens - start).min(SCAN_TOKENS as u64) as usize))
}

impl TokenShards {
    /// Opens a folder: sizes of all files, hashes and consistency of the document tables are checked.
    ///
    /// `folder` may be an address (`s3://`, `gs://`, `https://`): then its copy in the cache is opened.
    ///
    /// # Errors
    /// `NoInput` without a manifest, `Integrity` for anything that is not as it says, and those of
    /// [`local_folder`].
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = &*local_folder(folder)?;
        let manifest = Manifest::read(folder, FORMAT)?;
        manifest.verify_sizes(folder)?;
        let path = folder.join(crate::manifest::FILE_NAME);
        let content: Content = serde_json::from_value(manifest.content.clone())
            .map_err(|error| integrity(&path, "the content of token shards", error.to_string()))?;
        let tokenizer_sha256 = manifest.made_from["tokenizer_sha256"].as_str().map(str::to_owned);
        let mut shards = Self {
            folder: folder.to_owned(),
            tokenizer_sha256: tokenizer_sha256
                .ok_or_else(|| integrity(&path, "`tokenizer_sha256`", "none"))?,
            shards: Vec::with_capacity(content.shards.len()),
            lengths: Vec::new(),
            offsets: Vec::new(),
            manifest,
            content,
        };
        shards.check_content(&path)?;
        shards.open_all()?;
        Ok(shards)
    }

    fn check_content(&self, path: &Path) -> Result<()> {
        let content = &self.content;
        let dtype = Dtype::for_vocab(content.vocab_size as usize);
        if content.dtype != dtype {
            let name = |dtype| serde_json::json!(dtype).to_string();
            let expected = format!("dtype {} for a vocabulary of {}", name(dtype), content.vocab_size);
            return Err(integrity(path, expected, name(content.dtype)));
        }
        let sum = |count: fn(&ShardEntry) -> u64| {
            content.shards.iter().fold(0, |sum: u64, shard| sum.saturating_add(count(shard)))
        };
        let (documents, tokens) = (sum(|shard| shard.documents), sum(|shard| shard.tokens));
        for (number, shard) in content.shards.iter().enumerate() {
            check_entry(path, number, shard)?;
        }
        if (documents, tokens) != (content.num_documents, content.num_tokens) {
            let expected = format!("{} documents, {} tokens", content.num_documents, content.num_tokens);
            return Err(integrity(
                path,
                expected,
                format!("shards of {documents} documents, {tokens} tokens"),
            ));
        }
        let unit = content.documents_per_unit;
        if !(1..=2).contains(&unit) || !documents.is_multiple_of(unit) {
            let found = format!("documents_per_unit {unit} and {documents} documents");
            return Err(integrity(path, "documents_per_unit 1 or 2 that divides the documents", found));
        }
        Ok(())
    }

    fn open_all(&mut self) -> Result<()> {
        for entry in self.content.shards.clone() {
            let shard = self.open_shard(entry)?;
            let lengths = docs::read_lengths(&shard.table, shard.entry.documents, shard.entry.tokens)?;
            let mut offset = 0;
            for length in lengths {
                let narrow = u32::try_from(length).map_err(|_| {
                    integrity(&shard.table, "documents under 2^32 tokens", length.to_string())
                })?;
                self.lengths.push(narrow);
                self.offsets.push(offset);
                offset += length;
            }
            self.shards.push(shard);
        }
        Ok(())
    }

    fn open_shard(&self, entry: ShardEntry) -> Result<Shard> {
        let path = |ending: &str| self.folder.join(format!("{}.{ending}", entry.name));
        let width = self.content.dtype.bytes() as u64;
        self.expect_size(&path("bin"), entry.tokens.saturating_mul(width))?;
        self.verify_table(&path("docs.parquet"))?;
        let mask = if self.content.has_mask {
            self.expect_size(&path("mask.bin"), entry.tokens)?;
            Some(PositionedFile::open(path("mask.bin"))?)
        } else {
            None
        };
        Ok(Shard {
            first_document: self.lengths.len() as u64,
            ids: PositionedFile::open(path("bin"))?,
            table: path("docs.parquet"),
            mask,
            entry,
            document_ids: OnceLock::new(),
        })
    }

    /// The manifest's size of a file, which `verify_sizes` has compared to the disk.
    fn expect_size(&self, path: &Path, bytes: u64) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match self.manifest.files.get(name.as_ref()) {
            Some(entry) if entry.bytes == bytes => Ok(()),
            Some(entry) => Err(integrity(
                path,
                format!("{bytes} bytes for its tokens"),
                format!("{} bytes", entry.bytes),
            )),
            None => Err(integrity(path, "an entry in the manifest", "none")),
        }
    }

    /// Hashes a document table: it is small, and everything else is found through it.
    fn verify_table(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let entry = self
            .manifest
            .files
            .get(name.as_ref())
            .ok_or_else(|| integrity(path, "an entry in the manifest", "none"))?;
        let found = crate::manifest::sha256_file(path)?;
        if found == entry.sha256 {
            return Ok(());
        }
        Err(integrity(path, format!("SHA-256 {}", entry.sha256), format!("SHA-256 {found}")))
    }

    /// Hashes every file, and reads every id and every byte of the mask.
    pub fn verify(&self) -> Result<()> {
        self.manifest.verify(&self.folder)?;
        self.scan(&mut |_| Ok(()))?;
        self.shards.iter().try_for_each(Shard::verify_mask)
    }

    /// Calls `visit` with all ids in their order, about a million at a time.
    ///
    /// # Errors
    /// `Integrity` for an id outside the vocabulary, and those of `visit`.
    pub fn scan(&self, visit: &mut dyn FnMut(&[u32]) -> Result<()>) -> Result<()> {
        let mut tokens = Vec::new();
        for shard in &self.shards {
            for (start, count) in pieces(shard.entry.tokens) {
                tokens.resize(count, 0);
                self.read_ids(shard, start, &mut tokens)?;
                visit(&tokens)?;
            }
        }
        Ok(())
    }

    /// Fills `ids` with those of a document from its token `start` on.
    ///
    /// # Errors
    /// `Integrity` for an id outside the vocabulary or a file that is too short.
    pub fn read(&self, document: u64, start: u64, ids: &mut [u32]) -> Result<()> {
        let shard = self.shard_of(document);
        self.read_ids(shard, self.offsets[document as usize] + start, ids)
    }

    /// Fills `mask` with a document's supervision mask from its token `start` on; ones if there is none.
    ///
    /// # Errors
    /// `Integrity` for a file that is too short.
    pub fn read_mask(&self, document: u64, start: u64, mask: &mut [u8]) -> Result<()> {
        if let Some(file) = &self.shard_of(document).mask {
            return file.read(self.offsets[document as usize] + start, mask);
        }
        mask.fill(1);
        Ok(())
    }

    fn read_ids(&self, shard: &Shard, first: u64, ids: &mut [u32]) -> Result<()> {
        let width = self.content.dtype.bytes();
        let largest = BYTES.with_borrow_mut(|bytes| {
            bytes.resize(ids.len() * width, 0);
            shard.ids.read(first * width as u64, bytes)?;
            Ok(decode(bytes, self.content.dtype, ids))
        })?;
        let vocab_size = self.content.vocab_size;
        if ids.is_empty() || u64::from(largest) < vocab_size {
            return Ok(());
        }
        let at = ids.iter().position(|id| u64::from(*id) >= vocab_size).unwrap_or_default();
        let found = format!("id {} at token {}", ids[at], first + at as u64);
        Err(integrity(shard.ids.path(), format!("ids under {vocab_size}"), found))
    }

    fn shard_of(&self, document: u64) -> &Shard {
        let index = self.shards.partition_point(|shard| shard.first_document <= document);
        &self.shards[index - 1]
    }

    /// Id of a document, from the document table.
    ///
    /// # Errors
    /// `InvalidValue` for a number out of range.
    pub fn document_id(&self, document: u64) -> Result<&str> {
        if document >= self.content.num_documents {
            return Err(Error::InvalidValue {
                what: "document".to_owned(),
                expected: format!("0 to {}", self.content.num_documents.saturating_sub(1)),
                found: document.to_string(),
            });
        }
        let shard = self.shard_of(document);
        let ids = if let Some(ids) = shard.document_ids.get() {
            ids
        } else {
            let ids = docs::read_ids(&shard.table, shard.entry.documents)?;
            shard.document_ids.get_or_init(|| ids)
        };
        Ok(&ids[(document - shard.first_document) as usize])
    }

    /// Tokens of each document.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// The `content` of the manifest.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder, of an address its copy in the cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Hash of the tokenizer that made the ids.
    pub fn tokenizer_sha256(&self) -> &str {
        &self.tokenizer_sha256
    }
}
