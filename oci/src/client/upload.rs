//! Uploads of blobs through upload sessions: start, append, query the offset, finish, cancel. Start
//! at [`UploadSession`].
//!
//! Each method is one request. The caller, who has the bytes, continues after an error.

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

/// The outcome of starting an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadStart {
    /// The registry mounted the blob from another repository; nothing is left to upload.
    Mounted,
    /// The session is open, and the bytes are to be uploaded.
    Open(UploadSession),
}

impl Client {
    /// Opens an upload session, or mounts the blob if the registry can. A session whose response is
    /// lost holds no bytes, and expires at the registry.
    ///
    /// # Errors
    /// Fails if the registry does not accept uploads to this repository.
    pub async fn start_upload(
        &self,
        repository: &Repository,
        mount: Option<Mount>,
    ) -> Result<UploadStart, Error> {
        let is_mount = mount.is_some();
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::StartUpload {
                mount,
                digest: None,
                algorithm: None,
            },
        );
        let response = self.request_session(&endpoint).await?;
        match response.status() {
            StatusCode::CREATED if is_mount => Ok(UploadStart::Mounted),
            StatusCode::CREATED => Err(self.invalid_response(
                &endpoint,
                "it reports a mounted blob, but none was requested".to_owned(),
            )),
            StatusCode::ACCEPTED => {
                let session = self.opened_session(&endpoint, &response)?;
                Ok(UploadStart::Open(session))
            }
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }

    /// Appends `len` bytes at the offset of the session, and advances the offset. After an error,
    /// call [`Client::sync_upload_offset`] before continuing, because a part may have arrived.
    ///
    /// # Errors
    /// Fails on a lost connection and on an error status. An error of `bytes` appears as a lost
    /// connection; the caller knows the cause.
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
        let request = self
            .patch(session)?
            .header(CONTENT_RANGE, range.to_string());
        self.append(session, request, bytes, len).await
    }

    /// Sends a whole blob of `len` bytes in one PATCH without `Content-Range`, to a session that holds
    /// no bytes. Every registry accepts this form, because Docker uses it. Finish the session with
    /// [`Client::finish_upload`].
    ///
    /// # Errors
    /// As [`Client::append_upload`]; start a new session then.
    pub async fn append_whole_blob(
        &self,
        session: &mut UploadSession,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        len: u64,
    ) -> Result<(), Error> {
        let request = self.patch(session)?;
        self.append(session, request, bytes, len).await
    }

    fn patch(&self, session: &UploadSession) -> Result<reqwest::RequestBuilder, Error> {
        let url = session.location.clone();
        let http = self.http_for("PATCH of an upload", &url)?;
        Ok(http.request(Method::PATCH, url))
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
        // If the registry also rejects the renewed login, renewing it again does not help.
        let was_renewed = std::mem::take(&mut session.was_login_renewed);
        let sent_at = Instant::now();
        let to = (&url, &*scopes);
        let response = self
            .send_bytes(operation, to, request, (bytes, len), self.stall_timeout)
            .await?;
        if !was_renewed
            && self
                .handle_challenge(&response, &scopes, (sent_at, sent_at))
                .await?
        {
            session.was_login_renewed = true;
            return Err(self.login_renewed_error(operation));
        }
        match response.status() {
            StatusCode::OK
            | StatusCode::CREATED
            | StatusCode::ACCEPTED
            | StatusCode::NO_CONTENT => {
                let all = session.offset + len;
                // Other registries state a wrong `Range` here too often to rely on it.
                let offset = confirmed_offset(&response).unwrap_or(all);
                if !(session.offset..=all).contains(&offset) {
                    return Err(Error::InvalidResponse {
                        registry: self.registry.clone(),
                        operation: operation.to_owned(),
                        what: format!("it reports {offset} bytes after {all} were sent"),
                    });
                }
                // Without a new Location, the session keeps its URL.
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

    /// Sends a whole blob of `len` bytes with the request that finishes the session, which holds no
    /// bytes yet (OCI distribution-spec, "POST then PUT"). On success the registry has the blob.
    ///
    /// # Errors
    /// As [`Client::finish_upload`]; also on an error of `bytes`.
    pub async fn finish_with_blob(
        &self,
        session: &UploadSession,
        digest: &Digest,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        len: u64,
    ) -> Result<(), Error> {
        let operation = "PUT of an upload";
        let url = session.finish_url(digest);
        let request = self
            .http_for(operation, &url)?
            .request(Method::PUT, url.clone());
        let to = (&url, &*session.scopes);
        let sent_at = Instant::now();
        let response = self
            .send_bytes(operation, to, request, (bytes, len), FINISH_TIMEOUT)
            .await?;
        if self
            .handle_challenge(&response, &session.scopes, (sent_at, sent_at))
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

    /// Sends a request with a body that can be read once. The upload may stall for the stall timeout;
    /// after the last byte, the response may take `answer` if that is longer.
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
                Err(self.connection_lost_during(operation, format!("no data was sent for {seconds} seconds")))
            }
        }
    }

    /// Returns the error for a token that expired before the request, and was renewed since. The
    /// caller has to send the bytes again.
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

    /// Sets the offset of the session to the number of bytes that the registry reports. Returns false
    /// if the session no longer exists, or the registry reports no number; open a new one then.
    ///
    /// # Errors
    /// Fails on network errors and on other error statuses.
    pub async fn sync_upload_offset(&self, session: &mut UploadSession) -> Result<bool, Error> {
        let operation = "GET of an upload";
        let response = self
            .session_request(operation, Method::GET, session)
            .await?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {
                let range = response_headers::text(response.headers(), &RANGE)
                    .and_then(range::parse_upload_range);
                let Some(offset) = confirmed_offset(&response).or(range) else {
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

    /// Finishes a session whose bytes have all been sent. On success the registry has the blob. After
    /// a lost connection, ask with [`Client::head_blob`] whether the blob was committed.
    ///
    /// # Errors
    /// Fails if the bytes do not match the digest, if the session no longer exists, and on network
    /// errors.
    pub async fn finish_upload(
        &self,
        session: &UploadSession,
        digest: &Digest,
    ) -> Result<(), Error> {
        let operation = "PUT of an upload";
        let url = session.finish_url(digest);
        let request = self
            .http_for(operation, &url)?
            .request(Method::PUT, url.clone());
        let request = request.timeout(FINISH_TIMEOUT).header(CONTENT_LENGTH, 0);
        let response = self.send(operation, &session.scopes, &url, request).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self
                .status_error_during(operation.to_owned(), response)
                .await),
        }
    }

    /// Cancels a session, so that the registry can discard its bytes. A session that no longer exists
    /// is no error.
    ///
    /// # Errors
    /// Fails on network errors and on other error statuses.
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
            let request = self
                .http_for(operation, url)?
                .request(method.clone(), url.clone());
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

/// Returns the exact offset that our own server reports.
fn confirmed_offset(response: &reqwest::Response) -> Option<u64> {
    let name = HeaderName::from_static(UPLOAD_OFFSET_HEADER);
    response_headers::number(response.headers(), &name)
}

/// Waits until `progress` has not changed for `stall`, or, once `progress` is at `len`, for `answer`
/// if that is longer. Returns the length of the pause in seconds.
async fn wait_for_stall(progress: &AtomicU64, len: u64, stall: Duration, answer: Duration) -> u64 {
    const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(500);
    let mut last = progress.load(Ordering::Relaxed);
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(STALL_CHECK_INTERVAL).await;
        let now = progress.load(Ordering::Relaxed);
        pause = if now == last {
            pause + STALL_CHECK_INTERVAL
        } else {
            Duration::ZERO
        };
        let timeout = if now >= len { stall.max(answer) } else { stall };
        if pause >= timeout {
            return timeout.as_secs();
        }
        last = now;
    }
}
