//! Deletes repositories at our own server, and restores what was deleted; see [`crate::ext::trash`].

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::{Client, Error};
use crate::endpoint::RepositoryOperation;
use crate::ext::trash::{DeleteRepositoryResponse, RestoreRequest, RestoreResponse};
use crate::{Endpoint, ErrorCode, Reference, Repository};

/// How long a request may take: a repository can have many tags.
const TRASH_REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// The largest response in bytes, which has room for the longest names.
const MAX_TRASH_RESPONSE_BYTES: usize = 1024 * 1024;

/// The outcome of an operation that only our own server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrashOutcome<T> {
    /// The request was successful.
    Done(T),
    /// The repository does not exist, or the trash does not have the content. The text says why.
    NotFound(String),
    /// The registry does not have the extension, or allows no deletion.
    Unsupported,
}

impl Client {
    /// Deletes all tags and manifests of a repository.
    ///
    /// # Errors
    /// Fails if the caller lacks the permission, and on other error statuses.
    pub async fn delete_repository(
        &self,
        repository: &Repository,
    ) -> Result<TrashOutcome<DeleteRepositoryResponse>, Error> {
        let operation = RepositoryOperation::DeleteRepository;
        let endpoint = Endpoint::within(repository, operation);
        self.send_to_trash(&endpoint, Bytes::new(), ErrorCode::NameUnknown)
            .await
    }

    /// Restores a deleted tag or manifest, or all of a repository. What exists is not changed.
    ///
    /// # Errors
    /// Fails if the caller lacks the permission, and on other error statuses.
    pub async fn restore(
        &self,
        repository: &Repository,
        reference: Option<&Reference>,
    ) -> Result<TrashOutcome<RestoreResponse>, Error> {
        let endpoint = Endpoint::within(repository, RepositoryOperation::Restore);
        let body = serde_json::to_vec(&RestoreRequest::new(reference));
        let body = body.map_err(|error| self.invalid_response(&endpoint, error.to_string()))?;
        self.send_to_trash(&endpoint, body.into(), ErrorCode::NotInTrash)
            .await
    }

    async fn send_to_trash<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        body: Bytes,
        not_found: ErrorCode,
    ) -> Result<TrashOutcome<T>, Error> {
        let response = self
            .retry(|| async {
                let request = self
                    .request(endpoint)
                    .timeout(TRASH_REQUEST_TIMEOUT)
                    .header(CONTENT_TYPE, "application/json")
                    .body(body.clone());
                self.send_once(endpoint, request).await
            })
            .await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::BAD_REQUEST => {
                let error = self.status_error(endpoint, response).await;
                return Ok(match error.fault_detail(not_found) {
                    Some(text) => TrashOutcome::NotFound(text),
                    None => TrashOutcome::Unsupported,
                });
            }
            _ => return Err(self.status_error(endpoint, response).await),
        }
        let bytes = self
            .read_bounded(&endpoint.to_string(), response, MAX_TRASH_RESPONSE_BYTES)
            .await?;
        let answer = serde_json::from_slice(&bytes);
        let answer = answer.map_err(|error| self.invalid_response(endpoint, error.to_string()))?;
        Ok(TrashOutcome::Done(answer))
    }
}
