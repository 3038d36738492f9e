//! The bytes of a fastText file, taken in order, each length checked against what is left.
//!
//! Nothing is allocated for a count that the rest of the file cannot hold.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file that is being read; every fault names it and the byte.
pub(super) struct Source {
    path: PathBuf,
    reader: BufReader<File>,
    at: u64,
    length: u64,
}

impl Source {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("open", path))?.len();
        Ok(Self { path: path.to_owned(), reader: BufReader::with_capacity(1 << 16, file), at: 0, length })
    }

    /// The fault that `what` should have been `expected` but was `found`.
    pub fn fault(&self, expected: &str, found: impl std::fmt::Display) -> Error {
        Error::InvalidFile {
            path: self.path.clone(),
            expected: format!("a fastText model with {expected}"),
            found: format!("{found} before byte {}", self.at),
        }
    }

    /// Faults with `expected` and `found` unless `holds`.
    pub fn check(&self, holds: bool, expected: &str, found: impl std::fmt::Display) -> Result<()> {
        if holds {
            return Ok(());
        }
        Err(self.fault(expected, found))
    }

    /// A count that is not negative, and whose items of at least `item_bytes` fit in the rest of the file.
    pub fn fits(&self, what: &str, count: i64, item_bytes: u64) -> Result<usize> {
        let left = self.length - self.at;
        let fits =
            u64::try_from(count).is_ok_and(|count| count.checked_mul(item_bytes).is_some_and(|n| n <= left));
        let expected = format!("{what} of at least {item_bytes} bytes each in the {left} bytes left");
        self.check(fits, &expected, count)?;
        usize::try_from(count).map_err(|_| self.fault(&expected, count))
    }

    /// `count` bytes.
    pub fn bytes(&mut self, what: &str, count: usize) -> Result<Vec<u8>> {
        self.fits(what, count as i64, 1)?;
        let mut bytes = vec![0; count];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// `count` numbers of 32 bits.
    pub fn floats(&mut self, what: &str, count: usize) -> Result<Vec<f32>> {
        self.fits(what, count as i64, 4)?;
        let mut floats = Vec::with_capacity(count);
        let mut block = [0; 4096];
        while floats.len() < count {
            let wanted = (4 * (count - floats.len())).min(block.len());
            self.fill(&mut block[..wanted])?;
            floats.extend(
                block[..wanted].chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])),
            );
        }
        Ok(floats)
    }

    /// A name that ends with a zero byte, appended to `names`.
    pub fn name(&mut self, names: &mut Vec<u8>) -> Result<()> {
        let start = names.len();
        let read = self.reader.read_until(0, names).map_err(Error::io("read", &self.path))?;
        self.at += read as u64;
        if names.len() == start || names.pop() != Some(0) {
            return Err(self.fault("a name that ends with a zero byte", "the end of the file"));
        }
        Ok(())
    }

    /// An integer of 32 bits.
    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_le_bytes)
    }

    /// An integer of 64 bits.
    pub fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    /// A byte that is 0 or 1.
    pub fn bool(&mut self, what: &str) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.fault(&format!("0 or 1 for {what}"), other)),
        }
    }

    /// Faults if bytes are left.
    pub fn end(&self) -> Result<()> {
        let left = self.length - self.at;
        self.check(left == 0, "its end after the output matrix", format!("{left} more bytes"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let left = self.length - self.at;
        let wanted = bytes.len() as u64;
        self.check(
            wanted <= left,
            &format!("{wanted} more bytes"),
            format!("the end of the file, {left} bytes on,"),
        )?;
        self.reader.read_exact(bytes).map_err(Error::io("read", &self.path))?;
        self.at += wanted;
        Ok(())
    }
}
