//! The messages of `POST /v2/<name>/_imgsync/layers/assemble`, which builds a layer from other layers
//! of the repository and a delta ([`crate::delta`]), and of `GET …/layers/assemble/<diffID>`, which
//! tells how far the registry is.
//!
//! Both calls need pull and push on the repository. The delta is in an upload session, which the
//! registry removes once the layer is stored. A request for a layer that is being assembled, or that
//! the repository holds, changes nothing.

use serde::{Deserialize, Serialize};

use crate::delta::MAX_BASES;
use crate::{Descriptor, Digest, ParseError};

/// The name of the call, as `GET /v2/_oci/ext/discover` lists it after the name of the extension.
pub const CALL_NAME: &str = "layers/assemble";
/// The size in bytes of the largest request.
pub const MAX_ASSEMBLE_REQUEST_BYTES: usize = 16 * 1024;

/// The body of a request to assemble a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssembleRequest {
    /// The ID of the upload session that holds the delta, and nothing else.
    pub session: String,
    /// The digest of the delta.
    pub delta_digest: Digest,
    /// The blobs that the delta is based on, in the order in which it names them, at most
    /// [`MAX_BASES`]. All must be in the repository.
    pub bases: Vec<Digest>,
    /// The diffID of the layer.
    #[serde(rename = "diffID")]
    pub diff_id: Digest,
    /// The size of the uncompressed layer in bytes.
    pub raw_size: u64,
    /// The format of the delta: [`crate::delta::FORMAT_NAME`].
    pub format: String,
    /// The format in which the layer is compressed: [`crate::layer::GZIP_FORMAT_NAME`].
    pub compression: String,
}

/// How far the assembly of a layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum AssemblyState {
    /// The assembly waits or runs.
    Working {
        /// The number of bytes of the uncompressed layer that are done.
        done: u64,
        /// The size of the uncompressed layer in bytes.
        of: u64,
    },
    /// The repository holds the layer.
    Held {
        /// The blob.
        blob: Descriptor,
    },
    /// The layer could not be assembled. Nothing of it is kept, and the session is gone.
    Failed {
        /// The reason, for people.
        reason: String,
    },
}

impl AssembleRequest {
    /// Parses the body of a request. Formats and the session are not checked.
    ///
    /// # Errors
    /// Fails on malformed JSON, and on no base or more than [`MAX_BASES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let request: Self = serde_json::from_slice(bytes)
            .map_err(|error| ParseError::new("assemble request", &error.to_string()))?;
        let count = request.bases.len();
        if count == 0 || count > MAX_BASES {
            let text = format!("{count} bases, where 1 to {MAX_BASES} are allowed");
            return Err(ParseError::new("assemble request", &text));
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
        let request = AssembleRequest {
            session: "id".to_owned(),
            delta_digest: digest.clone(),
            bases: vec![digest.clone()],
            diff_id: digest.clone(),
            raw_size: 7,
            format: "delta-1".to_owned(),
            compression: "imgsync-gzip-1".to_owned(),
        };
        let json = serde_json::to_value(&request).unwrap();
        let expected = serde_json::json!({
            "session": "id", "deltaDigest": digest, "bases": [digest],
            "diffID": digest, "rawSize": 7, "format": "delta-1", "compression": "imgsync-gzip-1",
        });
        assert_eq!(json, expected);
        let parsed = AssembleRequest::parse(json.to_string().as_bytes()).unwrap();
        assert_eq!(parsed, request);
        let json = serde_json::to_value(AssemblyState::Working { done: 1, of: 2 }).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "state": "working", "done": 1, "of": 2 })
        );
    }

    #[test]
    fn the_number_of_bases_is_bounded() {
        let digest = Digest::of(b"x");
        for count in [0, MAX_BASES + 1] {
            let json = serde_json::json!({
                "session": "x", "deltaDigest": digest, "bases": vec![digest.clone(); count],
                "diffID": digest, "rawSize": 7, "format": "delta-1", "compression": "x",
            });
            assert!(AssembleRequest::parse(json.to_string().as_bytes()).is_err());
        }
    }
}
