//! From what went wrong to what the client is told: the one map of errors to statuses and codes.
//! Nothing internal leaves through it.

use hyper::header::{ALLOW, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response};
use imgsync_oci::endpoint::Refusal;
use imgsync_oci::{Code, Fault, Reference, fault};
use serde_json::{Value, json};

use super::body::Body;
use super::reply;
use crate::registry::Error;
use crate::store;

/// When to come again, in seconds, where too many uploads are open or blobs are checked.
const PAUSE: HeaderValue = HeaderValue::from_static("10");

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    faults: Vec<Fault>,
    /// What the answer carries beside its body.
    pub(super) headers: Box<HeaderMap>,
}

impl Failure {
    /// The failure that goes with a code.
    pub(super) fn new(code: Code, detail: impl Into<Value>) -> Self {
        Self {
            code,
            faults: vec![Fault::new(code, detail)],
            headers: Box::default(),
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
        response
    }
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
