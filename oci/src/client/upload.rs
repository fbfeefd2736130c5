//! Sending a blob through an upload session: start, append, ask where it stands, finish, cancel.
//! Each call is one request; going on after a fault is the caller's part, who has the bytes.

mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderName, Method, StatusCode};
use url::Url;

use super::{Client, Error, FINISH_TIMEOUT, SMALL_REQUEST_TIMEOUT, response_headers};
use crate::endpoint::{Mount, RepositoryOperation};
use crate::range::{self, ContentRange, UPLOAD_OFFSET_HEADER};
use crate::{Digest, Endpoint, Repository};

pub use session::UploadSession;

const CHUNK_MIN_HEADER: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const CHUNK_MAX_HEADER: HeaderName = HeaderName::from_static("oci-chunk-max-length");

/// How an upload began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadStart {
    /// The registry had the blob elsewhere and linked it: nothing is left to send.
    Mounted,
    /// The bytes are to be sent.
    Open(UploadSession),
}

impl Client {
    /// Opens a session, or mounts the blob where the registry can. A session that a lost answer
    /// leaves behind holds nothing, and the registry clears it away.
    ///
    /// # Errors
    /// The registry does not take uploads here.
    pub async fn start_upload(
        &self,
        repository: &Repository,
        mount: Option<Mount>,
    ) -> Result<UploadStart, Error> {
        let mounts = mount.is_some();
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::StartUpload {
                mount,
                digest: None,
                algorithm: None,
            },
        );
        let response = self
            .retry(|| async {
                let request = self
                    .request(&endpoint)
                    .timeout(SMALL_REQUEST_TIMEOUT)
                    .header(CONTENT_LENGTH, 0);
                self.send_once(&endpoint, request).await
            })
            .await?;
        match response.status() {
            StatusCode::CREATED if mounts => Ok(UploadStart::Mounted),
            StatusCode::CREATED => Err(self.invalid_response(
                &endpoint,
                "it says that the blob is there, which nobody has named".to_owned(),
            )),
            StatusCode::ACCEPTED => {
                let location = self.next_location(&endpoint.to_string(), &response)?;
                Ok(UploadStart::Open(UploadSession {
                    location,
                    offset: 0,
                    chunk_min: response_headers::number(response.headers(), &CHUNK_MIN_HEADER),
                    chunk_max: response_headers::number(response.headers(), &CHUNK_MAX_HEADER),
                    scopes: self.scopes(&endpoint),
                    was_login_renewed: false,
                }))
            }
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }

    /// Appends `len` bytes at the session's offset, which moves on when the registry has them.
    /// After an error ask [`Client::upload_offset`] before going on: a part may have arrived.
    ///
    /// # Errors
    /// A broken line, a registry that says no, or bytes that could not be read (which shows as a
    /// broken line; the caller knows better).
    pub async fn append_upload(
        &self,
        session: &mut UploadSession,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        len: u64,
    ) -> Result<(), Error> {
        if len == 0 {
            return Ok(());
        }
        let range = ContentRange {
            first: session.offset,
            last: session.offset + len - 1,
        };
        let request = self.patch(session).header(CONTENT_RANGE, range.to_string());
        self.append(session, request, bytes, len).await
    }

    /// Sends a whole blob of `len` bytes in one request, to a session that holds nothing yet, and
    /// without a word on ranges: what every registry takes, since Docker sends so. The session is
    /// finished with [`Client::finish_upload`].
    ///
    /// # Errors
    /// As [`Client::append_upload`]; what arrived of it is best forgotten.
    pub async fn append_whole_blob(
        &self,
        session: &mut UploadSession,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        len: u64,
    ) -> Result<(), Error> {
        let request = self.patch(session);
        self.append(session, request, bytes, len).await
    }

    fn patch(&self, session: &UploadSession) -> reqwest::RequestBuilder {
        let url = session.location.clone();
        self.http_for(&url).request(Method::PATCH, url)
    }

