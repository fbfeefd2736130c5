//! Fetches the index of a layer from our own server; see [`crate::delta::index`].

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Client, Error, response_headers};
use crate::delta::MAX_INDEX_BYTES;
use crate::endpoint::RepositoryOperation;
use crate::{Digest, Endpoint, Repository};

/// The answer to a request for the index of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerIndexAnswer {
    /// The index, to be parsed with [`LayerIndex::parse`](crate::delta::LayerIndex::parse).
    Ready(Bytes),
    /// The registry is computing the index. Ask again after the time that it names, if any.
    Computing(Option<Duration>),
    /// The repository does not hold the blob, or the blob has no index, or the registry makes none.
    Unavailable,
}

impl Client {
    /// Fetches the index of the layer that a blob of the repository is. Any error status except 401
    /// counts as no index.
    ///
    /// # Errors
    /// Fails if the caller has to log in (401), on network errors, and on an index of more than
    /// [`MAX_INDEX_BYTES`].
    pub async fn fetch_layer_index(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<LayerIndexAnswer, Error> {
        let digest = digest.clone();
        let endpoint = Endpoint::within(repository, RepositoryOperation::GetLayerIndex { digest });
        let response = self.send_with_retry(&endpoint, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::ACCEPTED => {
                let retry_after = response_headers::retry_after(response.headers());
                return Ok(LayerIndexAnswer::Computing(retry_after));
            }
            StatusCode::UNAUTHORIZED => return Err(self.status_error(&endpoint, response).await),
            _ => return Ok(LayerIndexAnswer::Unavailable),
        }
        let operation = endpoint.to_string();
        let index = self.read_bounded(&operation, response, MAX_INDEX_BYTES);
        Ok(LayerIndexAnswer::Ready(index.await?))
    }
}
