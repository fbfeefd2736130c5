//! Examines a registry without changing anything in it: what answers at its address, whether the
//! login may push, and how large a request may be.
//!
//! The requests are those of a push, except that they name an upload session that does not exist.
//! Start reading at [`Client::probe`].

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, LOCATION, SERVER};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;

use super::auth::challenge::parse_challenges;
use super::upload::UploadSession;
use super::{Client, Error, SMALL_REQUEST_TIMEOUT, response_headers, send};
use crate::endpoint::{RegistryOperation, RepositoryOperation, UploadId, UploadOperation};
use crate::ext::EXTENSION_NAME;
use crate::{ApiError, Digest, Endpoint, Repository, api_error};

/// The largest body of a response that is read.
const MAX_PROBE_BODY_BYTES: usize = 64 * 1024;
/// The most authentication schemes of a response that are kept.
const MAX_SCHEMES: usize = 8;

/// The response to a request for the root of the API without a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResponse {
    /// The status.
    pub status: StatusCode,
    /// The `Server` header.
    pub server: Option<String>,
    /// The `Docker-Distribution-Api-Version` header, which most registries send.
    pub api_version: Option<String>,
    /// The `Date` header.
    pub date: Option<SystemTime>,
    /// The `Location` header of a redirect.
    pub location: Option<String>,
    /// The authentication schemes that the response asks for.
    pub schemes: Vec<String>,
    /// The errors in the body.
    pub faults: Vec<ApiError>,
    /// Whether the body is a web page.
    pub is_web_page: bool,
}

/// The answer to a request that announces a large body.
#[derive(Debug, Clone)]
pub enum BodyAnnouncement {
    /// The request was refused as too large (413), before the body was sent.
    Refused(Error),
    /// The request was not refused, or not in time.
    NotRefused,
}

/// The answer to `GET /v2/_oci/ext/discover`.
#[derive(Deserialize)]
struct ExtensionList {
    extensions: Vec<ListedExtension>,
}

#[derive(Deserialize)]
struct ListedExtension {
    name: String,
    #[serde(default)]
    endpoints: Vec<String>,
}

impl Client {
    /// Requests the root of the API, once and without login. Any response counts.
    ///
    /// # Errors
    /// Fails if no connection can be opened, or if it breaks.
    pub async fn probe(&self) -> Result<ProbeResponse, Error> {
        let request = self.request(&Endpoint::CHECK);
        let sent = send::execute(request.timeout(SMALL_REQUEST_TIMEOUT)).await;
        let operation = Endpoint::CHECK.to_string();
        let response =
            sent.map_err(|error| self.request_error(&self.registry, operation.clone(), error))?;
        let headers = response.headers();
        let text = |name: &HeaderName| response_headers::text(headers, name).map(str::to_owned);
        let status = response.status();
        let schemes = parse_challenges(headers).into_iter().take(MAX_SCHEMES);
        let probed = ProbeResponse {
            status,
            server: text(&SERVER),
            api_version: text(&HeaderName::from_static("docker-distribution-api-version")),
            date: text(&DATE).and_then(|date| httpdate::parse_http_date(&date).ok()),
            location: text(&LOCATION).filter(|_| status.is_redirection()),
            schemes: schemes.map(|challenge| challenge.scheme).collect(),
            faults: Vec::new(),
            is_web_page: response_headers::is_web_page(headers),
        };
        // The status tells enough if the body cannot be read.
        let body = self.read_bounded(&operation, response, MAX_PROBE_BODY_BYTES);
        let body = body.await.unwrap_or_default();
        Ok(ProbeResponse {
            faults: api_error::parse_error_body(&body),
            ..probed
        })
    }

    /// Returns whether the registry lists the extension of imgsync-server.
    ///
    /// # Errors
    /// Fails on network errors, and on a refused login.
    pub async fn has_extension(&self) -> Result<bool, Error> {
        Ok(self.extension_calls().await?.is_some())
    }

    /// Returns whether the registry lists a call of the extension of imgsync-server, for example
    /// `layers/assemble`.
    ///
    /// # Errors
    /// As [`Client::has_extension`].
    pub async fn has_extension_call(&self, call: &str) -> Result<bool, Error> {
        let calls = self.extension_calls().await?.unwrap_or_default();
        let name = format!("{EXTENSION_NAME}/{call}");
        Ok(calls.contains(&name))
    }

