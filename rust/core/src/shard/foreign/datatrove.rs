//! Token files of datatrove's `DocumentTokenizer`: `NAME.ds` and what stands beside it.
//!
//! `NAME.ds` is ids (u16 or u32), `NAME.ds.index` the end of each document in tokens (u64), `NAME.ds.loss` a
//! byte a token, 0 where its loss is ignored, and `NAME.ds.metadata` three lines of text: the tokenizer and
//! the bytes of an id with `|` between, the number of tokens, and the same number for people. Only the index
//! is needed. Source: `datatrove/pipeline/tokens/tokenizer.py` of datatrove 0.10.1.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::boundary::Documents;
use super::column::Column;
use super::ids::size;
use super::{not_as_expected, with_ending, Foreign, IdFile, IdType};
use crate::error::{Error, Result};

/// Most bytes of metadata that are read.
const MAX_METADATA_BYTES: u64 = 64 << 10;

/// Checks the files of one `.ds`.
pub(super) fn open(path: &Path) -> Result<Foreign> {
    let index = with_ending(path, ".index");
    let index_bytes = size(&index)?;
    if !index_bytes.is_multiple_of(8) {
        return Err(not_as_expected(
            &index,
            "u64 ends of documents, 8 bytes each",
            format!("{index_bytes} bytes"),
        ));
    }
    let documents = index_bytes / 8;
    let tokens = last_end(&index, documents)?;
    let id_type = id_type(path, &index, tokens)?;
    let ids = IdFile { path: path.to_owned(), first_byte: 0, id_type, tokens };
    check_metadata(path, &ids)?;
    let mask = mask(path, tokens)?;
    let ends = Ends { index: index.clone(), column: Column::open(&index, 0)?, left: documents, at: 0 };
    Ok(Foreign { ids, mask, documents: Documents::Indexed(documents, Box::new(ends)) })
}

/// Where the last document ends: how many tokens there are.
fn last_end(index: &Path, documents: u64) -> Result<u64> {
    match documents {
        0 => Ok(0),
        _ => Ok(u64::from_le_bytes(Column::open(index, (documents - 1) * 8)?.next()?)),
    }
}

/// The type of the ids: what the size of the file is, divided by their number.
fn id_type(path: &Path, index: &Path, tokens: u64) -> Result<IdType> {
    let bytes = size(path)?;
    let types = [IdType::U16, IdType::U32];
    let fits = |id_type: &&IdType| tokens.checked_mul(id_type.bytes() as u64) == Some(bytes);
    types.iter().find(fits).copied().ok_or_else(|| {
        let name = index.file_name().unwrap_or_default().to_string_lossy();
        let expected = format!("2 or 4 bytes for each of the {tokens} tokens that `{name}` ends at");
        not_as_expected(path, expected, format!("{bytes} bytes"))
    })
}

/// Metadata may be missing; what it says must be so.
fn check_metadata(path: &Path, ids: &IdFile) -> Result<()> {
    let metadata = with_ending(path, ".metadata");
    if !metadata.is_file() {
        return Ok(());
    }
    let mut text = String::new();
    let file = File::open(&metadata).map_err(Error::io("open", &metadata))?;
    file.take(MAX_METADATA_BYTES).read_to_string(&mut text).map_err(Error::io("read", &metadata))?;
    let mut lines = text.lines();
    let width = lines.next().and_then(|line| line.rsplit('|').next()).unwrap_or_default();
    let tokens = lines.next().unwrap_or_default();
    let expected = (ids.id_type.bytes().to_string(), ids.tokens.to_string());
    // A file without tokens, as datatrove leaves behind the last full one, has no size that tells their width.
    let has_width = width == expected.0 || (ids.tokens == 0 && ["2", "4"].contains(&width));
    if has_width && tokens == expected.1 {
        return Ok(());
    }
    let expected = format!("{} bytes a token and {} tokens", expected.0, expected.1);
    Err(not_as_expected(&metadata, expected, format!("`{width}` and `{tokens}`")))
}

/// The supervision mask, if there is one.
fn mask(path: &Path, tokens: u64) -> Result<Option<PathBuf>> {
    let mask = with_ending(path, ".loss");
    if !mask.is_file() {
        return Ok(None);
    }
    match size(&mask)? {
        bytes if bytes == tokens => Ok(Some(mask)),
        bytes => Err(not_as_expected(
            &mask,
            format!("a byte for each of {tokens} tokens"),
            format!("{bytes} bytes"),
        )),
    }
}

/// Lengths of documents, from where they end.
struct Ends {
    index: PathBuf,
    column: Column,
    left: u64,
    at: u64,
}

impl Ends {
    fn next_length(&mut self) -> Result<u64> {
        let byte = self.column.at_byte;
        let end = u64::from_le_bytes(self.column.next()?);
        let start = std::mem::replace(&mut self.at, end);
        end.checked_sub(start).ok_or_else(|| {
            let expected = format!("ends that grow, at least {start} at byte {byte}");
            not_as_expected(&self.index, expected, end.to_string())
        })
    }
}

impl Iterator for Ends {
    type Item = Result<u64>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.next_length())
    }
}
