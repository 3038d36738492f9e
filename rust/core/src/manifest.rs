//! Manifests: what an artefact is made of, and the proof that it is whole.
//!
//! An artefact is a folder, written as a [`Draft`](crate::draft::Draft): its
//! `manifest.json` lists the size and SHA-256 of every file, and whoever reads it
//! checks the manifest first.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::stoppable::Stoppable;
use crate::{pipeline, shard};

/// Name of the manifest inside its folder.
pub const FILE_NAME: &str = "manifest.json";

/// All formats: a folder of another one than is read is a wrong folder, and no damaged one.
const FORMATS: [&str; 3] = [pipeline::FORMAT, pipeline::PART_FORMAT, shard::FORMAT];

/// Size and content hash of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// The manifest of a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Kind of artefact and version of its format, as `triptych-documents/1`.
    pub format: String,
    /// Version of triptych that wrote it.
    pub triptych: String,
    /// Everything the content depends on: configuration, hashes of the inputs.
    pub made_from: Value,
    /// Facts about the content: counts, types, sizes.
    pub content: Value,
    /// Every file of the folder but this one, by name.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// Reads `folder/manifest.json` and checks that it describes `format`.
    ///
    /// # Errors
    /// `NoInput` without a manifest, `InvalidValue` if it is of another format of ours, `Integrity` if of none.
    pub fn read(folder: &Path, format: &str) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let bytes = read_file(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::NoInput {
                path: folder.to_owned(),
                expected: format!("a finished folder of format `{format}`, with a `{FILE_NAME}`"),
            },
            _ => Error::Io { action: "read", path: path.clone(), source },
        })?;
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| Error::Integrity {
            path: path.clone(),
            expected: format!("a manifest of format `{format}`"),
            found: error.to_string(),
        })?;
        if let Some(name) = manifest.files.keys().find(|name| !is_of_folder(name)) {
            let (expected, found) = ("names of files of its folder".to_owned(), format!("`{name}`"));
            return Err(Error::Integrity { path, expected, found });
        }
        if manifest.format == format {
            return Ok(manifest);
        }
        let (expected, found) = (format!("format `{format}`"), format!("`{}`", manifest.format));
        if FORMATS.contains(&manifest.format.as_str()) {
            let what = format!("folder `{}`", folder.display());
            return Err(Error::InvalidValue { what, expected, found });
        }
        Err(Error::Integrity { path, expected, found })
    }

    /// The names of its shards, which begin with a digit: what lies beside them holds no documents.
    pub fn shards(&self) -> impl Iterator<Item = &String> {
        self.files.keys().filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
    }

    /// Checks the size and hash of every file listed; the first that differs is the error.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        self.verify_until(folder, &|| false)
    }

    /// The same, until somebody asks to stop, which is `Interrupted`.
    pub(crate) fn verify_until(&self, folder: &Path, is_stopped: &dyn Fn() -> bool) -> Result<()> {
        let verify = |(name, expected)| verify_file(&folder.join(name), expected, is_stopped);
        self.files.iter().try_for_each(verify)
    }

    /// Checks sizes only: constant time a file, catches truncation and absence.
    pub fn verify_sizes(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|(name, expected)| verify_size(&folder.join(name), expected))
    }
}

/// Adds the hash of an input under its name; of one name, each has a number.
pub(crate) fn note_input(inputs: &mut Map<String, Value>, name: &str, sha256: String) {
    let mut key = name.to_owned();
    let mut number = 2;
    while inputs.contains_key(&key) {
        key = format!("{name} ({number})");
        number += 1;
    }
    inputs.insert(key, Value::String(sha256));
}

/// SHA-256 of a file's content in hexadecimal.
pub fn sha256_file(path: &Path) -> Result<String> {
    sha256_file_until(path, &|| false)
}

/// The same, until somebody asks to stop, which is `Interrupted`.
pub(crate) fn sha256_file_until(path: &Path, is_stopped: &dyn Fn() -> bool) -> Result<String> {
    Stoppable::open(path, is_stopped)?.read_by(|file| {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 64 << 10]; // more is no faster, and most files are small
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(hex(&hasher.finalize()));
            }
            hasher.update(&buffer[..count]);
        }
    })
}

/// SHA-256 of bytes in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// The bytes of a regular file: a pipe would never end, nor a device.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        return fs::read(path);
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Whether a name can only be that of a file that lies in the folder itself.
fn is_of_folder(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

fn verify_size(path: &Path, expected: &FileEntry) -> Result<()> {
    let found = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => "no regular file".to_owned(),
        Ok(metadata) if metadata.len() == expected.bytes => return Ok(()),
        Ok(metadata) => format!("{} bytes", metadata.len()),
        Err(error) => error.to_string(),
    };
    Err(Error::Integrity { path: path.to_owned(), expected: format!("{} bytes", expected.bytes), found })
}

fn verify_file(path: &Path, expected: &FileEntry, is_stopped: &dyn Fn() -> bool) -> Result<()> {
    verify_size(path, expected)?;
    let found = sha256_file_until(path, is_stopped)?;
    if found == expected.sha256 {
        return Ok(());
    }
    Err(Error::Integrity {
        path: path.to_owned(),
        expected: format!("SHA-256 {}", expected.sha256),
        found: format!("SHA-256 {found}"),
    })
}
