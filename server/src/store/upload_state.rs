//! What is known about an upload session beyond its bytes.

use std::sync::Arc;

use imgsync_oci::{Algorithm, Hasher, Repository};
use serde::{Deserialize, Serialize};

/// Our layout, and that of the hash library's state. Another one is not read: the bytes are hashed
/// again.
const UPLOAD_STATE_FORMAT: &str = "imgsync-upload-1, sha2-0.11";

/// A point that a session can go back to: so many bytes, durable, and their hash so far.
#[derive(Clone)]
pub(super) struct UploadCheckpoint {
    pub(super) offset: u64,
    pub(super) hasher: Hasher,
    /// The user who opened the session, where users are known.
    pub(super) owner: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
struct StoredUploadState {
    format: String,
    repository: String,
    offset: u64,
    algorithm: String,
    hash: String,
    #[serde(default)]
    owner: Option<String>,
}

impl UploadCheckpoint {
    /// Where every session begins.
    pub(super) fn initial(algorithm: Algorithm, owner: Option<&str>) -> Self {
        Self {
            offset: 0,
            hasher: Hasher::new(algorithm),
            owner: owner.map(Arc::from),
        }
    }

    /// The point as it is kept on disk.
    pub(super) fn to_json(&self, repository: &Repository) -> Vec<u8> {
        let record = serde_json::json!({
            "format": UPLOAD_STATE_FORMAT,
            "repository": repository.as_str(),
            "offset": self.offset,
            "algorithm": self.hasher.algorithm().as_str(),
            "hash": hex::encode(self.hasher.state()),
            "owner": self.owner.as_deref(),
        });
        format!("{record}\n").into_bytes()
    }

    /// Reads what [`Point::to_json`] wrote; `None` for anything else, and for another repository.
    pub(super) fn from_json(json: &[u8], repository: &Repository) -> Option<Self> {
        let record: StoredUploadState = serde_json::from_slice(json).ok()?;
        if record.format != UPLOAD_STATE_FORMAT || record.repository != repository.as_str() {
            return None;
        }
        let algorithm = record.algorithm.parse().ok()?;
        let state = hex::decode(record.hash).ok()?;
        let hasher = Hasher::resume(algorithm, &state)?;
        Some(Self {
            offset: record.offset,
            hasher,
            owner: record.owner.map(Arc::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsync_oci::Digest;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let repository = "a/b".parse().unwrap();
        let mut json = Vec::new();
        for (algorithm, owner) in [
            (Algorithm::Sha256, None),
            (Algorithm::Sha512, Some("alice")),
        ] {
            let mut point = UploadCheckpoint::initial(algorithm, owner);
            point.hasher.update(b"abc");
            point.offset = 3;
            json = point.to_json(&repository);
            let read = UploadCheckpoint::from_json(&json, &repository).unwrap();
            assert_eq!(read.owner.as_deref(), owner);
            let digest = Digest::of_with(algorithm, b"abc");
            assert_eq!((read.offset, read.hasher.finish()), (3, digest));
        }
        assert!(UploadCheckpoint::from_json(&json, &"a/c".parse().unwrap()).is_none());
        assert!(UploadCheckpoint::from_json(&json[..json.len() / 2], &repository).is_none());
        assert!(UploadCheckpoint::from_json(b"", &repository).is_none());
    }
}
