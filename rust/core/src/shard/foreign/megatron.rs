//! Megatron's indexed dataset, `PREFIX.bin` with `PREFIX.idx`, read and written.
//!
//! The index is little-endian: nine bytes of magic, u64 version 1, u8 code of the ids' type, u64
//! sequences, u64 entries of the document index; then for every sequence its length (i32), for every
//! sequence its first byte in `.bin` (i64), then the document index (i64: 0, and the number of
//! sequences up to the end of each document), and for multimodal data a mode (i8) a sequence.
//! Source: `megatron/core/datasets/indexed_dataset.py` of Megatron-LM at 00caa53a.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::boundary::Documents;
use super::column::Column;
use super::ids::size;
use super::{not_as_expected, with_ending, CopyProgress, Foreign, IdFile, IdType};
use crate::error::{Error, Result};
use crate::new_file::NewFile;
use crate::shard::TokenShards;

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const VERSION: u64 = 1;
/// Magic, version, code and the two counts.
const HEADER_BYTES: u64 = 34;
/// Megatron writes u16 for vocabularies below this, not up to 65,536.
const MAX_U16_VOCAB: usize = 65_500;

/// Codes of the types of whole numbers; 6 and 7 are floats.
const CODES: [(u8, IdType); 6] = [
    (1, IdType::U8),
    (2, IdType::I8),
    (3, IdType::I16),
    (4, IdType::I32),
    (5, IdType::I64),
    (8, IdType::U16),
];

/// The index of a prefix, of its `.bin`, or itself.
pub(super) fn index_path(path: &Path) -> PathBuf {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("idx") => path.to_owned(),
        Some("bin") => path.with_extension("idx"),
        _ => with_ending(path, ".idx"),
    }
}

/// Checks an index and the size of the ids beside it.
pub(super) fn open(index: &Path) -> Result<Foreign> {
    let bytes = size(index)?;
    let header = Header::read(index)?;
    header.check_size(index, bytes)?;
    let ids = IdFile::of_rest(&index.with_extension("bin"), 0, header.id_type)?;
    let lengths = DocumentLengths::open(index, &header, bytes)?;
    let documents = Documents::Indexed(header.entries - 1, Box::new(lengths));
    Ok(Foreign { ids, mask: None, documents })
}

/// What stands before the columns of an index.
struct Header {
    id_type: IdType,
    sequences: u64,
    /// Entries of the document index: one more than there are documents.
    entries: u64,
}

impl Header {
    fn read(index: &Path) -> Result<Self> {
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = File::open(index).and_then(|mut file| file.read_exact(&mut bytes));
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                not_as_expected(index, format!("a header of {HEADER_BYTES} bytes"), "fewer")
            }
            _ => Error::io("read", index)(error),
        })?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let wrong = |expected: &str, found: String| Err(not_as_expected(index, expected, found));
        if bytes[..9] != *MAGIC {
            return wrong("`MMIDIDX` and two zero bytes at byte 0", format!("{:?}", &bytes[..9]));
        }
        if number(9) != VERSION {
            return wrong("version 1 at byte 9", number(9).to_string());
        }
        let Some((_, id_type)) = CODES.iter().find(|(code, _)| *code == bytes[17]) else {
            return wrong("a code of whole numbers (1 to 5, or 8) at byte 17", bytes[17].to_string());
        };
        Ok(Self { id_type: *id_type, sequences: number(18), entries: number(26) })
    }

    /// Bytes of the index without and with modes; `None` beyond any file.
    fn sizes(&self) -> Option<(u64, u64)> {
        let columns = self.sequences.checked_mul(12)?.checked_add(self.entries.checked_mul(8)?)?;
        let plain = columns.checked_add(HEADER_BYTES)?;
        Some((plain, plain.checked_add(self.sequences)?))
    }

    fn check_size(&self, index: &Path, bytes: u64) -> Result<()> {
        let Self { sequences, entries, .. } = self;
        if *entries == 0 {
            return Err(not_as_expected(index, "at least one entry of the document index at byte 26", "0"));
        }
        match self.sizes() {
            Some((plain, with_modes)) if bytes == plain || bytes == with_modes => Ok(()),
            sizes => {
                let expected = sizes.map_or_else(
                    || "counts that fit into a file".to_owned(),
                    |(plain, with_modes)| format!("{plain} bytes, or {with_modes} with modes,"),
                );
                let expected =
                    format!("{expected} for {sequences} sequences and {entries} entries of documents");
                Err(not_as_expected(index, expected, format!("{bytes} bytes")))
            }
        }
    }
}

