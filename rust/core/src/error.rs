//! What can go wrong, said so that the reader can act.
//!
//! A message names the file, line or key, then what was expected, then what was
//! found. [`Error::hint`] says what to do next, where that is known.

use std::io;
use std::path::PathBuf;

use parquet::errors::ParquetError;

/// Result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure that ends a run. Bad records never end a run: they are quarantined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("cannot {action} `{}`: {}", path.display(), said(source))]
    Io {
        /// Verb, as in "cannot `open`".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A path that was named does not exist, or holds nothing to read.
    #[error("no input at `{}`: expected {expected}", path.display())]
    NoInput {
        /// The path as the user gave it.
        path: PathBuf,
        /// What could have stood there.
        expected: String,
    },

    /// The inputs exist but hold no document at all.
    #[error("no documents in {inputs}: expected {expected}")]
    EmptyCorpus {
        /// The inputs as the user gave them.
        inputs: String,
        /// What a document looks like there.
        expected: String,
    },

    /// A name that is not in a closed set: a profile, a format, a key.
    #[error("unknown {what} `{found}`: expected one of {expected}")]
    UnknownName {
        /// Kind of name, as in "unknown `profile`".
        what: &'static str,
        /// The name that was found.
        found: String,
        /// The valid names, in backticks, comma-separated.
        expected: String,
        /// The valid name closest to the one found.
        nearest: Option<String>,
    },

    /// A setting or argument outside its range.
    #[error("{what}: expected {expected}, found {found}")]
    InvalidValue {
        /// The key or argument.
        what: String,
        /// Its type and range.
        expected: String,
        /// The value given.
        found: String,
    },

    /// An input that as a whole is not what its name says.
    #[error("`{}` cannot be read as {expected}: {found}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// The format expected.
        expected: String,
        /// What was found, and where.
        found: String,
    },

    /// A file of ours that is not as its manifest says.
    #[error("`{}` is damaged: expected {expected}, found {found}", path.display())]
    Integrity {
        /// The file.
        path: PathBuf,
        /// Size, hash, type or count in the manifest.
        expected: String,
        /// The same, measured.
        found: String,
    },

    /// The ledger does not add up; the run is void.
    #[error("the ledger of `{file}` does not add up: read {read}, accounted for {accounted}")]
    NotConserved {
        /// The input file.
        file: String,
        /// Documents read.
        read: u64,
        /// Documents kept, rejected, duplicate or quarantined.
        accounted: u64,
    },

    /// Memory, disk or a limit of the run is exhausted.
    #[error("{what}: limit {limit}, needed {needed}")]
    Resource {
        /// What ran out.
        what: String,
        /// The limit in force.
        limit: String,
        /// What was needed.
        needed: String,
    },

    /// An error of which the place is known better than its own fields tell.
    #[error("{}{error}", place.before(error))]
    At {
        /// Where.
        place: Place,
        /// What.
        error: Box<Error>,
    },

    /// Several faults of one configuration.
    #[error("{}", told(faults))]
    Several {
        /// All of them, in the order of the configuration.
        faults: Vec<Error>,
    },

    /// The run was asked to stop; the same command goes on from here.
    #[error("interrupted: run the same command again to continue")]
    Interrupted,
}

/// Where something is wrong, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file or folder.
    pub file: Option<PathBuf>,
    /// 1-based line.
    pub line: Option<u64>,
    /// Offset in the file, as decompressed.
    pub byte: Option<u64>,
}

impl Place {
    /// A byte of a text, with its line.
    pub fn in_text(text: &str, byte: usize) -> Self {
        let line = text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count() as u64 + 1;
        Self { file: None, line: Some(line), byte: Some(byte as u64) }
    }

    /// `file:line: `, for an error that does not name the file itself.
    fn before(&self, error: &Error) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) if error.place().file.is_none() => {
                format!("{}:{line}: ", file.display())
            }
            _ => String::new(),
        }
    }
}

