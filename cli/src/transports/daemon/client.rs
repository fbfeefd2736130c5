//! A client of the daemon's HTTP API (Docker Engine API). It does not interpret what the daemon
//! reports of an image.

mod push;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use imgsync_oci::Digest;
use imgsync_oci::manifest::Platform;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::address::DaemonAddress;
use super::chunk_reader::{ChunkReader, chunk_channel};
use super::connect::Connector;
use super::request::{RequestBody, RequestError, empty_body, innermost, send};
use super::responses::{
    DaemonErrorResponse, DaemonInfo, DaemonKind, ImageInspect, ImageSummary, LoadOutcome,
    SystemInfo, VersionResponse, excerpt, parse_load_response,
};
use crate::image::{EngineKind, Error};
pub(super) use push::ProgressStream;

/// The characters of a path segment that are percent-encoded.
const PATH_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b':');
/// The largest response in bytes, except for an export.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
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

    /// Returns whether Docker loads layers that are compressed with zstd (since version 23.0).
    fn reads_zstd(self) -> bool {
        self >= Self(1, 42)
    }

    /// Returns whether an export can be limited to that many platforms (Docker Engine API, "Export
    /// an image"). Older daemons ignore the parameter.
    pub(super) fn can_export_platforms(self, platforms: usize) -> bool {
        self >= Self(1, 52) || (platforms == 1 && self >= Self(1, 48))
    }
}

/// Facts about the daemon from the headers of a response.
#[derive(Debug, Clone, Copy)]
pub(super) struct DaemonHeaders {
    /// The version of the API, if the daemon reports one.
    pub(super) api_version: Option<ApiVersion>,
    /// Whether the daemon is podman.
    pub(super) is_podman: bool,
}

impl DaemonHeaders {
    fn of(headers: &HeaderMap) -> Self {
        let api_version = headers.get("api-version");
        let api_version = api_version.and_then(|version| ApiVersion::parse(version.to_str().ok()?));
        Self {
            api_version,
            is_podman: headers.contains_key("libpod-api-version"),
        }
    }
}

/// A client of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct DaemonClient {
    connector: Connector,
}

impl DaemonClient {
    /// Returns a client of the daemon at `address`, without connecting yet.
    ///
    /// # Errors
    /// Returns an error if the certificates for TLS cannot be used.
    pub(crate) fn new(address: DaemonAddress) -> Result<Self, Error> {
        let connector = Connector::new(address)?;
        Ok(Self { connector })
    }

    /// Returns the address.
    pub(crate) fn address(&self) -> &DaemonAddress {
        self.connector.address()
    }

    /// Returns what opens connections to the daemon.
    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Describes an image; with `manifests`, each of its platforms, too (since API 1.48).
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, has no such image, or refuses.
    pub(super) async fn inspect(
        &self,
        name: &str,
        manifests: bool,
    ) -> Result<(ImageInspect, DaemonHeaders), Error> {
        let query = if manifests { "?manifests=true" } else { "" };
        let path = format!("images/{}/json{query}", encoded(name));
        self.get(&path, name).await
    }

