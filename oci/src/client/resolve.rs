//! Asking our own registry which layers it holds; see [`crate::ext::resolve`].

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::error::is_transient;
use super::retry::backoff;
use super::{Client, Error, SMALL_REQUEST_TIMEOUT};
use crate::endpoint::RepositoryOperation;
use crate::ext::resolve::{ResolveRequest, ResolveResponse};
use crate::{Endpoint, Repository};

/// The largest answer in bytes: a thousand layers with the longest digests and names, and more.
const MAX_RESOLVE_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

impl Client {
    /// Which of these layers the registry holds; `None` where it does not know the question, as
    /// most registries, whatever status they say so with. Safe to repeat, and repeated after
    /// passing faults.
    ///
    /// # Errors
    /// The caller has to log in (401), the registry has no time (429), the line fails, or the
    /// answer makes no sense.
    pub async fn resolve_layers(
        &self,
        repository: &Repository,
        request: &ResolveRequest,
    ) -> Result<Option<ResolveResponse>, Error> {
        let endpoint = Endpoint::within(repository, RepositoryOperation::ResolveLayers);
        let odd = |error: serde_json::Error| self.invalid_response(&endpoint, error.to_string());
        let body = Bytes::from(serde_json::to_vec(request).map_err(odd)?);
        let (operation, scopes) = (endpoint.to_string(), self.scopes(&endpoint));
        let ask = || {
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
        let mut response = ask().await?;
        // Once more, and no oftener: a registry, or a proxy before it, that fails at a path that
        // it does not know may do so each time.
        if is_transient(response.status()) {
            tokio::time::sleep(backoff(1, None)).await;
            response = ask().await?;
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(self.status_error(&endpoint, response).await),
            _ => return Ok(None),
        }
        let bytes = self
            .read_bounded(&endpoint.to_string(), response, MAX_RESOLVE_RESPONSE_BYTES)
            .await?;
        let answer: ResolveResponse = serde_json::from_slice(&bytes).map_err(odd)?;
        let (asked, answered) = (request.diff_ids.len(), answer.layers.len());
        if asked != answered {
            let text = format!("{answered} layers, where {asked} were asked for");
            return Err(self.invalid_response(&endpoint, text));
        }
        Ok(Some(answer))
    }
}
