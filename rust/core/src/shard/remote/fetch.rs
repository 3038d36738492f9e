//! Copies a folder of token shards from a store into the cache, several files at once.
//!
//! What an interrupted run has fetched is gone on with, to the byte where the store can read from one. A file
//! gets its name when its hash is that of the manifest, the folder when all files have theirs.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{select, Either};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::part::{discard, Part};
use super::store::{failed, Store};
use super::Address;
use crate::error::{Error, Result};
use crate::manifest::{self, FileEntry, Manifest};
use crate::shard::{integrity, FORMAT};

/// Files that are fetched at once.
const FILES_AT_ONCE: usize = 4;
/// Tries of a file that bring nothing, one after another, before it is given up.
const MAX_TRIES: u32 = 3;
/// Wait before a second try; doubled for each more.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Time between two questions whether to stop.
const TICK: Duration = Duration::from_millis(50);
/// Largest manifest: that of some 400,000 files.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Hexadecimal digits of the manifest's hash that name its folder.
const NAME_DIGITS: usize = 32;

/// The copy of `address` in `cache`, made until somebody asks to stop, which is `Interrupted`.
pub(super) fn fetch(address: &Address, cache: &Path, is_stopped: &dyn Fn() -> bool) -> Result<PathBuf> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start a runtime for", address.file("")))?;
    let store = Store::open(address)?;
    let (manifest, text) = runtime.block_on(until(is_stopped, read_manifest(&store)))?;
    fs::create_dir_all(cache).map_err(Error::io("create", cache))?;
    let name = &manifest::sha256(&text)[..NAME_DIGITS];
    let _lock = runtime.block_on(until(is_stopped, lock(&cache.join(format!(".lock-{name}")))))?;
    let folder = cache.join(name);
    if folder.is_dir() {
        if is_whole(&folder, &manifest, &text) {
            return Ok(folder);
        }
        fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?; // somebody has cut it
    }
    let draft = cache.join(format!(".tmp-{name}"));
    fs::create_dir_all(&draft).map_err(Error::io("create", &draft))?;
    runtime.block_on(until(is_stopped, fetch_files(&store, &manifest, &draft)))?;
    write_synced(&draft.join(manifest::FILE_NAME), &text)?;
    fs::rename(&draft, &folder).map_err(Error::io("rename into place", &folder))?;
    Ok(folder)
}

/// Whether a folder of the cache is as it was made, as far as sizes tell.
fn is_whole(folder: &Path, manifest: &Manifest, text: &[u8]) -> bool {
    let copy = fs::read(folder.join(manifest::FILE_NAME));
    copy.is_ok_and(|copy| copy == text) && manifest.verify_sizes(folder).is_ok()
}

/// Work that ends when somebody asks to stop: what comes from far may take hours.
async fn until<T>(is_stopped: &dyn Fn() -> bool, work: impl Future<Output = Result<T>>) -> Result<T> {
    let stopped = async {
        while !is_stopped() {
            tokio::time::sleep(TICK).await;
        }
    };
    match select(pin!(work), pin!(stopped)).await {
        Either::Left((done, _)) => done,
        Either::Right(_) => Err(Error::Interrupted),
    }
}

/// Waits until no other process fetches the same folder.
async fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => tokio::time::sleep(TICK).await,
            Err(TryLockError::Error(error)) if error.kind() != std::io::ErrorKind::Unsupported => {
                return Err(Error::io("lock", path)(error));
            }
            _ => return Ok(file),
        }
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", path))
}

/// The manifest, checked, and its bytes.
async fn read_manifest(store: &Store) -> Result<(Manifest, Vec<u8>)> {
    let path = store.file(manifest::FILE_NAME);
    let mut tries = Tries::default();
    let text = loop {
        match manifest_bytes(store, &path).await {
            Ok(text) => break text?,
            Err(error) => tries.failed(failed(path.clone(), &error), false).await?,
        }
    };
    let expected = || format!("a manifest of format `{FORMAT}`");
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| integrity(&path, expected(), error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(integrity(&path, format!("format `{FORMAT}`"), format!("`{}`", manifest.format)));
    }
    let mut names = HashSet::new();
    match manifest.files.keys().find(|name| !is_plain(name) || !names.insert(name.to_lowercase())) {
        Some(name) => Err(integrity(&path, "names of files in the folder, each once", format!("`{name}`"))),
        None => Ok((manifest, text)),
    }
}

/// A name that can only be that of a file in its folder.
fn is_plain(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.starts_with('.') && name != manifest::FILE_NAME && !name.is_empty() && name.bytes().all(is_known)
}

