//! What can go wrong between here and a registry.

use std::time::Duration;

use http::StatusCode;
use http::header::SERVER;
use url::Url;

use super::{Client, ConnectErrorKind, response_headers};
use crate::{ApiError, Endpoint, ErrorCode, Registry, api_error};

/// A request that did not do what it should. The text names the registry and the operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The client itself could not be made.
    #[error("cannot speak to {registry}: {what}")]
    Setup {
        /// The registry.
        registry: Registry,
        /// Why.
        what: String,
    },
    /// No connection came about.
    #[error("cannot reach {registry}: {what}")]
    Connect {
        /// The registry.
        registry: Registry,
        /// Why, down to the cause.
        what: String,
        /// What kind of trouble it was.
        kind: ConnectErrorKind,
    },
    /// The connection broke or fell silent on the way.
    #[error("lost the connection to {registry} during {operation}: {what}")]
    ConnectionLost {
        /// The registry.
        registry: Registry,
        /// Method and path.
        operation: String,
        /// Why, down to the cause.
        what: String,
    },
    /// The registry, its token server, or a proxy before them, answered with an error status.
    #[error("{registry} answered {operation} with {status}{}{}", errors_suffix(*.status, .faults), account_suffix(*.status, .account.as_deref()))]
    Status {
        /// The registry.
        registry: Registry,
        /// Method and path.
        operation: String,
        /// The status.
        status: StatusCode,
        /// The errors in the body; empty where a proxy answered.
        faults: Vec<ApiError>,
        /// The `Server` header, which tells a proxy's answer from the registry's; without one, the
        /// program that signs the page in the body.
        server: Option<Box<str>>,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
        /// Whether it was a login that was refused, at the registry's token server.
        is_login: bool,
        /// Whom the caller had said they are.
        account: Option<Box<str>>,
    },
    /// The registry answered something that makes no sense.
    #[error("{registry} gave an answer to {operation} that makes no sense: {what}")]
    InvalidResponse {
        /// The registry.
        registry: Registry,
        /// Method and path.
        operation: String,
        /// What was wrong with it.
        what: String,
    },
}

/// Whether the same request may succeed a little later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryVerdict {
    /// Perhaps, after the time that the registry asks for, if it does.
    After(Option<Duration>),
    /// No.
    Never,
}

impl Error {
    /// Whether trying again can help.
    pub fn retry_verdict(&self) -> RetryVerdict {
        match self {
            Self::Setup { .. } | Self::InvalidResponse { .. } => RetryVerdict::Never,
            Self::Connect { kind: trouble, .. } => match trouble {
                ConnectErrorKind::Network => RetryVerdict::After(None),
                ConnectErrorKind::UnknownHost
                | ConnectErrorKind::PlainHttp
                | ConnectErrorKind::UnknownAuthority
                | ConnectErrorKind::Certificate
                | ConnectErrorKind::ClientCertificate
                | ConnectErrorKind::Handshake => RetryVerdict::Never,
            },
            Self::ConnectionLost { .. } => RetryVerdict::After(None),
            Self::Status {
                status,
                retry_after,
                ..
            } if is_transient(*status) && !self.is_upstream_failure() => {
                RetryVerdict::After(*retry_after)
            }
            Self::Status { .. } => RetryVerdict::Never,
        }
    }

    /// Whether the registry itself is well, and one behind it, whose content it caches, failed: our
    /// server says so by 502 with a fault. It has tried already what there was to try.
    pub fn is_upstream_failure(&self) -> bool {
        let said = ErrorCode::UpstreamFailed;
        match self {
            Self::Status { status, faults, .. } => {
                *status == said.status() && faults.iter().any(|fault| fault.code == said.as_str())
            }
            Self::Setup { .. }
            | Self::Connect { .. }
            | Self::ConnectionLost { .. }
            | Self::InvalidResponse { .. } => false,
        }
    }

    /// The same, of a login.
    pub(super) fn into_login_error(mut self) -> Self {
        if let Self::Status {
            is_login: login, ..
        } = &mut self
        {
            *login = true;
        }
        self
    }

    /// How long whoever answered asks to wait, where they do.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Setup { .. }
            | Self::Connect { .. }
            | Self::ConnectionLost { .. }
            | Self::InvalidResponse { .. } => None,
        }
    }

    /// The status, where one was answered.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Setup { .. }
            | Self::Connect { .. }
            | Self::ConnectionLost { .. }
            | Self::InvalidResponse { .. } => None,
        }
    }
}

/// Statuses that say "not now" rather than "no".
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The last cause of an error: the one that says what happened.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Who was refused, where that is the point.
fn account_suffix(status: StatusCode, whom: Option<&str>) -> String {
    match (status, whom) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(whom)) => {
            format!(" (as {whom})")
        }
        _ => String::new(),
    }
}

