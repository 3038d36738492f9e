//! Ids without an index: raw memory maps, and one-dimensional `.npy`.
//!
//! A `.npy` file is the bytes `93 "NUMPY"`, a version (1.0, 2.0 or 3.0), the length of its header (u16,
//! u32 from 2.0 on), and the header: a Python dictionary of `descr`, `fortran_order` and `shape`. Source:
//! `numpy/lib/_format_impl.py` of numpy 2.4. Files that `OLMo` calls `.npy` have no header: they are raw.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::boundary::Documents;
use super::ids::size;
use super::{not_as_expected, Foreign, IdFile, IdType, ImportConfig};
use crate::error::{Error, Result};

const NPY_MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read; that of one array takes 118 bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Types of whole numbers as numpy writes them.
const DESCRIPTIONS: [(&str, IdType); 8] = [
    ("|u1", IdType::U8),
    ("|i1", IdType::I8),
    ("<u2", IdType::U16),
    ("<i2", IdType::I16),
    ("<u4", IdType::U32),
    ("<i4", IdType::I32),
    ("<u8", IdType::U64),
    ("<i8", IdType::I64),
];

/// Ids and nothing else, of the type in the options.
pub(super) fn open(path: &Path, config: &ImportConfig) -> Result<Foreign> {
    let ids = IdFile::of_rest(path, 0, config.id_type.unwrap_or(IdType::U16))?;
    let mut magic = [0; 6];
    let is_npy = File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok();
    if is_npy && magic == *NPY_MAGIC {
        return Err(not_as_expected(path, "ids without a header (`raw`)", "the header of a `.npy` file"));
    }
    Ok(Foreign { ids, mask: None, documents: Documents::Marked(config.boundary) })
}

/// A `.npy` file of one dimension.
pub(super) fn open_npy(path: &Path, config: &ImportConfig) -> Result<Foreign> {
    let (header, first_byte) = read_header(path)?;
    let wrong = |expected: &str, found: &str| Err(not_as_expected(path, expected, found));
    let description = value(&header, "descr").unwrap_or("nothing").trim_matches(['\'', '"']);
    let Some((_, id_type)) = DESCRIPTIONS.iter().find(|(known, _)| *known == description) else {
        let expected = "a `.npy` of whole numbers (`descr` of u1 to u8 or i1 to i8, little-endian)";
        return wrong(expected, description);
    };
    let shape = value(&header, "shape").unwrap_or("nothing");
    let Some(tokens) = length_of(shape) else { return wrong("a `.npy` of one dimension", shape) };
    let ids = IdFile::of_rest(path, first_byte, *id_type)?;
    if ids.tokens != tokens {
        let expected = format!("{tokens} ids of type {} behind the header", id_type.name());
        return wrong(&expected, &ids.tokens.to_string());
    }
    Ok(Foreign { ids, mask: None, documents: Documents::Marked(config.boundary) })
}

/// The header, and where the numbers begin.
fn read_header(path: &Path) -> Result<(String, u64)> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("open", path))?;
    let most = (MAX_HEADER_BYTES + 12) as u64;
    file.take(most.min(size(path)?)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let (start, length): (usize, usize) = match bytes.get(..8) {
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0]) => (10, little_endian(bytes.get(8..10))),
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, 0]) => (12, little_endian(bytes.get(8..12))),
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', major, minor]) => {
            let found = format!("version {major}.{minor}");
            return Err(not_as_expected(path, "a `.npy` of version 1.0, 2.0 or 3.0", found));
        }
        _ => {
            let found = "none; files without a header are of the format `raw`";
            return Err(not_as_expected(path, "a `.npy` header (`93 NUMPY`) at byte 0", found));
        }
    };
    match bytes.get(start..start.saturating_add(length)) {
        Some(header) if length <= MAX_HEADER_BYTES => {
            Ok((String::from_utf8_lossy(header).into_owned(), (start + length) as u64))
        }
        _ => {
            let expected = format!("a header of at most {MAX_HEADER_BYTES} bytes inside the file");
            Err(not_as_expected(path, expected, format!("one of {length} bytes at byte 8")))
        }
    }
}

fn little_endian(bytes: Option<&[u8]>) -> usize {
    bytes.unwrap_or_default().iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
}

/// The text of the value of a key in a dictionary: up to the comma that ends it, of a tuple with that.
fn value<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let at = ["'", "\""].iter().find_map(|quote| {
        let quoted = format!("{quote}{key}{quote}");
        header.find(&quoted).map(|at| at + quoted.len())
    })?;
    let rest = header[at..].trim_start().strip_prefix(':')?.trim_start();
    let end = if rest.starts_with('(') { rest.find(')')? + 1 } else { rest.find([',', '}'])? };
    Some(rest[..end].trim_end())
}

/// N of `(N,)`.
fn length_of(shape: &str) -> Option<u64> {
    let inside = shape.strip_prefix('(')?.strip_suffix(')')?.trim();
    inside.strip_suffix(',')?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_header_are_found_in_any_order_and_other_shapes_refused() {
        let header = "{\"shape\": (12,), 'fortran_order': False, 'descr': '<u2'}   \n";
        assert_eq!(value(header, "descr"), Some("'<u2'"));
        assert_eq!(value(header, "shape").and_then(length_of), Some(12));
        assert_eq!(value(header, "fortran_order"), Some("False"));
        for shape in ["()", "(12)", "(3, 4)", "(-1,)", "(1, 2,)", "(99999999999999999999,)", "12"] {
            assert_eq!(length_of(shape), None, "{shape}");
        }
        assert_eq!(value("{'shape'", "shape"), None);
    }
}
