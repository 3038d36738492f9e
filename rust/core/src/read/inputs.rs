//! From what the user names (files, folders, globs) to a sorted list of files.

use std::collections::{BTreeMap, HashSet};
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
const OWN_FILES: [&str; 5] =
    ["quarantine.jsonl", "ledger.json", "samples.jsonl", "report.html", "blocks.jsonl"];

/// Ends of names that are told of files that are not read.
const MAX_ENDS: usize = 5;

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

/// As [`resolve`], without what lies in the folder `output`, unless that itself was named: a run that writes into a folder
/// that it reads finds its own documents there when it is begun again.
///
/// # Errors
/// The same; `NoInput` if nothing is left.
pub fn resolve_beside(names: &[PathBuf], output: &Path) -> Result<Vec<Input>> {
    let mut files = resolve(names)?;
    let Ok(folder) = fs::canonicalize(output) else { return Ok(files) };
    let is_inside = |path: &Path| fs::canonicalize(path).is_ok_and(|path| path.starts_with(&folder));
    if names.iter().any(|name| name.starts_with(output) || is_inside(name)) {
        return Ok(files);
    }
    files.retain(|file| !is_inside(&file.path));
    if files.is_empty() {
        return Err(Error::NoInput {
            path: names[0].clone(),
            expected: "files outside of `output`".to_owned(),
        });
    }
    Ok(files)
}

/// The paths sorted, one of those that lead to the same file; what leads nowhere is left to whoever opens it.
pub fn distinct(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    paths
}

fn expand(name: &Path) -> Result<Vec<PathBuf>> {
    if name.is_dir() {
        let mut found = Vec::new();
        walk(name, &|_| true, &mut found)?;
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
    some_of(matching(&pattern)?, name, "a glob that matches a readable file")
}

/// The readable files that a glob matches.
fn matching(pattern: &str) -> Result<Vec<PathBuf>> {
    if pattern.contains("**") {
        return matching_below(pattern);
    }
    let mut found = Vec::new();
    for path in glob::glob(pattern).map_err(|error| invalid_glob(pattern, &error))? {
        let path = path.map_err(|error| {
            let folder = error.path().to_owned();
            Error::io("list", folder)(error.into())
        })?;
        if !path.is_dir() && is_document_file(&path) {
            check_regular(&path)?;
            found.push(path);
        }
    }
    Ok(found)
}

/// The same for a glob with `**`. Two links that lead up would give `glob` more paths than it could ever list,
/// so the files are those of the folder that it names before its first sign, walked as a folder is.
fn matching_below(pattern: &str) -> Result<Vec<PathBuf>> {
    let glob = glob::Pattern::new(pattern).map_err(|error| invalid_glob(pattern, &error))?;
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let plain = pattern.find(['*', '?', '[']).map_or(pattern, |at| &pattern[..at]);
    let folder = plain.rfind('/').map_or(".", |at| &pattern[..=at]);
    let mut found = Vec::new();
    if Path::new(folder).is_dir() {
        let named = |path: &Path| glob.matches_path_with(path.strip_prefix(".").unwrap_or(path), options);
        walk(Path::new(folder), &named, &mut found)?;
    }
    Ok(found)
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

/// Collects the readable files below `folder` that are `wanted`.
fn walk(folder: &Path, wanted: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) -> Result<()> {
    each_file(folder, &mut |path| {
        if is_document_file(&path) && wanted(&path) {
            check_regular(&path)?;
            found.push(path);
        }
        Ok(())
    })
}

/// Shows the files below `folder`, hidden ones left out; links to folders are not followed, so none can lead in circles.
fn each_file(folder: &Path, see: &mut dyn FnMut(PathBuf) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let path = entry.path();
        if file_name(&path).starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(Error::io("list", &path))?.is_dir() {
            each_file(&path, see)?;
        } else if !path.is_dir() {
            see(path)?;
        }
    }
    Ok(())
}

/// What the folders among `names` hold of formats that are not read, in a sentence: who has tables there as `.csv`, or JSON
/// lines as `.json`, would miss them only in what comes out.
pub fn passed_over(names: &[PathBuf]) -> Option<String> {
    let (mut count, mut ends, mut folders) = (0_usize, BTreeMap::new(), Vec::new());
    for folder in names.iter().filter(|name| name.is_dir()) {
        let before = count;
        let seen = each_file(folder, &mut |path| {
            if kind(&path).is_none() && !path.with_file_name(manifest::FILE_NAME).exists() {
                count += 1;
                *ends.entry(shown_end(&path)).or_insert(0_usize) += 1;
            }
            Ok(())
        });
        if seen.is_ok() && count > before {
            folders.push(format!("`{}`", folder.display()));
        }
    }
    let mut ends: Vec<_> = ends.into_iter().collect();
    ends.sort_by_key(|(_, files)| std::cmp::Reverse(*files));
    let ends: Vec<String> =
        ends.into_iter().take(MAX_ENDS).map(|(end, files)| format!("{files} {end}")).collect();
    let (folders, ends) = (folders.join(", "), ends.join(", "));
    (count > 0).then(|| format!("not read in {folders}: {count} files of other formats ({ends})"))
}

fn shown_end(path: &Path) -> String {
    path.extension()
        .map_or_else(|| "without an end".to_owned(), |end| format!("`.{}`", end.to_string_lossy()))
}

/// True for a readable name that is not one of our own tables beside a manifest.
fn is_document_file(path: &Path) -> bool {
    let name = file_name(path);
    let is_ours = OWN_FILES.contains(&name.as_str()) || name.ends_with(".docs.parquet");
    kind(path).is_some() && !(is_ours && path.with_file_name(manifest::FILE_NAME).exists())
}
