//! Maps all errors to responses: status, code, detail and headers.
//!
//! This module must not send internal errors to the client: they are only logged.

use hyper::ext::ReasonPhrase;
use hyper::header::{ALLOW, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response};
use imgsync_oci::endpoint::EndpointError;
use imgsync_oci::{ApiError, ErrorCode, Reference, api_error};
use serde_json::{Value, json};

use super::body::ResponseBody;
use super::responses;
use crate::registry::Error;
use crate::store;
use crate::upstream::{self, UpstreamFailure, UpstreamFailureKind};

/// The `Retry-After` value, in seconds, if too many uploads are open, too many blobs are being
/// verified, or request bodies use too much memory.
const BUSY_RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// The `Retry-After` value, in seconds, if the upstream states none.
const DEFAULT_UPSTREAM_RETRY_SECONDS: u64 = 5;

/// The most digests of unknown content in a response. A manifest can name so many that the response
/// would be larger than the manifest.
const MAX_UNKNOWN_CHILDREN: usize = 1000;

/// An error response.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    code: ErrorCode,
    errors: Vec<ApiError>,
    /// The headers besides those of the body.
    pub(super) headers: Box<HeaderMap>,
    /// Whether an upstream caused the error.
    pub(super) is_from_upstream: bool,
    /// The reason phrase of the status line, if it should not be the standard one.
    reason_phrase: Option<String>,
}

impl ErrorResponse {
    /// Creates the response for a code.
    pub(super) fn new(code: ErrorCode, detail: impl Into<Value>) -> Self {
        Self {
            code,
            errors: vec![ApiError::new(code, detail)],
            headers: Box::default(),
            is_from_upstream: false,
            reason_phrase: None,
        }
    }

    /// Returns the code.
    pub(super) fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns whether the response has this code.
    pub(super) fn has_code(&self, code: ErrorCode) -> bool {
        self.code == code
    }

    /// Logs an internal error, and creates a response that does not contain it.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "request failed");
        Self::new(ErrorCode::Unknown, Value::Null)
    }

    /// Creates the response to an upload for which there is no room. Clients print the message of a
    /// refusal and do not repeat the request; of a 5xx response, they print only the status. Docker
    /// with containerd's image store prints only the status line in any case.
    fn no_space(message: String) -> Self {
        let mut response = Self::new(ErrorCode::Denied, api_error::NO_SPACE);
        for error in &mut response.errors {
            error.message.clone_from(&message);
        }
        response.reason_phrase = Some(message);
        response
    }

    /// Creates the response to a request that the client should repeat later.
    pub(super) fn busy(code: ErrorCode, detail: String) -> Self {
        let mut response = Self::new(code, detail);
        response.headers.insert(RETRY_AFTER, BUSY_RETRY_AFTER);
        response
    }

    /// Builds the HTTP response.
    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let mut response = responses::json(
            self.code.status(),
            api_error::format_error_body(&self.errors),
        );
        response.headers_mut().extend(*self.headers);
        let reason = self
            .reason_phrase
            .map(|reason| reason.replace(|c: char| !is_printable(c), "?"));
        if let Some(reason) = reason.and_then(|text| ReasonPhrase::try_from(text).ok()) {
            response.extensions_mut().insert(reason);
        }
        response
    }
}

