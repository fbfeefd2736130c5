//! Looks up layers by diffID at our own server; see [`crate::ext::resolve`].

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::error::is_transient;
use super::retry::backoff;
use super::{Client, Error, SMALL_REQUEST_TIMEOUT};
use crate::endpoint::RepositoryOperation;
use crate::ext::resolve::{ResolveRequest, ResolveResponse};
use crate::{Endpoint, Repository};

/// The largest response in bytes, which has room for a thousand layers with the longest names.
const MAX_RESOLVE_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

impl Client {
    /// Looks up layers by their diffIDs; `None` if the registry does not have the extension. Any error
    /// status except 401 and 429 counts as no extension, because registries answer unknown paths in
    /// many ways. The request is idempotent, and is retried after transient errors.
    ///
    /// # Errors
    /// Fails if the caller has to log in (401), on a rate limit (429), on network errors, and on an
    /// invalid response.
    pub async fn resolve_layers(
        &self,
        repository: &Repository,
        request: &ResolveRequest,
    ) -> Result<Option<ResolveResponse>, Error> {
        let endpoint = Endpoint::within(repository, RepositoryOperation::ResolveLayers);
        let invalid =
            |error: serde_json::Error| self.invalid_response(&endpoint, error.to_string());
        let body = Bytes::from(serde_json::to_vec(request).map_err(invalid)?);
        let (operation, scopes) = (endpoint.to_string(), self.scopes(&endpoint));
        let send = || {
            self.retry(|| async {
                let request = self
                    .request(&endpoint)
                    .timeout(SMALL_REQUEST_TIMEOUT)
                    .header(CONTENT_TYPE, "application/json")
                    .body(body.clone());
                let response = self.send(&operation, &scopes, &self.base, request).await?;
                match response.status() {
                    StatusCode::TOO_MANY_REQUESTS => {
                        Err(self.status_error(&endpoint, response).await)
                    }
                    _ => Ok(response),
                }
            })
        };
        let mut response = send().await?;
        // One retry is enough: a registry or a proxy that fails at an unknown path does so each time.
        if is_transient(response.status()) {
            tokio::time::sleep(backoff(1, None)).await;
            response = send().await?;
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(self.status_error(&endpoint, response).await),
            _ => return Ok(None),
        }
        let bytes = self
            .read_bounded(&endpoint.to_string(), response, MAX_RESOLVE_RESPONSE_BYTES)
            .await?;
        let answer: ResolveResponse = serde_json::from_slice(&bytes).map_err(invalid)?;
        let (requested, answered) = (request.diff_ids.len(), answer.layers.len());
        if requested != answered {
            let text = format!("it lists {answered} layers, {requested} were requested");
            return Err(self.invalid_response(&endpoint, text));
        }
        Ok(Some(answer))
    }
}
