//! Manifests: what an artefact is made of, and the proof that it is whole.
//!
//! An artefact is a folder. It is written under a temporary name beside its final
//! one, synced, listed in `manifest.json` with the size and SHA-256 of every file,
//! and renamed. A folder under its final name is therefore complete, and whoever
//! reads it checks the manifest first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Name of the manifest inside its folder.
pub const FILE_NAME: &str = "manifest.json";

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
    /// Every file of the folder but this one, by path relative to it.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// Reads `folder/manifest.json` and checks that it describes `format`.
    ///
    /// # Errors
    /// `NoInput` without a manifest, `Integrity` if it is not of that format.
    pub fn read(folder: &Path, format: &str) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoInput {
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
        if manifest.format == format {
            return Ok(manifest);
        }
        Err(Error::Integrity {
            path,
            expected: format!("format `{format}`"),
            found: format!("`{}`", manifest.format),
        })
    }

    /// Checks the size and hash of every file listed; the first that differs is the error.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|(name, expected)| verify_file(&folder.join(name), expected))
    }

    /// Checks sizes only: constant time a file, catches truncation and absence.
    pub fn verify_sizes(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|(name, expected)| verify_size(&folder.join(name), expected))
    }
}

/// A folder being written. Dropped without [`Draft::commit`] it is removed; a killed run leaves
/// its temporary name, which the next one clears.
#[derive(Debug)]
pub struct Draft {
    target: PathBuf,
    folder: PathBuf,
}

impl Draft {
    /// Starts a folder that will be called `target`; a leftover of a killed run is removed.
    pub fn start(target: &Path) -> Result<Self> {
        let name =
            target.file_name().map_or_else(|| "out".into(), |name| name.to_string_lossy().into_owned());
        let folder = target.with_file_name(format!(".tmp-{name}"));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
        }
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(Self { target: target.to_owned(), folder })
    }

    /// Path of a file inside the draft.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Hashes and syncs every file, writes the manifest, and renames the folder into place.
    ///
    /// A finished folder that stood there before is moved aside first and removed after.
    ///
    /// # Panics
    /// Never: a manifest holds only JSON values.
    pub fn commit(self, format: &str, made_from: Value, content: Value) -> Result<Manifest> {
        let manifest = Manifest {
            format: format.to_owned(),
            triptych: crate::VERSION.to_owned(),
            made_from,
            content,
            files: hash_files(&self.folder)?,
        };
        let path = self.folder.join(FILE_NAME);
        let mut text = serde_json::to_string_pretty(&manifest).expect("a manifest holds only JSON values");
        text.push('\n');
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        sync(&path)?;
        sync(&self.folder)?;
        self.rename()?;
        Ok(manifest)
    }

    fn rename(&self) -> Result<()> {
        let old = self.folder.with_extension("old");
        if self.target.exists() {
            fs::rename(&self.target, &old).map_err(Error::io("move aside", &self.target))?;
        }
        fs::rename(&self.folder, &self.target).map_err(Error::io("rename into place", &self.target))?;
        if old.exists() {
            fs::remove_dir_all(&old).map_err(Error::io("remove", &old))?;
        }
        self.target.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // gone already after a commit
    }
}

/// SHA-256 of a file's content in hexadecimal, read in pieces of 1 MiB.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
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

fn hash_files(folder: &Path) -> Result<BTreeMap<String, FileEntry>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        sync(&path)?;
        let bytes = fs::metadata(&path).map_err(Error::io("read the size of", &path))?.len();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.insert(name, FileEntry { bytes, sha256: sha256_file(&path)? });
    }
    Ok(files)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

fn verify_size(path: &Path, expected: &FileEntry) -> Result<()> {
    let found = match fs::metadata(path) {
        Ok(metadata) if metadata.len() == expected.bytes => return Ok(()),
        Ok(metadata) => format!("{} bytes", metadata.len()),
        Err(error) => error.to_string(),
    };
    Err(Error::Integrity { path: path.to_owned(), expected: format!("{} bytes", expected.bytes), found })
}

fn verify_file(path: &Path, expected: &FileEntry) -> Result<()> {
    verify_size(path, expected)?;
    let found = sha256_file(path)?;
    if found == expected.sha256 {
        return Ok(());
    }
    Err(Error::Integrity {
        path: path.to_owned(),
        expected: format!("SHA-256 {}", expected.sha256),
        found: format!("SHA-256 {found}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn committed(target: &Path) -> Manifest {
        let draft = Draft::start(target).unwrap();
        fs::write(draft.path("a.bin"), b"hello").unwrap();
        draft.commit("test/1", json!({}), json!({})).unwrap()
    }

    #[test]
    fn a_committed_folder_verifies_and_a_flipped_bit_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        committed(&target);
        let manifest = Manifest::read(&target, "test/1").unwrap();
        manifest.verify(&target).unwrap();
        fs::write(target.join("a.bin"), b"hellp").unwrap();
        assert_eq!(manifest.verify(&target).unwrap_err().exit_status(), 4);
    }

    #[test]
    fn a_draft_that_is_not_committed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(Draft::start(&dir.path().join("out")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn committing_over_a_finished_folder_replaces_it_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        committed(&target);
        let draft = Draft::start(&target).unwrap();
        fs::write(draft.path("b.bin"), b"x").unwrap();
        draft.commit("test/1", json!({}), json!({})).unwrap();
        assert!(!target.join("a.bin").exists() && target.join("b.bin").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
