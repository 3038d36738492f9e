//! Where documents end: as an index says, or at an id that marks it.

use super::{not_as_expected, too_long, IdReader, MAX_DOCUMENT_TOKENS};
use crate::error::Result;

/// Ids looked through at a time for the next mark.
const SEARCH_TOKENS: u64 = 1 << 18;

/// Where documents end in a file without an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// With the file: it is one document.
    File,
    /// After each of this id.
    EndsWith(u32),
    /// Before each of this id.
    BeginsWith(u32),
}

/// The documents of a file, before their ids are read.
pub(super) enum Documents {
    /// So many, of lengths that an index tells.
    Indexed(u64, Box<dyn Iterator<Item = Result<u64>>>),
    /// Found among the ids.
    Marked(Boundary),
}

impl Documents {
    /// How many there are, if that is known.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Indexed(count, _) => Some(*count),
            Self::Marked(Boundary::File) => Some(1),
            Self::Marked(_) => None,
        }
    }

    /// Begins to read them.
    pub fn read(self, reader: IdReader) -> DocumentReader {
        match self {
            Self::Indexed(_, lengths) => DocumentReader::Indexed { reader, lengths },
            Self::Marked(boundary) => DocumentReader::Marked(Marked {
                reader,
                boundary,
                held: Vec::new(),
                at: 0,
                unclosed_documents: 0,
            }),
        }
    }
}

/// The documents of a file, one after another.
pub(super) enum DocumentReader {
    Indexed { reader: IdReader, lengths: Box<dyn Iterator<Item = Result<u64>>> },
    Marked(Marked),
}

impl DocumentReader {
    /// Puts the next document into `ids`; false at the end.
    pub fn next(&mut self, ids: &mut Vec<u32>) -> Result<bool> {
        ids.clear();
        match self {
            Self::Marked(marked) => marked.next(ids),
            Self::Indexed { reader, lengths } => {
                let Some(length) = lengths.next().transpose()? else { return Ok(false) };
                check_length(reader, length)?;
                reader.read(length, ids)?;
                Ok(true)
            }
        }
    }

    /// All ids must belong to a document.
    pub fn check_end(&self) -> Result<()> {
        match self {
            Self::Indexed { reader, .. } if reader.left() > 0 => {
                let (path, all) = (reader.path(), reader.tokens());
                let found = format!("{}", all - reader.left());
                Err(not_as_expected(path, format!("ids of which the index lists all {all}"), found))
            }
            _ => Ok(()),
        }
    }

    /// 1 if the last document of a file lacks the id that ends documents (or the first one that which
    /// begins them).
    pub fn unclosed_documents(&self) -> u64 {
        match self {
            Self::Marked(marked) => marked.unclosed_documents,
            Self::Indexed { .. } => 0,
        }
    }
}

fn check_length(reader: &IdReader, length: u64) -> Result<()> {
    if length > reader.left() {
        let expected = format!("{length} ids of the next document in its index");
        return Err(not_as_expected(reader.path(), expected, format!("{} ids left", reader.left())));
    }
    if length > MAX_DOCUMENT_TOKENS {
        return Err(too_long(reader.path(), length));
    }
    Ok(())
}

/// Documents found by their first or last id.
pub(super) struct Marked {
    reader: IdReader,
    boundary: Boundary,
    /// Ids read ahead, used up to `at`.
    held: Vec<u32>,
    at: usize,
    unclosed_documents: u64,
}

impl Marked {
    fn next(&mut self, ids: &mut Vec<u32>) -> Result<bool> {
        loop {
            if self.at == self.held.len() && !self.refill()? {
                return Ok(self.end(ids));
            }
            let rest = &self.held[self.at..];
            let (taken, is_whole) = self.next_end(rest, ids.is_empty());
            ids.extend_from_slice(&rest[..taken]);
            self.at += taken;
            if ids.len() as u64 > MAX_DOCUMENT_TOKENS {
                return Err(too_long(self.reader.path(), ids.len() as u64 + self.reader.left()));
            }
            if is_whole {
                self.note_first(ids);
                return Ok(true);
            }
        }
    }

    /// How many ids of `rest` go to the document, and whether that ends it.
    fn next_end(&self, rest: &[u32], is_first: bool) -> (usize, bool) {
        let found = match self.boundary {
            Boundary::File => None,
            Boundary::EndsWith(mark) => rest.iter().position(|id| *id == mark).map(|index| index + 1),
            Boundary::BeginsWith(mark) => {
                let skipped = usize::from(is_first);
                rest.iter().skip(skipped).position(|id| *id == mark).map(|index| index + skipped)
            }
        };
        (found.unwrap_or(rest.len()), found.is_some())
    }

    fn refill(&mut self) -> Result<bool> {
        self.held.clear();
        self.at = 0;
        self.reader.read(self.reader.left().min(SEARCH_TOKENS), &mut self.held)?;
        Ok(!self.held.is_empty())
    }

    /// The file has ended: what was gathered is a document, though nothing marks its end.
    fn end(&mut self, ids: &[u32]) -> bool {
        if let (Boundary::EndsWith(_), false) = (self.boundary, ids.is_empty()) {
            self.unclosed_documents += 1;
        }
        self.note_first(ids);
        !ids.is_empty()
    }

    fn note_first(&mut self, ids: &[u32]) {
        if let (Boundary::BeginsWith(mark), Some(first)) = (self.boundary, ids.first()) {
            self.unclosed_documents += u64::from(*first != mark);
        }
    }
}
