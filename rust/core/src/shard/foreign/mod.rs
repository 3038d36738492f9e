//! Token files of other tools, in and out.
//!
//! An import keeps every id as it is stored; what the format says about documents becomes the
//! document table. Headers and sizes of all files are checked before anything is written, ids as
//! they are read, and the ledger must add up. The formats are described in `docs/formats.md`.

mod boundary;
mod column;
mod datatrove;
mod ids;
mod ledger;
mod megatron;
mod raw;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{json, Map, Value};

use super::{integrity, ShardSpec, ShardWriter};
use crate::error::{Error, Result};
use crate::manifest::{self, Manifest};
use crate::read;
use crate::tokenize::Tokenizer;

pub use boundary::Boundary;
use boundary::Documents;
pub use ids::IdType;
use ids::{IdFile, IdReader};
pub use ledger::{FileCount, ImportLedger};
pub use megatron::{export_megatron, plan_export, ExportPlan};

/// Most tokens of one imported document: as ids in memory that is 1 GiB.
const MAX_DOCUMENT_TOKENS: u64 = 1 << 28;

/// Formats that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignFormat {
    /// `PREFIX.bin` with `PREFIX.idx`.
    Megatron,
    /// `.npy`, one dimension.
    Npy,
    /// Ids and nothing else.
    Raw,
    /// `.ds` with `.ds.index`.
    Datatrove,
}

const FORMATS: [(&str, ForeignFormat); 4] = [
    ("megatron", ForeignFormat::Megatron),
    ("npy", ForeignFormat::Npy),
    ("raw", ForeignFormat::Raw),
    ("datatrove", ForeignFormat::Datatrove),
];

impl ForeignFormat {
    /// The format of that name.
    ///
    /// # Errors
    /// `UnknownName` for any other.
    pub fn named(name: &str) -> Result<Self> {
        let found = FORMATS.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let valid: Vec<&str> = FORMATS.iter().map(|(known, _)| *known).collect();
            Error::unknown_name("format of tokens", name, &valid)
        })
    }

    /// Endings of the files that a folder is searched for.
    fn ending(self) -> &'static str {
        match self {
            Self::Megatron => ".idx",
            Self::Npy => ".npy",
            Self::Raw => ".bin",
            Self::Datatrove => ".ds",
        }
    }
}

/// What is imported, and how it is to be understood.
#[derive(Debug, Clone)]
pub struct ImportConfig {
    /// Files, or folders of them; of Megatron also the prefix.
    pub input: Vec<PathBuf>,
    /// Their format.
    pub format: ForeignFormat,
    /// Type of the ids, where the file does not tell.
    pub id_type: Option<IdType>,
    /// Where documents end, where there is no index.
    pub boundary: Boundary,
    /// `source` of the documents; the file name without endings by default.
    pub source: Option<String>,
}

/// One file of an import, as its headers say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    /// The file with the ids.
    pub file: PathBuf,
    /// Name of the ids' type.
    pub dtype: &'static str,
    /// Tokens in it.
    pub tokens: u64,
    /// Documents in it; `None` where they are only found by reading the ids.
    pub documents: Option<u64>,
    /// Whether a supervision mask stands beside it.
    pub has_mask: bool,
}

/// How far an import or export has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyProgress {
    /// Tokens copied.
    pub tokens: u64,
    /// Tokens in all.
    pub total_tokens: u64,
    /// Documents copied.
    pub documents: u64,
}

/// A file of another tool whose headers are checked.
struct Foreign {
    ids: IdFile,
    mask: Option<PathBuf>,
    documents: Documents,
}

impl Foreign {
    fn open(path: &Path, config: &ImportConfig) -> Result<Self> {
        match config.format {
            ForeignFormat::Megatron => megatron::open(path),
            ForeignFormat::Npy => raw::open_npy(path, config),
            ForeignFormat::Raw => raw::open(path, config),
            ForeignFormat::Datatrove => datatrove::open(path),
        }
    }

    fn planned(&self) -> PlannedFile {
        PlannedFile {
            file: self.ids.path.clone(),
            dtype: self.ids.id_type.name(),
            tokens: self.ids.tokens,
            documents: if self.ids.tokens == 0 { Some(0) } else { self.documents.count() },
            has_mask: self.mask.is_some(),
        }
    }
}