fn errors_suffix(status: StatusCode, faults: &[ApiError]) -> String {
    let said = |fault: &ApiError| match status {
        // The detail is the list of rights that a token would need: nothing for people.
        StatusCode::UNAUTHORIZED => format!("{}: {}", fault.code, fault.message),
        _ => fault.to_string(),
    };
    let texts: Vec<String> = faults.iter().take(5).map(said).collect();
    match texts.is_empty() {
        true => String::new(),
        false => format!(": {}", texts.join("; ")),
    }
}

/// The program that signs an error page, as nginx and what is built on it do:
/// `<hr><center>nginx/1.22.1</center>`.
fn page_signature(page: &[u8]) -> Option<&str> {
    const MAX_SIGNATURE_BYTES: usize = 60;
    let page = std::str::from_utf8(page).ok()?;
    let (_, signed) = page.rsplit_once("<center>")?;
    let (name, _) = signed.split_once("</center>")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.-_ ()".contains(c);
    let is_name = !name.is_empty() && name.len() <= MAX_SIGNATURE_BYTES && name.chars().all(plain);
    is_name.then_some(name)
}

impl Client {
    /// An answer with an error status, read as far as it can be.
    pub(super) async fn status_error(
        &self,
        endpoint: &Endpoint,
        response: reqwest::Response,
    ) -> Error {
        self.status_error_during(endpoint.to_string(), response)
            .await
    }

    pub(super) async fn status_error_during(
        &self,
        operation: String,
        response: reqwest::Response,
    ) -> Error {
        self.status_error_from(&self.registry, operation, response)
            .await
    }

    /// The same, of a server that need not be the registry itself.
    pub(super) async fn status_error_from(
        &self,
        server_name: &Registry,
        operation: String,
        response: reqwest::Response,
    ) -> Error {
        const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
        let status = response.status();
        let server = response_headers::text(response.headers(), &SERVER).map(Box::from);
        let retry_after = response_headers::retry_after(response.headers());
        let body = self
            .read_bounded(&operation, response, MAX_ERROR_BODY_BYTES)
            .await;
        let body = body.unwrap_or_default();
        let server = server.or_else(|| page_signature(&body).map(Box::from));
        Error::Status {
            registry: server_name.clone(),
            operation,
            status,
            faults: api_error::parse_error_body(&body),
            server,
            retry_after,
            is_login: false,
            account: self.account().map(Box::from),
        }
    }

    pub(super) fn invalid_response(&self, endpoint: &Endpoint, what: String) -> Error {
        Error::InvalidResponse {
            registry: self.registry.clone(),
            operation: endpoint.to_string(),
            what,
        }
    }

    pub(super) fn connection_lost(&self, endpoint: &Endpoint, what: String) -> Error {
        Error::ConnectionLost {
            registry: self.registry.clone(),
            operation: endpoint.to_string(),
            what,
        }
    }

    /// A request to `server` that got no answer.
    pub(super) fn request_error(
        &self,
        server: &Registry,
        operation: String,
        error: reqwest::Error,
    ) -> Error {
        // A registry may send a caller on to another host, an object store for instance.
        let elsewhere = error.url().filter(|url| url.origin() != self.base.origin());
        let elsewhere = elsewhere
            .and_then(registry_of_url)
            .filter(|it| it != server);
        let sent_on = match &elsewhere {
            Some(_) => format!(" (where {server} sends this)"),
            None => String::new(),
        };
        let registry = elsewhere.unwrap_or_else(|| server.clone());
        if !error.is_connect() {
            let what = chain(&error.without_url()) + &sent_on;
            return Error::ConnectionLost {
                registry,
                operation,
                what,
            };
        }
        let (trouble, what) = ConnectErrorKind::classify(&error.without_url());
        let trouble = match trouble {
            // The name was known a moment ago: a laptop that changes networks.
            ConnectErrorKind::UnknownHost if self.has_answered() => ConnectErrorKind::Network,
            trouble => trouble,
        };
        Error::Connect {
            registry,
            what: what + &sent_on,
            kind: trouble,
        }
    }
}

/// A URL's host and port as an address.
pub(super) fn registry_of_url(url: &Url) -> Option<Registry> {
    let host = url.host_str()?;
    match url.port() {
        Some(port) => format!("{host}:{port}").parse().ok(),
        None => host.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_tell_who_wrote_it() {
        let page = b"<html><center><h1>413 Too Large</h1></center><hr><center>openresty</center>";
        assert_eq!(page_signature(page), Some("openresty"));
        assert_eq!(page_signature(b"<center><script></center>"), None);
        assert_eq!(page_signature(b"{}"), None);
        assert_eq!(page_signature(b"\xff"), None);
    }
}
