//! Ids as other tools store them: whole numbers of one to eight bytes, little-endian.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{cut_while_read, not_as_expected};
use crate::error::{Error, Place, Result};

/// Ids decoded at a time: what a document of any length costs in memory beside its ids.
const READ_TOKENS: usize = 1 << 18;

/// Type of a stored id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the documentation
pub enum IdType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
}

/// The types by name.
const NAMES: [(&str, IdType); 8] = [
    ("u8", IdType::U8),
    ("i8", IdType::I8),
    ("u16", IdType::U16),
    ("i16", IdType::I16),
    ("u32", IdType::U32),
    ("i32", IdType::I32),
    ("u64", IdType::U64),
    ("i64", IdType::I64),
];

impl IdType {
    /// The type of that name: `u16`, `i32`, …
    ///
    /// # Errors
    /// `UnknownName` for any other.
    pub fn named(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, id_type)| *id_type).ok_or_else(|| {
            let valid: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
            Error::unknown_name("type of ids", name, &valid)
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, id_type)| *id_type == self).map_or("", |(name, _)| name)
    }

    /// Bytes of one id.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 => 4,
            Self::U64 | Self::I64 => 8,
        }
    }

    /// Appends the ids in `bytes`; one that is negative or over 32 bits becomes `u32::MAX`, which no
    /// vocabulary holds.
    fn decode(self, bytes: &[u8], ids: &mut Vec<u32>) {
        match self {
            Self::U8 => ids.extend(bytes.iter().map(|byte| u32::from(*byte))),
            Self::U16 => ids.extend(numbers(bytes).map(|two| u32::from(u16::from_le_bytes(two)))),
            Self::U32 => ids.extend(numbers(bytes).map(u32::from_le_bytes)),
            Self::I8 => ids.extend(numbers(bytes).map(|one| narrow(i8::from_le_bytes(one)))),
            Self::I16 => ids.extend(numbers(bytes).map(|two| narrow(i16::from_le_bytes(two)))),
            Self::I32 => ids.extend(numbers(bytes).map(|four| narrow(i32::from_le_bytes(four)))),
            Self::U64 => ids.extend(numbers(bytes).map(|eight| narrow(u64::from_le_bytes(eight)))),
            Self::I64 => ids.extend(numbers(bytes).map(|eight| narrow(i64::from_le_bytes(eight)))),
        }
    }

    /// The number in `bytes`, for a message.
    fn shown(self, bytes: &[u8]) -> String {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(eight);
        let unused_bits = 64 - 8 * bytes.len() as u32;
        let signed = i64::from_le_bytes(eight) << unused_bits >> unused_bits;
        if matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64) {
            signed.to_string()
        } else {
            unsigned.to_string()
        }
    }
}

fn numbers<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks().0.iter().copied()
}

fn narrow<T: TryInto<u32>>(value: T) -> u32 {
    value.try_into().unwrap_or(u32::MAX)
}

/// Where ids lie in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdFile {
    /// The file.
    pub path: PathBuf,
    /// Bytes before the first id.
    pub first_byte: u64,
    /// Their type.
    pub id_type: IdType,
    /// How many there are.
    pub tokens: u64,
}

impl IdFile {
    /// All of a file after its first `first_byte` bytes.
    ///
    /// # Errors
    /// `InvalidFile` for a size that is not a whole number of ids.
    pub fn of_rest(path: &Path, first_byte: u64, id_type: IdType) -> Result<Self> {
        let bytes = size(path)?.saturating_sub(first_byte);
        let width = id_type.bytes() as u64;
        if !bytes.is_multiple_of(width) {
            let expected = format!("ids of type {}, {width} bytes each", id_type.name());
            return Err(not_as_expected(path, expected, format!("{bytes} bytes of them")));
        }
        Ok(Self { path: path.to_owned(), first_byte, id_type, tokens: bytes / width })
    }
}

/// Size of a regular file.
pub(super) fn size(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    Err(Error::NoInput { path: path.to_owned(), expected: "a regular file".to_owned() })
}

