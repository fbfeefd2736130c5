//! Sends one request to a receiver.
//!
//! Proxies and certificates are those of all requests of this server. Start reading at [`post`].

use std::time::Duration;

use imgsync_oci::client::TlsOptions;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, Response, StatusCode};
use url::{Host, Url};

/// The `User-Agent` header.
const USER_AGENT: &str = concat!("imgsync-server/", env!("CARGO_PKG_VERSION"));
/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// How much of a response is read so that its connection can be used again.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// How long it is read. A receiver may send the output of a command that runs for minutes.
const MAX_RESPONSE_TIME: Duration = Duration::from_millis(200);

/// Why a receiver did not accept a request. The text has no URL, because a URL can contain secrets.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    /// There is no answer.
    #[error("{0}")]
    NoAnswer(String),
    /// There is no answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The answer is an error.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// The answer is a redirect that is not followed.
    #[error("the answer is {0}, a redirect that is not followed: set url to its target")]
    Redirect(StatusCode),
}

impl DeliveryError {
    /// Returns whether the receiver rejects this request, and not only for now.
    pub(super) fn is_rejection(&self) -> bool {
        let Self::Status(status) = self else {
            return false;
        };
        let is_temporary = matches!(status.as_u16(), 401 | 403 | 407 | 408 | 425 | 429);
        status.is_client_error() && !is_temporary
    }
}

/// Returns a client for requests to a URL.
///
/// # Errors
/// TLS or a proxy of the environment cannot be set up.
pub(super) fn client_for(url: &Url) -> Result<Client, String> {
    let tls = TlsOptions::default().with_user_agent(USER_AGENT);
    tls.plain_client(!is_loopback(url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Sends a body with these headers. Any 2xx answer means that the receiver has accepted it, whatever
/// becomes of the body of the answer.
///
/// Redirects that keep the method (307, 308) are followed on the same host, and never from HTTPS to
/// HTTP, so that no other server gets the headers. Another redirect is an error: a client that
/// follows it leaves out the body.
///
/// # Errors
/// There is no answer in `timeout`, or it is no acceptance.
pub(super) async fn post(
    client: &Client,
    url: &Url,
    headers: &HeaderMap,
    body: &str,
    timeout: Duration,
) -> Result<(), DeliveryError> {
    let sending = follow(client, url, headers, body);
    let answer = tokio::time::timeout(timeout, sending).await;
    let answer = answer.map_err(|_elapsed| DeliveryError::TimedOut(timeout))?;
    let reading = read_bounded(answer?);
    // A connection with an unread body is closed.
    let _ = tokio::time::timeout(MAX_RESPONSE_TIME, reading).await;
    Ok(())
}

/// Sends the body, and returns the answer if it is a 2xx. Its body is not read.
async fn follow(
    client: &Client,
    url: &Url,
    headers: &HeaderMap,
    body: &str,
) -> Result<Response, DeliveryError> {
    let mut url = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let request = client.post(url.clone()).headers(headers.clone());
        let response = request.body(body.to_owned()).send().await;
        let response = response.map_err(|error| DeliveryError::NoAnswer(root_cause(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if !status.is_redirection() {
            return Err(DeliveryError::Status(status));
        }
        let target = redirect_target(&url, &response);
        url = target.ok_or(DeliveryError::Redirect(status))?;
    }
    Err(DeliveryError::NoAnswer("too many redirects".to_owned()))
}

/// Returns the URL to which a request is redirected, if the redirect may be followed.
fn redirect_target(url: &Url, response: &Response) -> Option<Url> {
    let keeps_method = matches!(
        response.status(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let target = url.join(location).ok()?;
    let is_same_host = target.host() == url.host();
    let is_as_safe = target.scheme() == url.scheme() || target.scheme() == "https";
    (keeps_method && is_same_host && is_as_safe).then_some(target)
}

/// Reads the body of a response, up to a limit.
async fn read_bounded(mut response: Response) {
    let mut read = 0;
    while read < MAX_RESPONSE_BYTES
        && let Ok(Some(bytes)) = response.chunk().await
    {
        read += bytes.len();
    }
}

/// Returns the text of the innermost error, which says what happened and has no URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(cause, std::ptr::from_ref(error)) {
        return "the request failed".to_owned();
    }
    cause.to_string()
}
