//! The messages of `POST /v2/<name>/_imgsync/trash/restore`, which restores deleted tags and
//! manifests, and of `POST /v2/<name>/_imgsync/repository/delete`, which deletes all of them.
//!
//! Both calls need the permission to delete. What the second one deletes, the first one can restore
//! until the registry empties its trash.

use serde::{Deserialize, Serialize};

use crate::{Digest, ParseError, Reference};

/// The header of the response to a deletion that can be undone. Its value is `true`.
pub const RESTORABLE_HEADER: &str = "imgsync-restorable";
/// The size in bytes of the largest request.
pub const MAX_TRASH_REQUEST_BYTES: usize = 4096;
/// The most names of a kind in a response.
pub const MAX_RESTORED_NAMES: usize = 1000;

/// The body of a request to restore something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The tag or digest to restore; without it, all tags and manifests of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
}

/// The body of the response to a request to restore something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreResponse {
    /// The number of restored tags.
    pub tag_count: u64,
    /// The number of restored manifests.
    pub manifest_count: u64,
    /// The restored tags, at most [`MAX_RESTORED_NAMES`].
    #[serde(default)]
    pub tags: Vec<String>,
    /// The tags that were not restored, because they point at other manifests now; at most as many.
    #[serde(default)]
    pub occupied: Vec<String>,
    /// The blobs and manifests that are gone, so that what names them was not restored; at most as
    /// many.
    #[serde(default)]
    pub gone: Vec<Digest>,
}

/// The body of the response to the deletion of a repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteRepositoryResponse {
    /// The number of deleted tags.
    pub tag_count: u64,
    /// The number of deleted manifests.
    pub manifest_count: u64,
}

impl RestoreRequest {
    /// Creates a request for a tag, a manifest, or the whole repository.
    pub fn new(reference: Option<&Reference>) -> Self {
        let reference = reference.map(ToString::to_string);
        Self { reference }
    }

    /// Parses the body of a request; an empty one asks for the whole repository. Returns the tag or
    /// digest.
    ///
    /// # Errors
    /// Fails on malformed JSON, and on an invalid tag or digest.
    pub fn parse(bytes: &[u8]) -> Result<Option<Reference>, ParseError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let malformed =
            |error: serde_json::Error| ParseError::new("restore request", &error.to_string());
        // An empty array would be accepted as a request without fields.
        let fields: serde_json::Map<_, _> = serde_json::from_slice(bytes).map_err(malformed)?;
        let request: Self = serde_json::from_value(fields.into()).map_err(malformed)?;
        request.reference.map(|text| text.parse()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_on_the_wire() {
        let tag: Reference = "v1".parse().unwrap();
        let request = serde_json::to_vec(&RestoreRequest::new(Some(&tag))).unwrap();
        assert_eq!(request, br#"{"reference":"v1"}"#);
        assert_eq!(RestoreRequest::parse(&request).unwrap(), Some(tag));
        for whole in ["", "{}", r#"{"reference":null}"#] {
            assert_eq!(RestoreRequest::parse(whole.as_bytes()).unwrap(), None);
        }
        for bad in ["[]", "{", r#"{"reference":"a b"}"#] {
            assert!(RestoreRequest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let response = serde_json::to_value(RestoreResponse::default()).unwrap();
        let expected = serde_json::json!({
            "tagCount": 0, "manifestCount": 0, "tags": [], "occupied": [], "gone": [],
        });
        assert_eq!(response, expected);
    }
}
