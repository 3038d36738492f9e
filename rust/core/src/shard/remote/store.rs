//! The store behind an address: S3, Google Cloud Storage, or a web server.
//!
//! Credentials, endpoints and regions are those of the environment, by the names that the clouds' own tools
//! read: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AWS_SKIP_SIGNATURE`, `GOOGLE_APPLICATION_CREDENTIALS`, …

use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectStore, RetryConfig};

use super::Address;
use crate::error::{Error, Result};

/// Longest silence of a connection.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
        let fault = |error: object_store::Error| failed(address.file(""), error);
        let folder = ObjectPath::parse(&address.folder).map_err(|error| fault(error.into()))?;
        let (root, retry) = (&address.root, retry());
        let options = options(address);
        let objects: Box<dyn ObjectStore> = match address.scheme {
            "s3" => {
                let builder = AmazonS3Builder::from_env().with_bucket_name(root).with_retry(retry);
                Box::new(builder.with_client_options(options).build().map_err(fault)?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(root).with_retry(retry);
                Box::new(builder.with_client_options(options).build().map_err(fault)?)
            }
            scheme => {
                let builder = HttpBuilder::new().with_url(format!("{scheme}://{root}")).with_retry(retry);
                Box::new(builder.with_client_options(options).build().map_err(fault)?)
            }
        };
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
pub(super) fn failed(path: PathBuf, error: object_store::Error) -> Error {
    let kind = match &error {
        object_store::Error::NotFound { .. } => std::io::ErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            std::io::ErrorKind::PermissionDenied
        }
        _ => std::io::ErrorKind::Other,
    };
    Error::Io { action: "fetch", path, source: std::io::Error::new(kind, error) }
}

fn options(address: &Address) -> ClientOptions {
    let options = ClientOptions::new().with_allow_http(address.is_here() || endpoint_is_here());
    options.with_timeout_disabled().with_connect_timeout(CONNECT_TIMEOUT).with_read_timeout(READ_TIMEOUT)
}

/// An S3 server on this machine, as in tests, needs no TLS.
fn endpoint_is_here() -> bool {
    let endpoint = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT"].iter().find_map(|name| std::env::var(name).ok());
    let is_here = |url: &str| {
        ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|start| url.starts_with(start))
    };
    endpoint.is_some_and(|url| is_here(&url))
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