/// Checks headers and sizes of all files; gives what each holds.
///
/// # Errors
/// `NoInput` for a path without such a file, `InvalidFile` for one that is not of the format,
/// `InvalidValue` for an option that is missing or does not go with it.
pub fn plan_import(config: &ImportConfig) -> Result<Vec<PlannedFile>> {
    check_options(config)?;
    let files = find(config)?;
    files.iter().map(|path| Ok(Foreign::open(path, config)?.planned())).collect()
}

/// Writes the tokens of other tools as a folder of token shards called `output`, and what became of
/// them as `ledger.json` in it. `tokenizer` is the one that made the ids, which is the caller's word.
///
/// # Errors
/// As [`plan_import`]; `InvalidFile` for ids outside the vocabulary or an index that contradicts its
/// file, `Resource` for a document of more than 2^28 tokens, `EmptyCorpus` without documents.
pub fn import_tokens(
    config: &ImportConfig,
    tokenizer: &Tokenizer,
    output: &Path,
    progress: &mut dyn FnMut(CopyProgress),
) -> Result<(Manifest, ImportLedger)> {
    let planned = plan_import(config)?;
    check_mark(config.boundary, tokenizer.vocab_size())?;
    let has_mask = planned.iter().any(|file| file.has_mask);
    let mut import = Import {
        writer: ShardWriter::create(output, ShardSpec { has_mask, ..ShardSpec::plain(tokenizer) })?,
        vocab_size: tokenizer.vocab_size(),
        done: CopyProgress {
            total_tokens: planned.iter().map(|file| file.tokens).sum(),
            ..CopyProgress::default()
        },
        progress,
        ids: Vec::new(),
        mask: Vec::new(),
    };
    let (mut ledger, mut inputs) = (ImportLedger::default(), Map::new());
    for path in find(config)? {
        ledger.add(import.copy(&path, config)?)?;
        manifest::note_input(&mut inputs, &file_name(&path), manifest::sha256_file(&path)?);
    }
    if import.done.documents == 0 {
        let names: Vec<String> = planned.iter().map(|file| format!("`{}`", file.file.display())).collect();
        let expected = "at least one document that has a token".to_owned();
        return Err(Error::EmptyCorpus { inputs: names.join(", "), expected });
    }
    import.writer.write_beside("ledger.json", &json!(ledger))?;
    Ok((import.writer.commit(&Value::Object(inputs))?, ledger))
}

/// An import under way, with the memory that all documents share.
struct Import<'p> {
    writer: ShardWriter,
    vocab_size: usize,
    done: CopyProgress,
    progress: &'p mut dyn FnMut(CopyProgress),
    ids: Vec<u32>,
    mask: Vec<u8>,
}

impl Import<'_> {
    /// Copies the documents of one file.
    fn copy(&mut self, path: &Path, config: &ImportConfig) -> Result<FileCount> {
        let foreign = Foreign::open(path, config)?;
        let name = file_name(&foreign.ids.path);
        let stem = name.split('.').next().unwrap_or_default().to_owned();
        let source = config.source.clone().unwrap_or(stem);
        let mut count = FileCount::new(&name, foreign.ids.tokens);
        let mut mask = foreign.mask.as_deref().map(MaskReader::open).transpose()?;
        let reader = IdReader::open(foreign.ids, self.vocab_size)?;
        let mut documents = foreign.documents.read(reader);
        while documents.next(&mut self.ids)? {
            self.mask.clear();
            if let Some(mask) = &mut mask {
                mask.read(self.ids.len(), &mut self.mask)?;
            }
            count.documents_read += 1;
            self.write(&name, &source, mask.is_some(), &mut count)?;
        }
        documents.check_end()?;
        count.unclosed_documents = documents.unclosed_documents();
        (self.progress)(self.done);
        Ok(count)
    }

    fn write(&mut self, name: &str, source: &str, has_mask: bool, count: &mut FileCount) -> Result<()> {
        if self.ids.is_empty() {
            count.empty_documents += 1;
            return Ok(());
        }
        let mask = has_mask.then_some(self.mask.as_slice());
        self.writer.append(&format!("{name}:{}", count.documents_read), source, &self.ids, mask)?;
        let tokens = self.ids.len() as u64;
        count.documents_written += 1;
        count.tokens_written += tokens;
        self.done.documents += 1;
        self.done.tokens += tokens;
        if self.done.documents.is_multiple_of(4096) {
            (self.progress)(self.done);
        }
        Ok(())
    }
}

