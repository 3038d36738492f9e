//! A folder being written: under a temporary name beside its final one, locked, synced,
//! listed in its manifest, and renamed. A folder under its final name is complete.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::manifest::{self, FileEntry, Manifest};

/// Name of the file in a draft that tells how far its run is; no part of the artefact.
pub const STATUS_NAME: &str = "status.json";

/// Files that are synced at the same time, at most.
const MAX_SYNCS: usize = 8;

/// A folder that is not finished yet.
///
/// Dropped without [`Draft::commit`] it is removed, unless [`Draft::keep`] was called; a
/// killed run leaves its temporary name.
#[derive(Debug)]
pub struct Draft {
    target: PathBuf,
    folder: PathBuf,
    keeps: Cell<bool>,
    /// Files that are complete, synced and hashed.
    known: RefCell<BTreeMap<String, FileEntry>>,
    /// Open and locked as long as the draft is being written; the system unlocks it when a run is killed.
    _lock: Option<File>,
}

impl Draft {
    /// Starts a folder that will be called `target`; a leftover of a killed run is cleared.
    ///
    /// # Errors
    /// `InvalidValue` if another run is writing it.
    pub fn start(target: &Path) -> Result<Self> {
        let draft = Self::resume(target)?;
        draft.clear()?;
        Ok(draft)
    }

    /// As [`Draft::start`], but a leftover stays as it is.
    pub fn resume(target: &Path) -> Result<Self> {
        let target = place_of(target)?;
        let folder = target.with_file_name(format!(".tmp-{}", file_name(&target)));
        make(&folder, &target)?;
        let lock = lock(&folder, &target)?;
        remove_links(&folder)?;
        Ok(Self { target, folder, keeps: Cell::new(false), known: RefCell::default(), _lock: lock })
    }

    /// Removes every file of the draft.
    pub fn clear(&self) -> Result<()> {
        self.remove_all_but(|_| false)
    }

    /// Removes the files of whose names `stays` is false.
    pub fn remove_all_but(&self, stays: impl Fn(&str) -> bool) -> Result<()> {
        for entry in fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))? {
            let path = entry.map_err(Error::io("list", &self.folder))?.path();
            if !stays(&file_name(&path)) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// From now on what is written stays if the run fails, to be resumed.
    pub fn keep(&self) {
        self.keeps.set(true);
    }

    /// A file inside the draft is complete and on the disk, with this size and hash.
    pub fn know(&self, path: &Path, entry: FileEntry) {
        self.known.borrow_mut().insert(file_name(path), entry);
    }

    /// Path of a file inside the draft.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Hashes and syncs every file that is not known, writes the manifest, and renames the folder into place.
    ///
    /// A finished folder that stood there before is moved aside first and removed after.
    pub fn commit(self, format: &str, made_from: Value, content: Value) -> Result<Manifest> {
        let manifest = Manifest {
            format: format.to_owned(),
            triptych: crate::VERSION.to_owned(),
            made_from,
            content,
            files: self.entries()?,
        };
        let path = self.folder.join(manifest::FILE_NAME);
        write_json(&path, &manifest)?;
        sync(&path)?;
        sync(&self.folder)?;
        let _ = fs::remove_file(self.path(STATUS_NAME)); // told how far the run was
        self.rename()?;
        Ok(manifest)
    }

    fn entries(&self) -> Result<BTreeMap<String, FileEntry>> {
        let (mut files, mut unknown) = (BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))? {
            let path = entry.map_err(Error::io("list", &self.folder))?.path();
            let name = file_name(&path);
            match self.known.borrow_mut().remove(&name) {
                Some(known) => drop(files.insert(name, known)),
                None if name == STATUS_NAME => {}
                None => unknown.push(path),
            }
        }
        sync_together(&unknown)?;
        for path in unknown {
            files.insert(file_name(&path), hash(&path)?);
        }
        Ok(files)
    }

    fn rename(&self) -> Result<()> {
        // A name that no draft has: `.tmp-x.old` is that of `x.old`.
        let old = self.target.with_file_name(format!(".tmp-.old-{}", file_name(&self.target)));
        if old.exists() {
            fs::remove_dir_all(&old).map_err(Error::io("remove", &old))?; // of a run killed between the renames
        }
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

/// Writes JSON for people to read, piece by piece: of 100,000 files the text is tens of megabytes long.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let write = || {
        let mut out = BufWriter::new(File::create(path)?);
        serde_json::to_writer_pretty(&mut out, value)?;
        out.write_all(b"\n")?;
        out.flush()
    };
    write().map_err(Error::io("write", path))
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keeps.get() {
            let _ = fs::remove_dir_all(&self.folder); // gone already after a commit
        }
    }
}

