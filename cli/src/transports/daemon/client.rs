//! A client of the daemon's HTTP API (Docker Engine API). It does not interpret what the daemon
//! reports of an image.

pub(crate) mod load;

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use imgsync_oci::manifest::Platform;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::address::DaemonAddress;
use crate::image::Error;

/// The characters of a path segment that are percent-encoded.
const PATH_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':');
/// The largest response in bytes, except for an export.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
/// The timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a request other than an export. An export has none: the classic store writes
/// every layer to a temporary folder before it sends the first byte.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// The most chunks of an export that wait for the reader; a chunk has a few hundred KiB at most.
const MAX_QUEUED_CHUNKS: usize = 8;

/// The version of a daemon's API: major, minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(pub(super) u32, pub(super) u32);

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }

    /// Returns whether an export can be limited to that many platforms (Docker Engine API, "Export
    /// an image"). Older daemons ignore the parameter.
    pub(super) fn can_export_platforms(self, platforms: usize) -> bool {
        self >= Self(1, 52) || (platforms == 1 && self >= Self(1, 48))
    }
}

/// A client of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct DaemonClient {
    client: Client,
    base: String,
    address: DaemonAddress,
}

impl DaemonClient {
    /// Returns a client of the daemon at `address`, without connecting yet.
    ///
    /// # Errors
    /// Returns an error if the HTTP client cannot be built.
    pub(crate) fn new(address: DaemonAddress) -> Result<Self, Error> {
        let builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT);
        let (builder, base) = match &address {
            DaemonAddress::Socket(path) => (
                builder.unix_socket(path.as_path()),
                "http://localhost".to_owned(),
            ),
            DaemonAddress::Tcp(authority) => (builder, format!("http://{authority}")),
        };
        let client = builder
            .build()
            .map_err(|error| unreachable(&address, &error))?;
        Ok(Self {
            client,
            base,
            address,
        })
    }

    /// Returns the address.
    pub(crate) fn address(&self) -> &DaemonAddress {
        &self.address
    }

    /// Describes an image; with `manifests`, each of its platforms, too (since API 1.48).
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, has no such image, or refuses.
    pub(super) async fn inspect<T: DeserializeOwned>(
        &self,
        name: &str,
        manifests: bool,
    ) -> Result<T, Error> {
        let query = if manifests { "?manifests=true" } else { "" };
        let path = format!(
            "images/{}/json{query}",
            utf8_percent_encode(name, PATH_ENCODE_SET)
        );
        let response = self.get(&path, Some(RESPONSE_TIMEOUT), name).await?;
        self.json(response).await
    }

    /// Describes the daemon, and returns the version of its API if it reports one.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(super) async fn info<T: DeserializeOwned>(&self) -> Result<(T, Option<ApiVersion>), Error> {
        let response = self.get("info", Some(RESPONSE_TIMEOUT), "").await?;
        let api = response.headers().get("api-version");
        let api = api.and_then(|api| ApiVersion::parse(api.to_str().ok()?));
        Ok((self.json(response).await?, api))
    }

    /// Exports an image as an archive, with the given platforms or, if there are none, with all.
    /// Later errors come from the returned stream.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, has no such image, or refuses.
    pub(super) async fn export(
        &self,
        name: &str,
        platforms: &[Platform],
    ) -> Result<ExportStream, Error> {
        let mut path = format!("images/{}/get", utf8_percent_encode(name, PATH_ENCODE_SET));
        for (position, platform) in platforms.iter().enumerate() {
            let platform = serde_json::json!(platform).to_string();
            path.push(if position == 0 { '?' } else { '&' });
            let encoded = utf8_percent_encode(&platform, PATH_ENCODE_SET);
            path.push_str(&format!("platform={encoded}"));
        }
        let mut response = self.get(&path, None, name).await?;
        let (sender, chunks) = mpsc::channel(MAX_QUEUED_CHUNKS);
        tokio::spawn(async move {
            loop {
                let chunk = match response.chunk().await {
                    Ok(Some(chunk)) => Ok(chunk),
                    Ok(None) => return,
                    Err(error) => Err(io::Error::other(innermost(&error))),
                };
                let is_last = chunk.is_err();
                // A reader that has enough drops the stream; the connection is closed then.
                if sender.send(chunk).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(ExportStream {
            chunks,
            rest: Bytes::new(),
        })
    }

    async fn get(&self, path: &str, time: Option<Duration>, name: &str) -> Result<Response, Error> {
        let mut request = self.client.get(format!("{}/{path}", self.base));
        if let Some(time) = time {
            request = request.timeout(time);
        }
        let response = request
            .send()
            .await
            .map_err(|error| unreachable(&self.address, &error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        Err(self.response_error(response, name).await)
    }

    /// Returns the error that a response reports.
    async fn response_error(&self, response: Response, name: &str) -> Error {
        let status = response.status();
        if status == StatusCode::NOT_FOUND && !name.is_empty() {
            return Error::NoSuchImage {
                name: name.to_owned(),
            };
        }
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        #[derive(serde::Deserialize)]
        struct DaemonErrorResponse {
            message: String,
        }
        let message = match serde_json::from_slice::<DaemonErrorResponse>(&body) {
            Ok(answer) => answer.message,
            Err(_) => String::from_utf8_lossy(&body).chars().take(300).collect(),
        };
        Error::DaemonError {
            address: self.address.to_string(),
            status: status.as_u16(),
            message,
        }
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Malformed {
            from: format!("the answer of the Docker daemon at {}", self.address),
            reason: error.to_string(),
        })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            let Some(chunk) = chunk.map_err(|error| unreachable(&self.address, &error))? else {
                return Ok(body);
            };
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(Error::TooLarge {
                    from: format!("the Docker daemon at {}", self.address),
                    what: "an answer".to_owned(),
                    limit: format!("{MAX_RESPONSE_BYTES} bytes"),
                });
            }
            body.extend_from_slice(&chunk);
        }
    }
}

/// An export under way, read on a thread that may block.
#[derive(Debug)]
pub(super) struct ExportStream {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for ExportStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let now = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..now.len()].copy_from_slice(&now);
        Ok(now.len())
    }
}

/// Returns the error of a request that got no response, with the innermost error of the chain.
fn unreachable(address: &DaemonAddress, error: &reqwest::Error) -> Error {
    let mut forbidden = false;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            forbidden |= io.kind() == io::ErrorKind::PermissionDenied;
        }
        source = error.source();
    }
    Error::DaemonUnreachable {
        address: address.to_string(),
        reason: innermost(error),
        is_forbidden: forbidden,
    }
}

/// Returns the last error of a chain, which names the cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
