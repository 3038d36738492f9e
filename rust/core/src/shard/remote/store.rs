//! The store behind an address: S3, Google Cloud Storage, or a web server.
//!
//! Credentials, endpoints and regions are those of the environment, by the names that the clouds' own tools
//! read: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AWS_SKIP_SIGNATURE`, `GOOGLE_APPLICATION_CREDENTIALS`, …

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{
    BackoffConfig, ClientConfigKey, GetOptions, GetRange, GetResult, ObjectStore, RetryConfig,
};

use super::Address;
use crate::error::{Error, Result};

/// Longest silence of a connection.
const READ_TIMEOUT: &str = "30 seconds";
const CONNECT_TIMEOUT: &str = "10 seconds";
/// Longest time of a whole file: silence is what ends it.
const WHOLE_TIMEOUT: &str = "7 days";

/// Characters of a store's message that are shown: those of S3 name their code in the first 200.
const MAX_SHOWN_CHARS: usize = 500;

/// A folder of a store.
pub(super) struct Store {
    address: Address,
    objects: Box<dyn ObjectStore>,
    folder: ObjectPath,
}

/// A file on its way: its whole size, and the bytes asked for.
pub(super) struct Body {
    pub bytes: u64,
    pub stream: BoxStream<'static, object_store::Result<bytes::Bytes>>,
}

impl Store {
    pub fn open(address: &Address) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default(); // set already, after the first
        let fault = |error: object_store::Error| failed(address.file(""), &error);
        let folder = match address.scheme {
            "s3" | "gs" => ObjectPath::parse(&address.folder),
            _ => ObjectPath::from_url_path(&address.folder), // `%20` is a space there
        };
        let folder = folder.map_err(|error| fault(error.into()))?;
        let objects = match address.scheme {
            "s3" => s3(&address.root),
            "gs" => google(&address.root),
            _ => web(address),
        };
        let objects = objects.map_err(fault)?;
        Ok(Self { address: address.clone(), objects, folder })
    }

    /// The address of a file, for messages.
    pub fn file(&self, name: &str) -> PathBuf {
        self.address.file(name)
    }

    /// A file from a byte on.
    pub async fn get(&self, name: &str, first_byte: u64) -> object_store::Result<Body> {
        let range = (first_byte > 0).then_some(GetRange::Offset(first_byte));
        let options = GetOptions { range, ..GetOptions::default() };
        let found: GetResult = self.objects.get_opts(&self.folder.clone().join(name), options).await?;
        Ok(Body { bytes: found.meta.size, stream: Box::pin(found.into_stream().into_stream()) })
    }
}

/// An error of a store as one of ours.
pub(super) fn failed(path: PathBuf, error: &object_store::Error) -> Error {
    let shown = shown(error);
    let advice = advice(&path, &shown);
    let kind = match error {
        object_store::Error::NotFound { .. } => std::io::ErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            std::io::ErrorKind::PermissionDenied
        }
        _ if advice.is_some() => std::io::ErrorKind::PermissionDenied, // to try again changes nothing
        _ => std::io::ErrorKind::Other,
    };
    let found = advice.map_or_else(|| shown.clone(), |advice| format!("{advice} ({shown})"));
    Error::Io { action: "fetch", path, source: std::io::Error::new(kind, found) }
}

/// What to do about a message of a store that does not say it.
fn advice(path: &Path, shown: &str) -> Option<&'static str> {
    let is_google = path.starts_with("gs:");
    if ["//169.254.169.254/", "//metadata.google.internal/"].iter().any(|host| shown.contains(host)) {
        return Some(if is_google {
            "expected credentials, found none: set `GOOGLE_APPLICATION_CREDENTIALS`, or `GOOGLE_SKIP_SIGNATURE=true` for a public bucket"
        } else {
            "expected credentials, found none: set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_SKIP_SIGNATURE=true` for a public bucket"
        });
    }
    let is_refused = path.starts_with("s3:") && shown.contains(" http://") && shown.contains("builder error");
    is_refused.then_some("expected an endpoint of `https://`: for one of `http://` that is not this machine, set `AWS_ALLOW_HTTP=true`")
}

/// What a store says, on one line: with it comes the whole page that a server sent, of any size.
fn shown(error: &object_store::Error) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().take(MAX_SHOWN_CHARS).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn s3(bucket: &str) -> object_store::Result<Box<dyn ObjectStore>> {
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry());
    let builder = client(endpoint_is_here(&["AWS_ENDPOINT_URL", "AWS_ENDPOINT"]))
        .fold(builder, |builder, (key, value)| builder.with_config(AmazonS3ConfigKey::Client(key), value));
    Ok(Box::new(builder.build()?))
}

fn google(bucket: &str) -> object_store::Result<Box<dyn ObjectStore>> {
    let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry());
    let builder = client(endpoint_is_here(&["GOOGLE_BASE_URL"]))
        .fold(builder, |builder, (key, value)| builder.with_config(GoogleConfigKey::Client(key), value));
    Ok(Box::new(builder.build()?))
}

fn web(address: &Address) -> object_store::Result<Box<dyn ObjectStore>> {
    let Address { scheme, root, .. } = address;
    let builder = HttpBuilder::new().with_url(format!("{scheme}://{root}")).with_retry(retry());
    let builder =
        client(address.is_here()).fold(builder, |builder, (key, value)| builder.with_config(key, value));
    Ok(Box::new(builder.build()?))
}

/// Settings of connections, beside those of the environment; a server on this machine needs no TLS.
fn client(is_here: bool) -> impl Iterator<Item = (ClientConfigKey, &'static str)> {
    let settings = [
        (ClientConfigKey::Timeout, WHOLE_TIMEOUT),
        (ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT),
        (ClientConfigKey::ReadTimeout, READ_TIMEOUT),
    ];
    settings.into_iter().chain(is_here.then_some((ClientConfigKey::AllowHttp, "true")))
}

fn endpoint_is_here(variables: &[&str]) -> bool {
    let endpoint = variables.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"]
        .iter()
        .any(|start| endpoint.starts_with(start))
}

/// Of single requests; files that end early are gone on with by [`super::fetch`].
fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 2, retry_timeout: Duration::from_secs(60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_credentials_are_is_said_what_to_set() {
        let asked = "Generic error: Error performing PUT http://169.254.169.254/latest/api/token in 3s";
        let advice = |path: &str, shown| advice(Path::new(path), shown).unwrap_or_default();
        assert!(advice("s3://bucket/tokens", asked).contains("AWS_ACCESS_KEY_ID"));
        assert!(advice("gs://bucket/tokens", asked).contains("GOOGLE_APPLICATION_CREDENTIALS"));
        assert_eq!(advice("s3://bucket/tokens", "Error performing GET https://s3.amazonaws.com/"), "");
    }
}
