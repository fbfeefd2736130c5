//! The errors of requests to a registry.

use std::time::Duration;

use http::StatusCode;

use super::{ConnectErrorKind, CredentialUse};
use crate::{ApiError, ErrorCode, Registry};

/// The failure of a request. The text names the registry and the operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The client could not be set up.
    #[error("cannot set up a client for {registry}: {what}")]
    Setup {
        /// The registry.
        registry: Registry,
        /// The reason.
        what: String,
    },
    /// No connection could be opened.
    #[error("cannot reach {registry}: {what}{}", redirect_suffix(.redirected_by.as_ref()))]
    Connect {
        /// The host that cannot be reached: the registry, or a host that it names.
        registry: Registry,
        /// The registry that named the host in a `Location` header, if it is another one.
        redirected_by: Option<Registry>,
        /// The error with its causes.
        what: String,
        /// The kind of error.
        kind: ConnectErrorKind,
    },
    /// The connection broke or stalled during the request.
    #[error("lost the connection to {registry} during {operation}: {what}")]
    ConnectionLost {
        /// The registry.
        registry: Registry,
        /// The method and path.
        operation: String,
        /// The error with its causes.
        what: String,
    },
    /// The registry, its token server, or a proxy in front of them answered with an error status.
    #[error("{registry} answered {operation} with {status}{}{}", errors_suffix(*.status, .faults), account_suffix(*.status, .credentials))]
    Status {
        /// The registry.
        registry: Registry,
        /// The method and path.
        operation: String,
        /// The status.
        status: StatusCode,
        /// The errors in the body; empty if a proxy answered.
        faults: Vec<ApiError>,
        /// The `Server` header, which tells a response of a proxy from one of the registry; without
        /// the header, the program that is named at the end of the HTML page in the body.
        server: Option<Box<str>>,
        /// The time to wait that the registry asks for.
        retry_after: Option<Duration>,
        /// Whether the token server of the registry refused the login.
        is_login: bool,
        /// How far the request made use of the credentials.
        credentials: Box<CredentialUse>,
    },
    /// The registry named a host that must not be contacted.
    #[error(
        "refused to contact {host}, which {registry} names in its response to {operation}: {reason}"
    )]
    ForbiddenAddress {
        /// The registry.
        registry: Registry,
        /// The method and path.
        operation: String,
        /// The host, with its port.
        host: String,
        /// The reason.
        reason: String,
    },
    /// The response is a web page, and so not that of a registry.
    #[error("{registry} answered {operation} with a web page, which no registry sends")]
    WebPage {
        /// The host.
        registry: Registry,
        /// The method and path.
        operation: String,
    },
    /// The response violates the protocol.
    #[error("invalid response from {registry} to {operation}: {what}")]
    InvalidResponse {
        /// The registry.
        registry: Registry,
        /// The method and path.
        operation: String,
        /// The problem with the response.
        what: String,
    },
}

/// Whether a retry of the same request may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryVerdict {
    /// A retry may succeed, after the time that the registry asks for, if any.
    After(Option<Duration>),
    /// A retry cannot succeed.
    Never,
}

impl Error {
    /// Returns whether a retry may succeed.
    pub fn retry_verdict(&self) -> RetryVerdict {
        match self {
            Self::Setup { .. }
            | Self::ForbiddenAddress { .. }
            | Self::WebPage { .. }
            | Self::InvalidResponse { .. } => RetryVerdict::Never,
            Self::Connect { kind, .. } => match kind {
                ConnectErrorKind::Network => RetryVerdict::After(None),
                ConnectErrorKind::UnknownHost
                | ConnectErrorKind::PlainHttp
                | ConnectErrorKind::UnknownAuthority
                | ConnectErrorKind::Certificate
                | ConnectErrorKind::UnusableCertificate
                | ConnectErrorKind::ClientCertificate
                | ConnectErrorKind::Handshake => RetryVerdict::Never,
            },
            Self::ConnectionLost { .. } => RetryVerdict::After(None),
            Self::Status {
                status,
                retry_after,
                ..
            } if is_transient(*status) && !self.is_permanent_failure() => {
                RetryVerdict::After(*retry_after)
            }
            Self::Status { .. } => RetryVerdict::Never,
        }
    }