    /// Lists the images, the newest first.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(super) async fn list_images(&self) -> Result<Vec<ImageSummary>, Error> {
        Ok(self.get("images/json", "").await?.0)
    }

    /// Describes the daemon. podman takes long, because it runs several programs for that.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(super) async fn info(&self) -> Result<SystemInfo, Error> {
        Ok(self.get("info", "").await?.0)
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
    ) -> Result<ChunkReader, Error> {
        let mut path = format!("images/{}/get", encoded(name));
        for (position, platform) in platforms.iter().enumerate() {
            let separator = if position == 0 { '?' } else { '&' };
            let platform = serde_json::json!(platform).to_string();
            path.push_str(&format!("{separator}platform={}", encoded(&platform)));
        }
        let request = Request::get(format!("/{path}"));
        let mut response = self.send(request, empty_body(), name).await?;
        let (sender, reader) = chunk_channel(MAX_QUEUED_CHUNKS);
        tokio::spawn(async move {
            while let Some(chunk) = next_chunk(&mut response).await.transpose() {
                let chunk = chunk.map_err(|error| io::Error::other(innermost(&error)));
                let is_last = chunk.is_err();
                // A reader that has enough drops the stream; the connection is closed then.
                if sender.send(chunk).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(reader)
    }

    /// Returns the kind and platform of the daemon.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(super) async fn daemon_info(&self) -> Result<DaemonInfo, Error> {
        let (version, headers) = self.get::<VersionResponse>("version", "").await?;
        let kind = if version.is_podman() {
            DaemonKind::Podman
        } else if self.info().await?.has_containerd_store() {
            DaemonKind::Containerd
        } else {
            DaemonKind::Classic
        };
        let platform = format!("{}/{}", version.os, version.arch);
        let can_read_zstd = headers.api_version.is_some_and(ApiVersion::reads_zstd);
        let reads_zstd = kind != DaemonKind::Classic || can_read_zstd;
        Ok(DaemonInfo {
            kind,
            reads_zstd,
            platform,
        })
    }

    /// Returns the image of a name or ID; `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable or refuses.
    pub(super) async fn find_image(&self, name: &str) -> Result<Option<ImageInspect>, Error> {
        match self.inspect(name, false).await {
            Ok((image, _)) => Ok(Some(image)),
            Err(Error::NoSuchImage { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tags an image.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, has no such image, or refuses.
    pub(super) async fn tag(&self, id: &Digest, repository: &str, tag: &str) -> Result<(), Error> {
        let id = id.to_string();
        let (repository, tag) = (encoded(repository), encoded(tag));
        let path = format!("images/{}/tag?repo={repository}&tag={tag}", encoded(&id));
        let request = Request::post(format!("/{path}"));
        self.in_time(self.send(request, empty_body(), &id)).await?;
        Ok(())
    }

    /// Loads an archive, as `docker load` does.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, or if the stream of the archive ended with an
    /// error.
    pub(super) async fn load(&self, archive: RequestBody) -> Result<LoadOutcome, Error> {
        let request = Request::post("/images/load?quiet=1");
        let request = request.header(header::CONTENT_TYPE, "application/x-tar");
        match self.send(request, archive, "").await {
            Ok(response) => Ok(parse_load_response(&self.body(response).await?)),
            // The daemon works; it rejects the archive.
            Err(Error::DaemonError { message, .. }) => Ok(LoadOutcome::Rejected(message)),
            Err(error) => Err(error),
        }
    }

    /// Returns the JSON at a path, and the headers of the response.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
    ) -> Result<(T, DaemonHeaders), Error> {
        let (body, headers) = self.in_time(self.get_bytes(path, name)).await?;
        let parsed = serde_json::from_slice(&body).map_err(|error| {
            let from = format!(
                "the response of {} at {}",
                self.address().engine(),
                self.address()
            );
            Error::malformed(&from, error.to_string())
        });
        Ok((parsed?, headers))
    }

    async fn get_bytes(&self, path: &str, name: &str) -> Result<(Vec<u8>, DaemonHeaders), Error> {
        let request = Request::get(format!("/{path}"));
        let response = self.send(request, empty_body(), name).await?;
        let headers = DaemonHeaders::of(response.headers());
        Ok((self.body(response).await?, headers))
    }

    /// Waits for a response, but not for ever.
    async fn in_time<T>(
        &self,
        response: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let response = timeout(RESPONSE_TIMEOUT, response).await;
        response.unwrap_or_else(|_| {
            let seconds = RESPONSE_TIMEOUT.as_secs();
            Err(self.unreachable(format!("no response within {seconds} s")))
        })
    }

    /// Sends a request about the image `name`; the name is empty for other requests.
    ///
    /// # Errors
    /// Returns an error if the daemon is unreachable, or if the response is no success.
    async fn send(
        &self,
        request: http::request::Builder,
        body: RequestBody,
        name: &str,
    ) -> Result<Response<Incoming>, Error> {
        let request = request.body(body);
        let request = request.map_err(|error| self.unreachable(error.to_string()))?;
        let response = send(&self.connector, request).await;
        let response = response.map_err(|error| {
            let RequestError {
                reason,
                is_forbidden,
            } = error;
            Error::DaemonUnreachable {
                engine: self.address().engine(),
                address: self.address().to_string(),
                reason,
                is_forbidden,
            }
        })?;
        let engine = if DaemonHeaders::of(response.headers()).is_podman {
            EngineKind::Podman
        } else {
            self.address().engine()
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::NOT_FOUND && !name.is_empty() {
            return Err(Error::NoSuchImage {
                engine,
                name: name.to_owned(),
                tags: Vec::new(),
            });
        }
        let body = self.body(response).await?;
        let message = match serde_json::from_slice::<DaemonErrorResponse>(&body) {
            Ok(response) => response.message,
            Err(_) => excerpt(&body),
        };
        Err(Error::DaemonError {
            engine,
            address: self.address().to_string(),
            status: status.as_u16(),
            message,
        })
    }

    async fn body(&self, mut response: Response<Incoming>) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        loop {
            let chunk = next_chunk(&mut response).await;
            let Some(chunk) = chunk.map_err(|error| self.unreachable(innermost(&error)))? else {
                return Ok(body);
            };
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                let from = format!("{} at {}", self.address().engine(), self.address());
                let limit = format!("{MAX_RESPONSE_BYTES} bytes");
                return Err(Error::too_large(&from, "a response", limit));
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn unreachable(&self, reason: String) -> Error {
        Error::DaemonUnreachable {
            engine: self.address().engine(),
            address: self.address().to_string(),
            reason,
            is_forbidden: false,
        }
    }
}

/// Returns the next bytes of a response; `None` at its end.
async fn next_chunk(response: &mut Response<Incoming>) -> hyper::Result<Option<Bytes>> {
    while let Some(frame) = response.frame().await {
        // Trailers are ignored.
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Returns the text with its special characters escaped for a path or query.
fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, PATH_ENCODE_SET)
}