/// Lengths of the documents in tokens, from the columns of an index.
struct DocumentLengths {
    index: PathBuf,
    width: u64,
    lengths: Column,
    pointers: Column,
    entries: Column,
    modes: Option<Column>,
    sequences: u64,
    documents_left: u64,
    /// Sequences so far, and the byte at which the next one has to begin.
    sequence: u64,
    pointer: u64,
}

impl DocumentLengths {
    fn open(index: &Path, header: &Header, bytes: u64) -> Result<Self> {
        let Header { id_type, sequences, entries } = header;
        let first_pointer = HEADER_BYTES + 4 * sequences;
        let first_entry = first_pointer + 8 * sequences;
        let first_mode = first_entry + 8 * entries;
        let mut entries_column = Column::open(index, first_entry)?;
        let first = i64::from_le_bytes(entries_column.next()?);
        if first != 0 {
            let expected = format!("0 as the first entry of the document index, byte {first_entry}");
            return Err(not_as_expected(index, expected, first.to_string()));
        }
        Ok(Self {
            index: index.to_owned(),
            width: id_type.bytes() as u64,
            lengths: Column::open(index, HEADER_BYTES)?,
            pointers: Column::open(index, first_pointer)?,
            entries: entries_column,
            modes: (bytes > first_mode).then(|| Column::open(index, first_mode)).transpose()?,
            sequences: *sequences,
            documents_left: entries - 1,
            sequence: 0,
            pointer: 0,
        })
    }

    /// Tokens of the next document: the sum of its sequences.
    fn next_length(&mut self) -> Result<u64> {
        let byte = self.entries.at_byte;
        let end = i64::from_le_bytes(self.entries.next()?);
        let end = match u64::try_from(end) {
            Ok(end) if (self.sequence..=self.sequences).contains(&end) => end,
            _ => {
                let expected = format!("an entry from {} to {}", self.sequence, self.sequences);
                return Err(self.wrong(expected, &end, byte));
            }
        };
        let mut tokens = 0;
        while self.sequence < end {
            tokens += self.next_sequence()?;
        }
        Ok(tokens)
    }

    fn next_sequence(&mut self) -> Result<u64> {
        let byte = self.lengths.at_byte;
        let length = i32::from_le_bytes(self.lengths.next()?);
        let tokens = u64::try_from(length)
            .map_err(|_| self.wrong("a length that is not negative".to_owned(), &length, byte))?;
        let byte = self.pointers.at_byte;
        let pointer = i64::from_le_bytes(self.pointers.next()?);
        if u64::try_from(pointer) != Ok(self.pointer) {
            let expected = format!("sequence {} to begin at byte {}", self.sequence, self.pointer);
            return Err(self.wrong(expected, &pointer, byte));
        }
        self.check_mode()?;
        self.sequence += 1;
        self.pointer += tokens * self.width; // of at most 2^63 / 12 sequences, 2^34 bytes each at most
        Ok(tokens)
    }

    fn check_mode(&mut self) -> Result<()> {
        let Some(modes) = &mut self.modes else { return Ok(()) };
        let byte = modes.at_byte;
        match modes.next::<1>()? {
            [0] => Ok(()),
            [mode] => Err(self.wrong("mode 0, which is text".to_owned(), &mode, byte)),
        }
    }

