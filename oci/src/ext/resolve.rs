//! The messages of `POST /v2/<name>/_imgsync/layers/resolve`, which finds the blobs of layers by
//! their diffIDs.
//!
//! The call needs pull on the repository, and push as well with `mount`. A layer is reported only if
//! its blob is linked in a repository that the caller may pull, and if its data exists now; any
//! other layer is reported as absent. DiffIDs are computed by the registry from the bytes that it
//! stores; claims of clients are not used.

use serde::{Deserialize, Serialize};

use crate::{Descriptor, Digest, ParseError};

/// The most diffIDs in one request. Docker allows images of 127 layers.
pub const MAX_RESOLVE_DIFF_IDS: usize = 1000;
/// The size in bytes of the largest request, which has room for that many diffIDs.
pub const MAX_RESOLVE_REQUEST_BYTES: usize = 256 * 1024;

/// The body of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolveRequest {
    /// The digest of a config. The response lists the manifests of the repository that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Digest>,
    /// The diffIDs of the layers, each once, with SHA-256.
    #[serde(rename = "diffIDs")]
    pub diff_ids: Vec<Digest>,
    /// The digests of blobs that the client would rather use than others that are the same layers,
    /// at most as many as diffIDs are allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<Digest>,
    /// Whether to mount blobs of other repositories into this one.
    #[serde(default)]
    pub mount: bool,
}

/// The body of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveResponse {
    /// One entry for each diffID, in the order of the request.
    pub layers: Vec<ResolvedLayer>,
    /// The manifests of the repository that have the requested config, at most ten.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// The state of one layer at the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ResolvedLayer {
    /// The layer is in this repository, or was mounted into it by this request. The media type is
    /// detected from the bytes of the blob.
    Held {
        /// The blob.
        blob: Descriptor,
    },
    /// The layer is in another repository that the caller may pull, and the request did not ask
    /// to mount it.
    Elsewhere {
        /// The blob.
        blob: Descriptor,
        /// The repository.
        repository: String,
    },
    /// The layer is in no repository that the caller may pull.
    Absent,
    /// The registry cannot tell yet: the diffIDs of some blobs are still to be computed.
    Pending,
}

impl ResolveRequest {
    /// Parses the body of a request.
    ///
    /// # Errors
    /// Fails on malformed JSON, and on more than [`MAX_RESOLVE_DIFF_IDS`] layers.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let request: Self = serde_json::from_slice(bytes)
            .map_err(|error| ParseError::new("resolve request", &error.to_string()))?;
        for (name, digests) in [
            ("diffIDs", &request.diff_ids),
            ("preferred blobs", &request.preferred),
        ] {
            let count = digests.len();
            if count > MAX_RESOLVE_DIFF_IDS {
                let text = format!("{count} {name}, where {MAX_RESOLVE_DIFF_IDS} are the most");
                return Err(ParseError::new("resolve request", &text));
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_on_the_wire() {
        let digest = Digest::of(b"x");
        let request = ResolveRequest {
            config: Some(digest.clone()),
            diff_ids: vec![digest.clone()],
            preferred: Vec::new(),
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
        let layer = ResolvedLayer::Held {
            blob: Descriptor::new("t", digest.clone(), 1),
        };
        let json = serde_json::to_value(&layer).unwrap();
        let blob = serde_json::json!({ "mediaType": "t", "digest": digest, "size": 1 });
        assert_eq!(json, serde_json::json!({ "state": "held", "blob": blob }));
    }

    #[test]
    fn too_many_layers_are_rejected() {
        let diff_ids: Vec<Digest> = (0..=MAX_RESOLVE_DIFF_IDS)
            .map(|i| Digest::of(i.to_string().as_bytes()))
            .collect();
        let json = serde_json::json!({ "diffIDs": diff_ids }).to_string();
        assert!(json.len() < MAX_RESOLVE_REQUEST_BYTES);
        assert!(ResolveRequest::parse(json.as_bytes()).is_err());
        assert!(ResolveRequest::parse(b"{}").is_err());
    }
}