/// The bytes of the manifest; an error of the store may pass, one of ours not.
async fn manifest_bytes(store: &Store, path: &Path) -> object_store::Result<Result<Vec<u8>>> {
    let mut body = match store.get(manifest::FILE_NAME, 0).await {
        Err(object_store::Error::NotFound { .. }) => {
            let expected =
                format!("a finished folder of format `{FORMAT}`, with a `{}`", manifest::FILE_NAME);
            return Ok(Err(Error::NoInput { path: path.to_owned(), expected }));
        }
        body => body?,
    };
    let mut text = Vec::new();
    while let Some(bytes) = body.stream.try_next().await? {
        text.extend_from_slice(&bytes);
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            let expected = format!("a manifest of at most {MAX_MANIFEST_BYTES} bytes");
            return Ok(Err(integrity(path, expected, "more")));
        }
    }
    Ok(Ok(text))
}

async fn fetch_files(store: &Store, manifest: &Manifest, draft: &Path) -> Result<()> {
    let fetches = manifest.files.iter().map(|(name, entry)| fetch_file(store, name, entry, draft.join(name)));
    stream::iter(fetches).buffer_unordered(FILES_AT_ONCE).try_collect().await
}

async fn fetch_file(store: &Store, name: &str, entry: &FileEntry, target: PathBuf) -> Result<()> {
    if fs::metadata(&target).is_ok_and(|found| found.len() == entry.bytes) {
        return Ok(()); // of an earlier run, which checked its hash
    }
    let (mut tries, mut has_ranges) = (Tries::default(), true);
    loop {
        let mut part = Part::open(&target)?;
        let before = part.bytes();
        let first_byte = if has_ranges { before } else { 0 };
        match add(store, name, entry, &mut part, first_byte).await {
            Ok(()) => match part.finish(entry)? {
                Ok(()) => return Ok(()),
                Err(found) => tries.damaged(store, name, entry, &format!("SHA-256 {found}"))?,
            },
            Err(Failure::OtherSize) => {
                discard(&target)?;
                tries.damaged(store, name, entry, "another size")?;
            }
            Err(Failure::Ours(error)) => return Err(error),
            Err(Failure::Cut(error)) => {
                let has_gained = part.bytes() > before;
                has_ranges = has_gained || before == 0; // else the store may not begin at any byte
                tries.failed(error, has_gained).await?;
            }
        }
    }
}

/// Why a file is not whole yet.
enum Failure {
    /// It is not the file of the manifest.
    OtherSize,
    /// The store or the connection failed: what came stays.
    Cut(Error),
    /// This machine failed.
    Ours(Error),
}

/// Fetches what is missing of a file, from a byte on that may lie before it.
async fn add(
    store: &Store,
    name: &str,
    entry: &FileEntry,
    part: &mut Part,
    first_byte: u64,
) -> std::result::Result<(), Failure> {
    let cut = |error| Failure::Cut(failed(store.file(name), &error));
    if part.bytes() > entry.bytes {
        return Err(Failure::OtherSize);
    }
    if part.bytes() < entry.bytes || entry.bytes == 0 {
        let mut body = store.get(name, first_byte).await.map_err(cut)?;
        let mut known = (part.bytes() - first_byte) as usize;
        if body.bytes != entry.bytes {
            return Err(Failure::OtherSize);
        }
        while let Some(bytes) = body.stream.try_next().await.map_err(cut)? {
            let skipped = known.min(bytes.len());
            known -= skipped;
            let bytes = &bytes[skipped..];
            if part.bytes() + bytes.len() as u64 > entry.bytes {
                return Err(Failure::OtherSize);
            }
            part.append(bytes).map_err(Failure::Ours)?;
        }
    }
    if part.bytes() == entry.bytes {
        return Ok(());
    }
    let found = format!("an end after {} of {} bytes", part.bytes(), entry.bytes);
    Err(Failure::Cut(Error::Io {
        action: "fetch",
        path: store.file(name),
        source: std::io::Error::other(found),
    }))
}

/// What went wrong with a file so far.
#[derive(Default)]
struct Tries {
    /// Tries without a byte, one after another.
    fruitless: u32,
    is_damaged: bool,
}

impl Tries {
    /// Waits before the next try, or gives up.
    async fn failed(&mut self, error: Error, has_gained: bool) -> Result<()> {
        self.fruitless = if has_gained { 1 } else { self.fruitless + 1 };
        let is_final = matches!(&error, Error::Io { source, .. } if matches!(
            source.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
        ));
        if is_final || self.fruitless >= MAX_TRIES {
            return Err(error);
        }
        tokio::time::sleep(FIRST_WAIT * 2_u32.pow(self.fruitless - 1)).await;
        Ok(())
    }

    /// A file of other content is fetched once more from its first byte, since a part of it may be old.
    fn damaged(&mut self, store: &Store, name: &str, entry: &FileEntry, found: &str) -> Result<()> {
        if std::mem::replace(&mut self.is_damaged, true) {
            let expected = format!("{} bytes of SHA-256 {}", entry.bytes, entry.sha256);
            return Err(integrity(store.file(name), expected, found));
        }
        Ok(())
    }
}
