//! Token shards at an address (`s3://`, `gs://`, `https://`): copied to a cache folder, then read like any other.
//!
//! Nothing is asked of the network unless the path is such an address. The cache is a folder for each
//! manifest, named by its hash, so what has changed there is another folder here; every file is checked
//! against the manifest before it counts.

#[cfg(feature = "remote")]
mod fetch;
#[cfg(feature = "remote")]
mod part;
#[cfg(feature = "remote")]
mod store;

use std::borrow::Cow;
use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Environment variable that names the cache folder.
pub const CACHE_VARIABLE: &str = "TRIPTYCH_CACHE";

/// Schemes of addresses; `http` is for this machine alone.
const SCHEMES: [&str; 4] = ["s3", "gs", "https", "http"];

/// Where shards lie that are not on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    scheme: &'static str,
    /// The bucket, or the host with its port.
    root: String,
    /// Path of the folder under that, without slashes at its ends.
    folder: String,
}

impl Address {
    /// Reads `path` as an address; `None` if it is a path of this machine.
    ///
    /// `s3:/bucket` is `s3://bucket`, since libraries of paths make one slash of two.
    fn parse(path: &Path) -> Option<Result<Self>> {
        let text = path.to_str()?;
        let (scheme, rest) = text.split_once(":/")?;
        let scheme = SCHEMES.iter().find(|known| **known == scheme)?;
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let (root, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let address = Self { scheme, root: root.to_owned(), folder: folder.trim_matches('/').to_owned() };
        Some(address.checked(text))
    }

    fn checked(self, text: &str) -> Result<Self> {
        let expected = if self.root.is_empty() || self.root.contains('@') {
            "a bucket, or a host without a password, behind the scheme"
        } else if text.contains(['?', '#']) {
            "no query and no fragment"
        } else if self.scheme == "http" && !self.is_here() {
            "`https://`, as `http://` is for addresses of this machine alone"
        } else {
            return Ok(self);
        };
        let what = "address of token shards".to_owned();
        Err(Error::InvalidValue {
            what,
            expected: expected.to_owned(),
            found: format!("`{}`", without_secrets(text)),
        })
    }

    fn is_here(&self) -> bool {
        let host = self.root.rsplit_once(':').map_or(&*self.root, |(host, _)| host);
        matches!(host, "localhost" | "127.0.0.1" | "[::1]")
    }

    /// The address of a file in the folder, for messages.
    fn file(&self, name: &str) -> PathBuf {
        let Self { scheme, root, folder } = self;
        let slash = if folder.is_empty() { "" } else { "/" };
        PathBuf::from(format!("{scheme}://{root}/{folder}{slash}{name}"))
    }
}

/// An address as it may stand in a message: without a password before its host, or a token in its query.
fn without_secrets(text: &str) -> String {
    let (address, query) = text.split_once(['?', '#']).map_or((text, ""), |(address, _)| (address, "?…"));
    let scheme = address.find("://").map_or("", |end| &address[..end + 3]);
    match address[scheme.len()..].rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}…@{rest}{query}"),
        None => format!("{address}{query}"),
    }
}

/// The folder on this machine with what stands at `address`: itself, or its copy in the cache, which
/// is made or completed first. The cache is `TRIPTYCH_CACHE`, or `triptych` in the user's cache folder.
///
/// # Errors
/// `NoInput` if no token shards are there, `Integrity` for content that is not as its manifest says, `Io`
/// if it cannot be fetched, `InvalidValue` for a malformed address.
pub fn local_folder(address: &Path) -> Result<Cow<'_, Path>> {
    local_folder_until(address, None, &|| false)
}

/// As [`local_folder`], with the cache named.
///
/// # Errors
/// As [`local_folder`].
pub fn local_folder_in<'a>(address: &'a Path, cache: &Path) -> Result<Cow<'a, Path>> {
    local_folder_until(address, Some(cache), &|| false)
}

/// As [`local_folder`], with the cache named or not, until somebody asks to stop; what is there by then stays.
///
/// # Errors
/// As [`local_folder`], and `Interrupted`.
pub fn local_folder_until<'a>(
    address: &'a Path,
    cache: Option<&Path>,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Cow<'a, Path>> {
    match Address::parse(address) {
        None => Ok(Cow::Borrowed(address)),
        Some(parsed) => {
            let cache = cache.map_or_else(cache_folder, Path::to_owned);
            fetch(&parsed?, &cache, is_stopped).map(Cow::Owned)
        }
    }
}

#[cfg(feature = "remote")]
fn fetch(address: &Address, cache: &Path, is_stopped: &dyn Fn() -> bool) -> Result<PathBuf> {
    fetch::fetch(address, cache, is_stopped)
}

#[cfg(not(feature = "remote"))]
fn fetch(address: &Address, _: &Path, _: &dyn Fn() -> bool) -> Result<PathBuf> {
    Err(Error::InvalidValue {
        what: "token shards".to_owned(),
        expected: "a folder of this machine, as this build has no remote shards (feature `remote`)"
            .to_owned(),
        found: format!("`{}`", address.file("").display()),
    })
}

fn cache_folder() -> PathBuf {
    let named = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = || {
        let folder = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
        folder.unwrap_or_else(env::temp_dir).join("triptych")
    };
    named(CACHE_VARIABLE).unwrap_or_else(of_user).join("tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_machine_are_left_alone_and_addresses_read() {
        for path in ["tokens", "/a/b", "a:/b", "s3", "ftp://a/b", "./s3:x"] {
            assert!(Address::parse(Path::new(path)).is_none(), "{path}");
            assert_eq!(local_folder(Path::new(path)).unwrap(), Path::new(path));
        }
        let address = |scheme, root: &str, folder: &str| Address {
            scheme,
            root: root.to_owned(),
            folder: folder.to_owned(),
        };
        let cases = [
            ("s3://bucket/a/b/", address("s3", "bucket", "a/b")),
            ("gs:/bucket", address("gs", "bucket", "")),
            ("https://host:8443/x", address("https", "host:8443", "x")),
            ("http://127.0.0.1:80/x", address("http", "127.0.0.1:80", "x")),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse(Path::new(text)).unwrap().unwrap(), expected);
        }
    }

    #[test]
    fn malformed_addresses_are_refused_before_anything_is_asked() {
        for text in ["s3://", "https://u:p@host/x", "https://host/x?sig=1", "http://example.org/x"] {
            let error = local_folder(Path::new(text)).unwrap_err();
            assert_eq!(error.exit_status(), 2, "{error}");
        }
    }

    #[test]
    fn a_refused_address_is_named_without_its_password_or_token() {
        let cases = [
            ("https://joe:hunter2@host/x", "`https://…@host/x`"),
            ("https://joe:hunter2@host/x?sig=hunter2", "`https://…@host/x?…`"),
            ("s3://bucket/x?token=hunter2@home", "`s3://bucket/x?…`"),
            ("https:/hunter2@host/x#hunter2", "`…@host/x?…`"),
            ("http://example.org/x", "`http://example.org/x`"),
        ];
        for (text, shown) in cases {
            let error = local_folder(Path::new(text)).unwrap_err().to_string();
            assert!(error.ends_with(&format!("found {shown}")), "{error}");
        }
    }
}
