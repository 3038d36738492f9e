//! What became of the documents and tokens of an import.

use serde::Serialize;

use crate::error::{Error, Result};

/// The account of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileCount {
    /// Name of the file, without its folder.
    pub file: String,
    /// Documents found in it.
    pub documents_read: u64,
    /// Ids in it, by its size.
    pub tokens_read: u64,
    /// Documents written.
    pub documents_written: u64,
    /// Their ids.
    pub tokens_written: u64,
    /// Documents without ids, which shards do not hold.
    pub empty_documents: u64,
    /// Documents written although the id that should end (or begin) them is not there.
    pub unclosed_documents: u64,
}

impl FileCount {
    pub(super) fn new(file: &str, tokens_read: u64) -> Self {
        Self { file: file.to_owned(), tokens_read, ..Self::default() }
    }

    /// Nothing vanishes: documents and tokens that were read are written, but for empty documents.
    fn check(&self) -> Result<()> {
        let accounted = self.documents_written + self.empty_documents;
        for (read, accounted) in [(self.documents_read, accounted), (self.tokens_read, self.tokens_written)] {
            if read != accounted {
                return Err(Error::NotConserved { file: self.file.clone(), read, accounted });
            }
        }
        Ok(())
    }
}

/// The account of all files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImportLedger {
    /// Per file, in the order of their paths.
    pub files: Vec<FileCount>,
    /// The sums; `file` is empty.
    pub total: FileCount,
}

impl ImportLedger {
    /// Adds a file that adds up.
    pub(super) fn add(&mut self, file: FileCount) -> Result<()> {
        file.check()?;
        let total = &mut self.total;
        total.documents_read += file.documents_read;
        total.tokens_read += file.tokens_read;
        total.documents_written += file.documents_written;
        total.tokens_written += file.tokens_written;
        total.empty_documents += file.empty_documents;
        total.unclosed_documents += file.unclosed_documents;
        self.files.push(file);
        Ok(())
    }
}
