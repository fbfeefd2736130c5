//! From what went wrong to what the client is told: the one map of errors to statuses and codes.
//! Nothing internal leaves through it.

use hyper::ext::ReasonPhrase;
use hyper::header::{ALLOW, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response};
use imgsync_oci::endpoint::Refusal;
use imgsync_oci::{Code, Fault, Reference, fault};
use serde_json::{Value, json};

use super::body::Body;
use super::reply;
use crate::registry::Error;
use crate::store;
use crate::upstream::{self, Failed, Kind};

/// When to come again, in seconds, where too many uploads are open or blobs are checked.
const PAUSE: HeaderValue = HeaderValue::from_static("10");

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    faults: Vec<Fault>,
    /// What the answer carries beside its body.
    pub(super) headers: Box<HeaderMap>,
    /// Whether it is an upstream that did not do what it should.
    pub(super) is_upstreams: bool,
    /// What stands beside the status, where that should be more than its name.
    reason: Option<String>,
}

impl Failure {
    /// The failure that goes with a code.
    pub(super) fn new(code: Code, detail: impl Into<Value>) -> Self {
        Self {
            code,
            faults: vec![Fault::new(code, detail)],
            headers: Box::default(),
            is_upstreams: false,
            reason: None,
        }
    }

    /// A fault of our own, which is logged and not told.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Code::Unknown, Value::Null)
    }

    /// The answer.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = reply::json(self.code.status(), fault::body(&self.faults));
        response.headers_mut().extend(*self.headers);
        let reason = self
            .reason
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

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            code,
            detail,
            allow,
        } = refusal;
        let mut failure = Self::new(code, detail);
        if !allow.is_empty() {
            let methods: Vec<&str> = allow.iter().map(Method::as_str).collect();
            failure
                .headers
                .insert(ALLOW, reply::value(methods.join(", ")));
        }
        failure
    }
}

impl From<upstream::Error> for Failure {
    fn from(error: upstream::Error) -> Self {
        let text = error.to_string();
        match error {
            upstream::Error::Registry(error) => error.into(),
            upstream::Error::NotAllowed { .. } => Self {
                is_upstreams: true,
                ..Self::new(Code::Denied, text)
            },
            upstream::Error::Failed(failed) => failed.into(),
        }
    }
}

impl From<Failed> for Failure {
    /// Never "not found": nobody could tell. And never a 401 or 403: those would be about the
    /// caller's own login.
    fn from(failed: Failed) -> Self {
        let code = match failed.kind {
            Kind::Limited | Kind::Busy | Kind::Slow => Code::Unavailable,
            Kind::Down | Kind::Refused | Kind::Odd => Code::UpstreamFailed,
            Kind::Full => Code::StorageFull,
            Kind::Store => Code::Unknown,
        };
        let mut failure = Self {
            is_upstreams: true,
            ..Self::new(code, failed.to_string())
        };
        // Docker shows nothing of a body that comes with such a status; but it shows its reason.
        failure.reason = Some(failed.to_string());
        if code == Code::Unavailable {
            let seconds = failed.retry_after.map_or(5, |time| time.as_secs().max(1));
            failure.headers.insert(RETRY_AFTER, seconds.into());
        }
        failure
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NameUnknown(name) => {
                Self::new(Code::NameUnknown, json!({ "name": name.as_str() }))
            }
            Error::BlobUnknown(digest) => Self::new(Code::BlobUnknown, digest.to_string()),
            Error::ManifestUnknown(Reference::Tag(tag)) => {
                Self::new(Code::ManifestUnknown, format!("unknown tag={tag}"))
            }
            Error::ManifestUnknown(Reference::Digest(digest)) => {
                Self::new(Code::ManifestUnknown, format!("unknown digest={digest}"))
            }
            Error::TooManyUploads => {
                let mut failure = Self::new(Code::TooManyRequests, text);
                failure.headers.insert(RETRY_AFTER, PAUSE);
                failure
            }
            Error::UploadUnknown(_) => Self::new(Code::BlobUploadUnknown, text),
            Error::UploadBusy { held: _ } | Error::WrongOffset { held: _ } => {
                Self::new(Code::RangeInvalid, text)
            }
            Error::DigestMismatch {
                expected: _,
                actual: _,
            } => Self::new(Code::DigestInvalid, text),
            Error::Busy => {
                let mut failure = Self::new(Code::Unavailable, text);
                failure.headers.insert(RETRY_AFTER, PAUSE);
                failure
            }
            Error::ManifestInvalid(_)
            | Error::SizeDiffers {
                digest: _,
                stated: _,
                actual: _,
            } => Self::new(Code::ManifestInvalid, text),
            Error::ChildrenUnknown(digests) => Self {
                code: Code::ManifestBlobUnknown,
                faults: digests
                    .iter()
                    .map(|digest| Fault::new(Code::ManifestBlobUnknown, digest.to_string()))
                    .collect(),
                headers: Box::default(),
                is_upstreams: false,
                reason: None,
            },
            Error::Store(store::Error::Full { .. }) => {
                tracing::error!(error = text, "a request failed");
                Self::new(Code::StorageFull, Value::Null)
            }
            Error::Store(store::Error::Locked { .. } | store::Error::Io { .. }) => {
                tracing::error!(error = text, "a request failed");
                Self::new(Code::Unknown, Value::Null)
            }
        }
    }
}