    /// The last document must end with the last sequence.
    fn check_end(&self) -> Result<()> {
        if self.sequence == self.sequences {
            return Ok(());
        }
        let expected = format!("documents of all {} sequences", self.sequences);
        Err(not_as_expected(&self.index, expected, self.sequence.to_string()))
    }

    fn wrong(&self, expected: String, found: &dyn std::fmt::Display, byte: u64) -> Error {
        not_as_expected(&self.index, expected, format!("{found} at byte {byte}"))
    }
}

impl Iterator for DocumentLengths {
    type Item = Result<u64>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.documents_left == 0 {
            return self.check_end().err().map(Err);
        }
        self.documents_left -= 1;
        Some(self.next_length())
    }
}

/// What an export will write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportPlan {
    /// The ids.
    pub bin: PathBuf,
    /// The index.
    pub idx: PathBuf,
    /// Name of the ids' type.
    pub dtype: &'static str,
    /// Documents, each of one sequence.
    pub documents: u64,
    /// Tokens in all.
    pub tokens: u64,
    /// Bytes of both files.
    pub bytes: u64,
}

/// What [`export_megatron`] will write, without writing it.
///
/// # Errors
/// `InvalidValue` for shards that Megatron's format cannot hold: pairs, a supervision mask (unless
/// `drops_mask`), or a document of 2^31 tokens; for files under these names that are no export of theirs.
pub fn plan_export(shards: &TokenShards, prefix: &Path, drops_mask: bool) -> Result<ExportPlan> {
    let content = shards.content();
    let refuse = |expected: &str, found: String| {
        let what = format!("token shards `{}`", shards.folder().display());
        Err(Error::InvalidValue { what, expected: expected.to_owned(), found })
    };
    if content.documents_per_unit != 1 {
        return refuse("plain documents, as Megatron's format has no pairs", "pairs".to_owned());
    }
    if content.has_mask && !drops_mask {
        return refuse("no supervision mask, or leave to drop it (`--drop-mask`)", "a mask".to_owned());
    }
    if let Some(length) = shards.lengths().iter().find(|length| i32::try_from(**length).is_err()) {
        return refuse("documents under 2^31 tokens", format!("one of {length}"));
    }
    let id_type = id_type(content.vocab_size as usize);
    let documents = content.num_documents;
    let plan = ExportPlan {
        bin: with_ending(prefix, ".bin"),
        idx: with_ending(prefix, ".idx"),
        dtype: id_type.name(),
        documents,
        tokens: content.num_tokens,
        bytes: content.num_tokens * id_type.bytes() as u64 + HEADER_BYTES + documents * 20 + 8,
    };
    require_own(shards, &plan)?;
    Ok(plan)
}

/// Refuses to write over what is not an earlier export of the same shards.
fn require_own(shards: &TokenShards, plan: &ExportPlan) -> Result<()> {
    let taken = [&plan.bin, &plan.idx].into_iter().find(|path| path.symlink_metadata().is_ok());
    let Some(taken) = taken.filter(|_| !is_own(shards, plan)) else { return Ok(()) };
    Err(Error::InvalidValue {
        what: "output".to_owned(),
        expected: "a prefix of which there are no files, or those of an export of the same shards".to_owned(),
        found: format!("`{}`; remove it, or choose another prefix", taken.display()),
    })
}

/// Whether what is there says of every document, and of every id, what an export of `shards` would.
fn is_own(shards: &TokenShards, plan: &ExportPlan) -> bool {
    let Ok(index) = File::open(&plan.idx) else { return false };
    let mut there = Same(BufReader::new(index));
    write_index(shards, &mut there).is_ok() && there.is_at_end() && has_own_ids(shards, &plan.bin)
}

/// The same of the ids alone: documents of one length have the index of any others. An export that was killed
/// may have left none.
fn has_own_ids(shards: &TokenShards, bin: &Path) -> bool {
    let file = match File::open(bin) {
        Ok(file) => file,
        Err(error) => return error.kind() == std::io::ErrorKind::NotFound,
    };
    let mut there = Same(BufReader::with_capacity(1 << 20, file));
    let all = scan_bytes(shards, &mut |bytes, _| there.write_all(bytes).map_err(Error::io("read", bin)));
    all.is_ok() && there.is_at_end()
}

