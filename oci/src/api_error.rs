//! The errors that a registry answers with (OCI distribution-spec, "Error Codes", and Docker's).

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $status:ident $message:literal),* $(,)?) => {
        /// An error code, with the status and the message that go with it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant),* }

        impl ErrorCode {
            /// The code as it stands in the error body.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The HTTP status that a registry sends it with.
            pub fn status(self) -> http::StatusCode {
                match self { $(Self::$variant => http::StatusCode::$status),* }
            }

            /// The message for people.
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),* }
            }
        }
    };
}

codes! {
    /// The repository does not hold this blob.
    BlobUnknown "BLOB_UNKNOWN" NOT_FOUND "blob unknown to registry",
    /// The upload cannot go on as asked.
    BlobUploadInvalid "BLOB_UPLOAD_INVALID" NOT_FOUND "blob upload invalid",
    /// There is no such upload session.
    BlobUploadUnknown "BLOB_UPLOAD_UNKNOWN" NOT_FOUND "blob upload unknown to registry",
    /// A body of our own extension that is not understood.
    BodyInvalid "UNSUPPORTED" BAD_REQUEST "the request's body is not understood",
    /// A body of our own extension that is too large.
    BodyTooLarge "SIZE_INVALID" PAYLOAD_TOO_LARGE "the request's body is too large",
    /// The caller is known, and may not.
    Denied "DENIED" FORBIDDEN "requested access to the resource is denied",
    /// A digest that is malformed, or not that of the bytes.
    DigestInvalid "DIGEST_INVALID" BAD_REQUEST "provided digest did not match uploaded content",
    /// A manifest names content that the repository does not hold.
    ManifestBlobUnknown "MANIFEST_BLOB_UNKNOWN" BAD_REQUEST "manifest references a manifest or blob unknown to registry",
    /// Bytes that are no manifest.
    ManifestInvalid "MANIFEST_INVALID" BAD_REQUEST "manifest invalid",
    /// A manifest beyond the limit; it shares its code with any other bad manifest.
    ManifestTooLarge "MANIFEST_INVALID" PAYLOAD_TOO_LARGE "manifest too large",
    /// The repository has no such manifest or tag.
    ManifestUnknown "MANIFEST_UNKNOWN" NOT_FOUND "manifest unknown to registry",
    /// Not a repository name.
    NameInvalid "NAME_INVALID" BAD_REQUEST "invalid repository name",
    /// There is no such repository.
    NameUnknown "NAME_UNKNOWN" NOT_FOUND "repository name not known to registry",
    /// A path that the API does not have.
    NotFound "UNSUPPORTED" NOT_FOUND "no such endpoint",
    /// A page size that is no number.
    PaginationNumberInvalid "PAGINATION_NUMBER_INVALID" BAD_REQUEST "invalid number of results requested",
    /// A chunk or range that does not fit.
    RangeInvalid "RANGE_INVALID" RANGE_NOT_SATISFIABLE "invalid content range",
    /// The body was not as long as announced.
    SizeInvalid "SIZE_INVALID" BAD_REQUEST "provided length did not match content length",
    /// The registry's disk is full.
    StorageFull "UNAVAILABLE" INSUFFICIENT_STORAGE "no space left at the registry",
    /// Not a tag.
    TagInvalid "TAG_INVALID" BAD_REQUEST "invalid tag",
    /// More tags for one manifest than the registry sets at once.
    TooManyTags "TAG_INVALID" URI_TOO_LONG "too many tags",
    /// Slow down.
    TooManyRequests "TOOMANYREQUESTS" TOO_MANY_REQUESTS "too many requests",
    /// The caller must say who they are.
    Unauthorized "UNAUTHORIZED" UNAUTHORIZED "authentication required",
    /// Not now; later, perhaps.
    Unavailable "UNAVAILABLE" SERVICE_UNAVAILABLE "service unavailable",
    /// The registry behind this one did not give what was asked for.
    UpstreamFailed "UNAVAILABLE" BAD_GATEWAY "the registry behind this one failed",
    /// The registry's own failure.
    Unknown "UNKNOWN" INTERNAL_SERVER_ERROR "unknown error",
    /// The path exists, the method does not.
    Unsupported "UNSUPPORTED" METHOD_NOT_ALLOWED "the operation is unsupported",
}

/// One error as a registry reports it: what both ends put into and read from the JSON body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The code; a foreign registry may send one that [`Code`] does not have.
    pub code: String,
    /// The message for people.
    #[serde(default)]
    pub message: String,
    /// Whatever else there is to say.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

impl ApiError {
    /// The fault that goes with a code.
    pub fn new(code: ErrorCode, detail: impl Into<serde_json::Value>) -> Self {
        Self {
            code: code.as_str().to_owned(),
            message: code.message().to_owned(),
            detail: detail.into(),
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match &self.detail {
            serde_json::Value::Null => Ok(()),
            serde_json::Value::String(detail) => write!(f, " ({detail})"),
            detail => write!(f, " ({detail})"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ErrorBody {
    errors: Vec<ApiError>,
}

/// The JSON body that carries faults; ends with a newline, as the stock registry's does.
pub fn format_error_body(faults: &[ApiError]) -> String {
    format!("{}\n", serde_json::json!({ "errors": faults }))
}

/// Reads the faults of an error body; empty where it is something else, such as a proxy's page.
pub fn parse_error_body(bytes: &[u8]) -> Vec<ApiError> {
    serde_json::from_slice::<ErrorBody>(bytes)
        .map(|body| body.errors)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_was_written() {
        let faults = [ApiError::new(ErrorCode::BlobUnknown, "sha256:x")];
        assert_eq!(
            parse_error_body(format_error_body(&faults).as_bytes()),
            faults
        );
        assert_eq!(
            faults[0].to_string(),
            "BLOB_UNKNOWN: blob unknown to registry (sha256:x)"
        );
        assert!(parse_error_body(b"<html>413</html>").is_empty());
    }
}
