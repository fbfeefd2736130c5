//! Sends requests and reads responses, in the same way for every operation: login, redirects,
//! timeouts and limits.

use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::LOCATION;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::{Client, Error, SMALL_REQUEST_TIMEOUT, error, response_headers};
use crate::Endpoint;

/// The longest chain of redirects that is followed.
const MAX_REDIRECTS: usize = 10;

/// A response to a request whose body is small.
pub(super) enum FetchedBody {
    /// The headers and the body of a response with status 200.
    Complete(HeaderMap, Bytes),
    /// A response with another status.
    Unread(reqwest::Response),
}

impl Client {
    /// Sends a request without body, and retries it after transient errors. The caller judges every
    /// status that is not transient.
    pub(super) async fn send_with_retry(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
    ) -> Result<reqwest::Response, Error> {
        self.retry(|| async {
            let request = self
                .request(endpoint)
                .timeout(SMALL_REQUEST_TIMEOUT)
                .headers(headers.clone());
            self.send_once(endpoint, request).await
        })
        .await
    }

    /// Sends a request without body, and reads the body of a response with status 200, which has at
    /// most `limit` bytes. Retries both after transient errors. Other responses are not read.
    pub(super) async fn fetch_with_retry(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
        limit: usize,
    ) -> Result<FetchedBody, Error> {
        let operation = endpoint.to_string();
        self.retry(|| async {
            let request = self
                .request(endpoint)
                .timeout(SMALL_REQUEST_TIMEOUT)
                .headers(headers.clone());
            let response = self.send_once(endpoint, request).await?;
            if response.status() != StatusCode::OK {
                return Ok(FetchedBody::Unread(response));
            }
            let headers = response.headers().clone();
            let bytes = self.read_bounded(&operation, response, limit).await?;
            Ok(FetchedBody::Complete(headers, bytes))
        })
        .await
    }

    pub(super) fn request(&self, endpoint: &Endpoint) -> reqwest::RequestBuilder {
        let url = self.url(&endpoint.path());
        self.http_clients.registry.request(endpoint.method(), url)
    }

    /// Returns the URL of a path, with an optional query, at the registry.
    pub(super) fn url(&self, target: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        url.set_path(path);
        url.set_query(query);
        url
    }

    /// Returns the HTTP client for a URL that the registry named during `operation`: only the
    /// registry's own client sends the client certificate.
    ///
    /// # Errors
    /// Fails if the address in the URL must not be contacted.
    pub(super) fn http_for(&self, operation: &str, url: &Url) -> Result<&reqwest::Client, Error> {
        if self.is_registry_url(url) {
            return Ok(&self.http_clients.registry);
        }
        let checked = match &self.address_guard {
            Some(guard) => guard.client_for(url),
            None => Ok(None),
        };
        let client = checked
            .map_err(|refusal| self.forbidden_address(url, operation.to_owned(), refusal.reason))?;
        Ok(client.unwrap_or(&self.http_clients.other_hosts))
    }