impl Error {
    /// The same error, with its place.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self::At { place, error: Box::new(self) }
    }

    /// Nothing if there is no fault, the fault if there is one, all of them together if there are more.
    pub(crate) fn all(mut faults: Vec<Error>) -> Result<()> {
        match faults.len() {
            0 => Ok(()),
            1 => Err(faults.remove(0)),
            _ => Err(Self::Several { faults }),
        }
    }

    /// Where it is, as far as that is known; of several faults, where the first is.
    pub fn place(&self) -> Place {
        let file = match self {
            Self::At { place, .. } => return place.clone(),
            Self::Several { faults } => return faults.first().map(Self::place).unwrap_or_default(),
            Self::Io { path, .. }
            | Self::NoInput { path, .. }
            | Self::InvalidFile { path, .. }
            | Self::Integrity { path, .. } => Some(path.clone()),
            Self::NotConserved { file, .. } => Some(PathBuf::from(file)),
            _ => None,
        };
        Place { file, ..Place::default() }
    }

    /// Wraps an I/O error with the verb and the path it happened at.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An unknown name, with the nearest valid one found by edit distance.
    pub fn unknown_name(what: &'static str, found: &str, valid: &[&str]) -> Self {
        let quoted: Vec<String> = valid.iter().map(|name| format!("`{name}`")).collect();
        Self::UnknownName {
            what,
            found: found.to_owned(),
            expected: quoted.join(", "),
            nearest: nearest_name(found, valid),
        }
    }

    /// Exit status of a command that ends with this error (table in the README).
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NoInput { .. } | Self::UnknownName { .. } | Self::InvalidValue { .. } => 2,
            Self::Io { source, .. } if is_wrong_path(source) || is_no_name(source) => 2,
            Self::Io { source, .. } if is_exhaustion(source) => 5,
            Self::Integrity { .. } | Self::NotConserved { .. } => 4,
            Self::Resource { .. } => 5,
            Self::At { error, .. } => error.exit_status(),
            Self::Several { faults } => faults.first().map_or(1, Self::exit_status),
            Self::Interrupted => 75,
            Self::Io { .. } | Self::EmptyCorpus { .. } | Self::InvalidFile { .. } => 1,
        }
    }

    /// Kind of error in a word, as messages have it in `error[…]`.
    pub fn code(&self) -> &'static str {
        match self.exit_status() {
            2 => "config",
            4 => "integrity",
            5 => "resource",
            75 => "interrupted",
            _ => "input",
        }
    }

    /// What the reader can do next, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::At { error, .. } => error.hint(),
            Self::UnknownName { nearest: Some(name), .. } => Some(format!("did you mean `{name}`?")),
            Self::Integrity { .. } => Some("make the file again, or restore it from a copy".to_owned()),
            _ => None,
        }
    }
}

/// Several faults, each on a line with its hint.
fn told(faults: &[Error]) -> String {
    let line = |fault: &Error| match fault.hint() {
        Some(hint) => format!("{fault} ({hint})"),
        None => fault.to_string(),
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What the system says, in words for who named a folder for a file or a file for a folder.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::IsADirectory => "expected a file, found a folder".to_owned(),
        io::ErrorKind::NotADirectory => "expected a folder in this path, found a file".to_owned(),
        io::ErrorKind::AlreadyExists => "expected a folder or nothing there, found a file".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether nothing, or something of another kind, stands at a path: a fault of whoever named it.
fn is_wrong_path(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | IsADirectory | NotADirectory | AlreadyExists)
}

/// Whether no file can have such a name, as one with a NUL: refused before the system was asked.
fn is_no_name(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
}

fn is_exhaustion(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | OutOfMemory | QuotaExceeded | StorageFull)
}

/// What the writer of Parquet says; an error of the disk is given as it was, so that a full one is known as such.
pub(crate) fn io_of_parquet(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => {
            source.downcast().map_or_else(io::Error::other, |source: Box<io::Error>| *source)
        }
        _ => io::Error::other(error),
    }
}

/// The valid name within a third of its length in edits, if there is one.
fn nearest_name(found: &str, valid: &[&str]) -> Option<String> {
    valid
        .iter()
        .map(|name| (edit_distance(found, name), *name))
        .filter(|(distance, name)| *distance <= name.len().max(found.len()) / 3 + 1)
        .min()
        .map(|(_, name)| name.to_owned())
}

/// Levenshtein distance in code points; names are short, so one row of memory does.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_suggests_the_nearest_valid_one() {
        let error = Error::unknown_name("profile", "sede", &["seed", "gopher"]);
        assert_eq!(error.hint().as_deref(), Some("did you mean `seed`?"));
        assert_eq!(error.exit_status(), 2);
    }

    #[test]
    fn a_name_far_from_all_suggests_nothing() {
        assert_eq!(Error::unknown_name("profile", "qqqqqqqq", &["seed"]).hint(), None);
    }
}
