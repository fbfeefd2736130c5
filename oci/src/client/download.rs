//! A blob on its way down: from any offset, with its size known before the first byte.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::{Client, Error, SMALL_REQUEST_TIMEOUT, response_headers};
use crate::endpoint::RepositoryOperation;
use crate::range::PartialContent;
use crate::{Digest, Endpoint, Repository};

/// A blob's bytes as they arrive.
pub struct BlobDownload {
    /// The offset that the bytes begin at: the one that was asked for, or 0 where the registry
    /// ignores ranges.
    pub first: u64,
    /// The size of the whole blob in bytes, where the answer tells.
    pub size: Option<u64>,
    /// The bytes. An end before the size that was told is an error.
    pub bytes: BoxStream<'static, Result<Bytes, Error>>,
}

impl std::fmt::Debug for BlobDownload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("first", &self.first)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A blob's bytes from `offset` on; `None` where the registry has no such blob. The caller
    /// checks the digest, and skips what lies before `offset` where `first` says so. Asks the
    /// registry itself each time, also where it sends its readers on to a store: such an address
    /// holds for a while only.
    ///
    /// # Errors
    /// Anything but the blob or a no; a part that is not the one that was asked for. Status 416
    /// says that the blob ends before `offset`.
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
                // Packed once more on the way, an offset would be one of other bytes.
                let mut request = self.request(&endpoint).header(ACCEPT_ENCODING, "identity");
                if offset > 0 {
                    request = request.header(RANGE, format!("bytes={offset}-"));
                }
                let answer =
                    tokio::time::timeout(SMALL_REQUEST_TIMEOUT, self.send_once(&endpoint, request));
                let response = answer.await.unwrap_or_else(|_| {
                    Err(self.connection_lost(&endpoint, "no answer in time".to_owned()))
                })?;
                // An address in a store that held no longer: the registry has a new one.
                match (response.status(), self.is_registry_url(response.url())) {
                    (
                        status @ (StatusCode::BAD_REQUEST
                        | StatusCode::UNAUTHORIZED
                        | StatusCode::FORBIDDEN
                        | StatusCode::GONE),
                        false,
                    ) => {
                        let what = format!("the store that it sent to answered {status}");
                        Err(self.connection_lost(&endpoint, what))
                    }
                    (_, true | false) => Ok(response),
                }
            })
            .await?;
        let headers = response.headers();
        let length = response_headers::number(headers, &CONTENT_LENGTH);
        let (first, size) = match response.status() {
            StatusCode::OK => (0, length),
            StatusCode::PARTIAL_CONTENT => {
                let said = response_headers::text(headers, &CONTENT_RANGE);
                let part = said.and_then(|said| PartialContent::parse(said).ok());
                let Some(part) = part.filter(|part| part.range.first == offset) else {
                    let said = said.unwrap_or("nothing").to_owned();
                    let what = format!("asked for bytes from {offset} on, it sent {said}");
                    return Err(self.invalid_response(&endpoint, what));
                };
                let ends = part.size.is_none_or(|size| part.range.last + 1 == size);
                if !ends || length.is_some_and(|length| length != part.range.len()) {
                    let what = format!("a part of {} bytes, where others fit", part.range.len());
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

    /// A blob's bytes from `offset` on, as they arrive; `None` where the registry has no such
    /// blob. The caller checks the digest. What lies before `offset` is read and dropped where
    /// the registry ignores ranges.
    ///
    /// # Errors
    /// As [`Client::open_blob`].
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<impl Stream<Item = Result<Bytes, Error>> + Send + use<>>, Error> {
        let found = self.open_blob(repository, digest, offset).await?;
        Ok(found.map(|found| found.skip_to(offset)))
    }

    /// The bytes of an answer, of which there must be `len`.
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
                                broken(format!("it sent more than {len} bytes"))
                            }
                            Some(_) | None => Some((Ok(piece), (Some(pieces), so_far))),
                        }
                    }
                    (Some(Err(what)), _) => broken(what),
                    (None, Some(len)) if before < len => {
                        broken(format!("it ended after {before} of {len} bytes"))
                    }
                    (None, Some(_) | None) => None,
                }
            }
        })
    }
}

impl BlobDownload {
    /// The bytes from `offset` on, which does not lie before `first`.
    pub fn skip_to(self, offset: u64) -> BoxStream<'static, Result<Bytes, Error>> {
        let mut skip = offset.saturating_sub(self.first);
        let bytes = self.bytes.filter_map(move |piece| {
            let piece = match piece {
                Ok(mut piece) => {
                    let dropped = skip.min(piece.len() as u64);
                    skip -= dropped;
                    // Not more than its length, which is a usize.
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
