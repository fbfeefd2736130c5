//! `POST /v2/<name>/_imgsync/layers/resolve`: which of these layers, named by diffID, does the
//! registry hold, and as which blobs?
//!
//! Needs pull on the repository; with `mount`, push as well. A layer counts as held only if its
//! blob is linked in a repository that the caller may pull and its data is there now; one that the
//! caller may not see answers exactly as one that is absent. The registry computes diffIDs from the
//! bytes that it stores, and believes nobody's claim.

use serde::{Deserialize, Serialize};

use crate::{Descriptor, Digest, ParseError};

/// How many diffIDs one request may name; Docker itself allows 127 layers.
pub const MAX_RESOLVE_DIFF_IDS: usize = 1000;
/// The largest request in bytes that can name so many.
pub const MAX_RESOLVE_REQUEST_BYTES: usize = 256 * 1024;

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolveRequest {
    /// An image's config: which manifests of the repository have it?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Digest>,
    /// The layers, each once; sha256.
    #[serde(rename = "diffIDs")]
    pub diff_ids: Vec<Digest>,
    /// Whether what other repositories hold is to be linked into this one.
    #[serde(default)]
    pub mount: bool,
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveResponse {
    /// One entry a diffID, in the order of the request.
    pub layers: Vec<ResolvedLayer>,
    /// The repository's manifests whose config is the one asked for, at most ten.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// What is known of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ResolvedLayer {
    /// Held in this repository, or now linked into it: as this blob, its media type found from
    /// its bytes.
    Held {
        /// The blob.
        blob: Descriptor,
    },
    /// Held in another repository that the caller may pull, and not linked because `mount` was
    /// not asked for.
    Elsewhere {
        /// The blob.
        blob: Descriptor,
        /// The repository.
        repository: String,
    },
    /// Not held, as far as the caller may know.
    Absent,
    /// Not known yet: some blobs' diffIDs have not been computed.
    Pending,
}

impl ResolveRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Bytes that are no such request, or one that names too many layers.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let request: Self = serde_json::from_slice(bytes)
            .map_err(|error| ParseError::new("resolve request", &error.to_string()))?;
        if request.diff_ids.len() > MAX_RESOLVE_DIFF_IDS {
            let count = request.diff_ids.len();
            let text = format!("{count} diffIDs, where {MAX_RESOLVE_DIFF_IDS} are the most");
            return Err(ParseError::new("resolve request", &text));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_on_the_wire() {
        let digest = Digest::of(b"x");
        let request = ResolveRequest {
            config: Some(digest.clone()),
            diff_ids: vec![digest.clone()],
            mount: true,
        };
        let json = serde_json::to_value(&request).unwrap();
        let expected = serde_json::json!({
            "config": digest, "diffIDs": [digest], "mount": true,
        });
        assert_eq!(json, expected);
        assert_eq!(
            ResolveRequest::parse(json.to_string().as_bytes()).unwrap(),
            request
        );
        let held = ResolvedLayer::Held {
            blob: Descriptor::new("t", digest.clone(), 1),
        };
        let json = serde_json::to_value(&held).unwrap();
        let blob = serde_json::json!({ "mediaType": "t", "digest": digest, "size": 1 });
        assert_eq!(json, serde_json::json!({ "state": "held", "blob": blob }));
    }

    #[test]
    fn too_many_layers_are_refused() {
        let diff_ids: Vec<Digest> = (0..=MAX_RESOLVE_DIFF_IDS)
            .map(|i| Digest::of(i.to_string().as_bytes()))
            .collect();
        let json = serde_json::json!({ "diffIDs": diff_ids }).to_string();
        assert!(json.len() < MAX_RESOLVE_REQUEST_BYTES);
        assert!(ResolveRequest::parse(json.as_bytes()).is_err());
        assert!(ResolveRequest::parse(b"{}").is_err());
    }
}