fn is_printable(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

impl From<EndpointError> for ErrorResponse {
    fn from(error: EndpointError) -> Self {
        let EndpointError {
            code,
            detail,
            allow,
        } = error;
        let mut response = Self::new(code, detail);
        if !allow.is_empty() {
            let methods: Vec<&str> = allow.iter().map(Method::as_str).collect();
            response
                .headers
                .insert(ALLOW, responses::header_value(methods.join(", ")));
        }
        response
    }
}

impl From<upstream::Error> for ErrorResponse {
    fn from(error: upstream::Error) -> Self {
        let text = error.to_string();
        match error {
            upstream::Error::Registry(error) => error.into(),
            upstream::Error::NotAllowed { .. } => Self {
                is_from_upstream: true,
                ..Self::new(ErrorCode::Denied, text)
            },
            upstream::Error::Upstream(failure) => failure.into(),
        }
    }
}

impl From<UpstreamFailure> for ErrorResponse {
    /// Builds a 5xx response. It must not be a 404, because whether the content exists is unknown,
    /// and not a 401 or 403, which would refer to the caller's own login.
    fn from(failure: UpstreamFailure) -> Self {
        let code = match failure.kind {
            UpstreamFailureKind::RateLimited
            | UpstreamFailureKind::Busy
            | UpstreamFailureKind::TimedOut => ErrorCode::Unavailable,
            UpstreamFailureKind::Down
            | UpstreamFailureKind::Denied
            | UpstreamFailureKind::InvalidResponse => ErrorCode::UpstreamFailed,
            UpstreamFailureKind::DiskFull => ErrorCode::StorageFull,
            UpstreamFailureKind::Store => ErrorCode::Unknown,
        };
        let mut response = Self {
            is_from_upstream: true,
            ..Self::new(code, failure.to_string())
        };
        // Docker does not show the body of such a response, but its reason phrase.
        response.reason_phrase = Some(failure.to_string());
        if code == ErrorCode::Unavailable {
            let seconds = failure
                .retry_after
                .map_or(DEFAULT_UPSTREAM_RETRY_SECONDS, |time| time.as_secs().max(1));
            response.headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<Error> for ErrorResponse {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NameUnknown(name) => {
                Self::new(ErrorCode::NameUnknown, json!({ "name": name.as_str() }))
            }
            Error::BlobUnknown(digest) => Self::new(ErrorCode::BlobUnknown, digest.to_string()),
            Error::ManifestUnknown(Reference::Tag(tag)) => {
                Self::new(ErrorCode::ManifestUnknown, format!("unknown tag={tag}"))
            }
            Error::ManifestUnknown(Reference::Digest(digest)) => Self::new(
                ErrorCode::ManifestUnknown,
                format!("unknown digest={digest}"),
            ),
            Error::ManifestDamaged(_) => Self::new(ErrorCode::ManifestDamaged, text),
            Error::TooManyUploads | Error::TooManyOwnUploads => {
                Self::busy(ErrorCode::TooManyRequests, text)
            }
            Error::UploadUnknown(_) => Self::new(ErrorCode::BlobUploadUnknown, text),
            Error::UploadBusy { .. } | Error::WrongOffset { .. } => {
                Self::new(ErrorCode::RangeInvalid, text)
            }
            Error::DigestMismatch { .. } => Self::new(ErrorCode::DigestInvalid, text),
            Error::TooManyReverifications | Error::TooManyAssemblies => {
                Self::busy(ErrorCode::Unavailable, text)
            }
            Error::AssemblyInvalid(_) => Self::new(ErrorCode::BodyInvalid, text),
            Error::ManifestInvalid(_) | Error::SizeMismatch { .. } => {
                Self::new(ErrorCode::ManifestInvalid, text)
            }
            Error::ChildrenUnknown(digests) => {
                let code = ErrorCode::ManifestBlobUnknown;
                let errors = digests.iter().take(MAX_UNKNOWN_CHILDREN);
                let errors = errors.map(|digest| ApiError::new(code, digest.to_string()));
                Self {
                    errors: errors.collect(),
                    ..Self::new(code, Value::Null)
                }
            }
            Error::NoSpace { .. } => Self::no_space(text),
            Error::Store(store::Error::Full { .. }) => {
                tracing::error!(error = text, "request failed");
                Self::new(ErrorCode::StorageFull, Value::Null)
            }
            Error::Store(error) if error.is_forbidden() => {
                tracing::error!(error = text, "request failed");
                Self::new(ErrorCode::StorageForbidden, Value::Null)
            }
            // The client is gone, so this response is not sent.
            Error::Store(store::Error::WalkEnded | store::Error::NeedsMemory { .. }) => {
                Self::new(ErrorCode::Unavailable, text)
            }
            Error::Store(store::Error::Locked { .. } | store::Error::Io { .. }) => {
                tracing::error!(error = text, "request failed");
                Self::new(ErrorCode::Unknown, Value::Null)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_access_is_told_to_the_client_without_the_path() {
        let denied = |kind: std::io::ErrorKind| {
            let error = Error::Store(store::Error::Io {
                operation: "create",
                path: "/secret/path".into(),
                source: kind.into(),
            });
            ErrorResponse::from(error)
        };
        let response = denied(std::io::ErrorKind::PermissionDenied);
        assert!(response.has_code(ErrorCode::StorageForbidden));
        assert!(!format!("{response:?}").contains("secret"));
        assert!(denied(std::io::ErrorKind::Other).has_code(ErrorCode::Unknown));
    }
}