/// A supervision mask, read beside the ids.
struct MaskReader {
    path: PathBuf,
    file: std::io::BufReader<File>,
    at: u64,
}

impl MaskReader {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Ok(Self { path: path.to_owned(), file: std::io::BufReader::new(file), at: 0 })
    }

    fn read(&mut self, count: usize, mask: &mut Vec<u8>) -> Result<()> {
        mask.resize(count, 0);
        self.file.read_exact(mask).map_err(|error| cut_while_read(&self.path, error))?;
        if let Some(index) = mask.iter().position(|byte| *byte > 1) {
            let found = format!("{} at byte {}", mask[index], self.at + index as u64);
            return Err(not_as_expected(&self.path, "a mask of bytes 0 and 1", found));
        }
        self.at += count as u64;
        Ok(())
    }
}

/// Refuses options that the format has no use for, and asks for those that it needs.
fn check_options(config: &ImportConfig) -> Result<()> {
    let format = FORMATS.iter().find(|(_, format)| *format == config.format).map_or("", |(name, _)| name);
    let refuse = |what: &str| {
        Err(Error::InvalidValue {
            what: format!("`{what}`"),
            expected: format!("none, as files of the format `{format}` say it themselves"),
            found: "a value".to_owned(),
        })
    };
    match config.format {
        ForeignFormat::Megatron | ForeignFormat::Datatrove if config.boundary != Boundary::File => {
            refuse("eos_id` or `bos_id")
        }
        ForeignFormat::Megatron | ForeignFormat::Datatrove | ForeignFormat::Npy
            if config.id_type.is_some() =>
        {
            refuse("dtype")
        }
        ForeignFormat::Raw if config.id_type.is_none() => Err(Error::InvalidValue {
            what: "`dtype`".to_owned(),
            expected: "the type of the ids, as `u16`, since raw files do not tell".to_owned(),
            found: "none".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Refuses an id that can mark no document, as no id of a file may be so large.
fn check_mark(boundary: Boundary, vocab_size: usize) -> Result<()> {
    let (name, id) = match boundary {
        Boundary::File => return Ok(()),
        Boundary::EndsWith(id) => ("`eos_id`", id),
        Boundary::BeginsWith(id) => ("`bos_id`", id),
    };
    if (id as usize) < vocab_size {
        return Ok(());
    }
    Err(Error::InvalidValue {
        what: name.to_owned(),
        expected: format!("an id of the tokenizer, under {vocab_size}"),
        found: id.to_string(),
    })
}

/// The files that the inputs name, each once, sorted: the order in which they were given does not matter.
fn find(config: &ImportConfig) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in &config.input {
        if path.is_dir() {
            files.extend(in_folder(path, config.format)?);
        } else {
            files.push(if config.format == ForeignFormat::Megatron {
                megatron::index_path(path)
            } else {
                path.clone()
            });
        }
    }
    Ok(read::distinct(files))
}

fn in_folder(folder: &Path, format: ForeignFormat) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let name = file_name(&path);
        if name.ends_with(format.ending()) && !name.starts_with('.') && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        let expected = format!("files that end in `{}`", format.ending());
        return Err(Error::NoInput { path: folder.to_owned(), expected });
    }
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `path` with `ending` behind its whole name.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn not_as_expected(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::InvalidFile {
        path: path.to_owned(),
        expected: "a file of tokens".to_owned(),
        found: format!("expected {}, found {}", expected.into(), found.into()),
    }
}

/// A file whose size was checked ends early: somebody else has changed it.
fn cut_while_read(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => integrity(path, "the size that it had", "an end before it"),
        _ => Error::io("read", path)(error),
    }
}

/// A document beyond what is held in memory.
fn too_long(path: &Path, tokens: u64) -> Error {
    Error::Resource {
        what: format!("a document of `{}`", path.display()),
        limit: format!("{MAX_DOCUMENT_TOKENS} tokens"),
        needed: format!("{tokens} tokens; without an index, `--eos-id` says where documents end"),
    }
}