    async fn append(
        &self,
        session: &mut UploadSession,
        request: reqwest::RequestBuilder,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        len: u64,
    ) -> Result<(), Error> {
        let operation = "PATCH of an upload";
        let (url, scopes) = (session.location.clone(), session.scopes.clone());
        // A registry that refuses the new login as well means it.
        let was_renewed = std::mem::take(&mut session.was_login_renewed);
        let asked = Instant::now();
        let to = (&url, &*scopes);
        let response = self
            .send_bytes(operation, to, request, (bytes, len), self.stall_timeout)
            .await?;
        if !was_renewed && self.handle_challenge(&response, &scopes, asked).await? {
            session.was_login_renewed = true;
            return Err(self.login_renewed_error(operation));
        }
        match response.status() {
            StatusCode::OK
            | StatusCode::CREATED
            | StatusCode::ACCEPTED
            | StatusCode::NO_CONTENT => {
                let all = session.offset + len;
                // What others write as `Range` here is wrong too often to count.
                let offset = confirmed_offset(&response).unwrap_or(all);
                if !(session.offset..=all).contains(&offset) {
                    return Err(Error::InvalidResponse {
                        registry: self.registry.clone(),
                        operation: operation.to_owned(),
                        what: format!("it holds {offset} bytes, where {all} were sent"),
                    });
                }
                // Where it names no other place, the session stays where it is.
                if response.headers().contains_key(LOCATION) {
                    session.location = self.next_location(operation, &response)?;
                }
                session.offset = offset;
                Ok(())
            }
            _ => Err(self
                .status_error_during(operation.to_owned(), response)
                .await),
        }
    }