    /// Sends a request once. A transient status is returned as an error.
    pub(super) async fn send_once(
        &self,
        endpoint: &Endpoint,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Error> {
        let scopes = self.scopes(endpoint);
        let response = self
            .send(&endpoint.to_string(), &scopes, &self.base, request)
            .await?;
        if error::is_transient(response.status()) {
            return Err(self.status_error(endpoint, response).await);
        }
        self.reject_web_page(endpoint, &response)?;
        Ok(response)
    }

    /// Sends a request to `url` with the login that the registry requires. After a challenge the
    /// request is sent once more, unless its body is a stream, which cannot be sent twice.
    pub(super) async fn send(
        &self,
        operation: &str,
        scopes: &[String],
        url: &Url,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Error> {
        let again = request.try_clone();
        let began_at = Instant::now();
        let request = self.authorize(scopes, request, url).await?;
        let sent_at = Instant::now();
        let response = self.transmit(operation, request).await?;
        let Some(plain) = again else {
            return Ok(response);
        };
        let again = plain.try_clone();
        let has_new_login = self
            .handle_challenge(&response, scopes, (began_at, sent_at))
            .await?;
        let response = if has_new_login && let Some(again) = again {
            let again = self.authorize(scopes, again, url).await?;
            self.transmit(operation, again).await?
        } else {
            response
        };
        self.follow(operation, plain, response).await
    }

    async fn transmit(
        &self,
        operation: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Error> {
        let response = execute(request)
            .await
            .map_err(|error| self.request_error(&self.registry, operation.to_owned(), error))?;
        self.mark_answered();
        if let Some(guard) = &self.address_guard {
            guard.record_registry(&response);
        }
        self.retry_policy.record_rate_limit(response.headers());
        Ok(response)
    }

    /// Follows redirects of a GET or HEAD, for example to an object store, without credentials.
    async fn follow(
        &self,
        operation: &str,
        plain: reqwest::RequestBuilder,
        mut response: reqwest::Response,
    ) -> Result<reqwest::Response, Error> {
        let Ok(request) = plain.build() else {
            return Ok(response);
        };
        if !is_read_request(&request) {
            return Ok(response);
        }
        for _ in 0..MAX_REDIRECTS {
            let (Some(next), Some(mut request)) = (redirect_target(&response), request.try_clone())
            else {
                break;
            };
            let http = self.http_for(operation, &next)?;
            *request.url_mut() = next;
            response = http
                .execute(request)
                .await
                .map_err(|error| self.request_error(&self.registry, operation.to_owned(), error))?;
        }
        Ok(response)
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read_bounded(
        &self,
        operation: &str,
        response: reqwest::Response,
        limit: usize,
    ) -> Result<Bytes, Error> {
        let mut body = Vec::new();
        let mut pieces = std::pin::pin!(self.stream(response));
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|what| Error::ConnectionLost {
                registry: self.registry.clone(),
                operation: operation.to_owned(),
                what,
            })?;
            if body.len() + piece.len() > limit {
                return Err(Error::InvalidResponse {
                    registry: self.registry.clone(),
                    operation: operation.to_owned(),
                    what: format!("the body has more than {limit} bytes"),
                });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.into())
    }

    /// Streams a body as it arrives. A pause as long as the stall timeout ends it with an error.
    pub(super) fn stream(
        &self,
        response: reqwest::Response,
    ) -> impl Stream<Item = Result<Bytes, String>> + Send + use<> {
        let pieces = Box::pin(response.bytes_stream());
        let stall = self.stall_timeout;
        futures::stream::unfold(Some(pieces), move |pieces| async move {
            let mut pieces = pieces?;
            match tokio::time::timeout(stall, pieces.next()).await {
                Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
                Ok(Some(Err(error))) => Some((Err(error::chain(&error)), None)),
                Ok(None) => None,
                Err(_) => Some((Err("no data arrived in time".to_owned()), None)),
            }
        })
    }
}

/// Sends a request as it is. A GET or HEAD follows redirects within its origin; redirects to other
/// origins are returned, because credentials must not be sent there. Other methods follow no
/// redirect: followed with GET, it would look as if the write had succeeded.
pub(super) async fn execute(
    request: reqwest::RequestBuilder,
) -> reqwest::Result<reqwest::Response> {
    let (http, request) = request.build_split();
    let mut request = request?;
    for _ in 0..MAX_REDIRECTS {
        let again = request.try_clone().filter(is_read_request);
        let response = http.execute(request).await?;
        let next =
            redirect_target(&response).filter(|next| next.origin() == response.url().origin());
        let (Some(mut again), Some(next)) = (again, next) else {
            return Ok(response);
        };
        *again.url_mut() = next;
        request = again;
    }
    http.execute(request).await
}

fn is_read_request(request: &reqwest::Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Returns the URL that a response redirects to.
fn redirect_target(response: &reqwest::Response) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let next = response_headers::text(response.headers(), &LOCATION)?;
    let next = response.url().join(next).ok()?;
    matches!(next.scheme(), "http" | "https").then_some(next)
}