    /// Returns the calls of the extension of imgsync-server, if the registry lists it.
    async fn extension_calls(&self) -> Result<Option<Vec<String>>, Error> {
        let endpoint = Endpoint::from(RegistryOperation::DiscoverExtensions);
        let response = self.send_with_retry(&endpoint, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(self.status_error(&endpoint, response).await),
            _ => return Ok(None),
        }
        let operation = endpoint.to_string();
        let body = self.read_bounded(&operation, response, MAX_PROBE_BODY_BYTES);
        let list = serde_json::from_slice::<ExtensionList>(&body.await?);
        let list = list.map_or_else(|_| Vec::new(), |list| list.extensions);
        let mut own = list
            .into_iter()
            .filter(|extension| extension.name == EXTENSION_NAME);
        Ok(own.next().map(|extension| extension.endpoints))
    }

    /// Checks that the login may push to a repository, and changes nothing: the request appends
    /// nothing to an upload session that does not exist. A registry checks the permission first, and
    /// then does not find the session.
    ///
    /// # Errors
    /// Fails if pushing is not permitted or not supported, and on network errors.
    pub async fn check_push(&self, repository: &Repository) -> Result<(), Error> {
        let endpoint = unknown_session(repository);
        let response = self
            .retry(|| async {
                let request = self
                    .request(&endpoint)
                    .timeout(SMALL_REQUEST_TIMEOUT)
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, 0);
                self.send_once(&endpoint, request).await
            })
            .await?;
        match response.status() {
            StatusCode::NOT_FOUND
            | StatusCode::BAD_REQUEST
            | StatusCode::GONE
            | StatusCode::RANGE_NOT_SATISFIABLE => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }

    /// Announces a request with a body of `len` bytes to an upload session that does not exist, and
    /// sends none of the bytes. Proxies that limit the size of a request refuse it by its
    /// `Content-Length`. A response that does not come within `patience` counts as no refusal: a
    /// proxy may wait for the body.
    ///
    /// # Errors
    /// Fails on network errors.
    pub async fn announce_body(
        &self,
        repository: &Repository,
        len: u64,
        patience: Duration,
    ) -> Result<BodyAnnouncement, Error> {
        let endpoint = unknown_session(repository);
        let (operation, scopes) = (endpoint.to_string(), self.scopes(&endpoint));
        let body = futures::stream::pending::<std::io::Result<bytes::Bytes>>();
        let request = self
            .request(&endpoint)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, len)
            .body(reqwest::Body::wrap_stream(body));
        let sent = self.send(&operation, &scopes, &self.base, request);
        match tokio::time::timeout(patience, sent).await {
            Ok(response) => {
                let response = response?;
                if response.status() != StatusCode::PAYLOAD_TOO_LARGE {
                    return Ok(BodyAnnouncement::NotRefused);
                }
                let error = self.status_error(&endpoint, response).await;
                Ok(BodyAnnouncement::Refused(error))
            }
            Err(_) => Ok(BodyAnnouncement::NotRefused),
        }
    }

    /// Opens an upload session, and also returns its `Location` as the registry states it. The session
    /// itself has a corrected one, see [`Client::start_upload`].
    ///
    /// # Errors
    /// As [`Client::start_upload`].
    pub async fn start_upload_with_location(
        &self,
        repository: &Repository,
    ) -> Result<(UploadSession, String), Error> {
        let operation = RepositoryOperation::StartUpload {
            mount: None,
            digest: None,
            algorithm: None,
        };
        let endpoint = Endpoint::within(repository, operation);
        let response = self.request_session(&endpoint).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.status_error(&endpoint, response).await);
        }
        let session = self.opened_session(&endpoint, &response)?;
        let stated = response_headers::text(response.headers(), &LOCATION);
        Ok((session, stated.unwrap_or_default().to_owned()))
    }

    /// Deletes a blob from a repository. Returns false if the registry does not support that.
    ///
    /// # Errors
    /// Fails if the caller lacks the permission, and on other error statuses.
    pub async fn delete_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let digest = digest.clone();
        let endpoint = Endpoint::within(repository, RepositoryOperation::DeleteBlob { digest });
        let response = self.send_with_retry(&endpoint, HeaderMap::new()).await?;
        match response.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(true),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(false),
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }
}

/// Returns the endpoint that appends to an upload session that does not exist.
fn unknown_session(repository: &Repository) -> Endpoint {
    let operation = RepositoryOperation::Upload(UploadId::random(), UploadOperation::Append);
    Endpoint::within(repository, operation)
}
