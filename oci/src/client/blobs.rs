//! Looks up blobs and reads small ones. Downloads of any size are in [`super::download`].

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};

use super::send::FetchedBody;
use super::{Client, Error, response_headers};
use crate::endpoint::RepositoryOperation;
use crate::{Digest, Endpoint, Repository};

impl Client {
    /// Asks for the size in bytes of a blob; `None` if the registry does not have the blob.
    ///
    /// # Errors
    /// Fails on any response but 200 and 404, and on 200 without a size.
    pub async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::HeadBlob {
                digest: digest.clone(),
            },
        );
        let response = self.send_with_retry(&endpoint, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {
                let size = response_headers::number(response.headers(), &CONTENT_LENGTH);
                size.map(Some).ok_or_else(|| {
                    self.invalid_response(&endpoint, "there is no Content-Length".to_owned())
                })
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }

    /// Returns whether the registry holds a blob of this digest and size. A blob of another size
    /// counts as absent.
    ///
    /// # Errors
    /// As [`Client::head_blob`].
    pub async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, Error> {
        Ok(self.head_blob(repository, digest).await? == Some(size))
    }

    /// Fetches and verifies a small blob, such as a config; `None` if the registry does not have it.
    ///
    /// # Errors
    /// As [`Client::head_blob`]; also on more than `limit` bytes, and on bytes that do not match the
    /// digest.
    pub async fn fetch_small_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> Result<Option<Bytes>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::GetBlob {
                digest: digest.clone(),
            },
        );
        let fetch = self.fetch_with_retry(&endpoint, HeaderMap::new(), limit);
        let bytes = match fetch.await? {
            FetchedBody::Complete(_, bytes) => bytes,
            FetchedBody::Unread(response) if response.status() == StatusCode::NOT_FOUND => {
                return Ok(None);
            }
            FetchedBody::Unread(response) => {
                return Err(self.status_error(&endpoint, response).await);
            }
        };
        if Digest::of_with(digest.algorithm(), &bytes) != *digest {
            return Err(self.invalid_response(
                &endpoint,
                "the content does not match the digest".to_owned(),
            ));
        }
        Ok(Some(bytes))
    }
}