/// Reads ids from the first to the last, and refuses those outside the vocabulary.
#[derive(Debug)]
pub struct IdReader {
    ids: IdFile,
    vocab_size: usize,
    file: File,
    /// Ids read so far.
    at: u64,
    bytes: Vec<u8>,
}

impl IdReader {
    /// Opens the file; `vocab_size` is of the tokenizer that the ids are of.
    pub fn open(ids: IdFile, vocab_size: usize) -> Result<Self> {
        let mut file = File::open(&ids.path).map_err(Error::io("open", &ids.path))?;
        file.seek(SeekFrom::Start(ids.first_byte)).map_err(Error::io("read", &ids.path))?;
        Ok(Self { ids, vocab_size, file, at: 0, bytes: Vec::new() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.ids.path
    }

    /// Ids in all.
    pub fn tokens(&self) -> u64 {
        self.ids.tokens
    }

    /// Ids not read yet.
    pub fn left(&self) -> u64 {
        self.ids.tokens - self.at
    }

    /// Appends the next `count` ids, of which there must be that many.
    ///
    /// # Errors
    /// `InvalidFile` for an id outside the vocabulary.
    pub fn read(&mut self, mut count: u64, ids: &mut Vec<u32>) -> Result<()> {
        while count > 0 {
            let part = count.min(READ_TOKENS as u64);
            self.read_part(part as usize, ids)?;
            count -= part;
        }
        Ok(())
    }

    fn read_part(&mut self, count: usize, ids: &mut Vec<u32>) -> Result<()> {
        self.bytes.resize(count * self.ids.id_type.bytes(), 0);
        self.file.read_exact(&mut self.bytes).map_err(|error| cut_while_read(&self.ids.path, error))?;
        let from = ids.len();
        self.ids.id_type.decode(&self.bytes, ids);
        if let Some(index) = ids[from..].iter().position(|id| *id as usize >= self.vocab_size) {
            return Err(self.outside(index));
        }
        self.at += count as u64;
        Ok(())
    }

    /// The id at `index` of the part just read is none of the vocabulary.
    fn outside(&self, index: usize) -> Error {
        let IdFile { path, first_byte, id_type, .. } = &self.ids;
        let token = self.at + index as u64;
        let byte = first_byte + token * id_type.bytes() as u64;
        let id = id_type.shown(&self.bytes[index * id_type.bytes()..][..id_type.bytes()]);
        let expected = format!("ids of type {} under {}", id_type.name(), self.vocab_size);
        not_as_expected(path, expected, format!("id {id} at token {token}, byte {byte}")).at(Place {
            file: Some(path.clone()),
            byte: Some(byte),
            line: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_its_own_numbers_and_shows_those_that_are_no_ids() {
        let mut ids = Vec::new();
        IdType::I16.decode(&[5, 0, 0xFF, 0xFF], &mut ids);
        IdType::U64.decode(&[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &mut ids);
        IdType::U8.decode(&[9], &mut ids);
        assert_eq!(ids, [5, u32::MAX, 7, u32::MAX, 9]);
        assert_eq!(IdType::I16.shown(&[0xFE, 0xFF]), "-2");
        assert_eq!(IdType::U16.shown(&[0xFE, 0xFF]), "65534");
        assert!(NAMES.iter().all(|(name, id_type)| IdType::named(name).unwrap() == *id_type));
        assert_eq!(IdType::named("u23").unwrap_err().exit_status(), 2);
    }

    #[test]
    fn an_id_outside_the_vocabulary_is_named_by_token_and_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        std::fs::write(&path, [0, 1, 0, 2, 0, 0xFF, 0xFF, 0xFF]).unwrap();
        let ids = IdFile::of_rest(&path, 2, IdType::I16).unwrap();
        let mut found = Vec::new();
        let error = IdReader::open(ids, 300).unwrap().read(3, &mut found).unwrap_err();
        assert!(error.to_string().contains("id 512 at token 0, byte 2"), "{error}");
        assert_eq!(error.place().byte, Some(2));
        let error = IdFile::of_rest(&path, 1, IdType::U16).unwrap_err();
        assert!(error.to_string().contains("7 bytes"), "{error}");
    }
}
