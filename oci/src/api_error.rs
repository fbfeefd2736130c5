//! The error codes and error bodies of registries (OCI distribution-spec, "Error Codes", and
//! Docker's).

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $status:ident $message:literal),* $(,)?) => {
        /// An error code, with its status and message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant),* }

        impl ErrorCode {
            /// Returns the code as it is written in the error body.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Returns the HTTP status that belongs to the code.
            pub fn status(self) -> http::StatusCode {
                match self { $(Self::$variant => http::StatusCode::$status),* }
            }

            /// Returns the message for people.
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),* }
            }
        }
    };
}

codes! {
    /// The repository does not hold this blob.
    BlobUnknown "BLOB_UNKNOWN" NOT_FOUND "blob unknown to registry",
    /// The upload cannot continue as requested.
    BlobUploadInvalid "BLOB_UPLOAD_INVALID" NOT_FOUND "blob upload invalid",
    /// The upload session does not exist.
    BlobUploadUnknown "BLOB_UPLOAD_UNKNOWN" NOT_FOUND "blob upload unknown to registry",
    /// The body of an extension request is malformed.
    BodyInvalid "UNSUPPORTED" BAD_REQUEST "the request's body is not understood",
    /// The body of an extension request is too large.
    BodyTooLarge "SIZE_INVALID" PAYLOAD_TOO_LARGE "the request's body is too large",
    /// The caller is logged in and lacks the permission.
    Denied "DENIED" FORBIDDEN "requested access to the resource is denied",
    /// The digest is malformed, or does not match the bytes.
    DigestInvalid "DIGEST_INVALID" BAD_REQUEST "provided digest did not match uploaded content",
    /// The manifest names content that the repository does not hold.
    ManifestBlobUnknown "MANIFEST_BLOB_UNKNOWN" BAD_REQUEST "manifest references a manifest or blob unknown to registry",
    /// The bytes are no manifest.
    ManifestInvalid "MANIFEST_INVALID" BAD_REQUEST "manifest invalid",
    /// The stored manifest is damaged. Not a code of the specification.
    ManifestDamaged "MANIFEST_DAMAGED" INTERNAL_SERVER_ERROR "the stored manifest is damaged; push it again to repair it",
    /// The manifest exceeds the limit. The code is the one of any invalid manifest.
    ManifestTooLarge "MANIFEST_INVALID" PAYLOAD_TOO_LARGE "manifest too large",
    /// The repository has no such manifest or tag.
    ManifestUnknown "MANIFEST_UNKNOWN" NOT_FOUND "manifest unknown to registry",
    /// The name is no valid repository name.
    NameInvalid "NAME_INVALID" BAD_REQUEST "invalid repository name",
    /// The repository does not exist.
    NameUnknown "NAME_UNKNOWN" NOT_FOUND "repository name not known to registry",
    /// The path is not part of the API.
    NotFound "UNSUPPORTED" NOT_FOUND "no such endpoint",
    /// The trash does not have the content. Not a code of the specification.
    NotInTrash "NOT_IN_TRASH" NOT_FOUND "the trash does not have this content",
    /// The page size is no number, or too large.
    PaginationNumberInvalid "PAGINATION_NUMBER_INVALID" BAD_REQUEST "invalid number of results requested",
    /// The chunk does not start at the offset of the session, or the range is invalid.
    RangeInvalid "RANGE_INVALID" RANGE_NOT_SATISFIABLE "invalid content range",
    /// The request is malformed.
    RequestInvalid "UNSUPPORTED" BAD_REQUEST "the request is malformed",
    /// The body is not as long as its headers state.
    SizeInvalid "SIZE_INVALID" BAD_REQUEST "provided length did not match content length",
    /// The registry may not use its own storage. Not a code of the specification.
    StorageForbidden "STORAGE_FORBIDDEN" INTERNAL_SERVER_ERROR "the registry has no permission to read or write its storage folder",
    /// The disk of the registry is full.
    StorageFull "UNAVAILABLE" INSUFFICIENT_STORAGE "no space left at the registry",
    /// The text is no valid tag.
    TagInvalid "TAG_INVALID" BAD_REQUEST "invalid tag",
    /// The request sets more tags for one manifest than the registry accepts.
    TooManyTags "TAG_INVALID" URI_TOO_LONG "too many tags",
    /// The caller exceeds a rate limit.
    TooManyRequests "TOOMANYREQUESTS" TOO_MANY_REQUESTS "too many requests",
    /// The caller must log in.
    Unauthorized "UNAUTHORIZED" UNAUTHORIZED "authentication required",
    /// The registry cannot answer now; a retry may succeed.
    Unavailable "UNAVAILABLE" SERVICE_UNAVAILABLE "service unavailable",
    /// The upstream of the registry failed.
    UpstreamFailed "UNAVAILABLE" BAD_GATEWAY "the registry behind this one failed",
    /// The registry failed.
    Unknown "UNKNOWN" INTERNAL_SERVER_ERROR "unknown error",
    /// The path does not support the method.
    Unsupported "UNSUPPORTED" METHOD_NOT_ALLOWED "the operation is unsupported",
}

/// The detail of the error for an upload that does not fit on the disk of the registry, or into a
/// quota. Its code is that of a denied access, because all clients print the message of that error.
pub const NO_SPACE: &str = "no space";

/// One error in the JSON body of an error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The code. Other registries may send codes that [`ErrorCode`] does not have.
    pub code: String,
    /// The message for people.
    #[serde(default)]
    pub message: String,
    /// Further information, in a form that depends on the code.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
}

impl ApiError {
    /// Returns the error of a code, with its message.
    pub fn new(code: ErrorCode, detail: impl Into<serde_json::Value>) -> Self {
        Self {
            code: code.as_str().to_owned(),
            message: code.message().to_owned(),
            detail: detail.into(),
        }
    }

    /// Returns whether the registry has no room for an upload.
    pub fn is_no_space(&self) -> bool {
        self.detail == NO_SPACE
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

/// Formats the JSON body with these errors. It ends with a newline, as that of the stock registry.
pub fn format_error_body(errors: &[ApiError]) -> String {
    format!("{}\n", serde_json::json!({ "errors": errors }))
}

/// Parses the errors of an error body; empty for other bodies, such as the page of a proxy.
pub fn parse_error_body(bytes: &[u8]) -> Vec<ApiError> {
    serde_json::from_slice::<ErrorBody>(bytes)
        .map(|body| body.errors)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_parsed_as_it_was_formatted() {
        let errors = [ApiError::new(ErrorCode::BlobUnknown, "sha256:x")];
        assert_eq!(
            parse_error_body(format_error_body(&errors).as_bytes()),
            errors
        );
        assert_eq!(
            errors[0].to_string(),
            "BLOB_UNKNOWN: blob unknown to registry (sha256:x)"
        );
        assert!(parse_error_body(b"<html>413</html>").is_empty());
    }
}