/// Where the folder will be, checked before any work is done: a link is followed, since a rename would take its place.
fn place_of(target: &Path) -> Result<PathBuf> {
    let refused = |expected: &str, found: &str| Error::InvalidValue {
        what: format!("output `{}`", target.display()),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    let mut place: PathBuf = target.components().collect(); // without a `/` at the end, which would hide a link
    if place.is_symlink() {
        let nowhere = |_| refused("a folder, or a link to one", "a link that leads nowhere");
        place = fs::canonicalize(&place).map_err(nowhere)?;
    }
    if place.file_name().is_none() {
        return Err(refused("a folder with a name of its own, since it is renamed into place", "none"));
    }
    if is_mount(&place) {
        return Err(refused(
            "a folder below it, since it is renamed into place",
            "a place where a disk is mounted",
        ));
    }
    Ok(place)
}

/// True if a folder is on another file system than the one around it.
#[cfg(unix)]
fn is_mount(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let around = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    device(folder).zip(device(around)).is_some_and(|(own, other)| own != other)
}

#[cfg(not(unix))]
fn is_mount(_: &Path) -> bool {
    false
}

/// Makes the folder of a draft, or takes what a killed run has left of it.
///
/// Never what a link leads to: whoever can write beside the output would choose the folder that is cleared.
fn make(folder: &Path, target: &Path) -> Result<()> {
    if let Some(around) = folder.parent() {
        fs::create_dir_all(around).map_err(Error::io("create", around))?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Error::io("create", folder)(error)),
        Err(_) if !fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir()) => {
            Err(Error::InvalidValue {
                what: format!("output `{}`", target.display()),
                expected: format!("to write it as `{}` first", folder.display()),
                found: "something else by that name, as a link: remove it, or choose another output"
                    .to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// Removes links from a draft: no run leaves one, and what is written to it would land elsewhere.
fn remove_links(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.is_symlink() {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Locks a folder against other runs; `None` where the system has no such locks.
fn lock(folder: &Path, target: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InvalidValue {
            what: format!("output `{}`", target.display()),
            expected: "a folder that no other run is writing".to_owned(),
            found: format!("`{}` locked by a run that has not ended", folder.display()),
        }),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn hash(path: &Path) -> Result<FileEntry> {
    let bytes = fs::metadata(path).map_err(Error::io("read the size of", path))?.len();
    Ok(FileEntry { bytes, sha256: manifest::sha256_file(path)? })
}

/// Syncs files at the same time: the file system then writes its journal once for several, where each waited
/// for a turn of its own: 21 ms for the five of a run.
fn sync_together(paths: &[PathBuf]) -> Result<()> {
    for some in paths.chunks(MAX_SYNCS) {
        thread::scope(|scope| {
            let start = |path| thread::Builder::new().spawn_scoped(scope, move || sync(path));
            let threads: Vec<_> = some.iter().map(|path| start(path)).collect();
            let mut ended = threads.into_iter().zip(some).map(|(thread, path)| match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_) => sync(path), // no thread is to be had
            });
            ended.try_for_each(|result| result)
        })?;
    }
    Ok(())
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
    fn a_draft_to_be_kept_stays_and_is_resumed_or_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let draft = Draft::resume(&target).unwrap();
        fs::write(draft.path("a.bin"), b"hello").unwrap();
        draft.keep();
        drop(draft);
        let draft = Draft::resume(&target).unwrap();
        assert!(draft.path("a.bin").exists());
        drop(draft);
        assert!(!Draft::start(&target).unwrap().path("a.bin").exists());
    }

    #[test]
    fn a_folder_that_is_being_written_is_refused_to_another_run() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let draft = Draft::start(&target).unwrap();
        assert_eq!(Draft::start(&target).unwrap_err().exit_status(), 2);
        drop(draft);
        Draft::start(&target).unwrap();
    }

    #[test]
    fn committing_leaves_the_draft_of_a_folder_with_a_longer_name_alone() {
        let dir = tempfile::tempdir().unwrap();
        let other = Draft::start(&dir.path().join("out.old")).unwrap();
        fs::write(other.path("a.bin"), b"hello").unwrap();
        for _ in 0..2 {
            committed(&dir.path().join("out"));
            committed(&dir.path().join("out.v2"));
        }
        assert!(other.path("a.bin").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_and_a_place_that_cannot_be_renamed_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(Draft::start(&link).unwrap_err().exit_status(), 2);
        fs::create_dir(&real).unwrap();
        committed(&link);
        assert!(link.is_symlink() && real.join("a.bin").exists());
        for place in [".", "..", "/proc"] {
            assert_eq!(Draft::start(Path::new(place)).unwrap_err().exit_status(), 2, "{place}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_where_a_draft_would_be_or_inside_it_leads_to_nothing_that_is_touched() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (mine, target) = (dir.path().join("mine"), dir.path().join("out"));
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("diary.txt"), b"dear").unwrap();
        symlink(&mine, dir.path().join(".tmp-out")).unwrap();
        let error = Draft::start(&target).unwrap_err();
        assert_eq!(error.exit_status(), 2, "{error}");
        assert!(error.to_string().contains(".tmp-out"), "{error}");
        fs::remove_file(dir.path().join(".tmp-out")).unwrap();
        fs::create_dir(dir.path().join(".tmp-out")).unwrap();
        symlink(mine.join("diary.txt"), dir.path().join(".tmp-out/a.bin")).unwrap();
        let draft = Draft::resume(&target).unwrap();
        fs::write(draft.path("a.bin"), b"hello").unwrap();
        draft.commit("test/1", json!({}), json!({})).unwrap();
        assert_eq!(fs::read(mine.join("diary.txt")).unwrap(), b"dear");
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
