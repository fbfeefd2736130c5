//! Lets our own server build a layer from a delta and layers that it has; see
//! [`crate::ext::assemble`].

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::error::is_transient;
use super::{Client, Error, SMALL_REQUEST_TIMEOUT, response_headers};
use crate::endpoint::RepositoryOperation;
use crate::ext::assemble::{AssembleRequest, AssemblyState};
use crate::{Digest, Endpoint, ErrorCode, Repository};

/// The largest response in bytes.
const MAX_ASSEMBLY_RESPONSE_BYTES: usize = 64 * 1024;

/// How far an assembly is, and when to ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssemblyProgress {
    /// The state.
    pub state: AssemblyState,
    /// The time after which the registry asks to be asked again.
    pub retry_after: Option<Duration>,
}

/// The answer to a request to assemble a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssembleAnswer {
    /// The registry assembles the layer, or has assembled it.
    Accepted(AssemblyProgress),
    /// The repository does not hold one of the blobs that the delta is based on.
    BaseUnknown,
    /// The upload session with the delta does not exist.
    SessionUnknown,
    /// The bytes in the session do not have the digest of the delta.
    DeltaDamaged,
    /// The registry has too much to do. Ask again after the time that it names, if any.
    Busy(Option<Duration>),
    /// The registry refuses the request. The text tells why.
    Refused(String),
}

impl Client {
    /// Requests that the registry assembles a layer from the delta in an upload session. The request
    /// is idempotent, and is sent again after a lost connection.
    ///
    /// # Errors
    /// Fails if the caller has to log in (401), and on network errors.
    pub async fn assemble_layer(
        &self,
        repository: &Repository,
        request: &AssembleRequest,
    ) -> Result<AssembleAnswer, Error> {
        let endpoint = Endpoint::within(repository, RepositoryOperation::AssembleLayer);
        let body = serde_json::to_vec(request);
        let body = body.map_err(|error| self.invalid_response(&endpoint, error.to_string()))?;
        let body = Bytes::from(body);
        let (operation, scopes) = (endpoint.to_string(), self.scopes(&endpoint));
        let response = self
            .retry(|| async {
                let request = self
                    .request(&endpoint)
                    .timeout(SMALL_REQUEST_TIMEOUT)
                    .header(CONTENT_TYPE, "application/json")
                    .body(body.clone());
                let response = self.send(&operation, &scopes, &self.base, request).await?;
                match response.status() {
                    // The caller can do something else than wait.
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Ok(response),
                    status if is_transient(status) => {
                        Err(self.status_error(&endpoint, response).await)
                    }
                    _ => Ok(response),
                }
            })
            .await?;
        match response.status() {
            StatusCode::OK | StatusCode::ACCEPTED => {
                let progress = self.read_progress(&endpoint, response).await?;
                Ok(AssembleAnswer::Accepted(progress))
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = response_headers::retry_after(response.headers());
                Ok(AssembleAnswer::Busy(retry_after))
            }
            StatusCode::UNAUTHORIZED => Err(self.status_error(&endpoint, response).await),
            _ => {
                let error = self.status_error(&endpoint, response).await;
                Ok(if error.has_fault(ErrorCode::BlobUnknown) {
                    AssembleAnswer::BaseUnknown
                } else if error.has_fault(ErrorCode::BlobUploadUnknown) {
                    AssembleAnswer::SessionUnknown
                } else if error.has_fault(ErrorCode::DigestInvalid) {
                    AssembleAnswer::DeltaDamaged
                } else {
                    AssembleAnswer::Refused(error.to_string())
                })
            }
        }
    }

    /// Asks how far the assembly of a layer is; `None` if the registry knows of none, for example
    /// because it was started again meanwhile.
    ///
    /// # Errors
    /// Fails on other error statuses, network errors and invalid responses.
    pub async fn fetch_assembly(
        &self,
        repository: &Repository,
        diff_id: &Digest,
    ) -> Result<Option<AssemblyProgress>, Error> {
        let diff_id = diff_id.clone();
        let endpoint = Endpoint::within(repository, RepositoryOperation::GetAssembly { diff_id });
        let response = self.send_with_retry(&endpoint, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK | StatusCode::ACCEPTED => {
                Ok(Some(self.read_progress(&endpoint, response).await?))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }

    async fn read_progress(
        &self,
        endpoint: &Endpoint,
        response: reqwest::Response,
    ) -> Result<AssemblyProgress, Error> {
        let retry_after = response_headers::retry_after(response.headers());
        let operation = endpoint.to_string();
        let body = self
            .read_bounded(&operation, response, MAX_ASSEMBLY_RESPONSE_BYTES)
            .await?;
        let state = serde_json::from_slice(&body);
        let state = state.map_err(|error| self.invalid_response(endpoint, error.to_string()))?;
        Ok(AssemblyProgress { state, retry_after })
    }
}
