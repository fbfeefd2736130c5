//! From what went wrong to what the client is told: the one map of errors to statuses and codes.
//! Nothing internal leaves through it.

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

/// When to come again, in seconds, where too many uploads are open or blobs are checked.
const BUSY_RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// An answer that says no.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    code: ErrorCode,
    faults: Vec<ApiError>,
    /// What the answer carries beside its body.
    pub(super) headers: Box<HeaderMap>,
    /// Whether it is an upstream that did not do what it should.
    pub(super) is_from_upstream: bool,
    /// What stands beside the status, where that should be more than its name.
    reason_phrase: Option<String>,
}

impl ErrorResponse {
    /// The failure that goes with a code.
    pub(super) fn new(code: ErrorCode, detail: impl Into<Value>) -> Self {
        Self {
            code,
            faults: vec![ApiError::new(code, detail)],
            headers: Box::default(),
            is_from_upstream: false,
            reason_phrase: None,
        }
    }

    /// A fault of our own, which is logged and not told.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(ErrorCode::Unknown, Value::Null)
    }

    /// The answer.
    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let mut response = responses::json(
            self.code.status(),
            api_error::format_error_body(&self.faults),
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
    fn from(refusal: EndpointError) -> Self {
        let EndpointError {
            code,
            detail,
            allow,
        } = refusal;
        let mut failure = Self::new(code, detail);
        if !allow.is_empty() {
            let methods: Vec<&str> = allow.iter().map(Method::as_str).collect();
            failure
                .headers
                .insert(ALLOW, responses::header_value(methods.join(", ")));
        }
        failure
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
            upstream::Error::Upstream(failed) => failed.into(),
        }
    }
}

impl From<UpstreamFailure> for ErrorResponse {
    /// Never "not found": nobody could tell. And never a 401 or 403: those would be about the
    /// caller's own login.
    fn from(failed: UpstreamFailure) -> Self {
        let code = match failed.kind {
            UpstreamFailureKind::RateLimited
            | UpstreamFailureKind::Busy
            | UpstreamFailureKind::TimedOut => ErrorCode::Unavailable,
            UpstreamFailureKind::Down
            | UpstreamFailureKind::Denied
            | UpstreamFailureKind::InvalidResponse => ErrorCode::UpstreamFailed,
            UpstreamFailureKind::DiskFull => ErrorCode::StorageFull,
            UpstreamFailureKind::Store => ErrorCode::Unknown,
        };
        let mut failure = Self {
            is_from_upstream: true,
            ..Self::new(code, failed.to_string())
        };
        // Docker shows nothing of a body that comes with such a status; but it shows its reason.
        failure.reason_phrase = Some(failed.to_string());
        if code == ErrorCode::Unavailable {
            let seconds = failed.retry_after.map_or(5, |time| time.as_secs().max(1));
            failure.headers.insert(RETRY_AFTER, seconds.into());
        }
        failure
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
            Error::TooManyUploads => {
                let mut failure = Self::new(ErrorCode::TooManyRequests, text);
                failure.headers.insert(RETRY_AFTER, BUSY_RETRY_AFTER);
                failure
            }
            Error::UploadUnknown(_) => Self::new(ErrorCode::BlobUploadUnknown, text),
            Error::UploadBusy { offset: _ } | Error::WrongOffset { offset: _ } => {
                Self::new(ErrorCode::RangeInvalid, text)
            }
            Error::DigestMismatch {
                expected: _,
                actual: _,
            } => Self::new(ErrorCode::DigestInvalid, text),
            Error::TooManyReverifications => {
                let mut failure = Self::new(ErrorCode::Unavailable, text);
                failure.headers.insert(RETRY_AFTER, BUSY_RETRY_AFTER);
                failure
            }
            Error::ManifestInvalid(_)
            | Error::SizeMismatch {
                digest: _,
                stated: _,
                actual: _,
            } => Self::new(ErrorCode::ManifestInvalid, text),
            Error::ChildrenUnknown(digests) => Self {
                code: ErrorCode::ManifestBlobUnknown,
                faults: digests
                    .iter()
                    .map(|digest| ApiError::new(ErrorCode::ManifestBlobUnknown, digest.to_string()))
                    .collect(),
                headers: Box::default(),
                is_from_upstream: false,
                reason_phrase: None,
            },
            Error::Store(store::Error::Full { .. }) => {
                tracing::error!(error = text, "a request failed");
                Self::new(ErrorCode::StorageFull, Value::Null)
            }
            Error::Store(store::Error::Locked { .. } | store::Error::Io { .. }) => {
                tracing::error!(error = text, "a request failed");
                Self::new(ErrorCode::Unknown, Value::Null)
            }
        }
    }
}