    /// Sends a whole blob of `len` bytes with the request that finishes the session, which holds
    /// nothing yet (OCI distribution-spec, "POST then PUT"). When this yields, the registry has
    /// the blob.
    ///
    /// # Errors
    /// As [`Client::finish_upload`]; also bytes that could not be read.
    pub async fn finish_with_blob(
        &self,
        session: &UploadSession,
        digest: &Digest,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        len: u64,
    ) -> Result<(), Error> {
        let operation = "PUT of an upload";
        let url = session.finish_url(digest);
        let request = self.http_for(&url).request(Method::PUT, url.clone());
        let to = (&url, &*session.scopes);
        let asked = Instant::now();
        let response = self
            .send_bytes(operation, to, request, (bytes, len), FINISH_TIMEOUT)
            .await?;
        if self
            .handle_challenge(&response, &session.scopes, asked)
            .await?
        {
            return Err(self.login_renewed_error(operation));
        }
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self
                .status_error_during(operation.to_owned(), response)
                .await),
        }
    }

    /// Sends a request with a body that is read once. Nothing may stand still for longer than the
    /// stall timeout while it is sent, and for longer than `answer` before the answer.
    async fn send_bytes(
        &self,
        operation: &str,
        (url, scopes): (&Url, &[String]),
        request: reqwest::RequestBuilder,
        (bytes, len): (
            impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
            u64,
        ),
        answer: Duration,
    ) -> Result<reqwest::Response, Error> {
        let progress = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&progress);
        let bytes = bytes.inspect(move |piece| {
            let len = piece.as_ref().map_or(0, Bytes::len);
            counter.fetch_add(len as u64, Ordering::Relaxed);
        });
        let request = request
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, len)
            .body(reqwest::Body::wrap_stream(bytes));
        tokio::select! {
            answer = self.send(operation, scopes, url, request) => answer,
            seconds = wait_for_stall(&progress, len, self.stall_timeout, answer) => {
                Err(self.connection_lost_during(operation, format!("nothing moved for {seconds} seconds")))
            }
        }
    }

    /// The token ran out on the way. There is a new one now, and the bytes are the caller's.
    fn login_renewed_error(&self, operation: &str) -> Error {
        self.connection_lost_during(operation, "the login had to be renewed".to_owned())
    }

    fn connection_lost_during(&self, operation: &str, what: String) -> Error {
        Error::ConnectionLost {
            registry: self.registry.clone(),
            operation: operation.to_owned(),
            what,
        }
    }

    /// Asks the registry how much it holds, and sets the session's offset to it; `false` where
    /// the session is gone, or the registry cannot tell: then a new one must be opened.
    ///
    /// # Errors
    /// Anything but an answer to the question.
    pub async fn sync_upload_offset(&self, session: &mut UploadSession) -> Result<bool, Error> {
        let operation = "GET of an upload";
        let response = self
            .session_request(operation, Method::GET, session)
            .await?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {
                let held = response_headers::text(response.headers(), &RANGE)
                    .and_then(range::parse_upload_range);
                let Some(offset) = confirmed_offset(&response).or(held) else {
                    return Ok(false);
                };
                if response.headers().contains_key(LOCATION) {
                    session.location = self.next_location(operation, &response)?;
                }
                session.offset = offset;
                Ok(true)
            }
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::GONE
            | StatusCode::RANGE_NOT_SATISFIABLE => Ok(false),
            _ => Err(self
                .status_error_during(operation.to_owned(), response)
                .await),
        }
    }

    /// Tells the registry that all bytes were sent, and what their digest is. When this yields,
    /// the registry has the blob. After a broken line ask with `head_blob` whether it came about.
    ///
    /// # Errors
    /// Bytes that do not match the digest, a session that is gone, a broken line.
    pub async fn finish_upload(
        &self,
        session: &UploadSession,
        digest: &Digest,
    ) -> Result<(), Error> {
        let operation = "PUT of an upload";
        let url = session.finish_url(digest);
        let request = self.http_for(&url).request(Method::PUT, url.clone());
        let request = request.timeout(FINISH_TIMEOUT).header(CONTENT_LENGTH, 0);
        let response = self.send(operation, &session.scopes, &url, request).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self
                .status_error_during(operation.to_owned(), response)
                .await),
        }
    }

    /// Gives a session up, so that the registry need not keep what it holds of it. That it is
    /// gone already is fine.
    ///
    /// # Errors
    /// The registry could not be told.
    pub async fn cancel_upload(&self, session: UploadSession) -> Result<(), Error> {
        let operation = "DELETE of an upload";
        let response = self
            .session_request(operation, Method::DELETE, &session)
            .await?;
        match response.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            _ => Err(self
                .status_error_during(operation.to_owned(), response)
                .await),
        }
    }

    async fn session_request(
        &self,
        operation: &str,
        method: Method,
        session: &UploadSession,
    ) -> Result<reqwest::Response, Error> {
        let (url, scopes) = (&session.location, &session.scopes);
        self.retry(|| async {
            let request = self.http_for(url).request(method.clone(), url.clone());
            let request = request.timeout(SMALL_REQUEST_TIMEOUT);
            let response = self.send(operation, scopes, url, request).await?;
            if super::error::is_transient(response.status()) {
                return Err(self
                    .status_error_during(operation.to_owned(), response)
                    .await);
            }
            Ok(response)
        })
        .await
    }
}

/// The offset that our own server states exactly.
fn confirmed_offset(response: &reqwest::Response) -> Option<u64> {
    let name = HeaderName::from_static(UPLOAD_OFFSET_HEADER);
    response_headers::number(response.headers(), &name)
}

/// Ends once `progress` has stood still for `stall`, or, when it has come to `len`, for `answer` if
/// that is longer; yields for how many seconds.
async fn wait_for_stall(progress: &AtomicU64, len: u64, stall: Duration, answer: Duration) -> u64 {
    const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(500);
    let mut seen = progress.load(Ordering::Relaxed);
    let mut silent = Duration::ZERO;
    loop {
        tokio::time::sleep(STALL_CHECK_INTERVAL).await;
        let now = progress.load(Ordering::Relaxed);
        silent = match now == seen {
            true => silent + STALL_CHECK_INTERVAL,
            false => Duration::ZERO,
        };
        let patience = match now >= len {
            true => stall.max(answer),
            false => stall,
        };
        if silent >= patience {
            return patience.as_secs();
        }
        seen = now;
    }
}