/// Takes what the file that it reads holds, and nothing else.
struct Same(BufReader<File>);

impl Same {
    fn is_at_end(&mut self) -> bool {
        self.0.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}

impl Write for Same {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let there = self.0.fill_buf()?;
        let both = there.len().min(bytes.len());
        let same = there[..both] == bytes[..both];
        self.0.consume(both);
        Ok(if same { both } else { 0 }) // 0 is an error to whoever has something to write
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The type that Megatron itself chooses for a vocabulary.
fn id_type(vocab_size: usize) -> IdType {
    if vocab_size < MAX_U16_VOCAB {
        IdType::U16
    } else {
        IdType::I32
    }
}

/// Writes token shards as `PREFIX.bin` and `PREFIX.idx`, a sequence a document; hashes of the shards are
/// checked first, and the ids get their name last.
///
/// # Errors
/// As [`plan_export`], and `Integrity` for shards that are not as their manifest says.
pub fn export_megatron(
    shards: &TokenShards,
    prefix: &Path,
    drops_mask: bool,
    progress: &mut dyn FnMut(CopyProgress),
) -> Result<ExportPlan> {
    let plan = plan_export(shards, prefix, drops_mask)?;
    shards.manifest().verify(shards.folder())?;
    if let Some(folder) = prefix.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let bin = NewFile::create(&plan.bin)?;
    let idx = NewFile::create(&plan.idx)?;
    let bin = write_ids(shards, bin, progress)?;
    let idx = idx.fill(|file| write_index(shards, file))?;
    idx.rename()?; // first: by it an export that was killed here is known for one of these shards
    bin.rename()?;
    Ok(plan)
}

fn write_ids(
    shards: &TokenShards,
    mut file: NewFile,
    progress: &mut dyn FnMut(CopyProgress),
) -> Result<NewFile> {
    let content = shards.content();
    let mut done = CopyProgress { total_tokens: content.num_tokens, ..CopyProgress::default() };
    scan_bytes(shards, &mut |bytes, num_ids| {
        file.write(bytes)?;
        done.tokens += num_ids;
        progress(done);
        Ok(())
    })?;
    done.documents = content.num_documents;
    progress(done);
    file.fill(|_| Ok(()))
}

/// Gives all ids in order as the bytes of an export, some at a time, and how many they are.
fn scan_bytes(shards: &TokenShards, take: &mut dyn FnMut(&[u8], u64) -> Result<()>) -> Result<()> {
    let id_type = id_type(shards.content().vocab_size as usize);
    let mut bytes = Vec::new();
    shards.scan(&mut |ids| {
        bytes.clear();
        match id_type {
            IdType::U16 => bytes.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes())),
            _ => bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes())), // i32 and u32 agree below 2^31
        }
        take(&bytes, ids.len() as u64)
    })
}

fn write_index(shards: &TokenShards, file: &mut impl Write) -> std::io::Result<()> {
    let id_type = id_type(shards.content().vocab_size as usize);
    let code = CODES.iter().find(|(_, known)| *known == id_type).map_or(0, |(code, _)| *code);
    let documents = shards.lengths().len() as u64;
    file.write_all(MAGIC)?;
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(&[code])?;
    file.write_all(&documents.to_le_bytes())?;
    file.write_all(&(documents + 1).to_le_bytes())?;
    shards.lengths().iter().try_for_each(|length| file.write_all(&length.to_le_bytes()))?;
    let mut pointer = 0;
    for length in shards.lengths() {
        file.write_all(&u64::to_le_bytes(pointer))?;
        pointer += u64::from(*length) * id_type.bytes() as u64;
    }
    (0..=documents).try_for_each(|end| file.write_all(&end.to_le_bytes()))
}
