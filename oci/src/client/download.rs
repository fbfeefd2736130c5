//! Downloads of blobs from any offset. A download that goes on after lost connections is
//! [`super::ResumingDownload`].

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::{Client, Error, SMALL_REQUEST_TIMEOUT, response_headers};
use crate::endpoint::RepositoryOperation;
use crate::range::PartialContent;
use crate::{Digest, Endpoint, Repository};

/// A blob that is being downloaded.
pub struct BlobDownload {
    /// The offset of the first byte: the requested one, or 0 if the registry ignores ranges.
    pub first: u64,
    /// The size of the whole blob in bytes, if the response states it.
    pub size: Option<u64>,
    /// The bytes as they arrive. An end before `size` is an error.
    pub bytes: BoxStream<'static, Result<Bytes, Error>>,
}

impl std::fmt::Debug for BlobDownload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobDownload")
            .field("first", &self.first)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a download from `offset` on; `None` if the registry does not have the blob. The caller
    /// checks the digest, and skips the bytes before `offset` if `first` is smaller.
    ///
    /// Each call asks the registry itself, even if it redirects to a store, because such URLs
    /// expire.
    ///
    /// # Errors
    /// Fails on an error status, and on a part that was not requested. Status 416 means that the
    /// blob ends before `offset`.
    pub async fn open_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<BlobDownload>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::GetBlob {
                digest: digest.clone(),
            },
        );
        let response = self
            .retry(|| async {
                // The offset would refer to other bytes if a proxy compressed the body.
                let mut request = self.request(&endpoint).header(ACCEPT_ENCODING, "identity");
                if offset > 0 {
                    request = request.header(RANGE, format!("bytes={offset}-"));
                }
                let answer =
                    tokio::time::timeout(SMALL_REQUEST_TIMEOUT, self.send_once(&endpoint, request));
                let response = answer.await.unwrap_or_else(|_| {
                    Err(self.connection_lost(&endpoint, "no response in time".to_owned()))
                })?;
                // The URL of a store may have expired; the registry will give a new one.
                let is_store = !self.is_registry_url(response.url());
                if is_store && may_have_expired(response.status()) {
                    let what = format!("the redirect target answered {}", response.status());
                    return Err(self.connection_lost(&endpoint, what));
                }
                Ok(response)
            })
            .await?;
        let headers = response.headers();
        let length = response_headers::number(headers, &CONTENT_LENGTH);
        let (first, size) = match response.status() {
            StatusCode::OK => (0, length),
            StatusCode::PARTIAL_CONTENT => {
                let header = response_headers::text(headers, &CONTENT_RANGE);
                let part = header.and_then(|header| PartialContent::parse(header).ok());
                let Some(part) = part.filter(|part| part.range.first == offset) else {
                    let header = header.unwrap_or("missing");
                    let what =
                        format!("requested bytes from {offset} on, Content-Range is {header}");
                    return Err(self.invalid_response(&endpoint, what));
                };
                let reaches_end = part.size.is_none_or(|size| part.range.last + 1 == size);
                if !reaches_end || length.is_some_and(|length| length != part.range.len()) {
                    let what = format!("the part of {} bytes is incomplete", part.range.len());
                    return Err(self.invalid_response(&endpoint, what));
                }
                (offset, Some(part.size.unwrap_or(part.range.last + 1)))
            }
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.status_error(&endpoint, response).await),
        };
        let bytes = self.check_length(endpoint, response, size.map(|size| size - first));
        Ok(Some(BlobDownload {
            first,
            size,
            bytes: bytes.boxed(),
        }))
    }

    /// Streams a blob from `offset` on; `None` if the registry does not have the blob. The caller
    /// checks the digest. If the registry ignores ranges, the bytes before `offset` are read and
    /// dropped.
    ///
    /// # Errors
    /// As [`Client::open_blob`].
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<impl Stream<Item = Result<Bytes, Error>> + Send + use<>>, Error> {
        let download = self.open_blob(repository, digest, offset).await?;
        Ok(download.map(|download| download.skip_to(offset)))
    }

    /// Streams the body of a response, and fails unless it has `len` bytes.
    fn check_length(
        &self,
        endpoint: Endpoint,
        response: reqwest::Response,
        len: Option<u64>,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static + use<> {
        let client = self.clone();
        let pieces = Box::pin(self.stream(response));
        let start = (Some(pieces), 0);
        futures::stream::unfold(start, move |(pieces, before)| {
            let (client, endpoint) = (client.clone(), endpoint.clone());
            async move {
                let mut pieces = pieces?;
                let broken =
                    |what: String| Some((Err(client.connection_lost(&endpoint, what)), (None, 0)));
                match (pieces.next().await, len) {
                    (Some(Ok(piece)), len) => {
                        let so_far = before + piece.len() as u64;
                        match len {
                            Some(len) if so_far > len => {
                                broken(format!("the body has more than {len} bytes"))
                            }
                            _ => Some((Ok(piece), (Some(pieces), so_far))),
                        }
                    }
                    (Some(Err(what)), _) => broken(what),
                    (None, Some(len)) if before < len => {
                        broken(format!("the body ended after {before} of {len} bytes"))
                    }
                    (None, _) => None,
                }
            }
        })
    }
}

/// Reports whether a store may answer so for a URL that has expired.
fn may_have_expired(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::GONE
    )
}

impl BlobDownload {
    /// Streams the bytes from `offset` on, which is not before `first`.
    pub fn skip_to(self, offset: u64) -> BoxStream<'static, Result<Bytes, Error>> {
        let mut skip = offset.saturating_sub(self.first);
        let bytes = self.bytes.filter_map(move |piece| {
            let piece = match piece {
                Ok(mut piece) => {
                    let dropped = skip.min(piece.len() as u64);
                    skip -= dropped;
                    // At most the length of the piece, which is a usize.
                    let piece = piece.split_off(dropped as usize);
                    (!piece.is_empty()).then_some(Ok(piece))
                }
                Err(error) => Some(Err(error)),
            };
            std::future::ready(piece)
        });
        bytes.boxed()
    }
}
