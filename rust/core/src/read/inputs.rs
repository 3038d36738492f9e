//! From what the user names (files, folders, globs) to a sorted list of files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{file_name, kind, unreadable, STANDARD_INPUT};
use crate::error::{Error, Result};
use crate::manifest;

/// One file to read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// The path as given, or found below a folder that was given.
    pub path: PathBuf,
    /// Size on disk in bytes; 0 for standard input, whose size nobody knows before its end.
    pub bytes: u64,
}

/// Files of ours that stand beside documents and are none.
const OWN_FILES: [&str; 4] = ["quarantine.jsonl", "ledger.json", "samples.jsonl", "report.html"];

/// All files that `names` stand for, each once, sorted by path; `-` is standard input.
///
/// # Errors
/// `InvalidValue` without a name; `NoInput` for a path that does not exist and for a folder or glob without a
/// readable file; `InvalidValue` for a file of a kind that cannot be read, and for what is no file; `Io` for a
/// link that leads nowhere.
pub fn resolve(names: &[PathBuf]) -> Result<Vec<Input>> {
    if names.is_empty() {
        return Err(Error::InvalidValue {
            what: "`input`".to_owned(),
            expected: "at least one file, folder or glob".to_owned(),
            found: "none".to_owned(),
        });
    }
    let mut files = BTreeMap::new();
    for name in names {
        if name.as_os_str() == STANDARD_INPUT {
            files.insert(name.clone(), Input { path: name.clone(), bytes: 0 });
            continue;
        }
        for path in expand(name)? {
            let bytes = fs::metadata(&path).map_err(Error::io("open", &path))?.len();
            let key = fs::canonicalize(&path).map_err(Error::io("open", &path))?;
            files.entry(key).or_insert(Input { path, bytes });
        }
    }
    let mut files: Vec<Input> = files.into_values().collect();
    files.sort();
    Ok(files)
}

fn expand(name: &Path) -> Result<Vec<PathBuf>> {
    if name.is_dir() {
        let mut found = Vec::new();
        walk(name, &mut found)?;
        return some_of(
            found,
            name,
            "a folder that holds files of a format that is read, as `.jsonl.gz` or `.parquet`",
        );
    }
    if name.exists() {
        kind(name).ok_or_else(|| unreadable(name))?;
        check_regular(name)?;
        return Ok(vec![name.to_owned()]);
    }
    let pattern = name.to_string_lossy();
    if !pattern.contains(['*', '?', '[']) {
        return some_of(Vec::new(), name, "a file, a folder or a glob");
    }
    let paths = glob::glob(&pattern).map_err(|error| invalid_glob(&pattern, &error))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|error| {
            let folder = error.path().to_owned();
            Error::io("list", folder)(error.into())
        })?;
        if !path.is_dir() && is_document_file(&path) {
            check_regular(&path)?;
            found.push(path);
        }
    }
    some_of(found, name, "a glob that matches a readable file")
}

/// Refuses what has the name of a file and is none: a pipe can be read once, and never again to resume.
fn check_regular(path: &Path) -> Result<()> {
    if fs::metadata(path).map_err(Error::io("open", path))?.is_file() {
        return Ok(());
    }
    Err(Error::InvalidValue {
        what: format!("input `{}`", path.display()),
        expected: "a regular file, or `-` for what is piped into standard input".to_owned(),
        found: "a pipe, a socket or a device".to_owned(),
    })
}

fn some_of(found: Vec<PathBuf>, name: &Path, expected: &str) -> Result<Vec<PathBuf>> {
    if found.is_empty() {
        return Err(Error::NoInput { path: name.to_owned(), expected: expected.to_owned() });
    }
    Ok(found)
}

fn invalid_glob(pattern: &str, error: &glob::PatternError) -> Error {
    Error::InvalidValue {
        what: format!("input `{pattern}`"),
        expected: "a glob".to_owned(),
        found: error.to_string(),
    }
}

/// Collects the readable files below `folder`; links to folders are not followed, so none can lead in circles.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let path = entry.path();
        if file_name(&path).starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(Error::io("list", &path))?.is_dir() {
            walk(&path, found)?;
        } else if !path.is_dir() && is_document_file(&path) {
            check_regular(&path)?;
            found.push(path);
        }
    }
    Ok(())
}

/// True for a readable name that is not one of our own tables beside a manifest.
fn is_document_file(path: &Path) -> bool {
    let name = file_name(path);
    let is_ours = OWN_FILES.contains(&name.as_str()) || name.ends_with(".docs.parquet");
    kind(path).is_some() && !(is_ours && path.with_file_name(manifest::FILE_NAME).exists())
}