    /// Reports whether an upstream of the registry failed, rather than the registry itself: our server
    /// answers 502 with an error body then, after its own retries.
    pub fn is_upstream_failure(&self) -> bool {
        self.has_fault(ErrorCode::UpstreamFailed)
    }

    /// Reports whether a server failed in a way that lasts until somebody mends it, although the
    /// status says that a retry may help.
    fn is_permanent_failure(&self) -> bool {
        self.is_upstream_failure()
            || self.has_fault(ErrorCode::StorageForbidden)
            || self.has_fault(ErrorCode::ManifestDamaged)
    }

    /// Reports whether the response has this status and this error code.
    pub fn has_fault(&self, code: ErrorCode) -> bool {
        let Self::Status { status, faults, .. } = self else {
            return false;
        };
        *status == code.status() && faults.iter().any(|fault| fault.code == code.as_str())
    }

    /// Reports whether the registry has no room for an upload.
    pub fn is_no_space(&self) -> bool {
        let Self::Status { status, faults, .. } = self else {
            return false;
        };
        *status == StatusCode::INSUFFICIENT_STORAGE || faults.iter().any(ApiError::is_no_space)
    }

    /// Returns the detail of the error with this code, if [`Error::has_fault`] reports one.
    pub fn fault_detail(&self, code: ErrorCode) -> Option<String> {
        let Self::Status { faults, .. } = self else {
            return None;
        };
        let mut faults = faults.iter().filter(|fault| fault.code == code.as_str());
        let fault = faults.next().filter(|_| self.has_fault(code))?;
        let detail = fault.detail.as_str().unwrap_or(&fault.message);
        Some(detail.to_owned())
    }

    /// Marks the error as a refusal of the login.
    pub(super) fn into_login_error(mut self) -> Self {
        if let Self::Status { is_login, .. } = &mut self {
            *is_login = true;
        }
        self
    }

    /// Returns the time to wait that the response asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Setup { .. }
            | Self::Connect { .. }
            | Self::ConnectionLost { .. }
            | Self::ForbiddenAddress { .. }
            | Self::WebPage { .. }
            | Self::InvalidResponse { .. } => None,
        }
    }

    /// Returns the status of the response, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Setup { .. }
            | Self::Connect { .. }
            | Self::ConnectionLost { .. }
            | Self::ForbiddenAddress { .. }
            | Self::WebPage { .. }
            | Self::InvalidResponse { .. } => None,
        }
    }
}

/// Reports whether a retry may change the status.
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

/// Formats an error with its causes in one line.
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

/// Formats the last cause of an error, which tells what happened.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

pub(super) fn redirect_suffix(redirected_by: Option<&Registry>) -> String {
    redirected_by.map_or(String::new(), |registry| {
        format!(" (redirected by {registry})")
    })
}

/// Names the account, for statuses that depend on it.
fn account_suffix(status: StatusCode, credentials: &CredentialUse) -> String {
    use CredentialUse::{Insufficient, Sent};
    match (status, credentials) {
        (
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN,
            Sent { account } | Insufficient { account },
        ) => format!(" (as {account})"),
        _ => String::new(),
    }
}

fn errors_suffix(status: StatusCode, faults: &[ApiError]) -> String {
    let text = |fault: &ApiError| match status {
        // The detail lists the permissions that a token would need, which does not help people.
        StatusCode::UNAUTHORIZED => format!("{}: {}", fault.code, fault.message),
        _ => fault.to_string(),
    };
    let texts: Vec<String> = faults.iter().take(5).map(text).collect();
    if texts.is_empty() {
        return String::new();
    }
    format!(": {}", texts.join("; "))
}
